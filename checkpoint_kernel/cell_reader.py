"""Reads what one cell does to the notebook's variables from its text: binds, changes, needs. Pure.

Read in the order of evaluation, so that `df = df.dropna()` needs a `df` and `x = 1; y = x` needs
no `x`. Judged by the text alone: what happens in a branch may not have happened.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import re
import types
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Final

from . import gates
from .cell_effects import Effects
from .code_names import functions_of, used_by
from .touched import RUNS_ITS_TEXT, code_of, tree_of, without_magics

# Functions that work on what they are given; as names, and as attributes of a module.
_IN_PLACE: Final = frozenset(
    {"next", "anext", "setattr", "delattr", "shuffle", "heappush", "heappop", "heapify",
     "heapreplace", "heappushpop", "insort", "insort_left", "insort_right", "fill_diagonal",
     "copyto", "putmask", "place", "put_along_axis"}
)  # fmt: skip
# Functions that go through all of an iterator.
_CONSUMING: Final = frozenset(
    {"all", "any", "dict", "enumerate", "filter", "frozenset", "list", "map", "max", "min", "set",
     "sorted", "sum", "tuple", "zip"}
)  # fmt: skip
_IN_BRACES: Final = re.compile(r"\{\s*([^\W\d]\w*)|\$\{?([^\W\d]\w*)")
_SHELL: Final = frozenset({"run_line_magic", "run_cell_magic", "system", "getoutput"})
_BUILTINS: Final = frozenset(dir(builtins))
_ENDS: Final = (ast.Raise, ast.Continue, ast.Break)


NOTHING: Final = Effects(is_python=False)


@lru_cache(maxsize=512)
def effects(source: str) -> Effects:
    """What a cell does, as typed or as IPython has transformed it."""
    try:
        tree = tree_of(source) or tree_of(without_magics(source))
        if tree is None:
            return NOTHING
        reader = _Reader()
        reader.cell(tree)
        return reader.found()
    except (RecursionError, MemoryError):  # too deep, or asked where memory has run out
        return NOTHING


def root_of(node: ast.AST) -> str | None:
    """`a` of `a`, `a.b` and `a[0].b`."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


