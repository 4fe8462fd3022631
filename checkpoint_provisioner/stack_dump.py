"""Python stacks as values, out of the text that faulthandler or our kernel writes. Pure.

Getting the text is `ask_stacks`'; the trace of a crash is read by `clues`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

_THREAD = re.compile(
    r"^(?:Current thread|Thread) (0x[0-9a-f]+)(?: \[(.*)\])? \(most recent call first\):$"
)
_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$')
_SOURCE = re.compile(r"^    (\S.*)$")

Role = Literal["main", "user", "kernel"]
# Whose code a thread runs on behalf of is said by its outermost frame outside of threading.
_MACHINERY = ("/checkpoint_kernel/", "/ipykernel/", "/IPython/core/history.py", "/debugpy/")
_DEBUGGER = "pydevd"


@dataclass(frozen=True)
class Frame:
    """One call."""

    file: str
    line: int
    function: str
    source: str | None = None


@dataclass(frozen=True)
class Thread:
    """One thread of a kernel; the most recent call last, None where some were left out."""

    ident: str
    name: str | None
    role: Role
    frames: tuple[Frame | None, ...]


def parse(text: str) -> tuple[Thread, ...]:
    """The threads in a dump, the main thread first."""
    found: list[tuple[str, str | None, list[Frame | None]]] = []
    for line in text.splitlines():
        if header := _THREAD.match(line):
            found.append((header[1], header[2], []))
        elif found and (frame := _FRAME.match(line)):
            found[-1][2].append(Frame(frame[1], int(frame[2]), frame[3]))
        elif found and line.strip() == "...":
            found[-1][2].append(None)
        elif found and (source := _SOURCE.match(line)):
            frames = found[-1][2]
            last = frames[-1] if frames else None
            if last is not None:
                frames[-1] = Frame(last.file, last.line, last.function, source[1])
    # faulthandler gives no names before 3.14, and the first thread that there was comes last.
    named = [ident for ident, name, _ in found if name == "MainThread"]
    main = named[0] if named else (found[-1][0] if found else None)
    threads = [
        Thread(ident, name, _role(frames, ident == main), tuple(reversed(frames)))
        for ident, name, frames in found
    ]
    return tuple(sorted(threads, key=lambda thread: thread.role != "main"))


def _role(frames: list[Frame | None], main: bool) -> Role:
    if main:
        return "main"
    for frame in reversed(frames):
        if frame is None:
            return "user"
        if frame.file.endswith("/threading.py"):
            continue
        ours = any(part in frame.file for part in _MACHINERY) or _DEBUGGER in frame.file
        inside = any(f is not None and is_cell(f.file) for f in frames)
        return "kernel" if ours and not inside else "user"
    return "user" if frames else "kernel"


def is_cell(file: str) -> bool:
    """Whether this is the file name that ipykernel or IPython gives to a cell."""
    return PurePath(file).parent.name.startswith("ipykernel_") or file.startswith("<ipython-input")


def cell_line(threads: tuple[Thread, ...], cell_file: str | None) -> int | None:
    """The line of the running cell that the main thread is in, from 1; None where it is not."""
    for thread in threads:
        if thread.role == "main":
            for frame in thread.frames:
                if frame is not None and frame.file == cell_file:
                    return frame.line
    return None


def telling(text: str) -> str:
    """A dump without what the kernel does for itself: for people, most recent call first."""
    blocks = []
    for thread in parse(text):
        if thread.role == "kernel":
            continue
        title = "Main thread" if thread.role == "main" else f"Thread {thread.name or thread.ident}"
        lines = [f"{title} (most recent call first):"]
        for frame in reversed(below_the_cell(thread)):
            lines += ["  ..."] if frame is None else _as_lines(frame)
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _as_lines(frame: Frame) -> list[str]:
    place = f'  File "{frame.file}", line {frame.line} in {frame.function}'
    return [place, *([f"    {frame.source}"] if frame.source else [])]


def below_the_cell(thread: Thread) -> tuple[Frame | None, ...]:
    """Its calls from the cell on, without what ran the cell; all where no cell is among them."""
    for number, frame in enumerate(thread.frames):
        if frame is not None and is_cell(frame.file):
            return thread.frames[number:]
    return thread.frames
