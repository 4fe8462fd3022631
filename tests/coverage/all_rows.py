"""All rows of the coverage table, and which of them share a kernel. Pure but for two look-ups.

The rows themselves stand in the files rows_*.py beside this one, each with a tuple ROWS.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import same_class
from row import Row

_HERE = Path(__file__).parent
_BATCH = 200  # rows in one kernel at most
# Libraries that are used together anyway, and small ones. A kernel costs seconds.
_TOGETHER = (
    ("numpy", "pandas", "scipy", "sklearn"),
    ("requests", "bs4", "lxml", "pydantic", "attrs", "jinja2", "tqdm", "shapely", "networkx",
     "sympy"),
)  # fmt: skip


@dataclass(frozen=True)
class Placed:
    """A row and the prefix of its names, which no other row has."""

    row: Row
    prefix: str

    @property
    def make(self) -> str:
        """The cell that makes it."""
        return _NAME.sub(self.prefix, self.row.make)

    @property
    def check(self) -> str:
        """The cell that looks whether it is back."""
        return _NAME.sub(self.prefix, self.row.check)


_NAME = re.compile(r"(?<!\w)NAME")


@functools.cache
def everything() -> tuple[Placed, ...]:
    """Every row there is, in the order of the files."""
    modules = [importlib.import_module(path.stem) for path in sorted(_HERE.glob("rows_*.py"))]
    rows = [row for module in modules for row in module.ROWS]
    twice = [title for title, number in Counter(row.title for row in rows).items() if number > 1]
    assert not twice, f"rows of the same title: {twice}"
    titles = {row.title for row in rows}
    unknown = [one for pair in same_class.OTHERWISE.items() for one in pair if one not in titles]
    assert not unknown, f"rows that are not there: {unknown}"
    return tuple(Placed(row, f"c{number:03d}") for number, row in enumerate(rows))


def missing(row: Row) -> tuple[str, ...]:
    """The modules that a row needs and that are not installed here."""
    return tuple(name for name in row.needs if not _is_installed(name.partition(".")[0]))


@functools.cache
def _is_installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def batches(rows: Iterable[Placed]) -> Iterator[list[Placed]]:
    """Rows that share a kernel: those of a library, or of several; what needs none together."""
    together: dict[tuple[str, ...], list[Placed]] = {}
    for placed in rows:
        row = placed.row
        if row.alone:
            yield [placed]
        else:
            shared = next((names for names in _TOGETHER if row.group in names), (row.group,))
            together.setdefault(shared if row.needs else (), []).append(placed)
    for batch in together.values():
        for start in range(0, len(batch), _BATCH):
            yield batch[start : start + _BATCH]
