"""Judges evidence: what kind of exit it was, of which cause, and how sure that is. Pure.

Rules in this order: asked for -> server gone -> signals sent by us or itself -> OOM counters ->
limits -> the sender of a signal -> a crash (`crash`: sender, stack, text, where) -> the bare
signal -> the exit code. A verdict is proof, or says that it is not.
"""

from __future__ import annotations

import dataclasses
import signal
from dataclasses import dataclass
from typing import Literal

from . import clues, crash, kills
from .evidence import Evidence, Exit, SignalSeen
from .finding import Confidence, Finding

# "survived": a cell was ended, and the kernel lives.
Kind = Literal["death", "restart", "shutdown", "hung", "quit", "survived"]

# A kernel that is not ours keeps no flight recorder: one that leaves by itself sooner than
# any ipykernel can be ready has failed to start.
FASTEST_START_S = 0.3
# A signal that the supervisor passed on ends the kernel at once, or once it has saved.
PASSED_ON_S = 60.0


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
    found = _of_a_wrapper(evidence) or _death(evidence)
    return Verdict("death", found.cause, found.because, found.confidence)


def _death(evidence: Evidence) -> Finding:
    return (
        _nobody_saw(evidence)
        or _server_gone(evidence)
        or _loading_hung(evidence)
        or _sent_itself(evidence)
        or kills.out_of_memory(evidence)
        or kills.limit_reached(evidence)
        or _sent(evidence)
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


def _of_a_wrapper(evidence: Evidence) -> Finding | None:
    """A shell that ran the kernel ends with 128 and the signal's number (sh(1), "Exit status")."""
    ended = evidence.exit
    if evidence.is_ours or ended is None or ended.code is None:
        return None
    number = ended.code - 128
    if number not in _ENDING:
        return None
    # Limits and the kernel log are the wrapper's.
    of_program = dataclasses.replace(
        evidence, exit=Exit(None, number), limits=None, kernel_log=None, kernel_log_read=False
    )
    inner = _death(of_program)
    name = signal_name(number)
    because = f"code {ended.code}, by which a wrapper says that its program ended by {name}"
    sure: Confidence = "likely" if inner.confidence == "proof" else inner.confidence
    return dataclasses.replace(inner, because=f"{because}: {inner.because}", confidence=sure)


_ENDING = frozenset(
    {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL, signal.SIGPIPE}
    | {signal.SIGALRM, signal.SIGTERM, signal.SIGXCPU, signal.SIGXFSZ, signal.SIGSYS}
    | set(crash.CAUSES)
)


def _nobody_saw(evidence: Evidence) -> Finding | None:
    if evidence.exit is not None:
        return None
    if not evidence.same_boot:
        return Finding("server-gone", "the machine has restarted since: no exit was recorded")
    flight = evidence.flight
    parent_gone = flight is not None and flight.exiting == "parent gone"
    if evidence.server_lives:
        after = ", and the kernel left when it saw that" if parent_gone else ""
        return Finding(
            "unknown",
            f"its supervisor ended without a word{after}, while the server lives on: it was "
            "killed, and nobody saw by whom",
            "unknown",
        )
    if parent_gone:
        return Finding(
            "server-gone",
            "the kernel saw its supervisor end, and the server of then is not to be found",
            "likely",
        )
    return Finding(
        "server-gone",
        "kernel, supervisor and server ended without a word: killed together (the container "
        "stopped or ran out of memory, or the machine did)",
        "likely",
    )


def _server_gone(evidence: Evidence) -> Finding | None:
    flight = evidence.flight
    if evidence.server_gone:
        return Finding(
            "server-gone", "the server's process ended, and the kernel was ended after it"
        )
    if flight and flight.exiting == "parent gone":
        return Finding("server-gone", "the kernel saw its parent disappear")
    return None


def _loading_hung(evidence: Evidence) -> Finding | None:
    ended = evidence.exit
    if evidence.loading_hung is None or ended is None or ended.signal != signal.SIGKILL:
        return None
    return Finding("hung", evidence.loading_hung)


def _sent_itself(evidence: Evidence) -> Finding | None:
    """A signal that nobody handles: if the kernel said that it sends it, that was it."""
    ended, flight = evidence.exit, evidence.flight
    if ended is None or ended.signal is None or ended.signal in crash.CAUSES:
        return None
    name = signal_name(ended.signal)
    if flight is None or flight.sent_itself != name:
        return None
    cause = {"SIGKILL": "killed", "SIGHUP": "hung-up"}.get(name, "terminated")
    return Finding(cause, f"code in the kernel sent {name} to its own process")


def _sent(evidence: Evidence) -> Finding | None:
    """A signal whose sender is known, or that the kernel itself names."""
    ended, flight = evidence.exit, evidence.flight
    if ended is None:
        return None
    said = flight.exiting if flight is not None else None
    number = next((s for s in _GOODBYE if s.name == said), None) or ended.signal
    if number is None:
        return None
    seen = [s for s in evidence.signals if s.signal == number and _just_before(evidence, s)]
    if not seen and number not in _GOODBYE:
        return None
    cause = _GOODBYE.get(signal.Signals(number), "terminated")
    if not seen:
        # siginfo goes to whoever takes the signal, and that is Python, which does not tell.
        because = f"{signal_name(number)} came to the kernel directly; its sender is not known"
        return Finding(cause, because)
    sender = seen[-1]
    name = f" ({sender.sender_name})" if sender.sender_name else ""
    who = f"process {sender.sender_pid}{name} of user {sender.sender_uid}"
    return Finding(cause, f"{who} sent {signal_name(number)}")


# What ends a kernel that saves first, and then perhaps leaves with a code.
_GOODBYE = {signal.SIGTERM: "terminated", signal.SIGHUP: "hung-up"}


def _just_before(evidence: Evidence, seen: SignalSeen) -> bool:
    return evidence.time - seen.time <= PASSED_ON_S


def _crashed(evidence: Evidence) -> Finding | None:
    ended = evidence.exit
    if ended is None or ended.signal not in crash.CAUSES:
        return None
    return crash.find(evidence, signal.Signals(ended.signal))


# Signals that the system sends for what the process itself does; but anybody can send them.
_OWN_DOING = {
    signal.SIGALRM: "a timer of its own (alarm, setitimer) ran out, which nothing handled",
    signal.SIGVTALRM: "a timer of its own (setitimer) ran out, which nothing handled",
    signal.SIGPROF: "a profiling timer of its own (setitimer) ran out, which nothing handled",
    signal.SIGPIPE: "it wrote to a pipe or socket that nobody reads any more",
    signal.SIGSYS: "it made a system call that is forbidden here (seccomp)",
    signal.SIGTRAP: "it ran into a breakpoint without a debugger",
}


def _signalled(evidence: Evidence) -> Finding | None:
    ended = evidence.exit
    if ended is None or ended.signal is None:
        return None
    number = ended.signal
    if number == signal.SIGKILL:
        return kills.by_somebody(evidence)
    if number in (signal.SIGXCPU, signal.SIGXFSZ):
        cause = "cpu-limit" if number == signal.SIGXCPU else "file-size-limit"
        because = f"{signal_name(number)}, but no such limit could be read: perhaps it was sent"
        return Finding(cause, because, "likely")
    if number in _OWN_DOING:
        doing = _OWN_DOING[signal.Signals(number)]
        because = f"{signal_name(number)}: {doing}; or somebody sent it"
        return Finding("terminated", because, "likely")
    return Finding("terminated", f"somebody sent {signal_name(number)}")


def _exited(evidence: Evidence) -> Finding:
    ended, flight = evidence.exit, evidence.flight
    if ended is None or ended.code is None:
        return Finding("unknown", "no evidence of how it ended", "unknown")
    if flight is None:
        failed = evidence.is_ours or evidence.uptime_s < FASTEST_START_S
    else:
        failed = flight.state == "starting" and flight.cells_started == 0
    if failed:
        said = clues.last_line(evidence.stderr_tail)
        because = f"it exited with code {ended.code} before it was ready"
        return Finding("start-failed", f"{because}: {said}" if said else because)
    return Finding("exited", f"it left with code {ended.code}, {_way_out(evidence)}")


def _way_out(evidence: Evidence) -> str:
    """Which of the ways to exit it was: each passes other witnesses."""
    word = evidence.flight.exiting if evidence.flight else None
    if word and word not in ("atexit", "exit()"):
        return f"by {word}" if "(" in word else f"after {word}"
    if word:
        return "through the interpreter's exit"
    if evidence.last_fault.exit_status is not None:
        return "by a call of C's exit(), past Python"
    if evidence.is_ours and evidence.last_fault.absent is None and evidence.flight is not None:
        return "without a word: by C's _exit() or a system call, past Python and C's exit()"
    return "without a word"
