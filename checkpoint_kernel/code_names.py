"""Which globals and which strings a code object uses, read from its bytecode.

`co_names` mixes globals with attributes, and `co_consts` holds docstrings. Of a Python newer than
those tested, more is told than is used. Inner functions are looked at one by one.
"""

from __future__ import annotations

import dis
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_DECODES: Final = sys.version_info[:2] <= (3, 14)
# Instructions that name a variable of the notebook, and how far their argument is shifted.
_NAMING: Final = {
    dis.opmap[name]: int(name == "LOAD_GLOBAL")
    for name in (
        "LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME", "STORE_NAME", "DELETE_NAME",
        "LOAD_FROM_DICT_OR_GLOBALS",
    )
    if name in dis.opmap
}  # fmt: skip
_LOADING: Final = {dis.opmap.get(name) for name in ("LOAD_CONST", "RETURN_CONST")}
# Run at once, though they are functions (before 3.12).
_COMPREHENSIONS: Final = frozenset({"<listcomp>", "<setcomp>", "<dictcomp>"})


@dataclass(frozen=True)
class Used:
    """What one code object uses."""

    names: frozenset[str]  # that are no locals and no attributes
    strings: tuple[str, ...]  # but no docstring


def used_by(code: types.CodeType) -> Used:
    """Decode the instructions of one code object."""
    first = 0
    names = frozenset(code.co_names)
    if _DECODES:
        numbers: set[int] = set()
        argument = 0
        first = 1  # unless it is loaded, the first constant may be a docstring
        steps = code.co_code
        for operation, low in zip(steps[::2], steps[1::2], strict=True):
            argument |= low
            if (shift := _NAMING.get(operation)) is not None:
                numbers.add(argument >> shift)
            elif operation in _LOADING and argument == 0:
                first = 0
            argument = argument << 8 if operation == dis.EXTENDED_ARG else 0
        names = frozenset(code.co_names[number] for number in numbers)
    strings = tuple(text for text in code.co_consts[first:] if isinstance(text, str))
    return Used(names, strings)


def functions_of(cell: types.CodeType) -> Iterator[types.CodeType]:
    """The functions, methods and generators that a cell makes, and those inside them."""
    for constant in cell.co_consts:
        if isinstance(constant, types.CodeType):
            if constant.co_name in _COMPREHENSIONS:
                yield from functions_of(constant)
            else:
                yield from parts_of(constant)


def parts_of(code: types.CodeType) -> Iterator[types.CodeType]:
    """A code object and all those inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from parts_of(constant)
