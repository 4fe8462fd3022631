"""Which variables a cell may have touched, judged by its text alone.

Code reaches a variable by its name or through a reference. References are counted in
`closed`; names are read here. Every word of a text counts, those inside strings too, so that
`exec("rows.clear()")`, `df.query("x > @limit")` and the body of `%%time` hide nothing. What can
make a name up, or runs code that nobody has shown us, touches everything.

    names      words of the text: touched when the cell runs
    later      words inside functions, lambdas and generators: touched at any time from then on,
               because a thread, a callback or a signal handler may call them
    blind      why words cannot tell (None: they can); `lasting` if that holds from then on

Not seen: a library that looks into `__main__` by itself for a name that stands in no text.
"""

from __future__ import annotations

import ast
import dis
import re
import types
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

_WORD: Final = re.compile(r"[^\W\d]\w*")
_MAGIC: Final = re.compile(r"^\s*(?:[\w, ]+=\s*)?%%?(\w+)", re.MULTILINE)
_NO_PYTHON: Final = re.compile(r"^\s*(?:[\w, ]+=\s*)?[%!].*$|^.*\?\s*$", re.MULTILINE)
_PARSE: Final = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT

# What leads to variables without naming them: as a name (or a module), and as an attribute.
_GATE_NAMES: Final = frozenset(
    {"globals", "locals", "vars", "exec", "eval", "compile", "__import__", "__builtins__",
     "__main__", "__dict__", "builtins", "get_ipython", "ctypes", "cffi", "gc", "inspect", "runpy",
     "dill", "pdb", "debugpy", "breakpoint", "set_trace", "doctest", "unittest", "import_module"}
)  # fmt: skip
_GATE_ATTRIBUTES: Final = frozenset(
    {"__dict__", "__globals__", "__builtins__", "__main__", "__array_interface__", "f_globals",
     "f_locals", "f_back", "_getframe", "_current_frames", "currentframe", "user_ns",
     "user_global_ns", "user_module", "run_cell", "run_line_magic", "run_cell_magic",
     "get_objects", "get_referrers", "get_referents", "set_trace", "import_module"}
)  # fmt: skip
# Magics that run the text which follows them, and magics that run nothing of Python's.
_RUNS_ITS_TEXT: Final = frozenset({"time", "timeit", "prun", "capture", "memit", "mprun", "lprun"})
_RUNS_NO_PYTHON: Final = frozenset(
    {"matplotlib", "config", "precision", "who", "whos", "who_ls", "pwd", "cd", "ls", "ll", "cat",
     "mkdir", "rmdir", "cp", "mv", "rm", "man", "pip", "conda", "mamba", "uv", "system", "sx", "sc",
     "bash", "sh", "script", "html", "HTML", "javascript", "js", "latex", "markdown", "svg",
     "writefile", "file", "env", "set_env", "history", "hist", "notebook", "lsmagic", "quickref",
     "psource", "pinfo", "pinfo2", "pfile", "pdoc", "pdef", "psearch", "colors", "xmode", "pprint",
     "checkpoint"}
)  # fmt: skip
_LATER: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.GeneratorExp, ast.ClassDef)


@dataclass(frozen=True)
class Touched:
    """What some texts may touch. Sums with `|`."""

    names: frozenset[str] = frozenset()
    later: frozenset[str] = frozenset()
    blind: str | None = None
    lasting: bool = False

    def __or__(self, other: Touched) -> Touched:
        return Touched(
            self.names | other.names,
            self.later | other.later,
            self.blind or other.blind,
            self.lasting or other.lasting,
        )

    def afterwards(self) -> Touched:
        """What stays touched when the cells are over."""
        return Touched(self.later, self.later, self.blind if self.lasting else None, self.lasting)


NOTHING: Final = Touched()


