"""Which cell set a variable last, or added to it, by the texts of the cells. Pure.

Covers what stands in a cell itself: what functions do to globals, and magics, are not seen, nor
whether a cell got so far. How a text is read is `cell_effects`'.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from .cell_reader import effects

# Methods of lists, dicts, sets and deques that make them larger.
_ADDING: Final = frozenset(
    {"add", "append", "appendleft", "extend", "insert", "setdefault", "update"}
)


def last_set(
    names: Iterable[str], cells: Iterable[tuple[int, str]], limit_s: float
) -> dict[str, int]:
    """The number of the newest cell that set or added to each name; `cells` are newest first."""
    wanted, found = set(names), dict[str, int]()
    until = time.monotonic() + limit_s
    for number, source in cells:
        if not wanted or time.monotonic() > until:
            break
        if any(name in source for name in wanted):
            here = wanted & set_in(source)
            found.update(dict.fromkeys(here, number))
            wanted -= here
    return found


def set_in(source: str) -> set[str]:
    """Names that a cell sets, or to whose values it adds; none where it is no Python."""
    found = effects(source)
    return {
        *found.binds, *found.stores, *(name for name, how in found.methods if how in _ADDING)
    }  # fmt: skip
