"""What comes in: every kind of photo, and every kind of file that is none."""

import io
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from imgflow.errors import BadPhoto
from imgflow.imaging.decode import (
    DEFAULT_LIMITS,
    DecodeLimits,
    decode,
    read_photo_bytes,
    sniff_format,
)
from imgflow.imaging.encode import encode_lossless
from imgflow.imaging.photo import Rights

RNG = np.random.default_rng(7)
COLOUR = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
WIDE = RNG.integers(0, 65536, (6, 9, 3), dtype=np.uint16)

# The definition of EXIF's orientation: how the stored array is to be turned.
TURNED = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}


def saved(image, format="PNG", **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def with_chunk(png, kind, body):
    chunk = struct.pack(">I", len(body)) + kind + body
    return png[:33] + chunk + struct.pack(">I", zlib.crc32(kind + body)) + png[33:]


def code_of(data, limits=DEFAULT_LIMITS):
    with pytest.raises(BadPhoto) as caught:
        decode(data, limits)
    assert str(caught.value)
    return caught.value.code


def matrix_profile(gamma, columns):
    """A minimal ICC v2 display profile: three XYZ columns (D50) and one gamma."""

    def fixed(value):
        return struct.pack(">i", round(value * 65536))

    bodies = {b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78)}
    bodies[b"cprt"] = b"text" + bytes(4) + b"none\0"
    bodies[b"wtpt"] = b"XYZ " + bytes(4) + b"".join(map(fixed, (0.9642, 1.0, 0.8249)))
    for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True):
        bodies[name] = b"XYZ " + bytes(4) + b"".join(map(fixed, column))
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))
    bodies |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    table, content, offset = b"", b"", 128 + 4 + 12 * len(bodies)
    for name, body in bodies.items():
        body += bytes(-len(body) % 4)
        table += name + struct.pack(">II", offset + len(content), len(body))
        content += body
    size = offset + len(content)
    header = struct.pack(">I4sI4s4s4s", size, b"test", 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28)
    header += b"".join(map(fixed, (0.9642, 1.0, 0.8249)))
    return header.ljust(128, b"\0") + struct.pack(">I", len(bodies)) + table + content


ADOBE_RGB = matrix_profile(
    2.2, ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


# ---- plain photos ----------------------------------------------------------------------


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP"])
def test_rgb_is_read_exactly(format):
    photo = decode(saved(COLOUR, format))
    assert (photo.pixels == COLOUR).all()
    assert not photo.pixels.flags.writeable
    assert photo.notes == ()
    assert photo.is_plain is (format == "PNG")
    assert (photo.source.width, photo.source.height) == (9, 6)
    assert (photo.source.format, photo.source.mode, photo.source.bit_depth) == (format, "RGB", 8)


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "AVIF", "GIF"])
def test_other_formats_are_read_as_pillow_reads_them(format):
    data = saved(np.repeat(COLOUR, 8, 0).repeat(8, 1), format)
    photo = decode(data)
    assert photo.source.format == format
    assert (photo.pixels == np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))).all()
    assert photo.is_plain is (format in ("JPEG", "WEBP"))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF"])
def test_grey_becomes_three_equal_channels(format):
    photo = decode(saved(Image.new("L", (4, 3), 77), format))
    assert (photo.pixels == 77).all()
    assert photo.pixels.shape == (3, 4, 3)


def test_one_bit_grey_with_alpha_and_bands_of_a_tall_photo():
    ones = decode(saved(Image.fromarray(np.eye(5, dtype=bool)), "PNG"))
    assert (ones.pixels[..., 1] == np.eye(5) * 255).all()
    assert ones.source.bit_depth == 1
    grey = decode(saved(Image.new("LA", (3, 3), (9, 100))))
    assert (grey.pixels == (9, 9, 9, 100)).all()
    tall = RNG.integers(0, 256, (700, 3, 4), dtype=np.uint8)
    assert (decode(saved(tall)).pixels == tall).all()


