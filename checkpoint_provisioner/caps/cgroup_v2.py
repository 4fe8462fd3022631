"""The verbs of cgroup v2: a leaf for the kernel, and one for ourselves where that is needed.

A group with processes in it cannot hand controllers down (EBUSY, "no internal processes",
cgroup-v2.rst). So the kernel's leaf is made
- in our own group, once the supervisor, if it is alone there, has moved into a leaf `sup`;
- else beside our own group, where somebody has handed the parent over to us.
Nobody else's process is ever moved, and no limit that stands on our own group is left.
"""

from __future__ import annotations

import os
from pathlib import Path

from checkpoint_kernel import cgroup_memory

from . import group, hierarchy
from .group import Counters, Refused

SUPERVISOR_LEAF = "sup"
_SUBTREE = "cgroup.subtree_control"
_PERIOD_US = 100_000


class Group:
    """The kernel's leaf: made, limited, read, removed."""

    def __init__(self, directory: Path, mount: Path, moved_from: Path | None = None) -> None:
        self.directory = directory
        self._mount = mount
        self._moved_from = moved_from  # if so, the parent is ours, and holds nobody else

    def need(self, controller: str) -> None:
        """Have one more controller in the leaf. Refused where the parent does not give it."""
        parent = self.directory.parent
        if _hands_down(parent, controller):
            return
        if controller not in hierarchy.controllers(parent):
            raise Refused(f"the {controller} controller is not delegated to {parent}")
        if self._moved_from is None:
            raise Refused(f"{parent} does not hand the {controller} controller down")
        group.write(parent / _SUBTREE, f"+{controller}")

    def limit(self, cap_bytes: int) -> tuple[int, str]:
        """Set the limit; returns it as read back, and a clause about swap. Refused, OSError."""
        path = self.directory / "memory.max"
        group.write(path, str(cap_bytes))
        limit_bytes = group.read_number(path)
        if limit_bytes is None or not group.stands(cap_bytes, limit_bytes):
            raise Refused(f"{path} took {cap_bytes} but reads back as {limit_bytes or 'max'}")
        swap = self.directory / "memory.swap.max"
        if not swap.exists():  # a kernel without swap accounting
            return limit_bytes, "swap is not accounted here"
        group.write(swap, "0")
        return limit_bytes, "no swap"

    def limit_cpu(self, cores: float) -> float:
        """Limit the CPU time to so many cores; the limit as read back. Refused, OSError."""
        path = self.directory / "cpu.max"
        asked = f"{round(cores * _PERIOD_US)} {_PERIOD_US}"
        group.write(path, asked)
        found = path.read_text("ascii").strip()
        if found != asked:
            raise Refused(f"{path} took {asked!r} but reads back as {found!r}")
        return round(cores * _PERIOD_US) / _PERIOD_US

    def weigh(self, niceness: int) -> None:
        """As nice(2), against other groups: inside of ours it says nothing to them. OSError."""
        group.write(self.directory / "cpu.weight.nice", str(niceness))

    def limit_pids(self, count: int) -> int:
        """Limit processes and threads; the limit as read back. Refused, OSError."""
        return group.limit_pids(self.directory, count)

    def counters(self) -> Counters:
        """One reading; peak needs Linux 5.19."""
        events = group.read_fields(self.directory / "memory.events")
        local = group.read_fields(self.directory / "memory.events.local")
        counted = cgroup_memory.read(self.directory)
        return Counters(
            oom_kill=events.get("oom_kill"),
            oom_local=local.get("oom"),
            oom_ancestors=_ooms(self.directory.parent, self._mount),
            usage_bytes=counted.usage_bytes if counted else None,
            nonreclaimable_bytes=counted.used_bytes if counted else None,
            peak_bytes=group.read_number(self.directory / "memory.peak"),
            limit_bytes=group.read_number(self.directory / "memory.max"),
            failcnt=local.get("max"),
            outer_limits=_limits(self.directory.parent, self._mount),
        )

    def close(self) -> str | None:
        """Remove the leaf and undo our own move; why the leaf is still there, or None."""
        why = group.remove(self.directory)
        if why is None and self._moved_from is not None:
            _move_back(self._moved_from)
            self._moved_from = None
        return why


def create(place: hierarchy.Place | None, name: str, controller: str = "memory") -> Group:
    """Make a leaf with this controller. Refused with the reason where that cannot be."""
    if place is None:
        raise Refused("no cgroup v2 hierarchy is mounted")
    own = place.directory
    if controller not in hierarchy.controllers(place.mount):
        raise Refused(f"{place.mount} has no {controller} controller")
    if own.name == SUPERVISOR_LEAF:  # where an earlier call has put us
        return _beside(place, name, controller)
    try:
        return _inside(place, name, controller)
    except Refused as why:
        try:
            return _beside(place, name, controller)
        except Refused as also:
            raise Refused(f"{why}; {also}") from why


