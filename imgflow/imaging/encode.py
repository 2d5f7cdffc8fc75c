"""Pixels to files: lossless objects and masks for the store, renditions for the world."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from imgflow.errors import BadMask, BadPhoto
from imgflow.imaging.colour import bands, flatten, luma, to_uint8
from imgflow.imaging.decode import DEFAULT_LIMITS, DecodeLimits, decode
from imgflow.imaging.photo import Rights

RenditionFormat = Literal["jpeg", "webp", "png", "avif"]

# Measured on 5-megapixel photos, one thread, against other PNG levels, strategies and filters
# and lossless WebP: the fastest on a product on white. Huffman-only is a fifth faster on a
# noisy photo, but much slower and larger on white.
_FAST_PNG = [
    cv2.IMWRITE_PNG_COMPRESSION,
    1,
    cv2.IMWRITE_PNG_STRATEGY,
    cv2.IMWRITE_PNG_STRATEGY_RLE,
    cv2.IMWRITE_PNG_FILTER,
    cv2.IMWRITE_PNG_FILTER_UP,
]

# Bytes of pixels from which on no copy is made.
_LARGE = 64 << 20

_FULL_CHROMA_QUALITY = 90
"""From this quality on colour is stored as sharply as brightness (4:4:4)."""


_INCH = 2
"""The inch among EXIF's units of resolution."""


def encode_lossless(pixels: NDArray[Any]) -> bytes:
    """PNG of (H, W), (H, W, 3) or (H, W, 4) pixels, uint8 or uint16: same pixels, same bytes.

    No other thread may read large pixels meanwhile: they are put into the encoder's order and
    back. Raises ValueError for any other shape or type.
    """
    if pixels.dtype not in (np.uint8, np.uint16) or not pixels.size:
        raise ValueError(f"cannot store {pixels.dtype} pixels of shape {pixels.shape}")
    if pixels.ndim != 2 and (pixels.ndim != 3 or pixels.shape[2] not in (3, 4)):
        raise ValueError(f"cannot store {pixels.dtype} pixels of shape {pixels.shape}")
    with _in_opencv_order(pixels) as ordered:
        _, encoded = cv2.imencode(".png", ordered, _FAST_PNG)
    return encoded.tobytes()


