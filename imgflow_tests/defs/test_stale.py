"""What Dagster shows as stale after a change, and what is made again: that, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
import numpy as np
import pytest
import yaml
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest
from samples import FakeDetector, FakeEraser, Pixels, at_once, encoded, photo

from imgflow import batch, chain
from imgflow.chain import line_code_versions
from imgflow.definitions import line_definitions
from imgflow.defs.launch import instance, launch
from imgflow.defs.resources import Progress
from imgflow.engines.registry import Engines
from imgflow.engines.spec import TextMap
from imgflow.home import CATALOG, Home
from imgflow.lineage.record import Record, Version
from imgflow.policy.policy import Policy
from imgflow.refresh import plan_refresh
from imgflow.store.keys import ImageKey

RAW, DETEXTED, INPAINTED, UPSCALED, PUBLISHED = Version
# `social` photos go by a route of their own.
PLAIN, SOCIAL = ImageKey("plain.png"), ImageKey("social.png")
POLICY: dict[str, Any] = {
    "upscale": {"max_scale": 1, "sharpen_below": 0.0},
    "renditions": [{"name": "web", "long_side": 48}],
    "routes": [
        {
            "name": "social",
            "when": {"asset_type": "social"},
            "set": {
                "detext": {"fill": "biharmonic"},
                "renditions": [{"name": "s", "long_side": 9}],
            },
        }
    ],
}


class Doubting(FakeEraser):
    """Sees print everywhere, so that OCR is asked once for each photo."""

    def survey(self, pixels: Pixels) -> TextMap:
        nothing = np.zeros(pixels.shape[:2], np.uint8)
        return TextMap(nothing, np.full_like(nothing, 200))


class Shop:
    """Two photos that went through the line, and the policy that is in force."""

    def __init__(self, home: Home, dagster: dg.DagsterInstance, detector: FakeDetector) -> None:
        self.home = home
        self.dagster = dagster
        self.detector = detector

    def set_policy(self, **changes: Any) -> None:
        self.home.policy_file.write_text(yaml.safe_dump({**POLICY, **changes}))

    def run(self) -> None:
        for run in launch([PLAIN, SOCIAL], self.home, Progress()):
            assert run.error == ""

    def records(self) -> dict[tuple[str, Version], Record]:
        return {(each.key, each.version): each for each in self.home.store.records(CATALOG)}

    def stale(self, key: ImageKey = PLAIN) -> list[Version]:
        """As the UI shows it once the code location is loaded again."""
        graph = line_definitions(str(self.home.root)).resolve_asset_graph()
        context = LoadingContextForTest(self.dagster)
        resolver = CachingStaleStatusResolver(self.dagster, graph, context)
        found = {each: resolver.get_status(dg.AssetKey(str(each)), str(key)) for each in Version}
        assert StaleStatus.MISSING not in found.values()
        return [version for version, status in found.items() if status is StaleStatus.STALE]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    home = Home(tmp_path_factory.mktemp("shop") / "data")
    home.uploads.root.mkdir(parents=True)
    for key, name in ((PLAIN, "coffee"), (SOCIAL, "rocket")):
        (home.uploads.root / str(key)).write_bytes(encoded(photo(name, 64)))
    manifest = home.uploads.root / f"{SOCIAL}.json"
    manifest.write_text(json.dumps({"asset_type": "social"}))
    detector = FakeDetector()

    def engines(threads: int = 1) -> Engines:
        found = Engines(threads=threads)
        found.register_text_detector("rapidocr", lambda: detector)
        found.register_eraser("eraser", Doubting)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        patch.setattr(batch, "supervise", at_once)
        patch.setattr("imgflow.equipment.Engines", engines)
        with instance(home) as dagster:
            shop = Shop(home, dagster, detector)
            shop.set_policy()
            shop.run()
            yield shop


@pytest.fixture
def shop(made: Shop) -> Shop:
    """Under the policy that everything was made with, and with nothing stale."""
    made.set_policy()
    if made.stale():
        made.run()
    return made


@pytest.mark.parametrize("key", [PLAIN, SOCIAL])
def test_nothing_is_stale_where_nothing_has_changed(shop: Shop, key: ImageKey) -> None:
    assert shop.stale(key) == []


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        pytest.param({"detext": {"fill": "navier-stokes"}}, DETEXTED, id="text-fill"),
        pytest.param({"detext": {"gates": {"psnr": 20}}}, DETEXTED, id="text-gate"),
        pytest.param({"inpaint": {"fill": "biharmonic"}}, INPAINTED, id="object-fill"),
        pytest.param(
            {"upscale": {**POLICY["upscale"], "sharpener": "lanczos"}}, UPSCALED, id="upscaler"
        ),
        pytest.param({"renditions": [{"name": "web", "long_side": 32}]}, PUBLISHED, id="rendition"),
        pytest.param({"raw": {"keep_16_bit": True}}, RAW, id="raw"),
        pytest.param({"run": {"workers": 3}, "retries": {"budget": 1}}, None, id="way-of-running"),
    ],
)
def test_a_change_makes_stale_what_it_decides_and_what_is_made_from_that(
    shop: Shop, changes: dict[str, Any], first: Version | None
) -> None:
    shop.set_policy(**changes)
    later = list(Version)[list(Version).index(first) :] if first else []
    assert shop.stale() == later
    assert shop.stale(SOCIAL) == later


def test_a_route_decides_with_its_engines_settings_and_condition() -> None:
    def texts(**route: Any) -> dict[Version, str]:
        (given,) = POLICY["routes"]
        policy = Policy.model_validate({**POLICY, "routes": [{**given, **route}]})
        return line_code_versions(policy, Engines())

    def changed(**route: Any) -> list[Version]:
        now = texts(**route)
        return [version for version in Version if now[version] != before[version]]

    before = texts()
    assert "biharmonic" in before[DETEXTED]
    assert "imgflow-eraser" in before[DETEXTED]
    assert changed(name="other") == []
    assert changed(when={"asset_type": "hero"}) == [DETEXTED, INPAINTED, UPSCALED, PUBLISHED]
    assert changed(set={**POLICY["routes"][0]["set"], "raw": {"keep_16_bit": True}}) == [*Version]
    few = {"detext": {"fill": "biharmonic"}, "renditions": [{"name": "s", "long_side": 8}]}
    assert changed(set=few) == [PUBLISHED]
    assert changed(set={**few, "upscale": {"engine": "none-such"}}) == [UPSCALED, PUBLISHED]


def test_every_setting_of_a_stage_is_in_its_code_version() -> None:
    """`_PARTS` names the part of the policy that the stage's settings come from."""
    policy = Policy()
    for version, stage in chain.STAGES.items():
        part = getattr(policy, chain._PARTS[version])
        settings = [each.as_dict() for each in part] if isinstance(part, list) else part.as_dict()
        if isinstance(settings, list):
            settings = {chain._PARTS[version]: settings}
        assert settings.items() <= stage.settings(policy).items()


