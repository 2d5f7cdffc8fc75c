"""Engines side by side: those that are installed, on the same photos, with a recommendation."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from samples import encoded, photo

from imgflow.bench.engines.measure import Candidate, Reading, candidates, measure
from imgflow.bench.engines.report import plot, ranked, recommendation, table
from imgflow.errors import EngineUnavailable
from imgflow.home import Home
from imgflow.policy.policy import Policy


@pytest.fixture
def photos(tmp_path: Path) -> tuple[Path, ...]:
    paths = []
    for name in ("coffee", "chelsea"):
        path = tmp_path / f"{name}.png"
        path.write_bytes(encoded(photo(name, 96)))
        paths.append(path)
    return tuple(paths)


def test_what_is_installed_is_measured_and_services_only_by_name(
    home: Home, photos: tuple[Path, ...]
) -> None:
    remote = {"use": "remote", "task": "filler", "endpoint": "https://x.example/y"}
    policy = Policy.model_validate({"engines": {"vendor": remote}})
    found = {(each.task, each.name) for each in candidates(home, policy, photos)}
    assert {("filler", "telea"), ("filler", "biharmonic"), ("upscaler", "lanczos")} <= found
    assert ("upscaler", "sr") in found
    # A sharpener does not enlarge, and what is not on the shelf cannot be measured.
    assert not {"unsharp", "lama", "realesrgan-x4plus", "vendor"} & {name for _, name in found}
    assert [each.name for each in candidates(home, policy, photos, ["vendor"])] == ["vendor"]
    with pytest.raises(EngineUnavailable, match="lama"):
        list(candidates(home, policy, photos, ["lama"]))


@pytest.mark.parametrize(("task", "name"), [("filler", "telea"), ("upscaler", "lanczos")])
def test_an_engine_is_measured(home: Home, photos: tuple[Path, ...], task: str, name: str) -> None:
    reading = measure(Candidate(task, name, home, photos))  # type: ignore[arg-type]
    assert reading.problem == ""
    assert reading.psnr > 15
    assert 0 < reading.haarpsi < 1
    assert -1 < reading.ssim < 1
    assert reading.seconds > 0
    assert reading.lpips is None
    assert reading.model_id


def test_an_engine_that_cannot_work_has_a_problem(home: Home, photos: tuple[Path, ...]) -> None:
    reading = measure(Candidate("filler", "lama", home, photos))
    assert "lama" in reading.problem


def reading(task: str, name: str, haarpsi: float, seconds: float) -> Reading:
    return Reading(task, name, "m", 30, 0.9, haarpsi, None, seconds, 100)  # type: ignore[arg-type]


READINGS = [
    reading("filler", "slow", 0.90, 100.0),
    reading("filler", "nearly", 0.895, 1.0),
    reading("filler", "bad", 0.5, 0.01),
    reading("upscaler", "only", 0.8, 0.2),
    Reading("filler", "broken", problem="it died"),
]


def test_the_fastest_that_is_nearly_as_good_is_for_the_many_and_the_best_for_the_few() -> None:
    found = yaml.safe_load(recommendation(READINGS))
    policy = Policy.model_validate(found)
    assert (policy.inpaint.fill, policy.upscale.engine) == ("nearly", "only")
    assert policy.routes[0].set == {"inpaint": {"fill": "slow"}}


def test_the_best_comes_first_and_the_broken_nowhere() -> None:
    assert [each.name for each in ranked(READINGS, "filler")] == ["slow", "nearly", "bad"]
    assert table(READINGS, "filler").row_count == 3


def test_the_plot_is_a_picture_with_every_engine_in_it() -> None:
    svg = plot([*READINGS, reading("filler", "<script>", 0.7, 0.1)])
    root = ElementTree.fromstring(svg)
    words = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"slow", "nearly", "bad", "only", "<script>"} <= set(words)
    circles = list(root.iter("{http://www.w3.org/2000/svg}circle"))
    assert len(circles) == 5
    assert all(0 < float(each.get("cx", 0)) < 720 for each in circles)
    assert ElementTree.fromstring(plot([reading("filler", "one", 0.5, 1.0)])) is not None
