"""The judge of overlay and product text."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from samples import Stamped, photo, stamp

from imgflow.engines.origin import (
    LOOKS,
    MOST_WORDING,
    WORDING,
    Seen,
    judge,
    load_weights,
    look,
    spec,
    wording,
)
from imgflow.engines.spec import TextMap
from imgflow.engines.trees import PLANES
from imgflow.errors import EngineUnavailable
from imgflow.lineage.record import TextRegion


def said(text: str) -> set[str]:
    return {name for name, holds in zip(WORDING, wording(text), strict=True) if holds}


def region(text: str = "2024-03-15", x: float = 20, y: float = 20) -> TextRegion:
    polygon = [[x, y], [x + 110, y], [x + 110, y + 24], [x, y + 24]]
    return TextRegion(polygon=polygon, text=text, confidence=0.9)


def no_letters(height: int, width: int) -> TextMap:
    return TextMap(np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8))


def drawn_letters(stamped: Stamped) -> TextMap:
    """What an eraser sees that makes no mistake."""
    drawn = np.where(stamped.changed, 255, 0).astype(np.uint8)
    return TextMap(drawn, np.zeros_like(drawn))


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
    (found,) = judge(stamped.pixels, [stamped.region], drawn_letters(stamped))
    assert found.kind == "overlay"
    assert found.score is not None
    assert found.score > 0.9
    assert found.reasons
    assert (found.text, found.polygon) == (stamped.text, stamped.region.polygon)


def test_a_judgement_is_repeatable_and_names_its_weights() -> None:
    stamped = stamp(photo("rocket", 480), at=(330, 285))
    one, other = (judge(stamped.pixels, [stamped.region], drawn_letters(stamped)) for _ in range(2))
    assert one == other
    assert spec().weights_sha256
    assert spec().code_version.startswith("origin:")


def test_photos_of_any_size_and_regions_anywhere_are_judged() -> None:
    for height, width in ((5, 5), (20, 700), (300, 40), (900, 700)):
        pixels = np.full((height, width, 3), 90, np.uint8)
        regions = [region(), region(x=-60, y=-10), region("SAMPLE", x=width, y=height)]
        # Large photos come with smaller maps.
        letters = no_letters(max(height // 2, 1), max(width // 2, 1))
        assert np.isfinite(look(pixels, regions, letters).looks).all()
        found = judge(pixels, regions, letters)
        assert len(found) == 3
        assert all(0 <= each.score <= 1 for each in found if each.score is not None)


def test_nothing_gives_nothing() -> None:
    assert judge(np.zeros((10, 10, 3), np.uint8), [], no_letters(10, 10)) == []


def letter_looks(letters: TextMap, *regions: TextRegion) -> list[dict[str, float]]:
    """What the map of a photo of 200 by 300 says of regions."""
    seen = look(np.full((200, 300, 3), 90, np.uint8), regions, letters)
    return [dict(zip(LOOKS, map(float, row), strict=True)) for row in seen.looks]


@pytest.mark.parametrize("scale", [1, 2])
def test_the_map_says_how_a_lines_letters_came_there(scale: int) -> None:
    """However much smaller than the photo it is."""
    letters = no_letters(200 // scale, 300 // scale)
    letters.overlay[24 // scale : 40 // scale, 24 // scale : 120 // scale : 2] = 255
    letters.product[124 // scale : 140 // scale, 24 // scale : 120 // scale : 2] = 204
    over, printed, bare = letter_looks(letters, region(), region(y=120), region(x=160))
    assert over["drawn"] > 0.9
    assert over["drawn_most"] == 1
    assert over["printed_most"] == 0
    assert printed["drawn"] < 0.1
    assert printed["drawn_most"] == 0
    assert printed["printed_most"] == pytest.approx(0.8)
    # No letters at all: nobody knows.
    assert (bare["drawn"], bare["drawn_most"], bare["printed_most"]) == (0.5, 0, 0)


@pytest.mark.parametrize("scale", [1, 2])
def test_the_map_says_how_lonely_a_line_stands_in_it(scale: int) -> None:
    letters = no_letters(200 // scale, 300 // scale)
    letters.overlay[24 // scale : 40 // scale, 24 // scale : 120 // scale : 2] = 255
    letters.overlay[100 // scale : 184 // scale] = 128
    lonely, among = letter_looks(letters, region(), region(y=120))
    assert lonely["map_around"] < 0.05 < 0.3 < among["map_around"]
    assert lonely["map_sure"] == 1
    assert among["map_sure"] == pytest.approx(0.5, abs=0.01)
    assert lonely["map_busy"] == among["map_busy"]


def test_a_trace_of_letters_says_little() -> None:
    letters = no_letters(200, 300)
    letters.overlay[24:28, 24:28] = 60
    (seen,) = letter_looks(letters, region())
    assert 0.5 < seen["drawn"] < 0.6


def test_weights_for_other_measures_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "older.safetensors"
    planes = {name: np.zeros(len(WORDING), np.float32) for name in (*PLANES, "words")}
    looks = json.dumps(LOOKS[:-1])
    save_file(planes, str(path), metadata={"looks": looks, "low": "0.4", "high": "0.6"})
    with pytest.raises(EngineUnavailable, match="other measures"):
        load_weights(path)


def test_wording_alone_decides_nothing() -> None:
    """However many words speak for an overlay, the score moves by a bounded amount only."""
    weights = load_weights()
    weights = replace(weights, words=np.full(len(WORDING), 9.0, np.float32))
    looks = np.repeat(weights.trees.usual[None], 2, axis=0)
    words = np.stack([np.zeros(len(WORDING)), np.ones(len(WORDING))]).astype(np.float32)
    plain, loud = weights.scores(Seen(looks, words, np.arange(2)))
    moved = np.log(loud / (1 - loud)) - np.log(plain / (1 - plain))
    assert moved == pytest.approx(MOST_WORDING, abs=1e-3)


def test_lines_of_one_make_share_a_score() -> None:
    weights = load_weights()
    chance = np.random.default_rng(0)
    usual = weights.trees.usual
    looks = (usual * chance.normal(1, 1, size=(3, len(LOOKS)))).astype(np.float32)
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