def test_palette_with_transparency_becomes_rgba():
    image = Image.new("P", (4, 2), 1)
    image.putpalette([255, 0, 0, 0, 128, 0])
    image.putpixel((0, 0), 0)
    photo = decode(saved(image, transparency=bytes([40, 255])))
    assert tuple(photo.pixels[0, 0]) == (255, 0, 0, 40)
    assert tuple(photo.pixels[1, 3]) == (0, 128, 0, 255)
    assert (decode(saved(image)).pixels[1, 3] == (0, 128, 0)).all()


def test_a_colour_key_is_transparency_and_not_plain():
    data = saved(COLOUR, transparency=tuple(int(v) for v in COLOUR[2, 3]))
    photo = decode(data)
    assert photo.pixels[2, 3, 3] == 0
    assert photo.pixels[0, 0, 3] == 255
    assert not photo.is_plain


def test_opaque_alpha_is_dropped_and_stays_plain():
    photo = decode(saved(np.dstack([COLOUR, np.full((6, 9), 255, np.uint8)])))
    assert (photo.pixels == COLOUR).all()
    assert photo.is_plain


def test_gamma_that_a_browser_would_apply_is_not_plain():
    photo = decode(with_chunk(saved(COLOUR), b"gAMA", struct.pack(">I", 100000)))
    assert not photo.is_plain
    assert "gamma" in photo.notes[0]


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_only_the_first_frame_of_an_animation_is_used(format):
    frames = [Image.new("RGB", (8, 8), c) for c in ("red", "blue", "green")]
    options = {"lossless": True} if format == "WEBP" else {}
    photo = decode(saved(frames[0], format, save_all=True, append_images=frames[1:], **options))
    assert (photo.pixels == (255, 0, 0)).all()
    assert photo.source.frames == 3
    assert "first of 3 frames used" in photo.notes
    assert not photo.is_plain


def test_the_first_picture_of_an_mpo_is_used():
    frames = [Image.new("RGB", (16, 16), c) for c in ("white", "black")]
    photo = decode(saved(frames[0], "MPO", save_all=True, append_images=frames[1:]))
    assert photo.source.format == "MPO"
    assert photo.pixels.min() == 255


# ---- orientation and metadata ----------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "JPEG"])
def test_orientation_is_applied(format, orientation):
    options = {"lossless": True} if format == "WEBP" else {}
    plain = decode(saved(COLOUR, format, **options)).pixels
    photo = decode(saved(COLOUR, format, exif=exif(orientation), **options))
    assert (photo.pixels == TURNED[orientation](plain)).all()
    assert photo.source.orientation == orientation
    assert (photo.source.width, photo.source.height) == (9, 6)
    assert photo.is_plain is (orientation == 1 and format != "TIFF")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_orientation_is_applied_to_16_bits(format, orientation):
    if format == "PNG":
        tags = exif(orientation).tobytes().removeprefix(b"Exif\0\0")
        data = with_chunk(encode_lossless(WIDE), b"eXIf", tags)
    else:
        file = io.BytesIO()
        extra = [(274, "H", 1, orientation, True)]
        tifffile.imwrite(file, WIDE, photometric="rgb", extratags=extra)
        data = file.getvalue()
    photo = decode(data, keep_16_bit=True)
    assert photo.pixels.dtype == np.uint16
    assert (photo.pixels == TURNED[orientation](WIDE)).all()
    assert photo.source.orientation == orientation


@pytest.mark.parametrize("broken", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\x7f"])
def test_broken_exif_does_not_cost_the_photo(broken):
    photo = decode(saved(COLOUR, "PNG", exif=broken))
    assert (photo.pixels == COLOUR).all()


def test_senseless_orientation_is_noted():
    photo = decode(saved(COLOUR, exif=exif(77)))
    assert (photo.pixels == COLOUR).all()
    assert "orientation" in photo.notes[0]


XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    'xmlns:dc="http://purl.org/dc/elements/1.1/" '
    'xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" photoshop:Credit="Agentur Süd">'
    '<dc:rights><rdf:Alt><rdf:li xml:lang="x-default">© Shop</rdf:li></rdf:Alt></dc:rights>'
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
).encode()


