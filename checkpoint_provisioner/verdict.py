"""Judges evidence: what kind of exit it was, of which cause, and how sure that is. Pure.

Rules in this order: asked for -> server gone -> signals that we sent -> OOM counters ->
the sender of a signal -> text on stderr -> faulthandler's header -> the bare signal. A
verdict is proof, or says that it is not.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from typing import Literal

from .evidence import Evidence

Kind = Literal["death", "restart", "shutdown", "hung", "quit"]
Confidence = Literal["proof", "likely", "unknown"]

# A kernel that is not ours keeps no flight recorder: one that leaves by itself sooner than
# any ipykernel can be ready has failed to start.
FASTEST_START_S = 0.3
# earlyoom and systemd-oomd act at about 10 % or below.
LOW_MEMORY = 0.10


@dataclass(frozen=True)
class Verdict:
    """What happened. `cause` is None for an exit that somebody asked for and got."""

    kind: Kind
    cause: str | None
    because: str  # one sentence: the deciding evidence
    confidence: Confidence = "proof"


def judge(evidence: Evidence) -> Verdict:
    """The verdict on the end of a session."""
    asked = _asked(evidence)
    if asked is not None:
        return asked
    return (
        _nobody_saw(evidence)
        or _server_gone(evidence)
        or _out_of_memory(evidence)
        or _sent(evidence)
        or _python_fatal_error(evidence)
        or _crashed(evidence)
        or _signalled(evidence)
        or _exited(evidence)
    )


def signal_name(number: int) -> str:
    """SIGSEGV for 11; real-time signals by number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def cell_running(evidence: Evidence) -> bool:
    """Whether a cell of the user's was running at the end."""
    return evidence.flight is not None and evidence.flight.state == "busy"


# --- exits that somebody asked for ---


def _asked(evidence: Evidence) -> Verdict | None:
    flight, ended = evidence.flight, evidence.exit
    # What the supervisor does because the server is gone is not what somebody asked for.
    actions = [i.action for i in evidence.intents if i.sender != "supervisor"]
    told = flight.shutdown if flight else None
    killed = ended is None or ended.signal == signal.SIGKILL  # None: nobody saw what it took
    if "restart" in actions or told == "restart":
        if killed and "kill" in actions:
            return Verdict(
                "hung",
                "hung",
                "it did not answer the restart that you asked for, and had to be killed (SIGKILL)",
            )
        return Verdict("restart", None, "a restart was asked for")
    if "shutdown" in actions or told == "shutdown":
        return Verdict("shutdown", None, "a shutdown was asked for")
    if killed and "kill" in actions:
        # restart_kernel(now=True) and shutdown_kernel(now=True) ask nothing before.
        return Verdict("restart", None, "an immediate restart or shutdown was asked for")
    if "terminate" in actions:
        return Verdict("shutdown", None, "the server asked the kernel to end")
    if flight and flight.exiting == "exit()" and ended is not None and ended.code == 0:
        return Verdict("quit", None, "exit() was called in a cell")
    return None


# --- deaths, in the order of the rules ---


def _nobody_saw(evidence: Evidence) -> Verdict | None:
    if evidence.exit is not None:
        return None
    if not evidence.same_boot:
        return Verdict(
            "death", "server-gone", "the machine has restarted since: no exit was recorded"
        )
    flight = evidence.flight
    if flight and flight.exiting == "parent gone":
        return Verdict("death", "server-gone", "the kernel saw its parent disappear")
    return Verdict(
        "death",
        "server-gone",
        "kernel, supervisor and server ended without a word: killed together (the container "
        "stopped or ran out of memory, or the machine did)",
        "likely",
    )


def _server_gone(evidence: Evidence) -> Verdict | None:
    flight = evidence.flight
    if evidence.server_gone:
        return Verdict(
            "death", "server-gone", "the server's process ended, and the kernel was ended after it"
        )
    if flight and flight.exiting == "parent gone":
        return Verdict("death", "server-gone", "the kernel saw its parent disappear")
    return None


