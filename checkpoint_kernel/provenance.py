"""Which cell made a variable, by the texts of the cells and by what was seen of them. Pure.

How a text is read is `cell_reader`'s; what is seen, `observed`'s; which cells would make the
variable again, `rebuild_plan`'s.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from .cell_effects import Effects
from .cell_reader import effects
from .flight_recorder import SOURCE_LIMIT
from .manifest import Skipped
from .session import NotRestored

_Entry = TypeVar("_Entry", Skipped, NotRestored)

_OUTPUT: Final = re.compile(r"(?:Out\[(\d+)\]|_(\d+))\Z")
_LINE_SHOWN: Final = 60  # characters


@dataclass(frozen=True)
class Cell:
    """A cell as it ran: In[number]."""

    number: int
    raw: str  # as typed
    parsed: str  # as IPython has transformed it
    failed: bool = False  # it raised an error
    killed: str | None = None  # when and of what the kernel died in it

    @property
    def effects(self) -> Effects:
        """What its text does."""
        return effects(self.parsed)


def cells_of(
    raw: Sequence[object],
    parsed: Sequence[object],
    failed: Collection[int] = (),
    killed: Mapping[str, str] | None = None,
) -> list[Cell]:
    """The cells of a history, oldest first; `killed`: by `text_of` the cell."""
    return [
        Cell(number, typed, ran, number in failed, (killed or {}).get(text_of(typed)))
        for number, (typed, ran) in enumerate(zip(raw, parsed, strict=False))
        if isinstance(typed, str) and isinstance(ran, str) and typed.strip()
    ]


def cells_of_shell(shell: Any) -> list[Cell]:
    """The cells of this kernel's history."""
    history = shell.history_manager
    return cells_of(list(history.input_hist_raw), list(history.input_hist_parsed))


def text_of(source: str) -> str:
    """A cell's text, as far as records of deaths hold it and without its ends."""
    return source.strip()[:SOURCE_LIMIT].strip()


# --- who made it ---------------------------------------------------------------------------


def made_in(
    entries: Iterable[_Entry],
    cells: Sequence[Cell],
    seen: Mapping[str, int],
    quoted: Collection[str],
    limit_s: float,
) -> list[_Entry]:
    """The entries with the cell that last made each, as far as `limit_s` goes.

    `cells`: oldest first. `seen`: name -> cell, as `observed`. `quoted`: names whose line may be
    shown; that of a secret may not. What is known already stays.
    """
    by_number = {cell.number: cell for cell in cells}
    wanted = list(entries)
    found = {entry.name: _seen_in(entry.name, seen) for entry in wanted if entry.made_in is None}
    found |= _last_bound({n for n, where in found.items() if where is None}, cells, limit_s)
    made = []
    for entry in wanted:
        number = found.get(entry.name)
        if number is None:
            made.append(entry)
            continue
        line = None
        if number in by_number and entry.name in quoted:
            line = line_that_made(entry.name, by_number[number])
        made.append(replace(entry, made_in=number, made_by=line))
    return made


def _seen_in(name: str, seen: Mapping[str, int]) -> int | None:
    output = output_number(name)
    return seen.get(name) if output is None or name in seen else output


def _last_bound(names: set[str], cells: Sequence[Cell], limit_s: float) -> dict[str, int | None]:
    wanted, found = set(names), dict[str, int | None]()
    until = time.monotonic() + limit_s
    for cell in reversed(cells):
        if not wanted or time.monotonic() > until:
            break
        if any(name in cell.parsed for name in wanted):
            here = wanted & cell.effects.binds
            found.update(dict.fromkeys(here, cell.number))
            wanted -= here
    return found


def line_that_made(name: str, cell: Cell) -> str | None:
    """The line of a cell that binds a name, cut to what can be read in a notice."""
    lines = cell.raw.splitlines()
    number = dict(cell.effects.lines).get(name)
    same_lines = len(lines) == len(cell.parsed.splitlines())
    if _OUTPUT.match(name):
        found = next((line for line in reversed(lines) if line.strip()), None)
    elif number is not None and same_lines and number <= len(lines):
        found = lines[number - 1]
    else:  # in the body of a magic, say
        word = re.compile(rf"\b{re.escape(name)}\b")
        found = next((line for line in lines if word.search(line)), None)
    if found is None:
        return None
    text = found.strip()
    return text if len(text) <= _LINE_SHOWN else f"{text[: _LINE_SHOWN - 3]}..."


def output_number(name: str) -> int | None:
    """3 for `Out[3]` and `_3`, None for a variable."""
    output = _OUTPUT.match(name)
    return None if output is None else int(output[1] or output[2])
