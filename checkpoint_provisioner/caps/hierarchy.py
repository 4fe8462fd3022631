"""Where this process stands in the cgroup hierarchies: /proc/self/cgroup and mountinfo.

Formats: cgroups(7) "/proc files" and proc_pid_mountinfo(5). Reads only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC_SELF = Path("/proc/self")


@dataclass(frozen=True)
class Place:
    """A process's own cgroup in one hierarchy, as far as this mount namespace shows it."""

    directory: Path  # our own group
    mount: Path  # the topmost group that we can see

    def upwards(self) -> Iterator[Path]:
        """Our own group, its parent, and so on up to the mount."""
        yield from between(self.directory, self.mount)


def between(directory: Path, mount: Path) -> Iterator[Path]:
    """`directory` and its parents up to `mount`, both included."""
    yield directory
    while directory != mount and directory != directory.parent:
        directory = directory.parent
        yield directory


def v1(controller: str, proc: Path = PROC_SELF) -> Place | None:
    """Our place in the v1 hierarchy of a controller, or None where there is none."""
    return _place(_own_path(proc, controller), _mounts(proc, "cgroup", controller))


def memory_v1(proc: Path = PROC_SELF) -> Place | None:
    """Our place in the v1 memory hierarchy, or None where there is none."""
    return v1("memory", proc)


def unified(proc: Path = PROC_SELF) -> Place | None:
    """Our place in the v2 hierarchy, or None. It may lack the memory controller (hybrid)."""
    return _place(_own_path(proc, ""), _mounts(proc, "cgroup2", None))


def controllers(directory: Path) -> list[str]:
    """The controllers that a v2 group has; empty where it cannot be read."""
    try:
        return (directory / "cgroup.controllers").read_text("ascii").split()
    except OSError:
        return []


def _own_path(proc: Path, controller: str) -> str | None:
    """The third field of the line for `controller` ("" is v2); None without one."""
    try:
        lines = (proc / "cgroup").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return None
    for line in lines:
        number, names, path = line.split(":", 2)
        if (controller in names.split(",")) if controller else (number == "0" and not names):
            return path.removesuffix(" (deleted)")
    return None


def _mounts(proc: Path, kind: str, controller: str | None) -> list[tuple[str, Path]]:
    """(root inside the hierarchy, mount point) of every mount of this hierarchy."""
    try:
        lines = (proc / "mountinfo").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        left, _, right = line.partition(" - ")
        fields, after = left.split(), right.split()
        if after[0] == kind and (controller is None or controller in after[-1].split(",")):
            found.append((unescape(fields[3]), Path(unescape(fields[4]))))
    return found


def unescape(text: str) -> str:
    """A path out of mountinfo, where spaces and a few more stand as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _place(path: str | None, mounts: list[tuple[str, Path]]) -> Place | None:
    """Resolve our path through the mount that shows it, preferring the one that shows most."""
    if path is None or path.startswith("/.."):  # outside the cgroup namespace
        return None
    for root, mount in sorted(mounts, key=lambda pair: len(pair[0])):
        if root.startswith("/.."):
            continue
        top = root.rstrip("/")
        if path == top or path.startswith(top + "/"):
            directory = Path(f"{mount}{path[len(top) :]}".rstrip("/") or "/")
            if directory.is_dir():
                return Place(directory, mount)
    return None
