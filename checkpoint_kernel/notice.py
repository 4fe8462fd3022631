"""What the user is told: after a restore, after a clean start, about a status.

Pure text, for any frontend: functions from records to lines. Printing is `kernel`'s.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from .checkpoint import Settled
from .contract import DEATHS
from .manifest import Manifest
from .session import NotRestored, RestoreReport, Session

_WIDTH = 88
_SIGN = "checkpoint-kernel"


def size(count: float) -> str:
    """Bytes as people read them: `3.4 MB` (powers of 1024, as everywhere here)."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if count < 1024 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def age(seconds: float) -> str:
    """A duration as people say it: `0.8 s`, `4 min`, `3 h`, `2 days`."""
    seconds = max(seconds, 0.0)
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 172800:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} days"


def clock(moment: float) -> str:
    """Local time of day."""
    return f"{datetime.fromtimestamp(moment):%H:%M:%S}"


def listed(names: Iterable[str]) -> str:
    """All names; never "and 5 more"."""
    return ", ".join(names)


def boxed(lines: Sequence[str]) -> str:
    """Lines between two rules, so that they stand apart from the cell's output.

    One line needs no frame. Frontends wrap long lines, each to its own width.
    """
    if len(lines) == 1:
        return f"[{_SIGN}] {lines[0]}"
    rule = "─" * (_WIDTH - len(_SIGN) - 4)
    return "\n".join([f"── {_SIGN} {rule}", *lines, "─" * _WIDTH])


def at_start(
    record: Session,
    report: RestoreReport | None,
    checkpoint: Manifest | None,
    death: dict[str, Any] | None,
) -> list[str]:
    """What the first cell of a session is preceded by; no lines where there is nothing to say.

    `checkpoint` is the one restored, or the one offered after a clean start.
    """
    plan = record.plan
    lines: list[str] = []
    if plan.kind == "restore" and report is not None:
        lines.append(death["paragraph"] if death and death.get("paragraph") else plan.because)
        if death and plan.because not in lines and plan.step:
            lines.append(plan.because)
        lines += list(plan.warnings)
        lines += _restored(plan.before_cell, report, checkpoint, death)
        if death and death.get("remedy"):
            lines.append(f"What to do: {death['remedy']}")
        lines.append("More: %checkpoint why, %checkpoint")
    elif plan.checkpoint is not None and (checkpoint is None or checkpoint.names):
        lines += [f"{plan.because} {_offer(checkpoint)}", *plan.warnings]
    elif plan.warnings or plan.death:
        lines += [plan.because, *plan.warnings]
    lines += list(record.warnings)
    return lines


def _offer(checkpoint: Manifest | None) -> str:
    if checkpoint is None:
        return "Bring the variables back with: %checkpoint restore"
    return (
        f"Bring {_counted(checkpoint.names)} as of {clock(checkpoint.time)} back with: "
        "%checkpoint restore"
    )


def _restored(
    before_cell: str | None,
    report: RestoreReport,
    checkpoint: Manifest | None,
    death: dict[str, Any] | None,
) -> list[str]:
    if report.state != "done":
        return [
            f"Nothing could be restored from checkpoint {report.checkpoint}: {report.error}",
            "Other checkpoints: %checkpoint list",
        ]
    lines = [f"restored: {_counted(report.restored)}{_as_of(checkpoint, death)}"]
    if report.restored:
        lines.append(f"  {listed(report.restored)}")
    lines += not_back(report.not_restored)
    if report.older:
        lines.append(
            f"an earlier version, because a call was changing the newest: {listed(report.older)}"
        )
    if before_cell is not None:
        lines.append(f"The state from before that cell: %checkpoint restore {before_cell}")
    if checkpoint and any(unit.kind == "locals" for unit in checkpoint.units):
        lines.append("Locals of the functions that were running: %checkpoint locals")
    return lines


def _counted(names: Sequence[str]) -> str:
    """`12 variables and 1 output`."""
    outputs = sum(name.startswith("Out[") for name in names)
    counts = [(len(names) - outputs, "variable"), (outputs, "output")]
    parts = [f"{n} {noun}" if n == 1 else f"{n} {noun}s" for n, noun in counts if n]
    return " and ".join(parts) or "0 variables"


def _as_of(checkpoint: Manifest | None, death: dict[str, Any] | None) -> str:
    if checkpoint is None:
        return ""
    before = ""
    if death and death.get("time"):
        died = datetime.fromisoformat(death["time"]).timestamp()
        before = f" as of {age(died - checkpoint.time)} before the death"
    else:
        before = f" as of {clock(checkpoint.time)}"
    if checkpoint.inside_cell:
        where = f"In[{checkpoint.execution_count}]"
        if checkpoint.line_number is not None:
            where += f" at line {checkpoint.line_number}"
        before += f", inside {where}, which did not finish"
    return before


