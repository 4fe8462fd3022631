"""Rows of classes, decorators and closures that a notebook defines."""

from __future__ import annotations

from row import Row

ROWS = (
    Row(
        "class with attributes",
        "notebook",
        "class NAME_C:\n    made = 1\n    def f(self): return self.x\nNAME = NAME_C(); NAME.x = 3",
        "assert isinstance(NAME, NAME_C) and NAME.f() == 3",
    ),
)  # fmt: skip
