"""EasyOCR and torchvision's detectors, with random weights, from the files that a user has."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from samples import photo
from tiny_models import bench, folder_of, on_shelf

from imgflow.engines.detection import TorchvisionDetector, inspect_detector
from imgflow.engines.easyocr import EasyOcrDetector, inspect_folder
from imgflow.engines.shelf.shelf import Shelf
from imgflow.errors import EngineUnavailable
from imgflow.policy.engines import ModelEngine


@pytest.fixture(scope="module")
def easyocr_shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    from easyocr.config import recognition_models
    from easyocr.craft import CRAFT
    from easyocr.model.vgg_model import Model

    root = tmp_path_factory.mktemp("models")
    folder = folder_of(root, "ocr")
    torch.manual_seed(0)
    characters = recognition_models["gen2"]["english_g2"]["characters"]
    reader = Model(
        num_class=len(characters) + 1, input_channel=1, output_channel=256, hidden_size=256
    )
    # As they are published: names of networks that were spread over cards.
    for network, name in ((CRAFT(pretrained=False), "craft_mlt_25k"), (reader, "english_g2")):
        state = {f"module.{key}": value for key, value in network.state_dict().items()}
        torch.save(state, folder / f"{name}.pth")
    return on_shelf(root, "ocr", task="text_detector", loader="easyocr", architecture="english_g2")


def test_easyocr_works_from_its_folder_and_fetches_nothing(
    easyocr_shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    import easyocr.easyocr
    import easyocr.utils

    def never(*_: object, **__: object) -> None:
        raise AssertionError("it wanted to fetch something")

    monkeypatch.setattr(easyocr.easyocr, "download_and_unzip", never)
    places = list(sys.path)
    weights = easyocr_shelf.weights("ocr")
    detector = EasyOcrDetector("ocr", weights, bench())
    assert detector.spec.weights_sha256 == weights.sha256
    assert detector.spec.model_id.endswith("english_g2")
    found = detector.detect(photo("coffee", 64))
    assert isinstance(found, list)
    assert all(0 <= region.confidence <= 1 for region in found)
    text, confidence = detector.read(photo("coffee", 64)[:40])
    assert isinstance(text, str) and 0 <= confidence <= 1
    assert sys.path == places


def test_what_easyocr_finds_becomes_regions(
    easyocr_shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = EasyOcrDetector("ocr", easyocr_shelf.weights("ocr"), bench())

    class Reader:
        detector = recognizer = torch.nn.Linear(1, 1)

        def readtext(self, pixels: Any) -> Any:
            return [([[1, 2], [30, 2], [30, 9], [1, 9]], "SALE", np.float64(0.87654))]

        def recognize(self, grey: Any, horizontal: Any, free: Any) -> Any:
            assert grey.ndim == 2 and horizontal == [[0, grey.shape[1], 0, grey.shape[0]]]
            return [([[0, 0], [30, 0], [30, 9], [0, 9]], "LINE", np.float64(0.54321))]

    monkeypatch.setattr(detector._held.bench.cache, "get", lambda *_: Reader())
    assert detector.read(photo("coffee", 64)) == ("LINE", 0.5432)
    (region,) = detector.detect(photo("coffee", 64))
    assert region.text == "SALE"
    assert region.confidence == 0.8765
    assert region.polygon[2] == [30.0, 9.0]


def test_the_recogniser_is_told_by_its_file(easyocr_shelf: Shelf, tmp_path: Path) -> None:
    assert inspect_folder(easyocr_shelf.folder("ocr")) == "english_g2"
    with pytest.raises(EngineUnavailable, match="craft_mlt_25k"):
        inspect_folder(tmp_path)


def test_a_recogniser_of_another_shape_is_refused(tmp_path: Path, easyocr_shelf: Shelf) -> None:
    folder = folder_of(tmp_path, "ocr")
    for each in easyocr_shelf.folder("ocr").glob("*.pth"):
        (folder / each.name).write_bytes(each.read_bytes())
    torch.save({"module.a": torch.zeros(2)}, folder / "english_g2.pth")
    shelf = on_shelf(tmp_path, "ocr", task="text_detector", loader="easyocr")
    with pytest.raises(EngineUnavailable, match="another network"):
        EasyOcrDetector("ocr", shelf.weights("ocr"), bench()).detect(photo("coffee", 64))


# -- torchvision ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def detectors(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    from torchvision.models import detection

    root = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    for name, architecture in (
        ("masks", "maskrcnn_resnet50_fpn"),
        ("boxes", "fasterrcnn_mobilenet_v3_large_fpn"),
    ):
        network = getattr(detection, architecture)(
            weights=None, weights_backbone=None, num_classes=3
        )
        torch.save(network.state_dict(), folder_of(root, name) / f"{name}.pth")
        shelf = on_shelf(
            root, name, task="object_detector", loader="mask_rcnn", architecture=architecture
        )
    return shelf


@pytest.mark.parametrize("name", ["masks", "boxes"])
def test_things_are_proposed_with_masks_and_labels(detectors: Shelf, name: str) -> None:
    settings = ModelEngine(
        use="model", model=name, labels=["person", "logo"], min_score=0.0, side=64
    )
    engine = TorchvisionDetector(name, detectors.weights(name), settings, bench())
    pixels = photo("coffee", 64)
    found = engine.propose(pixels)
    # Random weights propose something, nowhere in particular.
    for each in found:
        assert each.label in ("person", "logo")
        assert each.mask.shape == pixels.shape[:2]
        assert each.mask.any()
        assert set(np.unique(each.mask)) <= {0, 255}
    sure = settings.model_copy(update={"min_score": 1.0})
    assert TorchvisionDetector(name, detectors.weights(name), sure, bench()).propose(pixels) == []


def test_the_network_is_told_by_its_weights(detectors: Shelf) -> None:
    assert inspect_detector(detectors.weights("masks").file) == "maskrcnn_resnet50_fpn"
    assert inspect_detector(detectors.weights("boxes").file) == "fasterrcnn_mobilenet_v3_large_fpn"


def test_weights_of_another_network_are_refused(detectors: Shelf, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "boxes")
    (folder / "boxes.pth").write_bytes(detectors.weights("boxes").file.read_bytes())
    shelf = on_shelf(
        tmp_path,
        "boxes",
        task="object_detector",
        loader="mask_rcnn",
        architecture="maskrcnn_resnet50_fpn",
    )
    settings = ModelEngine(use="model", model="boxes", side=64)
    engine = TorchvisionDetector("boxes", shelf.weights("boxes"), settings, bench())
    with pytest.raises(EngineUnavailable) as error:
        engine.propose(photo("coffee", 64))
    assert error.value.code == "weights_unfit"
