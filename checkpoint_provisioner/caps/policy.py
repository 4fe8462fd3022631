"""Which cap a kernel gets: the best backend that can be shown to enforce, read back.

`prepare` before the kernel is forked, `enter` in the child, `counters` while it lives and
before `close`. Keeping the kernel alive under its cap is `guard`'s; `meter` is what it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from checkpoint_kernel.session import Cap
from checkpoint_kernel.words import size

from . import cgroup_v1, cgroup_v2, group, hierarchy, limits, meter, systemd_scope
from .group import Counters, Refused

__all__ = ["CapHandle", "Counters", "prepare"]


class _Group(Protocol):
    """What a backend makes."""

    @property
    def directory(self) -> Path: ...
    def limit(self, cap_bytes: int) -> tuple[int, str]: ...
    def counters(self) -> Counters: ...
    def close(self) -> str | None: ...


class CapHandle:
    """A cap in force, or the reason why there is none; the same verbs for both."""

    def __init__(
        self, cap: Cap | None, made: _Group | None = None, refused: tuple[str, ...] = ()
    ) -> None:
        self.cap = cap
        self.refused = refused  # the better backends, and why each could not be had
        self._group = made
        self._last: Counters | None = None  # the reading before the group was removed

    def enter(self) -> None:
        """Put the calling process under the cap: in the forked child, before exec.

        Raises OSError if that fails, though `prepare` has shown that it can be done: a
        kernel must not run without the cap that its record states.
        """
        if self._group is not None:
            group.enter(self._group.directory)

    def counters(self) -> Counters:
        """A reading of our group, or of what encloses us where we have none. Never raises.

        After `close` it is the last reading: the counters go with the group.
        """
        if self._last is not None:
            return self._last
        if self._group is not None:
            return self._group.counters()
        place = hierarchy.unified()
        if place is not None and "memory" in hierarchy.controllers(place.mount):
            return cgroup_v2.outer_counters(place)
        place = hierarchy.memory_v1()
        return Counters() if place is None else cgroup_v1.outer_counters(place)

    def pids(self) -> list[int]:
        """The processes under the cap; empty where there is no group."""
        return [] if self._group is None else group.pids(self._group.directory)

    def meter(self, processes: Callable[[], Iterable[int]]) -> meter.Meter | None:
        """What reads the memory used under the cap and every limit around it; None: no limit.

        `processes`: the kernel and its children, for where there is no group.
        """
        if self.cap is None:
            return None
        levels = [
            meter.Level(limit_bytes, meter.of_group(Path(directory)), own=False)
            for directory, limit_bytes in limits.enclosing().items()
            if Path(directory).is_dir()  # not one that is out of sight
        ]
        if self._group is not None:
            read = meter.of_group(self._group.directory)
            levels.append(meter.Level(self.cap.cap_bytes, read, own=True))
        elif self.cap.backend == "none":
            read = meter.of_processes(processes)
            levels.append(meter.Level(self.cap.cap_bytes, read, own=True))
        return meter.Meter(levels)

    def kill_all(self) -> None:
        """SIGKILL every process under the cap; nothing where there is no group."""
        if self._group is not None:
            group.kill_all(self._group.directory)

    def close(self) -> str | None:
        """Remove the group; again is harmless. Why it is still there, or None."""
        if self._group is None or self._last is not None:
            return None
        last = self._group.counters()
        why = self._group.close()
        if why is None:
            self._last = last
        return why


def prepare(memory_limit: str | None, soft_limit: str, name: str) -> CapHandle:
    """The best cap that can be had here for a kernel called `name`.

    Where nothing enforces, `cap.enforced` is False and `cap.detail` says why. Raises only
    ValueError, for limits that `config.parse` would have refused.
    """
    if memory_limit is None:
        return CapHandle(_around_us(soft_limit))
    cap_bytes = limits.resolve(memory_limit, limits.available_bytes())
    label = group.name_for(name)
    reasons = []
    for backend, create in _BACKENDS:
        try:
            made, limit_bytes, swap = _make(create, label, cap_bytes)
        except Refused as why:
            reasons.append(f"{backend}: {why}")
            continue
        outer = made.counters().outer_limits
        where = min(outer, key=lambda key: outer[key]) if outer else None
        smaller = where if where is not None and outer[where] < limit_bytes else None
        note = f"; {smaller} allows only {outer[smaller]} bytes" if smaller is not None else ""
        effective = outer[smaller] if smaller is not None else limit_bytes
        soft_bytes = limits.resolve(soft_limit, effective)
        return CapHandle(
            Cap(
                configured=memory_limit,
                cap_bytes=limit_bytes,
                # 100% turns the guard off, also where a smaller limit stands around ours.
                soft_bytes=soft_bytes if soft_bytes < effective else limit_bytes,
                backend=backend,
                enforced=True,
                detail=f"{limit_bytes} bytes for the kernel and its children, {swap}, "
                f"by {made.directory}{note}",
                cgroup=str(made.directory),
                counted_in=str(made.directory),
            ),
            made,
            tuple(reasons),
        )
    return CapHandle(
        Cap(
            configured=memory_limit,
            cap_bytes=cap_bytes,
            soft_bytes=min(limits.resolve(soft_limit, cap_bytes), cap_bytes),
            backend="none",
            enforced=False,
            detail=f"nothing enforces it: {'. '.join(reasons)}",
        ),
        refused=tuple(reasons),
    )


def _around_us(soft_limit: str) -> Cap | None:
    """The limit of a container or slice, which holds for a kernel without one of its own."""
    found = limits.enclosing()
    where = min(found, key=lambda key: found[key], default=None)
    if where is None or found[where] >= limits.memory_total():
        return None
    limit_bytes = found[where]
    return Cap(
        configured=size(limit_bytes),
        cap_bytes=limit_bytes,
        soft_bytes=min(limits.resolve(soft_limit, limit_bytes), limit_bytes),
        backend="container",
        enforced=True,
        detail=f"{limit_bytes} bytes for everything in {where}, where the server runs too",
        counted_in=where if Path(where).is_dir() else None,
    )


def _make(create: Callable[[str], _Group], label: str, cap_bytes: int) -> tuple[_Group, int, str]:
    """A group with the limit standing on it and the door open, or Refused and no trace."""
    made = create(label)
    try:
        limit_bytes, swap = made.limit(cap_bytes)
        group.probe(made.directory)
    except (OSError, Refused) as why:
        left = made.close()
        raise Refused(f"{why}{f' ({left})' if left else ''}") from why
    return made, limit_bytes, swap


def _in_systemd_scope(label: str) -> _Group:
    return cgroup_v2.create(systemd_scope.adopt(label), "kernel")


def _in_cgroup_v2(label: str) -> _Group:
    return cgroup_v2.create(hierarchy.unified(), label)


def _in_cgroup_v1(label: str) -> _Group:
    return cgroup_v1.create(hierarchy.memory_v1(), label)


_BACKENDS: tuple[tuple[str, Callable[[str], _Group]], ...] = (
    ("systemd scope", _in_systemd_scope),
    ("cgroup v2", _in_cgroup_v2),
    ("cgroup v1", _in_cgroup_v1),
)
