"""Words for a death: the record as JSON, and one paragraph for the user. Pure.

The remedy is `remedies`'s, known texts are `explain`'s, what repeats is `repeated`'s.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from checkpoint_kernel.session import Cap, Event
from checkpoint_kernel.words import age, size

from . import curve, enforcement, exit_codes, explain, remedies, repeated, stack_dump
from .clues import c_stack, current_stack, stacks
from .evidence import WHEN_NOT_ANSWERING, Evidence
from .verdict import Verdict, cell_running, signal_name

SCHEMA = 2  # of docs/death-record.schema.json; 1 lacked what `build` says about surroundings
RECORD_STDERR = 4000  # characters of stderr kept in the record; stderr.txt has more
RECORD_FAULTS = 12_000
RECORD_STACKS = 24_000
RECORD_EVENTS = 50  # the last ones; events.jsonl of the session has all


@dataclass(frozen=True)
class Place:
    """Where in the user's code it happened, as far as known."""

    cell: int | None
    line: int | None  # in the cell, from 1
    source: str | None  # that line
    running: bool


def where(evidence: Evidence) -> Place:
    """The cell and line. faulthandler's frames are exact; the sampled line is the next best."""
    flight = evidence.flight
    if flight is None:
        return Place(None, None, None, running=False)
    running = cell_running(evidence)
    line = None
    if running:
        known = [frame for text in (evidence.faults, evidence.stacks) for frame in
                 (*current_stack(text), *stacks(text))]  # fmt: skip
        frames = [frame for frame in known if frame[0] == flight.cell_file]
        line = frames[0][1] if frames else flight.line
    lines = flight.cell_source.splitlines()
    source = lines[line - 1].strip() if line is not None and 0 < line <= len(lines) else None
    return Place(flight.execution_count, line, source, running)


def build(
    evidence: Evidence, verdict: Verdict, earlier: Sequence[repeated.Record] = ()
) -> dict[str, Any]:
    """The record of one death, as it is written and as `deaths --json` prints it.

    `earlier`: the records of the same notebook, oldest first. Every key is described in
    docs/death-record.schema.json.
    """
    started, ended, flight = evidence.session, evidence.exit, evidence.flight
    place = where(evidence)
    number = ended.signal if ended else None
    code = exit_codes.container_code(ended)
    known = explain.explain(evidence.stderr_tail)
    record = {
        "schema_version": SCHEMA,
        "time": datetime.fromtimestamp(evidence.time, UTC).isoformat(timespec="milliseconds"),
        "cause": verdict.cause,
        "because": verdict.because,
        "confidence": verdict.confidence,
        "survived": verdict.cause == repeated.INTERRUPT,
        "notebook": started.notebook,
        "kernel_id": started.kernel_id,
        "session": started.id,
        "uptime_s": round(evidence.uptime_s, 1),
        "signal": None if number is None else signal_name(number),
        "exit_code": ended.code if ended else None,
        "container_code": code,
        "container_code_meaning": exit_codes.meaning(code),
        "cell": place.cell,
        "line": place.line,
        "source": place.source,
        "cell_source": flight.cell_source if flight and flight.cell_source else None,
        "cell_running": place.running,
        "cell_age_s": _cell_age_s(evidence, place),
        "paragraph": paragraph(evidence, verdict),
        "remedy": remedies.remedy(remedies.Case(evidence, verdict, place.source or "", known)),
        "checkpoint": _checkpoint(evidence),
        "restored_from": started.plan.checkpoint if started.plan.kind == "restore" else None,
        # A kernel that had to be killed wrote no trace itself: what it stood in before is here.
        "stack": evidence.faults[-RECORD_FAULTS:]
        or stack_dump.telling(evidence.stacks)[:RECORD_FAULTS]
        or None,
        "stacks": evidence.stacks[:RECORD_STACKS] or None,
        "native_stack": (evidence.native_stack or c_stack(evidence.faults) or "")[:RECORD_STACKS]
        or None,
        "stderr_tail": evidence.stderr_tail[-RECORD_STDERR:] or None,
        "explained": [{"text": one.text, "meaning": one.meaning} for one in known],
        "cap": dataclasses.asdict(started.cap) if started.cap else None,
        "enforcement": {
            "level": enforcement.level(started.cap),
            "said": enforcement.sentence(started.cap),
        },
        "memory": dataclasses.asdict(evidence.memory),
        "memory_curve": [list(point) for point in curve.thinned(evidence.curve, evidence.time)],
        "events": [_told(event) for event in evidence.events[-RECORD_EVENTS:]],
        **_around(evidence),
        "environment_changes": evidence.environment_changes,
        "evidence": _observed(evidence),
    }
    record["repeated"] = repeated.repeated(record, earlier)
    return record


