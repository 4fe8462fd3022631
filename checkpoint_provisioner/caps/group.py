"""One cgroup as a directory: what cgroup v1 and v2 have in common.

Entering, listing, killing, removing, and the pids controller. Other limits and counters
differ and are `cgroup_v1`'s and `cgroup_v2`'s. Every write goes through os.write: a buffered
file swallows the kernel's refusal until it is closed, or for good.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

PREFIX = "checkpoint-kernel-"
_NAME = re.compile(rf"{PREFIX}(\d+)-")
PROCS = "cgroup.procs"
STALE_AFTER_S = 60.0  # younger ones may belong to a supervisor in another pid namespace


class Refused(Exception):
    """A backend cannot enforce a limit here; the message is one clause that says why."""


@dataclass(frozen=True)
class Counters:
    """A reading of the counters that tell who killed for memory. None where unknown.

    `oom_local` counts the times that the kernel's own group was at its limit and reclaim
    had failed (`oom` in memory.events.local; cgroup v1 has no such counter). The
    ancestors' counters are `oom` of memory.events.local on v2 and, for want of better,
    memory.failcnt on v1, which page cache alone can raise: there it is evidence only
    together with an `oom_kill` of ours. Sources: kernel documentation, cgroup-v2.rst
    "Memory Interface Files" and cgroup-v1/memory.rst.
    """

    oom_kill: int | None = None  # processes of our group that were killed for memory
    oom_local: int | None = None
    oom_ancestors: dict[str, int] = field(default_factory=dict)  # directory -> count
    usage_bytes: int | None = None  # page cache included
    nonreclaimable_bytes: int | None = None  # usage without page cache: what a limit meets
    peak_bytes: int | None = None
    limit_bytes: int | None = None
    failcnt: int | None = None  # how often usage met the limit; reclaim may have helped
    outer_limits: dict[str, int] = field(default_factory=dict)  # directory -> limit in bytes
    pids: int | None = None  # processes and threads in the group that `pids_limit` stands on
    pids_limit: int | None = None
    forks_refused: int | None = None  # of that group: forks and threads that failed with EAGAIN


def name_for(label: str) -> str:
    """A directory name that tells whose it is: ours, of this process, for `label`."""
    safe = re.sub(r"[^A-Za-z0-9_.-]+", "_", label)[:60] or "kernel"
    return f"{PREFIX}{os.getpid()}-{safe}"


def write(path: Path, value: str) -> None:
    """Write `value` in one write(2); OSError with the kernel's own errno."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def read_number(path: Path) -> int | None:
    """The number in a file; None where there is no file, or it says `max`."""
    try:
        text = path.read_text("ascii").strip()
    except OSError:  # absent in this kernel, or in the root group; ENODEV: group just removed
        return None
    return int(text) if text.isdecimal() else None


def read_fields(path: Path) -> dict[str, int]:
    """`name number` lines, as in memory.events; empty where there is no file."""
    try:
        lines = path.read_text("ascii").splitlines()
    except OSError:
        return {}
    pairs = (line.split() for line in lines)
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def limit_pids(directory: Path, count: int) -> int:
    """Limit processes and threads; the limit as read back. Refused, OSError.

    The same files in v1 and v2 (cgroup-v1/pids.rst; cgroup-v2.rst, "PID").
    """
    path = directory / "pids.max"
    write(path, str(count))
    found = read_number(path)
    if found != count:
        raise Refused(f"{path} took {count} but reads back as {found or 'max'}")
    return found


def with_pids(counters: Counters, directory: Path) -> Counters:
    """`counters`, with what the pids controller says of `directory`."""
    return replace(
        counters,
        pids=read_number(directory / "pids.current"),
        pids_limit=read_number(directory / "pids.max"),
        forks_refused=read_fields(directory / "pids.events").get("max"),
    )


def stands(asked_bytes: int, read_bytes: int | None) -> bool:
    """Whether the limit read back is the one asked for; the kernel rounds down to pages."""
    return read_bytes is not None and asked_bytes - resource.getpagesize() < read_bytes <= (
        asked_bytes
    )


def enter(directory: Path) -> None:
    """Move the calling process into the group. For a forked child before exec; OSError."""
    write(directory / PROCS, "0")


def probe(directory: Path) -> None:
    """Raise Refused unless a child of ours may enter: writable files do not yet say so.

    A move needs write access to the common ancestor too (cgroup-v2.rst, "Delegation
    Containment"), so the only proof is to try.
    """
    pid = os.fork()
    if pid == 0:
        code = 255
        try:
            enter(directory)
            code = 0
        except OSError as why:
            code = why.errno or 255
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        reason = os.strerror(code) if 0 < code < 255 else f"status {code}"
        raise Refused(f"no process may be moved into {directory}: {reason}")


def pids(directory: Path) -> list[int]:
    """The processes in the group and below it, zombies left out by the kernel."""
    found: list[int] = []
    for parent, _, files in os.walk(directory):
        if PROCS in files:
            try:
                text = (Path(parent) / PROCS).read_text("ascii")
            except OSError:  # removed while we walked
                continue
            found += [int(line) for line in text.split() if line != "0"]
    return found


def kill_all(directory: Path, within_s: float = 2.0) -> None:
    """SIGKILL everything in the group, forks that race with us included, or give up in time."""
    try:
        write(directory / "cgroup.kill", "1")  # v2, Linux 5.14: atomic
        return
    except OSError:
        pass  # v1, or an older kernel: one by one below
    deadline = time.monotonic() + within_s
    while (alive := pids(directory)) and time.monotonic() < deadline:
        for pid in alive:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def remove(directory: Path, within_s: float = 2.0) -> str | None:
    """Remove the group and what was made below it. Returns why it is still there, or None.

    A killed process keeps its group busy until it is reaped, so EBUSY is retried.
    """
    deadline = time.monotonic() + within_s
    while True:
        try:
            for parent, _, _ in os.walk(directory, topdown=False):
                Path(parent).rmdir()  # the files in a cgroup go with it
            return None
        except FileNotFoundError:
            if not directory.exists():
                return None
        except OSError as why:
            if time.monotonic() >= deadline:
                left = pids(directory)
                holders = f"; in it: {', '.join(map(str, left[:8]))}" if left else ""
                return f"cgroup {directory} could not be removed: {why.strerror}{holders}"
        time.sleep(0.02)


def sweep(parent: Path) -> None:
    """Remove empty groups that a killed supervisor of ours left in `parent`."""
    for directory in parent.glob(f"{PREFIX}*"):
        match = _NAME.match(directory.name)
        try:
            age_s = time.time() - directory.stat().st_mtime
        except OSError:
            continue
        gone = match is not None and not Path(f"/proc/{match[1]}").exists()
        if gone and directory.is_dir() and age_s > STALE_AFTER_S and not pids(directory):
            remove(directory, within_s=0)