@lru_cache(maxsize=64)
def by_text(source: str) -> Touched:
    """What one cell, as the user typed it, may touch."""
    names = _words(source)
    try:
        return _by_tree(names, _tree(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return _with_magics(source, names)


def by_code(codes: Iterable[types.CodeType]) -> Touched:
    """What functions with these code objects may touch whenever they are called."""
    words: set[str] = set()
    gate: str | None = None
    for code in codes:
        for part in _parts_of(code):
            words.update(part.co_names)
            for constant in part.co_consts:
                if isinstance(constant, str):
                    words.update(_words(constant))
            gate = gate or _gate_in_code(part)
    names = frozenset(words)
    return Touched(names, names, _blind(gate), gate is not None)


def _blind(gate: str | None) -> str | None:
    return None if gate is None else f"{gate!r} reaches variables without their names"


def _with_magics(source: str, names: frozenset[str]) -> Touched:
    """A cell that is not Python as it stands: its Python, and what its magics may run."""
    unseen = sorted(set(_MAGIC.findall(source)) - _RUNS_ITS_TEXT - _RUNS_NO_PYTHON)
    if unseen:
        return Touched(names, names, f"%{unseen[0]} may run code that is not in the cell", True)
    if source.lstrip().startswith("%%") and _MAGIC.findall(source)[0] in _RUNS_NO_PYTHON:
        return Touched(names, names)
    touched = NOTHING
    for line in _NO_PYTHON.findall(source):
        # !echo {rows.pop()} is Python too.
        if "{" in line or "$" in line or not _RUNS_ITS_TEXT.isdisjoint(_MAGIC.findall(line)):
            words = _words(line)
            gates = words & _GATE_NAMES
            touched |= Touched(words, words, _blind(min(gates, default=None)), bool(gates))
    try:
        return touched | _by_tree(names, _tree(_NO_PYTHON.sub("", source)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Touched(names, names, "a cell that is not Python may be a magic", True)


def _tree(source: str) -> ast.AST:
    tree: ast.AST = compile(source, "", "exec", _PARSE, dont_inherit=True)
    return tree


def _by_tree(names: frozenset[str], tree: ast.AST) -> Touched:
    now: list[ast.AST] = []
    later: list[ast.AST] = []
    outside = [tree]
    while outside:
        node = outside.pop()
        now.append(node)
        for child in ast.iter_child_nodes(node):
            if isinstance(child, _LATER):
                later += ast.walk(child)
            else:
                outside.append(child)
    words = frozenset(word for node in later for word in _words_in(node))
    lasting = _gate_in(later)
    if lasting is None and any(map(_binds_unseen, now)):
        return Touched(names, words, "`import *` binds names that it does not show")
    return Touched(names, words, _blind(lasting or _gate_in(now)), lasting is not None)


def _binds_unseen(node: ast.AST) -> bool:
    return isinstance(node, ast.ImportFrom) and node.names[0].name == "*"


def _gate_in(nodes: Iterable[ast.AST]) -> str | None:
    """The first way to unnamed variables, or None."""
    for node in nodes:
        match node:
            case ast.Name(id=name) if name in _GATE_NAMES:
                return name
            case ast.Attribute(attr=name) if name in _GATE_ATTRIBUTES:
                return name
            case ast.Attribute(value=ast.Name(id="sys" | "_sys"), attr="modules"):
                return "sys.modules"
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                imported = {part for alias in aliases for part in alias.name.split(".")}
                if isinstance(node, ast.ImportFrom):
                    imported.update((node.module or "").split("."))
                renamed = any(alias.name == "sys" and alias.asname for alias in aliases)
                if renamed or {"modules", "sys"} <= imported:
                    return "sys.modules"
                if gates := imported & (_GATE_NAMES | _GATE_ATTRIBUTES):
                    return min(gates)
    return None


def _gate_in_code(code: types.CodeType) -> str | None:
    """As `_gate_in`, for a function that came without its text."""
    suspects = (_GATE_NAMES | _GATE_ATTRIBUTES).intersection(code.co_names)
    if "modules" in code.co_names and "sys" in code.co_names:
        return "sys.modules"
    if not suspects:
        return None
    for instruction in dis.get_instructions(code):
        name = instruction.argval
        if name in suspects and (
            name in _GATE_ATTRIBUTES
            or "GLOBAL" in instruction.opname
            or "NAME" in instruction.opname
        ):
            return str(name)
    return None


def _words(text: str) -> frozenset[str]:
    # Python compares identifiers in this normal form (its reference, section 2.3).
    return frozenset(_WORD.findall(text if text.isascii() else unicodedata.normalize("NFKC", text)))


def _words_in(node: ast.AST) -> Iterable[str]:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return (name,)
        case ast.Constant(value=str(text)):
            return _words(text)
        case ast.Global(names=names):
            return names
        case ast.alias(name=name, asname=asname):
            return (*_words(name), *(() if asname is None else (asname,)))
    return ()


def _parts_of(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _parts_of(constant)
