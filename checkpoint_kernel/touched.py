"""Which variables a cell may have touched, judged by its text alone.

Code reaches a variable by its name or through a reference. References are counted in
`closed`; names are read here. Every word of a text counts, those inside strings too, so that
`exec("rows.clear()")`, `df.query("x > @limit")` and the body of `%%time` hide nothing. What can
make a name up, or runs code that nobody has shown us (`gates`), touches everything.

    names      words of the text: touched when the cell runs
    later      globals of functions, lambdas and generators: touched at any time from then on,
               because a thread, a callback or a signal handler may call them
    blind      why words cannot tell (None: they can); `lasting` if that holds from then on

Not seen: a library that looks into `__main__` by itself for a name that stands in no text.
"""

from __future__ import annotations

import ast
import contextlib
import itertools
import re
import types
import unicodedata
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, cast

from IPython.core.inputtransformer2 import TransformerManager

from . import gates
from .code_names import functions_of, parts_of, used_by

_WORD: Final = re.compile(r"[^\W\d]\w*")
# Letters of names that are none to a regular expression: `℘` and `·` are (Python's reference,
# section 2.3: Other_ID_Start, Other_ID_Continue).
_NAME: Final = re.compile(r"(?:[^\W\d]|[^\x00-\x7f])(?:\w|[^\x00-\x7f])*")
_FILE: Final = "<checkpoint_kernel.touched>"
_NO_WARNINGS: Final = ("ignore", None, Warning, re.compile(re.escape(_FILE)), 0)
_PARSE: Final = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT

# Magics by what they run: the text that follows them, nothing of Python's, or code that is not in
# the cell but over with it. All others may do anything.
RUNS_ITS_TEXT: Final = frozenset(
    {"time", "timeit", "prun", "capture", "memit", "mprun", "lprun", "config"}
)
_RUNS_NO_PYTHON: Final = frozenset(
    {"matplotlib", "precision", "who", "who_ls", "pwd", "cd", "ls", "ll", "lf", "lk", "ldir", "cat",
     "mkdir", "rmdir", "cp", "mv", "rm", "man", "more", "less", "clear", "pip", "conda", "mamba",
     "micromamba", "uv", "system", "sx", "sc", "bash", "sh", "script", "perl", "ruby", "python",
     "python2", "python3", "pypy", "html", "HTML", "SVG", "javascript", "js", "latex", "markdown",
     "svg", "writefile", "file", "env", "set_env", "history", "hist", "notebook", "lsmagic",
     "magic", "quickref", "psource", "pinfo", "pinfo2", "pfile", "pdoc", "pdef", "psearch",
     "colors", "xmode", "pprint", "page", "load", "loadpy", "save", "pushd", "popd", "dirs",
     "dhist", "bookmark", "connect_info", "autosave", "killbgscripts", "gui", "autoreload",
     "aimport", "tensorboard", "checkpoint"}
)  # fmt: skip
_OVER_WITH_THE_CELL: Final = frozenset(
    {"whos", "reset", "reset_selective", "xdel", "store", "pylab", "run"}
)
# Extensions that bring magics of the kinds above and nothing else.
_EXTENSIONS: Final = frozenset({"autoreload", "tensorboard", "line_profiler", "memory_profiler"})
# With these, the script sees the namespace, or somebody at a prompt does.
_SEES_NAMESPACE: Final = re.compile(r"(?:^|\s)-\w*[id]")
# Typed alone they are magics, and run what is typed next.
_PROMPTS: Final = frozenset({"debug", "pdb"})


