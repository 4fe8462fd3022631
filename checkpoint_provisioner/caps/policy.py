"""Which limits a kernel gets: for each the best backend that can be shown to enforce, read back.

`prepare` before the kernel is forked, `enter` in the child, `counters` while it lives and
before `close`. Keeping the kernel alive under its cap is `guard`'s; `meter` is what it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from checkpoint_kernel.session import Cap, Limit, Session
from checkpoint_kernel.words import size

from . import backends, cgroup_v1, cgroup_v2, group, hierarchy, limits, meter, niceness
from .backends import Backend, Group
from .group import Counters

__all__ = ["CapHandle", "Counters", "prepare", "remove_stale"]


class CapHandle:
    """Limits in force, or the reasons why there are none; the same verbs for both."""

    def __init__(
        self,
        cap: Cap | None,
        made: Group | None = None,
        refused: tuple[str, ...] = (),
        others: Sequence[tuple[Limit, Group | None]] = (),
    ) -> None:
        self.cap = cap
        self.refused = refused  # better backends for memory, and why each could not be had
        self.limits = tuple(limit for limit, _ in others)
        self._group = made
        by_key = {limit.key: each for limit, each in others}
        self._pids = by_key.get("pids_limit")
        found = [each for each in (made, *by_key.values()) if each is not None]
        self._groups = list({each.directory: each for each in found}.values())
        self._last: Counters | None = None  # the reading before the groups were removed

    def enter(self) -> None:
        """Put the calling process under the limits: in the forked child, before exec.

        Raises OSError if that fails, though `prepare` has shown that it can be done: a
        kernel must not run without the limits that its record states.
        """
        for each in self._groups:
            group.enter(each.directory)
        for limit in self.limits:
            if limit.key == "nice":
                niceness.let_others_first(int(limit.configured))

    def counters(self) -> Counters:
        """A reading of our groups, or of what encloses us where we have none. Never raises.

        After `close` it is the last reading: the counters go with the group.
        """
        return self._last if self._last is not None else self._read()

    def pids(self) -> list[int]:
        """The processes under the limits; empty where there is no group."""
        return sorted({pid for each in self._groups for pid in group.pids(each.directory)})

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
        """SIGKILL every process under the limits; nothing where there is no group."""
        for each in self._groups:
            group.kill_all(each.directory)

    def close(self) -> str | None:
        """Remove the groups; again is harmless. Why one is still there, or None."""
        if not self._groups or self._last is not None:
            return None
        last = self._read()
        left = [why for each in self._groups if (why := each.close()) is not None]
        if not left:
            self._last = last
        return "; ".join(left) or None

    def _read(self) -> Counters:
        found = _enclosing() if self._group is None else self._group.counters()
        return found if self._pids is None else group.with_pids(found, self._pids.directory)


def _enclosing() -> Counters:
    place = hierarchy.unified()
    if place is not None and "memory" in hierarchy.controllers(place.mount):
        return cgroup_v2.outer_counters(place)
    place = hierarchy.memory_v1()
    return Counters() if place is None else cgroup_v1.outer_counters(place)


def prepare(
    memory_limit: str | None,
    soft_limit: str,
    name: str,
    cpu_limit: float | None = None,
    pids_limit: int | None = None,
    nice: int | None = None,
) -> CapHandle:
    """The best limits that can be had here for a kernel called `name`.

    Where nothing enforces one, its `enforced` is False and `detail` says why. Raises only
    ValueError, for limits that `config.parse` would have refused.
    """
    ways = backends.best_first(group.name_for(name), nice)
    cap, made, refused = _around_us(soft_limit), None, tuple[str, ...]()
    if memory_limit is not None:
        cap, made, refused = _memory(ways, memory_limit, soft_limit)
    others: list[tuple[Limit, Group | None]] = []
    if cpu_limit is not None:
        others.append(_cpu(ways, cpu_limit, nice))
    if pids_limit is not None:
        others.append(_pids(ways, pids_limit))
    if nice is not None:
        detail = f"niceness {nice} at least, for the kernel and its children"
        others.append((Limit("nice", nice, "setpriority", True, detail), None))
    return CapHandle(cap, made, refused, others)


def remove_stale(session: Session) -> list[str]:
    """Kill and remove what a kernel left whose supervisor was killed; what is still there."""
    stated = [session.cap, *session.limits]
    directories = {limit.cgroup for limit in stated if limit is not None and limit.cgroup}
    failed = []
    for directory in sorted(directories):
        if Path(directory).exists():
            group.kill_all(Path(directory), within_s=0.2)
            why = group.remove(Path(directory), within_s=0.2)
            failed += [why] if why else []
    return failed


# --- one limit each ---


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
        soft_share=min(limits.resolve(soft_limit, limit_bytes) / limit_bytes, 1.0),
    )


def _memory(
    ways: Iterable[Backend], memory_limit: str, soft_limit: str
) -> tuple[Cap, Group | None, tuple[str, ...]]:
    cap_bytes = limits.resolve(memory_limit, limits.available_bytes())
    limit_bytes, swap = cap_bytes, ""

    def stand(made: Group) -> None:
        nonlocal limit_bytes, swap
        limit_bytes, swap = made.limit(cap_bytes)

    backend, made, refused = backends.first(ways, "memory", stand)
    outer = {} if made is None else made.counters().outer_limits
    where = min(outer, key=lambda key: outer[key]) if outer else None
    smaller = where if where is not None and outer[where] < limit_bytes else None
    effective = outer[smaller] if smaller is not None else limit_bytes
    if made is None:
        detail = f"nothing enforces it: {'. '.join(refused)}"
    else:
        note = f"; {smaller} allows only {outer[smaller]} bytes" if smaller is not None else ""
        detail = (
            f"{limit_bytes} bytes for the kernel and its children, {swap}, "
            f"by {made.directory}{note}"
        )
    soft_bytes = limits.resolve(soft_limit, effective)
    cap = Cap(
        configured=memory_limit,
        cap_bytes=limit_bytes,
        # 100% turns the guard off, also where a smaller limit stands around ours.
        soft_bytes=soft_bytes if soft_bytes < effective else limit_bytes,
        backend=backend,
        enforced=made is not None,
        detail=detail,
        cgroup=None if made is None else str(made.directory),
        counted_in=None if made is None else str(made.directory),
        around=tuple((path, limit) for path, limit in outer.items() if Path(path).is_dir()),
        soft_share=min(soft_bytes / effective, 1.0),
    )
    return cap, made, refused


def _cpu(ways: Iterable[Backend], cores: float, nice: int | None) -> tuple[Limit, Group | None]:
    def stand(made: Group) -> None:
        made.limit_cpu(cores)
        if nice:
            made.weigh(nice)

    backend, made, refused = backends.first(ways, "cpu", stand)
    return _stated("cpu_limit", cores, f"{cores:g} cores", backend, made, refused)


def _pids(ways: Iterable[Backend], count: int) -> tuple[Limit, Group | None]:
    # No fallback: RLIMIT_NPROC counts all processes of the user, other kernels' too.
    backend, made, refused = backends.first(ways, "pids", lambda made: made.limit_pids(count))
    return _stated("pids_limit", count, f"{count} processes and threads", backend, made, refused)


def _stated(
    key: str, value: float, words: str, backend: str, made: Group | None, refused: tuple[str, ...]
) -> tuple[Limit, Group | None]:
    if made is None:
        return Limit(key, value, backend, False, f"nothing enforces it: {'. '.join(refused)}"), None
    detail = f"{words} for the kernel and its children, by {made.directory}"
    return Limit(key, value, backend, True, detail, str(made.directory)), made
