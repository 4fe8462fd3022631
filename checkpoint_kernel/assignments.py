"""Which cell set a variable last, or added to it, by the texts of the cells. Pure.

Covers what stands in a cell itself: what functions do to globals, and magics, are not seen, nor
whether a cell got so far.
"""

from __future__ import annotations

import ast
import time
from collections.abc import Iterable, Iterator
from typing import Final

from .touched import tree_of

# Methods of lists, dicts, sets and deques that make them larger.
_ADDING: Final = frozenset(
    {"add", "append", "appendleft", "extend", "insert", "setdefault", "update"}
)
_SCOPES: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


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
    try:
        tree = tree_of(source)
        return set() if tree is None else set(_set_below(tree))
    except (RecursionError, MemoryError):  # too deep, or asked where memory has run out
        return set()


def _set_below(node: ast.AST) -> Iterator[str]:
    if isinstance(node, _SCOPES):
        if not isinstance(node, ast.Lambda):
            yield node.name
        return
    if isinstance(node, ast.Name | ast.Attribute | ast.Subscript) and isinstance(
        node.ctx, ast.Store
    ):
        yield from _base(node)
    elif isinstance(node, ast.alias):
        yield (node.asname or node.name).partition(".")[0]
    elif (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in _ADDING
    ):
        yield from _base(node.func.value)
    for child in ast.iter_child_nodes(node):
        yield from _set_below(child)


def _base(node: ast.AST) -> Iterator[str]:
    """`a` of `a`, `a.b` and `a[0].b`."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    if isinstance(node, ast.Name):
        yield node.id
