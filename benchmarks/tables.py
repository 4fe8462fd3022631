"""The results as Markdown tables: one function per part. What is a target is `targets`'."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from cells import Measured
from long_cell import Trained
from loops import Looped
from side import Pair
from tabulate import tabulate
from worst import Worst, causes

_LONGEST = 300  # characters in a cell of a table


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of them do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1))]


def added_ms(pairs: Sequence[Pair]) -> str:
    """Median / p99 / maximum of what is added, in milliseconds."""
    if not pairs:
        return ""
    added = [pair.added_s * 1e3 for pair in pairs]
    figures = (statistics.median(added), percentile(added, 0.99), max(added))
    return " / ".join(f"{figure:.1f}" for figure in figures)


def size(count: float | None) -> str:
    """Bytes in powers of 1000."""
    if count is None:
        return ""
    sign, count = ("-", -count) if count < 0 else ("", count)
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if count >= factor:
            return f"{sign}{count / factor:.3g} {unit}"
    return f"{sign}{count:.0f} B"


def _number(value: float | None, factor: float = 1.0, digits: int = 2) -> str:
    return "" if value is None else f"{value * factor:.{digits}f}"


def _markdown(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    plain = [[" ".join(cell.replace("|", "/").split())[:_LONGEST] for cell in row] for row in rows]
    return tabulate(plain, headers, tablefmt="pipe", disable_numparse=True)


def side_by_side(rows: Sequence[Measured]) -> str:
    """Every peer on every workload."""
    headers = [
        *("workload", "peer", "stock cell, ms", "added, typing: median / p99 / max, ms"),
        *("added, run all: median / p99 / max, ms", "cells", "new per cell"),
        *("processor per cell, ms", "extra memory", "restore, s", "back"),
    ]
    return _markdown([_measured(row) for row in rows], headers)


def _measured(row: Measured) -> list[str]:
    stock_ms = [pair.stock_s * 1e3 for pair in (*row.typing, *row.run_all)]
    back = [text for text in (row.back, row.trouble) if text]
    if row.untold is not None:
        back.append(f"not told of {', '.join(row.untold)}" if row.untold else "others named")
    return [
        row.workload,
        row.peer,
        f"{statistics.median(stock_ms):.1f}" if stock_ms else "",
        added_ms(row.typing),
        added_ms(row.run_all),
        f"{len(row.typing)} + {len(row.run_all)}",
        size(row.new_bytes),
        _number(row.processor_s, 1e3, 1),
        size(row.extra_bytes),
        _number(row.restore_s),
        "; ".join(back),
    ]


def pauses(rows: Sequence[Measured]) -> str:
    """What the kernel itself calls its pause, beside what the user waits longer."""
    headers = [
        *("workload", "kernel", "cells", "added: median / max, ms", "checkpoints"),
        *("pause by its own clock: median / max, ms", "share of wall time", "write of the newest"),
    ]
    body = []
    for row in rows:
        for kind, pairs, made in (
            ("typing", row.typing, row.typing_engine),
            ("run all", row.run_all, row.run_all_engine),
        ):
            if not pairs or made is None:
                continue
            added = [pair.added_s * 1e3 for pair in pairs]
            own = [pause * 1e3 for pause in made.pauses_s] or [0.0]
            share = own_share(pairs, sum(made.pauses_s))
            body.append(
                [
                    row.workload,
                    row.peer,
                    f"{len(pairs)} {kind}",
                    f"{statistics.median(added):.1f} / {max(added):.1f}",
                    str(made.checkpoints),
                    f"{statistics.median(own):.1f} / {max(own):.1f}",
                    f"{share:.1%}",
                    "" if made.write_s is None else f"{made.write_s * 1e3:.0f} ms",
                ]
            )
    return _markdown(body, headers)


def own_share(pairs: Sequence[Pair], paused_s: float) -> float:
    """The pauses' share of the time from the first cell's start to the last one's end."""
    wall_s = pairs[-1].began + pairs[-1].tested_s - pairs[0].began
    return paused_s / wall_s if wall_s > 0 else 0.0


def long_cells(rows: Sequence[Trained]) -> str:
    """W5."""
    headers = [
        *("workload", "peer", "stock cell, s", "throughput of stock: median (each pair)"),
        *("checkpoints a cell", "new per checkpoint", "parameters"),
        *("epochs done / back", "age of the state at death, s", "usable"),
    ]
    body = [
        [
            row.workload,
            row.peer + (f", every {row.interval_s:g} s" if row.interval_s else ""),
            _number(row.stock_s),
            _ratios(row.ratios),
            _number(row.checkpoints, digits=0),
            size(row.new_bytes),
            size(row.parameters_bytes),
            ""
            if row.done_epochs is None
            else f"{row.done_epochs} / {max(0, row.back_epochs or 0)}",
            _number(row.age_s, digits=1),
            row.trouble or ("yes" if row.usable else ""),
        ]
        for row in rows
    ]
    return _markdown(body, headers)


def _ratios(ratios: Sequence[float]) -> str:
    if not ratios:
        return ""
    each = ", ".join(f"{ratio:.1%}" for ratio in ratios)
    return f"{statistics.median(ratios):.1%} ({each})"


def loops(rows: Sequence[Looped]) -> str:
    """W7."""
    headers = [
        *("peer", "pairs", "stock cell, ms", "time of the cell / stock: median (min to max)"),
        *("time of the code itself / stock: median (min to max)", ""),
    ]
    body = [
        [
            row.peer,
            str(len(row.cell_ratios)),
            _number(row.stock_s, 1e3, 1),
            _spread(row.cell_ratios),
            _spread(row.inside_ratios),
            row.trouble or "",
        ]
        for row in rows
    ]
    return _markdown(body, headers)


def _spread(ratios: Sequence[float]) -> str:
    if not ratios:
        return ""
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


def worst_cells(rows: Sequence[Worst]) -> str:
    """The worst cell in each state, with its cause."""
    headers = [
        *("workload", "kernel", "state", "added, typing: median / p99 / max, ms"),
        *("added, run all: median / p99 / max, ms", "longest pause by its own clock, ms"),
        "the worst cell",
    ]
    body = []
    for row in rows:
        pairs = (*row.typing, *row.run_all)
        slowest = max(pairs, key=lambda pair: pair.added_s)
        own = row.engine.pauses_s if row.engine else ()
        body.append(
            [
                row.workload,
                row.peer,
                row.state,
                added_ms(row.typing),
                added_ms(row.run_all),
                f"{max(own) * 1e3:.1f}" if own else "",
                causes(slowest, row.collections),
            ]
        )
    return _markdown(body, headers)


def growth(rows: Sequence[Measured]) -> str:
    """The same cell with more and more that does not change."""
    headers = [
        *("namespace", "kernel", "added, typing: median / p99 / max, ms"),
        *("added, run all: median / p99 / max, ms", "own pause: median, ms"),
        *("processor per cell, ms", "new per cell", "extra memory", "restore, s", "back"),
    ]
    body = []
    for row in rows:
        own = row.typing_engine.pauses_s if row.typing_engine else ()
        body.append(
            [
                row.workload,
                row.peer,
                added_ms(row.typing),
                added_ms(row.run_all),
                f"{statistics.median(own) * 1e3:.1f}" if own else "",
                _number(row.processor_s, 1e3, 1),
                size(row.new_bytes),
                size(row.extra_bytes),
                _number(row.restore_s),
                "; ".join(text for text in (row.back, row.trouble) if text),
            ]
        )
    return _markdown(body, headers)