def test_rights_come_from_xmp_and_exif_together():
    tags = Image.Exif()
    tags[0x8298], tags[0x013B] = b"older", "Zoë".encode()
    photo = decode(saved(COLOUR, "JPEG", exif=tags, xmp=XMP))
    assert photo.rights == Rights(copyright="© Shop", creator="Zoë", credit="Agentur Süd")


def test_xmp_that_declares_entities_is_ignored_with_a_note():
    bomb = b'<!DOCTYPE a [<!ENTITY b "bbbb">]>' + XMP
    photo = decode(saved(COLOUR, "JPEG", xmp=bomb))
    assert photo.rights == Rights()
    assert "XMP" in photo.notes[0]


# ---- 16 bits ---------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bits_are_kept_exactly_or_rounded(format, channels):
    pixels = RNG.integers(0, 65536, (150, 9, channels), dtype=np.uint16)
    data = encode_lossless(pixels)
    if format == "TIFF":
        file = io.BytesIO()
        extra = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
        tifffile.imwrite(file, pixels, photometric="rgb", **extra)
        data = file.getvalue()
    kept = decode(data, keep_16_bit=True)
    assert kept.pixels.dtype == np.uint16
    assert (kept.pixels == pixels).all()
    assert (kept.source.bit_depth, kept.notes, kept.is_plain) == (16, (), False)
    reduced = decode(data)
    assert (reduced.pixels == np.rint(pixels / 257)).all()
    assert "16 bits a channel reduced to 8" in reduced.notes


def test_16_bit_grey_is_kept():
    for format in ("PNG", "TIFF"):
        data = saved(Image.fromarray(WIDE[..., 0].copy()), format)
        assert (decode(data, keep_16_bit=True).pixels == WIDE[..., :1]).all()


def test_16_bit_colour_key_is_transparency():
    key = struct.pack(">3H", *(int(v) for v in WIDE[0, 0]))
    photo = decode(with_chunk(encode_lossless(WIDE), b"tRNS", key), keep_16_bit=True)
    assert photo.pixels.shape[2] == 4
    assert (photo.pixels[..., 3] == 0).sum() == 1
    assert photo.pixels[0, 0, 3] == 0


def test_a_16_bit_file_cut_short_is_truncated():
    data = encode_lossless(RNG.integers(0, 65536, (80, 80, 3), dtype=np.uint16))
    assert code_of(data[: len(data) // 2]) == "truncated"


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_without_a_stated_range_are_refused(mode):
    assert code_of(saved(Image.new(mode, (4, 4), 1), "TIFF")) == "unsupported_format"


# ---- colour ----------------------------------------------------------------------------


def test_a_wider_profile_is_converted_to_srgb():
    stored = np.array([150, 180, 120])
    photo = decode(saved(Image.new("RGB", (5, 5), tuple(stored.tolist())), icc_profile=ADOBE_RGB))
    # The published way from linear Adobe RGB (1998) to linear sRGB, then sRGB's curve.
    matrix = np.array([[1.39836, -0.39836, 0], [0, 1, 0], [0, -0.04293, 1.04293]])
    linear = matrix @ (stored / 255) ** 2.2
    expected = 255 * (1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(photo.pixels[2, 2] - expected).max() <= 1.5
    assert np.abs(expected - stored).max() > 10
    assert photo.icc_profile == ADOBE_RGB
    assert photo.source.icc_description == "test"
    assert any("converted to sRGB" in note for note in photo.notes)
    assert not photo.is_plain


def test_the_srgb_profile_changes_nothing():
    photo = decode(saved(COLOUR, icc_profile=SRGB))
    assert (photo.pixels == COLOUR).all()
    assert photo.is_plain
    assert photo.icc_profile == SRGB


def test_conversion_keeps_alpha_and_takes_16_bits_to_8():
    pixels = RNG.integers(0, 256, (6, 9, 4), dtype=np.uint8)
    photo = decode(saved(pixels, icc_profile=ADOBE_RGB))
    assert (photo.pixels[..., 3] == pixels[..., 3]).all()
    assert (photo.pixels[..., :3] != pixels[..., :3]).any()
    body = b"test\0\0" + zlib.compress(ADOBE_RGB)
    wide = decode(with_chunk(encode_lossless(WIDE), b"iCCP", body), keep_16_bit=True)
    assert wide.pixels.dtype == np.uint8
    assert "16 bits a channel reduced to 8" in wide.notes


@pytest.mark.parametrize("profile", [b"garbage", SRGB[:200]])
def test_a_broken_profile_is_noted_and_the_pixels_kept(profile):
    photo = decode(saved(COLOUR, icc_profile=profile))
    assert (photo.pixels == COLOUR).all()
    assert any("ICC profile is broken" in note for note in photo.notes)


def test_a_profile_for_other_pixels_is_noted_and_ignored():
    photo = decode(saved(Image.new("L", (4, 4), 50), icc_profile=ADOBE_RGB))
    assert (photo.pixels == 50).all()
    assert any("was ignored" in note for note in photo.notes)


INKS = {"cyan": (255, 0, 0, 0), "red": (0, 255, 255, 0), "black": (0, 0, 0, 255), "white": (0,) * 4}
LIGHT = {"cyan": (0, 255, 255), "red": (255, 0, 0), "black": (0, 0, 0), "white": (255,) * 3}


@pytest.mark.parametrize("ink", INKS)
@pytest.mark.parametrize("adobe", [True, False])
def test_cmyk_is_converted_whichever_way_round_it_is_stored(ink, adobe):
    data = saved(Image.new("CMYK", (16, 16), INKS[ink]), "JPEG", quality=95)
    if not adobe:  # without Adobe's marker, values are stored as they are
        inverted = Image.new("CMYK", (16, 16), tuple(255 - v for v in INKS[ink]))
        data = saved(inverted, "JPEG", quality=95)
        start = data.index(b"\xff\xee")
        data = data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4], "big") :]
    photo = decode(data)
    assert np.abs(photo.pixels[8, 8].astype(int) - LIGHT[ink]).max() <= 3
    assert "CMYK converted to sRGB without a profile" in photo.notes
    assert not photo.is_plain


