"""Photo files to upright sRGB pixels. The only door through which foreign bytes come in."""

from __future__ import annotations

import errno
import io
import logging
import os
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageCms, ImageFile

from imgflow.errors import BadPhoto
from imgflow.imaging.colour import bands, to_uint8
from imgflow.imaging.metadata import read_orientation, read_rights
from imgflow.imaging.photo import Photo, Source
from imgflow.imaging.synthetic import read_generation

# What Pillow has to say about a photo becomes an error or a note here. Silenced once, because
# warnings.catch_warnings is not safe in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())


_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (8, b"WEBP", "WEBP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),
    (0, b"MM\0+", "TIFF"),
    (0, b"GIF87a", "GIF"),
    (0, b"GIF89a", "GIF"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypavis", "AVIF"),
    (4, b"ftypheic", "HEIF"),
    (4, b"ftypheix", "HEIF"),
    (4, b"ftypmif1", "HEIF"),
    (4, b"ftypmsf1", "HEIF"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG2000"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"8BPS", "PSD"),
    (0, b"\0\0\1\0", "ICO"),
)
_BMP_HEADER_SIZES = (12, 40, 52, 56, 64, 108, 124)

_COLOUR_MODES = {
    "1": "L",
    "L": "L",
    "LA": "L",
    "La": "L",
    "P": "RGB",
    "PA": "RGB",
    "RGB": "RGB",
    "RGBA": "RGB",
    "RGBa": "RGB",
    "RGBX": "RGB",
    "YCbCr": "RGB",
    "CMYK": "CMYK",
}
"""The modes that are read, and the mode in which their colour (without alpha) is converted."""

_PROFILE_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}

# Profiles that call themselves sRGB differ from each other by rounding.
_SAME_COLOUR = 2

_BITS_PER_SAMPLE, _PHOTOMETRIC, _ORIENTATION, _PLANAR = 258, 262, 274, 284
_EXTRA_SAMPLES, _SAMPLE_FORMAT, _TIFF_WIDTH, _TIFF_HEIGHT = 338, 339, 256, 257


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What is accepted at all. Beyond a limit is an error, never a silent reduction."""

    max_bytes: int = 256 << 20
    max_pixels: int = 100_000_000
    """Width times height, of one frame."""
    formats: tuple[str, ...] = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "GIF", "BMP", "AVIF")
    """Allow-list, by Pillow's names; only these decoders ever see the bytes."""


DEFAULT_LIMITS = DecodeLimits()


def read_photo_bytes(path: Path, limits: DecodeLimits = DEFAULT_LIMITS) -> bytes:
    """The bytes of a regular file, never more than the limit; a fifo or device does not hang.

    Raises BadPhoto: not_found, not_a_file, unreadable, zero_bytes, too_many_bytes.
    """
    try:
        # O_NONBLOCK: opening a fifo must not wait for a writer. Asking before opening keeps
        # devices, which may act on being opened, closed.
        _require_regular(path, path.stat())
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            _require_regular(path, status)
            _require_size(status.st_size, limits, str(path))
            data = file.read(limits.max_bytes + 1)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    _require_size(len(data), limits, str(path))
    return data


def sniff_format(head: bytes) -> str | None:
    """Image format that the first bytes (32 suffice) announce, or None. Not a promise.

    Knows more formats than are accepted, so that an error can name what a file is.
    """
    for offset, signature, name in _SIGNATURES:
        if head.startswith(signature, offset):
            return name
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADER_SIZES:
        return "BMP"
    return None


def decode(
    data: bytes, limits: DecodeLimits = DEFAULT_LIMITS, *, keep_16_bit: bool = False
) -> Photo:
    """Decode a photo: oriented, in sRGB, first frame only.

    The content decides about the format, whatever the file was called. The pixels have 3
    channels unless some pixel is not fully opaque: an alpha channel that is opaque throughout
    is dropped, which changes no look and therefore leaves `is_plain` alone.

    keep_16_bit: keep uint16 where the source has 16 bits a channel and needs no ICC
    conversion; otherwise 16 bits are rounded to 8, with a note.

    Memory: 4 bytes a pixel inside Pillow plus the result.

    Raises BadPhoto: zero_bytes, too_many_bytes, too_many_pixels (both before any pixel is
    decompressed), not_an_image, unsupported_format, truncated, damaged.
    """
    _require_size(len(data), limits)
    notes: list[str] = []
    image = _open(data, limits)
    try:
        source_frames = _frames(image)
        mode, bit_depth = image.mode, _bit_depth(image, data)
        width, height = image.size
        if image.format == "TIFF":
            # Pillow turns a TIFF while loading and then forgets that it did.
            tags = image.tag_v2  # type: ignore[attr-defined]
            width, height = int(tags[_TIFF_WIDTH]), int(tags[_TIFF_HEIGHT])
            tiff_orientation = tags.get(_ORIENTATION, 1)
        _require_readable_mode(image, bit_depth)
        image.load()
    except (BadPhoto, MemoryError):
        raise
    except Exception as error:  # any exception: decoders of hostile bytes raise everything
        raise _broken(data, error) from error

    orientation = read_orientation(image, notes)
    to_apply = orientation
    if image.format == "TIFF":
        orientation = tiff_orientation if tiff_orientation in range(1, 9) else 1
        to_apply = 1
    rights = read_rights(image, notes)
    generation = read_generation(image)
    profile = image.info.get("icc_profile") or None
    format_name = image.format or ""
    is_plain = (
        format_name in ("JPEG", "PNG", "WEBP")
        and mode in ("L", "LA", "RGB", "RGBA")
        and bit_depth == 8
        and source_frames == 1
        and orientation == 1
        and "transparency" not in image.info
        and not _ignored_gamma(image, notes)
    )
    if orientation != 1:
        notes.append(f"turned upright, as its EXIF orientation {orientation} says")
    if source_frames > 1:
        notes.append(f"first of {source_frames} frames used")

    wide: NDArray[np.uint16] | None = None
    if _is_wide(image, bit_depth):
        wide = _decode_wide(data)
        if format_name != "TIFF":  # OpenCV too has turned a TIFF already
            wide = _oriented(wide, to_apply)
        to_apply = 1
        image = None  # type: ignore[assignment]  # its pixels are the smaller copy: let go

    colour_mode = _COLOUR_MODES["RGB" if wide is not None and wide.ndim == 3 else _narrow(mode)]
    description, transform = _srgb_transform(profile, colour_mode, notes)
    if colour_mode == "CMYK" and transform is None:
        notes.append("CMYK converted to sRGB without a profile")

    if wide is not None and keep_16_bit and transform is None:
        pixels: NDArray[Any] = _as_colour(wide)
    else:
        if bit_depth > 8:
            notes.append(f"{bit_depth} bits a channel reduced to 8")
        if wide is not None:
            narrow = Image.fromarray(to_uint8(wide))
            wide = None
        else:
            narrow = image
        pixels = _to_srgb(narrow, colour_mode, transform, to_apply)
    pixels = _without_opaque_alpha(pixels)
    pixels.flags.writeable = False

    return Photo(
        pixels=pixels,
        source=Source(
            format=format_name,
            mode=mode,
            width=width,
            height=height,
            bit_depth=bit_depth,
            frames=source_frames,
            orientation=orientation,
            icc_description=description,
        ),
        rights=rights,
        icc_profile=profile,
        notes=tuple(notes),
        is_plain=is_plain and transform is None,
        generation=generation,
    )


# ---- what may come in ------------------------------------------------------------------


def _require_regular(path: Path, status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    kind = "a directory" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
    raise BadPhoto(
        "not_a_file",
        f"this is {kind}, not a photo file",
        hint="Remove it from the upload folder or rename it.",
        photo=str(path),
    )


def _require_size(count: int, limits: DecodeLimits, photo: str = "") -> None:
    if count == 0:
        raise BadPhoto(
            "zero_bytes",
            "the file is empty (0 bytes)",
            hint="Upload it again; the transfer probably broke off.",
            photo=photo,
        )
    if count > limits.max_bytes:
        raise BadPhoto(
            "too_many_bytes",
            f"the file is larger than the limit of {limits.max_bytes:,} bytes",
            hint="Upload a smaller file or raise the byte limit.",
            photo=photo,
        )


def _unreadable(path: Path, error: OSError | ValueError) -> BadPhoto:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return BadPhoto(
            "not_found",
            "there is no such file",
            hint="Check the path.",
            photo=str(path),
        )
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM):
        what, hint = "the file may not be read (no permission)", "Change its permissions."
    else:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        what, hint = f"the file cannot be read ({reason})", "Check the disk and the file's name."
    return BadPhoto("unreadable", what, hint=hint, photo=str(path))


def _looks_like(head: bytes) -> str:
    """What bytes that are no image seem to be, in words for a person."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:512].lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "an HTML page"
    if b"<svg" in start:
        return "an SVG drawing"
    if start.startswith(b"<?xml"):
        return "an XML file" if b"<html" not in start else "an HTML page"
    if head.startswith(b"%PDF"):
        return "a PDF document"
    if head.startswith(b"PK\x03\x04"):
        return "a zip archive or office document"
    if head.startswith(b"\x1f\x8b"):
        return "a gzip archive"
    if head[4:8] == b"ftyp":
        return "a video"
    if not head.strip(b"\0"):
        return "nothing but zero bytes"
    try:
        head[:512].decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < min(len(head), 512) - 3:
            return "unknown binary data"
    return "unknown binary data" if b"\0" in head[:512] else "text"


def _open(data: bytes, limits: DecodeLimits) -> ImageFile.ImageFile:
    """Read the header with the one decoder that the signature names, and check it."""
    name = sniff_format(data[:64])
    if name is None:
        raise BadPhoto(
            "not_an_image",
            f"this is not an image: it looks like {_looks_like(data[:1024])}",
            hint="Upload the photo itself.",
        )
    if name not in limits.formats:
        raise _unsupported(f"{name} files are not accepted", limits)
    try:
        # Not Image.open: it judges the size by a limit that all threads of the process share.
        Image.init()  # Pillow's format plugins, once a process
        image = Image.OPEN[name][0](io.BytesIO(data), "")
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_many_pixels(str(error), limits) from error
    except Exception as error:  # any exception: decoders of hostile bytes raise everything
        raise _broken(data, error) from error
    if image.format not in limits.formats:
        raise _unsupported(f"{image.format} files are not accepted", limits)
    width, height = image.size
    if width * height > limits.max_pixels:
        raise _too_many_pixels(f"the photo has {width:,} x {height:,} pixels", limits)
    if width < 1 or height < 1:
        raise BadPhoto("damaged", "the file says that the photo has no pixels")
    return image


def _unsupported(what: str, limits: DecodeLimits) -> BadPhoto:
    return BadPhoto(
        "unsupported_format", what, hint=f"Convert it to one of {', '.join(limits.formats)}."
    )


def _too_many_pixels(what: str, limits: DecodeLimits) -> BadPhoto:
    return BadPhoto(
        "too_many_pixels",
        f"{what}; the limit is {limits.max_pixels:,} in all",
        hint="Upload a smaller version or raise the pixel limit.",
    )


def _broken(data: bytes, error: Exception) -> BadPhoto:
    cut_webp = data[:4] == b"RIFF" and int.from_bytes(data[4:8], "little") + 8 > len(data)
    if cut_webp or isinstance(error, EOFError) or "truncated" in str(error).lower():
        return BadPhoto(
            "truncated",
            "the file ends before the photo does",
            hint="Upload it again; the transfer probably broke off.",
        )
    return BadPhoto(
        "damaged",
        f"the file is damaged and cannot be decoded ({error or type(error).__name__})",
        hint="Export the photo again from its source.",
    )


def _require_readable_mode(image: ImageFile.ImageFile, bit_depth: int) -> None:
    if image.mode in _COLOUR_MODES or _is_wide(image, bit_depth):
        return
    raise BadPhoto(
        "unsupported_format",
        f"{image.format} with pixels of type {image.mode} has no stated range of brightness",
        hint="Save it with 8 or 16 bits a channel, grey or RGB.",
    )


# ---- what the header says --------------------------------------------------------------


def _frames(image: ImageFile.ImageFile) -> int:
    return int(getattr(image, "n_frames", 1))


def _bit_depth(image: ImageFile.ImageFile, data: bytes) -> int:
    if image.format == "PNG":
        return data[24]
    if image.format == "TIFF":
        return int(max(image.tag_v2.get(_BITS_PER_SAMPLE, (1,))))  # type: ignore[attr-defined]
    if image.format == "AVIF":
        # The flags byte of the AV1 configuration: high_bitdepth, then twelve_bit.
        flags = data[position + 6] if 0 < (position := data.find(b"av1C")) < len(data) - 6 else 0
        return (12 if flags & 0x20 else 10) if flags & 0x40 else 8
    return 1 if image.mode == "1" else 8


def _ignored_gamma(image: ImageFile.ImageFile, notes: list[str]) -> bool:
    """Whether a PNG asks for a gamma other than sRGB's, which browsers apply and we do not."""
    if image.format != "PNG" or "srgb" in image.info or image.info.get("icc_profile"):
        return False
    gamma = image.info.get("gamma", 1 / 2.2)
    if abs(gamma - 1 / 2.2) < 0.01:
        return False
    notes.append(f"PNG gamma {gamma:.3f} ignored, sRGB assumed")
    return True


def _narrow(mode: str) -> str:
    return "L" if mode.startswith("I;16") else mode


# ---- 16 bits ---------------------------------------------------------------------------


def _is_wide(image: ImageFile.ImageFile, bit_depth: int) -> bool:
    """Whether OpenCV reads this file's 16 bits a channel as they are meant.

    Pillow has no 16-bit RGB. A 16-bit file of a rarer kind goes through Pillow at 8 bits.
    """
    if bit_depth != 16:
        return False
    if image.format == "PNG":
        return True
    if image.format != "TIFF":
        return False
    tags = image.tag_v2  # type: ignore[attr-defined]
    return (
        tags.get(_PHOTOMETRIC) in (1, 2)
        and tags.get(_PLANAR, 1) == 1
        and tuple(tags.get(_EXTRA_SAMPLES, ())) in ((), (2,))
        and set(tags.get(_SAMPLE_FORMAT, (1,))) == {1}
        and len(tags.get(_BITS_PER_SAMPLE, ())) in (1, 3, 4)
    )


def _decode_wide(data: bytes) -> NDArray[np.uint16]:
    """(H, W) or (H, W, 3|4) uint16, channels in RGB order, of a file that Pillow could load.

    OpenCV may return half a picture for half a file; that Pillow read it whole is the check.
    """
    try:
        wide = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise _broken(data, error) from error
    if wide is None or wide.dtype != np.uint16:
        raise BadPhoto("damaged", "the 16-bit pixels cannot be decoded")
    if wide.ndim == 3:
        to_rgb = cv2.COLOR_BGR2RGB if wide.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
        cv2.cvtColor(wide, to_rgb, dst=wide)
    return wide  # type: ignore[return-value]


# ---- to upright sRGB -------------------------------------------------------------------


def _oriented(stored: NDArray[Any], orientation: int) -> NDArray[Any]:
    """View of stored pixels as the EXIF orientation wants them seen."""
    match orientation:
        case 2:
            return stored[:, ::-1]
        case 3:
            return stored[::-1, ::-1]
        case 4:
            return stored[::-1]
        case 5:
            return stored.swapaxes(0, 1)
        case 6:
            return stored.swapaxes(0, 1)[:, ::-1]
        case 7:
            return stored[::-1, ::-1].swapaxes(0, 1)
        case 8:
            return stored.swapaxes(0, 1)[::-1]
        case _:
            return stored


def _srgb_transform(
    profile: bytes | None, colour_mode: str, notes: list[str]
) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """The profile's description, and the way to sRGB unless there is nothing to convert."""
    if profile is None:
        return "", None
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        description = ImageCms.getProfileDescription(opened).strip()
        space = opened.profile.xcolor_space.strip()
        if space != _PROFILE_SPACES[colour_mode]:
            notes.append(f"ICC profile is for {space} pixels and was ignored, sRGB assumed")
            return description, None
        transform = ImageCms.buildTransform(
            opened,
            ImageCms.createProfile("sRGB"),
            colour_mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        notes.append(f"ICC profile is broken and was ignored, sRGB assumed ({error})")
        return "", None
    if colour_mode != "CMYK" and _changes_nothing(transform, colour_mode):
        return description, None
    notes.append(f"converted to sRGB from ICC profile {description or 'without a name'}")
    return description, transform


def _changes_nothing(transform: ImageCms.ImageCmsTransform, colour_mode: str) -> bool:
    """Whether a transform leaves a grid over all colours as it is: the profile is sRGB."""
    levels = np.arange(0, 256, 17, dtype=np.uint8)
    grid = levels[None] if colour_mode == "L" else np.stack(np.meshgrid(*[levels] * 3), -1)
    probe = grid if colour_mode == "L" else grid.reshape(1, -1, 3)
    after = np.asarray(transform.apply(Image.fromarray(probe)))
    before = _as_colour(probe)
    return int(np.abs(after.astype(int) - before).max()) <= _SAME_COLOUR


def _to_srgb(
    image: Image.Image,
    colour_mode: str,
    transform: ImageCms.ImageCmsTransform | None,
    orientation: int,
) -> NDArray[np.uint8]:
    """(H, W, 3|4) uint8, upright sRGB. In bands, so that no second full picture exists."""
    width, height = image.size
    channels = 4 if image.has_transparency_data else 3
    shape = (width, height) if orientation >= 5 else (height, width)
    upright = np.empty((*shape, channels), np.uint8)
    # Writing into the upright array as if it lay as stored turns the photo without a copy.
    stored = _oriented(upright, {6: 8, 8: 6}.get(orientation, orientation))
    # Adobe stores CMYK inverted and says so by its marker; Pillow inverts all of them.
    inverted = image.format == "JPEG" and image.mode == "CMYK" and "adobe" not in image.info
    for rows in bands(height):
        band = image.crop((0, rows.start, width, rows.stop))
        if band.mode in ("La", "RGBa"):
            band = band.convert(band.mode.upper())
        if channels == 4:
            stored[rows, :, 3] = np.asarray(band.convert("RGBA").getchannel("A"))
        colour = band.convert(colour_mode)
        if inverted:
            colour = ImageChops.invert(colour)
        if transform is not None:
            colour = transform.apply(colour)
        elif colour_mode == "CMYK":
            colour = colour.convert("RGB")
        values = np.asarray(colour)
        stored[rows, :, :3] = values[:, :, None] if values.ndim == 2 else values
    return upright


def _as_colour(pixels: NDArray[Any]) -> NDArray[Any]:
    """Contiguous (H, W, 3|4) of (H, W) grey or (H, W, 3|4) colour."""
    if pixels.ndim == 2:
        return np.repeat(pixels[:, :, None], 3, axis=2)
    return np.ascontiguousarray(pixels)


def _without_opaque_alpha(pixels: NDArray[Any]) -> NDArray[Any]:
    if pixels.shape[2] == 4 and pixels[..., 3].min() == np.iinfo(pixels.dtype).max:
        return np.ascontiguousarray(pixels[..., :3])
    return pixels
