"""Memory over time, cells marked: as text, or as a figure where there is matplotlib.

Pure but for matplotlib, which is imported for the figure. pyplot, whose state is the user's,
is not touched.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from .memory_use import CellUse, Sample
from .session import Cap
from .words import size

_EIGHTHS: Final = " ▁▂▃▄▅▆▇█"
_LABEL: Final = 9  # columns for the figures on the left
WIDTH: Final = 78  # columns of the plot itself
HEIGHT: Final = 12
_NAMES: Final = 30  # of cells, above a figure


def as_text(samples: Sequence[Sample], cells: Sequence[CellUse], cap: Cap | None) -> str:
    """88 columns; below the plot each cell where it began, as far as there is room."""
    if not samples:
        return "Nothing has been sampled yet."
    begin, end = samples[0].time, max(samples[-1].time, samples[0].time + 1)
    columns = _columns(samples, begin, end)
    top = max([*columns, 1, *([] if cap is None else [cap.cap_bytes])])
    soft_row = None
    if cap is not None and cap.guarded:
        soft_row = min(int(cap.soft_bytes / top * HEIGHT), HEIGHT - 1)
    lines = []
    for row in reversed(range(HEIGHT)):
        line = "".join(_block(used / top * HEIGHT - row) for used in columns)
        label = size(top * (row + 1) / HEIGHT) if row % 4 == 3 else ""
        if row == soft_row:
            line, label = line.replace(" ", "-"), "soft"
        lines.append(f"{label:>{_LABEL}}┤{line}".rstrip())
    marks, names = _marks(cells, begin, end)
    lines.append(f"{'':>{_LABEL}}└{marks}")
    lines.append(f"{'':>{_LABEL}} {names}".rstrip())
    began, ended = (f"{datetime.fromtimestamp(at):%H:%M:%S}" for at in (begin, end))
    lines.append(f"{'':>{_LABEL}} {began}{ended:>{WIDTH - len(began)}}")
    return "\n".join(lines)


def _columns(samples: Sequence[Sample], begin: float, end: float) -> list[int]:
    """The most that was used in each column's time; where nothing was sampled, as before."""
    times = [sample.time for sample in samples]
    columns = []
    for column in range(WIDTH):
        first, after = (
            bisect_right(times, begin + (end - begin) * place / WIDTH)
            for place in (column, column + 1)
        )
        inside = samples[max(first - 1, 0) : max(after, 1)]
        columns.append(max(sample.used_bytes for sample in inside))
    return columns


def _block(filled: float) -> str:
    return _EIGHTHS[int(max(0.0, min(filled, 1.0)) * 8)]


def _marks(cells: Sequence[CellUse], begin: float, end: float) -> tuple[str, str]:
    """The axis with a tick for each cell, and the names that fit below."""
    axis, names = ["─"] * WIDTH, ""
    for cell in cells:
        column = int((cell.began - begin) / (end - begin) * WIDTH)
        if not 0 <= column < WIDTH:
            continue
        axis[column] = "┬"
        name = f"In[{cell.number}]"
        if len(names) <= column <= WIDTH - len(name):
            names = f"{names:<{column}}{name} "
    return "".join(axis), names


def as_png(samples: Sequence[Sample], cells: Sequence[CellUse], cap: Cap | None) -> bytes:
    """The same as a picture. Raises ImportError without matplotlib."""
    stream = io.BytesIO()
    figure(samples, cells, cap).savefig(stream, format="png", dpi=100)
    return stream.getvalue()


def figure(samples: Sequence[Sample], cells: Sequence[CellUse], cap: Cap | None) -> Any:
    """A matplotlib Figure; lines for cap and soft limit, a span for each cell."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure

    made = Figure(figsize=(9, 3.2), layout="constrained")
    axes: Any = made.add_subplot()
    times = [datetime.fromtimestamp(sample.time) for sample in samples]
    used_mb = [sample.used_bytes / (1 << 20) for sample in samples]
    axes.fill_between(times, used_mb, step="post", alpha=0.4)
    axes.plot(times, used_mb, drawstyle="steps-post", linewidth=1)
    if cap is not None:
        axes.axhline(cap.cap_bytes / (1 << 20), color="firebrick", label=f"limit {cap.configured}")
        if cap.guarded:
            soft = f"soft limit {size(cap.soft_bytes)}"
            axes.axhline(cap.soft_bytes / (1 << 20), color="darkorange", ls="--", label=soft)
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")
    _mark_cells(axes, samples, cells)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("MB")
    locator = AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    return made


def _mark_cells(axes: Any, samples: Sequence[Sample], cells: Sequence[CellUse]) -> None:
    """A span for each cell, and its name where the last one leaves room."""
    if not samples:
        return
    room_s = (samples[-1].time - samples[0].time) / _NAMES
    free_from = samples[0].time
    for position, cell in enumerate(cell for cell in cells if cell.began >= samples[0].time):
        began = datetime.fromtimestamp(cell.began)
        ended = datetime.fromtimestamp(cell.ended or samples[-1].time)
        axes.axvspan(began, ended, alpha=0.12, color=("gray", "teal")[position % 2])
        if cell.began >= free_from:
            free_from = cell.began + room_s
            axes.annotate(
                f"In[{cell.number}]", (began, 1), xycoords=("data", "axes fraction"),
                va="bottom", rotation=45, fontsize="x-small",
            )  # fmt: skip
