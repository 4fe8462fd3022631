"""What /proc and the kernel log say about this machine and its processes. Reads only.

Formats: proc(5), and dev-kmsg of the kernel's documentation. What a cgroup says is `caps`'.
"""

from __future__ import annotations

import os
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


def kernel_log(pid: int) -> str | None:
    """What the kernel log says about the OOM kill of `pid`, where we may read it."""
    try:
        fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    found = None
    try:
        while True:
            try:
                record = os.read(fd, 8192)
            except BrokenPipeError:  # records were overwritten while we read: go on
                continue
            if not record:
                break
            text = record.decode("utf-8", "replace")
            if f"Killed process {pid} " in text:
                found = text.partition(";")[2].splitlines()[0]
    except OSError:  # EAGAIN: the end
        pass
    finally:
        os.close(fd)
    return found
