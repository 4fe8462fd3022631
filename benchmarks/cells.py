"""One peer on one workload, cell by cell beside a stock kernel that runs the same cells.

Top to bottom: set up both; cells with a pause between them; cells back to back; a few with
the memory watched; SIGKILL and back, several times.
"""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass, field

from engine import Engine, engine, since
from kernels import CellFailed, CutOff, two_kernels
from peers import Peer
from processes import peak_memory
from side import PAUSE_S, Effort, Pair, Side, back_to_back, with_pauses
from workloads import Workload

_RUN_ALL_CELLS = 30
_SLOW_S = 0.5  # the user waits for all of it: no pause can make that better or worse


@dataclass
class Measured:
    """What became of one peer on one workload; what was not reached is None or empty."""

    workload: str
    peer: str
    typing: list[Pair] = field(default_factory=list)
    run_all: list[Pair] = field(default_factory=list)
    typing_engine: Engine | None = None
    run_all_engine: Engine | None = None
    new_bytes: float | None = None  # per cell, typing
    typing_wall_s: float = 0.0  # until nothing works in the background any more
    processor_s: float | None = None  # per cell, typing: in all, beyond stock's
    extra_bytes: int | None = None  # peak beyond stock's peak
    stock_bytes: int | None = None  # stock's peak
    restores_s: list[float] = field(default_factory=list)  # each less a bare start
    back: str | None = None
    all_back: bool = False
    untold: list[str] | None = None  # cannot be saved, not back, and nobody was told
    yardstick: float = 0.0
    trouble: str | None = None  # cut off, or failed

    @property
    def restore_s(self) -> float | None:
        """The median."""
        return statistics.median(self.restores_s) if self.restores_s else None


def measure(workload: Workload, peer: Peer, effort: Effort) -> Measured:
    """All of it. Never raises for what the peer does: that is in `trouble`."""
    done = Measured(workload.name, peer.name)
    os.sync()  # the write-back of the run before must not slow this one
    deadline = time.monotonic() + effort.limit_s
    try:
        with two_kernels(peer.stock(), peer.start(), deadline) as (stock, tested):
            side = Side(workload, peer, stock, tested, effort)
            side.set_up()
            done.yardstick = float(stock.value(workload.yardstick))
            _typing(side, done, effort)
            if not workload.fixed:
                _run_all(side, done, effort)
                _memory(side, done)
            if peer.saves:
                _restore(side, done, effort)
    except CutOff:
        done.trouble = f"cut off after {effort.limit_s:.0f} s"
    except (CellFailed, RuntimeError, OSError) as why:
        done.trouble = f"failed: {why}"
    finally:
        peer.clear()
    return done


def _typing(side: Side, done: Measured, effort: Effort) -> None:
    before = engine(side.peer, side.tested)
    side.settle()
    began, worked, written = time.monotonic(), side.processor_s(), side.peer.written()
    done.typing = with_pauses(side, side.workload.fixed or effort.cells, side.peer.written)
    side.settle()
    done.typing_wall_s = time.monotonic() - began
    done.processor_s = (side.processor_s() - worked) / len(done.typing)
    done.new_bytes = (side.peer.written() - written) / len(done.typing)
    done.typing_engine = since(before, engine(side.peer, side.tested))


def _run_all(side: Side, done: Measured, effort: Effort) -> None:
    typical_s = statistics.median(pair.tested_s for pair in done.typing)
    if typical_s > _SLOW_S:
        return
    before = engine(side.peer, side.tested)
    done.run_all = back_to_back(side, min(effort.cells, _RUN_ALL_CELLS))
    done.run_all_engine = since(before, engine(side.peer, side.tested))


def _memory(side: Side, done: Measured) -> None:
    """Apart from the timed cells: reading memory slows the kernel that is read."""
    slow = statistics.median(pair.tested_s for pair in done.typing) > _SLOW_S
    codes = side.codes(1 if slow else side.effort.memory_cells)
    side.settle()
    with peak_memory(side.tested.root) as ours:
        for code in codes:
            side.run_tested(code)
            time.sleep(PAUSE_S)
        side.settle()
    with peak_memory(side.stock.root) as stock:
        for code in codes:
            side.stock.run(code)
            time.sleep(PAUSE_S)
    done.extra_bytes, done.stock_bytes = ours.bytes - stock.bytes, stock.bytes


def _restore(side: Side, done: Measured, effort: Effort) -> None:
    """Kill both, start both, and see when the variables are usable and what they are."""
    workload, stock, tested = side.workload, side.stock, side.tested
    expected = side.digests(tested)
    runs = _runs(workload)
    side.settle()
    for _ in range(effort.restores):
        stock.kill()
        stock.start_again()
        bare_s = stock.ready_s + stock.run(workload.imports).took_s
        tested.kill()
        try:
            side.peer.start_again(tested)
            began = time.monotonic()
            side.peer.bring_back(tested)
            loaded_s = time.monotonic() - began
            # One cell, as for the stock kernel; it needs the variables.
            cell = tested.run(f"{workload.imports}\n{workload.touch};")
        except CellFailed as why:
            done.back = f"no: {why}"
            return
        done.restores_s.append(tested.ready_s + loaded_s + cell.took_s - bare_s)
        if len(done.restores_s) == 1:
            _compare(side, done, expected, cell.text)
        side.settle()
    again = _runs(workload) - runs
    if again > 0:
        done.all_back, done.back = False, f"{done.back}; ran {again} cells again"


def _compare(side: Side, done: Measured, expected: dict[str, str], notice: str) -> None:
    got = side.digests(side.tested)
    wrong = [name for name in expected if got.get(name) != expected[name]]
    right = len(expected) - len(wrong)
    done.all_back = not wrong
    done.back = f"all {right}"
    if wrong:
        shown = ", ".join(wrong[:3]) + (", ..." if len(wrong) > 3 else "")
        done.back = f"{right} of {len(expected)} (not {shown})"
        if side.peer.background:
            done.trouble = f"the kernel said: {' '.join(notice.split())}"
    if side.workload.others:
        others = list(side.workload.others)
        living = side.tested.value(f"[n for n in {others!r} if n in get_ipython().user_ns]")
        done.untold = [n for n in side.workload.others if n not in living and n not in notice]


def _runs(workload: Workload) -> int:
    """How often setup cells have run so far, by their own record."""
    if workload.log is None or not workload.log.exists():
        return 0
    return len(workload.log.read_text().splitlines())
