"""Photos to learn from, and what happens to a photo before anybody writes on it."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.errors import ImgflowError

Photo = NDArray[np.uint8]

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
# Colour photographs without text in the scikit-image wheel.
_IN_THE_WHEEL = ("astronaut", "chelsea", "coffee", "rocket")
# Pictures of textures there: grey ones are tinted.
_TEXTURES = ("brick", "grass", "gravel", "hubble_deep_field", "immunohistochemistry", "moon",
    "retina")  # fmt: skip
# How often a part of another photo is in front of one.
_IN_FRONT = 0.2
# How often a photo is seen from so far that it does not fill the frame: small photos of grass,
# leaves and fur are rougher than any part of a large one.
_FAR = 0.35


def load_photos(folder: Path) -> dict[str, Photo]:
    """All photos below a folder, and those in scikit-image's wheel, by name; (H, W, 3) RGB.

    Raises ImgflowError where there are none, or one cannot be read.
    """
    photos: dict[str, Photo] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in _SUFFIXES:
            continue
        pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if pixels is None:
            raise ImgflowError("photo_unreadable", f"{path} is no image that OpenCV reads")
        photos[path.stem] = _rgb(pixels)
    if not photos:
        raise ImgflowError("photos_missing", f"there are no photos below {folder}")
    from skimage import data

    for name in _IN_THE_WHEEL:
        photos[name] = np.ascontiguousarray(getattr(data, name)()[:, :, :3])
    return photos


def load_textures() -> list[Photo]:
    """Pictures in scikit-image's wheel that are like letters in nothing but their detail."""
    from skimage import color, data

    found = [np.asarray(getattr(data, name)()) for name in _TEXTURES]
    shown = [each if each.ndim == 3 else color.gray2rgb(each) for each in found]
    return [np.ascontiguousarray(each[:, :, :3], np.uint8) for each in shown]


def scene(photos: list[Photo], height: int, width: int, chance: Random) -> Photo:
    """A part of a random photo as another camera might have taken it: (height, width, 3).

    Scaled down by a random factor, mirrored or turned, in another exposure and colour, sometimes
    soft, sharpened, noisy, or squeezed by JPEG; now and then with a part of another photo in
    front of it.
    """
    found = _seen(chance.choice(photos), height, width, chance)
    if chance.random() < _IN_FRONT:
        front = _seen(chance.choice(photos), height, width, chance)
        found = _in_front(found, front, chance)
    return squeezed(found, chance) if chance.random() < 0.4 else found


def _in_front(photo: Photo, front: Photo, chance: Random) -> Photo:
    """A photo with a smooth-edged part of another one, of the same size, in front of it."""
    height, width = photo.shape[:2]
    coarse = np.random.default_rng(chance.getrandbits(32)).normal(size=(5, 5)).astype(np.float32)
    hills = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    steep = 0.15 * min(height, width) / chance.uniform(1, 6)
    share = np.clip(0.5 + steep * (hills - float(np.quantile(hills, 0.6))), 0, 1)[:, :, None]
    return np.clip(np.rint(photo * (1 - share) + front * share), 0, 255).astype(np.uint8)


def _seen(photo: Photo, height: int, width: int, chance: Random) -> Photo:
    part = _cut(photo, height, width, chance)
    if chance.random() < 0.3:
        part = _tilted(part, chance)
    found: NDArray[Any] = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
    found = _turned(found, chance)
    values: NDArray[Any] = found.astype(np.float32) / 255
    if chance.random() < 0.3:  # from grey to garish
        grey = values.mean(axis=2, keepdims=True)
        values = grey + chance.uniform(0, 1.8) * (values - grey)
    gamma, gains = chance.uniform(0.75, 1.35), [chance.uniform(0.85, 1.15) for _ in range(3)]
    values = np.clip(values, 0, 1) ** gamma * np.array(gains, np.float32)
    if chance.random() < 0.12:
        values = 1 - (1 - values) * chance.uniform(0.2, 0.6)  # a pale, high-key picture
    if chance.random() < 0.15:
        values = cv2.GaussianBlur(values, (0, 0), chance.uniform(0.4, 2.0))
    elif chance.random() < 0.3:  # as cameras do, and shops again
        soft = cv2.GaussianBlur(values, (0, 0), chance.uniform(0.7, 1.5))
        values = values + chance.uniform(0.3, 1.5) * (values - soft)
    if chance.random() < 0.2:
        noise = np.random.default_rng(chance.getrandbits(32)).normal(size=values.shape)
        values = values + chance.uniform(0.005, 0.03) * noise.astype(np.float32)
    return np.clip(np.rint(values * 255), 0, 255).astype(np.uint8)


def _cut(photo: Photo, height: int, width: int, chance: Random) -> Photo:
    """A random part with the proportions of (height, width), no smaller where the photo allows."""
    largest = min(photo.shape[0] / height, photo.shape[1] / width)
    if chance.random() < _FAR:
        nearest, largest = min(max(largest, 1), 2 * largest), 2 * largest
        photo = np.pad(photo, ((0, photo.shape[0]), (0, photo.shape[1]), (0, 0)), "symmetric")
        factor = chance.uniform(nearest, largest)
    elif largest < 1:
        factor = largest
    else:
        factor = chance.uniform(1, largest) ** chance.choice((0.5, 1.0))
    rows, columns = round(height * factor), round(width * factor)
    top = chance.randint(0, photo.shape[0] - min(rows, photo.shape[0]))
    left = chance.randint(0, photo.shape[1] - min(columns, photo.shape[1]))
    return photo[top : top + rows, left : left + columns]


def _tilted(photo: NDArray[Any], chance: Random) -> NDArray[Any]:
    """Turned by any angle and stretched a little; what comes into the frame is mirrored."""
    height, width = photo.shape[:2]
    middle = width / 2, height / 2
    matrix = np.asarray(cv2.getRotationMatrix2D(middle, chance.uniform(-60, 60), 1.0))
    matrix[:, 0] = chance.uniform(0.8, 1.25) * matrix[:, 0]
    return np.asarray(
        cv2.warpAffine(photo, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    )


def _turned(photo: NDArray[Any], chance: Random) -> NDArray[Any]:
    """Mirrored, upside down, or with its colours exchanged: few photos then show more."""
    if chance.random() < 0.5:
        photo = photo[:, ::-1]
    if chance.random() < 0.2:
        photo = photo[::-1]
    if chance.random() < 0.25:
        photo = photo[:, :, chance.sample(range(3), 3)]
    return photo


def squeezed(photo: Photo, chance: Random) -> Photo:
    """Through JPEG, at a random quality of those that shops use."""
    quality = chance.randint(60, 97)
    sampling = chance.choice(
        (cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    )
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    _, data = cv2.imencode(".jpg", photo[:, :, ::-1], options)
    return _rgb(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR)))


def _rgb(pixels: NDArray[np.generic]) -> Photo:
    return np.ascontiguousarray(pixels[:, :, ::-1], np.uint8)