def _told(event: Event) -> dict[str, Any]:
    """An event without the source of its cell: a session may have many, and cells are long."""
    told = dataclasses.asdict(event)
    told["extra"].pop("cell_source", None)
    return told


def _checkpoint(evidence: Evidence) -> dict[str, Any] | None:
    flight = evidence.flight
    if flight is None or not flight.checkpoint:
        return None
    age_s = evidence.time - flight.checkpoint_time if flight.checkpoint_time else None
    return {"id": flight.checkpoint, "age_s": None if age_s is None else round(age_s, 1)}


def _cell_age_s(evidence: Evidence, place: Place) -> float | None:
    """How long the fatal cell had run."""
    flight = evidence.flight
    if not place.running or flight is None or flight.cell_started is None:
        return None
    return round(max(evidence.time - flight.cell_started, 0.0), 1)


def _around(evidence: Evidence) -> dict[str, Any]:
    """The machine around the death; null where nobody looked, or there is no such thing."""
    around = evidence.surroundings
    if around is None:
        return {"in_container": None, "shared_memory": None, "processor": None, "gpu": None}
    processor = around.processor
    return {
        "in_container": around.in_container,
        "shared_memory": dataclasses.asdict(around.shared_memory) if around.shared_memory else None,
        "processor": {
            "model": processor.model,
            "missing_flags": list(remedies.missing_flags(processor.flags)),
        }
        if processor
        else None,
        "gpu": dataclasses.asdict(around.gpus) if around.gpus else None,
    }


# These have keys of their own in the record.
_TOLD_ELSEWHERE = (
    "session", "faults", "stderr_tail", "memory", "events", "curve", "stacks", "native_stack",
    "environment_changes", "surroundings",
)  # fmt: skip


def _observed(evidence: Evidence) -> dict[str, Any]:
    """Everything else that was observed, so that the verdict can be checked."""
    raw = dataclasses.asdict(evidence)
    for key in _TOLD_ELSEWHERE:
        del raw[key]
    if raw["flight"]:
        del raw["flight"]["cell_source"]
    raw["sent_by_us"] = [signal_name(number) for number in evidence.sent_by_us]
    return raw


def headline(
    cause: str | None, cap: Cap | None = None, signal: int | None = None, code: int | None = None
) -> str:
    """What happened, to be put after "The kernel died: "."""
    limit = f" of {cap.configured}" if cap else ""
    special = {
        "exited": f"it exited by itself with code {code}",
        "terminated": f"it was terminated by {signal_name(signal) if signal else 'SIGTERM'}",
        "oom-killed-by-cap": f"it was killed because it went over its memory limit{limit}",
        "start-failed": "it could not start" + ("" if code is None else f" (exit code {code})"),
    }
    return special.get(cause or "unknown") or _HEADLINES.get(
        cause or "unknown", "the cause is unknown"
    )