@dataclass(frozen=True)
class Touched:
    """What some texts may touch. Sums with `|`."""

    names: frozenset[str] = frozenset()
    later: frozenset[str] = frozenset()
    blind: str | None = None
    lasting: bool = False

    def __or__(self, other: Touched) -> Touched:
        # The reason that lasts is the one to tell.
        first, second = (other, self) if other.lasting and not self.lasting else (self, other)
        return Touched(
            self.names | other.names,
            self.later | other.later,
            first.blind or second.blind,
            self.lasting or other.lasting,
        )

    def afterwards(self) -> Touched:
        """What stays touched when the cells are over."""
        return Touched(self.later, self.later, self.blind if self.lasting else None, self.lasting)


NOTHING: Final = Touched()


@lru_cache(maxsize=64)
def by_text(source: str) -> Touched:
    """What one cell, as the user typed it, may touch."""
    if source.strip() in _PROMPTS:
        return Touched(blind=f"%{source.strip()} runs what is typed next", lasting=True)
    touched = _by_python(source) or _by_python(without_magics(source))
    if touched is not None:
        return touched | Touched(_words(source))
    if "\n" not in source.strip():  # magics need no % when they stand alone
        first, _, rest = source.strip().partition(" ")
        if first in _RUNS_NO_PYTHON | RUNS_ITS_TEXT | _OVER_WITH_THE_CELL:
            return _by_magic(first, rest) | Touched(_words(source))
    names = _words(source)
    return Touched(names, names, "a cell that is not Python may be a magic", True)


@lru_cache(maxsize=64)
def by_python(source: str) -> Touched:
    """What a cell may touch of which this is all that is run: IPython's transformed cell."""
    return _by_python(source) or NOTHING


def by_words(text: str) -> Touched:
    """What a text may touch that a debugger's prompt may run, or that is completed, or looked up.

    Most are no Python: an answer to `input()`, half a line.
    """
    names = _words(text)
    gate = min(names & gates.NAMES, default=None)
    return Touched(names, frozenset(), _blind(gate), gate is not None)


def by_code(codes: Iterable[types.CodeType]) -> Touched:
    """What functions with these code objects may touch whenever they are called."""
    words: set[str] = set()
    gate: str | None = None
    for code in codes:
        for part in parts_of(code):
            words |= _names_in(part)
            gate = gate or gates.in_code(part)
    names = frozenset(words)
    return Touched(names, names, _blind(gate), gate is not None)


def _blind(gate: str | None) -> str | None:
    return None if gate is None else f"{gate!r} reaches variables without their names"


def _compiled(source: str | ast.Module, flags: int) -> Any:
    """What `compile` makes of it. The user has been warned of what is odd in it."""
    # Not catch_warnings: it makes Python show again what it has shown once. Our filter is put
    # before the others and used in one breath, without a bytecode in between: another thread that
    # does use catch_warnings puts a list of its own into `warnings` at any moment.
    filters, in_force = itertools.tee(map(getattr, (warnings,), ("filters",)))
    silence = map(list.insert, filters, (0,), (_NO_WARNINGS,))
    compiling = map(compile, (source,), (_FILE,), ("exec",), (flags,), (True,))
    try:
        *_, compiled = itertools.chain(silence, compiling)
        return compiled
    finally:
        with contextlib.suppress(ValueError):  # another thread was quicker: resetwarnings()
            next(in_force).remove(_NO_WARNINGS)


def tree_of(source: str) -> ast.Module | None:
    """The syntax of a text, with no warning shown; None if it is not Python.

    RecursionError and MemoryError tell nothing: they may come of where we are called, and the
    text may have run elsewhere.
    """
    try:
        return cast(ast.Module, _compiled(source, _PARSE))
    except (SyntaxError, ValueError):
        return None


