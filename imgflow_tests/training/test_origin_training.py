"""The judge's training: what a region is, and weights that come out of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imgflow.engines.origin import LOOKS, WORDING, Seen, load_weights
from imgflow.lineage.record import TextRegion
from imgflow.synthesis.overlays import DrawnLine
from imgflow.training.origin import Case, Lessons, export, figures, labelled, teach

PNG = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x00\x00\x00\x00:~\x9b"
    b"U\x00\x00\x00\nIDATx\x9cc`\x00\x00\x00\x02\x00\x01H\xaf\xa4q\x00\x00\x00\x00IEND\xaeB`\x82"
)


def line(text: str, y: float) -> DrawnLine:
    return DrawnLine(np.array([[0, y], [80, y], [80, y + 20], [0, y + 20]], np.float32), text)


def region(text: str, y: float) -> TextRegion:
    return TextRegion(polygon=line(text, y).polygon.tolist(), text=text, confidence=0.9)


@pytest.mark.parametrize(
    ("text", "y", "overlay", "kind"),
    [
        ("Sale", 0, True, "caption"),
        ("Sa1e", 3, True, "caption"),
        ("NORDWIND", 50, False, "printed"),
        ("gravel", 200, False, "scene"),
        ("NORDWIND", 0, None, ""),  # an overlay was drawn there, but something else is read
    ],
)
def test_regions_are_named_by_what_was_drawn(
    text: str, y: float, overlay: bool | None, kind: str
) -> None:
    case = Case(PNG, (line("Sale", 0),), (line("NORDWIND", 50),), "caption", "printed")
    found = labelled(case, [region(text, y)])
    assert (found.overlays, found.kinds) == ((overlay,), (kind,))


def test_what_an_overlay_covers_is_nobodys() -> None:
    case = Case(PNG, (line("Sale", 0),), (line("Sale", 4),), "caption", "printed")
    assert labelled(case, [region("Sale", 2)]).overlays == (None,)


def some_lessons(count: int, seed: int) -> Lessons:
    """Lines that some measures tell apart, all saying the same."""
    chance = np.random.default_rng(seed)
    truth = chance.random(count) < 0.5
    looks = chance.normal(size=(count, len(LOOKS))).astype(np.float32)
    looks[:, :6] += 4 * truth[:, None]
    words = np.zeros((count, len(WORDING)), np.float32)
    each = np.arange(count)
    return Lessons(Seen(looks, words, each), truth, np.ones(count, np.float32), each)


def test_what_can_be_told_apart_is_learned_and_kept(tmp_path: Path) -> None:
    kept = some_lessons(400, 1)
    weights = teach(some_lessons(300, 0), kept, seed=0, rounds=60)
    found = figures(weights, kept)
    assert found["products_called_overlay"] < 0.02
    assert found["overlays_called_overlay"] > 0.8
    path = tmp_path / "origin.safetensors"
    export(weights, path, {})
    again = load_weights(path)
    assert np.array_equal(again.scores(kept.seen), weights.scores(kept.seen))
    assert (again.low, again.high) == (weights.low, weights.high)
    assert again.sha256


def test_the_same_seed_teaches_the_same() -> None:
    one, other = (teach(some_lessons(100, 0), some_lessons(100, 1), 3, 20) for _ in range(2))
    assert np.array_equal(one.trees.level, other.trees.level)
    assert np.array_equal(one.words, other.words)


def test_words_speak_for_what_they_were_seen_on() -> None:
    lessons = some_lessons(400, 0)
    # Looks say nothing here.
    looks = np.random.default_rng(5).normal(size=lessons.seen.looks.shape).astype(np.float32)
    words = lessons.seen.words.copy()
    words[:, WORDING.index("mark")] = lessons.truth
    words[:, WORDING.index("goods")] = ~lessons.truth
    told = replace(lessons, seen=Seen(looks, words, lessons.seen.groups))
    said = dict(zip(WORDING, teach(told, told, seed=0, rounds=20).words, strict=True))
    assert said["mark"] > 0.5
    assert said["goods"] < -0.5
    assert said["date"] == 0
