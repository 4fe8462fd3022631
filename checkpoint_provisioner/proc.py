"""What /proc and the kernel log say about this machine and its processes. Reads only.

Formats: proc(5), and dev-kmsg of the kernel's documentation. What a cgroup says is `caps`'.
"""

from __future__ import annotations

import os
import re
import resource
import signal
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
class Limits:
    """Resource limits that end a process, and what it had used. None is no limit."""

    cpu_used_s: float
    cpu_soft_s: int | None  # at it SIGXCPU
    cpu_hard_s: int | None  # at it SIGKILL, also where both are the same: `ulimit -t`
    file_bytes: int | None


def limits(pid: int) -> Limits | None:
    """Of a process, also of one that has ended and is not reaped (getrlimit(2), proc(5))."""
    try:
        cpu_soft, cpu_hard = (_bounded(n) for n in resource.prlimit(pid, resource.RLIMIT_CPU))
        file_bytes = _bounded(resource.prlimit(pid, resource.RLIMIT_FSIZE)[0])
        used = _stat(pid)[11:13]
    except (OSError, IndexError):
        return None
    ticks = os.sysconf("SC_CLK_TCK")
    return Limits(sum(int(n) for n in used) / ticks, cpu_soft, cpu_hard, file_bytes)


def _bounded(limit: int) -> int | None:
    return None if limit == resource.RLIM_INFINITY else limit


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the third, the state, on."""
    return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()


def dying(pid: int) -> bool:
    """Whether a process has been killed or is ending, though it has not exited yet.

    SIGKILL is pending, or its memory is being given back: proc(5) then shows no Vm lines.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines()
    except OSError:
        return True
    fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    pending = int(fields.get("SigPnd", "0"), 16) | int(fields.get("ShdPnd", "0"), 16)
    return "VmSize" not in fields or bool(pending & 1 << (signal.SIGKILL - 1))


def lives_since(pid: int | None, time_s: float) -> bool:
    """Whether process `pid` runs and did so at `time_s` (since the epoch): pids are reused."""
    booted_s = field(Path("/proc/stat"), "btime")
    if pid is None or pid <= 0 or booted_s is None:
        return False
    try:
        stat = _stat(pid)
    except OSError:
        return False
    # `btime` is in whole seconds.
    began_s = booted_s + int(stat[19]) / os.sysconf("SC_CLK_TCK")
    return stat[0] not in ("Z", "X") and began_s <= time_s + 1


@dataclass(frozen=True)
class KernelLog:
    """The kernel log could be read; what it says of a process, if anything."""

    said: str | None


# namespaces(7): the number of the first pid namespace, PROC_PID_INIT_INO.
_FIRST_PID_NAMESPACE = 0xEFFFFFFC
_LOG_SLACK_S = 2.0  # the log's clock is not quite ours


def kernel_log(pid: int, since_s: float) -> KernelLog | None:
    """What the kernel log of the last `since_s` seconds says about the end of `pid`.

    That it was OOM-killed, or the fault that it did not handle. None where the log cannot be
    read, or numbers processes otherwise than we do (in a container).
    """
    try:
        if Path("/proc/self/ns/pid").stat().st_ino != _FIRST_PID_NAMESPACE:
            return None
        os.close(os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        return None
    about = re.compile(rf"Killed process {pid} |^(?:traps: )?\S+\[{pid}\]:? .* ip[ :]")
    oldest_us = (time.monotonic() - since_s - _LOG_SLACK_S) * 1e6
    found = [text for at_us, text in _log_records() if about.search(text) and at_us >= oldest_us]
    return KernelLog(found[-1] if found else None)


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
