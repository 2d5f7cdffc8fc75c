"""RapidOCR reads what is stamped on a photo, and says where. The only tests with real OCR here."""

from __future__ import annotations

import re

import numpy as np
import pytest
from samples import Stamped, photo

from imgflow.engines.rapidocr import RapidOcrDetector
from imgflow.policy.policy import DetextSettings
from imgflow.stages.text import is_text


@pytest.fixture(scope="module")
def detector() -> RapidOcrDetector:
    return RapidOcrDetector()


def test_a_stamp_is_read_where_it_is(detector: RapidOcrDetector, stamped: Stamped) -> None:
    found = detector.detect(stamped.pixels)
    matching = [each for each in found if re.sub(r"\W", "", each.text) == "20240315"]
    assert len(matching) == 1
    assert matching[0].confidence > 0.8
    points = np.array(matching[0].polygon)
    assert points.shape == (4, 2)
    left, top, right, bottom = stamped.box
    assert np.abs(points.min(axis=0) - (left, top)).max() < 8
    assert np.abs(points.max(axis=0) - (right, bottom)).max() < 8


def test_a_line_by_itself_is_read(detector: RapidOcrDetector, stamped: Stamped) -> None:
    left, top, right, bottom = (round(side) for side in stamped.box)
    text, confidence = detector.read(stamped.pixels[top - 4 : bottom + 4, left - 6 : right + 6])
    assert re.sub(r"\W", "", text) == "20240315"
    assert 0.8 < confidence <= 1
    nothing, _ = detector.read(np.full((40, 200, 3), 128, np.uint8))
    assert nothing == ""


def test_colours_are_not_swapped(detector: RapidOcrDetector, stamped: Stamped) -> None:
    seen = []
    ocr = detector._ocr
    detector.__dict__["_ocr"] = lambda pixels, **asked: seen.append(pixels) or ocr(pixels, **asked)
    try:
        detector.detect(stamped.pixels[:64, :64])
    finally:
        detector.__dict__["_ocr"] = ocr
    assert np.array_equal(seen[0], stamped.pixels[:64, :64, ::-1]), "RapidOCR takes BGR"


def test_a_photo_without_text_has_none_that_is_believed(detector: RapidOcrDetector) -> None:
    clean = photo("coffee", 320)
    found = detector.detect(clean)
    assert not [each for each in found if is_text(each, clean.shape[:2], DetextSettings())]


def test_the_spec_names_the_models_bytes(detector: RapidOcrDetector) -> None:
    assert detector.spec.kind == "text_detector"
    assert detector.spec.weights_sha256
    assert len(detector.spec.weights_sha256) == 64
    assert detector.spec.weights_sha256[:12] in detector.spec.code_version
