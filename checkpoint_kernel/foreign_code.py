"""Functions that were saved under another Python: compiled anew from their source, or refused.

Bytecode of another version crashes the interpreter, so no code object is ever made of it. Where
the text of the cell or file is known, the function's code is looked up in what that compiles to.
Covers code objects; what else one Python saves, another one reads.
"""

from __future__ import annotations
import __future__

import ast
import contextlib
import functools
import linecache
import platform
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

_FUTURES: Final = functools.reduce(
    int.__or__,
    (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names),
)
# Reductions of others that make code objects of bytes.
MAKERS: Final = frozenset(
    {("dill._dill", "_create_code"), ("types", "CodeType"), ("marshal", "loads")}
)


class OtherPython(Exception):
    """A function cannot be had under this Python."""


@dataclass(frozen=True)
class Unknown:
    """Stands for a code object that could not be compiled anew: a function of it is refused."""

    name: str
    why: str


@dataclass
class _Loading:
    """A unit that another Python has saved."""

    version: str
    unknown: dict[int, Unknown] = field(default_factory=dict)  # that nothing has taken up, by id
    anew: int = 0  # functions that were compiled


_loading: list[_Loading] = []  # units under way, the innermost last


@functools.cache  # it is asked for each unit
def is_foreign(version: str) -> bool:
    """Whether the bytecode of that Python is not this one's. None is known: it is our own."""
    ours = ".".join(platform.python_version_tuple()[:2])
    return bool(version) and ".".join(version.split(".")[:2]) != ours


@contextlib.contextmanager
def saved_under(version: str) -> Iterator[None]:
    """Around the loading of a unit. OtherPython if it holds code that cannot be had."""
    if not is_foreign(version):
        yield
        return
    now = _Loading(version)
    _loading.append(now)
    try:
        yield
    finally:
        _loading.pop()
    for unknown in now.unknown.values():  # code that is no function's, and no part of one's
        raise OtherPython(_refusal(unknown, version))


def active() -> bool:
    """Whether what is being loaded was saved under another Python."""
    return bool(_loading)


def refuse(what: str) -> None:
    """OtherPython for what makes code of bytes, if it is another Python's."""
    if _loading:
        raise OtherPython(_refusal(Unknown(what, "it holds bytecode"), _loading[-1].version))


def code_of(fields: tuple[Any, ...]) -> types.CodeType | Unknown:
    """The code object that `rebuild.new_code` was given the fields of, compiled by this Python."""
    now = _loading[-1]
    for constant in fields[7]:  # co_consts: whoever is looked up brings its own
        now.unknown.pop(id(constant), None)
    wanted = _Wanted.of(fields)
    found = _compiled(wanted)
    if isinstance(found, Unknown):
        now.unknown[id(found)] = found
    else:
        now.anew += 1
    return found


def function_code(code: types.CodeType | Unknown) -> types.CodeType:
    """The code of a function that is being made; OtherPython with the reason if there is none."""
    if not isinstance(code, Unknown):
        return code
    version = _loading[-1].version if _loading else "another version"
    raise OtherPython(_refusal(code, version))


def _refusal(code: Unknown, version: str) -> str:
    saved, ours = (".".join(v.split(".")[:2]) for v in (version, platform.python_version()))
    name = code.name.rpartition(".")[2]
    return (
        f"it was saved under Python {saved}, this is {ours}, and {name} could not be compiled "
        f"anew: {code.why}"
    )


@dataclass(frozen=True)
class _Wanted:
    """By what a function is told in the text that it was compiled from."""

    file: str
    name: str  # co_qualname
    first_line: int
    flags: int
    arguments: tuple[str, ...]
    counts: tuple[int, int, int]
    free: tuple[str, ...]

    @staticmethod
    def of(fields: tuple[Any, ...]) -> _Wanted:
        count, positional, keyword, flags = fields[0], fields[1], fields[2], fields[5]
        # `*args` and `**kwargs` stand behind the arguments.
        named = count + keyword + bool(flags & 0x04) + bool(flags & 0x08)
        return _Wanted(
            fields[10], fields[12], fields[13], flags & _FUTURES, tuple(fields[9][:named]),
            (count, positional, keyword), tuple(fields[16]),
        )  # fmt: skip

    def fits(self, code: types.CodeType) -> bool:
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)
        return (
            code.co_qualname == self.name
            and code.co_firstlineno == self.first_line
            and counts == self.counts
            and code.co_varnames[: len(self.arguments)] == self.arguments
            and code.co_freevars == self.free
        )


def _compiled(wanted: _Wanted) -> types.CodeType | Unknown:
    lines = linecache.getlines(wanted.file)
    if not lines:
        return Unknown(wanted.name, "its source is not known")
    try:
        whole = _compile("".join(lines), wanted.file, wanted.flags)
    except (SyntaxError, ValueError) as why:
        return Unknown(wanted.name, f"its source is not this Python's ({why})")
    fitting = [code for code in _all_codes(whole) if wanted.fits(code)]
    if not fitting:
        return Unknown(wanted.name, "its source is not what it was made of")
    if any(code != fitting[0] for code in fitting[1:]):
        return Unknown(wanted.name, f"line {wanted.first_line} of its source holds several")
    return fitting[0]


@functools.lru_cache(maxsize=16)
def _compile(source: str, file: str, futures: int) -> types.CodeType:
    # Cells may await at their top level.
    flags = futures | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code: types.CodeType = compile(source, file, "exec", flags, dont_inherit=True)
    return code


def _all_codes(code: types.CodeType) -> Iterator[types.CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield constant
            yield from _all_codes(constant)