def _out_of_memory(evidence: Evidence) -> Verdict | None:
    if evidence.exit is None or evidence.exit.signal != signal.SIGKILL:
        return None
    oom, cap = evidence.oom, evidence.session.cap
    if oom is not None and oom.kills > 0 and oom.own_group:
        counted = f"the counter oom_kill of its cgroup rose by {oom.kills}"
        if oom.own_limit_hit:
            limit = f" of {cap.configured}" if cap else ""
            return Verdict(
                "death", "oom-killed-by-cap", f"{counted} when it met the memory limit{limit}"
            )
        if oom.outer_limits_hit:
            where = ", ".join(oom.outer_limits_hit)
            return Verdict(
                "death",
                "oom-killed-by-system",
                f"{counted}, and the limit that was hit is one above it: {where}",
            )
        return Verdict(
            "death",
            "oom-killed-by-system",
            f"{counted}, and no limit of a cgroup was hit: the machine ran out of memory",
        )
    if evidence.kernel_log is not None:
        return Verdict(
            "death", "oom-killed-by-system", f"the kernel log says: {evidence.kernel_log}"
        )
    if oom is not None and oom.kills > 0:
        return Verdict(
            "death",
            "oom-killed-by-system",
            f"the counter oom_kill of the group that it shares with others rose by {oom.kills}",
            "likely",
        )
    if (oom is None or not oom.own_group) and (evidence.system_oom_kills or 0) > 0:
        return Verdict(
            "death",
            "oom-killed-by-system",
            "the machine's OOM killer acted at that moment (oom_kill in /proc/vmstat rose by "
            f"{evidence.system_oom_kills})",
            "likely",
        )
    return None


def _sent(evidence: Evidence) -> Verdict | None:
    """A signal whose sender is known, or that the kernel itself names."""
    ended, flight = evidence.exit, evidence.flight
    if ended is None:
        return None
    if ended.signal == signal.SIGKILL and flight is not None and flight.sent_itself == "SIGKILL":
        return Verdict("death", "killed", "code in the kernel sent SIGKILL to its own process")
    causes = {signal.SIGTERM: "terminated", signal.SIGHUP: "hung-up"}
    for number, cause in causes.items():
        handled = flight is not None and flight.exiting == number.name
        if ended.signal != number and not handled:
            continue
        seen = [s for s in evidence.signals if s.signal == number]
        if seen:
            who = f"process {seen[-1].sender_pid}"
            if seen[-1].sender_name:
                who += f" ({seen[-1].sender_name})"
            because = f"{who} of user {seen[-1].sender_uid} sent {number.name}"
        else:
            because = f"somebody sent {number.name} to the kernel"
        return Verdict("death", cause, because)
    return None


_FATAL = re.compile(r"^Fatal Python error: (.*)$", re.MULTILINE)
_STACK_WORDS = ("stack overflow", "recursion")
# What faulthandler prints for a signal; a fatal error of the interpreter has other words.
_SIGNAL_HEADERS = (
    "Segmentation fault",
    "Aborted",
    "Bus error",
    "Illegal instruction",
    "Floating-point exception",
    "Floating point exception",
)


def _python_fatal_error(evidence: Evidence) -> Verdict | None:
    if evidence.exit is None or evidence.exit.signal != signal.SIGABRT:
        return None
    said = [
        text
        for text in _FATAL.findall(evidence.stderr_tail) + _FATAL.findall(evidence.faults)
        if not text.startswith(_SIGNAL_HEADERS)
    ]
    if not said:
        return None
    if any(word in said[-1].lower() for word in _STACK_WORDS):
        return Verdict("death", "stack-overflow", f"Python gave up: {said[-1]}")
    return Verdict("death", "aborted", f"Python fatal error: {said[-1]}")


# Texts of glibc (malloc.c, assert.c, stack protector) and libstdc++, most telling first.
_ABORT_TEXTS: tuple[tuple[str, str], ...] = (
    (r"double free[^\n]*", "double free"),
    (r"\*\*\* stack smashing detected \*\*\*[^\n]*", "stack buffer overflow"),
    (r"\*\*\* buffer overflow detected \*\*\*[^\n]*", "buffer overflow"),
    (
        r"(?:(?:malloc|free|realloc|calloc|munmap_chunk|malloc_consolidate)\(\): [^\n]+"
        r"|corrupted (?:size|double-linked list)[^\n]*|break adjusted to free malloc[^\n]*)",
        "heap corruption",
    ),
    (r"[^\n]*std::bad_alloc[^\n]*", "std::bad_alloc, an allocation in C++ failed"),
    (r"[^\n]*Assertion [^\n]*failed[^\n]*", "assertion"),
    (r"terminate called[^\n]*", "uncaught C++ exception"),
)


def _abort_detail(stderr_tail: str) -> str | None:
    """The last telling text on stderr: what was said earlier was survived."""
    best: tuple[int, str] | None = None
    for pattern, name in _ABORT_TEXTS:
        for match in re.finditer(pattern, stderr_tail):
            if best is None or match.start() > best[0]:
                best = (match.start(), f"{name}: {match.group().strip()!r} on stderr")
    return best[1] if best else None


