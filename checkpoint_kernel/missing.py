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
        made = [entry for entry in group if entry.made_in is not None]
        rest = [entry for entry in group if entry.made_in is None]
        if rest:
            remedy = f"; {rest[0].remedy}" if rest[0].remedy else ""
            lines.append(f"{what}: {_names(rest)} {_why(rest[0])}{remedy}")
        if made:
            lines += _by_cell(made, what)
    return lines


def _by_cell(group: list[Missing], what: str) -> list[str]:
    """Of one group, where the cells are known; each name once."""
    first = group[0]
    why = _why(first) + (f"; {first.remedy}" if first.remedy and first.remedy != AGAIN else "")
    if len(group) == 1:
        return [f"{what}: {first.name} {why}; {_made(first)} - %checkpoint rebuild {first.name}"]
    cells: dict[int, list[Missing]] = {}
    for entry in group:
        cells.setdefault(entry.made_in or 0, []).append(entry)
    if len(cells) == 1:
        made = f"made in In[{first.made_in}] - %checkpoint rebuild NAME"
        return [f"{what}: {_names(group)} {why}; {made}"]
    where = ", ".join(f"In[{number}] ({_names(cells[number])})" for number in sorted(cells))
    return [
        f"{what}: {len(group)} names {why}",
        f"  made in {where} - %checkpoint rebuild NAME",
    ]


def _names(group: list[Missing]) -> str:
    return listed(entry.name for entry in group)


def _why(entry: Missing) -> str:
    return f"({entry.type}): {entry.reason}"


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
