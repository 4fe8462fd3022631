"""What /proc and the kernel log say about this machine and its processes. Reads only.

Formats: proc(5), and dev-kmsg of the kernel's documentation. What a cgroup says is `caps`'.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from checkpoint_kernel import contract


def boot_id() -> str:
    """Names this boot of the machine (random, see proc(5))."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def process_name(pid: int) -> str | None:
    """The name of a live process, or None."""
    try:
        return Path(f"/proc/{pid}/comm").read_text("utf-8", "replace").strip()
    except OSError:
        return None


def belongs_to_session(pid: int, directory: Path) -> bool:
    """Whether a live process was started for this session: pids are reused, this is not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    ours = f"{contract.ENV_SESSION}={directory}".encode()
    return state[0] not in ("Z", "X") and ours in environment.split(b"\0")


def field(path: Path, name: str) -> int | None:
    """The number after `name` at the start of a line of a file in /proc."""
    try:
        text = path.read_text("ascii", "replace")
    except OSError:
        return None
    for line in text.splitlines():
        words = line.split()
        if words and words[0] == name:
            return int(words[1])
    return None


@dataclass(frozen=True)
class Processor:
    """The processor that programs see."""

    model: str
    flags: tuple[str, ...]  # of x86: what instructions there are


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> Processor | None:
    """The first processor; None where none has the flags of x86 (on ARM they are others)."""
    found: dict[str, str] = {}
    try:
        with open(cpuinfo, encoding="utf-8", errors="replace") as file:
            for line in file:
                if not line.strip():  # the next one: all are alike, and there may be hundreds
                    break
                name, _, value = line.partition(":")
                found[name.strip()] = value.strip()
    except OSError:
        return None
    flags = tuple(found.get("flags", "").split())
    return Processor(found.get("model name", "unknown"), flags) if flags else None


def kernel_log(pid: int) -> str | None:
    """What the kernel log says about the OOM kill of `pid`, where we may read it."""
    killed = [text for _, text in _log_records() if f"Killed process {pid} " in text]
    return killed[-1] if killed else None


def gpu_errors(within_s: float, kept: int = 10) -> tuple[str, ...]:
    """NVIDIA's Xid reports of the last `within_s` seconds in the kernel log, oldest first.

    Source: NVIDIA, "Xid Errors": "NVRM: Xid (PCI:0000:03:00): 31, pid=..., ...".
    """
    since_us = (time.monotonic() - within_s) * 1e6  # the log's clock runs from boot too
    found = [text for at_us, text in _log_records() if "NVRM: Xid" in text and at_us >= since_us]
    return tuple(found[-kept:])


def _log_records() -> Iterator[tuple[int, str]]:
    """(microseconds since boot, first line) of every record of the kernel log that we may read."""
    try:
        fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        while True:
            try:
                record = os.read(fd, 8192)
            except BrokenPipeError:  # records were overwritten while we read: go on
                continue
            if not record:
                break
            head, _, text = record.decode("utf-8", "replace").partition(";")
            at_us = head.split(",")[2:3]
            yield int(at_us[0]) if at_us and at_us[0].isdecimal() else 0, text.partition("\n")[0]
    except OSError:  # EAGAIN: the end
        pass
    finally:
        os.close(fd)
