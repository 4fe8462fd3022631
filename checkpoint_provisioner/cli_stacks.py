"""`jupyter checkpoint stacks`: what running kernels are doing, and where; they run on meanwhile.

Finding them is `live`'s, asking them `ask_stacks`', native stacks are `native_stack`'s.
"""

from __future__ import annotations

import dataclasses
import linecache
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from checkpoint_kernel.words import age, size

from . import ask_stacks, live, native_stack, stack_dump
from .live import LiveKernel
from .native_stack import NativeStack
from .stack_dump import Frame, Thread

# The clock of a kernel notes its memory every second, unless it does not get the interpreter.
_CLOCK_LATE_S: Final = 3.0


@dataclass(frozen=True)
class Seen:
    """What was seen of one kernel."""

    kernel: LiveKernel
    time: float
    threads: tuple[Thread, ...]
    why_not: str | None  # why there are no threads
    without_lock: bool
    as_text: str | None  # the stacks of a kernel that is not ours, as another tool tells them
    native: NativeStack | None  # None: not asked for
    rss_bytes: int | None

    @property
    def line(self) -> int | None:
        """Of the running cell, from 1."""
        flight = self.kernel.flight
        if flight is None or flight.state != "busy":
            return None
        return stack_dump.cell_line(self.threads, flight.cell_file) or flight.line

    @property
    def source(self) -> str | None:
        """That line."""
        flight, line = self.kernel.flight, self.line
        lines = flight.cell_source.splitlines() if flight else []
        return lines[line - 1].strip() if line and line <= len(lines) else None


def look(roots: Sequence[Path], wanted: str | None, native: bool) -> list[Seen]:
    """Ask every running kernel that `wanted` names, one after the other."""
    return [_look_at(kernel, native) for kernel in live.kernels(roots, wanted)]


def _look_at(kernel: LiveKernel, native: bool) -> Seen:
    flight = kernel.flight
    answer = ask_stacks.ask(kernel.pid, kernel.directory, flight)
    as_text, why_not = None, answer.why_not
    if flight is None:
        as_text, why_not = _by_py_spy(kernel.pid)
    return Seen(
        kernel=kernel,
        time=time.time(),
        threads=_with_sources(stack_dump.parse(answer.text), kernel),
        why_not=why_not,
        without_lock=answer.without_lock,
        as_text=as_text,
        native=native_stack.of_process(kernel.pid, native_stack.ASKED_LIMIT_S) if native else None,
        rss_bytes=live.rss_bytes(kernel.pid),
    )


