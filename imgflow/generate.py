"""Pictures from words: concepts, and raws for catalog rows that have no photo yet.

Every file says in its own metadata that it is synthetic, and what made it; the line keeps that
mark in all records and published files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgflow.engines.account import accounting
from imgflow.engines.spec import Generator
from imgflow.errors import BadPhoto, ImgflowError
from imgflow.files import printable, replacing
from imgflow.home import Home
from imgflow.imaging.encode import RenditionFormat, encode_rendition
from imgflow.imaging.photo import Generation, Rights
from imgflow.imaging.synthetic import synthetic_xmp
from imgflow.lineage.record import Version
from imgflow.policy.policy import GenerateSettings, Policy
from imgflow.store.keys import ImageKey

_FORMATS: dict[str, RenditionFormat] = {
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".png": "png",
    ".webp": "webp",
}
_QUALITY = 95
_SEEDS = 2**32


@dataclass(frozen=True, slots=True)
class Wish:
    """What shall be on a picture. category: chooses the words around the prompt."""

    prompt: str
    category: str = ""
    negative_prompt: str = ""
    seed: int = 0
    variant: int = 0


@dataclass(frozen=True, slots=True)
class Made:
    """A picture (H, W, 3) uint8 and what made it. cost: None where nothing was paid."""

    pixels: NDArray[np.uint8]
    generation: Generation
    cost: float | None
    notes: tuple[str, ...]


def engine_name(policy: Policy) -> str:
    """The generator that the policy names. Raises ImgflowError where it names none."""
    if policy.generate.engine is None:
        raise ImgflowError(
            "no_generator",
            "the policy names no engine that makes pictures",
            hint="Fetch one, imgflow models pull lcm-dreamshaper, and name it: generate.engine, "
            "or --engine",
        )
    return policy.generate.engine


def make(wish: Wish, engine: Generator, settings: GenerateSettings) -> Made:
    """The picture of a wish. The same wish gives the same bytes on the same device.

    Raises EngineUnavailable.
    """
    prompt = preset(wish, settings)
    negative = wish.negative_prompt or settings.negative_prompt
    seed = (wish.seed + wish.variant) % _SEEDS
    with accounting() as told:
        pixels = engine.generate(
            prompt,
            negative_prompt=negative or None,
            seed=seed,
            width=settings.width,
            height=settings.height,
        )
    spec = engine.spec
    parameters: dict[str, Any] = {
        **spec.own_parameters(),
        "width": settings.width,
        "height": settings.height,
        "device": told.device,
    }
    if told.dtype:
        parameters["dtype"] = told.dtype
    if told.endpoint:
        parameters["endpoint"] = told.endpoint
    if told.cost is not None:
        parameters["cost"] = told.cost
    generation = Generation(
        engine=spec.name,
        model_id=spec.model_id,
        weights_sha256=spec.weights_sha256 or "",
        licence=spec.licence,
        prompt=prompt,
        negative_prompt=negative,
        seed=seed,
        variant=wish.variant,
        parameters=parameters,
    )
    return Made(pixels, generation, told.cost, tuple(told.notes))


def preset(wish: Wish, settings: GenerateSettings) -> str:
    """The prompt with the words that its category puts around it."""
    words = wish.category.lower().replace("-", " ").split()
    around = next((settings.presets[word] for word in words if word in settings.presets), "")
    around = around or settings.presets.get("default", "{prompt}")
    return around.replace("{prompt}", wish.prompt)


def require_target(target: Path) -> RenditionFormat:
    """The format of a file that can be written, before anything is made for it.

    Raises BadPhoto (codes format_not_written, target_exists).
    """
    format = _FORMATS.get(target.suffix.lower())
    if format is None:
        raise BadPhoto(
            "format_not_written",
            f"pictures of type {target.suffix or 'none'} are not made",
            hint=f"Name it {', '.join(_FORMATS)}",
            photo=printable(target),
        )
    if target.exists() or target.is_symlink():
        raise BadPhoto(
            "target_exists", f"{printable(target)} exists already", hint="Name another file"
        )
    return format


def write(made: Made, target: Path) -> None:
    """The picture as a file that says what it is; never in the place of another.

    Raises BadPhoto (codes format_not_written, target_exists), ImgflowError (not_written).
    """
    format = require_target(target)
    data = encode_rendition(
        made.pixels,
        format=format,
        quality=_QUALITY,
        dpi=None,
        background=(255, 255, 255),
        rights=Rights(),
        xmp=synthetic_xmp(made.generation),
    )
    with replacing(target) as partial:
        partial.write_bytes(data)


def missing_raws(home: Home) -> Iterator[tuple[ImageKey, Wish]]:
    """Catalog rows with a prompt and without a photo, uploaded or archived; by key.

    Raises BadCatalog, StoreError.
    """
    for key, row in sorted(home.catalog().items()):
        if not row.prompt:
            continue
        try:
            home.uploads.path_of(key)
        except BadPhoto as error:
            archived = home.store.get_record(home.name, key, Version.RAW)
            if error.code == "not_found" and archived is None:
                yield key, Wish(row.prompt, category=row.traits.category, seed=seed_of(key))


def seed_of(key: ImageKey) -> int:
    """A seed of a photo's own, always the same: neighbours in the catalog shall differ."""
    return int(hashlib.sha256(str(key).encode()).hexdigest()[:8], 16)
