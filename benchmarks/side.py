"""Two kernels side by side, a stock one and a peer's, in the same state: cells run in turn.

A noisy machine hits both alike. What is asked of them is `cells`' and `worst`'s.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from engine import at_rest
from kernels import Cell, CutOff, Kernel
from peers import Peer
from processes import descendants, faults, processor_s
from workloads import Workload

# Somebody typing fast. Background work may go on in the next cell.
PAUSE_S = 0.3
_BLOCK = 10
_FEWEST = 3
_QUIET_S = 0.3  # so long without a sign of background work
# Then the kernel is asked; a checkpoint that is held back for a budget comes within 3 s.
_REST_LIMIT_S = 10.0


@dataclass(frozen=True)
class Effort:
    """How much is run."""

    cells: int = 30  # per regime
    restores: int = 3
    memory_cells: int = 4  # with the memory watched
    try_s: float = 20.0  # of a regime: then enough has been seen of a slow peer
    limit_s: float = 120.0  # then the peer is cut off


@dataclass(frozen=True)
class Pair:
    """The same cell in both kernels. `faults`: pages that only the tested one had to be given."""

    stock_s: float
    tested_s: float
    began: float  # monotonic, of the tested one
    faults: int

    @property
    def added_s(self) -> float:
        """What the user waits longer; negative by noise."""
        return self.tested_s - self.stock_s


class Side:
    """Two kernels side by side, in the same state."""

    def __init__(
        self, workload: Workload, peer: Peer, stock: Kernel, tested: Kernel, effort: Effort
    ) -> None:
        self.workload, self.peer, self.stock, self.tested = workload, peer, stock, tested
        self.effort = effort
        self._count = 0

    def set_up(self) -> None:
        """The peer, the imports, the variables."""
        self.peer.attach(self.tested)
        for code in (self.workload.imports, *self.workload.setup):
            self.stock.run(code)
            self.run_tested(code)
        self.settle()

    def run_tested(self, code: str) -> Cell:
        """A cell in the peer's kernel, with what the user waits for after it."""
        cell = self.tested.run(code)
        self.peer.after_cell(self.tested)
        return Cell(cell.began, time.monotonic() - cell.began, cell.text)

    def codes(self, count: int) -> list[str]:
        """The next cells."""
        self._count += count
        return [self.workload.cell(n) for n in range(self._count - count, self._count)]

    def settle(self) -> None:
        """Wait until nothing works in the background any more."""
        if not self.peer.background:
            return
        limit = time.monotonic() + _REST_LIMIT_S
        self._wait_for_quiet()
        while not at_rest(self.peer, self.tested) and time.monotonic() < limit:
            self._wait_for_quiet()

    def _wait_for_quiet(self) -> None:
        """No snapshot process, and files that do not grow."""
        quiet, last = time.monotonic(), self.peer.written()
        while time.monotonic() - quiet < _QUIET_S:
            if time.monotonic() > self.tested.deadline:
                raise CutOff
            time.sleep(0.05)
            now = self.peer.written()
            if now != last or descendants(self.tested.pid):
                quiet, last = time.monotonic(), now

    def pair(self, code: str, stock_first: bool) -> Pair:
        """The cell in both."""
        if stock_first:
            plain, tested = self.counted_stock(code), self.counted_tested(code)
        else:
            tested, plain = self.counted_tested(code), self.counted_stock(code)
        return pair_of(plain, tested)

    def counted_stock(self, code: str) -> tuple[Cell, int]:
        """The cell in the stock kernel, and how many pages that was given meanwhile."""
        before = faults(self.stock.pid)
        return self.stock.run(code), faults(self.stock.pid) - before

    def counted_tested(self, code: str) -> tuple[Cell, int]:
        """The same in the peer's."""
        before = faults(self.tested.pid)
        return self.run_tested(code), faults(self.tested.pid) - before

    def processor_s(self) -> float:
        """How much more the peer's kernel has worked than the stock one, since their starts."""
        tested_s = processor_s(self.tested.pid, self.tested.root) + self.peer.own_processor_s
        return tested_s - processor_s(self.stock.pid, self.stock.root)

    def digests(self, one: Kernel) -> dict[str, str]:
        """What the variables are worth."""
        names, expressions = list(self.workload.names), list(self.workload.expressions)
        text = f"__import__('bench_digests').digest({names!r}, {expressions!r})"
        return dict(one.value(text))


def pair_of(plain: tuple[Cell, int], tested: tuple[Cell, int]) -> Pair:
    """Two runs of the same cell, with the faults of each."""
    return Pair(plain[0].took_s, tested[0].took_s, tested[0].began, tested[1] - plain[1])


def with_pauses(side: Side, count: int, each: Callable[[], object] = lambda: None) -> list[Pair]:
    """Cells with a pause before each; the kernels take turns in going first."""
    pairs: list[Pair] = []
    began = time.monotonic()
    for code in side.codes(count):
        time.sleep(PAUSE_S)
        pairs.append(side.pair(code, stock_first=len(pairs) % 2 == 0))
        each()
        enough = not side.workload.fixed and len(pairs) >= _FEWEST
        if enough and time.monotonic() - began > side.effort.try_s:
            break
    return pairs


def back_to_back(side: Side, count: int) -> list[Pair]:
    """Blocks of cells without a pause, in one kernel and then in the other."""
    pairs: list[Pair] = []
    began = time.monotonic()
    while len(pairs) < count and time.monotonic() - began < side.effort.try_s:
        codes = side.codes(min(_BLOCK, count - len(pairs)))
        plain = [side.counted_stock(code) for code in codes]
        tested = [side.counted_tested(code) for code in codes]
        side.settle()
        pairs += [pair_of(a, b) for a, b in zip(plain, tested, strict=True)]
    return pairs
