"""Real photos, damage as shops see it, and engines that fail on purpose. No test lives here."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import skimage
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from imgflow.engines.spec import EngineSpec, Found, TextMap
from imgflow.imaging.masks import dilate
from imgflow.lineage.record import TextRegion
from imgflow.pool import Done

Pixels = NDArray[Any]

STAMP = (255, 220, 60)
"""The stamps' colour."""

_PHOTOS = Path(skimage.__file__).parent / "data"


@cache
def photo(name: str, width: int | None = None) -> Pixels:
    """(H, W, 3) uint8 of a photo in the scikit-image wheel, reduced to `width`. Read-only."""
    path = next(_PHOTOS.glob(f"{name}.*"))
    image = Image.open(path).convert("RGB")
    if width is not None:
        height = round(image.height * width / image.width)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    pixels = np.array(image)
    pixels.flags.writeable = False
    return pixels


@dataclass(frozen=True)
class Stamped:
    """A photo, the same with text on it, and the box (x, y, right, bottom) of the text."""

    clean: Pixels
    pixels: Pixels
    box: tuple[float, float, float, float]
    text: str

    @property
    def polygon(self) -> NDArray[np.float32]:
        left, top, right, bottom = self.box
        return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float32)

    @property
    def changed(self) -> NDArray[np.bool_]:
        """(H, W): where the stamp changed the photo noticeably."""
        difference = np.abs(self.pixels.astype(int) - self.clean.astype(int))
        return difference.max(axis=2) > 25

    @property
    def region(self) -> TextRegion:
        return TextRegion(
            polygon=[[float(x), float(y)] for x, y in self.polygon],
            text=self.text,
            confidence=0.99,
        )


def stamp(
    clean: Pixels,
    text: str = "2024-03-15",
    *,
    at: tuple[int, int],
    size: int = 22,
    colour: tuple[int, int, int] = STAMP,
) -> Stamped:
    """Opaque text drawn on a photo at (x, y)."""
    image = Image.fromarray(clean)
    font = ImageFont.load_default(size)
    draw = ImageDraw.Draw(image)
    draw.text(at, text, font=font, fill=colour)
    return Stamped(clean, np.array(image), draw.textbbox(at, text, font=font), text)


