"""What the guard asks of Linux about a kernel and its children, and does to them. No policy.

Standard library only. What is used under a limit is `caps.meter`'s to read.
"""

from __future__ import annotations

import os
from pathlib import Path


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


def raise_oom_score(pid: int, above_pid: int, by: int) -> None:
    """Have the OOM killer take a process before another (proc_pid_oom_score_adj(5)).

    Raising needs no privilege. Nothing is lowered.
    """
    path = Path(f"/proc/{pid}/oom_score_adj")
    try:
        score = int(Path(f"/proc/{above_pid}/oom_score_adj").read_text("ascii")) + by
        if int(path.read_text("ascii")) < min(score, 1000):
            path.write_text(str(min(score, 1000)), "ascii")
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
