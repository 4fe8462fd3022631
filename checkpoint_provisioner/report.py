"""Words for a death: the record as JSON, one paragraph for the user, one remedy. Pure."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from checkpoint_kernel.session import Cap
from checkpoint_kernel.words import age, size

from . import stack_dump
from .clues import c_stack, current_stack, stacks
from .evidence import WHEN_NOT_ANSWERING, Evidence
from .verdict import Verdict, cell_running, signal_name

SCHEMA = 1
RECORD_STDERR = 4000  # characters of stderr kept in the record; stderr.txt has more
RECORD_FAULTS = 12_000
RECORD_STACKS = 24_000


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


def build(evidence: Evidence, verdict: Verdict) -> dict[str, Any]:
    """The record of one death, as it is written and as `deaths --json` prints it."""
    started, ended, flight, place = (
        evidence.session,
        evidence.exit,
        evidence.flight,
        where(evidence),
    )
    checkpoint = None
    if flight and flight.checkpoint:
        age_s = evidence.time - flight.checkpoint_time if flight.checkpoint_time else None
        checkpoint = {"id": flight.checkpoint, "age_s": None if age_s is None else round(age_s, 1)}
    number = ended.signal if ended else None
    return {
        "schema_version": SCHEMA,
        "time": datetime.fromtimestamp(evidence.time, UTC).isoformat(timespec="milliseconds"),
        "cause": verdict.cause,
        "because": verdict.because,
        "confidence": verdict.confidence,
        "notebook": started.notebook,
        "kernel_id": started.kernel_id,
        "session": started.id,
        "signal": None if number is None else signal_name(number),
        "exit_code": ended.code if ended else None,
        "cell": place.cell,
        "line": place.line,
        "source": place.source,
        "cell_source": flight.cell_source if flight and flight.cell_source else None,
        "cell_running": place.running,
        "paragraph": paragraph(evidence, verdict),
        "remedy": remedy(verdict.cause, started.cap, flight.sent_itself if flight else None),
        "checkpoint": checkpoint,
        # A kernel that had to be killed wrote no trace itself: what it stood in before is here.
        "stack": evidence.faults[-RECORD_FAULTS:]
        or stack_dump.telling(evidence.stacks)[:RECORD_FAULTS]
        or None,
        "stacks": evidence.stacks[:RECORD_STACKS] or None,
        "native_stack": (evidence.native_stack or c_stack(evidence.faults) or "")[:RECORD_STACKS]
        or None,
        "stderr_tail": evidence.stderr_tail[-RECORD_STDERR:] or None,
        "cap": dataclasses.asdict(started.cap) if started.cap else None,
        "memory": dataclasses.asdict(evidence.memory),
        "environment_changes": evidence.environment_changes,
        "evidence": _observed(evidence),
    }


def _observed(evidence: Evidence) -> dict[str, Any]:
    """Everything else that was observed, so that the verdict can be checked."""
    raw = dataclasses.asdict(evidence)
    for told_elsewhere in ("session", "faults", "stacks", "native_stack", "stderr_tail", "memory"):
        del raw[told_elsewhere]
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
}

_REMEDIES = {
    "oom-killed-by-cap": (
        "Load less at a time (columns, chunks, smaller types), free what is not needed, or raise "
        "`memory_limit` in kernel.json."
    ),
    "oom-killed-by-system": (
        "Use less memory or a machine or container with more; a `memory_limit` in kernel.json "
        "below what there is keeps the rest of the machine safe."
    ),
    "segmentation-fault": (
        "Run the line's last call alone with small input, and update or reinstall the compiled "
        "package that it enters."
    ),
    "bus-error": (
        "Check that no memory-mapped file was truncated, and that disk and /dev/shm are not full."
    ),
    "illegal-instruction": (
        "Install a build of the package for this machine's processor (often an older one, or "
        "without AVX)."
    ),
    "floating-point-exception": (
        "Look for an integer division by zero in the compiled code that the line calls."
    ),
    "aborted": (
        "Read the message above from the compiled code; update or reinstall the package that "
        "printed it."
    ),
    "stack-overflow": "Give the recursion an end, or turn it into a loop.",
    "killed": (
        "Ask who sent it: a person, a batch system, or a memory watcher such as earlyoom; "
        "`journalctl` often knows."
    ),
    "terminated": "Ask who ended it: a batch system, a container stop, or a person.",
    "hung-up": "Start the server where no closing terminal takes it along (nohup, tmux, systemd).",
    "exited": "Look for a call of `os._exit` or C's exit() in the cell or its packages.",
    "cpu-limit": "Raise the limit of CPU time (`ulimit -t`) of whatever starts the server.",
    "file-size-limit": "Raise the limit of file sizes (`ulimit -f`), or write smaller files.",
    "hung": "Interrupt first next time; `%checkpoint restore` brings the variables back.",
    "start-failed": (
        "Run `jupyter checkpoint doctor`, or start the kernel by hand: python -m checkpoint_kernel."
    ),
    "server-gone": "Look into the server's log for why it ended.",
}


def remedy(cause: str | None, cap: Cap | None, sent_itself: str | None = None) -> str:
    """One thing to do about it."""
    if cause == "killed" and sent_itself == "SIGKILL":
        return "Look for the call of `os.kill` in the cell or its packages."
    if cause == "oom-killed-by-cap" and cap:
        return _REMEDIES[cause].replace("`memory_limit`", f"`memory_limit` (now {cap.configured})")
    return _REMEDIES.get(cause or "", "Run `jupyter checkpoint doctor`.")


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
    if verdict.cause == "killed" and flight and flight.sent_itself == "SIGKILL":
        what = "it was killed by a SIGKILL that its own code sent"
    sentences = [f"The kernel died at {clock}{_place_words(place)}: {what}."]
    sure = {"proof": "Evidence", "likely": "Likely, not proven", "unknown": "Not known"}
    sentences.append(f"{sure[verdict.confidence]}: {verdict.because}.")
    if verdict.cause == "hung" and (stood := _standstill_words(evidence)):
        sentences.append(stood)
    numbers = _memory_words(evidence)
    if numbers and (verdict.cause or "").startswith("oom-"):
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