@contextmanager
def _in_opencv_order(pixels: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Blue first. What is so large that a copy could be one too many is turned round in its own
    memory, and back at the end."""
    if pixels.ndim == 2:
        yield pixels
        return
    code = cv2.COLOR_RGB2BGR if pixels.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
    if pixels.nbytes < _LARGE or not (pixels.flags.c_contiguous and pixels.flags.writeable):
        yield cv2.cvtColor(pixels, code)
        return
    _turn_round(pixels, code)
    try:
        yield pixels
    finally:
        _turn_round(pixels, code)


def _turn_round(pixels: NDArray[Any], code: int) -> None:
    for rows in bands(len(pixels)):
        pixels[rows] = cv2.cvtColor(pixels[rows], code)


def encode_mask(mask: NDArray[np.uint8]) -> bytes:
    """8-bit single-channel PNG of a (H, W) uint8 mask of 0 and 255.

    Raises ValueError for anything else: a mask with greys has no meaning.
    """
    if mask.ndim != 2 or mask.dtype != np.uint8 or not ((mask == 0) | (mask == 255)).all():
        raise ValueError("a mask is (H, W) uint8 with the values 0 and 255 only")
    return encode_lossless(mask)


def decode_mask(data: bytes, limits: DecodeLimits = DEFAULT_LIMITS) -> NDArray[np.uint8]:
    """(H, W) uint8, 0 or 255, of a mask file as people paint it: any accepted format and mode.

    255 is where the luma is above 127. Where the colour is one and the same all over and only
    the alpha varies, the alpha decides instead; otherwise transparent pixels are not masked.

    Raises BadMask, code mask_unreadable.
    """
    try:
        pixels = to_uint8(decode(data, limits).pixels)
    except BadPhoto as error:
        raise BadMask(
            "mask_unreadable",
            f"the mask cannot be read: {error.what}",
            hint=error.hint or "Save it as an 8-bit PNG, white where to repair.",
        ) from error
    if pixels.shape[2] == 4:
        if (pixels[..., :3] == pixels[0, 0, :3]).all():
            marked = pixels[..., 3] > 127
        else:
            marked = luma(flatten(pixels, (0, 0, 0))) > 127
    else:
        marked = luma(pixels) > 127
    return np.where(marked, np.uint8(255), np.uint8(0))


def encode_rendition(
    pixels: NDArray[Any],
    *,
    format: RenditionFormat,
    quality: int,
    dpi: int | None,
    background: tuple[int, int, int],
    rights: Rights,
    progressive: bool = True,
    lossless: bool = False,
    xmp: bytes = b"",
) -> bytes:
    """A deliverable file of (H, W, 3|4) pixels: 8-bit sRGB with its ICC profile, deterministic.

    quality: 1..100; PNG is lossless and ignores it. From 90 on chroma is 4:4:4 (WebP cannot
    do that and uses its sharp chroma subsampling instead).
    dpi: in the file's own field in JPEG and PNG, in EXIF in WebP and AVIF, which have none.
    background: 8-bit RGB behind transparent pixels in JPEG; the other formats keep alpha.
    rights: copyright and creator, as EXIF in UTF-8.
    progressive: JPEG only.
    lossless: WebP; colours that alpha hides altogether are not kept. PNG always is. JPEG and this
    AVIF encoder, which stores colour as luma and chroma, never are.
    xmp: a packet; empty for none. A JPEG holds at most 65,502 bytes of it.

    Raises ValueError for an unknown format, a quality out of range or what cannot be lossless.
    """
    if not 1 <= quality <= 100:
        raise ValueError(f"quality is 1 to 100, not {quality}")
    if lossless and format in ("jpeg", "avif"):
        raise ValueError(f"{format} is never lossless: use webp or png")
    full_chroma = quality >= _FULL_CHROMA_QUALITY
    options: dict[str, Any]
    match format:
        case "jpeg":
            pixels = flatten(pixels, background)
            options = {
                "quality": quality,
                "subsampling": "4:4:4" if full_chroma else "4:2:0",
                "progressive": progressive,
                "optimize": True,
            }
        case "webp" if lossless:
            # Here quality is the effort that is taken.
            options = {"lossless": True, "quality": 75, "method": 4}
        case "webp":
            options = {"quality": quality, "method": 4, "use_sharp_yuv": full_chroma}
        case "png":
            options = {"compress_level": 6}
        case "avif":
            # One thread: the bytes must not depend on the number of cores.
            options = {
                "quality": quality,
                "subsampling": "4:4:4" if full_chroma else "4:2:0",
                "speed": 6,
                "max_threads": 1,
            }
        case _:
            raise ValueError(f"no rendition format {format!r}: use jpeg, webp, png or avif")
    exif = _rights_exif(rights)
    if dpi is not None and format in ("jpeg", "png"):
        options["dpi"] = (dpi, dpi)
    elif dpi is not None:
        _add_resolution(exif, dpi)
    if len(exif):
        options["exif"] = exif
    if xmp and format == "png":
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode())
    elif xmp:
        options["xmp"] = xmp
    file = io.BytesIO()
    Image.fromarray(to_uint8(pixels)).save(
        file, format.upper(), icc_profile=_srgb_profile(), **options
    )
    return file.getvalue()


def _rights_exif(rights: Rights) -> Image.Exif:
    exif = Image.Exif()
    for tag, text in (
        (ExifTags.Base.Copyright, rights.copyright),
        (ExifTags.Base.Artist, rights.creator),
    ):
        if text:
            # As bytes: Pillow would write a question mark for every letter beyond ASCII.
            exif[tag] = text.encode("utf-8")
    return exif


def _add_resolution(exif: Image.Exif, dpi: int) -> None:
    exif[ExifTags.Base.XResolution] = exif[ExifTags.Base.YResolution] = dpi
    exif[ExifTags.Base.ResolutionUnit] = _INCH


@functools.cache
def _srgb_profile() -> bytes:
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    # The header's creation time (bytes 24 to 35) is now; fixed, so that bytes repeat.
    profile[24:36] = bytes.fromhex("07d0 0001 0001 0000 0000 0000")
    return bytes(profile)
