"""The training of the judge of letters that OCR does not read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgflow.engines.spec import TextMap
from imgflow.engines.unread import LOOKS, Weights, candidates, look
from imgflow.imaging.lettergroups import LetterGroup, without
from imgflow.imaging.masks import polygon_mask
from imgflow.training.origin import Labelled
from imgflow.training.trees import ROUNDS, Examples, above, learned, save

# Share of a group's strokes that lie in drawn lines, from which on it is an overlay, and up to
# which it is none.
_OVERLAY, _NONE = 0.6, 0.1
# Share of photos, of those kept back, in which something else may be called an overlay: where
# none is known, and a person is asked, and where some are.
_ALONE, _BESIDE = 0.01, 0.015


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups of letters in photos. photos: all photos that were looked at. photo: (N,) which of
    them each group is in."""

    photos: int
    photo: NDArray[np.intp]
    looks: NDArray[np.float32]
    truth: NDArray[np.bool_]

    @property
    def marked(self) -> NDArray[np.bool_]:
        """(N,) whether overlays are known in its photo."""
        return np.asarray(self.looks[:, LOOKS.index("marks")] > 0)


def groups_of(labels: Labelled, letters: TextMap) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Looks (N, F) and truth (N,) of those groups in a photo that anybody can name.

    letters: what the eraser sees in it, of any size.
    """
    shape = letters.overlay.shape
    scale = np.float32(shape[1] / labels.photo.shape[1])
    known = [np.array(each.polygon, np.float32) * scale for each in labels.regions]
    marks = [place for place, truth in zip(known, labels.overlays, strict=True) if truth]
    left = TextMap(without(letters.overlay, known), letters.product)
    drawn = polygon_mask((line.polygon * scale for line in labels.over), *shape) > 0
    named = [(group, _truth(group, drawn, labels)) for group in candidates(left.overlay)]
    groups = [group for group, truth in named if truth is not None]
    truths = [truth for _, truth in named if truth is not None]
    return look(labels.photo, left, groups, marks), np.array(truths, bool)


def _truth(group: LetterGroup, drawn: NDArray[np.bool_], labels: Labelled) -> bool | None:
    share = float(drawn[group.strokes[:, 1], group.strokes[:, 0]].mean())
    if share >= _OVERLAY:
        return True
    # Signs in a bar are no lines, and yet overlays.
    return None if share > _NONE or labels.overlay == "chrome" else False


def together(found: Sequence[tuple[NDArray[np.float32], NDArray[np.bool_]]]) -> Groups:
    """The groups of all photos."""
    photo = np.repeat(np.arange(len(found)), [len(truth) for _, truth in found])
    looks, truths = zip(*found, strict=True)
    return Groups(len(found), photo, np.concatenate(looks), np.concatenate(truths))


def teach(taught: Groups, kept: Groups, seed: int, rounds: int = ROUNDS) -> Weights:
    """Weights learned from `taught`, with thresholds that fit `kept`."""
    # A photo with many groups counts little more than one with one.
    _, number, count = np.unique(taught.photo, return_inverse=True, return_counts=True)
    weight = (count[number] ** -0.5).astype(np.float32)
    trees = learned(Examples(taught.looks, taught.truth, weight), seed, rounds)
    scores = trees.logits(kept.looks)
    alone, beside = (
        # More likely than not, at least.
        max(above(_worst(kept, scores, marked=marked), share), 0.0)
        for marked, share in ((False, _ALONE), (True, _BESIDE))
    )
    return Weights(trees, alone, beside)


def _worst(kept: Groups, scores: NDArray[np.float32], *, marked: bool) -> NDArray[np.float32]:
    """The highest score of what is no overlay, in each photo; photos without such score lowest.

    marked: of groups in photos where overlays are known, or of the others.
    """
    worst = np.full(kept.photos, -np.inf, np.float32)
    false = ~kept.truth & (kept.marked == marked)
    np.maximum.at(worst, kept.photo[false], scores[false])
    return worst


def figures(weights: Weights, groups: Groups) -> dict[str, float]:
    """Shares of the overlays' groups that are found, and of photos in which something else is
    called an overlay, where none is known ("alone") and where some are."""
    scores = weights.trees.logits(groups.looks)
    called = scores >= np.where(groups.marked, weights.beside, weights.alone)
    found = {"photos": float(groups.photos)}
    for name, where in (("alone", ~groups.marked), ("beside", groups.marked)):
        overlays, others = groups.truth & where, ~groups.truth & where
        found[f"{name}_groups"] = float(np.count_nonzero(overlays))
        found[f"{name}_found"] = float(called[overlays].mean()) if overlays.any() else 0.0
        photos = np.unique(groups.photo[others & called])
        found[f"{name}_photos_wronged"] = len(photos) / groups.photos
    return found


def export(weights: Weights, path: Path, about: dict[str, str]) -> None:
    """Write weights as engines.unread reads them."""
    said = {"alone": repr(weights.alone), "beside": repr(weights.beside)}
    save(weights.trees, path, LOOKS, {**about, **said})
