"""What the user is told: after a restore, after a clean start, about a status.

Pure text, for any frontend: functions from records to lines. Printing is `kernel`'s.
"""

from __future__ import annotations

import json
import re
import textwrap
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from . import death_text, left_behind
from .checkpoint import Settled
from .contract import DEATHS
from .manifest import Manifest, Skipped
from .missing import listed, not_back
from .session import NotRestored, RestoreReport, Session
from .verification import Damage
from .words import age, size

_WIDTH = 88
_SIGN = "checkpoint-kernel"
# To be copied: never broken.
_COMMAND = re.compile(r"%checkpoint (?:rebuild \S+|[a-z]+( \d{8}-[\w-]+)?)")


def clock(moment: float) -> str:
    """Local time of day."""
    return f"{datetime.fromtimestamp(moment):%H:%M:%S}"


def boxed(lines: Sequence[str]) -> str:
    """Lines between two rules, so that they stand apart from the cell's output.

    One line needs no frame. Long ones are wrapped here: JupyterLab would break words.
    """
    if len(lines) == 1:
        return f"[{_SIGN}] {lines[0]}"
    rule = "─" * (_WIDTH - len(_SIGN) - 4)
    wrapped = [part for line in lines for part in _wrapped(line)]
    return "\n".join([f"── {_SIGN} {rule}", *wrapped, "─" * _WIDTH])


def _wrapped(line: str) -> list[str]:
    kept = _COMMAND.sub(lambda match: match[0].replace(" ", "\0"), line)
    indent = " " * (len(line) - len(line.lstrip()))
    parts = textwrap.wrap(
        kept, _WIDTH, initial_indent="", subsequent_indent=indent + "  ",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    return [part.replace("\0", " ") for part in parts] or [""]


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
    lines += _interactive(report.interactive)
    lines += _missed_cells(checkpoint, death)
    lines += not_back(report.not_restored)
    lines += partly_back(report.partly)
    lines += _later(report, checkpoint)
    lines += _different(report)
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


def _interactive(words: Sequence[str]) -> list[str]:
    """What is around the variables."""
    return [f"  interactive state: {', '.join(words)}"] if words else []


def partly_back(parts: Sequence[NotRestored | Skipped], back: str = "back") -> list[str]:
    """One line for each kind of part that is missing inside of variables."""
    groups: dict[tuple[str, str, str | None], list[str]] = {}
    for entry in parts:
        groups.setdefault((entry.type, entry.reason, entry.remedy), []).append(entry.name)
    return [
        f"partly {back}: {listed(names)}: {'its' if len(names) == 1 else 'their'} part of type "
        f"{kind} is not {back}: {reason}"
        + (f"; {remedy}" if remedy else "")
        + "; every use of it says so"
        if kind
        else f"saved whole: {listed(names)}: {reason}; {remedy}"
        for (kind, reason, remedy), names in groups.items()
    ]


def _later(report: RestoreReport, checkpoint: Manifest | None) -> list[str]:
    """How to bring back what is in the checkpoint and could not be loaded."""
    names = [] if checkpoint is None else left_behind.names(checkpoint, report)
    if checkpoint is None or not names:
        return []
    return [f"To try again: %checkpoint restore {checkpoint.id} {' '.join(names)}"]


def _different(report: RestoreReport) -> list[str]:
    """What is back, but not as the rest is."""
    lines = []
    if report.older:
        lines.append(
            f"older than the rest: {listed(report.older)}: a call was changing the newest "
            "version when it was saved"
        )
    if report.on_cpu:
        lines.append(f"on the CPU, for want of a device: {'; '.join(report.on_cpu)}")
    if report.other_versions:
        lines.append(f"saved with other versions: {'; '.join(report.other_versions)}")
    return lines


def _missed_cells(checkpoint: Manifest | None, death: dict[str, Any] | None) -> list[str]:
    """Cells that had finished when the kernel died, after the newest checkpoint."""
    if checkpoint is None or death is None or checkpoint.execution_count is None:
        return []
    last = death.get("cell")
    if not isinstance(last, int):
        return []
    first = checkpoint.execution_count + (0 if checkpoint.inside_cell else 1)
    finished = range(first, last if death.get("cell_running") else last + 1)
    if not finished:
        return []
    cells = ", ".join(f"In[{number}]" for number in finished)
    return [f"not in it: {cells}, which finished later: run again what you need of that"]


def damaged(found: Sequence[tuple[Damage, Manifest | None]]) -> list[str]:
    """What the verification found after a restore; each with the checkpoint that has it whole."""
    lines = []
    for damage, whole in found:
        names = listed(damage.names) or "an object without a name"
        lines.append(
            f"{names}: {size(damage.damaged_bytes)} of what was restored is damaged in the store "
            f"({damage.reason}). What was made from it since the restore is wrong too."
        )
        if whole is None:
            lines.append("  No earlier checkpoint holds it whole: make it again.")
        else:
            lines.append(
                f"  Bring it back as of {clock(whole.time)}: %checkpoint restore {whole.id} "
                f"{' '.join(damage.names)}"
            )
    return lines


def after_request(
    report: RestoreReport,
    checkpoint: Manifest,
    needs: Sequence[tuple[str, Sequence[str]]] = (),
    left: Sequence[str] = (),
) -> str:
    """The answer to `%checkpoint restore`. `needs`: functions, and globals that they lack.

    `left`: what nobody has asked for.
    """
    lines = [
        f"restored: {_counted(report.restored)} from checkpoint {checkpoint.id} "
        f"({clock(checkpoint.time)}, {age(time.time() - checkpoint.time)} ago)"
    ]
    if report.restored:
        lines.append(f"  {listed(report.restored)}")
    lines += _interactive(report.interactive)
    lines += not_back(report.not_restored)
    lines += partly_back(report.partly)
    lines += _later(report, checkpoint)
    lines += _different(report)
    if left:
        lines.append(
            f"left in it, because this session's outputs keep their numbers: {listed(left)} - "
            f"%checkpoint restore {checkpoint.id} NAME"
        )
    lines += [f"{name} needs {listed(needed)}, not defined here: %checkpoint restore "
              f"{checkpoint.id} {' '.join(needed)}" for name, needed in needs]  # fmt: skip
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
        frames = [name for unit in newest.units if unit.kind == "locals" for name in unit.names]
        if frames:
            lines.append(f"  saved too: locals of {listed(frames)}")
        lines += _interactive(newest.interactive)
        if newest.pending:
            lines.append(f"  in the next checkpoint: {listed(newest.pending)}")
        lines += [f"  {line}" for line in not_back(newest.skipped, "not saved")]
        lines += [f"  {line}" for line in partly_back(newest.partly, "saved")]
    if running:
        lines.append("A checkpoint is being written right now.")
    elif stale:
        lines.append("What changed since will be in the next checkpoint.")
    if settled.awaited:
        lines.append(f"Checkpoints are taken while you wait: {settled.awaited}.")
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
    for limit in record.limits:
        enforced = "enforced" if limit.enforced else "NOT enforced"
        words = f"{limit.key} {limit.configured:g}: {enforced} ({limit.backend}). {limit.detail}"
        lines.append(words)
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


def why(newest: dict[str, Any], earlier: Iterable[dict[str, Any]] = ()) -> str:
    """The answer to `%checkpoint why`: the newest record, and the last death if that is none.

    `earlier`: the records before it, newest first; read as far as needed.
    """
    lines = death_text.lines(newest)
    if newest.get("survived"):
        died = next((record for record in earlier if not record.get("survived")), None)
        lines += [] if died is None else [death_text.in_one_line(died)]
    return "\n".join(lines)