# ---- what is no photo ------------------------------------------------------------------


def test_an_empty_file_and_a_large_one():
    assert code_of(b"") == "zero_bytes"
    assert code_of(saved(COLOUR), DecodeLimits(max_bytes=20)) == "too_many_bytes"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"<!DOCTYPE html><html>Not found", "an HTML page"),
        (b'<?xml version="1.0"?><svg xmlns="x"/>', "an SVG drawing"),
        (b'<?xml version="1.0"?><Error>NoSuchKey</Error>', "an XML file"),
        (b"%PDF-1.7", "a PDF document"),
        (b"PK\x03\x04abc", "a zip archive"),
        (b"hello, this is text", "text"),
        (b"\0" * 100, "zero bytes"),
        (bytes(range(128, 256)), "unknown binary data"),
        (b"BMW sells cars, and this text says so in words", "text"),
    ],
)
def test_what_is_no_image_is_named(data, words):
    with pytest.raises(BadPhoto, match=words) as caught:
        decode(data)
    assert caught.value.code == "not_an_image"


def test_formats_outside_the_allow_list_are_refused_by_content():
    assert code_of(b"8BPS" + bytes(60)) == "unsupported_format"
    assert code_of(saved(COLOUR, "GIF"), DecodeLimits(formats=("PNG",))) == "unsupported_format"
    assert sniff_format(saved(COLOUR, "BMP")[:32]) == "BMP"
    assert sniff_format(b"") is None


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_file_cut_short_is_an_error(format, share):
    data = saved(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8), format)
    code = code_of(data[: int(len(data) * share)])
    assert code in ("truncated", "damaged")
    if format in ("JPEG", "PNG", "WEBP", "BMP"):
        assert code == "truncated"


def test_a_bomb_is_refused_by_its_header():
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header
    png += struct.pack(">I", zlib.crc32(b"IHDR" + header))
    body = zlib.compress(bytes(1000))
    idat = struct.pack(">I", len(body)) + b"IDAT" + body
    assert code_of(png + idat + struct.pack(">I", zlib.crc32(b"IDAT" + body))) == "too_many_pixels"


