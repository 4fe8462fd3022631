"""The verbs of cgroup v1: its memory, cpu and pids controllers, each a hierarchy of its own.

Our group lies below the process's own group there, so that no outer limit is left. Needs
root, or a directory that was handed over to the user. Sources: cgroup-v1/memory.rst,
scheduler/sched-bwc.rst, cgroup-v1/pids.rst.
"""

from __future__ import annotations

import resource
from pathlib import Path

from checkpoint_kernel import cgroup_memory

from . import group, hierarchy
from .group import Counters, Refused

_LIMIT = "memory.limit_in_bytes"
_LIMIT_WITH_SWAP = "memory.memsw.limit_in_bytes"
# PAGE_COUNTER_MAX, as v1 spells "no limit", is 2**63 less up to a page of 64 KB.
_NO_LIMIT = 2**62
_PERIOD_US = 100_000


class Group:
    """A group of ours in one hierarchy: made, limited, read, removed."""

    def __init__(self, directory: Path, mount: Path) -> None:
        self.directory = directory
        self._mount = mount

    def need(self, controller: str) -> None:
        """Have one more controller in the group: here those that are mounted with it, always."""

    def limit(self, cap_bytes: int) -> tuple[int, str]:
        """Set the limit; returns it as read back, and a clause about swap. Refused, OSError."""
        group.write(self.directory / _LIMIT, str(cap_bytes))
        limit_bytes = group.read_number(self.directory / _LIMIT)
        if limit_bytes is None or not group.stands(cap_bytes, limit_bytes):
            raise Refused(
                f"{self.directory / _LIMIT} took {cap_bytes} but reads back as {limit_bytes}"
            )
        return limit_bytes, self._forbid_swap(cap_bytes)

    def _forbid_swap(self, cap_bytes: int) -> str:
        # Memory and swap together may exceed the limit on memory by one page. With both
        # equal the sum is met first, and Linux 6.18 then counts in neither failcnt, which
        # is our evidence of whose limit it was.
        path = self.directory / _LIMIT_WITH_SWAP
        sum_bytes = cap_bytes + resource.getpagesize()
        if path.exists():
            group.write(path, str(sum_bytes))
            if group.stands(sum_bytes, group.read_number(path)):
                return "no swap"
        group.write(self.directory / "memory.swappiness", "0")
        return "swap is not accounted here, only discouraged"

    def limit_cpu(self, cores: float) -> float:
        """Limit the CPU time to so many cores; the limit as read back. Refused, OSError."""
        quota_us = round(cores * _PERIOD_US)
        path = self.directory / "cpu.cfs_quota_us"
        group.write(self.directory / "cpu.cfs_period_us", str(_PERIOD_US))
        group.write(path, str(quota_us))  # EINVAL: a group above allows less
        found = group.read_number(path)
        if found != quota_us:
            raise Refused(f"{path} took {quota_us} but reads back as {found}")
        return found / _PERIOD_US

    def weigh(self, niceness: int) -> None:
        """As nice(2), against other groups: inside of ours it says nothing to them. OSError."""
        group.write(self.directory / "cpu.shares", str(max(2, round(1024 / 1.25**niceness))))

    def limit_pids(self, count: int) -> int:
        """Limit processes and threads; the limit as read back. Refused, OSError."""
        return group.limit_pids(self.directory, count)

    def counters(self) -> Counters:
        """One reading. v1 has no `oom` of its own: see `Counters`."""
        return _counters(self.directory, self._mount)

    def close(self) -> str | None:
        """Remove the group; why it is still there, or None."""
        return group.remove(self.directory)


def create(place: hierarchy.Place | None, name: str, controller: str = "memory") -> Group:
    """Make a group below our own. Refused with the reason where that cannot be."""
    if place is None:
        raise Refused(f"no v1 {controller} controller is mounted")
    directory = place.directory / name
    try:
        group.sweep(place.directory)
        directory.mkdir()
    except OSError as why:
        raise Refused(f"{place.directory} is not ours to divide: {why.strerror}") from why
    return Group(directory, place.mount)


def enclosing_limits(place: hierarchy.Place | None = None) -> dict[str, int]:
    """Limits that stand on our own group or above: directory -> bytes."""
    place = place or hierarchy.memory_v1()
    return {} if place is None else _limits(place.directory, place.mount)


def outer_counters(place: hierarchy.Place) -> Counters:
    """The counters around a process that has no group of its own."""
    own = group.read_fields(place.directory / "memory.oom_control").get("oom_kill")
    return Counters(
        oom_kill=own,
        oom_ancestors=_failcnts(place.directory, place.mount),
        outer_limits=_limits(place.directory, place.mount),
    )


def _counters(directory: Path, mount: Path) -> Counters:
    counted = cgroup_memory.read(directory)
    return Counters(
        oom_kill=group.read_fields(directory / "memory.oom_control").get("oom_kill"),
        oom_ancestors=_failcnts(directory.parent, mount),
        usage_bytes=counted.usage_bytes if counted else None,
        nonreclaimable_bytes=counted.used_bytes if counted else None,
        peak_bytes=group.read_number(directory / "memory.max_usage_in_bytes"),
        limit_bytes=_limit_of(directory),
        failcnt=_failcnt(directory),
        outer_limits=_limits(directory.parent, mount),
    )


def _limit_of(directory: Path) -> int | None:
    limit_bytes = group.read_number(directory / _LIMIT)
    return None if limit_bytes is None or limit_bytes >= _NO_LIMIT else limit_bytes


def _limits(directory: Path, mount: Path) -> dict[str, int]:
    found = {
        str(parent): limit_bytes
        for parent in hierarchy.between(directory, mount)
        if (limit_bytes := _limit_of(parent)) is not None
    }
    # In a container the groups above the mount are out of sight, but their limit is told here.
    whole = group.read_fields(directory / "memory.stat").get("hierarchical_memory_limit")
    if whole is not None and whole < min([_NO_LIMIT, *found.values()]):
        found[f"above {mount}"] = whole
    return found


def _failcnts(directory: Path, mount: Path) -> dict[str, int]:
    return {
        str(parent): count
        for parent in hierarchy.between(directory, mount)
        if (count := _failcnt(parent)) is not None
    }


def _failcnt(directory: Path) -> int | None:
    """Of memory, and of memory and swap: with equal limits (docker) only the sum is met."""
    plain = group.read_number(directory / "memory.failcnt")
    with_swap = group.read_number(directory / "memory.memsw.failcnt")
    return None if plain is None else plain + (with_swap or 0)
