"""How the command line shows what it has read: text for people, and values for `--json`. Pure."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from tabulate import tabulate

from checkpoint_kernel.manifest import Manifest
from checkpoint_kernel.missing import listed, not_back
from checkpoint_kernel.words import age, size

from . import listing
from .listing import Shelf
from .repeated import survived

_SOURCE_SHOWN = 50  # characters of a fatal line in the table; --json has all of it


def table(
    rows: Sequence[Sequence[str]],
    headers: Sequence[str],
    widths: Sequence[int | None] | None = None,
) -> str:
    """A plain table. Nothing is taken for a number: IDs look like numbers."""
    return tabulate(rows, headers=headers, disable_numparse=True, maxcolwidths=widths)


def shelf_text(shelf: Shelf) -> str:
    """A notebook and its checkpoints, newest first."""
    running = ", a kernel is running" if shelf.in_use else ""
    deaths = f", deaths: {shelf.deaths}" if shelf.deaths else ""
    lines = [f"{shelf.notebook.title}  ({size(shelf.disk_bytes)} on disk{deaths}{running})"]
    if shelf.checkpoints:
        headers = ["ID", "age", "size", "cell", "variables", "skipped", "why taken"]
        rows = [_row(m) for m in reversed(shelf.checkpoints)]
        lines += [f"  {line}" for line in table(rows, headers).splitlines()]
    else:
        lines.append("  no usable checkpoint")
    return "\n".join([*lines, *(f"  not usable: {why}" for _, why in shelf.unusable)])


def shelf_json(shelf: Shelf) -> dict[str, Any]:
    """The same as values, oldest first."""
    return {
        "notebook": shelf.notebook.path,
        "kernel_id": shelf.notebook.kernel_id,
        "directory": str(shelf.notebook.directory),
        "in_use": shelf.in_use,
        "disk_bytes": shelf.disk_bytes,
        "deaths": shelf.deaths,
        "checkpoints": [listing.summary(m) for m in shelf.checkpoints],
        "unusable": [{"path": str(path), "reason": why} for path, why in shelf.unusable],
    }


def checkpoint_text(shelf: Shelf, m: Manifest) -> str:
    """One checkpoint with every variable, and every name that is not in it, with the reason."""
    rows = [
        [row["name"], row["type"], size(row["size_bytes"]), ", ".join(row["together_with"])]
        for row in listing.variables(m)
    ]
    parts = [
        f"Checkpoint {m.id} of {shelf.notebook.title}\n"
        f"taken {age(_age_s(m))} ago ({_local(m.time)}), {_where(m)}; {size(m.size_bytes)}",
        table(rows, ["variable", "type", "size", "saved together with"])
        if rows
        else "No variables.",
    ]
    if m.skipped:
        parts.append("\n".join(not_back(m.skipped, "not saved")))
    if m.partly:
        partly = [[e.name, e.type, e.reason, e.remedy or ""] for e in m.partly]
        headers = ["variable", "its part of type", "why", "what to do"]
        parts.append(f"Partly saved:\n{table(partly, headers)}")
    if m.pending:
        parts.append(f"Following in the next checkpoint: {listed(m.pending)}")
    if m.interactive:
        parts.append(f"Interactive state: {', '.join(m.interactive)}")
    if frames := _frames(m):
        parts.append(f"Locals of functions that were running: {', '.join(frames)}")
    return "\n\n".join(parts)


def checkpoint_json(shelf: Shelf, m: Manifest) -> dict[str, Any]:
    """The same as values."""
    return {
        **listing.summary(m),
        "notebook": shelf.notebook.path,
        "directory": str(shelf.notebook.directory),
        "python": m.python,
        "line_number": m.line_number,
        "variables": listing.variables(m),
        "skipped": [dataclasses.asdict(entry) for entry in m.skipped],
        "partly": [dataclasses.asdict(entry) for entry in m.partly],
        "pending": list(m.pending),
        "locals": _frames(m),
        "interactive": list(m.interactive),
    }


def deaths_text(records: Sequence[dict[str, Any]]) -> str:
    """All deaths in a table, the newest explained below it."""
    headers = ["time", "cause", "notebook", "cell", "line", "source"]
    last = records[-1]
    lines = [table([_death_row(r) for r in records], headers), ""]
    lines.append(str(last.get("paragraph") or last.get("because") or ""))
    if isinstance(again := last.get("repeated"), dict):
        lines.append(str(again.get("said")))
    if last.get("remedy"):
        lines.append(f"What to do: {last['remedy']}")
    return "\n".join(lines)


def summary_text(summary: dict[str, Any]) -> str:
    """Deaths counted by place, the causes below, and apart what was survived."""
    headers = ["count", "cause", "notebook", "line", "source", "first", "last"]
    parts = []
    if summary["places"]:
        causes = ", ".join(f"{one['cause']} {one['count']}" for one in summary["causes"])
        parts.append(table([_place_row(place) for place in summary["places"]], headers))
        parts.append(f"Deaths: {summary['deaths']} ({causes})")
    if summary["interrupts"]:
        parts.append(
            f"Interrupted near the memory limit, and survived: {summary['survived']}\n"
            + table([_place_row(place) for place in summary["interrupts"]], headers)
        )
    return "\n\n".join(parts)


def findings_text(findings: Sequence[dict[str, Any]]) -> str:
    """What `check` has found."""
    rows = [
        [f["kind"], f["message"], ", ".join(f["checkpoints"]), ", ".join(f["variables"])]
        for f in findings
    ]
    return table(rows, ["kind", "what", "checkpoints", "variables"], [None, 60, 24, 24])


def _row(m: Manifest) -> list[str]:
    cell = f"In[{m.execution_count}]" if m.execution_count is not None else ""
    inside = ", inside" if m.inside_cell else ""
    skipped = str(len(m.skipped)) if m.skipped else ""
    return [
        *(m.id, age(_age_s(m)), size(m.size_bytes), f"{cell}{inside}"),
        *(str(len(m.names)), skipped, m.reason),
    ]


def _where(m: Manifest) -> str:
    if m.execution_count is None:
        return f"before any cell ({m.reason})"
    line = f", line {m.line_number}" if m.line_number is not None else ""
    if m.inside_call:
        return f"inside In[{m.execution_count}]{line}, inside a call ({m.reason})"
    if m.inside_cell:
        return f"inside In[{m.execution_count}]{line} ({m.reason})"
    return f"after In[{m.execution_count}] ({m.reason})"


def _frames(m: Manifest) -> list[str]:
    return [name for unit in m.units if unit.kind == "locals" for name in unit.names]


def _death_row(record: dict[str, Any]) -> list[str]:
    notebook, cell, line = record.get("notebook"), record.get("cell"), record.get("line")
    return [
        _local(datetime.fromisoformat(record["time"]).timestamp()),
        f"{record.get('cause')}{' (survived)' if survived(record) else ''}",
        Path(notebook).name if notebook else "",
        "" if cell is None else f"In[{cell}]",
        "" if line is None else str(line),
        str(record.get("source") or "")[:_SOURCE_SHOWN],
    ]


def _place_row(place: dict[str, Any]) -> list[str]:
    notebook, line = place["notebook"], place["line"]
    return [
        str(place["count"]),
        str(place["cause"]),
        Path(notebook).name if notebook else "",
        "" if line is None else str(line),
        str(place["source"] or "")[:_SOURCE_SHOWN],
        *(_local(datetime.fromisoformat(place[key]).timestamp()) for key in ("first", "last")),
    ]


def _age_s(m: Manifest) -> float:
    return max(0.0, time.time() - m.time)


def _local(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
