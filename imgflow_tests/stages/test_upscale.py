"""Small photos are enlarged, soft ones sharpened, the rest passes on; bad engines are stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from samples import FakeUpscaler, Pixels, cubic, decoded, encoded, photo, psnr_at

from imgflow.engines.classical import Lanczos
from imgflow.engines.registry import Engines
from imgflow.engines.spec import Character, EngineSpec
from imgflow.engines.upscaler import NeuralUpscaler, Precision
from imgflow.imaging.blind import measure
from imgflow.lineage.record import Verdict
from imgflow.policy.policy import Policy
from imgflow.stages.stage import Job, Picture
from imgflow.stages.upscale import STAGE, tile_plan, upscale, with_alpha

MakeJob = Callable[..., Job]
MakePicture = Callable[..., Picture]

SMALL = photo("coffee", 200)
NO_ENLARGING = {"upscale": {"min_long_side": 1}}


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
    assert operation.parameters == {
        "scale": scale,
        "character": "clean",
        "mode": "conservative",
        "looks": 8,
    }
    assert operation.requested_by == "policy"
    assert operation.engine is not None
    assert operation.tile_plan is not None
    assert operation.tile_plan["scale"] == scale
    names = {"psnr", "ssim", "haarpsi", "halo", "edge_fidelity", "artifact_rate"}
    assert {each.name for each in outcome.gates} == names
    assert all(each.passed for each in outcome.gates)


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_the_record_says_what_was_computed_in(
    precision: Precision, engines: Engines, make_job: MakeJob, picture: MakePicture
) -> None:
    def make(scale: int, character: Character) -> NeuralUpscaler:
        return NeuralUpscaler(scale, character, precision=precision)

    engines.register_upscaler("sr", make)
    (operation,) = upscale(picture(SMALL), make_job({"upscale": {"min_long_side": 400}})).operations
    assert operation.dtype == precision


def test_so_many_looks_are_taken_as_the_policy_says(
    make_job: MakeJob, picture: MakePicture
) -> None:
    """Small photos get several; the mean of them is another result than one."""
    made = {}
    for looks in ("auto", 8, 1):
        job = make_job({"upscale": {"min_long_side": 400, "looks": looks}})
        outcome = upscale(picture(SMALL), job)
        assert outcome.pixels is not None
        made[looks] = outcome.pixels
        assert outcome.operations[0].parameters["looks"] == (1 if looks == 1 else 8)
    assert np.array_equal(made["auto"], made[8])
    assert not np.array_equal(made["auto"], made[1])


def test_a_manifest_outweighs_the_policy(make_job: MakeJob, picture: MakePicture) -> None:
    manifest = {"job_id": "j", "steps": [{"op": "upscale", "scale": 3}]}
    outcome = upscale(picture(SMALL), make_job(NO_ENLARGING, manifest=manifest))
    assert outcome.operations[0].parameters["scale"] == 3
    assert outcome.operations[0].requested_by == "manifest:j"


def test_a_large_and_sharp_photo_passes_through(make_job: MakeJob, picture: MakePicture) -> None:
    crisp = photo("motorcycle_left")
    outcome = upscale(picture(crisp), make_job(NO_ENLARGING))
    assert outcome.verdict is Verdict.PASSED_THROUGH
    assert outcome.pixels is None
    assert {"sharpness", "noise", "blockiness", "resolution"} <= set(outcome.measures)


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
    policy = {"upscale": {"min_long_side": 1, "sharpen_below": 1.0, "denoise_above": None}}
    outcome = upscale(picture(noisy.astype(np.uint8)), make_job(policy))
    assert outcome.verdict is Verdict.PASSED_THROUGH


def test_a_photo_without_any_edge_is_not_soft(make_job: MakeJob, picture: MakePicture) -> None:
    plain = np.full((300, 300, 3), 250, np.uint8)
    policy = {"upscale": {"min_long_side": 1, "sharpen_below": 1.0}}
    outcome = upscale(picture(plain), make_job(policy))
    assert outcome.verdict is Verdict.PASSED_THROUGH


# ---- noise -------------------------------------------------------------------------------


def grainy(clean: Pixels, sigma: float) -> Pixels:
    noise = np.random.default_rng(0).normal(0, sigma, clean.shape[:2])[:, :, None]
    return np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("deep", [False, True])
def test_a_noisy_photo_is_freed_of_noise_at_its_size(
    deep: bool, make_job: MakeJob, picture: MakePicture
) -> None:
    clean = photo("coffee", 240)
    noisy = grainy(clean, 12)
    given = noisy.astype(np.uint16) * np.uint16(257) if deep else noisy
    outcome = upscale(picture(given), make_job(NO_ENLARGING))
    assert outcome.verdict is Verdict.REPAIRED, outcome.reason
    assert outcome.pixels is not None
    assert outcome.pixels.dtype == given.dtype
    assert outcome.pixels.shape == given.shape
    (operation,) = outcome.operations
    assert operation.name == "denoise"
    assert operation.engine is not None
    assert operation.engine.name == "nlmeans"
    assert operation.parameters["strength"] == round(outcome.measures["noise"])
    assert "noisy" in outcome.notes[0]
    everywhere = np.ones(clean.shape[:2], bool)
    shown = outcome.pixels // 257 if deep else outcome.pixels
    assert psnr_at(clean, shown, everywhere) > psnr_at(clean, noisy, everywhere) + 3


def test_denoising_leaves_alpha_as_it_is(make_job: MakeJob, picture: MakePicture) -> None:
    noisy = grainy(photo("coffee", 240), 15)
    alpha = np.random.default_rng(1).integers(0, 256, noisy.shape[:2], np.uint8)
    alpha[:, :120] = 255
    pixels = np.concatenate([noisy, alpha[:, :, None]], axis=2)
    outcome = upscale(picture(pixels), make_job({"upscale": {"min_long_side": 1}}))
    assert outcome.operations[0].name == "denoise"
    result = outcome.pixels if outcome.pixels is not None else outcome.rejected
    assert result is not None
    assert np.array_equal(result[:, :, 3], alpha)


def test_a_denoiser_that_ruins_the_photo_is_stopped(
    engines: Engines, make_job: MakeJob, picture: MakePicture
) -> None:
    def smear(tile: Pixels, scale: int) -> Pixels:
        return cv2.GaussianBlur(tile, (0, 0), 8)

    engines.register_denoiser("smear", lambda _: FakeUpscaler("smear", 1, smear, 24))
    policy = {"upscale": {"min_long_side": 1, "denoiser": "smear"}}
    outcome = upscale(picture(grainy(photo("coffee", 240), 12)), make_job(policy))
    assert outcome.verdict is Verdict.QUARANTINED


# ---- blown up by interpolation -------------------------------------------------------------


def blown_up(scale: int) -> Pixels:
    small = photo("motorcycle_left", 300)
    return cv2.resize(small, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)


def test_a_photo_blown_up_is_enlarged_from_its_real_size(
    make_job: MakeJob, picture: MakePicture
) -> None:
    given = blown_up(2)  # 600 pixels, 300 real ones
    outcome = upscale(picture(given), make_job({"upscale": {"min_long_side": 900}}))
    assert outcome.verdict is Verdict.REPAIRED, outcome.reason
    assert outcome.pixels is not None
    reduce, enlarge = outcome.operations
    assert reduce.name == "reduce"
    assert reduce.parameters == {"height": given.shape[0] // 2, "width": 300}
    assert enlarge.parameters == {
        "scale": 3,
        "character": "photo",
        "mode": "conservative",
        "looks": 5,
    }
    assert outcome.pixels.shape[1] == 900
    assert outcome.measures["resolution"] == 0.5
    assert "600 pixels hold the detail of 300" in outcome.notes[0]
    assert "psnr_original" in {each.name for each in outcome.gates}


@pytest.mark.parametrize("quality", [None, 85])
def test_a_photo_of_repeated_pixels_is_enlarged_from_its_real_size(
    quality: int | None, make_job: MakeJob, picture: MakePicture
) -> None:
    given = np.repeat(np.repeat(photo("motorcycle_left", 300), 3, axis=0), 3, axis=1)
    if quality:
        given = decoded(encoded(given, "JPEG", quality=quality))
    outcome = upscale(picture(given), make_job({"upscale": {"min_long_side": 1100}}))
    assert outcome.verdict is Verdict.REPAIRED, outcome.reason
    assert [each.name for each in outcome.operations] == ["reduce", "enlarge"]
    assert "900 pixels hold the detail of 300" in outcome.notes[0]
    assert outcome.pixels is not None and outcome.pixels.shape[1] == 1200


def test_detail_lost_by_reducing_is_stopped(make_job: MakeJob, picture: MakePicture) -> None:
    policy = {"upscale": {"min_long_side": 900, "gates": {"psnr": 60.0}}}
    outcome = upscale(picture(blown_up(2)), make_job(policy))
    assert outcome.verdict is Verdict.QUARANTINED
    failed = {each.name for each in outcome.gates if each.passed is False}
    assert "psnr_original" in failed


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_transparent_colours_do_not_leak_when_a_photo_is_reduced(
    dtype: Any, make_job: MakeJob, picture: MakePicture
) -> None:
    large = blown_up(2)
    # Soft as the photo itself, from transparent at the left.
    slope = np.clip((np.arange(large.shape[1]) - 100) * 2, 0, 255).astype(np.uint8)
    alpha = np.broadcast_to(slope[None, :, None], (*large.shape[:2], 1))
    results = []
    for garbage in (0, 255):
        colour = large.copy()
        colour[:, :101] = garbage
        pixels = np.concatenate([colour, alpha], axis=2)
        pixels = pixels.astype(dtype) * dtype(np.iinfo(dtype).max // 255)
        outcome = upscale(picture(pixels), make_job({"upscale": {"min_long_side": 900}}))
        assert outcome.operations[0].name == "reduce"
        assert outcome.pixels is not None, outcome.reason
        results.append(outcome.pixels)
    assert np.array_equal(*results)


def test_what_is_opaque_stays_opaque(make_job: MakeJob, picture: MakePicture) -> None:
    """Whatever an engine makes of a plain white picture."""
    pixels = np.dstack([SMALL, np.full(SMALL.shape[:2], 255, np.uint8)])
    pixels[:20, :20, 3] = 0
    outcome = upscale(picture(pixels), make_job({"upscale": {"min_long_side": 400}}))
    assert outcome.operations[0].engine.name == "sr"
    assert outcome.pixels is not None
    scale = outcome.pixels.shape[0] // SMALL.shape[0]
    assert (outcome.pixels[22 * scale :, 22 * scale :, 3] == 255).all()
    assert (outcome.pixels[: 18 * scale, : 18 * scale, 3] == 0).all()


# ---- modes, characters, renditions -----------------------------------------------------------


@pytest.mark.parametrize(("category", "used"), [("shoes", "maker"), ("Knit sweaters", "sr")])
def test_the_creative_engine_is_for_what_it_may_invent(
    category: str, used: str, engines: Engines, make_job: MakeJob, picture: MakePicture
) -> None:
    engines.register_upscaler("maker", lambda scale, _: FakeUpscaler("maker", scale, cubic))
    creative = {"mode": "creative", "creative_engine": "maker", "min_long_side": 400}
    job = make_job({"upscale": creative}, manifest={"category": category})
    (operation,) = upscale(picture(SMALL), job).operations
    assert operation.engine is not None
    assert operation.engine.name == used
    assert operation.parameters["mode"] == ("creative" if used == "maker" else "conservative")


def test_a_category_decides_only_where_the_mode_is_creative(make_job: MakeJob) -> None:
    creative = {"upscale": {"mode": "creative", "creative_engine": "maker"}}
    shoes, knit = ({"category": each} for each in ("shoes", "knit"))
    assert STAGE.asked(make_job(manifest=shoes), ()) == STAGE.asked(make_job(manifest=knit), ())
    assert STAGE.asked(make_job(creative, manifest=shoes), ()) != STAGE.asked(
        make_job(creative, manifest=knit), ()
    )


def test_the_engine_is_told_the_character(
    engines: Engines, make_job: MakeJob, picture: MakePicture
) -> None:
    told = []

    def make(scale: int, character: str) -> FakeUpscaler:
        told.append(character)
        return FakeUpscaler("two", scale, cubic)

    engines.register_upscaler("two", make)
    policy = {"upscale": {"min_long_side": 400, "engine": "two"}}
    squeezed = decoded(encoded(SMALL, "JPEG", quality=40))
    for pixels in (SMALL, squeezed):
        upscale(picture(pixels), make_job(policy))
    assert told == ["clean", "photo"]


def test_a_rendition_asks_for_its_size(make_job: MakeJob, picture: MakePicture) -> None:
    poster = {"name": "poster", "long_side": 800, "min_long_side": 550}
    job = make_job({**NO_ENLARGING, "renditions": [poster]})
    outcome = upscale(picture(SMALL), job)
    assert outcome.pixels is not None
    assert outcome.pixels.shape[1] == 600
    assert "550 pixels asked for" in outcome.notes[0]
    assert STAGE.settings(job.policy)["wanted_long_side"] == 550


def test_the_code_version_names_every_engine_that_may_be_used(engines: Engines) -> None:
    def make(scale: int, character: str) -> FakeUpscaler:
        return FakeUpscaler(f"two-{character}", scale, cubic)

    engines.register_upscaler("two", make)
    engines.register_upscaler("maker", lambda scale, _: FakeUpscaler("maker", scale, cubic))

    def names(**settings: Any) -> set[str]:
        policy = Policy.model_validate({"upscale": {"engine": "two", **settings}})
        used = STAGE.engines_for(policy, engines)
        return {f"{each.name} x{each.scale}" for each in used if isinstance(each, EngineSpec)}

    both = {f"two-{each} x{scale}" for each in ("clean", "photo") for scale in (2, 3, 4)}
    assert names() == {*both, "unsharp x1", "nlmeans x1"}
    assert names(denoise_above=None, character="photo") == {
        *(each for each in both if "photo" in each),
        "unsharp x1",
    }
    creative = names(mode="creative", creative_engine="maker")
    assert creative - names() == {"maker x2", "maker x3", "maker x4"}


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


@pytest.mark.parametrize(
    ("size", "whole"),
    [((480, 640), True), ((640, 480), True), ((500, 640), False), ((10, 31_000), False)],
)
def test_what_is_worked_on_at_once_is_small_with_its_surroundings(
    size: tuple[int, int], whole: bool
) -> None:
    plan = tile_plan(*size, NeuralUpscaler(4).spec, 256)
    assert plan.whole == whole
    assert whole or plan.core == 256


def test_when_memory_runs_out_tiles_get_smaller(
    engines: Engines, make_job: MakeJob, picture: MakePicture
) -> None:
    def hungry(tile: Pixels, scale: int) -> Pixels:
        if tile.shape[0] > 120:
            raise MemoryError
        return Lanczos(scale).enlarge(tile)

    engines.register_upscaler("hungry", lambda scale, _: FakeUpscaler("hungry", scale, hungry))
    policy = {"upscale": {"min_long_side": 400, "engine": "hungry", "tile": 256}}
    outcome = upscale(picture(SMALL), make_job(policy))
    plain = upscale(
        picture(SMALL), make_job({"upscale": {"min_long_side": 400, "engine": "lanczos"}})
    )
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
    engines.register_upscaler("bad", lambda scale, _: FakeUpscaler("bad", scale, BAD[name], 24))
    policy: dict[str, Any] = {"upscale": {"min_long_side": 200 * scale, "engine": "bad"}}
    outcome = upscale(picture(SMALL), make_job(policy))
    assert outcome.verdict is Verdict.QUARANTINED, [*outcome.gates]
    assert outcome.pixels is None
    assert outcome.rejected is not None
