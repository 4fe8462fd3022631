"""The targets of the table in the issue on the checkpoint engine, judged by the figures.

A target that could not be measured is not met. Covers our own kernel, default configuration.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cells import Measured
from long_cell import Trained
from loops import Looped
from tables import own_share, size
from tabulate import tabulate

KB, MB = 1e3, 1e6


@dataclass(frozen=True)
class Verdict:
    """One target: what, the bar, what was measured, and whether that is met."""

    workload: str
    what: str
    bar: str
    figure: str
    met: bool


# Added per cell (ms), new bytes per cell (of the yardstick's bytes), restore (s).
_CELLS: dict[str, tuple[float | None, Callable[[float], float] | None, float | None]] = {
    "W1": (3, lambda _: 64 * KB, 0.5),
    "W1b": (5, lambda array: 1.1 * array + 64 * KB, 0.5),
    "W2": (5, lambda _: 2 * MB, 0.5),
    "W3": (15, lambda column: 1.1 * column + 64 * KB, 1.5),
    "W4": (25, lambda pickled: pickled / 4, 2.5),
    "W6": (3, None, None),
    "W6a": (3, None, None),
    "W6b": (3, None, None),
    "W6c": (3, None, None),
    "W8": (None, None, None),
}
_EXTRA_MEMORY = {"W1": 100 * MB, "W2": 100 * MB}
_MAIN_THREAD_SHARE = 0.05
_BACKGROUND_CORES = 0.5


def judge(
    measured: Sequence[Measured], trained: Sequence[Trained], looped: Sequence[Looped]
) -> list[Verdict]:
    """One verdict per target of a workload that was run. Only our own rows."""
    verdicts = [verdict for row in measured for verdict in _cells(row)]
    verdicts += [verdict for row in trained for verdict in _training(row)]
    return verdicts + [verdict for row in looped for verdict in _loop(row)]


def table(verdicts: Sequence[Verdict]) -> str:
    """As Markdown."""
    body = [
        [each.workload, each.what, each.bar, each.figure, "met" if each.met else "**not met**"]
        for each in verdicts
    ]
    headers = ["workload", "what", "target", "measured", ""]
    return tabulate(body, headers, tablefmt="pipe", disable_numparse=True)


def _at_most(
    workload: str, what: str, bar: float, value: float | None, text: Callable[[float], str]
) -> Verdict:
    figure = "not measured" if value is None else text(value)
    return Verdict(workload, what, f"<= {text(bar)}", figure, value is not None and value <= bar)


def _cells(row: Measured) -> list[Verdict]:
    added_ms, new_bytes, restore_s = _CELLS[row.workload]
    found = []
    if added_ms is not None:
        for kind, pairs in (("typing", row.typing), ("run all", row.run_all)):
            value = statistics.median(pair.added_s for pair in pairs) * 1e3 if pairs else None
            what = f"added to a cell, median, {kind}"
            found.append(_at_most(row.workload, what, added_ms, value, lambda v: f"{v:.1f} ms"))
    if new_bytes is not None:
        bar = new_bytes(row.yardstick)
        found.append(_at_most(row.workload, "new bytes per cell", bar, row.new_bytes, size))
    if restore_s is not None:
        found.append(
            _at_most(row.workload, "restore", restore_s, row.restore_s, lambda v: f"{v:.2f} s")
        )
    if row.workload in _EXTRA_MEMORY:
        bar, value = _EXTRA_MEMORY[row.workload], row.extra_bytes
        found.append(_at_most(row.workload, "extra memory at the worst moment", bar, value, size))
    found += _budgets(row)
    figure = "; ".join(text for text in (row.back, row.trouble) if text)
    found.append(
        Verdict(row.workload, "back", "all values", figure or "not measured", row.all_back)
    )
    if row.workload.startswith("W6"):
        told = row.untold is not None and not row.untold
        figure = "all" if told else f"not {', '.join(row.untold or ['measured'])}"
        found.append(Verdict(row.workload, "the others named", "all", figure, told))
    return found


def _budgets(row: Measured) -> list[Verdict]:
    """Of the main thread and of the background, while typing: averages over that time."""
    found = []
    if len(row.typing) > 1 and row.typing_engine is not None:
        share = own_share(row.typing, sum(row.typing_engine.pauses_s))
        what = "pauses, share of wall time, typing"
        found.append(_at_most(row.workload, what, _MAIN_THREAD_SHARE, share, lambda v: f"{v:.1%}"))
    if row.processor_s is not None and row.typing_wall_s > 0:
        cores = row.processor_s * len(row.typing) / row.typing_wall_s
        what = "background, cores, typing"
        found.append(_at_most(row.workload, what, _BACKGROUND_CORES, cores, lambda v: f"{v:.2f}"))
    return found


def _training(row: Trained) -> list[Verdict]:
    throughput = statistics.median(row.ratios) if row.ratios else None
    oldest_s = (row.interval_s or 30.0) + 1.0
    return [
        Verdict(
            row.workload,
            f"throughput of the cell, checkpoints every {row.interval_s:g} s",
            ">= 98 % of stock",
            "not measured" if throughput is None else f"{throughput:.1%}",
            throughput is not None and throughput >= 0.98,
        ),
        _at_most(
            row.workload,
            "new bytes per checkpoint (about the parameters)",
            2 * (row.parameters_bytes or 0) + 64 * KB,
            row.new_bytes,
            size,
        ),
        _at_most(
            row.workload,
            "age of the state at death (interval + 1 s)",
            oldest_s,
            row.age_s,
            lambda v: f"{v:.1f} s",
        ),
        Verdict(row.workload, "back", "usable", row.trouble or str(row.usable).lower(), row.usable),
    ]


def _loop(row: Looped) -> list[Verdict]:
    def more(ratios: Sequence[float]) -> float | None:
        return statistics.median(ratios) - 1 if ratios else None

    return [
        _at_most("W7", what, 0.02, more(ratios), lambda v: f"{v:+.1%}")
        for what, ratios in (
            ("time of the cell beyond stock, median of the pairs", row.cell_ratios),
            ("time of the code itself beyond stock", row.inside_ratios),
        )
    ]
