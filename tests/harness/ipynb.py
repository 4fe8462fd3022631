"""Reads the code cells of an .ipynb file. Running them is `notebook`'s."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cell:
    """A code cell: its id, its source, and its tags."""

    id: str
    source: str
    tags: tuple[str, ...]


def code_cells(path: Path) -> list[Cell]:
    """The code cells of a notebook, in order."""
    return [
        Cell(cell["id"], "".join(cell["source"]), tuple(cell["metadata"].get("tags", ())))
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        if cell["cell_type"] == "code"
    ]