class _Reader:
    """Walks a cell in the order of evaluation."""

    def __init__(self) -> None:
        self._bound: set[str] = set()  # for certain, so far
        self._scopes: list[set[str]] = []  # of classes and comprehensions around, innermost last
        self._in_class = False
        self._nested = False  # in a text within the text: lines are not the cell's
        self._sets: dict[str, set[str]] = {
            kind: set()
            for kind in (
                "binds", "definitions", "imports", "deletes", "stores", "consumes", "loads",
                "deferred", "called", "harmless",
            )
        }  # fmt: skip
        self._pairs: dict[str, set[tuple[str, str]]] = {
            kind: set() for kind in ("methods", "passed", "in_place", "setters", "holds", "same")
        }
        self._stars: list[str] = []
        self._magics: list[str] = []
        self._lines: dict[str, int] = {}

    def cell(self, tree: ast.Module) -> None:
        """Read a whole text."""
        code = code_of(tree)
        if code is not None:
            for function in functions_of(code):
                if function.co_flags & inspect.CO_OPTIMIZED:  # no body of a class
                    self._sets["deferred"] |= used_by(function).names
        self._all(tree.body)

    def body(self, statements: list[ast.stmt]) -> None:
        """Read a part of a text, as if it were a cell."""
        self._all(statements)

    def found(self) -> Effects:
        """What has been read."""
        sets = {kind: frozenset(names) for kind, names in self._sets.items()}
        sets["deferred"] -= _BUILTINS
        pairs = {kind: frozenset(found) for kind, found in self._pairs.items()}
        sets["certain"] = sets["binds"] & self._bound
        return Effects(
            **sets, **pairs, stars=tuple(self._stars),  # type: ignore[arg-type]
            magics=tuple(dict.fromkeys(self._magics)), lines=tuple(self._lines.items()),
        )  # fmt: skip

    # --- names ----------------------------------------------------------------------------

    def _is_local(self, name: str) -> bool:
        return any(name in scope for scope in self._scopes)

    def _load(self, name: str) -> None:
        if not self._is_local(name) and name not in self._bound and name not in _BUILTINS:
            self._sets["loads"].add(name)

    def _bind(self, name: str, node: ast.AST, kind: str | None = None) -> None:
        if self._scopes:
            self._scopes[-1].add(name)
            return
        self._bind_global(name, node)
        for special in ("definitions", "imports", "harmless"):
            self._sets[special].discard(name)
        if kind is not None:
            self._sets["definitions"].add(name)
        if kind == "import":
            self._sets["imports"].add(name)

    def _bind_global(self, name: str, node: ast.AST) -> None:
        self._bound.add(name)
        self._sets["binds"].add(name)
        self._sets["deletes"].discard(name)
        if not self._nested:
            self._lines[name] = getattr(node, "lineno", 1)

    def _change(self, node: ast.AST) -> None:
        name = root_of(node)
        if name is not None and not self._is_local(name):
            self._sets["stores"].add(name)

    # --- statements, expressions ----------------------------------------------------------

    def _all(self, nodes: Iterable[ast.AST | None]) -> None:
        for node in nodes:
            if node is not None:
                self._visit(node)

    def _visit(self, node: ast.AST) -> None:
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                self._load(name)
            case ast.Name(id=name, ctx=ast.Store()):
                self._bind(name, node)
            case ast.Name(id=name):
                self._delete(name)
            case ast.Attribute() | ast.Subscript():
                self._item(node)
            case ast.Assign(targets=targets, value=value):
                self._all([value, *targets])
                if not self._scopes:
                    self._hold(value, targets)
            case ast.AugAssign(target=target, value=value):
                if isinstance(target, ast.Name):
                    self._load(target.id)
                    self._change(target)
                    self._visit(value)
                else:
                    self._all([target, value])
            case ast.AnnAssign(target=target, annotation=annotation, value=value):
                self._visit(annotation)
                self._all([] if value is None else [value, target])
            case ast.NamedExpr(target=target, value=value):
                self._visit(value)
                if self._scopes and self._in_class:
                    self._scopes[0].add(target.id)
                else:  # also out of a comprehension
                    self._bind_global(target.id, node)
            case ast.Call():
                self._call(node)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                self._function(node)
            case ast.ClassDef():
                self._class(node)
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                self._comprehension(node)
            case ast.Import(names=aliases):
                for alias in aliases:
                    self._bind((alias.asname or alias.name).partition(".")[0], node, "import")
            case ast.ImportFrom(names=aliases):
                self._import_from(node, aliases)
            case ast.For() | ast.AsyncFor():
                self._consume(node.iter)
                self._all([node.iter, node.target, *node.body, *node.orelse])
            case ast.If():
                self._if(node)
            case ast.With() | ast.AsyncWith():
                for item in node.items:
                    self._all([item.context_expr, item.optional_vars])
                self._all(node.body)
            case ast.Try() | ast.TryStar():
                self._try(node)
            case ast.Match():
                self._match(node)
            case ast.YieldFrom(value=value):
                self._consume(value)
                self._visit(value)
            case _:
                self._all(ast.iter_child_nodes(node))

    def _hold(self, value: ast.expr, targets: list[ast.expr]) -> None:
        """Two variables for one object, and objects that keep what they are given."""
        match value:
            case ast.Name() | ast.Attribute() | ast.Subscript():
                kind, held = "same", {root_of(value)} - {None}
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name[:1].isupper():
                arguments = [*value.args, *(keyword.value for keyword in value.keywords)]
                kind, held = "holds", {name for one in arguments for name in _names_in(one)}
            case _:
                return
        for target in targets:
            holder = root_of(target)
            if holder is not None:
                self._pairs[kind] |= {(holder, str(name)) for name in held if name != holder}

    def _delete(self, name: str) -> None:
        if self._scopes:
            self._scopes[-1].discard(name)
            return
        self._load(name)
        self._bound.discard(name)
        self._sets["deletes"].add(name)

    def _item(self, node: ast.Attribute | ast.Subscript) -> None:
        if not isinstance(node.ctx, ast.Load):
            match node:  # globals()["x"] = 1
                case ast.Subscript(
                    value=ast.Call(func=ast.Name(id="globals"), args=[]),
                    slice=ast.Constant(value=str(name)),
                    ctx=ast.Store(),
                ):
                    self._bind_global(name, node)
                case _:
                    self._change(node)
        self._all(ast.iter_child_nodes(node))

    def _import_from(self, node: ast.ImportFrom, aliases: list[ast.alias]) -> None:
        for alias in aliases:
            if alias.name == "*":
                self._stars.append(node.module or "")
            else:
                self._bind(alias.asname or alias.name, node, "import")

    def _if(self, node: ast.If) -> None:
        self._visit(node.test)
        ends = [self._branch(node.body), self._branch(node.orelse)]
        match node.test:
            case ast.Compare(left=ast.Name(id="__name__"), ops=[ast.Eq()]):
                del ends[1]  # a notebook is always "__main__"
        self._join(ends)

    def _try(self, node: ast.Try | ast.TryStar) -> None:
        before = set(self._bound)
        ends = [self._branch([*node.body, *node.orelse])]
        for handler in node.handlers:
            self._bound = set(before)
            self._all([handler.type])
            if handler.name is not None:
                self._bound.add(handler.name)  # until the handler ends
            ends.append(self._branch(handler.body, without=handler.name))
        self._bound = before
        self._join(ends)
        self._all(node.finalbody)

    def _match(self, node: ast.Match) -> None:
        self._visit(node.subject)
        ends = []
        certain = False
        for case in node.cases:
            before = set(self._bound)
            self._pattern(case.pattern)
            self._all([case.guard])
            ends.append(self._branch(case.body))
            self._bound = before
            pattern = case.pattern
            certain |= isinstance(pattern, ast.MatchAs) and pattern.pattern is None
        self._join(ends if certain else [*ends, set(self._bound)])

    def _pattern(self, pattern: ast.AST) -> None:
        for node in ast.walk(pattern):
            match node:
                case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                    self._bind(name, node)
                case ast.MatchMapping(rest=str(name)):
                    self._bind(name, node)
                case ast.Name(id=name):
                    self._load(name)

    def _branch(self, body: list[ast.stmt], without: str | None = None) -> set[str] | None:
        """What is bound at the end of a branch, which may not be taken; None: it leaves."""
        before = set(self._bound)
        self._all(body)
        after, self._bound = self._bound, before
        after.discard(without or "")
        before.discard(without or "")
        return None if body and isinstance(body[-1], _ENDS) else after

    def _join(self, ends: list[set[str] | None]) -> None:
        reached = [end for end in ends if end is not None]
        if reached:
            self._bound |= set.intersection(*reached)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        arguments = node.args
        self._all([*arguments.defaults, *arguments.kw_defaults])
        if isinstance(node, ast.Lambda):
            return
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        every += [one for one in (arguments.vararg, arguments.kwarg) if one is not None]
        self._all([*node.decorator_list, *(one.annotation for one in every), node.returns])
        for inner in ast.walk(node):
            if isinstance(inner, ast.Global):
                self._pairs["setters"] |= {(node.name, name) for name in inner.names}
        self._bind(node.name, node, "def")
        if not self._scopes and not _changes_argument(node, [one.arg for one in every]):
            self._sets["harmless"].add(node.name)

    def _class(self, node: ast.ClassDef) -> None:
        self._all([*node.decorator_list, *node.bases, *(one.value for one in node.keywords)])
        with self._scope(set(), in_class=True):
            self._all(node.body)
        self._bind(node.name, node, "class")

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp
    ) -> None:
        first, *_ = node.generators
        self._consume(first.iter)
        self._visit(first.iter)
        with self._scope(set()):
            for each in node.generators:
                self._all([None if each is first else each.iter, each.target, *each.ifs])
            match node:
                case ast.DictComp(key=key, value=value):
                    self._all([key, value])
                case _:
                    self._visit(node.elt)

    @contextmanager
    def _scope(self, names: set[str], in_class: bool = False) -> Iterator[None]:
        before = self._in_class
        self._scopes.append(names)
        self._in_class |= in_class
        try:
            yield
        finally:
            self._scopes.pop()
            self._in_class = before

    # --- calls ----------------------------------------------------------------------------

    def _call(self, node: ast.Call) -> None:
        given = [root_of(one) for one in self._given(node)]
        names = [name for name in given if name is not None and not self._is_local(name)]
        match node.func:
            case ast.Attribute(attr=method, value=value) if method in _SHELL:
                if self._shell(node, method):
                    return
                self._visit(value)
            case ast.Name(id="exec"):
                for text, _ in gates.in_tree(ast.Expression(node)).texts:
                    self._inner(text)
            case ast.Attribute(attr=method, value=value):
                name = root_of(value)
                if name is not None and not self._is_local(name):
                    self._pairs["methods"].add((name, method))
                if method in _IN_PLACE:
                    self._pairs["in_place"] |= {(given, method) for given in names[:1]}
            case ast.Name(id=function) if function in _IN_PLACE:
                self._pairs["in_place"] |= {(given, function) for given in names[:1]}
            case ast.Name(id=function) if function in _CONSUMING:
                self._sets["consumes"].update(names)
            case ast.Name(id=function) if function not in _BUILTINS:
                self._sets["called"].add(function)
                self._pairs["passed"] |= {(given, function) for given in names}
        self._all(ast.iter_child_nodes(node))

    def _given(self, node: ast.Call) -> Iterator[ast.AST]:
        """Arguments that are variables, or parts of them."""
        for one in (*node.args, *(keyword.value for keyword in node.keywords)):
            inner = one.value if isinstance(one, ast.Starred) else one
            if isinstance(inner, ast.Name | ast.Attribute | ast.Subscript):
                yield inner

    def _consume(self, node: ast.AST) -> None:
        if isinstance(node, ast.Name) and not self._is_local(node.id):
            self._sets["consumes"].add(node.id)

    def _shell(self, node: ast.Call, method: str) -> bool:
        """A magic or a command of the system's, as IPython writes it."""
        found = gates.in_tree(ast.Expression(node)).texts
        if not found:
            return False
        magic = found[0][1] or ""
        if method in ("system", "getoutput"):
            self._magics.append("!")
        else:
            self._magics.append(f"{'%%' if method == 'run_cell_magic' else '%'}{magic}")
        texts = [text for text, _ in found]
        if magic == "capture" and method == "run_cell_magic":
            for word in texts.pop(0).split():
                if word.isidentifier():
                    self._bind_global(word, node)
        for text in texts:
            if magic == "timeit":  # binds nothing
                with self._scope(set()):
                    self._inner(text)
            elif magic in RUNS_ITS_TEXT and magic != "config":
                self._inner(text)
            else:
                for names in _IN_BRACES.findall(text):
                    self._load(names[0] or names[1])
        return True

    def _inner(self, text: str) -> None:
        """A text that is run within the cell."""
        tree = tree_of(text) or tree_of(without_magics(text))
        if tree is not None:
            before, self._nested = self._nested, True
            self.cell(tree)
            self._nested = before


