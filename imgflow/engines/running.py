"""The shipped networks at work: by ncnn in float32, by PyTorch in bfloat16.

PyTorch computes a convolution of 3 x 3 as it is written, ncnn by Winograd's minimal filtering
(Lavin, Gray 2016) with a quarter of the multiplications: in float32 that is faster, and PyTorch
need not be loaded. Where the processor has bfloat16 in hardware, PyTorch's is fast.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from imgflow.errors import EngineUnavailable

if TYPE_CHECKING:
    from torch import nn

Planes = NDArray[np.float32]
"""(H, W, C)."""
Task = Callable[[Planes], Planes]
"""What a network is used for: of planes (H, W, C), others of as many or scale times the pixels a
side."""
Computed = Literal["bfloat16", "float32"]

INPUT, OUTPUT = "in0", "out0"
"""What ncnn's layers call what comes in and what goes out."""

LAYERS = Path(str(files("imgflow.engines.networks") / "layers"))
"""Where what ncnn is told of each task lies: `python -m imgflow.training layers` writes it."""

# What stands before filters that are float32 as they are, in ncnn's files.
_AS_THEY_ARE = struct.pack("<I", 0)


@lru_cache
def fast_type() -> Computed:
    """bfloat16 where the processor has it in hardware (about twice as fast), else float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux
        import torch

        return "bfloat16" if torch.cpu._is_avx512_bf16_supported() else "float32"
    return "bfloat16" if "avx512_bf16" in flags.split() else "float32"


def layers_of(task: str) -> str:
    """The layers of a network for a task, as ncnn reads them."""
    return (LAYERS / f"{task}.param").read_text("ascii")


class NcnnTask:
    """A task of a network, in float32, on planes of even height and width.

    weights: by their names in the network. Raises EngineUnavailable without room to unpack them.
    """

    def __init__(self, name: str, weights: Mapping[str, NDArray[np.generic]], threads: int) -> None:
        import ncnn

        self._name = name
        self._ncnn = ncnn
        self._net = ncnn.Net()
        options = self._net.opt
        options.num_threads = threads
        for half in ("fp16_storage", "fp16_packed", "fp16_arithmetic", "bf16_storage"):
            setattr(options, f"use_{half}", False)
        options.blob_allocator, options.workspace_allocator = _pools()
        self._load(layers_of(name), weights)

    def _load(self, layers: str, weights: Mapping[str, NDArray[np.generic]]) -> None:
        """ncnn reads from files. Raises EngineUnavailable where there is no room for them."""
        try:
            with TemporaryDirectory(prefix="imgflow-ncnn-") as folder:
                said, filters = Path(folder) / "layers", Path(folder) / "filters"
                said.write_text(layers)
                with filters.open("wb") as file:
                    file.writelines(_filters(layers, weights))
                failed = self._net.load_param(str(said)) or self._net.load_model(str(filters))
        except OSError as error:
            raise EngineUnavailable(
                "no_temporary_room",
                f"the weights of {self._name} cannot be unpacked in {gettempdir()}: "
                f"{error.strerror or error}",
                hint="Make room there, or name another folder in TMPDIR",
            ) from error
        if failed:
            raise ValueError(f"ncnn does not take the layers of {self._name}")

    def __call__(self, planes: Planes) -> Planes:
        # ncnn does not keep it alive, and computes in place: in a copy.
        seen = np.ascontiguousarray(planes.transpose(2, 0, 1), np.float32)
        work = self._net.create_extractor()
        work.input(INPUT, self._ncnn.Mat(seen).clone())
        failed, made = work.extract(OUTPUT)
        if failed:
            raise MemoryError(f"ncnn computed nothing ({self._name}): memory must have run out")
        return np.array(made).transpose(1, 2, 0)


@lru_cache
def _pools() -> tuple[object, object]:
    """Memory that all tasks of this process work in, one after the other. Those that ncnn makes for
    each network by itself keep all that it ever needed, for good. They outlive the networks."""
    import ncnn

    return ncnn.PoolAllocator(), ncnn.PoolAllocator()


def _filters(layers: str, weights: Mapping[str, NDArray[np.generic]]) -> Iterator[bytes]:
    """What ncnn reads beside the layers: filters and biases of the convolutions, in their order."""
    for line in layers.splitlines():
        kind, *words = line.split()
        if kind == "Convolution":
            yield _AS_THEY_ARE
            for each in ("weight", "bias"):
                yield weights[f"{words[0]}.{each}"].astype(np.float32).tobytes()


class TorchTask:
    """A task of a network with its weights, in bfloat16. threads: of all that torch does in this
    process."""

    def __init__(self, task: nn.Module, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._torch = torch
        self._task = task.to(torch.bfloat16).to(memory_format=torch.channels_last).eval()

    def __call__(self, planes: Planes) -> Planes:
        torch = self._torch
        seen = torch.from_numpy(np.ascontiguousarray(planes)).permute(2, 0, 1)[None]
        with torch.inference_mode():
            made = self._task(seen.contiguous(memory_format=torch.channels_last))
        return np.asarray(made[0].permute(1, 2, 0).float().numpy())
