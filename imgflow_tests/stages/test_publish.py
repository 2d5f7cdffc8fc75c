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
from pydantic import ValidationError
from samples import Pixels, photo

from imgflow.imaging.framing import Framed
from imgflow.imaging.masks import Box
from imgflow.imaging.photo import Rights
from imgflow.lineage.record import Rendition, Verdict
from imgflow.policy.policy import RenditionSettings
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


def product() -> Pixels:
    pixels = np.full((300, 400, 3), 240, np.uint8)
    pixels[50:250, 40:140] = (20, 40, 200)
    return pixels


MARKET = {"name": "market", "long_side": 200, "aspect": [1, 1], "trim": True, "margin": 0.05}


@pytest.mark.parametrize("format", ["jpeg", "webp", "png", "avif"])
def test_a_template_frames_the_subject_and_the_record_says_how(
    format: str, make_job: MakeJob, picture: MakePicture
) -> None:
    job = make_job({"renditions": [MARKET | {"format": format, "quality": 95}]})
    outcome = publish(picture(product()), job)
    image = opened(job, outcome)["market"]
    assert image.size == (200, 200)
    blue = np.flatnonzero(np.array(image.convert("RGB"))[100, :, 0] < 128)
    assert abs((blue[0] + blue[-1] + 1) / 2 - 100) <= 1.5
    (rendition,) = outcome.renditions
    assert rendition.framing is not None
    assert rendition.framing["how"] == "trimmed"
    assert rendition.framing["subject"] == [50, 40, 250, 140]
    assert rendition.framing["ground"] == [240, 240, 240]
    assert Rendition.model_validate_json(rendition.model_dump_json()) == rendition
    assert not outcome.notes


def test_a_canvas_that_the_photo_cannot_fill_is_smaller_and_says_so(
    make_job: MakeJob, picture: MakePicture
) -> None:
    job = make_job({"renditions": [MARKET | {"long_side": 2000}]})
    outcome = publish(picture(product()), job)
    assert outcome.verdict is Verdict.PUBLISHED
    assert outcome.renditions[0].object.width == outcome.renditions[0].object.height
    assert 200 < (outcome.renditions[0].object.width or 0) < 240
    assert outcome.renditions[0].framing is not None
    assert outcome.renditions[0].framing["short_of"] == 2000
    assert "the photo holds no more" in outcome.notes[0]


@pytest.mark.parametrize(
    ("scene", "size", "how"),
    [("pad", (200, 200), "padded"), ("crop", (200, 200), "cropped"), ("keep", (200, 134), "kept")],
)
def test_a_scene_is_framed_as_the_policy_says(
    scene: str, size: tuple[int, int], how: str, make_job: MakeJob, picture: MakePicture
) -> None:
    job = make_job({"renditions": [MARKET | {"scene": scene}]})
    outcome = publish(picture(PHOTO), job)
    assert outcome.verdict is Verdict.PUBLISHED
    assert opened(job, outcome)["market"].size == size
    assert outcome.renditions[0].framing is not None
    assert outcome.renditions[0].framing["how"] == how
    assert outcome.renditions[0].framing["subject"] is None


def test_a_cut_out_is_framed_transparent_or_on_the_background(
    make_job: MakeJob, picture: MakePicture
) -> None:
    pixels = np.dstack([product(), np.where(product()[:, :, 0] == 20, 255, 0).astype(np.uint8)])
    on_red = {"background": [200, 0, 0], "quality": 95}
    renditions = [MARKET | {"name": "a", "format": "webp"}, MARKET | {"name": "b"} | on_red]
    job = make_job({"renditions": renditions})
    images = opened(job, publish(picture(pixels), job))
    assert np.array(images["a"])[0, :, 3].max() == 0
    assert np.abs(np.array(images["b"])[0].astype(int) - (200, 0, 0)).max() < 12


def test_a_wrong_shape_is_not_deliverable(
    make_job: MakeJob, picture: MakePicture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stretched(pixels: Pixels, *_: Any) -> Framed:
        return Framed(pixels[:100, :200], Box(0, 0, 100, 200), "trimmed")

    monkeypatch.setattr("imgflow.stages.publish.frame", stretched)
    outcome = publish(picture(product()), make_job({"renditions": [MARKET]}))
    assert outcome.verdict is Verdict.QUARANTINED
    assert "200 x 100 pixels are not 1:1" in outcome.gates[0].note


def test_without_a_template_nothing_is_looked_for(
    make_job: MakeJob, picture: MakePicture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("imgflow.stages.publish.find_subject")
    outcome = publish(picture(product()), make_job({"renditions": LARGE}))
    assert [each.framing for each in outcome.renditions] == [None, None]


def test_records_without_framing_are_read() -> None:
    old = {"name": "web", "path": "a/web.jpg"}
    ref = {"sha256": "0", "media_type": "image/jpeg", "size": 1}
    assert Rendition.model_validate(old | {"object": ref}).framing is None


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"lossless": True}, "jpeg is never lossless"),
        ({"lossless": True, "format": "avif"}, "avif is never lossless"),
        ({"aspect": [1, 21]}, "20 to 1"),
        ({"aspect": [0, 1]}, "greater than or equal to 1"),
        ({"aspect": [1.5, 1]}, "integer"),
        ({"aspect": [1, 1, 1]}, "2 items"),
        ({"margin": 0.1}, "trim"),
        ({"margin": 0.5, "trim": True}, "0.4"),
        ({"scene": "crop"}, "needs an aspect"),
    ],
)
def test_templates_that_cannot_be_made_are_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        RenditionSettings.model_validate({"name": "a", "long_side": 9} | changes)
