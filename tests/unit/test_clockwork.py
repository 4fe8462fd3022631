"""What the clock does at a look, in which order, and what one failure costs the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from checkpoint_kernel.checkpoint import Settled
from checkpoint_kernel.clockwork import Clockwork
from checkpoint_kernel.flight_recorder import FlightRecorder
from checkpoint_kernel.memory_gauge import Gauge
from checkpoint_kernel.memory_use import MemoryUse
from checkpoint_kernel.others import Others

pytestmark = pytest.mark.unit


class Checkpointer:
    """Stands for the checkpoint work: notes that it was looked at, and may fail."""

    def __init__(self, done: list[str], fails: bool) -> None:
        self.settled = Settled()
        self._done = done
        self._fails = fails

    def watch(self) -> bool:
        self._done.append("checkpoint")
        if self._fails:
            raise OSError("the store is gone")
        return False


def clock(directory: Path, checkpointer: Any) -> Clockwork:
    """Not started: a test looks by itself."""
    return Clockwork(
        checkpointer, FlightRecorder(directory / "flight"), MemoryUse(Gauge(None)), {}, Others(),
        0.0, True, lambda _delay_s, _function: None,
    )  # fmt: skip


@pytest.mark.parametrize("fails", [False, True])
def test_errands_come_after_the_checkpoint_work_whatever_that_and_they_come_to(
    tmp_path: Path, fails: bool
) -> None:
    done: list[str] = []
    checkpointer = Checkpointer(done, fails)
    one = clock(tmp_path, checkpointer)

    def fail() -> None:
        done.append("fails")
        raise ValueError("torn")

    one.errands += [fail, lambda: done.append("works")]
    one._tick()
    assert done == ["checkpoint", "fails", "works"]
    assert one.errands_trouble == "ValueError: torn"
    one._tick()
    assert done == ["checkpoint", "fails", "works"] * 2
    # A save that is waited for would take it for its own failure.
    assert checkpointer.settled.trouble == ("OSError: the store is gone" if fails else None)


def test_without_checkpoints_errands_are_done_too(tmp_path: Path) -> None:
    done: list[str] = []
    one = clock(tmp_path, None)
    one.errands.append(lambda: done.append("works"))
    one._tick()
    assert done == ["works"]
    assert one.errands_trouble is None
