"""Reads the texts that a dying process leaves: stderr's tail and faulthandler's file. Pure.

What they mean for the cause is `verdict`'s.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_FATAL = re.compile(r"^Fatal Python error: (.*)$", re.MULTILINE)
# What faulthandler prints for a signal; a fatal error of the interpreter has other words.
_SIGNAL_HEADERS = (
    "Segmentation fault",
    "Aborted",
    "Bus error",
    "Illegal instruction",
    "Floating-point exception",
    "Floating point exception",
)


def fatal_errors(text: str) -> list[str]:
    """What the interpreter said when it gave up, oldest first; not faulthandler's headers."""
    return [said for said in _FATAL.findall(text) if not said.startswith(_SIGNAL_HEADERS)]


def fatal_trace(stderr_tail: str) -> str:
    """The stacks that the interpreter writes to stderr when it gives up by itself."""
    found = [m.start() for m in _FATAL.finditer(stderr_tail)]
    return stderr_tail[found[-1] :] if found and fatal_errors(stderr_tail[found[-1] :]) else ""


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


# An abort follows at once; what other threads write meanwhile is short.
_AT_ONCE_CHARACTERS = 1000


@dataclass(frozen=True)
class AbortText:
    """What compiled code said before it gave up."""

    said: str  # one clause
    is_last: bool  # nothing much was written after it


def abort_detail(stderr_tail: str) -> AbortText | None:
    """The last telling text on stderr: what was said earlier was survived."""
    best: tuple[int, str] | None = None
    for pattern, name in _ABORT_TEXTS:
        for match in re.finditer(pattern, stderr_tail):
            if best is None or match.start() > best[0]:
                best = (match.start(), f"{name}: {match.group().strip()!r} on stderr")
    if best is None:
        return None
    return AbortText(best[1], is_last=len(stderr_tail) - best[0] <= _AT_ONCE_CHARACTERS)


# The wrappers by which our kernel learns what Python code does to it.
_OUR_WRAPPERS = "/checkpoint_kernel/last_words.py"
_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$', re.MULTILINE)
SAME_FRAME_LIMIT = 60


def current_stack(faults: str) -> list[tuple[str, int, str]]:
    """(file, line, function) of the thread that failed, innermost first, without ours."""
    start = max(faults.rfind("Current thread 0x"), 0)  # 3.14: "Current thread's C stack trace"
    return stacks(re.split(r"\n\s*\n|\nThread ", faults[start:], maxsplit=1)[0])


def stacks(faults: str) -> list[tuple[str, int, str]]:
    """As `current_stack`, of all threads one after the other.

    A thread that fails in C code without the GIL is not always marked as the current one.
    """
    return [
        (file, int(line), name)
        for file, line, name in _FRAME.findall(faults)
        if not file.endswith(_OUR_WRAPPERS)
    ]


def repeats_one_frame(faults: str) -> bool:
    """Whether one frame fills the stack of the thread that failed, as recursion does."""
    frames = current_stack(faults)
    return max((frames.count(frame) for frame in set(frames)), default=0) > SAME_FRAME_LIMIT


_C_STACK = "C stack trace (most recent call first):\n"


def c_stack(faults: str) -> str | None:
    """The native stack that faulthandler adds from Python 3.14 on (faulthandler.enable)."""
    _, found, text = faults.rpartition(_C_STACK)
    lines = []
    for line in text.splitlines():
        if not line.startswith("  "):
            break
        lines.append(line)
    return "\n".join(lines) or None if found else None


# traitlets' log format; ipykernel warns of things that have nothing to do with the end.
_ROUTINE = re.compile(r"\[\w+\] (?:DEBUG|INFO|WARNING) \|")


def last_line(text: str) -> str:
    """The last line that says something, routine log lines left out; without its full stop."""
    lines = [line.strip() for line in text.splitlines()]
    telling = [line for line in lines if line and not _ROUTINE.match(line)]
    return telling[-1][:300].rstrip(".") if telling else ""
