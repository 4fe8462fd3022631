"""What a kernel has started and left running: found in /proc, and ended after a death.

The supervisor is a subreaper (prctl(2)): whatever of a kernel's descendants has lost its
parent, double-forked daemons too, becomes a child of the supervisor, and stays one until it
is reaped. So when no child is left, no descendant is: one that forks faster than /proc can be
read is not missed. Without a supervisor (`of_session`) only the environment tells. Snapshot
processes are `watch`'s. Standard library only. Format: proc_pid_stat(5).
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from checkpoint_kernel import contract, flight_recorder, process_tree

from . import proc, process

_PAUSE_S = 0.005
_LOOKS = 3


@dataclass(frozen=True)
class Process:
    """One line of /proc/<pid>/stat, as far as it is needed."""

    pid: int
    name: str
    parent: int
    group: int
    session: int
    started: int  # ticks since boot: tells a pid from its next owner
    dead: bool  # a zombie


def of_kernel(kernel_pid: int) -> list[Process]:
    """The living descendants of our child `kernel_pid`, which lives or is not yet reaped."""
    walk = [*_processes(process_tree.children(kernel_pid)), *_children_of_ours(kernel_pid)]
    below: dict[int, Process] = {}
    while walk:
        one = walk.pop()
        if one.pid not in below:
            below[one.pid] = one
            walk += _processes(process_tree.children(one.pid))
    return sorted((one for one in below.values() if not one.dead), key=lambda one: one.pid)


def end(kernel_pid: int, within_s: float = 2.0) -> list[Process]:
    """SIGKILL all of them, those too that are forked meanwhile; which ones that were.

    A child's children become ours when it is dead, and are killed then. Bounded: what is
    still there after `within_s` is left, see `of_kernel`.
    """
    ended: dict[tuple[int, int], Process] = {}
    ours = os.getpgrp()
    deadline = time.monotonic() + within_s
    while (children := _children_of_ours(kernel_pid)) and time.monotonic() < deadline:
        new = False
        for one in children:
            if one.group != ours:
                # At once, also what is being forked: of one that forks on and on we may never see
                # more than copies that have ended.
                process.send(one.group, signal.SIGKILL, group=True)
            if not one.dead and process.send(one.pid, signal.SIGKILL):
                new = new or (one.pid, one.started) not in ended
                ended[one.pid, one.started] = one
            process.reap(one.pid)
        if not new:  # they are dying; a large one takes its time
            time.sleep(_PAUSE_S)
    return list(ended.values())


def _children_of_ours(kernel_pid: int) -> list[Process]:
    """Our children but the kernel, zombies too. What we had before the kernel is not its."""
    kernel = _process(str(kernel_pid))
    if kernel is None:
        return []
    children = _processes(process_tree.children(os.getpid()))
    return [one for one in children if one.pid != kernel_pid and one.started >= kernel.started]


def of_session(identity: str) -> list[Process]:
    """Living processes of ours that a session's kernel has started, by their environment.

    For a session whose supervisor was killed. What has cleared its environment is not found.
    Not we, nor what we come from: a server may have been started from a cell.
    """
    ours = f"{contract.ENV_STARTED_BY}={identity}".encode()
    there = _all()
    own_line, pid = set(), os.getpid()
    while pid in there and pid not in own_line:
        own_line.add(pid)
        pid = there[pid].parent
    found = []
    for one in there.values():
        if one.dead or one.pid in own_line:
            continue
        try:
            environment = Path(f"/proc/{one.pid}/environ").read_bytes()
        except OSError:  # gone, or another user's
            continue
        if ours in environment.split(b"\0"):
            found.append(one)
    return found


def is_saving(session_directory: Path) -> bool:
    """Whether the snapshot process of a session lives: it may be about to commit."""
    try:
        flight = flight_recorder.read(session_directory / contract.FLIGHT_FILE)
    except (OSError, ValueError, TypeError):  # what cannot be read names nobody
        return False
    if flight is None or not flight.snapshot_pid:
        return False
    return proc.belongs_to_session(flight.snapshot_pid, session_directory)


def end_session(identity: str, within_s: float = 2.0) -> list[Process]:
    """SIGKILL those, and what they fork meanwhile; which ones that were."""
    ended: dict[tuple[int, int], Process] = {}
    deadline = time.monotonic() + within_s
    unseen = 0  # times in a row: one that forks may slip through a single look
    while unseen < _LOOKS and time.monotonic() < deadline:
        alive = of_session(identity)
        unseen = 0 if alive else unseen + 1
        for one in alive:
            if process.send(one.pid, signal.SIGKILL):
                ended[one.pid, one.started] = one
        time.sleep(_PAUSE_S)
    return list(ended.values())


def _processes(pids: list[int]) -> list[Process]:
    return [one for pid in pids if (one := _process(str(pid))) is not None]


def _all() -> dict[int, Process]:
    found = {}
    with os.scandir("/proc") as entries:
        for entry in entries:
            if entry.name.isdecimal() and (one := _process(entry.name)) is not None:
                found[one.pid] = one
    return found


def _process(pid: str) -> Process | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:  # gone meanwhile
        return None
    # The name is in parentheses and may hold any character.
    head, _, tail = text.rpartition(")")
    words = tail.split()
    return Process(
        pid=int(pid),
        name=head.partition("(")[2],
        parent=int(words[1]),
        group=int(words[2]),
        session=int(words[3]),
        started=int(words[19]),
        dead=words[0] in ("Z", "X"),
    )
