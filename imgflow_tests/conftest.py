"""What the tests of the line stand on: a home, lines over it, photos dropped into it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from samples import FakeDetector, FakeEraser, Stamped, encoded, photo, stamp

from imgflow.chain import Line
from imgflow.engines.registry import Engines
from imgflow.home import CATALOG, Home
from imgflow.lineage.record import ObjectRef
from imgflow.policy.policy import Policy
from imgflow.stages.stage import Job, Picture
from imgflow.store.keys import ImageKey
from imgflow.store.store import sha256_hex


@pytest.fixture(autouse=True)
def _no_instance_of_another_test() -> None:
    """Dagster forgets to take an instance that was entered twice out of its context: whatever
    loads definitions in a later test would ask one that is long gone."""
    found = sys.modules.get("dagster._core.storage.defs_state.base")
    if found is not None:
        storage = found._current_storage.get()
        if storage is not None and storage._instance_weakref() is None:
            found._current_storage.set(None)


@pytest.fixture(scope="session")
def bucket_server() -> Iterator[Any]:
    """An S3 server with the bucket `shop`, a process of its own."""
    from imgflow.bench.s3.server import serve

    with serve("shop") as server:
        yield server


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty installation."""
    home = Home(tmp_path / "data")
    home.uploads.root.mkdir(parents=True)
    return home


@pytest.fixture
def engines() -> Engines:
    """The shipped engines, with a detector that finds nothing in the place of OCR, and an eraser
    that knows the stamps' colour in the place of the network."""
    engines = Engines()
    engines.register_text_detector("rapidocr", FakeDetector)
    engines.register_eraser("eraser", FakeEraser)
    return engines


@pytest.fixture
def make_line(home: Home, engines: Engines) -> Callable[..., Line]:
    """make_line(detext={...}, ...): the line under a policy that differs in these parts."""

    def make(**policy: Any) -> Line:
        return Line(
            catalog=CATALOG,
            store=home.store,
            engines=engines,
            policy=Policy.model_validate(policy),
            uploads=home.uploads,
            run_id="run-1",
        )

    return make


@pytest.fixture
def drop(home: Home) -> Callable[..., ImageKey]:
    """drop(name, bytes, manifest={...}, masks={name: bytes}): an upload, and its key."""

    def put(
        name: str,
        data: bytes,
        manifest: dict[str, Any] | bytes | None = None,
        masks: dict[str, bytes] | None = None,
    ) -> ImageKey:
        path = home.uploads.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        if manifest is not None:
            text = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
            path.with_name(path.name + ".json").write_bytes(text)
        for mask, content in (masks or {}).items():
            path.with_name(mask).write_bytes(content)
        return ImageKey.from_path(name)

    return put


@pytest.fixture
def make_job(home: Home, engines: Engines) -> Callable[..., Job]:
    """make_job(policy={...}, manifest=Manifest(...), ...): one image's job, for one stage."""

    def make(policy: dict[str, Any] | None = None, **fields: Any) -> Job:
        from imgflow.policy.manifest import Manifest

        given: dict[str, Any] = {
            "key": ImageKey("photo.png"),
            "policy": Policy.model_validate(policy or {}),
            "routes": (),
            "manifest": Manifest.model_validate(fields.pop("manifest", {})),
            "masks": {},
            "attachments": {},
            "data": b"",
            "original": None,
            "store": home.store,
            "engines": engines,
        }
        return Job(**{**given, **fields})

    return make


@pytest.fixture
def picture(home: Home) -> Callable[..., Picture]:
    """picture(pixels): a version that holds them. Its object is named, and not written."""

    def make(pixels: Any) -> Picture:
        data = pixels.tobytes()
        ref = ObjectRef(sha256=sha256_hex(data), media_type="image/png", size=len(data))
        return Picture(home.store, ref, pixels)

    return make


@pytest.fixture(scope="session")
def stamped() -> Stamped:
    """A date stamp on the calm part of a real photo."""
    return stamp(photo("rocket", 320), at=(195, 8))


@pytest.fixture
def stamped_file(stamped: Stamped) -> bytes:
    return encoded(stamped.pixels)