def _changes_argument(node: ast.FunctionDef | ast.AsyncFunctionDef, names: list[str]) -> bool:
    """Whether a function may change what it is given, or what it has from that."""
    held = set(names)
    while True:
        more = {
            target.id
            for inner in ast.walk(node)
            for target in _targets_of(inner, held)
            if isinstance(target, ast.Name)
        }
        if more <= held:
            break
        held |= more
    reader = _Reader()
    reader.body(node.body)
    found = reader.found()
    return any(found.change(name) is not None for name in held)


def _targets_of(node: ast.AST, held: set[str]) -> Iterator[ast.AST]:
    """What is bound to something that one of the held variables is part of."""
    value: ast.AST | None = None
    targets: list[ast.AST | None] = []
    match node:
        case ast.Assign():
            value, targets = node.value, list(node.targets)
        case ast.AnnAssign() | ast.NamedExpr():
            value, targets = node.value, [node.target]
        case ast.For() | ast.AsyncFor() | ast.comprehension():
            value, targets = node.iter, [node.target]
        case ast.withitem():
            value, targets = node.context_expr, [node.optional_vars]
    if value is not None and held & _names_in(value):
        for target in targets:
            yield from () if target is None else ast.walk(target)


def _names_in(node: ast.AST) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def is_async(source: str) -> bool:
    """Whether a cell awaits something outside of its functions."""
    tree = tree_of(source)
    code: types.CodeType | None = None if tree is None else code_of(tree)
    return code is not None and bool(code.co_flags & inspect.CO_COROUTINE)
