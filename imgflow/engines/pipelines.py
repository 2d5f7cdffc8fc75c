"""Diffusion pipelines from local folders: fills, enlargements and pictures from a prompt.

The same seed gives the same bytes on the same device: all noise is drawn on the processor.
"""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.engines.account import account
from imgflow.engines.compute import is_full, module_bytes, on_card_or_processor
from imgflow.engines.held import Bench, Held, spec_of
from imgflow.engines.shelf.shelf import Weights
from imgflow.engines.spec import EngineSpec
from imgflow.engines.torchfile import first_line, unfit
from imgflow.errors import EngineUnavailable
from imgflow.imaging.colour import data_range, to_uint8
from imgflow.policy.engines import ModelEngine

if TYPE_CHECKING:
    import torch

_Task = Literal["filler", "upscaler", "generator"]
INDEX = "model_index.json"
_TASKS: dict[str, _Task] = {
    "StableDiffusionInpaintPipeline": "filler",
    "StableDiffusionXLInpaintPipeline": "filler",
    "StableDiffusion3InpaintPipeline": "filler",
    "FluxInpaintPipeline": "filler",
    "QwenImageInpaintPipeline": "filler",
    "StableDiffusionUpscalePipeline": "upscaler",
    "StableDiffusionPipeline": "generator",
    "StableDiffusionXLPipeline": "generator",
    "StableDiffusion3Pipeline": "generator",
    "LatentConsistencyModelPipeline": "generator",
    "FluxPipeline": "generator",
    "PixArtSigmaPipeline": "generator",
    "QwenImagePipeline": "generator",
}
# A part of any other library would be a program that came with the weights.
_LIBRARIES = ("diffusers", "transformers", "stable_diffusion")
# Judge what is made by networks of their own, and blacken what they dislike.
_LEFT_OUT = ("safety_checker", "feature_extractor", "watermarker")
_UNIT = 8
_STEPS = {"filler": 30, "upscaler": 30, "generator": 25}
_FEW_STEPS = 6
_UPSCALE = 4


def inspect_pipeline(folder: Path) -> tuple[_Task, str]:
    """What a pipeline's folder is for, and its class. Raises EngineUnavailable."""
    index = folder / INDEX
    try:
        parts = json.loads(index.read_bytes())
    except (OSError, ValueError) as error:
        raise unfit(index, f"there is no readable {INDEX} ({first_line(error)})") from error
    name = parts.get("_class_name") if isinstance(parts, dict) else None
    if not isinstance(name, str) or name not in _TASKS:
        raise unfit(index, f"pipelines of the class {name!r:.80} are not known")
    for part, origin in parts.items():
        if part.startswith("_") or not isinstance(origin, list):
            continue
        if origin and origin[0] not in (*_LIBRARIES, None):
            raise unfit(index, f"its part {part} asks for code of {origin[0]!r:.80}")
    return _TASKS[name], name


