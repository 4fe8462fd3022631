"""Loads units in a forked process first, to find out which of them end or hang whoever loads them.

After a death while restoring, so that one start finds all of them; and before the kernel loads
what is in quarantine, on the user's wish. The child loads one unit after the other and says which;
where it dies, that unit is found, and another child goes on behind it. Nothing of what it loads is
kept. What is done with the findings is `restore`'s.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Final

from . import load_limit, snapshot
from .held_signals import held_back
from .manifest import Unit

# Units of nothing else cannot do anything when they are loaded, or as good as nothing.
_HARMLESS: Final = frozenset(
    {"int", "float", "complex", "bool", "str", "bytes", "NoneType", "range", "numpy.ndarray",
     "numpy.float64", "numpy.int64", "datetime.datetime"}
)  # fmt: skip
# Together they may take so long: what has not been tried by then is loaded untried.
LIMIT_S: Final = 40.0
_BIRTHS: Final = 3
# Somebody who has asked for it by name waits so many times longer, and can interrupt it.
_PATIENT: Final = 10.0

# Called in the forked process: see `find`.
Load = Callable[[Unit], None]
Loader = Callable[[AbstractSet[str], Callable[[Unit], None]], Load]


@dataclass(frozen=True)
class Finding:
    """A unit that ended, or hung, the process that loaded it."""

    unit: Unit
    did: str  # a clause: "ended a process that tried it (SIGSEGV)"
    proved: bool  # False: SIGKILL, which may have meant the memory
    hung: bool = False


def is_suspect(unit: Unit) -> bool:
    """Whether loading it may run code of somebody's."""
    if unit.kind in ("locals", "session", "state", "function"):
        return False
    return unit.kind != "data" or not set(unit.types.values()) <= _HARMLESS


def possible() -> bool:
    """Whether a process can be forked here."""
    return snapshot.available() is None


def find(
    units: Sequence[Unit],
    known: Mapping[str, Unit],
    loader: Loader,
    left_out: AbstractSet[str] = frozenset(),
    *,
    patient: bool = False,
) -> list[Finding]:
    """Which units must not be loaded: some of `units`, or of those that these need.

    `known`: all units by id. `left_out`: ids of those that are not loaded in any case.
    `loader(leave_out, about_to_load)` is called in the child, and gives a function that loads one
    unit with what it needs, and never raises; `about_to_load` is to be told of each.
    `patient`: somebody waits for these units, and has Ctrl-C, which ends it.
    In the main thread. OSError if it cannot fork.
    """
    factor = _PATIENT if patient else 1.0
    waiting = {unit.id: unit for unit in units}
    found: dict[str, Finding] = {}
    deadline = time.monotonic() + LIMIT_S
    births = 0
    while waiting and time.monotonic() < deadline:
        hung = sum(one.hung for one in found.values())
        run = _try(list(waiting.values()), left_out | set(found), loader, hung, factor)
        for done in run.done:
            waiting.pop(done, None)
        if run.finished:
            break
        culprit = known.get(run.unit)
        if culprit is None:  # it inherited a held lock, or is no use for another reason
            births += 1
            if births >= _BIRTHS:
                break
        elif culprit.id in found:
            break  # it was left out, and is not to blame
        else:
            waiting.pop(culprit.id, None)
            found[culprit.id] = Finding(culprit, run.did, run.proved, run.hung)
    return list(found.values())


@dataclass
class _Run:
    """What one child has said, and how it ended."""

    done: list[str] = field(default_factory=list)
    unit: str = ""  # the one that it was about to load
    within_s: float = 0.0
    finished: bool = False
    did: str = ""
    proved: bool = True
    hung: bool = False

    def take_in(self, reports: Iterable[dict[str, Any]]) -> bool:
        """Whether there was anything."""
        said = False
        for report in reports:
            said = True
            self.unit = report.get("unit", self.unit)
            self.within_s = report.get("within_s", self.within_s)
            self.finished = report.get("finished", self.finished)
            if "done" in report:
                self.done.append(report["done"])
        return said

    def ended(self, how: snapshot.Exit, late: bool) -> None:
        """The child is gone."""
        self.hung = late or how.timed_out
        self.proved = self.hung or not how.killed
        self.did = f"ended a process that tried it ({how.text})"
        if self.hung:
            self.did = f"took longer than {self.within_s:.0f} s"


def _try(
    units: Sequence[Unit], bad: AbstractSet[str], loader: Loader, hung: int, factor: float
) -> _Run:
    def work(report: snapshot.Report) -> None:
        def about_to_load(unit: Unit) -> None:
            least_s = load_limit.IMPORT_S / 2 if unit.kind == "module" else 0.0
            most_s = factor * max(load_limit.patience_s(unit.size_bytes, hung), least_s)
            report(unit=unit.id, within_s=most_s)
            snapshot.limit(most_s)

        load = loader(bad, about_to_load)
        for unit in units:
            load(unit)
            report(done=unit.id)
        report(finished=True)

    with held_back():
        child = snapshot.fork(work)
    run, late = _Run(), False
    silent_until = time.monotonic() + snapshot.BIRTH_LIMIT_S
    try:
        while (ended := snapshot.reap(child)) is None:
            if run.take_in(snapshot.read_status(child, wait_s=0.02)):
                silent_until = time.monotonic() + run.within_s + load_limit.GRACE_S
            if late := time.monotonic() > silent_until:
                snapshot.kill(child)
                ended = snapshot.reap(child, block=True)
                break
        assert ended is not None
        run.take_in(snapshot.read_status(child))
        run.ended(ended, late)
    except BaseException:  # the user's Ctrl-C
        snapshot.kill(child)
        snapshot.reap(child, block=True)
        raise
    finally:
        snapshot.close(child)
    return run
