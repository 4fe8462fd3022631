"""Memory used over time, and by which cell: kept by the kernel for `%checkpoint memory`.

The clock thread samples, the main thread marks where cells begin and end. Bounded: the last ten
minutes by the second, then two hours by ten seconds, each with its highest value.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from .memory_gauge import Gauge

_FINE_S: Final = 1
_COARSE_S: Final = 10
_FINE_COUNT: Final = 600
_COARSE_COUNT: Final = 720
_CELLS: Final = 500
_IDLE_S: Final = 5.0  # between samples while no cell runs


class Sample(NamedTuple):
    """The most that was used around a moment."""

    time: float  # seconds since the epoch
    used_bytes: int


@dataclass(frozen=True)
class CellUse:
    """One run of a cell."""

    number: int  # In[number]
    began: float
    ended: float | None  # None: it runs
    before_bytes: int
    after_bytes: int  # of a running cell, the newest sample
    peak_bytes: int  # as sampled: a few times a second

    @property
    def growth_bytes(self) -> int:
        """What it left behind; negative where it freed memory."""
        return self.after_bytes - self.before_bytes


@dataclass
class Curve:
    """Samples in order of time, thinned as they grow old."""

    _fine: deque[Sample] = field(default_factory=deque)
    _coarse: deque[Sample] = field(default_factory=lambda: deque(maxlen=_COARSE_COUNT))

    def add(self, sample: Sample) -> None:
        """The newest one."""
        _join(self._fine, sample, _FINE_S)
        while len(self._fine) > _FINE_COUNT:
            _join(self._coarse, self._fine.popleft(), _COARSE_S)

    def samples(self) -> list[Sample]:
        """All that is known, oldest first."""
        return [*self._coarse, *self._fine]


def _join(samples: deque[Sample], sample: Sample, step_s: int) -> None:
    """Append it, or let it raise the last one if both are of one step."""
    if samples and samples[-1].time // step_s == sample.time // step_s:
        last = samples[-1]
        samples[-1] = last._replace(used_bytes=max(last.used_bytes, sample.used_bytes))
    else:
        samples.append(sample)


@dataclass
class _Running:
    """The running cell; changed in place by whichever thread reads the gauge."""

    number: int
    began: float
    before_bytes: int
    now_bytes: int
    peak_bytes: int

    def use(self, ended: float | None) -> CellUse:
        return CellUse(
            self.number, self.began, ended, self.before_bytes, self.now_bytes, self.peak_bytes
        )


class MemoryUse:
    """The kernel's record of its memory."""

    def __init__(self, gauge: Gauge) -> None:
        self.gauge = gauge
        self._curve = Curve()
        self._cells: deque[CellUse] = deque(maxlen=_CELLS)
        self._running: _Running | None = None
        self._sampled = 0.0

    def sample(self) -> None:
        """The clock ticks: often while a cell runs."""
        now = time.time()
        if self._running is not None or not 0 <= now - self._sampled < _IDLE_S:
            self._read(now)

    def cell_began(self, number: int) -> None:
        """The main thread is about to run In[number]."""
        now = time.time()
        used = self._read(now)
        self._running = _Running(number, now, used, used, used)

    def cell_ended(self) -> None:
        """It has run it."""
        now = time.time()
        self._read(now)
        running, self._running = self._running, None
        if running is not None:
            self._cells.append(running.use(now))

    def running(self) -> CellUse | None:
        """The running cell, as of the newest sample."""
        running = self._running
        return None if running is None else running.use(None)

    def cells(self) -> list[CellUse]:
        """The last ones that have ended, in order."""
        return list(self._cells)

    def samples(self) -> list[Sample]:
        """Use over time."""
        return self._curve.samples()

    def _read(self, now: float) -> int:
        used = self.gauge.used_bytes()
        self._sampled = now
        self._curve.add(Sample(now, used))
        running = self._running
        if running is not None:
            running.now_bytes = used
            running.peak_bytes = max(running.peak_bytes, used)
        return used
