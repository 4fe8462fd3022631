"""What is not saved, or not back, in words: every name, by type and reason, and the way back.

For the notebook and the command line alike. Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Protocol

# The remedy where nothing better is known; where the cell is known, that says more.
AGAIN: Final = "run the cell that made it again"


class Missing(Protocol):
    """A variable that is not saved, or not back: `manifest.Skipped`, `session.NotRestored`."""

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

    @property
    def made_in(self) -> int | None:
        """Number of the cell that bound it last."""

    @property
    def made_by(self) -> str | None:
        """The line of that cell."""


def not_back(missing: Iterable[Missing], what: str = "not back") -> list[str]:
    """All that is missing, by type and reason, with how it was made and the way back."""
    lines = []
    for group in grouped(missing):
        first = group[0]
        made = [entry for entry in group if entry.made_in is not None]
        known = len(made) == len(group)
        remedy = None if known and first.remedy == AGAIN else first.remedy
        line = f"{what}: {listed(entry.name for entry in group)} ({first.type}): {first.reason}"
        line += f"; {remedy}" if remedy else ""
        if len(group) == 1 and known:
            lines.append(f"{line}; {_made(first)} - %checkpoint rebuild {first.name}")
            continue
        lines.append(line)
        if made:
            cells: dict[int, list[str]] = {}
            for entry in made:
                cells.setdefault(entry.made_in or 0, []).append(entry.name)
            where = [f"In[{number}] ({listed(cells[number])})" for number in sorted(cells)]
            lines.append(f"  made in {', '.join(where)} - %checkpoint rebuild NAME")
    return lines


def _made(entry: Missing) -> str:
    line = f": {entry.made_by}" if entry.made_by else ""
    return f"made in In[{entry.made_in}]{line}"


def listed(names: Iterable[str]) -> str:
    """All names, never "and 5 more"; variables before outputs, as people count."""
    return ", ".join(sorted(names, key=as_people_count))


def as_people_count(name: str) -> tuple[bool, list[tuple[int, str]]]:
    """For sorting: `x9` before `x10`, outputs last."""
    parts = [(int(p), "") if p.isdigit() else (-1, p) for p in re.split(r"(\d+)", name)]
    return name.startswith("Out["), parts


def grouped(missing: Iterable[Missing]) -> list[list[Missing]]:
    """Those of one type, reason and remedy together, in the order of the first of each."""
    groups: dict[tuple[str, str, str | None], list[Missing]] = {}
    for entry in missing:
        groups.setdefault((entry.type, entry.reason, entry.remedy), []).append(entry)
    by_name = groups.values()
    return [sorted(group, key=lambda entry: as_people_count(entry.name)) for group in by_name]
