"""A line of a photo by itself: turned level and enlarged, it is seen and read best."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.engines.spec import Eraser, TextDetector
from imgflow.stages.reading import stretch_contrast

# Pixels of a line's height for OCR and for the eraser, and of its length at most.
_READ_HIGH, _SEEN_HIGH, _LONGEST = 40, 32, 1600
# Ground around it, in heights: OCR takes all for a line, the eraser wants to see where it is.
_CLOSE, _AROUND = 0.35, 1.0


def read_level(
    pixels: NDArray[np.uint8], line: NDArray[np.float32], detector: TextDetector
) -> tuple[str, float]:
    """What OCR reads in a line of a photo, and how sure it is, 0..1.

    pixels: (H, W, 3). line: (4, 2) corners x, y.
    """
    return detector.read(stretch_contrast(_level(pixels, line, _READ_HIGH, _CLOSE)))


def seen_level(
    pixels: NDArray[np.uint8], line: NDArray[np.float32], eraser: Eraser
) -> NDArray[np.uint8]:
    """What the eraser sees of letters drawn in a line of a photo: (h, w), of 255, with as much
    ground around it as OCR wants. Arguments as above."""
    drawn = eraser.survey(_level(pixels, line, _SEEN_HIGH, _AROUND)).overlay
    beyond = round((_AROUND - _CLOSE) * drawn.shape[0] / (1 + 2 * _AROUND))
    return np.ascontiguousarray(drawn[beyond:-beyond, beyond:-beyond])


def _level(
    pixels: NDArray[np.uint8], line: NDArray[np.float32], high: int, around: float
) -> NDArray[np.uint8]:
    middle, (along, across), angle = cv2.minAreaRect(line)
    if along < across:
        along, across, angle = across, along, angle - 90
    scale = min(high / max(across, 1.0), _LONGEST / max(along, 1.0))
    # As most people would turn it.
    matrix = np.asarray(cv2.getRotationMatrix2D(middle, (angle + 90) % 180 - 90, scale))
    width, height = (round(scale * side + 2 * around * high) for side in (along, across))
    matrix[:, 2] = matrix[:, 2] + (width / 2 - middle[0], height / 2 - middle[1])
    strip = cv2.warpAffine(
        pixels, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.asarray(strip, np.uint8)