class _Pipeline:
    """A pipeline held in memory, and the one way in which it is called."""

    def __init__(self, weights: Weights, settings: ModelEngine, bench: Bench, task: _Task) -> None:
        self.weights, self.settings, self.bench, self.task = weights, settings, bench, task
        # Half-precision files may be held in full precision.
        self._held = Held(bench, weights, self._load, _measure, factor=2.0)

    def spec(self, name: str, **fields: Any) -> EngineSpec:
        settings = self.settings
        return spec_of(
            name,
            self.task,
            self.weights,
            seeded=True,
            prompted=True,
            parameters=parameters(
                steps=self.steps,
                strength=settings.strength,
                guidance=settings.guidance,
                side=settings.side,
                prompt=settings.prompt,
                negative_prompt=settings.negative_prompt,
                seed=settings.seed,
            ),
            **fields,
        )

    @property
    def steps(self) -> int:
        few = "LatentConsistency" in self.weights.card.architecture
        return self.settings.steps or (_FEW_STEPS if few else _STEPS[self.task])

    def run(
        self,
        given: Mapping[str, Any],
        *,
        prompt: str | None,
        negative_prompt: str | None,
        seed: int | None,
        smaller_helps: bool = False,
    ) -> NDArray[np.float32]:
        """(H, W, 3) float32 0..1 that the pipeline makes. Raises EngineUnavailable."""
        settings = self.settings
        drawn = settings.seed if seed is None else seed
        words = prompt or settings.prompt
        avoided = negative_prompt or settings.negative_prompt
        asked: dict[str, Any] = {
            **given,
            "prompt": words,
            "negative_prompt": avoided or None,
            "num_inference_steps": self.steps,
            "guidance_scale": settings.guidance,
            "strength": settings.strength,
            "output_type": "np",
        }

        def work(device: torch.device) -> NDArray[np.float32]:
            import torch

            pipeline = self._held.on(device)
            account().dtype = str(pipeline.dtype).removeprefix("torch.")
            takes = inspect.signature(pipeline.__call__).parameters
            # What is not set is left to the pipeline, and what it does not take is not given.
            chosen = {k: v for k, v in asked.items() if k in takes and v is not None}
            chosen["generator"] = torch.Generator("cpu").manual_seed(drawn)
            with torch.inference_mode():
                made = pipeline(**chosen).images[0]
            return np.asarray(made, np.float32)

        made = on_card_or_processor(self.bench.compute, work, smaller_helps=smaller_helps)
        account().seed, account().prompt = drawn, words or None
        account().negative_prompt = avoided or None
        if not np.isfinite(made).all():
            raise ValueError("the pipeline made NaN or infinity")
        return made

    def _load(self, device: torch.device) -> Any:
        folder = self.weights.folder
        task, name = inspect_pipeline(folder)
        if task != self.task:
            raise unfit(folder / INDEX, f"{name} is a {task}, not a {self.task}")
        import diffusers

        dtype = self.bench.compute.dtype(device, half=True, bfloat16=True)
        index = json.loads((folder / INDEX).read_bytes())
        left_out = {part: None for part in _LEFT_OUT if part in index}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                _be_quiet()
                pipeline = getattr(diffusers, name).from_pretrained(
                    str(folder),
                    local_files_only=True,
                    use_safetensors=True,
                    torch_dtype=dtype,
                    low_cpu_mem_usage=False,
                    **left_out,
                )
        # Each part of a pipeline has its own way of failing.
        except Exception as error:
            if is_full(error):
                raise
            raise unfit(folder / INDEX, f"the pipeline does not load ({first_line(error)})") from (
                error
            )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline.to(device)


class DiffusersFill:
    """Fills with a diffusion pipeline, from a prompt or without, seeded."""

    def __init__(self, name: str, weights: Weights, settings: ModelEngine, bench: Bench) -> None:
        self._pipeline = _Pipeline(weights, settings, bench, "filler")
        self.spec = self._pipeline.spec(name, tiling="crop", dtypes=("uint8", "uint16"))

    def fill(
        self,
        pixels: NDArray[np.generic],
        mask: NDArray[np.uint8],
        *,
        prompt: str | None = None,
        negative_prompt: str | None = None,
        seed: int | None = None,
    ) -> NDArray[np.generic]:
        from PIL import Image

        height, width = mask.shape
        rows, columns = _working_size(height, width, self._pipeline.settings.side)
        photo = cv2.resize(to_uint8(pixels), (columns, rows), interpolation=_how(height, rows))
        hole = cv2.resize(mask, (columns, rows), interpolation=cv2.INTER_LINEAR)
        made = self._pipeline.run(
            {
                "image": Image.fromarray(np.asarray(photo, np.uint8)),
                "mask_image": Image.fromarray(np.where(hole > 0, np.uint8(255), np.uint8(0))),
                "height": rows,
                "width": columns,
            },
            prompt=prompt,
            negative_prompt=negative_prompt,
            seed=seed,
        )
        back = cv2.resize(made, (width, height), interpolation=_how(rows, height))
        top = data_range(pixels.dtype)
        return np.rint(np.clip(back, 0, 1) * top).astype(pixels.dtype)


