"""EasyOCR: CRAFT and a recogniser, from a folder of weights; nothing is fetched at run time.

The package reads its weights as pickles that may run code; here they are plain tensors only.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgflow.engines.compute import module_bytes, on_card_or_processor
from imgflow.engines.held import Bench, Held
from imgflow.engines.shelf.shelf import Weights
from imgflow.engines.spec import EngineSpec
from imgflow.engines.torchfile import first_line, read_state, require_finite, unfit
from imgflow.lineage.record import TextRegion

if TYPE_CHECKING:
    import torch

DETECTOR = "craft_mlt_25k"
# Recognisers that are built alike, and a language whose script each reads.
_LANGUAGES = {
    "english_g2": ["en"],
    "latin_g2": ["en", "de", "fr", "es", "it", "pl"],
    "zh_sim_g2": ["ch_sim", "en"],
    "japanese_g2": ["ja", "en"],
    "korean_g2": ["ko", "en"],
    "cyrillic_g2": ["ru", "en"],
}
_ENDINGS = (".safetensors", ".pth")


def inspect_folder(folder: Path) -> str:
    """The recogniser in a folder of weights. Raises EngineUnavailable."""
    if _find(folder, DETECTOR) is None:
        raise unfit(folder / "x", f"there is no {DETECTOR}.pth in it")
    found = next((name for name in _LANGUAGES if _find(folder, name)), None)
    if found is None:
        raise unfit(folder / "x", f"there is none of {', '.join(_LANGUAGES)} (.pth) in it")
    return found


class EasyOcrDetector:
    """Text detector with recognition; regions come with what they read."""

    def __init__(self, name: str, weights: Weights, bench: Bench) -> None:
        from importlib.metadata import version

        self.spec = EngineSpec(
            name=name,
            kind="text_detector",
            model_id=f"easyocr-{version('easyocr')}-{weights.card.architecture}",
            licence=weights.card.licence,
            weights_sha256=weights.sha256,
        )
        self._weights, self._bench = weights, bench
        self._held = Held(bench, weights, self._load, _measure)

    def detect(self, pixels: NDArray[np.uint8]) -> list[TextRegion]:
        found = self._asked(lambda reader: reader.readtext(np.ascontiguousarray(pixels)))
        return [
            TextRegion(
                polygon=[[round(float(x), 1), round(float(y), 1)] for x, y in box],
                text=str(text),
                confidence=_share(score),
            )
            for box, text, score in found
        ]

    def read(self, line: NDArray[np.uint8]) -> tuple[str, float]:
        grey = cv2.cvtColor(np.ascontiguousarray(line), cv2.COLOR_RGB2GRAY)
        whole = [[0, grey.shape[1], 0, grey.shape[0]]]
        found = self._asked(lambda reader: reader.recognize(grey, whole, []))
        return next(((str(text), _share(score)) for _, text, score in found), ("", 0.0))

    def _asked(self, question: Callable[[Any], Iterable[Any]]) -> list[Any]:
        def work(device: torch.device) -> list[Any]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of memory that is pinned for no card
                return list(question(self._held.on(device)))

        found: list[Any] = on_card_or_processor(
            self._bench.compute, work, smaller_helps=False, detects=True
        )
        return found

    def _load(self, device: torch.device) -> Any:
        import easyocr
        from easyocr.config import recognition_models
        from easyocr.craft import CRAFT
        from easyocr.detection import get_textbox
        from easyocr.model.vgg_model import Model
        from easyocr.utils import CTCLabelConverter

        folder = self._weights.folder
        script = inspect_folder(folder)
        languages = _LANGUAGES[script]
        places = list(sys.path)
        reader = easyocr.Reader(
            languages,
            gpu=str(device) if device.type != "cpu" else False,
            model_storage_directory=str(folder),
            user_network_directory=str(folder),
            download_enabled=False,
            detector=False,
            recognizer=False,
            verbose=False,
        )
        sys.path[:] = places  # it puts the folder of weights there
        characters = recognition_models["gen2"][script]["characters"]
        dictionaries = {
            each: str(Path(easyocr.__file__).parent / "dict" / f"{each}.txt") for each in languages
        }
        converter = CTCLabelConverter(characters, {}, dictionaries)
        recogniser = Model(
            num_class=len(converter.character),
            input_channel=1,
            output_channel=256,
            hidden_size=256,
        )
        craft = CRAFT(pretrained=False)
        for network, name in ((craft, DETECTOR), (recogniser, script)):
            path = _find(folder, name)
            assert path is not None  # it was inspected
            _fill(network, path)
            network.to(device).eval()
        reader.character = characters
        reader.detect_network, reader.get_textbox = "craft", get_textbox
        reader.detector, reader.recognizer, reader.converter = craft, recogniser, converter
        return reader


def _share(score: Any) -> float:
    return round(min(max(float(score), 0.0), 1.0), 4)


def _find(folder: Path, name: str) -> Path | None:
    paths = (folder / f"{name}{ending}" for ending in _ENDINGS)
    return next((path for path in paths if path.is_file()), None)


def _fill(network: torch.nn.Module, path: Path) -> None:
    state: Mapping[str, Any] = read_state(path)
    # They were saved from networks that were spread over cards.
    plain = {name.removeprefix("module."): value for name, value in state.items()}
    try:
        network.load_state_dict(plain)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise unfit(path, f"they are of another network ({first_line(error)})") from error
    require_finite(path, network)


def _measure(reader: Any) -> int:
    return module_bytes(reader.detector) + module_bytes(reader.recognizer)
