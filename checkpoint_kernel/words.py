"""How numbers are said to people, in the kernel and on the server alike. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol, TypeVar


class Missing(Protocol):
    """A variable that is not saved, or not back."""

    @property
    def name(self) -> str:
        """As the user calls it."""

    @property
    def type(self) -> str:
        """Of its value."""

    @property
    def reason(self) -> str:
        """Why it is missing."""

    @property
    def remedy(self) -> str | None:
        """What to do."""


_M = TypeVar("_M", bound=Missing)


def size(count_bytes: float) -> str:
    """`12.3 MB`; powers of 1024, as in the config."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if count_bytes < 1024:
            return f"{count_bytes:.0f} {unit}" if unit == "bytes" else f"{count_bytes:.1f} {unit}"
        count_bytes /= 1024
    return f"{count_bytes:.1f} TB"


def age(seconds: float) -> str:
    """`0.8 s`, `12 s`, `3 min`, `2 h`, `4 days`; never negative, clocks being what they are."""
    seconds = max(seconds, 0.0)
    if seconds < 10:
        return f"{seconds:.1f} s"
    for limit, unit, length in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86_400:.0f} days"


def listed(names: Iterable[str]) -> str:
    """All names, never "and 5 more"; variables before outputs, as people count."""
    return ", ".join(sorted(names, key=as_people_count))


def as_people_count(name: str) -> tuple[bool, list[tuple[int, str]]]:
    """For sorting: `x9` before `x10`, outputs last."""
    parts = [(int(p), "") if p.isdigit() else (-1, p) for p in re.split(r"(\d+)", name)]
    return name.startswith("Out["), parts


def grouped(missing: Iterable[_M]) -> list[list[_M]]:
    """Those of one type, reason and remedy together, in the order of the first of each."""
    groups: dict[tuple[str, str, str | None], list[_M]] = {}
    for entry in missing:
        groups.setdefault((entry.type, entry.reason, entry.remedy), []).append(entry)
    by_name = groups.values()
    return [sorted(group, key=lambda entry: as_people_count(entry.name)) for group in by_name]
