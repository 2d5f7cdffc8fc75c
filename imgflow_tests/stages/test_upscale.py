"""Small photos are enlarged, soft ones sharpened, the rest passes on; bad engines are stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import FakeUpscaler, Pixels, cubic, photo

from imgflow.engines.classical import Lanczos
from imgflow.engines.registry import Engines
from imgflow.imaging.blind import measure
from imgflow.lineage.record import Verdict
from imgflow.policy.policy import UpscaleSettings
from imgflow.stages.stage import Job, Picture
from imgflow.stages.upscale import upscale, wanted_scale, with_alpha

MakeJob = Callable[..., Job]
MakePicture = Callable[..., Picture]

SMALL = photo("coffee", 200)
NO_ENLARGING = {"upscale": {"min_long_side": 1}}


@settings(max_examples=80, deadline=None)
@given(
    sides=st.tuples(st.integers(1, 2000), st.integers(1, 2000)),
    wanted=st.integers(1, 3000),
    most=st.integers(1, 4),
)
def test_the_smallest_scale_that_reaches_the_wanted_side(
    sides: tuple[int, int], wanted: int, most: int
) -> None:
    scale = wanted_scale(*sides, UpscaleSettings(min_long_side=wanted, max_scale=most))
    assert 1 <= scale <= most
    if max(sides) * scale < wanted:
        assert scale == most, "short of what is wanted only at the limit"
    if scale > 1:
        smaller = max(scale - 1, 1)
        assert max(sides) * smaller < wanted, "not larger than needed"


@pytest.mark.parametrize(("wanted", "scale"), [(400, 2), (401, 3), (600, 3), (700, 4), (5000, 4)])
def test_a_small_photo_is_enlarged(
    wanted: int, scale: int, make_job: MakeJob, picture: MakePicture
) -> None:
    job = make_job({"upscale": {"min_long_side": wanted}})
    outcome = upscale(picture(SMALL), job)
    assert outcome.verdict is Verdict.REPAIRED
    assert outcome.pixels is not None
    assert outcome.pixels.shape == (SMALL.shape[0] * scale, SMALL.shape[1] * scale, 3)
    (operation,) = outcome.operations
    assert operation.name == "enlarge"
    assert operation.parameters == {"scale": scale}
    assert operation.requested_by == "policy"
    assert operation.engine is not None
    assert operation.tile_plan is not None
    assert operation.tile_plan["scale"] == scale
    assert {each.name for each in outcome.gates} == {"psnr", "ssim", "haarpsi", "halo"}
    assert all(each.passed for each in outcome.gates)


def test_a_manifest_outweighs_the_policy(make_job: MakeJob, picture: MakePicture) -> None:
    manifest = {"job_id": "j", "steps": [{"op": "upscale", "scale": 3}]}
    outcome = upscale(picture(SMALL), make_job(NO_ENLARGING, manifest=manifest))
    assert outcome.operations[0].parameters == {"scale": 3}
    assert outcome.operations[0].requested_by == "manifest:j"


def test_a_large_and_sharp_photo_passes_through(make_job: MakeJob, picture: MakePicture) -> None:
    crisp = photo("motorcycle_left")
    outcome = upscale(picture(crisp), make_job(NO_ENLARGING))
    assert outcome.verdict is Verdict.PASSED_THROUGH
    assert outcome.pixels is None
    assert {"sharpness", "noise", "blockiness"} <= set(outcome.measures)


def test_a_soft_photo_is_sharpened_at_its_size(make_job: MakeJob, picture: MakePicture) -> None:
    soft = cv2.GaussianBlur(photo("coffee", 400), (0, 0), 2)
    policy = {"upscale": {"min_long_side": 1, "sharpen_below": 0.3}}
    outcome = upscale(picture(soft), make_job(policy))
    assert outcome.verdict is Verdict.REPAIRED
    assert outcome.pixels is not None
    assert outcome.operations[0].name == "sharpen"
    assert outcome.pixels.shape == soft.shape
    assert measure(outcome.pixels).sharpness > measure(soft).sharpness


def test_a_noisy_photo_is_not_sharpened(make_job: MakeJob, picture: MakePicture) -> None:
    soft = cv2.GaussianBlur(photo("coffee", 400), (0, 0), 2).astype(int)
    noisy = np.clip(soft + np.random.default_rng(0).normal(0, 12, soft.shape), 0, 255)
    policy = {"upscale": {"min_long_side": 1, "sharpen_below": 1.0}}
    outcome = upscale(picture(noisy.astype(np.uint8)), make_job(policy))
    assert outcome.verdict is Verdict.PASSED_THROUGH


def test_sixteen_bits_stay_sixteen(make_job: MakeJob, picture: MakePicture) -> None:
    wide = SMALL.astype(np.uint16) * np.uint16(257)
    outcome = upscale(picture(wide), make_job({"upscale": {"min_long_side": 400}}))
    assert outcome.pixels is not None
    assert outcome.pixels.dtype == np.uint16
    assert len(np.unique(outcome.pixels)) > 256


def test_a_result_beyond_the_limit_is_not_made(make_job: MakeJob, picture: MakePicture) -> None:
    policy = {"upscale": {"min_long_side": 400, "max_output_pixels": 50_000}}
    outcome = upscale(picture(SMALL), make_job(policy))
    assert outcome.verdict is Verdict.PASSED_THROUGH
    assert "50000" in outcome.notes[0]


# ---- alpha -------------------------------------------------------------------------------


def cutout(garbage: tuple[int, int, int]) -> Pixels:
    """A disc cut out of a photo, soft at its rim, with garbage under what is transparent."""
    height, width = SMALL.shape[:2]
    rows, columns = np.mgrid[:height, :width]
    distance = np.hypot(rows - height / 2, columns - width / 2)
    alpha = np.clip((50 - distance) * 128 + 128, 0, 255).astype(np.uint8)
    pixels = np.where(alpha[:, :, None] > 0, SMALL, np.uint8(garbage))
    return np.concatenate([pixels, alpha[:, :, None]], axis=2).astype(np.uint8)


@pytest.mark.parametrize("wanted", [400, 800])
def test_alpha_is_enlarged_and_leaks_no_colour(
    wanted: int, make_job: MakeJob, picture: MakePicture
) -> None:
    job = make_job({"upscale": {"min_long_side": wanted}})
    green, black = (upscale(picture(cutout(each)), job) for each in ((0, 255, 0), (0, 0, 0)))
    assert green.verdict is Verdict.REPAIRED, green.reason
    assert green.pixels is not None
    assert black.pixels is not None
    assert np.array_equal(green.pixels, black.pixels)
    opacity = green.pixels[:, :, 3]
    assert opacity[0, 0] == 0
    assert opacity[opacity.shape[0] // 2, opacity.shape[1] // 2] == 255
    share = cutout((0, 0, 0))[:, :, 3].mean()
    assert abs(opacity.mean() - share) < 1


def test_opaque_alpha_changes_no_colour() -> None:
    tile = SMALL[:40, :40].astype(np.float32) / 255
    opaque = np.concatenate([tile, np.ones((40, 40, 1), np.float32)], axis=2)
    large = with_alpha(Lanczos(2))(opaque)
    assert np.abs(large[:, :, :3] - Lanczos(2).enlarge(tile)).max() < 1e-5
    assert (large[:, :, 3] == 1).all()


# ---- memory ------------------------------------------------------------------------------


def test_when_memory_runs_out_tiles_get_smaller(
    engines: Engines, make_job: MakeJob, picture: MakePicture
) -> None:
    def hungry(tile: Pixels, scale: int) -> Pixels:
        if tile.shape[0] > 120:
            raise MemoryError
        return Lanczos(scale).enlarge(tile)

    engines.register_upscaler("hungry", lambda scale: FakeUpscaler("hungry", scale, hungry))
    policy = {"upscale": {"min_long_side": 400, "engine": "hungry", "tile": 256}}
    outcome = upscale(picture(SMALL), make_job(policy))
    plain = upscale(picture(SMALL), make_job({"upscale": {"min_long_side": 400}}))
    assert outcome.verdict is Verdict.REPAIRED
    assert outcome.pixels is not None
    assert plain.pixels is not None
    assert np.abs(outcome.pixels.astype(int) - plain.pixels).max() <= 1
    plan = outcome.operations[0].tile_plan
    assert plan is not None
    assert plan["core"] < 256, "the record has the plan that was used"
    assert any("memory ran out" in note for note in outcome.notes)


# ---- bad engines ---------------------------------------------------------------------------


def shifted(tile: Pixels, scale: int) -> Pixels:
    return np.roll(cubic(tile, scale), 3 * scale, axis=(0, 1))


def ringing(tile: Pixels, scale: int) -> Pixels:
    large = cubic(tile, scale)
    return large + 2.5 * (large - cv2.GaussianBlur(large, (0, 0), 2.0 * scale))


BAD: dict[str, Callable[[Pixels, int], Pixels]] = {
    "inverts": lambda tile, scale: 1 - cubic(tile, scale),
    "blurs": lambda tile, scale: cv2.GaussianBlur(cubic(tile, scale), (0, 0), 3.0 * scale),
    "shifts": shifted,
    "rings": ringing,
    "blackens": lambda tile, scale: cubic(tile, scale) * 0,
}


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("name", BAD)
def test_a_bad_upscaler_is_stopped(
    name: str, scale: int, engines: Engines, make_job: MakeJob, picture: MakePicture
) -> None:
    engines.register_upscaler("bad", lambda scale: FakeUpscaler("bad", scale, BAD[name], 24))
    policy: dict[str, Any] = {"upscale": {"min_long_side": 200 * scale, "engine": "bad"}}
    outcome = upscale(picture(SMALL), make_job(policy))
    assert outcome.verdict is Verdict.QUARANTINED, [*outcome.gates]
    assert outcome.pixels is None
    assert outcome.rejected is not None
