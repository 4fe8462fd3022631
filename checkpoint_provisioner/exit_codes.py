"""What the exit code that a container, a batch system or a shell shows for a kernel means. Pure.

They have one number for both kinds of end: the code, or 128 and the number of the signal (POSIX
shell, "Exit Status for Commands"; Docker and the kubelet follow it). Which of its meanings
applies is the verdict's to say.
"""

from __future__ import annotations

import signal

from .evidence import Exit

_SIGNALS = {
    "SIGHUP": "a terminal or connection closed, or somebody sent it",
    "SIGINT": "an interrupt (Ctrl-C) that nobody handled",
    "SIGQUIT": "somebody asked it to quit with a core dump (Ctrl-\\)",
    "SIGILL": "an instruction that this processor does not have, or a damaged binary",
    "SIGTRAP": "a trap: compiled code or a debugger stopped it",
    "SIGABRT": "abort(): compiled code, the C library or the interpreter gave up",
    "SIGBUS": "a bus error: memory that is mapped and not there, as on a full /dev/shm or a "
    "truncated file",
    "SIGFPE": "an arithmetic error in compiled code, such as a division of integers by zero",
    "SIGKILL": "a kill that cannot be refused: out of memory, or somebody sent it",
    "SIGSEGV": "a segmentation fault: compiled code touched memory that is not its own",
    "SIGPIPE": "a write to a pipe that nobody reads",
    "SIGALRM": "a timer (alarm) that nobody handled",
    "SIGTERM": "a polite end: a container or batch system that stops, or somebody sent it",
    "SIGUSR1": "a signal of somebody's own, which nobody handled",
    "SIGUSR2": "a signal of somebody's own, which nobody handled",
    "SIGXCPU": "the limit of CPU time (ulimit -t) is used up",
    "SIGXFSZ": "a file over the limit of file sizes (ulimit -f)",
    "SIGSYS": "a system call that a filter (seccomp) forbids",
}

_CODES = {
    0: "it ended as if all were well",
    1: "it failed: an error that nobody handled, or exit(1)",
    2: "it was called in a wrong way, or exit(2)",
    120: "Python could not flush its output at the end (a full disk, a closed pipe)",
    126: "the command was found and could not be executed",
    127: "the command was not found, or a library that it needs was not",
    255: "exit(-1), or an end out of the range of codes",
}


def container_code(ended: Exit | None) -> int | None:
    """The code that a container runtime shows: 128 + signal, or the code itself."""
    if ended is None:
        return None
    return ended.code if ended.signal is None else 128 + ended.signal


def meaning(code: int | None) -> str | None:
    """One clause for people; None where there is no code."""
    if code is None:
        return None
    if code in _CODES:
        return _CODES[code]
    number = code - 128
    try:
        name = signal.Signals(number).name
    except ValueError:  # a code of its own, or a real-time signal
        if 0 < number < 65:
            return f"128 + {number}: signal {number}, or exit({code})"
        return f"it chose this code itself: exit({code})"
    return f"128 + {number}, {name}: {_SIGNALS.get(name, 'a signal that nobody handled')}"
