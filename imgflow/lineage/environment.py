"""Where a version was made: whatever can change bytes beside the inputs."""

from __future__ import annotations

import platform
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from imgflow.lineage.record import Environment

_LIBRARIES = (
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


@lru_cache(maxsize=8)
def environment(threads: int) -> Environment:
    """This process's environment; `threads` is what its engines may use."""
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
