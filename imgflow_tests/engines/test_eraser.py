"""The eraser engine: any size and depth, tiles as the whole, only what it may touch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exact import exactly
from numpy.typing import NDArray
from safetensors.torch import save_file
from samples import photo

from imgflow.engines import eraser as module
from imgflow.engines.eraser import (
    FINDER_RECEPTIVE,
    RESTORER_RECEPTIVE,
    NeuralEraser,
    _Letters,
)
from imgflow.engines.networks.eraser import STRIDE, Eraser, Fill, Find, Restore
from imgflow.engines.running import Planes, Task
from imgflow.engines.shipped import load_weights
from imgflow.errors import EngineUnavailable
from imgflow.imaging.metrics import psnr


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of random weights: one that changes something everywhere."""
    torch.manual_seed(0)
    network = Eraser()
    for value in network.parameters():
        torch.nn.init.normal_(value, std=0.05)
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_file({name: each.to(torch.float16) for name, each in network.state_dict().items()}, path)
    return path


# What each role takes: planes, and how far it sees.
_ROLES = [
    (Find, 3, FINDER_RECEPTIVE),
    (Fill, 4, RESTORER_RECEPTIVE),
    (Restore, 12, RESTORER_RECEPTIVE),
]


def noise(height: int, width: int, dtype: Any = np.uint8) -> NDArray[Any]:
    top = np.iinfo(dtype).max
    return np.random.default_rng(1).integers(0, top, (height, width, 3), dtype, endpoint=True)


def as_written(role: Callable[[Eraser], torch.nn.Module], weights: Path) -> Task:
    network = Eraser()
    network.load_state_dict(load_weights(weights))
    return exactly(role(network))


