"""What the doctor tries in a process of its own: a scope of systemd's would keep this one.

    python -m checkpoint_provisioner.doctor_probes

prints `Tried` as JSON. Every probe leaves nothing behind.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .caps import group, policy

_PR_SET_PTRACER = 0x59616D61  # "Yama", prctl(2)
_PTRACE_SEIZE = 0x4206  # ptrace(2): attaches without a stop
_ROOM_BYTES = 64 << 20


class NotTried(Exception):
    """The probes did not run to their end."""


@dataclass(frozen=True)
class Tried:
    """What came of it. Of `guard`, `oom_score` and `ptrace`: empty, or why it does not work."""

    cap: dict[str, Any]  # session.Cap
    refused: list[str]  # better backends for memory
    limits: dict[str, dict[str, Any]]  # session.Limit, by key
    swap_forbidden: bool
    left: str | None  # what could not be removed
    guard: str
    oom_score: str
    ptrace: str


def run() -> Tried:
    """Try everything, in a process of its own. NotTried where that fails."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "checkpoint_provisioner.doctor_probes"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return Tried(**json.loads(done.stdout))
    except subprocess.CalledProcessError as why:
        last = why.stderr.strip().splitlines()[-1:]
        raise NotTried(f"{why}: {''.join(last)}") from why
    except (OSError, ValueError, TypeError, subprocess.SubprocessError) as why:
        raise NotTried(str(why)) from why


def try_all() -> Tried:
    """Every probe, here. The limits come last: they may move this process."""
    guard, oom_score, ptrace = _guard(), _oom_score(), _ptrace()
    handle = policy.prepare("64M", "85%", "doctor", cpu_limit=1.0, pids_limit=64)
    cap = handle.cap
    if cap is None:
        raise AssertionError("a stated memory_limit has a cap, enforced or not")
    swap = False
    if cap.cgroup is not None:
        files = ("memory.swap.max", "memory.memsw.limit_in_bytes")
        found = [group.read_number(Path(cap.cgroup) / name) for name in files]
        # v2: 0; v1: memory and swap together, a page above memory alone.
        swap = any(n is not None and n <= cap.cap_bytes + resource.getpagesize() for n in found)
    limits = {limit.key: dataclasses.asdict(limit) for limit in handle.limits}
    refused, left = list(handle.refused), handle.close()
    stated = dataclasses.asdict(cap)
    return Tried(stated, refused, limits, swap, left, guard, oom_score, ptrace)


def _guard() -> str:
    """Whether RLIMIT_DATA, set on a living child, refuses it an allocation (getrlimit(2))."""
    go_read, go_write = os.pipe()

    def allocate() -> str:
        os.read(go_read, 1)
        try:
            held = bytearray(4 * _ROOM_BYTES)
        except MemoryError:
            return ""
        return f"{len(held) >> 20} MB were given in spite of it"

    def limit(child: int) -> None:
        try:
            status = Path(f"/proc/{child}/status").read_text("ascii", "replace")
            data_kb = int(status.partition("VmData:")[2].split()[0])
            soft = (data_kb << 10) + _ROOM_BYTES
            _, hard = resource.prlimit(child, resource.RLIMIT_DATA)
            resource.prlimit(child, resource.RLIMIT_DATA, (soft, hard))
        finally:
            os.write(go_write, b"x")

    return _in_child(allocate, limit)


def _oom_score() -> str:
    """Whether a child may say that it is to be killed first."""

    def offer() -> str:
        group.write(Path("/proc/self/oom_score_adj"), "500")
        return ""

    return _in_child(offer)


def _ptrace() -> str:
    """Whether a debugger that the supervisor starts may look at a kernel that allows it."""
    libc = ctypes.CDLL(None, use_errno=True)
    us = os.getpid()
    refused: list[str] = []

    def looked_at() -> str:
        libc.prctl(_PR_SET_PTRACER, ctypes.c_ulong(us), 0, 0, 0)
        time.sleep(2)
        return ""

    def look(child: int) -> None:
        time.sleep(0.1)

        def attach() -> str:
            if libc.ptrace(_PTRACE_SEIZE, child, None, None) == 0:
                return ""
            return os.strerror(ctypes.get_errno())

        refused.append(_in_child(attach))
        os.kill(child, 9)

    _in_child(looked_at, look)
    return "".join(refused)


def _in_child(what: Callable[[], str], meanwhile: Callable[[int], None] | None = None) -> str:
    """What `what` returns in a forked child, or the words of its error."""
    read_fd, write_fd = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = what()
        except Exception as why:
            said = str(why)
        os.write(write_fd, said.encode("utf-8", "replace"))
        os._exit(0)
    os.close(write_fd)
    if meanwhile is not None:
        meanwhile(child)
    with open(read_fd, encoding="utf-8", errors="replace") as answer:
        said = answer.read()
    os.waitpid(child, 0)
    return said


if __name__ == "__main__":
    print(json.dumps(dataclasses.asdict(try_all())))
