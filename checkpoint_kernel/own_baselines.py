"""What importing a module gives, as far as its source tells: literals, and empty containers.

Pure: from a source and values to whether a name is as an import makes it. Where the source does
not tell (`START = time.time()`), the value at first sight is the measure: see `own_modules`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True)
class Literal:
    """`counter = 0`"""

    value: Any


@dataclass(frozen=True)
class Empty:
    """`cache = {}`, `seen = set()`"""


@dataclass(frozen=True)
class Imported:
    """`from config import DEBUG`: it belongs to the module of that name."""

    module: str
    name: str


@dataclass(frozen=True)
class Defined:
    """A function, a class or a module: code, and no state."""


@dataclass(frozen=True)
class Unknown:
    """An expression whose value only its run tells."""


Initial = Literal | Empty | Imported | Defined | Unknown

_CONTAINERS: Final = frozenset(
    {"list", "dict", "set", "bytearray", "deque", "OrderedDict", "Counter", "defaultdict"}
)


@dataclass(frozen=True)
class Source:
    """What the source of a module says of its names: `counter`, and of classes `Thing.count`."""

    names: dict[str, Initial]
    complete: bool  # no other name can come from it

    def of(self, name: str) -> Initial | None:
        """None: nothing in the source makes it, so the notebook has."""
        return self.names.get(name, None if self.complete else Unknown())


def read(source: str, package: str) -> Source:
    """Read a module's source; `package` is what relative imports start from. SyntaxError."""
    tree = ast.parse(source)
    names: dict[str, Initial] = {}
    _note(names, "", tree.body, package)
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            _note(names, f"{node.name}.", node.body, package)
    words = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    stars = (
        alias.name == "*"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    )
    made_up = words & {"globals", "exec", "vars", "setattr", "eval", "locals"}
    # `global x` in a function, which the module may call while it is imported.
    for inner in ast.walk(tree):
        if isinstance(inner, ast.Global):
            for name in inner.names:
                names.setdefault(name, Unknown())
    return Source(names, not made_up and not any(stars))


def _note(names: dict[str, Initial], above: str, body: Iterable[ast.stmt], package: str) -> None:
    for node in body:
        for name, initial in _made_by(node, package):
            # What is set twice is what the last one makes it, or whatever an `if` decides.
            names[above + name] = Unknown() if above + name in names else initial


def _made_by(node: ast.stmt, package: str) -> Iterator[tuple[str, Initial]]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name, Defined()
        case ast.Import(names=aliases):
            for alias in aliases:
                yield alias.asname or alias.name.partition(".")[0], Defined()
        case ast.ImportFrom(module=module, names=aliases, level=level):
            where = _absolute(module, level, package)
            for alias in aliases:
                yield alias.asname or alias.name, Imported(where, alias.name)
        case ast.Assign(targets=targets, value=value):
            initial = _initial(value) if all(isinstance(t, ast.Name) for t in targets) else None
            for name in _bound(targets):
                yield name, initial or Unknown()
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            yield name, _initial(value)
        case ast.AugAssign(target=ast.Name(id=name)):
            yield name, Unknown()
        case _:  # blocks: what is made in them depends
            for name in _bound([node]):
                yield name, Unknown()
            for inner in ast.walk(node):
                if isinstance(inner, ast.stmt) and inner is not node:
                    yield from ((name, Unknown()) for name, _ in _made_by_plain(inner, package))


def _made_by_plain(node: ast.stmt, package: str) -> Iterator[tuple[str, Initial]]:
    plain = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
    return _made_by(node, package) if isinstance(node, plain) else iter(())


def _bound(nodes: Iterable[ast.AST]) -> list[str]:
    """The names that are assigned anywhere in these nodes."""
    return [
        inner.id
        for node in nodes
        for inner in ast.walk(node)
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store)
    ]


def _absolute(module: str | None, level: int, package: str) -> str:
    if not level:
        return module or ""
    above = package.split(".")[: len(package.split(".")) - level + 1]
    return ".".join([*above, *([module] if module else [])])


def _initial(value: ast.expr) -> Initial:
    try:
        return Literal(ast.literal_eval(value))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        pass
    match value:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=args, keywords=[]):
            if name in _CONTAINERS and len(args) <= (name == "defaultdict"):
                return Empty()
    return Unknown()


def is_initial(value: Any, initial: Literal | Empty) -> bool:
    """Whether a value is what an import makes it."""
    if isinstance(initial, Literal):
        return _same(value, initial.value)
    return hasattr(value, "__len__") and len(value) == 0


def _same(one: Any, other: Any) -> bool:
    """Equal, and of equal types all the way down: `1 == True`."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict):
        return _same(list(one.items()), list(other.items()))
    return bool(one == other)
