"""Lossless objects, masks and renditions."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageCms

from imgflow.errors import BadMask
from imgflow.imaging import encode
from imgflow.imaging.decode import decode
from imgflow.imaging.encode import decode_mask, encode_lossless, encode_mask, encode_rendition
from imgflow.imaging.photo import Rights

SIDES = st.integers(1, 20)


def pixel_arrays(channels):
    shapes = st.tuples(SIDES, SIDES, st.just(channels))
    return st.sampled_from([np.uint8, np.uint16]).flatmap(lambda d: hnp.arrays(d, shapes))


@settings(max_examples=40, deadline=None)
@given(st.one_of(pixel_arrays(3), pixel_arrays(4)))
def test_lossless_comes_back_exactly_and_repeats_its_bytes(pixels):
    data = encode_lossless(pixels)
    assert encode_lossless(pixels.copy()) == data
    read = decode(data, keep_16_bit=True).pixels
    assert read.dtype == pixels.dtype
    assert (read == pixels[..., : read.shape[2]]).all()
    if read.shape[2] < pixels.shape[2]:
        assert (pixels[..., 3] == np.iinfo(pixels.dtype).max).all()


def test_lossless_takes_views_and_refuses_other_types():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    assert (decode(encode_lossless(pixels[::-1, 1::2])).pixels == pixels[::-1, 1::2]).all()
    for bad in (pixels.astype(np.float32), pixels[..., :2], pixels[:0], pixels[0, 0]):
        with pytest.raises(ValueError, match="cannot store"):
            encode_lossless(bad)


@settings(max_examples=25, deadline=None)
@given(hnp.arrays(np.bool_, st.tuples(SIDES, SIDES)))
def test_masks_come_back_exactly_as_one_channel_png(marked):
    mask = np.where(marked, 255, 0).astype(np.uint8)
    data = encode_mask(mask)
    assert Image.open(io.BytesIO(data)).mode == "L"
    assert (decode_mask(data) == mask).all()


@pytest.mark.parametrize(
    "bad",
    [np.zeros((3, 3, 1), np.uint8), np.zeros((3, 3), bool), np.full((3, 3), 128, np.uint8)],
)
def test_a_mask_that_is_no_mask_is_refused(bad):
    with pytest.raises(ValueError, match="a mask is"):
        encode_mask(bad)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
def test_painted_masks_of_any_mode_are_read(mode):
    mask = np.zeros((6, 9), np.uint8)
    mask[2:4, 3:] = 255
    image = Image.fromarray(mask)
    if mode == "I;16":
        image = Image.fromarray(mask.astype(np.uint16) * 257)
    else:
        image = image.convert(mode)
    file = io.BytesIO()
    image.save(file, "PNG")
    assert (decode_mask(file.getvalue()) == mask).all()


@pytest.mark.parametrize("channels", [3, 4])
def test_large_pixels_are_the_same_file_and_the_same_afterwards(channels, monkeypatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (150, 70, channels), np.uint8)
    before, copied = pixels.copy(), encode_lossless(pixels)
    monkeypatch.setattr(encode, "_LARGE", 1)
    assert encode_lossless(pixels) == copied
    np.testing.assert_array_equal(pixels, before)
    pixels.flags.writeable = False
    assert encode_lossless(pixels) == copied
    assert encode_lossless(before[:, ::2]) == encode_lossless(before[:, ::2].copy())


def test_alpha_decides_where_only_alpha_varies_and_hides_paint_otherwise():
    painted = np.zeros((4, 4, 4), np.uint8)
    painted[:2, :, 3] = 255
    assert (decode_mask(encode_lossless(painted)) == painted[..., 3]).all()
    painted[:, :2, :3] = 255
    expected = np.zeros((4, 4), np.uint8)
    expected[:2, :2] = 255
    assert (decode_mask(encode_lossless(painted)) == expected).all()


def test_an_unreadable_mask_says_so():
    with pytest.raises(BadMask) as caught:
        decode_mask(b"<html>")
    assert caught.value.code == "mask_unreadable"
    assert "HTML" in str(caught.value)


def smooth(channels=3):
    y, x = np.mgrid[:48, :64]
    planes = [x * 4, y * 5, 255 - x * 2, x * 4]
    return np.stack(planes[:channels], -1).clip(0, 255).astype(np.uint8)


def rendition(pixels, format, **changes):
    arguments = {
        "quality": 92,
        "dpi": 300,
        "background": (255, 255, 255),
        "rights": Rights(copyright="© Zoë", creator="Jörg"),
    }
    return encode_rendition(pixels, format=format, **(arguments | changes))


@pytest.mark.parametrize("format", ["jpeg", "webp", "png", "avif"])
def test_renditions_look_the_same_carry_rights_and_repeat_their_bytes(format):
    data = rendition(smooth(), format)
    assert rendition(smooth(), format) == data
    photo = decode(data)
    assert photo.source.format == format.upper()
    assert photo.source.icc_description.startswith("sRGB")
    assert photo.rights == Rights(copyright="© Zoë", creator="Jörg")
    assert np.abs(photo.pixels.astype(int) - smooth()).mean() < 3
    assert not [note for note in photo.notes if "converted" in note]


@pytest.mark.parametrize("format", ["webp", "png", "avif"])
def test_alpha_survives_where_the_format_has_it(format):
    photo = decode(rendition(smooth(4), format))
    assert np.abs(photo.pixels[..., 3].astype(int) - smooth(4)[..., 3]).max() <= 4


def test_jpeg_lies_on_the_background():
    clear = np.zeros((16, 16, 4), np.uint8)
    read = decode(rendition(clear, "jpeg", background=(200, 100, 50))).pixels
    assert np.abs(read.astype(int) - (200, 100, 50)).max() <= 3


@pytest.mark.parametrize("format", ["jpeg", "png"])
def test_dpi_is_embedded(format):
    image = Image.open(io.BytesIO(rendition(smooth(), format)))
    assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


@pytest.mark.parametrize("format", ["webp", "avif"])
def test_dpi_stands_in_exif_where_there_is_no_field_for_it(format):
    exif = Image.open(io.BytesIO(rendition(smooth(), format, rights=Rights()))).getexif()
    assert (exif[0x011A], exif[0x011B], exif[0x0128]) == (300, 300, 2)
    without = rendition(smooth(), format, rights=Rights(), dpi=None)
    assert not len(Image.open(io.BytesIO(without)).getexif())


@pytest.mark.parametrize("channels", [3, 4])
def test_lossless_webp_comes_back_exactly_and_repeats_its_bytes(channels):
    pixels = smooth(channels)
    pixels[..., 3:] |= 1
    data = rendition(pixels, "webp", quality=1, lossless=True)
    assert (decode(data).pixels == pixels).all()
    assert rendition(pixels, "webp", quality=90, lossless=True) == data


@pytest.mark.parametrize("format", ["jpeg", "avif"])
def test_what_is_never_lossless_is_refused(format):
    with pytest.raises(ValueError, match="never lossless"):
        rendition(smooth(), format, lossless=True)


def test_a_jpeg_that_is_not_progressive():
    assert (
        "progressive"
        not in Image.open(io.BytesIO(rendition(smooth(), "jpeg", progressive=False))).info
    )


@pytest.mark.parametrize(("quality", "sampling"), [(89, (2, 2)), (90, (1, 1))])
def test_chroma_is_full_from_quality_90(quality, sampling):
    image = Image.open(io.BytesIO(rendition(smooth(), "jpeg", quality=quality)))
    assert image.layer[0][1:3] == sampling
    assert image.info["progressive"]


def test_16_bits_are_rounded_and_the_profile_has_no_clock():
    wide = (smooth().astype(int) * 257 + 100).clip(0, 65535).astype(np.uint16)
    data = rendition(wide, "png")
    assert (decode(data).pixels == smooth()).all()
    profile = Image.open(io.BytesIO(data)).info["icc_profile"]
    assert profile[24:26] == bytes.fromhex("07d0")
    ImageCms.ImageCmsProfile(io.BytesIO(profile))


def test_unknown_formats_and_qualities_are_refused():
    with pytest.raises(ValueError, match="bmp"):
        rendition(smooth(), "bmp")
    with pytest.raises(ValueError, match="quality"):
        rendition(smooth(), "jpeg", quality=0)
