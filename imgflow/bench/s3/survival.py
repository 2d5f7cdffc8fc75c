"""Photos through the store by a bad network, and what is lost, double or wrong afterwards."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from imgflow.bench.s3.faults import FAULTS, Fault, faulty
from imgflow.bench.s3.server import serve
from imgflow.lineage.environment import environment
from imgflow.lineage.record import ObjectRef, Record, Rendition, Verdict, Version
from imgflow.store.keys import ImageKey
from imgflow.store.place import Place
from imgflow.store.s3 import S3Store
from imgflow.store.store import sha256_hex

_CATALOG = "main"
_THREADS = 8
_TIMEOUT_S = 2.0
_RIVALS = 5
"""Of so many photos one is written by two writers at once."""


@dataclass(slots=True)
class Survival:
    """What was found in the bucket afterwards, asked directly.

    met: faults, and requests that passed. retried: requests made again. lost: photos that lack
    something that was put. double: records that were written twice, or keys that are listed twice.
    wrong: objects and published files with other bytes than were put.
    """

    photos: int
    seconds: float = 0.0
    met: dict[str, int] = field(default_factory=dict)
    retried: int = 0
    lost: list[str] = field(default_factory=list)
    double: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.double or self.wrong)

    def as_dict(self) -> dict[str, Any]:
        counts = {name: len(getattr(self, name)) for name in ("lost", "double", "wrong")}
        return {**asdict(self), **counts, "seconds": round(self.seconds, 1)}


@dataclass(frozen=True, slots=True)
class _Photo:
    key: ImageKey
    original: bytes
    picture: bytes
    rendition: bytes
    has_rival: bool

    def record(self, version: Version, run_id: str) -> Record:
        picture = ObjectRef(
            sha256=sha256_hex(self.picture), media_type="image/png", size=len(self.picture)
        )
        web = ObjectRef(
            sha256=sha256_hex(self.rendition), media_type="image/jpeg", size=len(self.rendition)
        )
        published = version is Version.PUBLISHED
        return Record(
            catalog=_CATALOG,
            key=self.key,
            version=version,
            verdict=Verdict.PUBLISHED if published else Verdict.PASSED_THROUGH,
            original_sha256=sha256_hex(self.original),
            output=web if published else picture,
            renditions=[Rendition(name="web", path=self.path, object=web)] if published else [],
            fingerprint="bench",
            policy_sha256="bench",
            imgflow_version="bench",
            code_version="bench",
            run_id=run_id,
            started_at=datetime(2026, 1, 1, tzinfo=UTC),
            seconds=0.0,
            environment=environment(1),
        )

    @property
    def path(self) -> str:
        return f"{self.key}/web.jpg"


def bench_survival(photos: int, rate: float, seed: int, advance: Callable[[], None]) -> Survival:
    """`photos` photos through the store by a proxy where so much of all requests meets a fault."""
    chance = random.Random(seed)
    shelf = [_photo(number, chance) for number in range(photos)]
    rates: dict[Fault, float] = {fault: rate / len(FAULTS) for fault in FAULTS}
    # No answer in time takes its time.
    rates["timeout"] /= 4
    found = Survival(photos)
    with serve("shop") as server:
        before = dict(os.environ)
        os.environ.update(server.settings)
        try:
            place = replace(Place.parse("s3://shop/bench"), backoff_s=0.02, longest_wait_s=0.5)
            with faulty(server.endpoint, rates, seed=seed, timeout_s=1.5 * _TIMEOUT_S) as proxy:
                bad = replace(place, endpoint=proxy.endpoint, timeout_s=_TIMEOUT_S, attempts=12)
                stores = S3Store(bad), S3Store(bad)

                def put(photo: _Photo) -> None:
                    _put(photo, *stores)
                    advance()

                began = time.perf_counter()
                with ThreadPoolExecutor(_THREADS) as threads:
                    list(threads.map(put, shelf))
                found.seconds = time.perf_counter() - began
                found.met = dict(proxy.met)
                found.retried = sum(store.bucket.retried for store in stores)
            _check(shelf, S3Store(place), found)
        finally:
            os.environ.clear()
            os.environ.update(before)
    return found


def _photo(number: int, chance: random.Random) -> _Photo:
    original, picture, rendition = (
        chance.randbytes(chance.randint(1_000, 20_000)) for _ in range(3)
    )
    key = ImageKey(f"shelf/{number:05}.jpg")
    return _Photo(key, original, picture, rendition, has_rival=number % _RIVALS == 0)


def _put(photo: _Photo, store: S3Store, other: S3Store) -> None:
    """What the line does with a photo, as far as the store is concerned."""
    sha256 = store.put_original(photo.original)
    if store.read_original(sha256) != photo.original:
        raise AssertionError("other bytes were read than were put")
    store.put_object(photo.picture, "image/png")
    store.put_object(photo.rendition, "image/jpeg")
    store.put_record(photo.record(Version.RAW, "ours"))
    if photo.has_rival:
        with ThreadPoolExecutor(2) as both:
            list(
                both.map(
                    lambda each: each[0].put_record(photo.record(Version.DETEXTED, each[1])),
                    ((store, "ours"), (other, "theirs")),
                )
            )
    store.publish(_CATALOG, photo.path, photo.rendition)
    store.put_record(photo.record(Version.PUBLISHED, "ours"))


def _check(shelf: list[_Photo], store: S3Store, found: Survival) -> None:
    listed = Counter(store.image_keys(_CATALOG))
    found.double += [f"{key} is listed twice" for key, times in listed.items() if times > 1]
    files = {each.digest: each for each in store.image_files(_CATALOG)}
    known = {photo.key for photo in shelf}
    found.wrong += [f"{key}: nobody put this" for key in listed if key not in known]
    for photo in shelf:
        if photo.key not in listed or photo.key.digest not in files:
            found.lost.append(f"{photo.key}: all")
            continue
        image = files[photo.key.digest]
        for version in (Version.RAW, Version.PUBLISHED):
            if image.current.get(version) != photo.record(version, "ours").to_json():
                found.lost.append(f"{photo.key}: its record of {version}")
        written = [image.current.get(Version.DETEXTED, b"")]
        written += [
            store.replaced_record(_CATALOG, image.digest, version, sha256)
            for version, sha256 in image.replaced
        ]
        wanted = (
            [photo.record(Version.DETEXTED, run).to_json() for run in ("ours", "theirs")]
            if photo.has_rival
            else [b""]
        )
        found.lost += [f"{photo.key}: a rival's record" for each in wanted if each not in written]
        # What a server took though it had arrived as other bytes is set aside, and no record.
        if len(written) > len(wanted):
            found.double.append(f"{photo.key}: {len(written)} records of {len(wanted)}")
        _check_bytes(photo, store, found)
    paths = Counter(store.published_paths(_CATALOG))
    found.wrong += [f"{path}: nobody published this" for path in set(paths) - _paths(shelf)]


def _check_bytes(photo: _Photo, store: S3Store, found: Survival) -> None:
    for data, folder, suffix in (
        (photo.original, "originals", ""),
        (photo.picture, "objects", ".png"),
        (photo.rendition, "objects", ".jpg"),
    ):
        sha256 = sha256_hex(data)
        there = store.bucket.get(f"{folder}/{sha256[:2]}/{sha256}{suffix}", damaged=True)
        if there is None:
            found.lost.append(f"{photo.key}: {folder}/{sha256}")
        elif there.data != data:
            found.wrong.append(f"{photo.key}: {folder}/{sha256}")
    if store.published_sha256(_CATALOG, photo.path) != sha256_hex(photo.rendition):
        found.wrong.append(f"{photo.key}: published")


def _paths(shelf: list[_Photo]) -> set[str]:
    return {photo.path for photo in shelf}
