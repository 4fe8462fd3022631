"""How rows of a library are written down: what they import, and texts without their indentation."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any

from row import Row


@dataclass(frozen=True)
class Library:
    """Makes rows that need a library. `imports` are lines that every cell of a row begins with."""

    group: str
    imports: str
    needs: tuple[str, ...] = ()

    def __call__(self, title: str, make: str, check: str, *needs: str, **how: Any) -> Row:
        """A row; `needs` are modules besides the library."""
        return Row(
            f"{self.group}: {title}",
            self.group,
            f"{self.imports}\n{_outdented(make)}",
            f"{self.imports}\n{_outdented(check)}",
            (*(self.needs or (self.group,)), *needs),
            **how,
        )


def _outdented(text: str) -> str:
    return textwrap.dedent(text).strip("\n")
