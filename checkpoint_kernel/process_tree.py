"""Which processes a process has started: pids by /proc, however fast they come and go.

Raises nothing: what has ended while it was looked for is not there. What is known of each is the
caller's to read. Standard library only. Source: proc_pid_task_tid_children(5), proc_pid_stat(5).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

# A kernel may be built without (CONFIG_PROC_CHILDREN).
_LISTS_CHILDREN = Path("/proc/thread-self/children").exists()


def children(pid: int) -> list[int]:
    """Of all its threads, zombies too."""
    return _finder()(pid)


def descendants(pid: int) -> list[int]:
    """Children, their children and so on."""
    of = _finder()
    found: dict[int, None] = {}
    walk = of(pid)
    while walk:
        one = walk.pop()
        if one not in found:
            found[one] = None
            walk += of(one)
    return list(found)


def _finder() -> Callable[[int], list[int]]:
    if _LISTS_CHILDREN:
        return _listed
    parents = _parents()  # once for a whole walk
    return lambda pid: [child for child, parent in parents.items() if parent == pid]


def _listed(pid: int) -> list[int]:
    found: list[int] = []
    for thread in _names(f"/proc/{pid}/task"):
        text = _read(f"/proc/{pid}/task/{thread}/children")
        found += [int(word) for word in text.split()]
    return found


def _parents() -> dict[int, int]:
    """The parent of every process."""
    found = {}
    for name in _names("/proc"):
        if name.isdecimal():
            # The name is in parentheses and may hold any character.
            words = _read(f"/proc/{name}/stat").rpartition(b")")[2].split()
            if len(words) > 1:
                found[int(name)] = int(words[1])
    return found


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)  # noqa: PTH208 - numbers, no paths
    except OSError:
        return []


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:  # ENOENT, or ESRCH: it ended while it was read
        return b""
