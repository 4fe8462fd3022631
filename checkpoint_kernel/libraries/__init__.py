"""Reducers for types of libraries whose own pickling fails, or brings back something else.

Each module knows some libraries, and registers its reducers by the names of their types: nothing
is imported before the user has. What `load_*` functions are called, and what they take, stands in
checkpoints: add, never rename.
"""

from __future__ import annotations

from . import (
    arrays,
    databases,
    drawing,
    images,
    learning,
    markup,
    others,
    parquet,
    refused,
    tables,
    torch_objects,
    widgets,
)

__all__ = [
    "arrays", "databases", "drawing", "images", "learning", "markup", "others", "parquet",
    "refused", "tables", "torch_objects", "widgets",
]  # fmt: skip
