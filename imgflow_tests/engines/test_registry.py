"""Engines are found by name, made once, and cost nothing until they work."""

from __future__ import annotations

import subprocess
import sys

import pytest
from samples import FakeDetector, FakeFiller, FakeUpscaler, cubic

from imgflow.engines.registry import Engines
from imgflow.engines.spec import EngineSpec
from imgflow.errors import EngineUnavailable


def test_an_engine_is_made_once() -> None:
    engines = Engines()
    assert engines.filler("telea") is engines.filler("telea")
    assert engines.upscaler("lanczos", 2) is engines.upscaler("lanczos", 2)
    assert engines.upscaler("lanczos", 2) is not engines.upscaler("lanczos", 3)


def test_what_is_registered_is_found() -> None:
    engines = Engines()
    detector, filler = FakeDetector(name="mine"), FakeFiller("mine", lambda pixels, mask: pixels)
    engines.register_text_detector("mine", lambda: detector)
    engines.register_filler("mine", lambda: filler)
    engines.register_upscaler("mine", lambda scale, _: FakeUpscaler("mine", scale, cubic))
    assert engines.text_detector("mine") is detector
    assert engines.filler("mine") is filler
    assert engines.upscaler("mine", 3).spec.scale == 3


def test_a_name_that_is_taken_is_replaced_even_after_use() -> None:
    engines = Engines()
    engines.filler("telea")
    other = FakeFiller("telea", lambda pixels, mask: pixels)
    engines.register_filler("telea", lambda: other)
    assert engines.filler("telea") is other


@pytest.mark.parametrize(
    ("kind", "known"),
    [
        ("text_detector", ["rapidocr"]),
        ("filler", ["telea", "navier-stokes", "biharmonic"]),
        ("upscaler", ["lanczos", "unsharp"]),
    ],
)
def test_an_unknown_name_is_an_error_that_names_the_known_ones(kind: str, known: list[str]) -> None:
    find = getattr(Engines(), kind)
    with pytest.raises(EngineUnavailable) as error:
        find("magic", 2) if kind == "upscaler" else find("magic")
    assert error.value.code == "engine_unknown"
    assert "'magic'" in error.value.what
    assert all(name in error.value.hint for name in known)


def test_a_sharpener_does_not_enlarge() -> None:
    with pytest.raises(EngineUnavailable) as error:
        Engines().upscaler("unsharp", 2)
    assert error.value.code == "engine_scale"


def test_the_code_version_changes_with_model_and_weights() -> None:
    def version(model_id: str, weights: str | None) -> str:
        return EngineSpec(
            name="lama", kind="filler", model_id=model_id, licence="x", weights_sha256=weights
        ).code_version

    versions = {version("1", None), version("2", None), version("1", "a" * 64)}
    assert len(versions | {version("1", "b" * 64)}) == 4


def test_importing_and_stating_loads_no_model_library() -> None:
    script = """
import sys
import imgflow.chain, imgflow.engines.classical, imgflow.engines.rapidocr
from imgflow.engines.registry import Engines
engines = Engines()
engines.text_detector("rapidocr").spec
engines.filler("telea").spec, engines.upscaler("lanczos", 2).spec
heavy = {"torch", "torchvision", "onnxruntime", "dagster", "skimage"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
