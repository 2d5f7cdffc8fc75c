"""Photos for benchmarks: seeded variations of the real photographs in the scikit-image wheel."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

# Real scenes without text of their own; the wheel's other images are test charts and the like.
_SCENES = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "retina")
_STAMPS = ("2024/03/17", "'25 11 02", "14:22 08.07.2023", "SUMMER SALE", "www.my-shop.com")


def write_photos(folder: Path, count: int, *, size: tuple[int, int], seed: int = 0) -> None:
    """`count` JPEGs of (width, height) below `folder`, a third of them with text drawn on."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(seed)
    scenes = list(_scenes())
    for number in range(count):
        image = _variation(chance.choice(scenes), size, chance)
        if number % 3 == 0:
            _stamp(image, chance)
        encoded = io.BytesIO()
        image.save(encoded, "JPEG", quality=chance.randint(80, 95))
        (folder / f"photo_{number:05}.jpg").write_bytes(encoded.getvalue())


def _scenes() -> Iterator[Image.Image]:
    from skimage import data

    for name in _SCENES:
        yield Image.fromarray(np.asarray(getattr(data, name)())).convert("RGB")


def _variation(scene: Image.Image, size: tuple[int, int], chance: random.Random) -> Image.Image:
    """A crop of the scene, mirrored or not, in another exposure: no two are the same."""
    share = chance.uniform(0.6, 1.0)
    width, height = round(scene.width * share), round(scene.height * share)
    left, top = chance.randint(0, scene.width - width), chance.randint(0, scene.height - height)
    image = scene.crop((left, top, left + width, top + height))
    image = ImageOps.fit(image, size, Image.Resampling.LANCZOS)
    if chance.random() < 0.5:
        image = ImageOps.mirror(image)
    gain = chance.uniform(0.85, 1.15)
    return image.point(lambda value: value * gain)


def _stamp(image: Image.Image, chance: random.Random) -> None:
    font = ImageFont.load_default(size=chance.randint(image.height // 20, image.height // 12))
    text = chance.choice(_STAMPS)
    draw = ImageDraw.Draw(image)
    left, _, right, bottom = draw.textbbox((0, 0), text, font=font)
    x = chance.randint(8, max(int(image.width - (right - left)) - 8, 9))
    y = chance.choice([8, int(image.height - bottom) - 12])
    colour = chance.choice([(255, 160, 40), (255, 255, 255), (20, 20, 20)])
    draw.text((x, y), text, font=font, fill=colour)
