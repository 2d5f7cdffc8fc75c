"""Is this machine fit for the line, and what is to do if not."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from imgflow.errors import BadPolicy, ImgflowError
from imgflow.home import Home
from imgflow.lineage.environment import environment
from imgflow.policy.policy import Policy
from imgflow.pool import cores

if TYPE_CHECKING:  # boto3 comes with it
    from imgflow.store.bucket import Bucket

_MIN_FREE_GIB = 2.0
_MIN_MEMORY_GIB = 2.0
_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    status: Literal["ok", "warning", "failed"]
    found: str

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def examine(home: Home) -> list[Finding]:
    """All findings. A check that itself breaks is a finding, too."""
    findings = []
    for what, check in _CHECKS.items():
        try:
            findings += [Finding(what, status, found) for status, found in check(home)]
        except ImgflowError as error:
            findings.append(Finding(what, "failed", str(error)))
        except Exception as error:  # whatever is broken here is what the doctor is asked for
            findings.append(Finding(what, "failed", f"{type(error).__name__}: {error}"))
    return findings


_Check = Iterator[tuple[Literal["ok", "warning", "failed"], str]]


def _python(home: Home) -> _Check:
    yield "ok", f"{platform.python_version()} on {platform.platform()}"


def _processor(home: Home) -> _Check:
    instructions = environment(1).instruction_set
    yield "ok", f"{cores()} cores, {instructions}"


def _memory(home: Home) -> _Check:
    import psutil

    free = psutil.virtual_memory().available / _GIB
    needed = _MIN_MEMORY_GIB * (_policy_or_default(home).run.workers or cores())
    if free >= needed:
        yield "ok", f"{free:.1f} GiB free"
    else:
        yield "warning", f"{free:.1f} GiB free, {needed:.0f} wanted: set run.workers lower"


def _opencv(home: Home) -> _Check:
    builds = [
        dist.name
        for dist in importlib.metadata.distributions()
        if dist.name.lower().startswith("opencv-")
    ]
    if len(builds) == 1:
        yield "ok", builds[0]
    else:
        yield "failed", f"exactly one OpenCV build may be installed, found: {', '.join(builds)}"


def _ocr(home: Home) -> _Check:
    from imgflow.equipment import equip

    policy = _policy_or_default(home)
    detector = equip(home, policy).text_detector(policy.detext.detector)
    yield "ok", detector.spec.code_version


def _policy_or_default(home: Home) -> Policy:
    """A broken policy is one finding, and not one of every check."""
    try:
        return home.policy()
    except BadPolicy:
        return Policy()


def _policy(home: Home) -> _Check:
    for each in home.all():
        policy = each.policy()
        where = each.policy_file if each.policy_file.exists() else "defaults"
        yield "ok", f"{where} (sha256 {policy.digest()[:12]})"


def _folders(home: Home) -> _Check:
    folders = [each.uploads.root for each in home.all() if each.inbox is None]
    for folder in folders if home.storage else [*folders, home.store_folder]:
        try:
            with tempfile.TemporaryFile(dir=_existing(folder)):
                pass
        except OSError as error:
            yield "failed", f"{folder} cannot be written: {error.strerror}"
        else:
            yield "ok", f"{folder} can be written"


def _bucket(home: Home) -> _Check:
    """Whether the bucket of the store takes objects, finds them, and knows conditions."""
    if home.storage is None:
        return
    from imgflow.store.bucket import Bucket

    bucket, name = Bucket(home.storage), f"doctor/{uuid.uuid4().hex}"
    etag = bucket.put(name, b"probe", if_absent=True)
    try:
        another = "0" * len(etag)
        passed_over = [
            condition
            for condition, asked in (("If-Match", {"if_etag": another}), ("If-None-Match", {}))
            if not _is_refused(bucket, name, **asked)
        ]
    finally:
        bucket.delete(name)
    if not passed_over:
        yield "ok", f"{home.storage.url} takes objects, and knows conditional writes"
    else:
        yield (
            "failed",
            f"{home.storage.url} knows no conditional writes ({', '.join(passed_over)}): two "
            "writers would overwrite each other's records",
        )


def _is_refused(bucket: Bucket, name: str, *, if_etag: str = "") -> bool:
    """Whether a write under a condition that does not hold is refused, as it must be."""
    from imgflow.store.bucket import Conflict

    try:
        bucket.put(name, b"another", if_etag=if_etag, if_absent=not if_etag)
    except Conflict:
        return True
    return False


def _inboxes(home: Home) -> _Check:
    """Whether uploads that are in buckets can be listed."""
    from imgflow.store.bucket import Bucket

    for place in (each.inbox for each in home.all() if each.inbox is not None):
        next(Bucket(place).pages(size=1), None)
        yield "ok", f"{place.url} can be listed"


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that exists: the doctor makes none."""
    return next(each for each in (folder, *folder.parents) if each.exists())


def _disk(home: Home) -> _Check:
    free = shutil.disk_usage(_existing(home.root)).free / _GIB
    if free >= _MIN_FREE_GIB:
        yield "ok", f"{free:.1f} GiB free"
    else:
        yield "warning", f"only {free:.1f} GiB free, {_MIN_FREE_GIB:.0f} wanted: make room"


_CHECKS: dict[str, Callable[[Home], _Check]] = {
    "Python": _python,
    "processor": _processor,
    "memory": _memory,
    "OpenCV": _opencv,
    "text detector": _ocr,
    "policy": _policy,
    "folders": _folders,
    "bucket": _bucket,
    "uploads": _inboxes,
    "disk": _disk,
}
