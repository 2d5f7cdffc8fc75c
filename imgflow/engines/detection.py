"""Things in a photo, by a detection or segmentation network of torchvision and a weights file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgflow.engines.compute import module_bytes, on_card_or_processor
from imgflow.engines.held import Bench, Held, spec_of
from imgflow.engines.shelf.shelf import Weights
from imgflow.engines.spec import Proposal
from imgflow.engines.torchfile import first_line, read_state, require_finite, unfit
from imgflow.policy.engines import ModelEngine

if TYPE_CHECKING:
    import torch

ARCHITECTURES = (
    "maskrcnn_resnet50_fpn_v2",
    "maskrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_mobilenet_v3_large_fpn",
)
_CLASSES = "roi_heads.box_predictor.cls_score.weight"
_SURE = 0.5  # of a pixel to belong to a thing


def inspect_detector(path: Path) -> str:
    """The architecture that the weights of a file are of. Raises EngineUnavailable."""
    state = read_state(path)
    for name in ARCHITECTURES:
        if _fits(name, state):
            return name
    raise unfit(path, f"they are of none of {', '.join(ARCHITECTURES)}")


def _fits(name: str, state: dict[str, Any]) -> bool:
    import torch

    if _CLASSES not in state:
        return False
    with torch.device("meta"):
        wanted = _network(name, len(state[_CLASSES])).state_dict()
    return {k: tuple(v.shape) for k, v in wanted.items()} == {
        k: tuple(v.shape) for k, v in state.items() if hasattr(v, "shape")
    }


class TorchvisionDetector:
    """Proposes things of the classes that the network knows: masks, or boxes where it has none."""

    def __init__(self, name: str, weights: Weights, settings: ModelEngine, bench: Bench) -> None:
        self.spec = spec_of(
            name,
            "object_detector",
            weights,
            parameters=(
                ("min_score", settings.min_score),
                ("side", settings.side),
                *([("labels", ",".join(settings.labels))] if settings.labels else []),
            ),
        )
        self._weights, self._settings, self._bench = weights, settings, bench
        self._held = Held(bench, weights, self._load, module_bytes)

    def propose(self, pixels: NDArray[np.uint8]) -> list[Proposal]:
        return on_card_or_processor(
            self._bench.compute,
            lambda device: self._propose(pixels, device),
            smaller_helps=False,
            detects=True,
        )

    def _propose(self, pixels: NDArray[np.uint8], device: torch.device) -> list[Proposal]:
        import torch

        network = self._held.on(device)
        # A copy: versions are read-only, which torch cannot be told.
        photo = torch.from_numpy(pixels.copy()).permute(2, 0, 1).to(device) / 255
        with torch.inference_mode():
            (found,) = network([photo])
        proposals = []
        for number, score in enumerate(found["scores"].cpu().tolist()):
            if score < self._settings.min_score:
                continue
            if "masks" in found:
                mask = (found["masks"][number, 0] > _SURE).cpu().numpy()
            else:
                mask = np.zeros(pixels.shape[:2], bool)
                left, top, right, bottom = found["boxes"][number].cpu().round().int().tolist()
                mask[max(top, 0) : bottom + 1, max(left, 0) : right + 1] = True
            if mask.any():
                label = self._label(int(found["labels"][number]))
                drawn = np.where(mask, np.uint8(255), np.uint8(0))
                proposals.append(Proposal(label, round(score, 4), drawn))
        return proposals

    def _label(self, number: int) -> str:
        labels = self._settings.labels
        if labels:
            # 0 is the background, which has no name.
            return labels[number - 1] if 1 <= number <= len(labels) else f"class {number}"
        from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

        names = MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
        return str(names[number]) if number < len(names) else f"class {number}"

    def _load(self, device: torch.device) -> Any:
        path, name = self._weights.file, self._weights.card.architecture
        if name not in ARCHITECTURES:
            raise unfit(path, f"its card names the network '{name}', which is not known")
        state = read_state(path)
        if _CLASSES not in state:
            raise unfit(path, f"it has no weights named {_CLASSES}")
        network = _network(name, len(state[_CLASSES]), self._settings.side)
        try:
            network.load_state_dict(state)
        except (RuntimeError, TypeError, AttributeError) as error:
            raise unfit(path, f"they are not of {name} ({first_line(error)})") from error
        require_finite(path, network)
        return network.to(device).eval()


def _network(name: str, classes: int, side: int = 800) -> torch.nn.Module:
    from torchvision.models import detection

    made: torch.nn.Module = getattr(detection, name)(
        weights=None,
        weights_backbone=None,
        num_classes=classes,
        min_size=side,
        max_size=round(side * 5 / 3),
    )
    return made
