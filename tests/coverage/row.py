"""A row of the coverage table: how to make an object, and how to see that it came back right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Row:
    """Source texts that run as cells of a real kernel, before and after its death.

    Names that a row binds begin with `NAME`, which stands in the texts and is replaced by a
    prefix of the row's own: hundreds of rows share one kernel. `make` binds at least `NAME`
    itself. `check` holds assertions about what came back; it uses the object, and does not only
    look at it.
    """

    title: str  # "collections.deque", as the table names it; unique
    group: str  # "stdlib", "pandas", ...
    make: str
    check: str
    needs: tuple[str, ...] = ()  # modules that have to be importable
    # back: `check` passes. named: it is not back, and status and notice say why.
    expect: Literal["back", "named"] = "back"
    why_not: str = ""  # of a row that is expected to be named: a part of the reason given
    alone: bool = False  # it changes what other rows see, and gets a kernel to itself