def code_of(tree: ast.Module) -> types.CodeType | None:
    """What Python makes of a cell's syntax; None where it is refused only there."""
    try:
        return cast(types.CodeType, _compiled(tree, ast.PyCF_ALLOW_TOP_LEVEL_AWAIT))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def without_magics(source: str) -> str:
    """The cell as Python: magics become calls of the shell."""
    try:
        return str(TransformerManager().transform_cell(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return source


def _by_python(source: str) -> Touched | None:
    """None if it is not Python."""
    tree = tree_of(source)
    if tree is None:
        return None
    names, escapes = _words(source), "\\" in source or not source.isascii()
    # A text shows all of its names but those behind escapes in strings, with letters that a regular
    # expression does not know, and of classes (`__x` in a class A is `_A__x`).
    shown = set(names)
    if escapes:
        shown.update(*map(_words_in, ast.walk(tree)))
    found = gates.in_tree(tree) if gates.may_be_in(shown) else gates.Found()
    later = {name for name, value in found.keys if value}
    cell = code_of(tree)
    if cell is not None:
        later.update(*map(_names_in, functions_of(cell)))
    else:  # not as a whole, but it is run statement by statement
        later.update(*map(_words_in, ast.walk(tree)))
    shown |= later
    blind, lasting = _blind(found.lasting or found.once), found.lasting is not None
    touched = Touched(frozenset(shown), frozenset(later), blind, lasting)
    for text, magic in found.texts:
        if magic is not None:
            touched |= _by_magic(magic, text)
        else:  # what exec() runs may define functions that nobody sees
            inner = by_text(text)
            touched |= Touched(inner.names, inner.names, inner.blind, inner.lasting)
    return touched


def _by_magic(magic: str, text: str) -> Touched:
    """What a magic may touch of which `text` is the line, or the body."""
    if magic in ("load_ext", "reload_ext") and text.strip() in _EXTENSIONS:
        return NOTHING
    if magic in RUNS_ITS_TEXT and tree_of(text) is not None:
        return by_text(text)
    if magic in RUNS_ITS_TEXT and "\n" in text.strip():
        return by_text(text)  # magics inside
    if magic in _RUNS_NO_PYTHON or magic in RUNS_ITS_TEXT:
        # !echo {rows.pop()} is Python too; so is what follows the options of %timeit.
        if magic in RUNS_ITS_TEXT or "{" in text:
            words = _words(text)
            gate = min(words & (gates.NAMES | gates.ATTRIBUTES), default=None)
            return Touched(words, words, _blind(gate), gate is not None)
        return NOTHING
    if magic in _OVER_WITH_THE_CELL:
        sees = magic == "run" and _SEES_NAMESPACE.search(text) is not None
        return Touched(blind=f"%{magic} touches more than it names", lasting=sees)
    return Touched(blind=f"%{magic} may run code that is not in the cell", lasting=True)


def _words(text: str) -> frozenset[str]:
    if text.isascii():
        return frozenset(_WORD.findall(text))
    # Python compares identifiers in this normal form (its reference, section 2.3).
    text = unicodedata.normalize("NFKC", text)
    return frozenset(_WORD.findall(text)) | frozenset(_NAME.findall(text))


def _words_in(node: ast.AST) -> Iterable[str]:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return (name,)
        case ast.Constant(value=str(text)):
            return _words(text)
        case ast.Constant(value=bytes(raw)):
            return _words(raw.decode("utf-8", "replace"))
        case ast.Global(names=names):
            return names
        case ast.alias(name=name, asname=asname):
            return (*_words(name), *(() if asname is None else (asname,)))
    return ()


def _names_in(code: types.CodeType) -> frozenset[str]:
    used = used_by(code)
    return used.names.union(*map(_words_of_code, used.strings))


@lru_cache(maxsize=1024)
def _words_of_code(text: str) -> frozenset[str]:
    """The words of a string that could change something if it were run: it calls, or is pandas'.

    Who runs it? pandas.eval, cProfile.run and numexpr look names up by themselves.
    """
    if "@" in text:
        return _words(text)
    try:
        tree = tree_of(text) if "(" in text else None
    except (RecursionError, MemoryError):
        return _words(text)
    calls = tree is not None and any(isinstance(node, ast.Call) for node in ast.walk(tree))
    return _words(text) if calls else frozenset()
