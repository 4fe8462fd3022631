"""Random namespaces, saved and loaded: the same values, and the same objects shared."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from notebook_namespace import Notebook

pytestmark = pytest.mark.unit

NAMES = [f"v{number}" for number in range(8)]
name = st.sampled_from(NAMES)

PROLOGUE = """
import numpy as np

class Node:
    def __init__(self): self.links = []

def counter(start):
    def increase():
        nonlocal start
        start += 1
        return start
    return increase
"""

# Each cell names one or two variables; what does not fit (a list that is a number) fails in
# Python and changes nothing, as a user's cell would.
CELLS = [
    "{a} = 1.5",
    "{a} = [1, 'x', None]",
    "{a} = {{'k': {b}}}",
    "{a} = ({b}, {b})",
    "{a} = {b}",
    "{a} = Node()",
    "{a}.links.append({b})",
    "{a}.append({b})",
    "{a}['more'] = {b}",
    "{a} = counter(3)",
    "{a}()",
    "{a} = {b}.__closure__[0]",
    "{a} = {b}.links",
    "{a} = {b}.links.append",
    "{a} = np.arange(30.0)",
    "{a} = np.arange(20_000.0)",
    "{a} = {b}[::2]",
    "{a} = {b}[3:9]",
    "{a} = {b}.reshape(2, -1)",
    "{a}[1] = 7",
    "{a} = {{1, 2}}",
    "{a} = lambda: {b}",
    "{a} = lambda x={b}: x",
    "{a} = type('Made', (), {{'held': {b}}})",
    "{a} = {b}.held",
    "{a} = {b}()",
    "{a} = np.full(2, None); {a}[0] = {b}",
    "del {a}",
]
cell = st.tuples(st.sampled_from(CELLS), name, name).map(lambda c: c[0].format(a=c[1], b=c[2]))


def is_constant(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(is_constant(v) for v in value)
    return value is None or isinstance(value, int | float | str | np.generic)


def shape(variables: dict[str, Any]) -> dict[str, Any]:
    """A namespace as nested plain data, in which an object's second mention is its number."""
    numbers: dict[int, int] = {}
    keep: list[Any] = []

    def seen(value: Any) -> int | None:
        if id(value) in numbers:
            return numbers[id(value)]
        numbers[id(value)] = len(numbers)
        keep.append(value)
        return None

    def walk(value: Any) -> Any:
        if is_constant(value):
            return (type(value).__name__, value)  # its identity is not kept
        if (number := seen(value)) is not None:
            return f"object {number}"
        if isinstance(value, list | tuple):
            return (type(value).__name__, [walk(v) for v in value])
        if isinstance(value, dict):
            return {k: walk(v) for k, v in value.items()}
        if isinstance(value, set):
            return ("set", sorted(value))
        if isinstance(value, np.ndarray):
            values = [walk(v) for v in value.ravel()] if value.dtype == object else value.tolist()
            strides = value.strides if value.size else None
            return ("array", value.shape, strides, value.flags.writeable, values)
        if isinstance(value, type):
            held = {k: v for k, v in vars(value).items() if k == "held"}
            return ("class", value.__name__, walk(held))
        if type(value).__name__ == "cell":
            return ("cell", walk(value.cell_contents))
        if type(value).__name__ == "function":
            cells = [walk(c.cell_contents) for c in value.__closure__ or ()]
            return ("function", value.__qualname__, cells, walk(list(value.__defaults__ or ())))
        if type(value).__name__ == "builtin_function_or_method":
            return ("method", value.__name__, walk(value.__self__))
        return (type(value).__name__, walk(type(value)), walk(vars(value)))

    return {n: walk(variables[n]) for n in sorted(variables) if n in NAMES}


def shared_memory(variables: dict[str, Any]) -> set[tuple[str, str]]:
    arrays = {n: v for n, v in variables.items() if isinstance(v, np.ndarray)}
    return {
        (a, b)
        for a, b in itertools.combinations(sorted(arrays), 2)
        if np.shares_memory(arrays[a], arrays[b])
    }


@settings(max_examples=150, deadline=None)
@given(cells=st.lists(cell, max_size=25))
def test_a_restored_namespace_has_the_same_shape(cells: list[str]) -> None:
    notebook = Notebook()
    notebook.run(PROLOGUE)
    for text in cells:
        try:
            notebook.run(text)
        except Exception:
            continue
    partition = notebook.partition()
    assert not partition.skipped
    again = notebook.reborn().reborn()
    assert shape(again.variables) == shape(notebook.variables)
    assert shared_memory(again.variables) == shared_memory(notebook.variables)