def test_the_pixel_limit_is_exact_and_pillows_own_does_not_matter(monkeypatch):
    data = saved(COLOUR)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)
    assert decode(data, DecodeLimits(max_pixels=54)).pixels.shape == (6, 9, 3)
    assert code_of(data, DecodeLimits(max_pixels=53)) == "too_many_pixels"


# Small valid files; TIFF is left out because libtiff itself prints about damaged strips.
VALID = {
    "png": saved(COLOUR, exif=exif(6), icc_profile=ADOBE_RGB),
    "png16": encode_lossless(WIDE),
    "jpeg": saved(COLOUR, "JPEG", exif=exif(6), icc_profile=ADOBE_RGB, xmp=XMP),
    "webp": saved(COLOUR, "WEBP", exif=exif(3)),
    "gif": saved(COLOUR, "GIF"),
    "bmp": saved(COLOUR, "BMP"),
    "avif": saved(COLOUR, "AVIF"),
}


def decodes_or_says_why(data):
    try:
        photo = decode(data, DecodeLimits(max_pixels=1_000_000), keep_16_bit=True)
    except BadPhoto as error:
        assert error.code and error.what
    else:
        assert photo.pixels.ndim == 3


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(VALID)), st.binary(max_size=200))
def test_random_bytes_only_ever_are_bad_photos(name, tail):
    decodes_or_says_why(tail)
    decodes_or_says_why(VALID[name][:16] + tail)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(sorted(VALID)),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_random_corruptions_only_ever_are_bad_photos(name, changes):
    data = bytearray(VALID[name])
    for position, value in changes:
        data[position % len(data)] = value
    decodes_or_says_why(bytes(data))


def test_nothing_is_printed_about_damaged_files(tmp_path):
    damaged = bytearray(VALID["jpeg"])
    damaged[200:240] = bytes(40)
    (tmp_path / "a.jpg").write_bytes(damaged)
    (tmp_path / "b.png").write_bytes(VALID["png16"][:-30])
    (tmp_path / "c.png").write_bytes(saved(COLOUR, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff"))
    script = (
        "import sys; from pathlib import Path\n"
        "from imgflow.errors import BadPhoto; from imgflow.imaging.decode import decode\n"
        "for path in sorted(Path(sys.argv[1]).iterdir()):\n"
        "    try: decode(path.read_bytes(), keep_16_bit=True)\n"
        "    except BadPhoto: pass\n"
    )
    command = [sys.executable, "-W", "always", "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    assert done.stdout + done.stderr == b""


# ---- files -----------------------------------------------------------------------------


def read_code(path, limits=DEFAULT_LIMITS):
    with pytest.raises(BadPhoto) as caught:
        read_photo_bytes(path, limits)
    assert caught.value.photo == str(path)
    return caught.value.code


def test_a_file_is_read_whatever_its_name(tmp_path):
    path = tmp_path / "Grüße 照片 .html"
    path.write_bytes(VALID["png"])
    assert read_photo_bytes(path) == VALID["png"]


def test_what_is_no_regular_file_neither_hangs_nor_reads(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "empty.png").touch()
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    assert read_code(tmp_path / "pipe.jpg") == "not_a_file"
    assert read_code(tmp_path / "folder.png") == "not_a_file"
    assert read_code(tmp_path / "empty.png") == "zero_bytes"
    assert read_code(tmp_path / "link.png") == "not_found"
    assert read_code(tmp_path / "nothing.png") == "not_found"
    assert read_code(tmp_path / ("n" * 300)) == "unreadable"


def test_the_byte_limit_is_checked_before_reading(tmp_path):
    path = tmp_path / "sparse.png"
    with open(path, "wb") as file:
        file.truncate(1 << 40)
    assert read_code(path) == "too_many_bytes"
    path.write_bytes(b"12345")
    assert read_photo_bytes(path, DecodeLimits(max_bytes=5)) == b"12345"
    assert read_code(path, DecodeLimits(max_bytes=4)) == "too_many_bytes"


def test_no_permission_is_unreadable(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"1")

    def refuse(*_):  # the tests may run as root, who may read everything
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("imgflow.imaging.decode.os.open", refuse)
    assert read_code(path) == "unreadable"
