"""What the doctor tries in a process of its own, which ends after it: one probe per run.

    python -m checkpoint_provisioner.doctor_probes limits|rlimit|oom-score|ptrace

`limits` prints JSON; the others print nothing where it works, else why not.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from .caps import group, policy

_PR_SET_PTRACER = 0x59616D61  # "Yama", prctl(2)
_PTRACE_SEIZE = 0x4206  # ptrace(2): attaches without a stop
_ROOM_BYTES = 64 << 20


def limits() -> str:
    """Every limit, as a kernel would get it."""
    handle = policy.prepare("64M", "85%", "doctor", cpu_limit=1.0, pids_limit=64)
    cap = handle.cap
    if cap is None:
        raise AssertionError("a stated memory_limit has a cap, enforced or not")
    swap = None
    if cap.cgroup is not None:
        files = ("memory.swap.max", "memory.memsw.limit_in_bytes")
        found = [group.read_number(Path(cap.cgroup) / name) for name in files]
        # v2: 0; v1: memory and swap together, a page above memory alone.
        swap = any(n is not None and n <= cap.cap_bytes + resource.getpagesize() for n in found)
    tried = {
        "cap": dataclasses.asdict(cap),
        "refused": handle.refused,
        "swap_forbidden": swap,
        **{limit.key: dataclasses.asdict(limit) for limit in handle.limits},
        "left": handle.close(),
    }
    return json.dumps(tried)


def rlimit() -> str:
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


def oom_score() -> str:
    """Whether a child may say that it is to be killed first."""

    def offer() -> str:
        group.write(Path("/proc/self/oom_score_adj"), "500")
        return ""

    return _in_child(offer)


def ptrace() -> str:
    """Whether a debugger that the supervisor starts may look at a kernel that allows it."""
    libc = ctypes.CDLL(None, use_errno=True)
    us = os.getpid()

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

        print(_in_child(attach), end="")
        os.kill(child, 9)

    _in_child(looked_at, look)
    return ""


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


PROBES: dict[str, Callable[[], str]] = {
    "limits": limits,
    "rlimit": rlimit,
    "oom-score": oom_score,
    "ptrace": ptrace,
}

if __name__ == "__main__":
    print(PROBES[sys.argv[1]](), end="")
