"""What is done to a photo follows from its measures, its size, the policy and what is asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgflow.imaging.blind import BlindMeasures
from imgflow.policy.policy import RenditionSettings, UpscaleSettings
from imgflow.stages.enlargement import (
    Decision,
    Size,
    decide,
    wanted_long_side,
    wanted_scale,
)

FINE = BlindMeasures(sharpness=0.7, noise=1.0, blockiness=1.0, resolution=1.0)
MAKER = {"mode": "creative", "creative_engine": "maker"}


def decision(
    measured: BlindMeasures = FINE,
    size: tuple[int, int] = (600, 800),
    wanted: int = 1000,
    asked: int | None = None,
    category: str = "",
    **policy: Any,
) -> Decision:
    return decide(
        measured,
        Size(*size),
        UpscaleSettings.model_validate(policy),
        wanted=wanted,
        asked=asked,
        category=category,
    )


@settings(max_examples=80, deadline=None)
@given(side=st.integers(1, 2000), wanted=st.integers(1, 3000), most=st.integers(1, 4))
def test_the_smallest_scale_that_reaches_the_wanted_side(side: int, wanted: int, most: int) -> None:
    scale = wanted_scale(side, wanted, most)
    assert 1 <= scale <= most
    if side * scale < wanted:
        assert scale == most, "short of what is wanted only at the limit"
    if scale > 1:
        assert side * (scale - 1) < wanted, "not larger than needed"


def test_the_largest_wish_counts() -> None:
    stage = UpscaleSettings(min_long_side=500)
    renditions = [
        RenditionSettings(name="a", long_side=1600),
        RenditionSettings(name="b", long_side=1600, min_long_side=900),
    ]
    assert wanted_long_side(stage, renditions) == 900
    assert wanted_long_side(stage, renditions[:1]) == 500


@pytest.mark.parametrize(
    ("measured", "action"),
    [
        (FINE, "none"),
        (replace(FINE, sharpness=0.2), "sharpen"),
        (replace(FINE, sharpness=0.2, noise=5.0), "none"),
        (replace(FINE, sharpness=0.0), "none"),
        (replace(FINE, noise=9.0), "denoise"),
        (replace(FINE, noise=9.0, sharpness=0.2), "denoise"),
        (replace(FINE, resolution=0.5), "none"),
        (replace(FINE, resolution=0.5, sharpness=0.2), "sharpen"),
    ],
)
def test_a_large_photo_is_never_enlarged(measured: BlindMeasures, action: str) -> None:
    result = decision(measured, (1200, 1600))
    assert (result.action, result.scale, result.start) == (action, 1, Size(1200, 1600))
    found = "1600 pixels hold the detail of 800" in result.why
    assert found == (measured.resolution < 1)


def test_denoising_can_be_switched_off() -> None:
    assert decision(replace(FINE, noise=50.0), (1200, 1600), denoise_above=None).action == "none"


def test_what_was_blown_up_is_enlarged_from_its_real_size() -> None:
    result = decision(replace(FINE, resolution=0.5), (600, 800))
    assert (result.start, result.scale, result.result) == (Size(300, 400), 3, Size(900, 1200))
    assert result.character == "photo"
    assert "800 pixels hold the detail of 400, from which it is enlarged" in result.why


@pytest.mark.parametrize("change", [{"blown_up_below": 0.4}, {"blown_up_below": 0.0}])
def test_the_policy_says_what_counts_as_blown_up(change: dict[str, float]) -> None:
    result = decision(replace(FINE, resolution=0.5), (600, 800), **change)
    assert (result.start, result.scale, result.character) == (Size(600, 800), 2, "clean")


def test_the_real_size_is_left_where_it_could_not_reach_what_is_wanted() -> None:
    result = decision(replace(FINE, resolution=0.25), (600, 800), wanted=1000)
    assert (result.start, result.scale, result.character) == (Size(600, 800), 2, "photo")
    assert result.why.endswith("800 pixels hold the detail of 200")


def test_a_scale_that_is_asked_for_is_of_the_photo_as_it_is() -> None:
    result = decision(replace(FINE, resolution=0.5), (1200, 1600), asked=2)
    assert (result.start, result.scale) == (Size(1200, 1600), 2)
    assert "x2 asked for" in result.why


@pytest.mark.parametrize(
    ("measured", "character"),
    [
        (FINE, "clean"),
        (replace(FINE, jpeg_step=4.0), "photo"),
        (replace(FINE, jpeg_step=3.0), "clean"),
        (replace(FINE, blockiness=1.2), "clean"),
        (replace(FINE, blockiness=1.4), "photo"),
        (replace(FINE, noise=4.5), "photo"),
        (replace(FINE, sharpness=0.39), "photo"),
        (replace(FINE, sharpness=0.42), "clean"),
        (replace(FINE, sharpness=0.0), "clean"),
    ],
)
def test_the_character_follows_from_the_measures(measured: BlindMeasures, character: str) -> None:
    assert decision(measured).character == character
    assert decision(measured, character="clean").character == "clean"
    assert decision(measured, character="photo").character == "photo"


@pytest.mark.parametrize(
    ("category", "mode"),
    [
        ("", "creative"),
        ("shoes", "creative"),
        ("knitting needles", "creative"),
        ("knit", "conservative"),
        ("Women/KNITWEAR", "conservative"),
        ("bags, leather", "conservative"),
    ],
)
def test_true_textures_are_always_conservative(category: str, mode: str) -> None:
    assert decision(category=category, **MAKER).mode == mode
    assert decision(category=category).mode == "conservative"


def test_the_list_of_textures_is_the_policys() -> None:
    listed = ["raw silk", "-"]
    for category, mode in (("silk", "creative"), ("scarves raw silk", "conservative")):
        result = decision(category=category, always_conservative=listed, **MAKER)
        assert result.mode == mode


@pytest.mark.parametrize("side", [(1, 1), (1, 700), (3, 2)])
def test_no_size_is_too_small(side: tuple[int, int]) -> None:
    result = decision(replace(FINE, resolution=0.25), side, wanted=1000)
    assert result.action == "enlarge"
    assert min(result.start.height, result.start.width) >= 1
