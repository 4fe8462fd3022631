"""What /proc and the kernel log say about this machine and its processes. Reads only.

Formats: proc(5), and dev-kmsg of the kernel's documentation. What a cgroup says is `caps`'.
"""

from __future__ import annotations

import contextlib
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


def descendants(pid: int) -> list[int]:
    """The children of a process, theirs, and so on (proc_pid_task(5), `children`)."""
    found: list[int] = []
    left = [pid]
    while left:
        for task in Path(f"/proc/{left.pop()}/task").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # the thread has ended
                children = [int(word) for word in (task / "children").read_text("ascii").split()]
                found += children
                left += children
    return found


def signal_if_caught(pid: int, number: int) -> bool:
    """Send a signal only to a process that has a handler for it: the default would end it."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines():
            name, _, mask = line.partition(":")
            if name == "SigCgt" and int(mask, 16) >> (number - 1) & 1:
                os.kill(pid, number)
                return True
    except (OSError, ValueError):
        pass  # it has ended
    return False


def raise_oom_score(pid: int, score: int) -> None:
    """Offer a process to the OOM killer (proc_pid_oom_score_adj(5)); raising needs no privilege."""
    path = Path(f"/proc/{pid}/oom_score_adj")
    try:
        if int(path.read_text("ascii")) < score:
            path.write_text(str(score), "ascii")
    except (OSError, ValueError):
        pass  # it has ended, or /proc is read-only: then the order of victims is the kernel's


def unwritten_map_bytes(pid: int, directory: str) -> int:
    """Bytes of private writable maps of files below `directory` that were not written to yet."""
    total = 0
    counts = False
    try:
        with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as file:
            for line in file:
                words = line.split(maxsplit=5)
                if not words[0].endswith(":"):  # the head of a map: addresses, rights, ..., path
                    counts = words[1].startswith("rw-p") and words[-1].startswith(f"{directory}/")
                elif counts and words[0] == "Size:":
                    total += int(words[1]) * 1024
                elif counts and words[0] == "Anonymous:":
                    total -= int(words[1]) * 1024
    except OSError:
        return 0  # it has ended
    return total


def file_map_bytes(pid: int, not_below: str) -> int:
    """Bytes of private writable maps of files that do not lie below a directory."""
    total = 0
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as file:
            for line in file:
                words = line.split(maxsplit=5)
                of_a_file = words[1].startswith("rw-p") and words[4] != "0"
                if of_a_file and not words[-1].startswith(f"{not_below}/"):
                    start, _, end = words[0].partition("-")
                    total += int(end, 16) - int(start, 16)
    except OSError:
        return 0  # it has ended
    return total


def cpu_s(pid: int) -> float:
    """Processor time that a process has used (proc_pid_stat(5)); 0 where it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return 0.0
    words = text.rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
