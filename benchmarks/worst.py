"""The worst cell, and growth: our kernel alone, beside a stock one.

The worst cell is looked for in a fresh kernel, after 20 dense rewrites of all arrays (huge
pages do not last) and after a restore, with the causes that can be seen from outside.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from engine import Engine, engine, since
from kernels import CellFailed, CutOff, two_kernels
from peers import Peer
from side import Effort, Pair, Side, back_to_back, with_pauses
from workloads import Workload

REWRITES = 20


@dataclass(frozen=True)
class Worst:
    """One state of the kernel. Times in seconds."""

    workload: str
    peer: str
    state: str
    typing: Sequence[Pair]
    run_all: Sequence[Pair]
    engine: Engine | None
    collections: Sequence[tuple[float, float]]  # full ones: (began, took)


def worst_cells(workload: Workload, peer: Peer, effort: Effort) -> tuple[list[Worst], str | None]:
    """One entry per state that was reached, and what went wrong."""
    found: list[Worst] = []
    deadline = time.monotonic() + effort.limit_s
    os.sync()
    try:
        with two_kernels(peer.stock(), peer.start(), deadline) as (stock, tested):
            side = Side(workload, peer, stock, tested, effort)
            _watch_collections(side)
            side.set_up()
            found.append(_look(side, "fresh", effort))
            for _ in range(REWRITES):
                stock.run(workload.dense)
                tested.run(workload.dense)
            side.settle()
            found.append(_look(side, f"after {REWRITES} dense rewrites", effort))
            for one in (stock, tested):
                one.kill()
            stock.start_again()
            tested.start_again()
            for code in (workload.imports, *workload.setup):
                stock.run(code)
            told = tested.run(workload.imports).text
            try:
                tested.run(f"{workload.touch};")
            except CellFailed as why:
                raise CellFailed(f"{why}; the kernel said: {told.strip()}") from why
            _watch_collections(side)
            side.settle()
            found.append(_look(side, "after a restore", effort))
    except CutOff:
        return found, f"cut off after {effort.limit_s:.0f} s"
    except (CellFailed, RuntimeError, OSError) as why:
        return found, f"failed: {why}"
    finally:
        peer.clear()
    return found, None


def _watch_collections(side: Side) -> None:
    for one in (side.stock, side.tested):
        one.hidden("__import__('bench_collections').watch()")


def _look(side: Side, state: str, effort: Effort) -> Worst:
    before = engine(side.peer, side.tested)
    typing = with_pauses(side, effort.cells)
    side.settle()
    run_all = back_to_back(side, effort.cells)
    side.settle()
    made = since(before, engine(side.peer, side.tested))
    full = side.tested.value("__import__('bench_collections').collections")
    return Worst(
        side.workload.name,
        side.peer.name,
        state,
        typing,
        run_all,
        made,
        [(began, took) for began, took in full],
    )


def causes(pair: Pair, full: Sequence[tuple[float, float]]) -> str:
    """What is known of why this cell took longer than the stock kernel's."""
    known = []
    inside = [took for began, took in full if 0 <= began - pair.began <= pair.tested_s]
    if inside:
        known.append(f"full collection of {sum(inside) * 1e3:.1f} ms")
    if pair.faults > 0:
        known.append(f"{pair.faults:,} more page faults")
    return ", ".join(known) or "nothing seen from outside"
