"""How large a photo must be for what its renditions show of it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from samples import Pixels

from imgflow.imaging.subject import Subject, find_subject
from imgflow.lineage.record import Version
from imgflow.policy.policy import RenditionSettings, UpscaleSettings
from imgflow.replay import _policy
from imgflow.stages.publish import publish
from imgflow.stages.stage import Job, Picture
from imgflow.stages.templates import Wish, wish
from imgflow.stages.upscale import STAGE, upscale

MakeJob = Callable[..., Job]
MakePicture = Callable[..., Picture]

STAGES = UpscaleSettings(min_long_side=100)
MARKET = {"name": "market", "long_side": 2000, "aspect": [1, 1], "trim": True, "margin": 0.1}


def product() -> Pixels:
    """A mug of 200 x 100 pixels in a photo of 300 x 400."""
    pixels = np.full((300, 400, 3), 240, np.uint8)
    pixels[50:250, 40:140] = (20, 40, 200)
    return pixels


def wished(pixels: Pixels, *renditions: dict[str, Any]) -> Wish:
    settings = [RenditionSettings.model_validate(each) for each in renditions]
    return wish(*pixels.shape[:2], STAGES, settings, lambda: find_subject(pixels))


def test_a_trimmed_rendition_wants_its_pixels_of_the_subject() -> None:
    found = wished(product(), MARKET | {"min_long_side": 400})
    # 250 of 400 pixels are shown: the subject's 200 with a tenth on either side.
    assert 640 <= found.long_side <= 650
    assert found.why == "market shows 250 of 400 pixels, 400 pixels asked for"


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ({"aspect": [4, 5], "scene": "crop"}, 300),
        # What is padded holds no more of the photo.
        ({"aspect": [4, 5], "scene": "pad"}, 400),
        ({"aspect": [4, 5], "scene": "keep"}, 400),
        ({}, 400),
    ],
)
def test_a_scene_wants_what_is_seen_of_it(template: dict[str, Any], shown: int) -> None:
    scene = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    poster = {"name": "poster", "long_side": 1200, "min_long_side": 600, **template}
    assert wished(scene, poster).long_side == 400 * 600 / shown


def test_the_largest_wish_counts_and_no_subject_is_looked_for_without_need() -> None:
    def never() -> Subject | None:
        raise AssertionError

    plain = RenditionSettings(name="a", long_side=900, min_long_side=700)
    framed = RenditionSettings.model_validate(MARKET)
    found = wish(300, 400, STAGES, [plain, framed], never)
    assert found == Wish(700, "the long side has 400 pixels, 700 pixels asked for")
    assert wished(product(), MARKET | {"min_long_side": 10}).long_side == 100


def test_what_is_published_has_the_size_that_was_asked_for(
    make_job: MakeJob, picture: MakePicture
) -> None:
    job = make_job(
        {
            "upscale": {"min_long_side": 1, "engine": "lanczos", "gates": {"haarpsi": 0.5}},
            "renditions": [MARKET | {"min_long_side": 600}],
        }
    )
    enlarged = upscale(picture(product()), job)
    assert enlarged.pixels is not None
    assert enlarged.notes == ("market shows 250 of 400 pixels, 600 pixels asked for",)
    (rendition,) = publish(picture(enlarged.pixels), job).renditions
    assert 600 <= (rendition.object.width or 0) <= 2000


def test_framing_is_among_the_stages_settings_where_it_decides(make_job: MakeJob) -> None:
    asking = MARKET | {"min_long_side": 600}
    without, with_it = (
        STAGE.settings(make_job({"renditions": [each]}).policy) for each in (MARKET, asking)
    )
    assert "framing" not in without
    (framing,) = with_it["framing"]
    assert framing["min_long_side"] == 600
    assert framing["aspect"] == [1, 1]
    assert "quality" not in framing


def test_a_replay_wants_the_same(make_job: MakeJob) -> None:

    policy = make_job({"renditions": [MARKET | {"min_long_side": 600}]}).policy
    record: Any = SimpleNamespace(version=Version.UPSCALED, settings=STAGE.settings(policy))
    again = _policy(record)
    assert STAGE.settings(again) == STAGE.settings(policy)
    found = wish(300, 400, again.upscale, again.renditions, lambda: find_subject(product()))
    assert found.long_side == max(
        wished(product(), MARKET | {"min_long_side": 600}).long_side, policy.upscale.min_long_side
    )
