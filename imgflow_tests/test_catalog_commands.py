"""Commands over several catalogs: all of them, or the one that is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from samples import at_once
from typer.testing import CliRunner

from imgflow import batch
from imgflow.cli import app
from imgflow.home import Home
from imgflow.lineage.record import Verdict, Version
from imgflow.store.keys import ImageKey

LIST = "catalogs: [{name: shoes, shards: 2}, {name: bags}]\n"
POLICY = (
    "upscale: {max_scale: 1, sharpen_below: 0}\ndetext: {text: none}\nrun: {workers: 1}\n"
    "renditions: [{name: web, long_side: 48}]\n"
)


def draw(path: Path, shade: int) -> None:
    ramp = np.linspace(30 + shade, 200, 48 * 48, dtype=np.uint8).reshape(48, 48)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.stack([ramp, ramp.T, ramp], axis=2)).save(path)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """Three photos in one catalog, one of them of the same name as the only one in the other;
    all have been through the line."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("home") / "data"
        root.mkdir()
        patch.delenv("DAGSTER_HOME", raising=False)
        patch.delenv("IMGFLOW_CATALOG", raising=False)
        patch.setenv("IMGFLOW_HOME", str(root))
        patch.setattr("imgflow.refresh.STABLE_S", 0.0)
        patch.setattr(batch, "supervise", at_once)
        patch.chdir(root.parent)
        (root / "catalogs.yaml").write_text(LIST)
        (root / "policy.yaml").write_text(POLICY)
        found = Home(root)
        for number, name in enumerate(["a.png", "b.png", "c.png"]):
            draw(found.of("shoes").uploads.root / name, 10 * number)
        draw(found.of("bags").uploads.root / "a.png", 50)
        assert asked("run")["verdicts"] == {"published": 4}
        yield found


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def asked(*arguments: str, code: int = 0) -> dict[str, Any]:
    found = call(*arguments, "--json")
    assert found.exit_code == code, found.output
    answer: dict[str, Any] = json.loads(found.stdout)
    return answer


def test_audit_goes_over_catalogs_and_shards(home: Home) -> None:
    found = asked("audit")
    assert (found["images"], found["versions"], found["events"]) == (4, 20, 20)
    assert found["problems"] == []
    assert asked("audit", "--catalog", "shoes")["images"] == 3
    assert asked("audit", "b.png")["images"] == 1
    assert asked("audit", "a.png", code=1)["code"] == "key_ambiguous"
    assert asked("audit", "a.png", "--catalog", "bags")["images"] == 1
    assert asked("audit", "none.png", code=1)["code"] == "key_unknown"


def test_damage_is_told_with_its_catalog(home: Home) -> None:
    path = Path(home.store.published_location("bags", "a.png/web.jpg"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"x")
    problems = asked("audit", code=1)["problems"]
    path.write_bytes(whole)
    assert {each["catalog"] for each in problems} == {"bags"}
    assert asked("audit")["problems"] == []


def test_a_file_is_known_in_whatever_catalog_it_is(home: Home, tmp_path: Path) -> None:
    for catalog in ("shoes", "bags"):
        copy = tmp_path / f"{catalog}.jpg"
        shutil.copy(home.store.published_location(catalog, "a.png/web.jpg"), copy)
        found = asked("whoami", str(copy))
        assert (found["match"], found["catalog"], found["key"]) == ("published", catalog, "a.png")


def test_counts_by_catalog(home: Home) -> None:
    assert set(asked("status")["catalogs"]) == {"shoes", "bags"}
    rows = asked("catalogs")["catalogs"]
    assert [(row["name"], row["shards"], row["photos"]) for row in rows] == [
        ("shoes", 2, 3),
        ("bags", 1, 1),
    ]


def test_a_refresh_makes_what_each_catalogs_own_policy_has_changed(home: Home) -> None:
    own = home.of("bags").folder / "policy.yaml"
    own.write_text(POLICY.replace("48", "40") + "refresh: {retire_missing: true}\n")
    told = asked("refresh", "--dry-run")["catalogs"]
    assert told["bags"]["stale"] == ["a.png"]
    assert told["shoes"]["stale"] == []
    assert told["shoes"]["current"] == 3
    assert asked("refresh")["images"] == 1
    (home.of("bags").uploads.root / "a.png").rename(home.root / "kept.png")
    assert asked("refresh", "--dry-run")["catalogs"]["bags"]["retired"] == ["a.png"]
    asked("refresh", "--catalog", "bags")
    record = home.store.get_record("bags", ImageKey("a.png"), Version.PUBLISHED)
    assert record is not None
    assert record.verdict is Verdict.RETIRED
    assert not Path(home.store.published_location("bags", "a.png/web.jpg")).exists()
    assert Path(home.store.published_location("shoes", "a.png/web.jpg")).exists()


def test_what_needs_one_catalog_asks_which(home: Home) -> None:
    assert asked("ingest", str(home.root / "kept.png"), code=1)["code"] == "catalog_unnamed"
    assert asked("status", "--catalog", "hats", code=1)["code"] == "catalog_unknown"
    found = asked("ingest", str(home.root / "kept.png"), "--catalog", "shoes")
    assert found["new"] == 1


def test_other_shards_are_refused_before_anything_runs(home: Home) -> None:
    (home.root / "catalogs.yaml").write_text(LIST.replace("shards: 2", "shards: 3"))
    try:
        assert asked("run", code=1)["code"] == "shards_changed"
    finally:
        (home.root / "catalogs.yaml").write_text(LIST)
