"""The demo's catalog: real photographs from the scikit-image wheel, damaged on purpose.

Nothing is random and nothing is downloaded: the same libraries give the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, ImageDraw, ImageFilter, ImageFont

from imgflow.errors import ImgflowError
from imgflow.imaging.decode import decode
from imgflow.store.keys import MASK_ENDING, ImageKey

FOLDER = "demo"
"""Folder below the upload root that holds the catalog."""

Colour = tuple[int, int, int, int]
_ORANGE: Colour = (255, 112, 24, 255)
_WHITE: Colour = (255, 255, 255, 255)
_BLACK: Colour = (0, 0, 0, 255)
_NAVY: Colour = (22, 42, 92, 255)


@dataclass(frozen=True, slots=True)
class DemoPhoto:
    """One photo of the catalog.

    title: its damage in a few words. truth: PNG of the photo without it; None for a file that
    has no picture. expected: what a viewer should see the line do.
    """

    key: ImageKey
    title: str
    truth: Path | None
    expected: str


@dataclass(frozen=True, slots=True)
class _Upload:
    """What goes into the upload folder for one photo, and the truth that it came from.

    name: file name of the photo. beside: further files (manifest, mask) by their names.
    """

    name: str
    title: str
    expected: str
    data: bytes
    truth: Image.Image | None
    beside: dict[str, bytes]


def build_catalog(uploads: Path, truth: Path) -> list[DemoPhoto]:
    """Put the catalog below `uploads/demo/` and the undamaged photos below `truth`.

    Files that are there with the same bytes are left alone; nothing is ever overwritten.
    Raises ImgflowError (codes: demo_file_differs, demo_unwritable, demo_source_missing).
    """
    return [_put(make(), uploads, truth) for make in _CATALOG]


def _put(upload: _Upload, uploads: Path, truth: Path) -> DemoPhoto:
    folder = uploads / FOLDER
    known = truth / f"{Path(upload.name).stem}.png" if upload.truth else None
    if known and upload.truth:
        _keep(known, _png(upload.truth))
    # The photo comes last: whoever sees it finds its manifest and mask in place.
    for name, data in {**upload.beside, upload.name: upload.data}.items():
        _keep(folder / name, data)
    key = ImageKey.from_path(f"{FOLDER}/{upload.name}")
    return DemoPhoto(key, upload.title, known, upload.expected)


def _keep(path: Path, data: bytes) -> None:
    """Write a file that is not there yet. Appears whole or not at all."""
    try:
        if path.exists():
            if path.read_bytes() != data:
                raise ImgflowError(
                    "demo_file_differs",
                    f"{path} is there with other content than the demo would give it",
                    hint="It is left as it is. Move it away, or run the demo in another folder",
                )
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        # Upload folders pass over .part files.
        partial = path.with_name(f"{path.name}.{os.getpid()}.part")
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        raise ImgflowError(
            "demo_unwritable",
            f"{path} cannot be written: {error.strerror or error}",
            hint="Check that the folder belongs to you and the disk has space",
        ) from error


# ---- the photos ------------------------------------------------------------------------


def _date_stamp() -> _Upload:
    name = "motorcycle-date-stamp.jpg"
    photo = _source("motorcycle_left.png")
    layer = _layer(photo)
    _write(layer, (photo.width - 22, photo.height - 9), "'24  3 17", 30, _ORANGE, anchor="rs")
    glow = layer.filter(ImageFilter.GaussianBlur(0.7))
    step = {"op": "remove_text", "hint": "date-stamp"}
    return _Upload(
        name=name,
        title="date stamp, hint in a manifest",
        expected="The orange date is gone; the maker's name on the motorcycle stays",
        data=_jpeg(_composed(photo, glow), 95),
        truth=photo,
        beside={f"{name}.json": _manifest("demo-date-stamp", [step])},
    )


def _watermark_on_calm() -> _Upload:
    name, photo = "rocket-watermark.jpg", _source("rocket.jpg")
    step = {"op": "remove_text"}
    return _Upload(
        name=name,
        title="translucent watermark, a manifest asks",
        expected="The slanted watermark is gone from the evening sky; a person asks for it",
        data=_jpeg(_watermarked(photo, "PICSTOCK", 46, 12, (0.45, 0.17)), 95),
        truth=photo,
        beside={f"{name}.json": _manifest("demo-watermark", [step])},
    )


def _watermark_on_edges() -> _Upload:
    photo = _source("coffee.png")
    return _Upload(
        name="coffee-watermark.jpg",
        title="translucent watermark across the cup",
        expected="The watermark is gone from cup and table",
        data=_jpeg(_watermarked(photo, "PICSTOCK  PREVIEW", 64, 28, (0.5, 0.5)), 95),
        truth=photo,
        beside={},
    )


def _watermarked(
    photo: Image.Image, text: str, size: int, degrees: int, centre: tuple[float, float]
) -> Image.Image:
    band = Image.new("RGBA", (760, 90), (255, 255, 255, 0))
    _write(band, (380, 45), text, size, (255, 255, 255, 96), anchor="mm")
    slanted = band.rotate(degrees, Image.Resampling.BICUBIC, expand=True)
    layer = _layer(photo)
    left = round(photo.width * centre[0] - slanted.width / 2)
    top = round(photo.height * centre[1] - slanted.height / 2)
    layer.paste(slanted, (left, top))
    return _composed(photo, layer)


def _caption() -> _Upload:
    name, photo = "cat-caption.jpg", _source("chelsea.png")
    layer = _layer(photo)
    _write(
        layer,
        (photo.width // 2, photo.height - 14),
        "CAT FOOD -20% TODAY",
        30,
        _WHITE,
        anchor="ms",
        outline=2,
    )
    return _Upload(
        name=name,
        title="outlined caption, a manifest asks",
        expected="The caption and its black outline are gone",
        data=_jpeg(_composed(photo, layer), 95),
        truth=photo,
        beside={f"{name}.json": _manifest("demo-caption", [{"op": "remove_text"}])},
    )


def _small() -> _Upload:
    photo = _source("astronaut.png")
    return _Upload(
        name="astronaut-small.png",
        title="small copy (a half)",
        expected="Enlarged to the size that the shop asks for",
        data=_png(_scaled(photo, 0.5)),
        truth=photo,
        beside={},
    )


def _squeezed() -> _Upload:
    photo = _source("rocket.jpg")
    return _Upload(
        name="rocket-squeezed.jpg",
        title="small copy, JPEG quality 30",
        expected="Enlarged; the block pattern softens but cannot vanish by interpolation",
        data=_jpeg(_scaled(photo, 0.5), 30, subsampling="4:2:0"),
        truth=photo,
        beside={},
    )


def _photobomb() -> _Upload:
    name, mask_name = "rocket-photobomb.png", f"rocket-photobomb{MASK_ENDING}"
    photo = _source("rocket.jpg")
    head = _source("chelsea.png").crop((98, 0, 376, 286)).resize((110, 114))
    shape = Image.new("L", head.size, 0)
    ImageDraw.Draw(shape).ellipse((12, 12, 97, 101), fill=255)
    left_top = (352, 6)
    cover = Image.new("L", photo.size, 0)
    cover.paste(shape.filter(ImageFilter.GaussianBlur(3)), left_top)
    bomb = Image.new("RGB", photo.size)
    bomb.paste(head, left_top)
    data = _png(Image.composite(bomb, photo, cover))
    # A reviewer's mask: all that the feathered head touches.
    mask = cover.point(lambda value: 255 if value else 0)
    step = {"op": "inpaint", "mask": mask_name, "mask_image_sha256": _sha256(data)}
    return _Upload(
        name=name,
        title="photobomb, with a mask",
        expected="The cat is gone from the evening sky",
        data=data,
        truth=photo,
        beside={mask_name: _png(mask), f"{name}.json": _manifest("demo-photobomb", [step])},
    )


def _logo() -> _Upload:
    name = "astronaut-logo.jpg"
    photo = _source("astronaut.png")
    left, top, width, height = 302, 14, 66, 66
    layer = _layer(photo)
    draw = ImageDraw.Draw(layer)
    box = (left + 2, top + 2, left + width - 3, top + height - 3)
    draw.rounded_rectangle(box, 14, fill=_NAVY)
    draw.polygon([(312, 66), (330, 34), (340, 50), (346, 42), (358, 66)], fill=_WHITE)
    draw.ellipse((346, 24, 356, 34), fill=_ORANGE)
    step = {"op": "inpaint", "region": {"x": left, "y": top, "width": width, "height": height}}
    return _Upload(
        name=name,
        title="shop logo, region in a manifest",
        expected="The badge beside the head is gone; the flag and patches stay",
        data=_jpeg(_composed(photo, layer), 95),
        truth=photo,
        beside={f"{name}.json": _manifest("demo-logo", [step])},
    )


def _healthy() -> _Upload:
    return _Upload(
        name="hubble-healthy.jpg",
        title="healthy photo",
        expected="Nothing is found and nothing is changed: not one byte of the picture",
        data=_source_bytes("hubble_deep_field.jpg"),
        truth=_source("hubble_deep_field.jpg"),
        beside={},
    )


def _corrupt() -> _Upload:
    data = _source_bytes("retina.jpg")
    return _Upload(
        name="retina-corrupt.jpg",
        title="broken upload",
        expected="Quarantined: the file ends in the middle of the picture",
        data=data[: len(data) * 2 // 5],
        truth=None,
        beside={},
    )


def _turned() -> _Upload:
    photo = _source("coffee.png")
    layer = _layer(photo)
    _write(layer, (16, 380), "www.bean-and-cup.com", 24, _WHITE, anchor="ls")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # stored lying, shown after a quarter turn clockwise
    exif[ExifTags.Base.Copyright] = "Bean and Cup"
    stored = _composed(photo, layer).transpose(Image.Transpose.ROTATE_90)
    return _Upload(
        name="coffee-turned.jpg",
        title="phone photo lying on its side, web address",
        expected="Upright, without the address, the copyright kept",
        data=_jpeg(stored, 95, exif=exif),
        truth=photo,
        beside={},
    )


def _cut_out() -> _Upload:
    photo = _source("coffee.png").convert("RGBA")
    shape = Image.new("L", photo.size, 0)
    draw = ImageDraw.Draw(shape)
    draw.ellipse((76, 82, 482, 384), fill=255)
    draw.ellipse((170, 14, 416, 300), fill=255)
    photo.putalpha(shape.filter(ImageFilter.GaussianBlur(1)))
    layer = _layer(photo)
    _write(layer, (276, 352), "ESPRESSO SET", 26, _WHITE, anchor="ms", outline=2)
    name = "espresso-cut-out.png"
    return _Upload(
        name=name,
        title="transparent cut-out with a caption, a manifest asks",
        expected="The caption is gone from the saucer; the ground stays transparent",
        data=_png(_composed(photo, layer)),
        truth=photo,
        beside={f"{name}.json": _manifest("demo-cut-out", [{"op": "remove_text"}])},
    )


def _for_print() -> _Upload:
    name = "retina-for-print.jpg"
    photo = _source("retina.jpg")
    step = {"op": "upscale", "scale": 2}
    return _Upload(
        name=name,
        title="manifest asks for x2",
        expected="Enlarged although it is large enough for the web: print wants it",
        data=_jpeg(_scaled(photo, 0.75), 92),
        truth=photo,
        beside={f"{name}.json": _manifest("demo-print", [step], asset_type="print")},
    )


_CATALOG: tuple[Callable[[], _Upload], ...] = (
    _date_stamp,
    _watermark_on_calm,
    _watermark_on_edges,
    _caption,
    _turned,
    _cut_out,
    _photobomb,
    _logo,
    _small,
    _squeezed,
    _for_print,
    _healthy,
    _corrupt,
)


# ---- drawing and encoding --------------------------------------------------------------


def _source_bytes(name: str) -> bytes:
    try:
        return (files("skimage") / "data" / name).read_bytes()
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise ImgflowError(
            "demo_source_missing",
            f"scikit-image does not have its photo {name}",
            hint="Install the versions in constraints.txt: make demo does",
        ) from error


def _source(name: str) -> Image.Image:
    # Some of them carry a profile: as the line sees them, in sRGB.
    return Image.fromarray(decode(_source_bytes(name)).pixels)


def _layer(photo: Image.Image) -> Image.Image:
    return Image.new("RGBA", photo.size, (0, 0, 0, 0))


def _write(
    layer: Image.Image,
    at: tuple[int, int],
    text: str,
    size: int,
    colour: Colour,
    *,
    anchor: str,
    outline: int = 0,
) -> None:
    # Pillow's own font: a bare machine has no other.
    font = ImageFont.load_default(size)
    ImageDraw.Draw(layer).text(
        at, text, colour, font, anchor, stroke_width=outline, stroke_fill=_BLACK
    )


def _composed(photo: Image.Image, layer: Image.Image) -> Image.Image:
    return Image.alpha_composite(photo.convert("RGBA"), layer).convert(photo.mode)


def _scaled(photo: Image.Image, factor: float) -> Image.Image:
    size = (round(photo.width * factor), round(photo.height * factor))
    return photo.resize(size, Image.Resampling.BOX if factor == 0.5 else Image.Resampling.BICUBIC)


def _png(image: Image.Image) -> bytes:
    return _encoded(image, "PNG")


def _jpeg(image: Image.Image, quality: int, **options: Any) -> bytes:
    return _encoded(image, "JPEG", quality=quality, **{"subsampling": "4:4:4", **options})


def _encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def _manifest(job_id: str, steps: list[dict[str, Any]], **traits: str) -> bytes:
    return json.dumps({"job_id": job_id, **traits, "steps": steps}, indent=1).encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
