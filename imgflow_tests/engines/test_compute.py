"""Where models work: the budget is kept, memory that runs out is not the end, devices are named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from imgflow.engines.account import account, accounting
from imgflow.engines.compute import Compute, ModelCache, module_bytes, on_card_or_processor
from imgflow.engines.loading import kept_by, loading
from imgflow.errors import EngineUnavailable, ImgflowError


def network(kilobytes: int) -> torch.nn.Module:
    return torch.nn.Linear(kilobytes, 256, bias=False)  # float32: as many kilobytes


def test_ten_models_in_turn_never_exceed_a_budget_for_two() -> None:
    cache = ModelCache(budget=200 * 1024)
    loaded: list[int] = []

    def get(number: int) -> torch.nn.Module:
        def load() -> torch.nn.Module:
            # What is held while a model is loaded, and the model itself.
            assert cache.bytes + 100 * 1024 <= cache.budget
            loaded.append(number)
            return network(100)

        return cache.get(number, 100 * 1024, load, module_bytes)

    for number in range(10):
        get(number)
        assert cache.bytes <= cache.budget
        assert len(cache) <= 2
    assert cache.peak == 200 * 1024
    get(9)
    get(8)
    assert loaded == list(range(10))
    get(0)  # 9 was used longest ago
    get(8)
    assert loaded == [*range(10), 0]


def test_a_model_that_grows_beyond_what_was_expected_makes_room_for_itself() -> None:
    cache = ModelCache(budget=200 * 1024)
    cache.get("a", 100 * 1024, lambda: network(100), module_bytes)
    cache.get("b", 10, lambda: network(150), module_bytes)
    assert len(cache) == 1
    assert cache.bytes <= cache.budget


def test_a_model_that_is_too_large_is_an_error_and_is_not_loaded() -> None:
    def never() -> torch.nn.Module:
        raise AssertionError("it was loaded")

    with pytest.raises(EngineUnavailable) as error:
        ModelCache(budget=1000).get("a", 2000, never, module_bytes)
    assert error.value.code == "model_too_large"
    assert "IMGFLOW_MODEL_MB" in error.value.hint


class FullCard(Compute):
    """Says that there is a card, whose memory is full."""

    def torch_device(self) -> torch.device:
        return torch.device("meta")


def work(device: torch.device) -> str:
    if device.type == "meta":
        raise torch.OutOfMemoryError("full")
    return f"done on {device}"


def test_a_full_card_hands_over_to_the_processor_and_says_so() -> None:
    with accounting() as told:
        assert on_card_or_processor(FullCard(), work, smaller_helps=False) == "done on cpu"
    assert told.device == "cpu"
    assert told.notes == ["the memory of meta was full: the processor took over"]


def test_where_less_can_be_asked_the_caller_hears_of_it() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        on_card_or_processor(FullCard(), work, smaller_helps=True)


def test_where_the_processor_may_not_take_over_a_person_decides() -> None:
    with pytest.raises(EngineUnavailable) as error:
        on_card_or_processor(FullCard(cpu_when_full=False), work, smaller_helps=False)
    assert error.value.code == "out_of_memory"


@pytest.mark.parametrize(
    "fields", [{"device": "gpu"}, {"device": "cuda:x"}, {"memory_mb": -1}, {"precision": "half"}]
)
def test_what_is_no_device_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ImgflowError) as error:
        Compute(**fields)
    assert error.value.code == "compute_invalid"


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMGFLOW_DEVICE", "cuda:1")
    monkeypatch.setenv("IMGFLOW_PRECISION", "float32")
    monkeypatch.setenv("IMGFLOW_MODEL_MB", "4096")
    assert Compute.from_environment() == Compute("cuda:1", "float32", 4096)
    monkeypatch.setenv("IMGFLOW_MODEL_MB", "lots")
    with pytest.raises(ImgflowError):
        Compute.from_environment()


def test_a_device_that_is_not_there_is_an_error() -> None:
    with pytest.raises(EngineUnavailable) as error:
        Compute("cuda:63").torch_device()
    assert error.value.code == "device_missing"


def test_a_model_that_does_not_bear_a_precision_works_in_float32_and_says_so() -> None:
    with accounting() as told:
        dtype = Compute("cpu", "bfloat16").dtype(torch.device("cpu"), half=True, bfloat16=False)
    assert dtype is torch.float32
    assert "bfloat16" in told.notes[0]


def test_accounts_do_not_mix() -> None:
    with accounting() as outer:
        account().pay(1.0)
        with accounting() as inner:
            account().pay(0.25)
            account().pay(0.25)
    account().pay(100)  # nobody reads that
    assert (outer.cost, inner.cost) == (1.0, 0.5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no graphics card that torch can use")
def test_a_card_and_a_processor_agree(tmp_path: Any) -> None:
    from tiny_models import bench, compact, folder_of, on_shelf

    from imgflow.engines.spandrel_models import SpandrelUpscaler

    compact(folder_of(tmp_path, "net") / "net.safetensors", 2)
    shelf = on_shelf(tmp_path, "net", task="upscaler", loader="spandrel", scale=2)
    tile = np.random.default_rng(0).random((64, 64, 3), np.float32)
    card, processor = (
        SpandrelUpscaler("net", shelf.weights("net"), 2, bench(device=each)).enlarge(tile)
        for each in ("cuda:0", "cpu")
    )
    np.testing.assert_allclose(card, processor, atol=2e-3)


def test_who_keeps_the_time_is_told_of_what_is_loaded_and_of_nothing_on_the_way() -> None:
    told: list[str] = []

    @contextmanager
    def keeper(what: str) -> Iterator[None]:
        told.append(f"{what} begins")
        try:
            yield
        finally:
            told.append(f"{what} ends")

    def failing() -> None:
        with loading("worse"):
            raise ValueError("no model")

    with kept_by(keeper):
        with loading("a model"), loading("its parts"):
            pass
        with pytest.raises(ValueError, match="no model"):
            failing()
    with loading("later"):
        pass
    assert told == ["a model begins", "a model ends", "worse begins", "worse ends"]


@pytest.mark.parametrize(
    "message",
    [
        "MPS backend out of memory",
        "DefaultCPUAllocator: can't allocate memory",
        "CUDA error: out of memory",
    ],
)
def test_memory_that_ran_out_in_other_words_is_told_as_such(message: str) -> None:
    def work(_: torch.device) -> None:
        raise RuntimeError(message)

    with pytest.raises(torch.OutOfMemoryError, match=message):
        on_card_or_processor(Compute("cpu"), work, smaller_helps=True)

    def wrong(_: torch.device) -> None:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        on_card_or_processor(Compute("cpu"), wrong, smaller_helps=True)


@pytest.mark.parametrize(
    ("capability", "bears", "wanted"),
    [
        ((9, 0), {"half": True, "bfloat16": True}, torch.bfloat16),
        ((9, 0), {"half": True, "bfloat16": False}, torch.float32),
        ((7, 5), {"half": True, "bfloat16": True}, torch.float16),
        ((7, 5), {"half": False, "bfloat16": True}, torch.float32),
    ],
)
def test_a_card_computes_in_what_it_does_fast(
    capability: tuple[int, int],
    bears: dict[str, bool],
    wanted: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert Compute().dtype(torch.device("cuda:0"), **bears) is wanted
