"""One death of the matrix: how it is brought about, what must be said of it, and what was said."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from victim import Victim

Record = dict[str, Any]


def anywhere() -> str | None:
    """Why a death cannot be produced here: it can."""
    return None


@dataclass(frozen=True)
class Case:
    """A row. Exactly one of `cell`, `outside` and `scene` kills; `ready=False`: the start does."""

    name: str
    dies: str  # in words, for docs/deaths.md
    cause: str
    because: tuple[str, ...]  # words that the reason must hold
    confidence: str = "proof"
    siginfo: tuple[str, ...] = ()  # more words, where fatal signals have a witness (x86-64)
    status: int | None = None  # what the frontend is told; None: not looked at
    cell: str | None = None
    outside: Callable[[Victim], None] | None = None
    scene: Callable[[Victim], Record] | None = None  # does everything, and returns the record
    first: tuple[str, ...] = ()  # cells that run before it, and end well
    line: int | None = None  # of the last cell; None: not looked at
    given: Callable[[Path], dict[str, Any]] = field(default=lambda _: {})  # for Victim
    needs: Callable[[], str | None] = anywhere


@dataclass(frozen=True)
class Outcome:
    """What came of a case."""

    case: Case
    record: Record
    status: int | None
    seconds: float


def die(case: Case, root: Path) -> Outcome:
    """Bring it about in directories below `root`."""
    began = time.monotonic()
    ready = case.cause != "start-failed"
    victim = Victim(
        root,
        name=re.sub(r"\W+", "-", case.name),
        started=case.scene is None,
        ready=ready,
        **case.given(root),
    )
    try:
        if case.scene is not None:
            record, status = case.scene(victim), None
        else:
            for cell in case.first:
                reply = victim.run(cell)
                assert reply["content"]["status"] == "ok", reply["content"]
            if case.cell is not None:
                victim.begin(case.cell)
            if case.outside is not None:
                case.outside(victim)
            status = victim.wait_for_death(60)
            record = victim.death()
        return Outcome(case, record, status, time.monotonic() - began)
    finally:
        victim.close()


def table(outcomes: Sequence[Outcome], skipped: Sequence[tuple[Case, str]]) -> str:
    """docs/deaths.md's rows, in the order of the cases."""
    lines = ["| it dies by | verdict | sure | evidence | cell, line |", "|---|---|---|---|---|"]
    for one in outcomes:
        record = one.record
        place = "" if record["cell"] is None else f"In[{record['cell']}]"
        if record["line"] is not None:
            place += f", {record['line']}"
        because = re.sub(r"/\S*/(?=[\w.-]+)", "…/", record["because"]).replace("|", "\\|")
        lines.append(
            f"| {one.case.dies} | `{record['cause']}` | {record['confidence']} | {because} "
            f"| {place} |"
        )
    lines += [f"| {case.dies} | `{case.cause}` | not run | {why} | |" for case, why in skipped]
    return "\n".join(lines) + "\n"
