"""The judge's training: text put over photos against text printed on what they show."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from imgflow.engines.origin import LOOKS, MOST_WORDING, Seen, Weights
from imgflow.engines.spec import TextDetector
from imgflow.imaging.masks import polygon_mask
from imgflow.lineage.record import TextRegion
from imgflow.synthesis.fonts import Fonts
from imgflow.synthesis.overlays import KINDS, DrawnLine, Overlay, draw_overlay
from imgflow.synthesis.phrases import Words
from imgflow.training.photos import Photo
from imgflow.training.scenes import GROUNDS, scaled, shown
from imgflow.training.trees import ROUNDS, Examples, above, learned, save

# How often each of GROUNDS and each of KINDS comes: a tiled mark gives many regions of a kind.
_OFTEN = (0.4, 0.22, 0.25, 0.13)
_DRAWN = (0.2, 0.26, 0.28, 0.12, 0.14)
# Regions that a detector hardly believes are no lesson.
_LEAST_CONFIDENCE = 0.5
# Share of product lines, on photos kept back, that may be called overlays, and that may be called
# that or be uncertain.
_FALSE = 0.006
_DOUBTFUL = 0.012
# Parts of the photos that words are weighed on, each by trees that the others grew; how dear
# words are.
_FOLDS, _WORDS_DECAY = 4, 5.0
# Most that a rare kind of overlay is raised by.
_MOST_BALANCE = 4.0
# Share of a region that a drawn line must cover to name it.
_COVERED = 0.4


@dataclass(frozen=True, slots=True)
class Case:
    """A photo as a file, and where its text is: put over it (`over`), or part of it."""

    data: bytes
    over: tuple[DrawnLine, ...]
    printed: tuple[DrawnLine, ...]
    overlay: str
    ground: str

    @property
    def photo(self) -> Photo:
        pixels = cv2.imdecode(np.frombuffer(self.data, np.uint8), cv2.IMREAD_COLOR)
        return np.ascontiguousarray(np.asarray(pixels, np.uint8)[:, :, ::-1])


@dataclass(frozen=True, slots=True)
class Labelled:
    """Regions that a detector found in a photo, with what they are: an overlay or not.

    kinds: the overlay's kind, or for other text what it is on. over, overlay: the lines that were
    drawn over the photo, and of which kind.
    """

    photo: Photo
    regions: tuple[TextRegion, ...]
    overlays: tuple[bool | None, ...]  # None: both, or neither for certain
    kinds: tuple[str, ...]
    over: tuple[DrawnLine, ...] = ()
    overlay: str = ""


def make_case(photos: Sequence[Photo], words: Words, fonts: Fonts, chance: Random) -> Case:
    """A photo as a shop might get it: with an overlay, with a print, with both."""
    height = round(chance.choice((256, 320, 400, 480, 600, 768)) * chance.uniform(0.9, 1.1))
    width = round(height * chance.choice((0.75, 1.0, 1.0, 1.33, 1.33, 1.5)))
    (ground,) = chance.choices(GROUNDS, _OFTEN)
    before = shown(ground, photos, height, width, words, fonts, chance)
    seen, printed, kind = before.photo, before.lines, ""
    over: tuple[DrawnLine, ...] = ()
    if chance.random() < (0.85 if ground == "photo" else 0.45):
        (kind,) = chance.choices(KINDS, _DRAWN)
        overlay = draw_overlay(kind, height, width, words, fonts, chance)
        seen, over = overlay.over(seen), overlay.lines
        printed = _uncovered(printed, overlay)
    factor = chance.uniform(0.6, 1.3) if chance.random() < 0.25 else 1.0
    if factor != 1:
        size = round(width * factor), round(height * factor)
        how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
        seen = np.asarray(cv2.resize(seen, size, interpolation=how), np.uint8)
    return Case(_saved(seen, chance), scaled(over, factor), scaled(printed, factor), kind, ground)


def labelled(case: Case, regions: Sequence[TextRegion]) -> Labelled:
    """What each region is, by the lines that were drawn there."""
    overlays: list[bool | None] = []
    kinds = []
    for region in regions:
        over, text = _cover(region, case.over)
        printed, _ = _cover(region, case.printed)
        if over >= _COVERED and over > 2 * printed and _reads_like(region.text, text):
            overlays.append(True)
            kinds.append(case.overlay)
        elif over < 0.1 and case.overlay != "chrome":
            overlays.append(False)
            kinds.append(case.ground if printed >= _COVERED else "scene")
        elif over == 0 and printed >= _COVERED:
            overlays.append(False)
            kinds.append(case.ground)
        else:
            overlays.append(None)
            kinds.append("")
    return Labelled(
        case.photo, tuple(regions), tuple(overlays), tuple(kinds), case.over, case.overlay
    )


def collect(
    make: Callable[[int], Case],
    numbers: Sequence[int],
    detector: TextDetector,
    work: Path,
    tell: Callable[[str], None],
) -> list[Labelled]:
    """Cases with what a detector finds in them; both are kept in `work` and found there again."""
    work.mkdir(parents=True, exist_ok=True)
    found = []
    for count, number in enumerate(numbers, start=1):
        path = work / f"{number:05}.json"
        if not path.exists():
            case = make(number)
            regions = detector.detect(case.photo)
            document = {
                "over": _document(case.over),
                "printed": _document(case.printed),
                "overlay": case.overlay,
                "ground": case.ground,
                "regions": [region.model_dump() for region in regions],
            }
            path.with_suffix(".img").write_bytes(case.data)
            path.write_text(json.dumps(document))
            if count % 50 == 0:
                tell(f"{count} of {len(numbers)} photos looked at")
        found.append(_read(path))
    return found


def _read(path: Path) -> Labelled:
    document = json.loads(path.read_text())
    case = Case(
        path.with_suffix(".img").read_bytes(),
        _lines(document["over"]),
        _lines(document["printed"]),
        document["overlay"],
        document["ground"],
    )
    return labelled(case, [TextRegion.model_validate(each) for each in document["regions"]])


def _document(lines: Sequence[DrawnLine]) -> list[Any]:
    return [[line.polygon.round(2).tolist(), line.text] for line in lines]


def _lines(document: Sequence[Any]) -> tuple[DrawnLine, ...]:
    return tuple(DrawnLine(np.array(each[0], np.float32), each[1]) for each in document)


def _saved(photo: Photo, chance: Random) -> bytes:
    """A file, mostly JPEG at a quality that shops use."""
    if chance.random() < 0.1:
        return cv2.imencode(".png", photo[:, :, ::-1])[1].tobytes()
    sampling = chance.choice(
        (cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    )
    options = [
        cv2.IMWRITE_JPEG_QUALITY, chance.randint(65, 98),
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling,
    ]  # fmt: skip
    return cv2.imencode(".jpg", photo[:, :, ::-1], options)[1].tobytes()


def _uncovered(lines: Sequence[DrawnLine], overlay: Overlay) -> tuple[DrawnLine, ...]:
    """Printed lines that the overlay leaves readable."""
    height, width = overlay.alpha.shape
    return tuple(line for line in lines if _hidden(line, overlay.alpha, height, width) < 0.1)


def _hidden(line: DrawnLine, alpha: NDArray[np.float32], height: int, width: int) -> float:
    inside = polygon_mask([line.polygon], height, width) > 0
    return float(alpha[inside].mean()) if inside.any() else 1.0


def _cover(region: TextRegion, lines: Sequence[DrawnLine]) -> tuple[float, str]:
    """Largest share of the region that one line covers, counted both ways, and that line's text."""
    polygon = cv2.convexHull(np.array(region.polygon, np.float32))
    area = max(cv2.contourArea(polygon), 1.0)
    best, text = 0.0, ""
    for line in lines:
        shared, _ = cv2.intersectConvexConvex(polygon, cv2.convexHull(line.polygon))
        share = shared / min(area, max(cv2.contourArea(line.polygon), 1.0))
        if share > best:
            best, text = share, line.text
    return best, text


