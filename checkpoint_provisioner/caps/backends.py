"""The ways to limit a kernel, best first, each with a group that is made once and shared.

Which limits are wanted, and what is said about them, is `policy`'s; the verbs are the other
modules'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from . import cgroup_v1, cgroup_v2, group, hierarchy, systemd_scope
from .group import Counters, Refused


class Group(Protocol):
    """What a backend makes."""

    @property
    def directory(self) -> Path: ...
    def limit(self, cap_bytes: int) -> tuple[int, str]: ...
    def limit_cpu(self, cores: float) -> float: ...
    def limit_pids(self, count: int) -> int: ...
    def weigh(self, niceness: int) -> None: ...
    def need(self, controller: str) -> None: ...
    def counters(self) -> Counters: ...
    def close(self) -> str | None: ...


class Backend:
    """One way to limit. A group is made for the first limit and shared by the next ones."""

    def __init__(self, name: str, make: Callable[[str], Group], made: list[Group]) -> None:
        self.name = name
        self._make = make
        self._made = made  # shared with ways that use the same groups

    def limited(self, controller: str, stand: Callable[[Group], object]) -> Group:
        """A group with the limit standing on it and the door open, or Refused and no trace."""
        made = self._make(controller)
        new = made not in self._made
        try:
            stand(made)
            if new:
                group.probe(made.directory)
        except (OSError, Refused) as why:
            left = made.close() if new else None
            raise Refused(f"{why}{f' ({left})' if left else ''}") from why
        if new:
            self._made.append(made)
        return made


def first(
    ways: Iterable[Backend], controller: str, stand: Callable[[Group], object]
) -> tuple[str, Group | None, tuple[str, ...]]:
    """The first backend that limits, its group, and why the better ones do not."""
    refused: list[str] = []
    for backend in ways:
        try:
            return backend.name, backend.limited(controller, stand), tuple(refused)
        except Refused as why:
            refused.append(f"{backend.name}: {why}")
        except OSError as why:
            refused.append(f"{backend.name}: {why.filename}: {why.strerror}")
    return "none", None, tuple(refused)


def best_first(label: str, nice: int | None) -> tuple[Backend, ...]:
    """Best first. `nice`: weighs a scope against other units."""
    in_v1: list[Group] = []
    in_v2: list[Group] = []  # one at most: a process is in one group of v2
    scopes: list[hierarchy.Place] = []
    no_scope: list[Refused] = []

    def in_scope(controller: str) -> Group:
        if no_scope:  # it may have taken seconds to find out
            raise no_scope[0]
        if in_v2 and not scopes:
            raise Refused(f"the kernel will be in {in_v2[0].directory}")
        try:
            if not scopes:  # systemd moves us once
                scopes.append(systemd_scope.adopt(label, controller, nice))
        except systemd_scope.NotDelegated:
            raise
        except Refused as why:
            no_scope.append(why)
            raise
        return leaf(scopes[0], "kernel", controller)

    def in_cgroup_v2(controller: str) -> Group:
        if in_v2 and scopes:
            raise Refused(f"the kernel will be in {in_v2[0].directory}")
        return leaf(hierarchy.unified(), label, controller)

    def leaf(place: hierarchy.Place | None, name: str, controller: str) -> Group:
        if in_v2:
            in_v2[0].need(controller)
            return in_v2[0]
        return cgroup_v2.create(place, name, controller)

    def in_cgroup_v1(controller: str) -> Group:
        place = hierarchy.v1(controller)
        for each in in_v1:  # controllers that are mounted together
            if place is not None and each.directory == place.directory / label:
                return each
        return cgroup_v1.create(place, label, controller)

    return (
        Backend("systemd scope", in_scope, in_v2),
        Backend("cgroup v2", in_cgroup_v2, in_v2),
        Backend("cgroup v1", in_cgroup_v1, in_v1),
    )
