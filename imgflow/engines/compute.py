"""Where models work: device, precision, memory; and the models that are held there."""

from __future__ import annotations

import gc
import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from imgflow.engines.account import account
from imgflow.engines.loading import loading
from imgflow.engines.running import fast_type
from imgflow.errors import EngineUnavailable, ImgflowError

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "float32", "bfloat16", "float16"]
PRECISIONS: tuple[Precision, ...] = ("auto", "float32", "bfloat16", "float16")
Model = TypeVar("Model")
Result = TypeVar("Result")

_MIB = 1 << 20
# Of the card's memory that is free, and of the machine's memory: the rest is for tiles.
_SHARE_OF_CARD, _SHARE_OF_MACHINE = 0.6, 0.5


@dataclass(frozen=True, slots=True)
class Compute:
    """Where models from the shelf work. Picklable: workers get it.

    device: auto (a card, if torch sees one), cpu, cuda:N or mps. precision: auto is what the
    device does fast and the model bears. memory_mb: what all models of all processes together may
    take; 0: a share of what there is. cpu_when_full: whether the processor takes over when a card's
    memory is full. processes: that share the memory.
    """

    device: str = "auto"
    precision: Precision = "auto"
    memory_mb: int = 0
    cpu_when_full: bool = True
    processes: int = 1

    def __post_init__(self) -> None:
        known = self.device in ("auto", "cpu", "mps", "cuda") or (
            self.device.startswith("cuda:") and self.device[5:].isdecimal()
        )
        if not known or self.precision not in PRECISIONS or self.memory_mb < 0:
            raise ImgflowError(
                "compute_invalid",
                f"device '{self.device}', precision '{self.precision}', {self.memory_mb} MB",
                hint="device: auto, cpu, cuda:0 or mps; precision: " + ", ".join(PRECISIONS),
            )

    @classmethod
    def from_environment(cls) -> Compute:
        """IMGFLOW_DEVICE, IMGFLOW_PRECISION and IMGFLOW_MODEL_MB, where they are set."""
        precision = os.environ.get("IMGFLOW_PRECISION") or "auto"
        chosen = next((each for each in PRECISIONS if each == precision), None)
        memory = os.environ.get("IMGFLOW_MODEL_MB") or "0"
        if chosen is None or not memory.isdecimal():
            raise ImgflowError(
                "compute_invalid",
                f"IMGFLOW_PRECISION is '{precision}' and IMGFLOW_MODEL_MB '{memory}'",
                hint=f"Precisions are {', '.join(PRECISIONS)}; memory is in MB",
            )
        return cls(
            device=os.environ.get("IMGFLOW_DEVICE") or "auto",
            precision=chosen,
            memory_mb=int(memory),
        )

    def torch_device(self) -> torch.device:
        """The device. Raises EngineUnavailable for one that this machine has not."""
        import torch

        if self.device == "auto":
            if torch.cuda.is_available():
                return torch.device("cuda:0")
            return torch.device("cpu")
        device = torch.device(self.device)
        present = {
            "cpu": True,
            "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
            "mps": torch.backends.mps.is_available(),
        }
        if not present[device.type]:
            raise EngineUnavailable(
                "device_missing",
                f"this machine has no device '{self.device}'",
                hint="Use auto or cpu: IMGFLOW_DEVICE, or the resource `gpu` in Dagster",
            )
        return device

    def dtype(self, device: torch.device, *, half: bool, bfloat16: bool) -> torch.dtype:
        """What a model computes in. half, bfloat16: whether it bears them."""
        import torch

        asked = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
        if self.precision != "auto":
            wanted = asked[self.precision]
            bears = {torch.float32: True, torch.bfloat16: bfloat16, torch.float16: half}[wanted]
            # The processor has no fast half precision, and parts of torch none at all.
            if bears and not (wanted is torch.float16 and device.type == "cpu"):
                return wanted
            account().note(f"the model does not bear {self.precision}: float32 was used")
            return torch.float32
        if device.type == "cuda":
            # Older cards only imitate bfloat16, slower than float32.
            fast = torch.version.hip is not None or torch.cuda.get_device_capability(device)[0] >= 8
            if bfloat16 and fast:
                return torch.bfloat16
            return torch.float16 if half and not fast else torch.float32
        if device.type == "cpu" and bfloat16 and fast_type() == "bfloat16":
            return torch.bfloat16
        return torch.float32

    def budget(self, device: torch.device) -> int:
        """Bytes that the models of one process may take on the device."""
        if self.memory_mb:
            return self.memory_mb * _MIB // self.processes
        import torch

        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            return int(free * _SHARE_OF_CARD / self.processes)
        import psutil

        return int(psutil.virtual_memory().total * _SHARE_OF_MACHINE / self.processes)