def enclosing_limits(place: hierarchy.Place | None = None) -> dict[str, int]:
    """Limits that stand on our own group or above: directory -> bytes."""
    place = place or hierarchy.unified()
    return {} if place is None else _limits(place.directory, place.mount)


def outer_counters(place: hierarchy.Place) -> Counters:
    """The counters around a process that has no group of its own."""
    return Counters(
        oom_kill=group.read_fields(place.directory / "memory.events").get("oom_kill"),
        oom_ancestors=_ooms(place.directory, place.mount),
        outer_limits=_limits(place.directory, place.mount),
    )


def _inside(place: hierarchy.Place, name: str, controller: str) -> Group:
    own = place.directory
    if controller not in hierarchy.controllers(own):
        raise Refused(f"the {controller} controller is not delegated to {own}")
    moved = False
    try:
        if not _hands_down(own, controller):
            moved = _leave_alone(own)
            group.write(own / _SUBTREE, f"+{controller}")
        group.sweep(own)
        directory = own / name
        directory.mkdir()
    except OSError as why:
        if moved:
            _move_back(own)
        raise Refused(f"{own} is not ours to divide: {why.strerror}") from why
    return Group(directory, place.mount, moved_from=own if moved else None)


def _leave_alone(own: Path) -> bool:
    """Move this process into a leaf if it is alone in `own`. True if it moved.

    The root of the hierarchy may hand controllers down with processes in it, and has no
    cgroup.type; a container's root looks like it and may not.
    """
    if not (own / "cgroup.type").exists():
        return False
    others = [pid for pid in _own_pids(own) if pid != os.getpid()]
    if others:
        shown = ", ".join(_described(pid) for pid in others[:3])
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        raise Refused(f"{own} holds other processes ({shown}{more}), which are not ours to move")
    leaf = own / SUPERVISOR_LEAF
    leaf.mkdir(exist_ok=True)
    group.write(leaf / group.PROCS, str(os.getpid()))
    return True


def _move_back(own: Path) -> None:
    """Undo `_leave_alone` as far as the kernel lets us; a leaf left behind harms nobody."""
    try:
        handed_down = (own / _SUBTREE).read_text("ascii").split()
        group.write(own / _SUBTREE, " ".join(f"-{controller}" for controller in handed_down))
        group.write(own / group.PROCS, str(os.getpid()))
        (own / SUPERVISOR_LEAF).rmdir()
    except OSError:
        return


def _beside(place: hierarchy.Place, name: str, controller: str) -> Group:
    own = place.directory
    parent = own.parent
    if own == place.mount:
        raise Refused("nothing above it is in sight")
    if not _hands_down(parent, controller):
        raise Refused(f"{parent} does not hand the {controller} controller down")
    for limit in (memory_limit(own), cpu_limit(own), pids_limit(own)):
        if limit is not None:
            raise Refused(f"a group beside {own} would escape the limit of {limit} on it")
    try:
        group.sweep(parent)
        directory = parent / name
        directory.mkdir()
    except OSError as why:
        raise Refused(f"{parent} is not ours to divide: {why.strerror}") from why
    return Group(directory, place.mount)


def memory_limit(directory: Path) -> str | None:
    """The limit on memory that stands on a group, in words; None without one."""
    limit_bytes = group.read_number(directory / "memory.max")
    return None if limit_bytes is None else f"{limit_bytes} bytes"


def cpu_limit(directory: Path) -> str | None:
    """The limit on CPU time that stands on a group, in words; None without one."""
    try:
        quota_us, period_us = (directory / "cpu.max").read_text("ascii").split()
    except (OSError, ValueError):
        return None
    return None if quota_us == "max" else f"{int(quota_us) / int(period_us):g} cores"


def pids_limit(directory: Path) -> str | None:
    """The limit on processes that stands on a group, in words; None without one."""
    count = group.read_number(directory / "pids.max")
    return None if count is None else f"{count} processes"


def _hands_down(directory: Path, controller: str) -> bool:
    try:
        return controller in (directory / _SUBTREE).read_text("ascii").split()
    except OSError:
        return False


def _own_pids(directory: Path) -> list[int]:
    return [int(line) for line in (directory / group.PROCS).read_text("ascii").split()]


def _described(pid: int) -> str:
    try:
        return f"{pid} {Path(f'/proc/{pid}/comm').read_text().strip()}"
    except OSError:
        return str(pid)


def _limits(directory: Path, mount: Path) -> dict[str, int]:
    return {
        str(parent): limit_bytes
        for parent in hierarchy.between(directory, mount)
        if (limit_bytes := group.read_number(parent / "memory.max")) is not None
    }


def _ooms(directory: Path, mount: Path) -> dict[str, int]:
    return {
        str(parent): events["oom"]
        for parent in hierarchy.between(directory, mount)
        if "oom" in (events := group.read_fields(parent / "memory.events.local"))
    }
