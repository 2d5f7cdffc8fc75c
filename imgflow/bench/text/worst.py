"""The worst cases of `imgflow bench text` as one picture: before, after, truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from imgflow.bench.text.cases import Pixels, Sources, Where, overlay_case, plain_case
from imgflow.bench.text.results import OverlayResult, PlainResult, TextBench
from imgflow.files import replacing
from imgflow.imaging.decode import decode
from imgflow.imaging.masks import mask_box

_COUNT = 20
_ACROSS = 2  # cases side by side
_CELL = (384, 288)  # width, height of one picture
_CAPTION = 40
_GAP = 8
_AROUND = 40  # pixels of the photo that are shown around what is looked at
_PAPER = (250, 250, 250)
_INK = (20, 20, 20)


def write_worst(bench: TextBench, sources: Sources, pictures: Path, folder: Path) -> Path:
    """Write the worst cases as one PNG into a folder. pictures: as `bench_text` left them.

    Raises ImgflowError where it cannot be written.
    """
    rows = [_shown(each, sources, pictures) for each in worst(bench)]
    path = folder / "worst.png"
    with replacing(path) as partial:
        _sheet(rows).save(partial, "PNG")
    return path


def worst(bench: TextBench) -> list[OverlayResult | PlainResult]:
    """The worst of the automatic line: photos without overlay that it altered (most pixels first),
    overlays that slipped through, and those that a person will see (least gain first)."""
    altered = sorted((each for each in bench.plain if each.changed), key=lambda each: -each.changed)

    def badness(result: OverlayResult) -> tuple[bool, bool, float]:
        return result.good(result.line), result.line.stopped, result.gain(result.line)

    found: list[OverlayResult | PlainResult] = [*altered, *sorted(bench.overlays, key=badness)]
    return found[:_COUNT]


@dataclass(frozen=True, slots=True)
class _Row:
    """Three pictures, (H, W, 3), of which the part around `where` (H, W) is shown."""

    caption: str
    before: Pixels
    after: Pixels
    truth: Pixels
    where: Where


def _shown(result: OverlayResult | PlainResult, sources: Sources, pictures: Path) -> _Row:
    if isinstance(result, PlainResult):
        plain = plain_case(sources, result.number)
        caption = f"{result.number} {plain.what}, no overlay\n{result.changed} pixels altered"
        after = _pixels(pictures / f"plain-{result.number}.png")
        before = plain.upload.pixels
        return _Row(caption, before, after, before, (before != after).any(axis=2))
    case = overlay_case(sources, result.number)
    after = _pixels(pictures / f"overlay-{result.number}.png")
    return _Row(_caption(result), case.upload.pixels, after, case.truth, case.region)


def _caption(result: OverlayResult) -> str:
    line, before = result.line, result.before
    fate = f"to a person ({line.why})" if line.stopped else "came out"
    fault = "good" if result.good(line) else result.fault(line)
    return (
        f"{result.number} {result.kind}, {'opaque' if result.opaque else 'translucent'}: "
        f"PSNR {before.psnr:.1f} > {line.nearness.psnr:.1f} dB, "
        f"SSIM {before.ssim:.3f} > {line.nearness.ssim:.3f}, "
        f"HaarPSI {before.haarpsi:.3f} > {line.nearness.haarpsi:.3f}\n{fate}; {fault}"
    )


def _pixels(path: Path) -> Pixels:
    return decode(path.read_bytes()).pixels


def _sheet(rows: Sequence[_Row]) -> Image.Image:
    width = 3 * _CELL[0] + _GAP
    height = _CELL[1] + _CAPTION + _GAP
    down = max(-(-len(rows) // _ACROSS), 1)
    sheet = Image.new("RGB", (_ACROSS * width, down * height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(14)
    for place, row in enumerate(rows):
        left, top = place % _ACROSS * width, place // _ACROSS * height
        draw.multiline_text((left + 2, top + 2), row.caption, font=font, fill=_INK)
        box = mask_box(np.where(row.where, np.uint8(255), np.uint8(0)))
        assert box is not None
        part = box.padded(_AROUND, *row.where.shape).slices
        for column, pixels in enumerate((row.before, row.after, row.truth)):
            image = Image.fromarray(np.ascontiguousarray(pixels[part]))
            fitted = ImageOps.contain(image, (_CELL[0] - _GAP, _CELL[1]))
            sheet.paste(fitted, (left + column * _CELL[0], top + _CAPTION))
    return sheet