_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$', re.MULTILINE)
_SAME_FRAME_LIMIT = 60


def current_stack(faults: str) -> list[tuple[str, int, str]]:
    """(file, line, function) of the thread that failed, innermost first."""
    start = max(faults.rfind("Current thread"), 0)
    block = re.split(r"\n\s*\n|\nThread ", faults[start:], maxsplit=1)[0]
    return [(file, int(line), name) for file, line, name in _FRAME.findall(block)]


def _overflowed(evidence: Evidence) -> bool:
    frames = current_stack(evidence.faults)
    repeated = max((frames.count(frame) for frame in set(frames)), default=0)
    return repeated > _SAME_FRAME_LIMIT


_CRASHES = {
    signal.SIGSEGV: ("segmentation-fault", "a segmentation fault"),
    signal.SIGBUS: ("bus-error", "a bus error"),
    signal.SIGILL: ("illegal-instruction", "an illegal instruction"),
    signal.SIGFPE: ("floating-point-exception", "a floating-point exception"),
    signal.SIGABRT: ("aborted", "abort()"),
}


def _crashed(evidence: Evidence) -> Verdict | None:
    ended = evidence.exit
    if ended is None or ended.signal not in _CRASHES:
        return None
    number = signal.Signals(ended.signal)
    cause, words = _CRASHES[number]
    if number == signal.SIGSEGV and _overflowed(evidence):
        return Verdict(
            "death",
            "stack-overflow",
            f"{number.name}, and one frame stands over {_SAME_FRAME_LIMIT} times on the stack",
        )
    if number == signal.SIGABRT:
        detail = _abort_detail(evidence.stderr_tail)
        if detail is not None:
            return Verdict("death", cause, f"{number.name} after {detail}")
    frames = current_stack(evidence.faults)
    seen = f"; faulthandler saw it in {frames[0][2]}" if frames else ""
    return Verdict("death", cause, f"it ended by {number.name}, {words}{seen}")


def _signalled(evidence: Evidence) -> Verdict | None:
    ended = evidence.exit
    if ended is None or ended.signal is None:
        return None
    number = ended.signal
    if number == signal.SIGXCPU:
        return Verdict("death", "cpu-limit", "SIGXCPU: its limit of CPU time (RLIMIT_CPU) is used")
    if number == signal.SIGXFSZ:
        return Verdict("death", "file-size-limit", "SIGXFSZ: a file met the limit RLIMIT_FSIZE")
    if number != signal.SIGKILL:
        return Verdict("death", "terminated", f"somebody sent {signal_name(number)}")
    memory = evidence.memory
    if memory.available_bytes is not None and memory.total_bytes:
        share = memory.available_bytes / memory.total_bytes
        if share < LOW_MEMORY:
            return Verdict(
                "death",
                "killed",
                f"SIGKILL from outside while only {share:.0%} of the memory was available: "
                "perhaps a userspace OOM daemon (earlyoom, systemd-oomd)",
                "likely",
            )
    if evidence.oom is not None:
        return Verdict("death", "killed", "SIGKILL from outside; no OOM counter moved")
    if evidence.system_oom_kills == 0:
        return Verdict(
            "death", "killed", "SIGKILL from outside; the machine's OOM counter did not move"
        )
    return Verdict(
        "death", "killed", "SIGKILL from outside; no OOM counter could be read", "likely"
    )


def _exited(evidence: Evidence) -> Verdict:
    ended, flight = evidence.exit, evidence.flight
    if ended is None or ended.code is None:
        return Verdict("death", "unknown", "no evidence of how it ended", "unknown")
    if flight is None:
        failed = evidence.is_ours or evidence.uptime_s < FASTEST_START_S
    else:
        failed = flight.state == "starting" and flight.cells_started == 0
    if failed:
        said = _last_line(evidence.stderr_tail)
        because = f"it exited with code {ended.code} before it was ready"
        return Verdict("death", "start-failed", f"{because}: {said}" if said else because)
    if flight is not None and flight.exiting and flight.exiting not in ("atexit", "exit()"):
        return Verdict("death", "exited", f"{flight.exiting} was called (code {ended.code})")
    how = "through the interpreter's exit" if flight and flight.exiting else "without a word"
    return Verdict("death", "exited", f"it left with code {ended.code}, {how}")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