@pytest.mark.parametrize("size", [(1, 1), (15, 33), (64, 100), (130, 47)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_any_size_and_depth(weights: Path, size: tuple[int, int], dtype: Any) -> None:
    pixels, region = noise(*size, dtype), np.full(size, 255, np.uint8)
    engine = NeuralEraser(weights=weights)
    found = engine.find(pixels, region)
    assert found.mask.shape == size
    assert set(np.unique(found.mask)) <= {0, 255}
    assert 0 <= found.confidence <= 1
    clean = engine.restore(pixels, found.mask)
    assert clean.shape == pixels.shape
    assert clean.dtype == dtype
    letters = engine.survey(pixels)
    for plane in (letters.overlay, letters.product):
        assert plane.shape == size
        assert plane.dtype == np.uint8
    # A pixel is one or the other, or neither; each plane is rounded by itself.
    assert (letters.overlay.astype(int) + letters.product).max() <= 256


def test_the_same_photo_gives_the_same_bytes(weights: Path) -> None:
    pixels, region = noise(70, 90), np.full((70, 90), 255, np.uint8)
    one, other = (NeuralEraser(weights=weights) for _ in range(2))
    mask = one.find(pixels, region).mask
    assert (mask == other.find(pixels, region).mask).all()
    assert (one.restore(pixels, mask) == other.restore(pixels, mask)).all()


def test_without_a_region_nothing_is_found(weights: Path) -> None:
    found = NeuralEraser(weights=weights).find(noise(40, 40), np.zeros((40, 40), np.uint8))
    assert not found.mask.any()
    assert found.confidence == 0


def answering(kinds: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch, weights: Path) -> Any:
    """An engine whose finder gives these chances (H, W, 2) of overlaid and of product text, from
    far and from near."""
    engine = NeuralEraser(weights=weights)
    monkeypatch.setattr(NeuralEraser, "_letters", lambda *_: _Letters(kinds))
    monkeypatch.setattr(NeuralEraser, "_nearer", lambda *_: kinds)
    return engine


def test_a_survey_tells_overlays_from_print(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = np.zeros((40, 60, 2), np.float32)
    kinds[5:10, 5:20], kinds[30:35, 30:50] = (1, 0), (0.2, 0.8)
    letters = answering(kinds, monkeypatch, weights).survey(noise(40, 60))
    assert (letters.overlay[5:10, 5:20] == 255).all()
    assert (letters.product[30:35, 30:50] == 204).all()
    assert (letters.overlay[30:35, 30:50] == 51).all()
    assert letters.overlay[20:25].max() == letters.product[20:25].max() == 0


def test_what_is_between_clear_letters_is_no_stroke(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fill has to see the ground there; a letter that is unclear by itself counts too."""
    kinds, region = np.zeros((60, 120, 2), np.float32), np.zeros((60, 120), np.uint8)
    region[10:50, 5:115] = 255
    kinds[15:45, 10:40] = (0.4, 0)
    kinds[15:45, 10:14] = kinds[15:45, 22:26] = kinds[15:45, 36:40] = (0.95, 0)
    kinds[15:45, 90:94] = (0.4, 0)
    mask = answering(kinds, monkeypatch, weights).find(noise(60, 120), region).mask
    assert (mask[15:45, 22:26] > 0).all() and (mask[15:45, 90:94] > 0).all()
    assert not mask[15:45, 17:20].any() and not mask[15:45, 29:33].any()


@pytest.mark.parametrize("between", [0.25, 0.8])
def test_a_mask_that_holds_more_than_letters_does_not_hide_the_ground(
    between: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Translucent bars on a photo, under a mask of all that they stand on; how likely text it is
    between them."""
    truth = np.ascontiguousarray(photo("coffee")[150:250, 250:430])
    bars = np.zeros(truth.shape[:2], np.float32)
    for left in range(20, 160, 14):
        bars[20:80, left : left + 6] = 1
    seen = np.rint(truth + 0.3 * bars[:, :, None] * (255.0 - truth)).astype(np.uint8)
    mask = np.zeros(truth.shape[:2], np.uint8)
    mask[18:82, 18:160] = 255
    engine = NeuralEraser()
    letters = _Letters(np.dstack([np.maximum(bars, np.where(mask > 0, between, 0)), 0 * bars]))
    monkeypatch.setattr(NeuralEraser, "_letters", lambda *_: letters)
    under = np.where(bars > 0, np.uint8(255), np.uint8(0))
    restored, filled = (
        psnr(truth, each, data_range=255, mask=under)
        for each in (engine.restore(seen, mask), engine.filled(seen, mask))
    )
    assert restored > filled + 6


@pytest.mark.parametrize("drawn", [True, False])
def test_print_stays_where_drawn_letters_prevail(
    drawn: bool, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds, region = np.zeros((60, 120, 2), np.float32), np.zeros((60, 120), np.uint8)
    region[10:50, 10:50] = region[10:50, 70:110] = 255
    # In the first place some print shows behind an overlay, or stands alone; a second place
    # holds a print in any case, and is judged by itself.
    if drawn:
        kinds[15:20, 15:45] = (0.9, 0)
    kinds[40:42, 15:45] = kinds[20:25, 75:105] = (0, 0.9)
    found = answering(kinds, monkeypatch, weights).find(noise(60, 120), region)
    assert (found.mask[15:20, 15:45] > 0).all() == drawn
    assert (found.mask[40:42, 15:45] > 0).any() == (not drawn)
    assert (found.mask[20:25, 75:105] > 0).all()
    assert found.confidence == pytest.approx(0.9)


@pytest.mark.parametrize(("role", "planes", "reach"), _ROLES)
def test_no_pixel_depends_on_what_is_beyond_the_stated_reach(
    weights: Path, role: Callable[[Eraser], torch.nn.Module], planes: int, reach: int
) -> None:
    """What tiles rest on."""
    run = as_written(role, weights)
    side = reach + 6 * STRIDE
    seen = np.random.default_rng(0).random((2 * STRIDE, side, planes), np.float32)
    other = seen.copy()
    other[:, :STRIDE] = 1 - other[:, :STRIDE]
    columns = np.nonzero(np.abs(run(seen) - run(other)).max(axis=(0, 2)))[0]
    assert STRIDE < columns.max() < STRIDE + reach


@pytest.mark.parametrize(("role", "planes", "reach"), _ROLES)
def test_tiles_give_what_the_whole_gives(
    weights: Path,
    role: Callable[[Eraser], torch.nn.Module],
    planes: int,
    reach: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, run = NeuralEraser(weights=weights), as_written(role, weights)
    seen = np.random.default_rng(0).random((2 * reach + 64, 2 * reach + 96, planes), np.float32)
    whole = engine._run(seen, run, reach)
    monkeypatch.setattr(module, "_AT_ONCE", 1 << 16)
    monkeypatch.setattr(module, "_FINDER_TILE", 256)
    monkeypatch.setattr(module, "_RESTORER_TILE", 256)
    tiled = engine._run(seen, run, reach)
    # Tiles see the photo mirrored beyond its edges, the network's own convolutions see zeros.
    inner = (slice(reach, -reach), slice(reach, -reach))
    assert np.abs(whole - tiled)[inner].max() < 1e-4


@pytest.mark.parametrize(("letters", "looks"), [(0, 1), (1, 2)])
def test_a_photo_without_any_hint_of_letters_is_looked_at_once(
    letters: int, looks: int, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, seen = NeuralEraser(weights=weights), []

    def find(planes: Planes) -> Planes:
        seen.append(planes)
        found = np.zeros_like(planes)
        found[300:320, 300:320] = letters
        return found

    monkeypatch.setattr(engine, "_tasks", replace(engine._tasks, find=find))
    engine.survey(noise(640, 640))
    assert len(seen) == looks


def test_what_was_seen_once_is_not_looked_at_again(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, looks = NeuralEraser(weights=weights), []
    monkeypatch.setattr("imgflow.engines.eraser._NEARER", ())
    tasks = engine._tasks

    def find(seen: Planes) -> Planes:
        looks.append(0)
        return tasks.find(seen)

    monkeypatch.setattr(engine, "_tasks", replace(tasks, find=find))
    pixels, region = noise(64, 64), np.full((64, 64), 255, np.uint8)
    engine.survey(pixels)
    once = len(looks)
    engine.restore(pixels, engine.find(pixels, region).mask)
    assert len(looks) == once
    other = pixels.copy()
    other[0, 0] ^= 1
    engine.survey(other)
    assert len(looks) == 2 * once


@pytest.mark.parametrize(
    ("size", "seen"),
    [
        ((640, 700), [(640, 700), (640, 700)]),
        ((400, 500), [(600, 750), (400, 500)]),
        ((100, 80), [(200, 160), (100, 80)]),
    ],
)
def test_small_photos_are_looked_at_closer(
    size: tuple[int, int], seen: list[Any], weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, shapes = NeuralEraser(weights=weights), []

    def run(planes: Any, *_: Any) -> Any:
        shapes.append(planes.shape[:2])
        return planes

    monkeypatch.setattr(engine, "_run", run)
    kinds = engine._letters(noise(*size)).planes
    assert shapes == seen
    assert kinds.shape == (*size, 2)


def near_and_far(
    far: float, near: float, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, list[Any]]:
    """An engine that sees a bar of a photo (100, 300) with a chance from far, and from near most of
    it with another one; and the shapes of what it looks at."""
    engine, shapes = NeuralEraser(weights=weights), []

    def look(_: Any, seen: Any) -> Any:
        shapes.append(seen.shape[:2])
        kinds = np.zeros((*seen.shape[:2], 2), np.float32)
        times = seen.shape[0] // 100
        # The place begins at the photo's edges.
        kinds[times * 50 : times * 60, times * 34 : times * 130, 0] = near
        return kinds

    kinds = np.zeros((100, 300, 2), np.float32)
    kinds[50:60, 34:146, 0] = far
    monkeypatch.setattr(NeuralEraser, "_letters", lambda *_: _Letters(kinds))
    monkeypatch.setattr(NeuralEraser, "_look", look)
    return engine, shapes


def test_strokes_are_looked_for_from_near(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    region = np.zeros((100, 300), np.uint8)
    region[40:70, 30:150] = 255
    engine, shapes = near_and_far(0.7, 0.9, weights, monkeypatch)
    mask = engine.find(noise(100, 300), region).mask
    assert shapes == [(200, 428), (300, 642)], "the region and what is around it, enlarged"
    assert (mask[50:60, 34:130] > 0).all()
    assert not mask[50:60, 139:].any(), "what two nearer looks deny"
    engine, _ = near_and_far(0.9, 0.2, weights, monkeypatch)
    mask = engine.find(noise(100, 300), region).mask
    assert (mask[50:60, 34:146] > 0).all(), "the surer look counts more"


def test_nobody_looks_nearer_than_goes_through_the_network_at_once(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imgflow.engines.eraser._AT_ONCE", 8 * 100 * 214)
    engine, shapes = near_and_far(0.7, 0.9, weights, monkeypatch)
    region = np.zeros((100, 300), np.uint8)
    region[40:70, 30:150] = 255
    engine.find(noise(100, 300), region)
    assert shapes == [(200, 428)]


def test_what_hides_all_is_filled_from_what_is_around_it(weights: Path) -> None:
    """An eraser that believes nothing of what it sees under a mask."""
    engine = NeuralEraser(weights=weights)
    pixels, mask = noise(70, 90), np.zeros((70, 90), np.uint8)
    mask[30:36, 10:80] = 255
    other = np.where(mask[:, :, None] > 0, 255 - pixels, pixels)
    one = engine.restore(pixels, mask, opaque=True)
    assert (one == engine.restore(other, mask, opaque=True))[mask > 0].all()
    assert (one == engine.filled(pixels, mask)).all()


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match=r"gone\.safetensors"):
        NeuralEraser(weights=tmp_path / "gone.safetensors")


def test_the_engine_costs_no_torch_until_it_works() -> None:
    code = (
        "import sys; from imgflow.engines.registry import Engines; "
        "Engines().eraser('eraser').spec; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_shipped_weights_are_small_and_known() -> None:
    spec = NeuralEraser().spec
    path = Path(module.__file__).parent / "weights" / module.WEIGHTS
    assert path.stat().st_size <= 2_000_000
    assert spec.weights_sha256
    assert path.with_suffix(".md").read_text().count(spec.weights_sha256) == 1