def _reads_like(text: str, drawn: str) -> bool:
    """A region where an overlay crosses a print may read either."""
    return SequenceMatcher(None, text.casefold(), drawn.casefold()).ratio() >= 0.4


@dataclass(frozen=True, slots=True)
class Lessons:
    """Regions of many photos. seen: with groups numbered over all photos. truth: (N,) bool.

    weight: (N,) so that a label of many lines counts little more than one line. photo: (N,) which
    of the photos each is in.
    """

    seen: Seen
    truth: NDArray[np.bool_]
    weight: NDArray[np.float32]
    photo: NDArray[np.intp]


def lessons(found: Sequence[tuple[Seen, Labelled]]) -> Lessons:
    """Photos' regions together, without those that nobody can name."""
    looks, words, groups, truth, weight, kinds, photo = [], [], [], [], [], [], []
    for number, (seen, labels) in enumerate(found):
        known = [
            index
            for index, overlay in enumerate(labels.overlays)
            if overlay is not None and labels.regions[index].confidence >= _LEAST_CONFIDENCE
        ]
        for index in known:
            alike = sum(labels.overlays[other] == labels.overlays[index] for other in known)
            looks.append(seen.looks[index])
            words.append(seen.words[index])
            groups.append(1000 * number + seen.groups[index])
            truth.append(labels.overlays[index])
            weight.append(alike**-0.5)
            kinds.append(labels.kinds[index])
            photo.append(number)
    return Lessons(
        Seen(np.stack(looks), np.stack(words), np.array(groups)),
        np.array(truth, bool),
        _balanced(np.array(weight, np.float32), np.array(truth, bool), np.array(kinds)),
        np.array(photo),
    )


