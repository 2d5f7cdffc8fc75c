"""The same photos through the line with the store in a folder, and in a bucket on this machine."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from imgflow.bench.photos import write_photos
from imgflow.bench.s3.server import serve
from imgflow.bench.throughput import Throughput, measure_bare
from imgflow.home import Home
from imgflow.store.place import Place


def bench_ratio(
    images: int, size: tuple[int, int], advance: Callable[[], None]
) -> tuple[Throughput, Throughput]:
    """(folder, bucket). moto's server works on the same cores as the line, so that what it costs
    counts against the bucket."""
    with tempfile.TemporaryDirectory(prefix="imgflow-bench-") as folder, serve("shop") as server:
        before = dict(os.environ)
        os.environ.update(server.settings)
        try:
            local = Home(Path(folder) / "folder")
            far = Home(Path(folder) / "bucket", storage=Place.parse("s3://shop/line"))
            for home in (local, far):
                write_photos(home.uploads.root, images, size=size)
            return (
                measure_bare("folder", local, advance),
                measure_bare("bucket", far, advance),
            )
        finally:
            os.environ.clear()
            os.environ.update(before)