def _by_py_spy(pid: int) -> tuple[str | None, str | None]:
    """A kernel that is not ours has no handler; py-spy reads any Python from outside."""
    not_ours = "this kernel is not ours, and does not tell its stacks"
    py_spy = native_stack.find("py-spy")
    if py_spy is None:
        return None, (
            f"{not_ours}: if it is a Python, `pip install py-spy` and ask again; "
            "`--native` shows compiled code, with gdb or elfutils installed"
        )
    try:
        done = subprocess.run(
            [py_spy, "dump", "--nonblocking", "--pid", str(pid)],
            capture_output=True, text=True, timeout=native_stack.ASKED_LIMIT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None, f"{not_ours}, and py-spy took too long"
    if done.returncode == 0:
        return done.stdout.rstrip(), None
    said = done.stderr.strip().splitlines()
    return None, f"{not_ours}, and py-spy says: {said[-1] if said else 'nothing'}"


def _with_sources(threads: tuple[Thread, ...], kernel: LiveKernel) -> tuple[Thread, ...]:
    """faulthandler knows no sources: those of the running cell and of files are looked up here."""
    flight = kernel.flight
    cell = flight.cell_source.splitlines() if flight else []

    def source(frame: Frame) -> str | None:
        if flight and frame.file == flight.cell_file:
            return cell[frame.line - 1].strip() if 0 < frame.line <= len(cell) else None
        return linecache.getline(frame.file, frame.line).strip() or None

    def known(frame: Frame | None) -> Frame | None:
        if frame is None or frame.source is not None:
            return frame
        return dataclasses.replace(frame, source=source(frame))

    return tuple(
        dataclasses.replace(thread, frames=tuple(known(frame) for frame in thread.frames))
        for thread in threads
    )


# --- for people ---


def as_text(seen: Seen, everything: bool) -> str:
    """One kernel. `everything`: also what runs the cells, and the kernel's own threads."""
    lines = [f"{seen.kernel.notebook.title}: {headline(seen)}", *_remarks(seen)]
    folded = 0
    for thread in seen.threads:
        idle = thread.role == "main" and not _in_cell(thread)
        if not everything and (thread.role == "kernel" or idle):
            folded += 1
            continue
        lines += ["", *_thread_text(seen, thread, everything)]
    if folded:
        what = (
            "thread of the kernel itself is" if folded == 1 else "threads of the kernel itself are"
        )
        lines += ["", f"{folded} {what} not shown (--all)."]
    if seen.as_text:
        lines += ["", seen.as_text]
    if seen.why_not:
        lines.append(f"  No stacks: {seen.why_not}.")
    if seen.native is not None:
        lines += ["", *_native_text(seen.native)]
    return "\n".join(lines)


def headline(seen: Seen) -> str:
    """`kernel 4711, In[7] line 3 (`fit()`), running for 312 s, 1.2 GB`."""
    parts = [f"kernel {seen.kernel.pid}", *_doing(seen)]
    if seen.rss_bytes is not None:
        cap = seen.kernel.session.cap
        parts.append(size(seen.rss_bytes) + (f" of {cap.configured}" if cap else ""))
    return ", ".join(parts)


def _doing(seen: Seen) -> list[str]:
    flight = seen.kernel.flight
    if flight is None:
        return ["a kernel that is not ours"]
    if flight.state == "busy":
        where = f"In[{flight.execution_count}]"
        if seen.line is not None:
            where += f" line {seen.line}"
        if seen.source:
            where += f" (`{seen.source}`)"
        began = flight.cell_started
        return [where, *([f"running for {age(seen.time - began)}"] if began else [])]
    if flight.state == "restoring" and flight.restoring_unit:
        return [f"restoring {flight.restoring_unit}"]
    last = f" (the last cell was In[{flight.execution_count}])" if flight.execution_count else ""
    return [f"{flight.state}{last}"]


def _remarks(seen: Seen) -> list[str]:
    """What is conspicuous."""
    flight = seen.kernel.flight
    lines: list[str] = []
    if flight is None:
        return lines
    late_s = seen.time - flight.sampled
    if seen.without_lock or (flight.sampled and late_s > _CLOCK_LATE_S):
        since = f" for {age(late_s)}" if flight.sampled and late_s > _CLOCK_LATE_S else ""
        lines.append(
            f"  One call of compiled code has kept the interpreter to itself{since}: no other "
            "thread of the kernel runs."
        )
    elif flight.state == "busy" and flight.moved is not None and seen.time - flight.moved > 1.5:
        lines.append(f"  At the same place for {age(seen.time - flight.moved)}.")
    return lines


def _in_cell(thread: Thread) -> bool:
    return any(frame is not None and stack_dump.is_cell(frame.file) for frame in thread.frames)


def _thread_text(seen: Seen, thread: Thread, everything: bool) -> list[str]:
    title = "Main thread" if thread.role == "main" else f"Thread {thread.name or thread.ident}"
    lines = [f"{title} (most recent call last):"]
    frames = thread.frames if everything else stack_dump.below_the_cell(thread)
    for frame in frames:
        lines += ["    ..."] if frame is None else _frame_text(seen, frame)
    return lines


def _frame_text(seen: Seen, frame: Frame) -> list[str]:
    """Frames of cells are marked, as a traceback's arrow marks a line."""
    flight = seen.kernel.flight
    if flight and frame.file == flight.cell_file:
        place = f"> In[{flight.execution_count}], line {frame.line}, in {frame.function}"
    elif stack_dump.is_cell(frame.file):
        place = f"> in a cell, line {frame.line}, in {frame.function}"
    else:
        place = f'  File "{frame.file}", line {frame.line}, in {frame.function}'
    return [place, *([f"      {frame.source}"] if frame.source else [])]


def _native_text(native: NativeStack) -> list[str]:
    if native.text is None:
        return [f"No native stacks: {native.why_not}."]
    return [f"Native stacks, by {native.tool} (most recent call first):", native.text]


# --- for programs ---


def as_json(seen: Seen) -> dict[str, Any]:
    """The same as values; times in seconds."""
    kernel, flight = seen.kernel, seen.kernel.flight
    busy = flight is not None and flight.state == "busy"
    began = flight.cell_started if flight and busy else None
    moved = flight.moved if flight and busy else None
    cap = kernel.session.cap
    return {
        "notebook": kernel.notebook.path,
        "kernel_id": kernel.session.kernel_id,
        "session": kernel.session.id,
        "pid": kernel.pid,
        "state": flight.state if flight else None,
        "process_state": ask_stacks.state_of(kernel.pid) or None,
        "cell": flight.execution_count if flight else None,
        "line": seen.line,
        "source": seen.source,
        "running_s": None if began is None else round(seen.time - began, 1),
        "at_this_place_s": None if moved is None else round(max(seen.time - moved, 0.0), 1),
        "rss_bytes": seen.rss_bytes,
        "memory_limit_bytes": cap.cap_bytes if cap else None,
        "without_lock": seen.without_lock,
        "threads": [_thread_json(thread) for thread in seen.threads],
        "text": seen.as_text,
        "no_stacks_because": seen.why_not,
        "native": dataclasses.asdict(seen.native) if seen.native else None,
    }


def _thread_json(thread: Thread) -> dict[str, Any]:
    return {
        "ident": thread.ident,
        "name": thread.name,
        "role": thread.role,
        "frames": [
            None if frame is None else {**dataclasses.asdict(frame), "cell": _is_cell(frame)}
            for frame in thread.frames
        ],
    }


def _is_cell(frame: Frame) -> bool:
    return stack_dump.is_cell(frame.file)
