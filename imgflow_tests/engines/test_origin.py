"""The judge of overlay and product text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from samples import photo, stamp

from imgflow.engines.origin import (
    LOOKS,
    MOST_WORDING,
    WORDING,
    Seen,
    judge,
    judge_spec,
    load_weights,
    look,
    wording,
)
from imgflow.errors import EngineUnavailable
from imgflow.lineage.record import TextRegion


def said(text: str) -> set[str]:
    return {name for name, holds in zip(WORDING, wording(text), strict=True) if holds}


def region(text: str = "2024-03-15", x: float = 20, y: float = 20) -> TextRegion:
    polygon = [[x, y], [x + 110, y], [x + 110, y + 24], [x, y + 24]]
    return TextRegion(polygon=polygon, text=text, confidence=0.9)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("2024-03-15", "date"),
        ("'98 12 24", "date"),
        ("12:45", "time"),
        ("www.example-shop.com", "address"),
        ("@daily.finds", "address"),
        ("© Maria", "claim"),
        ("SAMPLE", "mark"),
        ("50% OFF", "offer"),
        ("Reply", "screen"),
        ("NET WT 250 g", "goods"),
    ],
)
def test_wording(text: str, kind: str) -> None:
    assert kind in said(text)


@pytest.mark.parametrize("text", ["NORDWIND", "Atlas", "", "...", "No. 5"])
def test_names_say_nothing(text: str) -> None:
    assert said(text) == set()


def test_a_stamp_in_the_corner_is_an_overlay() -> None:
    stamped = stamp(photo("rocket", 480), at=(330, 285), colour=(255, 140, 30))
    (found,) = judge(stamped.pixels, [stamped.region])
    assert found.kind == "overlay"
    assert found.score is not None
    assert found.score > 0.9
    assert found.reasons
    assert (found.text, found.polygon) == (stamped.text, stamped.region.polygon)


def test_a_judgement_is_repeatable_and_names_its_weights() -> None:
    stamped = stamp(photo("rocket", 480), at=(330, 285))
    assert judge(stamped.pixels, [stamped.region]) == judge(stamped.pixels, [stamped.region])
    assert judge_spec().weights_sha256
    assert judge_spec().code_version.startswith("origin:")


def test_photos_of_any_size_and_regions_anywhere_are_judged() -> None:
    for height, width in ((5, 5), (20, 700), (300, 40), (900, 700)):
        pixels = np.full((height, width, 3), 90, np.uint8)
        regions = [region(), region(x=-60, y=-10), region("SAMPLE", x=width, y=height)]
        found = judge(pixels, regions)
        assert len(found) == 3
        assert all(0 <= each.score <= 1 for each in found if each.score is not None)
        assert np.isfinite(look(pixels, regions).looks).all()


def test_nothing_gives_nothing() -> None:
    assert judge(np.zeros((10, 10, 3), np.uint8), []) == []


def test_wording_alone_decides_nothing() -> None:
    """However many words speak for an overlay, the score moves by a bounded amount only."""
    weights = load_weights()
    weights = replace(weights, words=np.full(len(WORDING), 9.0, np.float32))
    looks = np.repeat(weights.mean[None], 2, axis=0)
    words = np.stack([np.zeros(len(WORDING)), np.ones(len(WORDING))]).astype(np.float32)
    plain, loud = weights.scores(Seen(looks, words, np.arange(2)))
    moved = np.log(loud / (1 - loud)) - np.log(plain / (1 - plain))
    assert moved == pytest.approx(MOST_WORDING, abs=1e-3)


def test_lines_of_one_make_share_a_score() -> None:
    weights = load_weights()
    chance = np.random.default_rng(0)
    looks = (weights.mean + weights.scale * chance.normal(size=(3, len(LOOKS)))).astype(np.float32)
    words = np.zeros((3, len(WORDING)), np.float32)
    one, two, other = weights.scores(Seen(looks, words, np.array([0, 0, 1])))
    assert one == two != other


def test_between_the_thresholds_nobody_decides() -> None:
    weights = load_weights()
    assert 0 < weights.low < weights.high < 1
    assert weights.kind(weights.high) == "overlay"
    assert weights.kind((weights.low + weights.high) / 2) is None
    assert weights.kind(weights.low - 0.01) == "product"


def test_missing_weights_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="cannot be read"):
        load_weights(tmp_path / "none.safetensors")
