"""When a CUDA context counts as live; a stand-in for the driver, because no device is lent."""

from __future__ import annotations

import ctypes
import sys
import types
from typing import Any

import pytest

from checkpoint_kernel import cuda, snapshot

pytestmark = pytest.mark.unit


class Driver:
    """libcuda with two devices."""

    def __init__(self, active: tuple[int, ...] = (), not_initialized: bool = False) -> None:
        self._active = active
        self._not_initialized = not_initialized

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802 (its name)
        ctypes.cast(count, ctypes.POINTER(ctypes.c_int))[0] = 2
        return 3 if self._not_initialized else 0

    def cuDevicePrimaryCtxGetState(self, device: int, flags: Any, active: Any) -> int:  # noqa: N802
        ctypes.cast(active, ctypes.POINTER(ctypes.c_int))[0] = int(device in self._active)
        return 0


@pytest.fixture(autouse=True)
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)


@pytest.mark.parametrize(
    ("driver", "live"),
    [
        (None, False),
        (Driver(not_initialized=True), False),
        (Driver(), False),
        (Driver(active=(1,)), True),
    ],
    ids=["no driver", "not initialized", "no context", "a context on the second device"],
)
def test_a_context_of_any_library_counts(
    monkeypatch: pytest.MonkeyPatch, driver: Driver | None, live: bool
) -> None:
    monkeypatch.setattr(cuda, "_driver", lambda: driver)
    assert cuda.context_is_live() is live
    assert (snapshot.available() is None) is not live


def torch_with_a_context() -> types.SimpleNamespace:
    return types.SimpleNamespace(cuda=types.SimpleNamespace(is_initialized=lambda: True))


def test_torchs_own_word_counts_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", torch_with_a_context())  # type: ignore[arg-type]
    assert cuda.context_is_live()


def test_a_context_of_torchs_alone_does_not_prevent_a_fork(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torch", torch_with_a_context())  # type: ignore[arg-type]
    assert snapshot.available() is None


def test_another_library_that_may_have_device_memory_does_and_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torch", torch_with_a_context())  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "cupy", types.ModuleType("cupy"))
    assert "perhaps of cupy" in (snapshot.available() or "")


def test_the_driver_is_not_loaded_in_order_to_ask() -> None:
    assert cuda._driver() is None