def not_back(missing: Sequence[NotRestored]) -> list[str]:
    """One line for each variable that is not back."""
    lines = []
    for entry in missing:
        remedy = f"; {entry.remedy}" if entry.remedy else ""
        lines.append(f"not back: {entry.name} ({entry.type}): {entry.reason}{remedy}")
    return lines


def after_request(report: RestoreReport, checkpoint: Manifest) -> str:
    """The answer to `%checkpoint restore`."""
    lines = [
        f"restored: {_counted(report.restored)} from checkpoint {checkpoint.id} "
        f"({clock(checkpoint.time)}, {age(time.time() - checkpoint.time)} ago)"
    ]
    if report.restored:
        lines.append(f"  {listed(report.restored)}")
    lines += not_back(report.not_restored)
    lines += [f"an earlier version, because a call was changing the newest: {v}"
              for v in report.older]  # fmt: skip
    return "\n".join(lines)


def status(settled: Settled, running: bool, stale: bool, off: str | None, record: Session) -> str:
    """The answer to `%checkpoint`."""
    lines = []
    newest = settled.newest
    if off is not None:
        lines.append(f"Checkpointing is off: {off}")
    if newest is None:
        lines.append("No checkpoint in this session yet.")
    else:
        lines.append(
            f"Checkpoint {newest.id}, {age(time.time() - newest.time)} ago: "
            f"{_counted(newest.names)}, {size(newest.size_bytes)}"
            + (f", taken inside In[{newest.execution_count}]" if newest.inside_cell else "")
        )
        if newest.names:
            lines.append(f"  saved: {listed(newest.names)}")
        lines += [
            f"  not saved: {s.name} ({s.type}): {s.reason}" + (f"; {s.remedy}" if s.remedy else "")
            for s in newest.skipped
        ]
    if running:
        lines.append("A checkpoint is being written right now.")
    elif stale:
        lines.append("What changed since will be in the next checkpoint.")
    if settled.trouble:
        lines.append(f"The last attempt failed: {settled.trouble}")
    if settled.pauses_s:
        pauses = sorted(settled.pauses_s)
        written = settled.new_bytes or 0
        took = f", written in {settled.write_s:.1f} s" if settled.write_s is not None else ""
        lines.append(
            f"Cost: you waited {pauses[len(pauses) // 2] * 1000:.1f} ms (median), "
            f"{pauses[-1] * 1000:.1f} ms (worst) in {len(pauses)} checkpoints; the newest added "
            f"{size(written)} on disk{took}."
        )
    if record.cap is not None:
        cap = record.cap
        enforced = "enforced" if cap.enforced else "NOT enforced"
        lines.append(f"Memory limit {cap.configured}: {enforced} ({cap.backend}). {cap.detail}")
    lines += list(record.warnings)
    return "\n".join(lines)


def checkpoints(manifests: Sequence[Manifest], current_line: str) -> str:
    """The answer to `%checkpoint list`, newest first."""
    from tabulate import tabulate

    rows = [
        (
            m.id,
            f"{datetime.fromtimestamp(m.time):%Y-%m-%d %H:%M:%S}",
            f"In[{m.execution_count}]" + (" (inside)" if m.inside_cell else ""),
            len(m.names),
            len(m.skipped),
            size(m.size_bytes),
            "this" if m.line == current_line else "before",
        )
        for m in reversed(manifests)
    ]
    if not rows:
        return "There are no checkpoints of this notebook yet."
    headers = ("checkpoint", "time", "cell", "variables", "not saved", "size", "session")
    return tabulate(rows, headers=headers)


def read_death(notebook_directory: Path, name: str | None) -> dict[str, Any] | None:
    """A death record by its file name; None where there is none that can be read."""
    if name is None:
        return None
    try:
        record: dict[str, Any] = json.loads((notebook_directory / DEATHS / name).read_bytes())
    except (OSError, ValueError):  # the notice does without: `plan.because` says the essential
        return None
    return record


def why(death: dict[str, Any]) -> str:
    """The answer to `%checkpoint why`."""
    lines = [str(death.get("paragraph") or death.get("because"))]
    lines.append(f"Cause: {death.get('cause')} ({death.get('confidence', '?')})")
    lines.append(f"Because: {death.get('because')}")
    if death.get("source"):
        lines.append(f"In[{death.get('cell')}], line {death.get('line')}: {death['source']}")
    if death.get("remedy"):
        lines.append(f"What to do: {death['remedy']}")
    if death.get("stack"):
        lines.append(f"Stack of the main thread and others:\n{death['stack']}")
    if death.get("stderr_tail"):
        lines.append(f"Last words on stderr:\n{death['stderr_tail']}")
    return "\n".join(lines)