_HEADLINES = {
    "oom-killed-by-system": "it was killed because memory ran out outside its own limit",
    "segmentation-fault": "a segmentation fault (SIGSEGV) in compiled code",
    "bus-error": "a bus error (SIGBUS)",
    "illegal-instruction": "an illegal instruction (SIGILL)",
    "floating-point-exception": "a floating-point exception (SIGFPE) in compiled code",
    "aborted": "compiled code gave up (SIGABRT)",
    "stack-overflow": "its stack overflowed, as unbounded recursion does",
    "killed": "it was killed by SIGKILL, sent from outside",
    "hung-up": "it was ended by SIGHUP: a terminal or connection closed",
    "cpu-limit": "it used up its limit of CPU time (SIGXCPU)",
    "file-size-limit": "it wrote a file over the limit of file sizes (SIGXFSZ)",
    "hung": "it did not answer and was killed for the restart",
    "server-gone": "the Jupyter server behind it ended without shutting it down",
    "memory-cap-interrupt": "it was about to go over its memory limit",
}
# Of a kernel that hung while nobody had asked for a restart.
STOOD_STILL = "loading one variable did not come to an end, so it was killed"


def paragraph(evidence: Evidence, verdict: Verdict) -> str:
    """One paragraph of plain prose for the user."""
    started, ended, flight, place = (
        evidence.session,
        evidence.exit,
        evidence.flight,
        where(evidence),
    )
    signal = ended.signal if ended else None
    code = ended.code if ended else None
    clock = time.strftime("%H:%M:%S", time.localtime(evidence.time))
    what = headline(verdict.cause, started.cap, signal, code)
    if verdict.cause == "hung" and verdict.kind == "death":
        what = STOOD_STILL
    if verdict.cause == "killed" and flight and flight.sent_itself == "SIGKILL":
        what = "it was killed by a SIGKILL that its own code sent"
    sentences = [f"The kernel died at {clock}{_place_words(place)}: {what}."]
    if verdict.cause == repeated.INTERRUPT:
        limit = f" of {started.cap.configured}" if started.cap else ""
        sentences = [
            f"The cell was interrupted at {clock}{_place_words(place)}: {what}{limit}. "
            "The kernel and its variables live."
        ]
    sure = {"proof": "Evidence", "likely": "Likely, not proven", "unknown": "Not known"}
    sentences.append(f"{sure[verdict.confidence]}: {verdict.because}.")
    if verdict.cause == "hung" and (stood := _standstill_words(evidence)):
        sentences.append(stood)
    numbers = _memory_words(evidence)
    if numbers and verdict.cause in remedies.OUT_OF_MEMORY:
        sentences.append(numbers)
    # Nothing about checkpoints: one may be committed yet, and the restore says how old it is.
    return " ".join(sentences)


def _place_words(place: Place) -> str:
    if place.cell is None:
        return ""
    if not place.running:
        return f" while no cell was running (the last was In[{place.cell}])"
    words = f" in In[{place.cell}]"
    if place.line is not None:
        words += f", line {place.line}"
    if place.source:
        words += f" (`{place.source[:120]}`)"
    return words


# The clock looks five times a second, and notes that it did; it may be late on a busy machine.
_STANDS_S = 3.0


def _standstill_words(evidence: Evidence) -> str:
    """Since when nothing has moved in a kernel that was killed for a restart, and why if known."""
    told = [note for note in evidence.notes if note.startswith(WHEN_NOT_ANSWERING)]
    if told:
        return f"{told[0][0].upper()}{told[0][1:]}."
    flight = evidence.flight
    if flight is None or flight.state != "busy" or not flight.sampled:
        return ""
    if evidence.time - flight.sampled > _STANDS_S:
        return (
            f"For {age(evidence.time - flight.sampled)} no thread of Python's had run: one call of "
            "compiled code kept the interpreter to itself."
        )
    if flight.moved is not None and evidence.time - flight.moved > _STANDS_S:
        return f"It had been at the same place for {age(evidence.time - flight.moved)}."
    return ""


def _memory_words(evidence: Evidence) -> str:
    memory = evidence.memory
    parts = [
        f"{name} {size(value)}"
        for name, value in (
            ("limit", memory.limit_bytes),
            ("peak", memory.peak_bytes),
            ("the kernel itself at its last word", memory.rss_bytes),
        )
        if value
    ]
    return f"Memory: {', '.join(parts)}." if parts else ""
