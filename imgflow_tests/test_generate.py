"""Pictures from words are marked as synthetic in the file, in all records, and when published."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from samples import encoded, photo

from imgflow.chain import Line, rescue
from imgflow.engines.account import account
from imgflow.engines.spec import EngineSpec
from imgflow.errors import BadPhoto, ImgflowError
from imgflow.generate import (
    Wish,
    engine_name,
    make,
    missing_raws,
    preset,
    require_target,
    seed_of,
    write,
)
from imgflow.home import CATALOG, Home
from imgflow.imaging.decode import decode
from imgflow.imaging.photo import Generation
from imgflow.imaging.synthetic import synthetic_xmp
from imgflow.imaging.xmp import read_provenance
from imgflow.lineage.record import Version
from imgflow.policy.policy import GenerateSettings, Policy
from imgflow.store.keys import ImageKey


class Painter:
    """Paints one colour, which the seed decides."""

    spec = EngineSpec(
        name="painter",
        kind="generator",
        model_id="painter-1",
        licence="MIT",
        weights_sha256="a" * 64,
        seeded=True,
        prompted=True,
        parameters=(("steps", 4),),
    )

    def generate(self, prompt: str, *, seed: int = 0, **size: Any) -> Any:
        chance = np.random.default_rng(seed)
        shape = (size["height"], size["width"], 3)
        return np.broadcast_to(chance.integers(0, 256, 3), shape).astype(np.uint8)


SETTINGS = GenerateSettings(width=96, height=64)


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_the_file_says_that_it_is_synthetic_and_what_made_it(tmp_path: Path, ending: str) -> None:
    made = make(Wish("a red shoe", "shoes", seed=5, variant=2), Painter(), SETTINGS)
    path = tmp_path / f"concept.{ending}"
    write(made, path)
    found = decode(path.read_bytes()).generation
    assert found is not None
    assert found == made.generation
    assert found.seed == 7
    assert found.variant == 2
    assert found.prompt.startswith("product photo of a red shoe, a pair of shoes")
    assert found.parameters["steps"] == 4
    # As other tools look for it.
    assert b"digitalsourcetype/trainedAlgorithmicMedia" in path.read_bytes()


def test_the_same_wish_gives_the_same_file_and_another_seed_another(tmp_path: Path) -> None:
    def data(seed: int) -> bytes:
        path = tmp_path / f"{seed}-{len(list(tmp_path.iterdir()))}.png"
        write(make(Wish("x", seed=seed), Painter(), SETTINGS), path)
        return path.read_bytes()

    assert data(1) == data(1)
    assert data(1) != data(2)


def test_a_file_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"mine")
    with pytest.raises(BadPhoto, match="exists already"):
        write(make(Wish("x"), Painter(), SETTINGS), path)
    assert path.read_bytes() == b"mine"


def test_nothing_is_made_where_it_could_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "there.png").write_bytes(b"mine")
    for target, code in (("there.png", "target_exists"), ("a.gif", "format_not_written")):
        with pytest.raises(BadPhoto) as error:
            require_target(tmp_path / target)
        assert error.value.code == code
    assert require_target(tmp_path / "new.jpg") == "jpeg"


def test_what_a_service_charged_is_told() -> None:
    class Paid(Painter):
        def generate(self, prompt: str, **asked: Any) -> Any:
            account().pay(0.04)
            return super().generate(prompt, **asked)

    made = make(Wish("a shoe"), Paid(), SETTINGS)
    assert made.cost == 0.04
    assert made.generation.parameters["cost"] == 0.04


def test_presets_by_a_word_of_the_category() -> None:
    settings = GenerateSettings(presets={"knit": "wool {prompt}", "default": "plain {prompt}"})
    assert preset(Wish("hat", "Kids-Knit"), settings) == "wool hat"
    assert preset(Wish("hat", "steel"), settings) == "plain hat"
    assert preset(Wish("hat"), GenerateSettings(presets={})) == "hat"


def test_without_an_engine_it_says_what_to_do() -> None:
    with pytest.raises(ImgflowError, match="names no engine") as error:
        engine_name(Policy())
    assert "imgflow models pull" in error.value.hint


def test_catalog_rows_with_a_prompt_and_no_photo_are_missing(
    home: Home, drop: Callable[..., ImageKey]
) -> None:
    drop("there.png", encoded(photo("coffee", 40)))
    home.catalog_file.write_text(
        "key,category,prompt\nthere.png,shoes,a shoe\nnew.png,shoes,a boot\nsilent.png,shoes,\n"
    )
    ((key, wish),) = missing_raws(home)
    assert (key, wish.prompt, wish.category) == ("new.png", "a boot", "shoes")
    assert wish.seed == seed_of(key)


def test_a_generated_raw_is_marked_in_every_record_and_published_file(
    home: Home, make_line: Callable[..., Line], drop: Callable[..., ImageKey], tmp_path: Path
) -> None:
    write(make(Wish("a boot", seed=3, variant=1), Painter(), SETTINGS), tmp_path / "made.png")
    key = drop("made.png", (tmp_path / "made.png").read_bytes())
    line = make_line(upscale={"max_scale": 1})
    passage = rescue(key, line)
    records = [step.record for step in passage.steps]
    assert [record.version for record in records] == list(Version)
    assert all(record.synthetic for record in records)
    assert {record.variant for record in records} == {1}
    assert all((record.generation or {})["model_id"] == "painter-1" for record in records)
    for rendition in records[-1].renditions:
        data = home.store.read(rendition.object)
        assert decode(data).generation is not None, "marked as synthetic"
        told = read_provenance(data)
        assert told is not None
        assert told.steps[0].name == "generate"
        assert told.steps[0].prompt == records[0].generation["prompt"]  # type: ignore[index]
    # Read back as it was written.
    again = home.store.get_record(CATALOG, key, Version.PUBLISHED)
    assert again is not None
    assert again.synthetic


def test_a_photo_is_not_synthetic(
    make_line: Callable[..., Line], drop: Callable[..., ImageKey]
) -> None:
    key = drop("photo.png", encoded(photo("coffee", 64)))
    passage = rescue(key, make_line(upscale={"max_scale": 1}))
    assert not any(step.record.synthetic for step in passage.steps)


def _png_with(packet: bytes) -> bytes:
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    chunks.add_itxt("XML:com.adobe.xmp", packet.decode())
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=chunks)
    return file.getvalue()


def test_the_mark_of_other_tools_counts_too() -> None:
    packet = synthetic_xmp().replace(
        b"trainedAlgorithmicMedia", b"compositeWithTrainedAlgorithmicMedia"
    )
    assert decode(_png_with(packet)).generation == Generation()
    camera = packet.replace(b"compositeWithTrainedAlgorithmicMedia", b"digitalCapture")
    assert decode(_png_with(camera)).generation is None


@pytest.mark.parametrize(
    "told",
    [
        "not json",
        json.dumps([1, 2]),
        json.dumps({"seed": -1, "prompt": 7, "parameters": "x", "variant": True}),
        json.dumps({"prompt": "a\u0000b", "seed": 2**40, "parameters": {"a": {"b": 1}}}),
    ],
)
def test_hostile_words_about_the_making_say_nothing(told: str) -> None:
    from xml.sax.saxutils import quoteattr

    packet = synthetic_xmp(Generation()).decode()
    start = packet.index("imgflow:generation=")
    end = packet.index("/>", start)
    hostile = packet[:start] + f"imgflow:generation={quoteattr(told)}" + packet[end:]
    found = decode(_png_with(hostile.encode())).generation
    assert found == Generation()


def test_entities_are_not_expanded() -> None:
    packet = b'<!DOCTYPE x [<!ENTITY a "b">]>' + synthetic_xmp()
    assert decode(_png_with(packet)).generation is None
