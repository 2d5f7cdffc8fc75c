"""The demo's catalog is what it says, comes out the same each time, and destroys nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imgflow.chain import Line, rescue
from imgflow.demo.catalog import DemoPhoto, build_catalog
from imgflow.demo.outcome import Outcome, compare, shown
from imgflow.engines.registry import Engines
from imgflow.errors import BadPhoto, ImgflowError
from imgflow.imaging.decode import DEFAULT_LIMITS, decode
from imgflow.imaging.encode import decode_mask
from imgflow.imaging.masks import polygon_mask
from imgflow.lineage.record import Verdict, Version
from imgflow.policy.manifest import Inpaint
from imgflow.policy.policy import parse_policy
from imgflow.stages.intake import take_in
from imgflow.store.keys import Uploads
from imgflow.store.local import LocalStore


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def catalog(folder: Path) -> dict[str, DemoPhoto]:
    photos = build_catalog(folder / "uploads", folder / "truth")
    return {Path(photo.key).stem: photo for photo in photos}


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def _pixels(folder: Path, photo: DemoPhoto) -> np.ndarray:
    return decode((folder / "uploads" / photo.key).read_bytes()).pixels


def _truth(photo: DemoPhoto) -> np.ndarray:
    assert photo.truth is not None
    return decode(photo.truth.read_bytes()).pixels


def test_the_upload_folder_holds_just_these_photos(
    folder: Path, catalog: dict[str, DemoPhoto]
) -> None:
    scan = Uploads(folder / "uploads").scan()
    assert {key for key, _ in scan.photos} == {photo.key for photo in catalog.values()}
    assert scan.problems == ()
    assert scan.ignored == 0
    assert len(catalog) == 13


def test_building_again_elsewhere_gives_the_same_bytes_and_here_touches_nothing(
    folder: Path, catalog: dict[str, DemoPhoto], tmp_path: Path
) -> None:
    build_catalog(tmp_path / "uploads", tmp_path / "truth")
    assert _contents(tmp_path / "uploads") == _contents(folder / "uploads")
    assert _contents(tmp_path / "truth") == _contents(folder / "truth")

    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    build_catalog(tmp_path / "uploads", tmp_path / "truth")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == written


def test_a_file_with_other_content_is_an_error_and_stays_as_it_is(tmp_path: Path) -> None:
    mine = tmp_path / "uploads" / "demo" / "motorcycle-date-stamp.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"my own photo")
    with pytest.raises(ImgflowError) as caught:
        build_catalog(tmp_path / "uploads", tmp_path / "truth")
    assert caught.value.code == "demo_file_differs"
    assert str(mine) in caught.value.what
    assert mine.read_bytes() == b"my own photo"


def test_manifests_and_masks_are_taken_in(
    folder: Path, catalog: dict[str, DemoPhoto], tmp_path: Path
) -> None:
    jobs = {}
    for name, photo in catalog.items():
        intake = take_in(
            photo.key, "main", LocalStore(tmp_path), Uploads(folder / "uploads"), DEFAULT_LIMITS
        )
        if intake.manifest.job_id:
            jobs[name] = [step.op for step in intake.manifest.steps]
    assert jobs == {
        "motorcycle-date-stamp": ["remove_text"],
        "rocket-watermark": ["remove_text"],
        "cat-caption": ["remove_text"],
        "espresso-cut-out": ["remove_text"],
        "rocket-photobomb": ["inpaint"],
        "astronaut-logo": ["inpaint"],
        "retina-for-print": ["upscale"],
    }


def test_the_mask_covers_every_pixel_that_the_photobomb_changed(
    folder: Path, catalog: dict[str, DemoPhoto]
) -> None:
    photo = catalog["rocket-photobomb"]
    mask = decode_mask((folder / "uploads/demo/rocket-photobomb.mask.png").read_bytes())
    changed = (_pixels(folder, photo) != _truth(photo)).any(axis=2)
    assert changed.sum() > 5000
    assert not changed[mask == 0].any()


def test_the_region_covers_the_logo(
    folder: Path, catalog: dict[str, DemoPhoto], tmp_path: Path
) -> None:
    photo = catalog["astronaut-logo"]
    intake = take_in(
        photo.key, "main", LocalStore(tmp_path), Uploads(folder / "uploads"), DEFAULT_LIMITS
    )
    (step,) = intake.manifest.steps
    assert isinstance(step, Inpaint)
    assert step.region is not None
    damaged, truth = _pixels(folder, photo).astype(int), _truth(photo).astype(int)
    mask = polygon_mask([step.region.polygon_points()], *truth.shape[:2])
    changed = np.abs(damaged - truth).max(axis=2) > 40  # more than JPEG does
    assert changed.sum() > 2000
    assert not changed[mask == 0].any()


@pytest.mark.parametrize(
    ("name", "top", "left", "bottom", "right"),
    [
        ("motorcycle-date-stamp", 460, 600, 500, 741),
        ("coffee-watermark", 0, 0, 400, 600),
        ("cat-caption", 250, 60, 300, 400),
        ("coffee-turned", 350, 0, 400, 300),
        ("espresso-cut-out", 320, 170, 365, 390),
    ],
)
def test_overlaid_text_changes_its_place_and_nothing_else(
    folder: Path,
    catalog: dict[str, DemoPhoto],
    name: str,
    top: int,
    left: int,
    bottom: int,
    right: int,
) -> None:
    damaged, truth = _pixels(folder, catalog[name]), _truth(catalog[name])
    assert damaged.shape == truth.shape
    changed = np.abs(damaged.astype(int) - truth).max(axis=2) > 40  # more than JPEG does
    assert changed.mean() > 0.001
    changed[top:bottom, left:right] = False
    assert not changed.any()


def test_the_turned_photo_is_stored_lying(folder: Path, catalog: dict[str, DemoPhoto]) -> None:
    photo = decode((folder / "uploads" / catalog["coffee-turned"].key).read_bytes())
    assert photo.source.orientation == 6
    assert (photo.source.width, photo.source.height) == (400, 600)
    assert photo.pixels.shape == (400, 600, 3)
    assert photo.rights.copyright == "Bean and Cup"


def test_the_healthy_photo_is_the_original_file(
    folder: Path, catalog: dict[str, DemoPhoto]
) -> None:
    original = (files("skimage") / "data" / "hubble_deep_field.jpg").read_bytes()
    assert (folder / "uploads" / catalog["hubble-healthy"].key).read_bytes() == original


def test_the_corrupt_photo_does_not_open(folder: Path, catalog: dict[str, DemoPhoto]) -> None:
    photo = catalog["retina-corrupt"]
    assert photo.truth is None
    with pytest.raises(BadPhoto):
        _pixels(folder, photo)


class TestCompare:
    """What is said of a photo that went through the line (without OCR, to be quick)."""

    @pytest.fixture
    def outcome(
        self, folder: Path, catalog: dict[str, DemoPhoto], tmp_path: Path
    ) -> Callable[[str], Any]:
        store = LocalStore(tmp_path)
        line = Line(
            catalog="main",
            store=store,
            engines=Engines(),
            policy=parse_policy(b"detext: {text: none}", "test"),
            uploads=Uploads(folder / "uploads"),
            run_id="test",
        )

        def run(name: str) -> Outcome:
            photo = catalog[name]
            passage = rescue(photo.key, line)
            return compare(
                photo, store, {Version(step.record.version): step.record for step in passage.steps}
            )

        return run

    def test_a_repair_comes_nearer_to_the_truth(self, outcome: Callable[[str], Any]) -> None:
        bomb = outcome("rocket-photobomb")
        assert bomb.verdict is Verdict.PUBLISHED
        assert bomb.found == "8,460 pixels marked; 640 x 427, 1000 wanted"
        assert bomb.done == "inpaint (telea), enlarge x2 (sr)"
        assert bomb.psnr_after > bomb.psnr_before + 10
        assert bomb.psnr_damage_after > bomb.psnr_damage_before + 20
        assert bomb.psnr_damage_before < bomb.psnr_before  # undiluted
        assert bomb.ssim_after > bomb.ssim_before
        assert [name for name, _ in bomb.figures()] == ["PSNR", "PSNR of the damage", "SSIM"]

    def test_a_small_copy_is_compared_at_the_size_of_its_truth(
        self, outcome: Callable[[str], Any]
    ) -> None:
        small = outcome("astronaut-small")
        assert small.found == "256 x 256, 1000 wanted"
        assert small.psnr_before > 25
        assert small.psnr_damage_before is None
        assert small.psnr_damage_after is None

    def test_a_healthy_photo_equals_its_truth(self, outcome: Callable[[str], Any]) -> None:
        healthy = outcome("hubble-healthy")
        assert math.isinf(healthy.psnr_before)
        assert math.isinf(healthy.psnr_after)
        assert (healthy.found, healthy.done) == ("nothing to repair", "nothing")

    def test_a_stopped_photo_has_a_reason_and_no_result(
        self, outcome: Callable[[str], Any]
    ) -> None:
        corrupt = outcome("retina-corrupt")
        assert corrupt.verdict is Verdict.QUARANTINED
        assert corrupt.reason == corrupt.found != ""
        assert corrupt.psnr_before is None
        assert corrupt.psnr_after is None
        assert corrupt.figures() == []


def test_figures_are_shown_for_people() -> None:
    assert shown(None, "dB") == "\N{EN DASH}"
    assert shown(math.inf, "dB") == "equal"
    assert shown(30.04, "dB") == "30.0 dB"
    assert shown(0.98765) == "0.988"
