"""RapidOCR: PP-OCR text detection and recognition on ONNX Runtime; its wheel carries its models."""

from __future__ import annotations

import hashlib
import importlib.util
import threading
from collections.abc import Callable
from functools import cached_property, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgflow.engines.spec import EngineSpec
from imgflow.errors import EngineUnavailable
from imgflow.lineage.record import TextRegion

# Smaller photos are enlarged to this before detection. The package's own 736 takes 2.5 times
# as long on a 640 x 480 photo and finds single characters in texture.
_MIN_SIDE = 480


class RapidOcrDetector:
    """Text detector with recognition; regions come with what they read."""

    def __init__(self, *, threads: int = 1) -> None:
        self.spec = _spec()
        self._threads = threads
        self._one_at_a_time = threading.Lock()

    @cached_property
    def _ocr(self) -> Callable[..., Any]:
        from rapidocr import RapidOCR

        return RapidOCR(
            params={
                "Global.log_level": "error",
                # Below this the recogniser reads letters into texture; the policy's own
                # threshold sits on top.
                "Global.text_score": 0.3,
                "Det.limit_side_len": _MIN_SIDE,
                "EngineConfig.onnxruntime.intra_op_num_threads": self._threads,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            }
        )

    def detect(self, pixels: NDArray[np.uint8]) -> list[TextRegion]:
        found = self._seen(pixels, det=True)
        if found.boxes is None:
            return []
        return [
            TextRegion(
                polygon=[[round(float(x), 1), round(float(y), 1)] for x, y in box],
                text=text,
                confidence=round(float(score), 4),
            )
            for box, text, score in zip(found.boxes, found.txts, found.scores, strict=True)
        ]

    def read(self, line: NDArray[np.uint8]) -> tuple[str, float]:
        found = self._seen(line, det=False)
        if not found.txts:
            return "", 0.0
        return found.txts[0], round(float(found.scores[0]), 4)

    def _seen(self, pixels: NDArray[np.uint8], *, det: bool) -> Any:
        """det: whether text is looked for and turned, or all of the pixels are a line of it."""
        # RapidOCR takes OpenCV's BGR, and keeps what it was asked for until it is asked otherwise.
        bgr = np.ascontiguousarray(pixels[:, :, ::-1])
        with self._one_at_a_time:
            return self._ocr(bgr, use_det=det, use_cls=det, use_rec=True)


@lru_cache(maxsize=1)
def _spec() -> EngineSpec:
    # The models' bytes are hashed once a process.
    found = importlib.util.find_spec("rapidocr")
    if found is None or found.origin is None:
        raise EngineUnavailable(
            "engine_missing",
            "the package rapidocr is not installed",
            hint="Install imgflow with its dependencies: make test does",
        )
    models = sorted((Path(found.origin).parent / "models").glob("*.onnx"))
    digest = hashlib.sha256()
    for model in models:
        digest.update(model.read_bytes())
    return EngineSpec(
        name="rapidocr",
        kind="text_detector",
        model_id=f"rapidocr-{version('rapidocr')}-side{_MIN_SIDE}",
        licence="Apache-2.0",
        weights_sha256=digest.hexdigest(),
    )
