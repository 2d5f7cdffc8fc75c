"""Where a version was made: whatever can change bytes beside the inputs."""

from __future__ import annotations

import platform
import sys
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from imgflow.lineage.record import Environment

_LIBRARIES = (
    "ncnn",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "scikit-image",
    "scipy",
    "onnxruntime",
    "rapidocr",
    "torch",
)
# Vector widths and types that make libraries take another path, widest first.
_INSTRUCTION_SETS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2", "asimd", "sse4_2")


def environment(threads: int) -> Environment:
    """This process's environment; `threads` is what its engines may use."""
    here = _environment(threads)
    device = _accelerator()
    return here.model_copy(update={"accelerator": device}) if device else here


def _accelerator() -> str:
    """The graphics card that is in use; only torch uses one, and only once it is loaded."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return ""
    return str(torch.cuda.get_device_name())


@lru_cache(maxsize=8)
def _environment(threads: int) -> Environment:
    return Environment(
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        instruction_set=_instruction_set(),
        threads=threads,
        libraries={name: found for name in _LIBRARIES if (found := _version(name))},
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _instruction_set() -> str:
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return platform.machine()
    return next((name for name in _INSTRUCTION_SETS if name in flags), platform.machine())
