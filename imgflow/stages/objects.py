"""Things that do not belong in a photo: proposed by detectors, weighed by the policy's rules."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imgflow.engines.spec import ObjectDetector, Proposal
from imgflow.imaging.encode import decode_mask, encode_mask
from imgflow.imaging.masks import Mask, dilate, mask_box
from imgflow.policy.policy import ObjectRule
from imgflow.stages.stage import Job, Picture

# A thing is the subject if it fills this share of the photo and its centre lies in the middle half;
# and so is what is at least half as large as that.
_SUBJECT, _BESIDE = 0.08, 0.5


@dataclass(frozen=True, slots=True)
class Thing:
    """What a rule is about. mask: (H, W), 255 on it, grown as the rule says."""

    label: str
    confidence: float
    mask: Mask
    rule: ObjectRule

    @property
    def share(self) -> float:
        """Of the photo's pixels."""
        return float(np.count_nonzero(self.mask)) / self.mask.size


@dataclass(frozen=True, slots=True)
class Unwanted:
    """fill: to be filled, of which no two touch. ask: what only a person can decide."""

    fill: tuple[Thing, ...]
    ask: tuple[Thing, ...]


def unwanted_objects(picture: Picture, job: Job) -> Unwanted:
    """What the policy's rules say of the things in a picture. Raises EngineUnavailable."""
    fill: list[Thing] = []
    ask: list[Thing] = []
    for rule in job.policy.inpaint.objects:
        proposals = find_things(picture, job, job.engines.object_detector(rule.detector))
        for each in _of_rule(proposals, rule):
            thing = Thing(each.label, each.confidence, dilate(each.mask, rule.grow), rule)
            asks = rule.action == "ask" or thing.share > rule.max_area
            (ask if asks else fill).append(thing)
    return Unwanted(tuple(_merged(fill)), tuple(ask))


def find_things(picture: Picture, job: Job, detector: ObjectDetector) -> list[Proposal]:
    """All that a detector proposes in a picture. Kept by input and detector, its parameters
    included: looked for only once."""
    identity = f"{picture.ref.sha256}|{detector.spec.code_version}"
    digest = hashlib.sha256(identity.encode()).hexdigest()
    cached = job.store.get_cached("objects", digest)
    if cached is not None:
        return [
            Proposal(label, confidence, decode_mask(base64.b64decode(mask)))
            for label, confidence, mask in json.loads(cached)
        ]
    found = detector.propose(picture.view)
    kept = [
        (each.label, each.confidence, base64.b64encode(encode_mask(each.mask)).decode())
        for each in found
    ]
    job.store.put_cached("objects", digest, json.dumps(kept).encode())
    return found


def _of_rule(proposals: Sequence[Proposal], rule: ObjectRule) -> list[Proposal]:
    """The proposals that a rule is about, without the subject where it keeps that."""
    meant = [
        each
        for each in proposals
        if each.confidence >= rule.min_confidence and (not rule.labels or each.label in rule.labels)
    ]
    if not rule.keep_subject or not meant:
        return meant
    subject = max(meant, key=_area)
    if not _is_subject(subject):
        return meant
    return [each for each in meant if _area(each) < _BESIDE * _area(subject)]


def _area(proposal: Proposal) -> int:
    return int(np.count_nonzero(proposal.mask))


def _is_subject(proposal: Proposal) -> bool:
    box = mask_box(proposal.mask)
    assert box is not None  # a detector proposes no empty mask
    height, width = proposal.mask.shape
    down, across = (box.top + box.bottom) / 2 / height, (box.left + box.right) / 2 / width
    central = 0.25 <= down <= 0.75 and 0.25 <= across <= 0.75
    return central and _area(proposal) >= _SUBJECT * proposal.mask.size


def _merged(things: Sequence[Thing]) -> list[Thing]:
    """Things whose boxes overlap as one: filled apart, one would be filled from the other."""
    merged: list[Thing] = []
    for thing in things:
        while touched := next((other for other in merged if _touch(thing, other)), None):
            merged.remove(touched)
            labels = dict.fromkeys([*touched.label.split(" + "), *thing.label.split(" + ")])
            thing = Thing(
                " + ".join(labels),
                min(thing.confidence, touched.confidence),
                thing.mask | touched.mask,
                touched.rule,
            )
        merged.append(thing)
    return merged


def _touch(one: Thing, other: Thing) -> bool:
    boxes = mask_box(one.mask), mask_box(other.mask)
    return boxes[0] is not None and boxes[1] is not None and boxes[0].overlaps(boxes[1])
