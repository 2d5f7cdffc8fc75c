"""What spandrel loads: super-resolution, restoration and inpainting networks by weights file."""

from __future__ import annotations

import math
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.engines.account import account
from imgflow.engines.compute import is_full, module_bytes, on_card_or_processor
from imgflow.engines.draws import drawing
from imgflow.engines.held import Bench, Held, seed_parameter, spec_of
from imgflow.engines.network_fill import NetworkFill
from imgflow.engines.shelf.shelf import Weights
from imgflow.engines.torchfile import first_line, read_state, require_finite, unfit
from imgflow.errors import EngineUnavailable
from imgflow.imaging.tiling import MIN_CORE

if TYPE_CHECKING:
    import torch

# What a tile of the smallest size sees beyond its core for being blended, at most.
_BLENDED = 32
_MOST_PASSES = 2


def load_network(path: Path) -> Any:
    """spandrel's descriptor of a weights file, on the processor, in float32, for inference.

    Raises EngineUnavailable (code weights_unfit) for what is damaged or no network that it knows.
    """
    from spandrel import canonicalize_state_dict  # type: ignore[import-untyped]

    state = read_state(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of functions that torch has better ones for
            network = _architectures().load(canonicalize_state_dict(state))
    # Each architecture checks in its own way, with whatever error comes of it.
    except Exception as error:
        raise unfit(path, f"they are of no network that is known ({first_line(error)})") from error
    require_finite(path, network.model)
    return network.float().eval()


def _architectures() -> Any:
    """All that spandrel knows; and those whose licences are not for everybody, such as MAT, where
    a user has installed them."""
    from spandrel import MAIN_REGISTRY

    if find_spec("spandrel_extra_arches") is not None:
        import spandrel_extra_arches  # type: ignore[import-not-found]

        spandrel_extra_arches.install(ignore_duplicates=True)
    return MAIN_REGISTRY


class SpandrelUpscaler:
    """A super-resolution or restoration network for one scale.

    A network for another scale is used as often as it takes, and the result reduced.
    Raises EngineUnavailable (code engine_scale) where that cannot give the scale.
    """

    def __init__(
        self, name: str, weights: Weights, scale: int, bench: Bench, *, seed: int = 0
    ) -> None:
        native = weights.card.scale
        passes = _passes(name, native, scale)
        self.spec = spec_of(
            name,
            "upscaler",
            weights,
            variant=f"-x{scale}",
            scale=scale,
            receptive=math.ceil(
                sum(weights.card.receptive / native**each for each in range(passes))
            ),
            tiling="tiles",
            dtypes=("float32",),
            parameters=seed_parameter(seed),
        )
        self._weights, self._bench, self._passes, self._seed = weights, bench, passes, seed
        self._held = Held(bench, weights, self._load, _measure)
        self._exact = Held(bench, weights, self._load_exact, _measure, variant="float32")
        self._bears_less = True

    def enlarge(self, tile: NDArray[np.float32]) -> NDArray[np.float32]:
        smallest = MIN_CORE + 2 * (self.spec.receptive + _BLENDED)
        return on_card_or_processor(
            self._bench.compute,
            lambda device: self._enlarge(tile, device),
            smaller_helps=max(tile.shape[:2]) > smallest,
        )

    def _enlarge(self, tile: NDArray[np.float32], device: torch.device) -> NDArray[np.float32]:
        import torch

        if self._bears_less:
            network = self._held.on(device)
            try:
                return self._enlarge_by(network, tile, device)
            except RuntimeError as error:
                # Some that are said to bear less precision mix it with float32 (SwinIR's masks).
                if is_full(error) or network.dtype is torch.float32:
                    raise
                self._bears_less = False
            del network
        account().note("the model does not bear less precision: float32 was used")
        return self._enlarge_by(self._exact.on(device), tile, device)

    def _enlarge_by(
        self, network: Any, tile: NDArray[np.float32], device: torch.device
    ) -> NDArray[np.float32]:
        account().dtype = str(network.dtype).removeprefix("torch.")
        large = tile
        with drawing(device, self._seed):
            for _ in range(self._passes):
                large = _once(network, large)
        height, width = (side * self.spec.scale for side in tile.shape[:2])
        if large.shape[:2] == (height, width):
            return large
        reduced = cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA)
        return np.asarray(reduced, np.float32).reshape(height, width, tile.shape[2])

    def _load(self, device: torch.device) -> Any:
        network = self._network()
        dtype = self._bench.compute.dtype(
            device, half=network.supports_half, bfloat16=network.supports_bfloat16
        )
        return network.to(device, dtype)

    def _load_exact(self, device: torch.device) -> Any:
        return self._network().to(device)

    def _network(self) -> Any:
        network = load_network(self._weights.file)
        kind = getattr(network, "purpose", "")
        if kind not in ("SR", "Restoration") or network.input_channels not in (1, 3):
            raise unfit(
                self._weights.file,
                f"they are of a network for {kind or 'something else'} with "
                f"{network.input_channels} channels, and not for enlarging photos",
            )
        if network.scale != self._weights.card.scale:
            raise unfit(
                self._weights.file,
                f"the network enlarges x{network.scale}, its card says x{self._weights.card.scale}",
            )
        return network


def spandrel_fill(name: str, weights: Weights, bench: Bench, *, seed: int = 0) -> NetworkFill:
    """An inpainting network: LaMa, or what is like it. seed: as in NetworkFill."""

    def load(device: torch.device) -> Any:
        network = load_network(weights.file)
        if getattr(network, "purpose", "") != "Inpainting" or network.input_channels != 3:
            kind = getattr(network, "purpose", "something else")
            raise unfit(weights.file, f"they are of a network for {kind}, not for filling")
        # Fourier convolutions lose what they are for in half precision.
        return network.to(device)

    return NetworkFill(name, weights, bench, load, _measure, seed=seed)


def _once(network: Any, tile: NDArray[np.float32]) -> NDArray[np.float32]:
    import torch

    planes = torch.from_numpy(np.ascontiguousarray(tile)).permute(2, 0, 1)[None]
    planes = planes.to(network.device, network.dtype)
    with torch.inference_mode():
        if network.input_channels == 1:  # a network for brightness sees each colour as such
            made = torch.cat([network(planes[:, each : each + 1]) for each in range(3)], dim=1)
        else:
            made = network(planes)
    return np.ascontiguousarray(made[0].permute(1, 2, 0).float().cpu().numpy())


def _passes(name: str, native: int, scale: int) -> int:
    """How often a network of the native scale works to reach at least `scale`."""
    passes = (
        1 if native == scale else math.ceil(math.log(scale, native) - 1e-9) if native > 1 else 0
    )
    if not 1 <= passes <= _MOST_PASSES or (native > 1) != (scale > 1):
        raise EngineUnavailable(
            "engine_scale", f"the engine '{name}' works at x{native}, which cannot give x{scale}"
        )
    return passes


def _measure(network: Any) -> int:
    return module_bytes(network.model)