def _balanced(
    weight: NDArray[np.float32], truth: NDArray[np.bool_], kinds: NDArray[Any]
) -> NDArray[np.float32]:
    """Weights with which each kind of overlay counts about as much as every other."""
    totals = {kind: float(weight[truth & (kinds == kind)].sum()) for kind in set(kinds[truth])}
    even = float(np.mean(list(totals.values()))) if totals else 0.0
    balanced = weight.copy()
    for kind, total in totals.items():
        balanced[truth & (kinds == kind)] *= np.float32(min(even / total, _MOST_BALANCE))
    return balanced


def teach(taught: Lessons, kept: Lessons, seed: int, rounds: int = ROUNDS) -> Weights:
    """Weights learned from `taught`, with thresholds that fit `kept`."""
    examples = Examples(taught.seen.looks, taught.truth, taught.weight)
    words = _words(taught, _unseen(examples, taught.photo, seed, rounds))
    weights = Weights(learned(examples, seed, rounds), words, low=0.5, high=0.5)
    products = weights.scores(kept.seen)[~kept.truth]
    return replace(weights, low=above(products, _DOUBTFUL), high=above(products, _FALSE))


def _unseen(
    examples: Examples, photo: NDArray[np.intp], seed: int, rounds: int
) -> NDArray[np.float32]:
    """(N,) logits, each of trees that did not learn from that line's photo."""
    logits = np.zeros(len(photo), np.float32)
    for fold in range(_FOLDS):
        there = photo % _FOLDS == fold
        trees = learned(examples.chosen(~there), seed, rounds)
        logits[there] = trees.logits(examples.looks[there])
    return logits


def _words(taught: Lessons, looked: NDArray[np.float32]) -> NDArray[np.float32]:
    """What words add to logits of lines that were only looked at: a logistic regression."""
    words = torch.from_numpy(taught.seen.words.astype(np.float64))
    logits, truth, weight = (
        torch.from_numpy(np.asarray(each, np.float64))
        for each in (looked, taught.truth, taught.weight)
    )
    said = torch.zeros(words.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([said], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        spoken = (words @ said).clamp(-MOST_WORDING, MOST_WORDING)
        losses = functional.binary_cross_entropy_with_logits(
            logits + spoken, truth, reduction="none"
        )
        total = (losses * weight).sum() + _WORDS_DECAY * said.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return said.detach().numpy().astype(np.float32)


def figures(weights: Weights, judged: Lessons) -> dict[str, float]:
    """Shares of overlay lines and of product lines by what they are called."""
    scores = weights.scores(judged.seen)
    found = {}
    for name, where in (("overlays", judged.truth), ("products", ~judged.truth)):
        there = scores[where]
        found[f"{name}"] = float(there.size)
        found[f"{name}_called_overlay"] = float((there >= weights.high).mean())
        found[f"{name}_uncertain"] = float(((there >= weights.low) & (there < weights.high)).mean())
    return found


def export(weights: Weights, path: Path, about: dict[str, str]) -> None:
    """Write weights as engines.origin reads them."""
    said = {"low": repr(weights.low), "high": repr(weights.high)}
    save(weights.trees, path, LOOKS, {**about, **said}, words=weights.words)
