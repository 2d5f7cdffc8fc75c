"""Two photos that went through the line: one repaired twice, one untouched, and one refused. No
test lives here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from samples import FakeDetector, FakeEraser, Stamped, encoded, photo, stamp
from told import Told

from imgflow.chain import Line, rescue
from imgflow.engines.registry import Engines
from imgflow.home import CATALOG, Home
from imgflow.lineage.record import Record, Version
from imgflow.policy.policy import Policy
from imgflow.store.keys import ImageKey

SEED = 7
A, B = ImageKey("a.png"), ImageKey("b.jpg")


def make_two(home: Home) -> Told:
    """a.png: text removed, and a masked region filled. b.jpg: untouched. no.jpg: no photo."""
    stamped = the_stamp()
    mask = np.zeros(stamped.pixels.shape[:2], np.uint8)
    mask[150:160, 20:40] = 255
    folder = home.uploads.root
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(encoded(stamped.pixels))
    (folder / "a.mask.png").write_bytes(encoded(mask))
    step = {"op": "inpaint", "mask": "a.mask.png", "seed": SEED, "prompt": "a lawn"}
    (folder / "a.png.json").write_text(json.dumps({"job_id": "j", "steps": [step]}))
    (folder / "b.jpg").write_bytes(encoded(photo("coffee", 300), "JPEG", quality=95))
    (folder / "no.jpg").write_bytes(b"<html>")
    line = two_line(home, stamped)
    told = Told()
    for key, _ in home.uploads.scan().photos:
        for passed in rescue(key, line).steps:
            told.tell(home.store, passed.record)
    return told


def the_stamp() -> Stamped:
    return stamp(photo("rocket", 320), at=(195, 8))


def two_engines(*stamps: Stamped) -> Engines:
    engines = Engines()
    engines.register_text_detector("rapidocr", lambda: FakeDetector(*stamps))
    engines.register_eraser("eraser", FakeEraser)
    return engines


def two_line(home: Home, *stamps: Stamped) -> Line:
    policy = Policy.model_validate(
        {
            "upscale": {"max_scale": 1, "sharpen_below": 0, "denoise_above": None},
            "inpaint": {"gates": {"accept_artifacts": True}},
            "renditions": [
                {"name": "web", "long_side": 200},
                {"name": "thumb", "long_side": 60, "format": "webp"},
            ],
        }
    )
    return Line(
        catalog=CATALOG,
        store=home.store,
        engines=two_engines(*stamps),
        policy=policy,
        uploads=home.uploads,
        run_id="run-1",
    )


def record(home: Home, version: Version, key: ImageKey = A) -> Record:
    found = home.store.get_record(CATALOG, key, version)
    assert found is not None
    return found


def record_path(home: Home, version: Version, key: ImageKey = A) -> Path:
    return home.root / "store/records" / CATALOG / key.digest / f"{version}.json"


def flip(path: Path, at: int = -20) -> None:
    """One bit of a file, as a disk may lose it."""
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(bytes(data))