def encoded(pixels: Pixels, format: str = "PNG", **options: Any) -> bytes:
    """The bytes of an 8-bit photo as a file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, **options)
    return file.getvalue()


def encoded_16(pixels: Pixels) -> bytes:
    """16-bit PNG of (H, W, 3) uint16: Pillow has none."""
    return cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()


def decoded(data: bytes) -> Pixels:
    return np.array(Image.open(io.BytesIO(data)))


def psnr_at(reference: Pixels, test: Pixels, where: NDArray[np.bool_]) -> float:
    error = (reference.astype(float) - test.astype(float))[where]
    return float(10 * np.log10(255**2 / max(np.mean(error**2), 1e-9)))


class FakeDetector:
    """Finds what it was told to find, as long as the pixels there look as they did at first.

    Regions in a changed place count as gone: that is how a second look after a repair sees
    them. `calls` counts the looks.
    """

    def __init__(self, *stamps: Stamped, name: str = "rapidocr") -> None:
        self.spec = EngineSpec(
            name=name, kind="text_detector", model_id="fake-1", licence="Apache-2.0"
        )
        self.stamps = stamps
        self.calls = 0

    def detect(self, pixels: Pixels) -> list[TextRegion]:
        self.calls += 1
        found = []
        for each in self.stamps:
            left, top, right, bottom = (round(side) for side in each.box)
            ink = each.pixels[top:bottom, left:right]
            size = (pixels.shape[0] - ink.shape[0], pixels.shape[1] - ink.shape[1])
            if min(size) < 0:
                continue
            # A crop shows the text elsewhere: look for it, as OCR would.
            match = cv2.matchTemplate(pixels, np.ascontiguousarray(ink), cv2.TM_CCOEFF_NORMED)
            _, best, _, (x, y) = cv2.minMaxLoc(match)
            if best > 0.9:
                polygon = each.polygon - (left, top) + (x, y)
                region = [[float(x), float(y)] for x, y in polygon]
                found.append(each.region.model_copy(update={"polygon": region}))
        return found

    def read(self, line: Pixels) -> tuple[str, float]:
        return "", 0.0


class FakeFiller:
    """A filler that does what a function of (pixels, mask) says. `calls` counts its fills."""

    def __init__(
        self, name: str, work: Callable[[Pixels, Pixels], Pixels], *, model_id: str = "fake-1"
    ) -> None:
        self.spec = EngineSpec(
            name=name, kind="filler", model_id=model_id, licence="Apache-2.0", tiling="crop"
        )
        self._work = work
        self.calls = 0

    def fill(self, pixels: Pixels, mask: Pixels, **asked: Any) -> Pixels:
        self.calls += 1
        return self._work(pixels, mask)


class FakeEraser:
    """Finds what has the stamps' colour, and fills it. `calls` counts its looks for strokes;
    surveys are not among them."""

    def __init__(self, name: str = "eraser", *, model_id: str = "fake-1") -> None:
        self.spec = EngineSpec(
            name=name, kind="eraser", model_id=model_id, licence="Apache-2.0", tiling="crop"
        )
        self.calls = 0

    def survey(self, pixels: Pixels) -> TextMap:
        # Nearly that colour alone: the photos have yellow and brown things in them.
        overlay = np.where(_off_stamp(pixels) < 30, 255, 0).astype(np.uint8)
        return TextMap(overlay, np.zeros_like(overlay))

    def find(self, pixels: Pixels, region: Pixels) -> Found:
        self.calls += 1
        ink = (_off_stamp(pixels) < 90) & (region > 0)
        mask = dilate(np.where(ink, 255, 0).astype(np.uint8), 2) & region
        return Found(mask, 1.0 if ink.any() else 0.0)

    def restore(
        self, pixels: Pixels, mask: Pixels, *, opaque: bool = False, copies: object = None
    ) -> Pixels:
        planes = [
            cv2.inpaint(np.ascontiguousarray(plane), mask, 3, cv2.INPAINT_TELEA)
            for plane in np.moveaxis(pixels, 2, 0)
        ]
        return np.stack(planes, axis=2)


def _off_stamp(pixels: Pixels) -> NDArray[np.float64]:
    """(H, W) levels, of 255, between each pixel's colour and the stamps'."""
    levels = pixels.astype(float) * (255 / np.iinfo(pixels.dtype).max)
    return np.asarray(np.abs(levels - STAMP).max(axis=2))


class FakeUpscaler:
    """An upscaler that does what a function of (tile, scale) says."""

    def __init__(
        self, name: str, scale: int, work: Callable[[Pixels, int], Pixels], receptive: int = 8
    ) -> None:
        self.spec = EngineSpec(
            name=name,
            kind="upscaler",
            model_id=f"fake-x{scale}",
            licence="Apache-2.0",
            scale=scale,
            receptive=receptive,
            tiling="tiles",
            dtypes=("float32",),
        )
        self._work = work

    def enlarge(self, tile: Pixels) -> Pixels:
        return self._work(tile, self.spec.scale).astype(np.float32)


def painted(pixels: Pixels, mask: Pixels, colour: Any) -> Pixels:
    """A copy with one colour, or an array of colours, under the mask."""
    result = pixels.copy()
    result[mask > 0] = colour
    return result


def cubic(tile: Pixels, scale: int) -> Pixels:
    size = (tile.shape[1] * scale, tile.shape[0] * scale)
    return cv2.resize(tile, size, interpolation=cv2.INTER_CUBIC).reshape(*size[::-1], -1)


def default_font(folder: Path) -> Path:
    """A font file that is on every machine: the one inside Pillow."""
    font = ImageFont.load_default(size=20)
    assert isinstance(font, ImageFont.FreeTypeFont)
    path = folder / "aileron.otf"
    path.write_bytes(font.path.getvalue())  # type: ignore[union-attr]
    return path


def at_once(
    work: Callable[[Any], Any],
    items: Iterable[Any],
    *,
    initializer: Callable[..., None],
    initargs: tuple[Any, ...],
    **_: object,
) -> Iterator[Done[Any, Any]]:
    """`supervise` without processes, for tests of what stands around it."""
    initializer(*initargs)
    return (Done(item, result=work(item)) for item in items)
