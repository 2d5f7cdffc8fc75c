"""Renditions are what the policy says, checked as a customer would get them."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from samples import Pixels, photo

from imgflow.imaging.photo import Rights
from imgflow.lineage.record import Verdict
from imgflow.stages.publish import fit, publish
from imgflow.stages.stage import Job, Outcome, Picture
from imgflow.store.keys import ImageKey

MakeJob = Callable[..., Job]
MakePicture = Callable[..., Picture]

PHOTO = photo("coffee", 400)
LARGE = [{"name": "web", "long_side": 300}, {"name": "thumb", "long_side": 64, "format": "webp"}]


def opened(job: Job, outcome: Outcome) -> dict[str, Image.Image]:
    return {
        each.name: Image.open(io.BytesIO(job.store.read(each.object)))
        for each in outcome.renditions
    }


def test_every_rendition_is_made_at_its_size(make_job: MakeJob, picture: MakePicture) -> None:
    job = make_job({"renditions": LARGE}, key=ImageKey("shoes/red.png"))
    outcome = publish(picture(PHOTO), job)
    assert outcome.verdict is Verdict.PUBLISHED
    images = opened(job, outcome)
    assert images["web"].size == (300, 200)
    assert images["web"].format == "JPEG"
    assert images["thumb"].size == (64, 43)
    assert images["thumb"].format == "WEBP"
    assert [each.path for each in outcome.renditions] == [
        "shoes/red.png/web.jpg",
        "shoes/red.png/thumb.webp",
    ]
    for each in outcome.renditions:
        assert (each.object.width, each.object.height) == images[each.name].size
    (deliverable,) = outcome.gates
    assert deliverable.name == "deliverable"
    assert deliverable.passed


@pytest.mark.parametrize("format", ["jpeg", "webp", "png", "avif"])
def test_a_photo_is_never_enlarged(format: str, make_job: MakeJob, picture: MakePicture) -> None:
    job = make_job({"renditions": [{"name": "big", "long_side": 5000, "format": format}]})
    image = opened(job, publish(picture(PHOTO), job))["big"]
    assert image.size == (400, 267)
    assert image.format == format.upper()
    error = np.abs(np.array(image.convert("RGB")).astype(int) - PHOTO).mean()
    assert error < (0.01 if format == "png" else 6)


def test_print_has_its_resolution_and_rights(make_job: MakeJob, picture: MakePicture) -> None:
    renditions = [{"name": "print", "long_side": 400, "dpi": 300, "quality": 95}]
    job = make_job({"renditions": renditions}, rights=Rights(copyright="Ada 2026", creator="Ada"))
    image = opened(job, publish(picture(PHOTO), job))["print"]
    assert tuple(round(each) for each in image.info["dpi"]) == (300, 300)
    assert image.getexif()[0x8298] == "Ada 2026"
    assert image.info["icc_profile"]


def test_a_file_that_is_too_large_is_not_deliverable(
    make_job: MakeJob, picture: MakePicture
) -> None:
    renditions = [{"name": "web", "long_side": 400, "max_bytes": 1000}]
    outcome = publish(picture(PHOTO), make_job({"renditions": renditions}))
    assert outcome.verdict is Verdict.QUARANTINED
    assert outcome.reason is not None
    assert "more than 1000" in outcome.reason.message
    assert "web" in outcome.gates[0].note
    assert "1000" in outcome.gates[0].note


def cutout(dtype: Any = np.uint8) -> Pixels:
    top = np.iinfo(dtype).max
    alpha = np.full((*PHOTO.shape[:2], 1), top, dtype)
    alpha[:, 200:] = 0
    colour = PHOTO.astype(dtype) * dtype(top // 255)
    colour[:, 200:] = (0, top, 0)  # garbage under what is transparent
    return np.concatenate([colour, alpha], axis=2)


@pytest.mark.parametrize("format", ["webp", "png", "avif"])
def test_alpha_is_kept_where_the_format_has_it(
    format: str, make_job: MakeJob, picture: MakePicture
) -> None:
    renditions = [{"name": "web", "long_side": 150, "format": format, "quality": 95}]
    job = make_job({"renditions": renditions})
    image = opened(job, publish(picture(cutout()), job))["web"]
    assert image.mode == "RGBA"
    alpha = np.array(image)[:, :, 3]
    assert (alpha[:, :70] == 255).all()
    assert (alpha[:, 80:] == 0).all()


def test_jpeg_has_a_background_where_the_photo_is_transparent(
    make_job: MakeJob, picture: MakePicture
) -> None:
    renditions = [{"name": "web", "long_side": 150, "background": (10, 20, 200), "quality": 95}]
    job = make_job({"renditions": renditions})
    image = np.array(opened(job, publish(picture(cutout()), job))["web"]).astype(int)
    assert np.abs(image[:, 85:] - (10, 20, 200)).max() < 12


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_reducing_leaks_no_colour_from_transparent_pixels(dtype: Any) -> None:
    small = fit(cutout(dtype), 123)
    assert small.dtype == np.uint8
    seen = small[small[:, :, 3] > 0][:, :3].astype(int)
    assert (seen[:, 1] - seen[:, 0]).max() < 60, "the garbage is pure green"


@settings(max_examples=40, deadline=None)
@given(
    sides=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    channels=st.sampled_from([3, 4]),
    long_side=st.integers(1, 80),
    level=st.integers(0, 255),
)
def test_fitting_keeps_proportions_and_constants(
    sides: tuple[int, int], channels: int, long_side: int, level: int
) -> None:
    pixels = np.full((*sides, channels), level, np.uint8)
    pixels[:, :, 3:] = 255
    small = fit(pixels, long_side)
    height, width = small.shape[:2]
    assert max(height, width) == min(long_side, max(sides))
    assert min(height, width) >= 1
    ratio = max(height, width) / max(sides)
    assert abs(height - sides[0] * ratio) <= 1
    assert abs(width - sides[1] * ratio) <= 1
    assert (small[:, :, :3] == level).all()
    assert (small[:, :, 3:] == 255).all()


def test_a_name_that_is_not_utf8_has_a_path_that_a_record_can_hold(
    make_job: MakeJob, picture: MakePicture
) -> None:
    key = ImageKey.from_path(os.fsdecode(b"caf\xe9.jpg"))
    outcome = publish(picture(PHOTO), make_job({"renditions": LARGE}, key=key))
    assert outcome.renditions[0].path.encode() == b"caf%E9.jpg/web.jpg"