class DiffusersUpscaler:
    """Enlarges x4 with a diffusion pipeline: detail is made up, so for the creative mode.

    x2 and x3 are its result reduced. Each tile is drawn with the same seed.
    """

    def __init__(
        self, name: str, weights: Weights, settings: ModelEngine, scale: int, bench: Bench
    ) -> None:
        if not 2 <= scale <= _UPSCALE:
            raise EngineUnavailable(
                "engine_scale", f"the engine '{name}' enlarges x2, x3 and x4, not x{scale}"
            )
        self._pipeline = _Pipeline(weights, settings, bench, "upscaler")
        self.spec = self._pipeline.spec(
            name, scale=scale, receptive=32, tiling="tiles", dtypes=("float32",)
        )

    def enlarge(self, tile: NDArray[np.float32]) -> NDArray[np.float32]:
        from PIL import Image

        height, width = tile.shape[:2]
        padded = np.pad(tile, ((0, -height % _UNIT), (0, -width % _UNIT), (0, 0)), mode="symmetric")
        small = np.rint(np.clip(padded, 0, 1) * 255).astype(np.uint8)
        made = self._pipeline.run(
            {"image": Image.fromarray(small)},
            prompt=None,
            negative_prompt=None,
            seed=None,
            smaller_helps=max(height, width) > 2 * 32 + 128,
        )
        large: NDArray[Any] = made[: height * _UPSCALE, : width * _UPSCALE]
        size = (width * self.spec.scale, height * self.spec.scale)
        if self.spec.scale != _UPSCALE:
            large = cv2.resize(large, size, interpolation=cv2.INTER_AREA)
        return np.ascontiguousarray(large, np.float32)


class DiffusersGenerator:
    """Pictures from a prompt and a seed."""

    def __init__(self, name: str, weights: Weights, settings: ModelEngine, bench: Bench) -> None:
        self._pipeline = _Pipeline(weights, settings, bench, "generator")
        self.spec = self._pipeline.spec(name, dtypes=("uint8",))

    def generate(
        self,
        prompt: str,
        *,
        negative_prompt: str | None = None,
        seed: int = 0,
        width: int = 512,
        height: int = 512,
    ) -> NDArray[np.uint8]:
        made = self._pipeline.run(
            {"width": -(-width // _UNIT) * _UNIT, "height": -(-height // _UNIT) * _UNIT},
            prompt=prompt,
            negative_prompt=negative_prompt,
            seed=seed,
        )[:height, :width]
        return np.rint(np.clip(made, 0, 1) * 255).astype(np.uint8)


def parameters(**given: Any) -> tuple[tuple[str, Any], ...]:
    """What of an engine's settings decides its output, for its spec; empty ones are left out."""
    return tuple((name, value) for name, value in given.items() if value not in (None, ""))


def _be_quiet() -> None:
    """No bars and no advice of the libraries in the middle of ours."""
    from diffusers.utils import logging as of_pipelines
    from transformers.utils import logging as of_parts

    for each in (of_pipelines, of_parts):
        each.set_verbosity_error()
        each.disable_progress_bar()


def _working_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Rows and columns, multiples of 8, with about `side` on the long side."""
    scale = side / max(height, width)
    rows, columns = (max(round(each * scale / _UNIT), 1) * _UNIT for each in (height, width))
    return rows, columns


def _how(before: int, after: int) -> int:
    return cv2.INTER_AREA if after < before else cv2.INTER_CUBIC


def _measure(pipeline: Any) -> int:
    import torch

    parts = (part for part in pipeline.components.values() if isinstance(part, torch.nn.Module))
    return sum(module_bytes(part) for part in parts)