def test_a_route_that_asks_for_larger_renditions_asks_for_other_enlargements() -> None:
    large = [{"name": "web", "long_side": 4000, "min_long_side": 3000}]
    route = {"name": "big", "when": {"asset_type": "hero"}, "set": {"renditions": large}}
    texts = [
        chain.line_code_versions(Policy.model_validate({"routes": routes}), Engines())
        for routes in ([], [route])
    ]
    changed = {version for version in Version if texts[0][version] != texts[1][version]}
    assert changed == {Version.UPSCALED, Version.PUBLISHED}


@pytest.mark.parametrize(
    ("changes", "reused"),
    [
        pytest.param({"detext": {"min_confidence": 0.5}}, [RAW], id="text-threshold"),
        pytest.param(
            {"upscale": {**POLICY["upscale"], "noise_limit": 3.0}},
            [RAW, DETEXTED, INPAINTED],
            id="upscaler",
        ),
    ],
)
def test_after_a_change_the_text_is_not_looked_for_again(
    shop: Shop, changes: dict[str, Any], reused: Sequence[Version]
) -> None:
    looks = shop.detector.calls
    before = shop.records()
    assert looks == 2, "one look at each photo, at the very first run"
    shop.set_policy(**changes)
    shop.run()
    assert shop.detector.calls == looks
    after = shop.records()
    kept = [version for version in Version if after[PLAIN, version] == before[PLAIN, version]]
    assert kept[: len(reused)] == reused
    assert len(kept) < len(Version)
    assert shop.stale() == []
    assert shop.stale(SOCIAL) == []


def test_a_photo_that_a_change_decides_nothing_for_is_marked_until_it_is_run_and_not_made_again(
    shop: Shop,
) -> None:
    before = shop.records()
    shop.set_policy(detext={"fill": "navier-stokes"})
    # Dagster has one code version for all photos of an asset.
    assert shop.stale() == [DETEXTED, INPAINTED, UPSCALED, PUBLISHED]
    assert plan_refresh(shop.home).stale == []
    shop.run()
    assert shop.records() == before
    assert shop.stale() == []
