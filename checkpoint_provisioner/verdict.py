"""Judges evidence: what kind of exit it was, of which cause, and how sure that is. Pure.

Rules in this order: asked for -> server gone -> signals sent by us or itself -> OOM counters ->
the sender of a signal -> text on stderr -> faulthandler's header -> the bare signal. A
verdict is proof, or says that it is not.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Literal

from . import clues
from .evidence import Evidence

# "survived": a cell was ended, and the kernel lives.
Kind = Literal["death", "restart", "shutdown", "hung", "quit", "survived"]
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
        or _sent_itself(evidence)
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
    """Who killed for memory. Proof only where the counter is the kernel's own."""
    if evidence.exit is None or evidence.exit.signal != signal.SIGKILL:
        return None
    oom, cap = evidence.oom, evidence.session.cap
    system, likely = "oom-killed-by-system", False
    if oom is not None and oom.own_group and oom.kills > 0:
        because = f"the counter oom_kill of its cgroup rose by {oom.kills}"
        if oom.own_limit_hit:
            limit = f" of {cap.configured}" if cap else ""
            because += f" when it met the memory limit{limit}"
            return Verdict("death", "oom-killed-by-cap", because)
        if oom.outer_limits_hit:
            where = ", ".join(oom.outer_limits_hit)
            because += f", and the limit that was hit is one above it: {where}"
        else:
            because += ", and no limit of a cgroup was hit: the machine ran out of memory"
    elif evidence.kernel_log is not None:
        because = f"the kernel log says: {evidence.kernel_log}"
    elif oom is not None and oom.kills > 0:
        because = f"the counter oom_kill of the group that it shares rose by {oom.kills}"
        likely = True
    elif (evidence.system_oom_kills or 0) > 0 and (oom is None or _memory_was_low(evidence)):
        # Machine-wide: where our own group's counter stood still and memory was to be had,
        # it was somebody else's process.
        because = (
            "the machine's OOM killer acted at that moment (oom_kill in /proc/vmstat rose by "
            f"{evidence.system_oom_kills})"
        )
        likely = True
    else:
        return None
    return Verdict("death", system, because, "likely" if likely else "proof")


def _memory_was_low(evidence: Evidence) -> bool:
    memory = evidence.memory
    if memory.available_bytes is None or not memory.total_bytes:
        return False
    return memory.available_bytes < LOW_MEMORY * memory.total_bytes


def _sent_itself(evidence: Evidence) -> Verdict | None:
    """SIGKILL cannot be survived: if the kernel said that it sends one, that was it."""
    ended, flight = evidence.exit, evidence.flight
    if ended is None or ended.signal != signal.SIGKILL:
        return None
    if flight is None or flight.sent_itself != "SIGKILL":
        return None
    return Verdict("death", "killed", "code in the kernel sent SIGKILL to its own process")


def _sent(evidence: Evidence) -> Verdict | None:
    """A signal whose sender is known, or that the kernel itself names."""
    ended, flight = evidence.exit, evidence.flight
    if ended is None:
        return None
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


def _python_fatal_error(evidence: Evidence) -> Verdict | None:
    if evidence.exit is None or evidence.exit.signal != signal.SIGABRT:
        return None
    said = [*clues.fatal_errors(evidence.faults), *clues.fatal_errors(evidence.stderr_tail)]
    if not said:
        return None
    if any(word in said[-1].lower() for word in ("stack overflow", "recursion")):
        return Verdict("death", "stack-overflow", f"Python gave up: {said[-1]}")
    return Verdict("death", "aborted", f"Python fatal error: {said[-1]}")


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
    if number == signal.SIGSEGV and clues.repeats_one_frame(evidence.faults):
        return Verdict(
            "death",
            "stack-overflow",
            f"{number.name}, and one frame stands over {clues.SAME_FRAME_LIMIT} times on the stack",
        )
    if number == signal.SIGABRT:
        detail = clues.abort_detail(evidence.stderr_tail)
        if detail is not None:
            return Verdict("death", cause, f"{number.name} after {detail}")
    frames = clues.current_stack(evidence.faults)
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
    if _memory_was_low(evidence):
        return Verdict(
            "death",
            "killed",
            f"SIGKILL from outside while less than {LOW_MEMORY:.0%} of the memory was available: "
            "perhaps a userspace OOM daemon (earlyoom, systemd-oomd)",
            "likely",
        )
    if evidence.oom is not None:
        return Verdict("death", "killed", "it was none of ours, and no OOM counter moved")
    if evidence.system_oom_kills == 0:
        return Verdict(
            "death", "killed", "it was none of ours, and the machine's OOM counter did not move"
        )
    return Verdict(
        "death", "killed", "it was none of ours, but no OOM counter could be read", "likely"
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
        said = clues.last_line(evidence.stderr_tail)
        because = f"it exited with code {ended.code} before it was ready"
        return Verdict("death", "start-failed", f"{because}: {said}" if said else because)
    if flight is not None and flight.exiting and flight.exiting not in ("atexit", "exit()"):
        return Verdict("death", "exited", f"{flight.exiting} was called (code {ended.code})")
    how = "through the interpreter's exit" if flight and flight.exiting else "without a word"
    return Verdict("death", "exited", f"it left with code {ended.code}, {how}")