class ModelCache:
    """Models that were loaded, as many as a budget of bytes holds: the least used goes first.

    peak: the most bytes that were ever held.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.peak = 0
        self._held: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self._held.values())

    def __len__(self) -> int:
        return len(self._held)

    def get(
        self,
        key: Hashable,
        expected: int,
        load: Callable[[], Model],
        measure: Callable[[Model], int],
    ) -> Model:
        """The model of that key, loaded if it is not held. Keep no reference to it.

        expected: bytes that it will take, at most; measure: those that it does. Room is made
        before it is loaded. Raises EngineUnavailable (model_too_large) for one that alone exceeds
        the budget, and whatever `load` raises.
        """
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key][0]
        self._require_room(expected)
        model = load()
        size = measure(model)
        self._require_room(size)
        self._held[key] = (model, size)
        self.peak = max(self.peak, self.bytes)
        return model

    def drop_all(self) -> None:
        """Let go of all models, on every device."""
        self._held.clear()
        _free()

    def _require_room(self, size: int) -> None:
        if size > self.budget:
            raise EngineUnavailable(
                "model_too_large",
                f"the model takes {size / _MIB:.0f} MB, and all together may take "
                f"{self.budget / _MIB:.0f}",
                hint="Raise IMGFLOW_MODEL_MB (memory_mb of the resource `gpu`), have fewer workers "
                "share it (run.workers in the policy), or name a smaller engine there",
            )
        evicted = False
        while self._held and self.bytes + size > self.budget:
            self._held.popitem(last=False)
            evicted = True
        if evicted:
            _free()


def module_bytes(module: torch.nn.Module) -> int:
    """Bytes of a network's parameters and buffers."""
    tensors = [*module.parameters(), *module.buffers()]
    return sum(each.numel() * each.element_size() for each in tensors)


def out_of_memory() -> tuple[type[BaseException], ...]:
    """The errors that mean that memory ran out. Imports nothing."""
    torch = sys.modules.get("torch")
    return (MemoryError,) if torch is None else (MemoryError, torch.OutOfMemoryError)


# What torch says with a plain RuntimeError: on mps, in cuDNN, in the driver, on a processor.
_FULL = ("out of memory", "CUDNN_STATUS_ALLOC_FAILED", "can't allocate memory")


def is_full(error: BaseException) -> bool:
    """Whether memory ran out, whatever says so."""
    if isinstance(error, out_of_memory()):
        return True
    return isinstance(error, RuntimeError) and any(each in str(error) for each in _FULL)


def on_card_or_processor(
    compute: Compute,
    work: Callable[[torch.device], Result],
    *,
    smaller_helps: bool,
    detects: bool = False,
) -> Result:
    """Do work on the device, and on the processor when the card's memory is full.

    smaller_helps: whether the caller can ask for less; then the error is theirs. detects: no
    pixels are made: it is not this device that the record names. Raises EngineUnavailable
    (out_of_memory) where the processor may not take over.
    """
    if "torch" not in sys.modules:
        with loading("torch"):
            import_module("torch")
    import torch

    device = compute.torch_device()
    try:
        with _told(device, detects):
            return work(device)
    except Exception as error:
        if not is_full(error):
            raise
        if smaller_helps or device.type == "cpu":
            if isinstance(error, out_of_memory()):
                raise
            # As those who make tiles smaller know it.
            raise torch.OutOfMemoryError(str(error)) from error
        if not compute.cpu_when_full:
            raise EngineUnavailable(
                "out_of_memory",
                f"the memory of {device} is full, and the processor may not take over",
                hint="Use smaller tiles or another engine, or allow cpu_when_full",
            ) from None
    # Outside of the except clause: its traceback keeps the tensors alive.
    _free()
    account().note(f"the memory of {device} was full: the processor took over")
    processor = torch.device("cpu")
    with _told(processor, detects):
        return work(processor)


@contextmanager
def _told(device: torch.device, detects: bool) -> Iterator[None]:
    if not detects:
        account().device = str(device)
        account().calls += 1
    yield


def _free() -> None:
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch is not None and torch.backends.mps.is_available():
        torch.mps.empty_cache()
