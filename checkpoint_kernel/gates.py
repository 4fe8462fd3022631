"""Ways to reach a variable without its name in the text: which a syntax tree, or a code, uses.

A gate that only opens while its cell runs and leaves nothing behind (`globals()[key] = 1`) counts
for that cell. Every other one is lasting: whatever has come through it may be called later, by a
name that says nothing. Everyday uses that reach nothing unnamed (`"x" in globals()`, `vars(obj)`)
are no gates. Not seen: attributes whose names are made up at run time (`getattr(f, a + b)`), and
libraries that look into `__main__` by themselves.
"""

from __future__ import annotations

import ast
import dis
import itertools
import types
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from .code_names import used_by

# As a name, with whatever is done to it.
NAMES: Final = frozenset(
    {"globals", "locals", "vars", "exec", "eval", "compile", "__import__", "__builtins__",
     "__main__", "builtins", "get_ipython", "InteractiveShell", "ctypes", "_ctypes", "cffi",
     "runpy", "doctest", "dill", "pdb", "ipdb", "pudb", "debugpy", "breakpoint", "copyreg"}
)  # fmt: skip
# As an attribute of anything. Some lead to a namespace or to all objects, some to the address of
# memory, which C code can go on using without a reference.
ATTRIBUTES: Final = frozenset(
    {"__globals__", "__builtins__", "__main__", "__self__", "f_globals", "f_locals", "f_back",
     "tb_frame", "gi_frame", "cr_frame", "_getframe", "_current_frames", "_current_exceptions",
     "currentframe", "getmodule", "getclosurevars", "user_ns", "user_global_ns", "user_module",
     "run_cell", "run_code", "ex", "ev", "instance", "get_objects", "get_referrers",
     "get_referents", "set_trace", "import_module", "ctypes", "ctypeslib", "from_buffer",
     "__array_interface__", "__array_struct__"}
)  # fmt: skip
# Inside a string: getattr and attrgetter take these. Nobody writes them by chance.
_IN_STRINGS: Final = frozenset(
    {"__globals__", "__builtins__", "__main__", "f_globals", "f_locals", "_getframe",
     "_current_frames", "user_ns", "user_global_ns", "get_objects", "get_referrers",
     "__array_interface__"}
)  # fmt: skip
# Modules that are gates only in part.
_PARTS: Final = {
    "sys": frozenset({"modules", "_getframe", "_current_frames", "_current_exceptions"}),
    "builtins": frozenset({"globals", "locals", "vars", "exec", "eval", "compile", "__import__"}),
    "__builtins__": frozenset(
        {"globals", "locals", "vars", "exec", "eval", "compile", "__import__"}
    ),
    "inspect": frozenset({"stack", "trace", "currentframe", "getmodule", "getclosurevars"}),
    "IPython": frozenset({"embed", "start_ipython"}),
    "cProfile": frozenset({"run", "runctx"}),
    "profile": frozenset({"run", "runctx"}),
    "dill": frozenset({"load", "loads", "load_module", "load_session", "Unpickler", "source"}),
    "InteractiveShell": frozenset({"instance"}),
}  # fmt: skip
# These hand out raw memory, run text, or change how others pickle: no use can be followed.
_MODULES: Final = frozenset({"ctypes", "_ctypes", "cffi", "runpy", "copyreg", "__main__"})
# Another way of pickling, for objects that nobody touches.
_PICKLING: Final = frozenset(
    {"__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__getnewargs__",
     "__getnewargs_ex__", "__getattribute__", "__bases__"}
)  # fmt: skip
_WORDS: Final = NAMES.union(ATTRIBUTES, _IN_STRINGS, _PARTS, _MODULES, _PICKLING, {"import"})
_NAMESPACES: Final = frozenset({"globals", "locals", "vars"})
_BY_KEY: Final = frozenset({"get", "pop", "setdefault", "__getitem__", "__contains__"})
_AT_ONCE: Final = frozenset({"list", "sorted", "tuple", "set", "len", "dict"})
_SAFE_OF_SHELL: Final = frozenset(
    {"__class__", "kernel", "config", "events", "display_formatter", "display_pub",
     "set_next_input", "register_magics", "register_magic_function", "ast_node_interactivity"}
)  # fmt: skip
_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_SCOPES: Final = (*_FUNCTIONS, ast.ClassDef, ast.GeneratorExp)


@dataclass
class Found:
    """What a text does besides naming variables."""

    once: str | None = None  # a gate that leaves nothing behind
    lasting: str | None = None
    # Python, or arguments of a magic, that stands in a string and is run: (text, magic or None).
    texts: list[tuple[str, str | None]] = field(default_factory=list)
    keys: list[tuple[str, bool]] = field(default_factory=list)  # globals()["x"]; in a function?


def may_be_in(words: AbstractSet[str]) -> bool:
    """Whether a text with these words needs to be looked at; most do not."""
    return not words.isdisjoint(_WORDS)


def in_tree(tree: ast.AST) -> Found:
    """Walk a text's syntax tree."""
    found = Found()
    _Walk(found).run(tree)
    return found


class _Walk:
    """Every node once, parents first: what a parent makes harmless is not looked at again."""

    def __init__(self, found: Found) -> None:
        self._found = found
        self._cleared: set[int] = set()
        self._later = False

    def run(self, tree: ast.AST) -> None:
        """Fill in what is found."""
        stack: list[tuple[ast.AST, bool, bool]] = [(tree, False, False)]
        while stack:
            node, later, local = stack.pop()
            self._later = later
            self._look(node, local)
            if isinstance(node, _SCOPES):
                inside = set(map(id, _inside(node)))
                for child in ast.iter_child_nodes(node):
                    stack.append((child, True, local or id(child) in inside))
            else:
                stack += [(child, later, local) for child in ast.iter_child_nodes(node)]

    def _clear(self, *nodes: ast.AST) -> None:
        self._cleared.update(map(id, nodes))

    def _gate(self, name: str, lasting: bool = True) -> None:
        if lasting or self._later:
            self._found.lasting = self._found.lasting or name
        else:
            self._found.once = self._found.once or name

    def _look(self, node: ast.AST, local: bool) -> None:
        match node:
            case ast.Expr(value=ast.Constant()):
                self._clear(node.value)  # a docstring
            case ast.Compare(left=left, ops=[operator], comparators=[right]):
                self._compare(left, operator, right)
            case ast.Subscript(value=value, slice=key):
                self._item(value, key)
            case ast.Call():
                self._call(node, local)
            case ast.For(iter=iterated) | ast.comprehension(iter=iterated):
                self._at_once(iterated)
            case ast.Attribute(value=value, attr=name):
                self._attribute(node, value, name)
            case ast.Name(id=name) if id(node) not in self._cleared:
                if name in NAMES or name in ATTRIBUTES or name in ("sys", "__builtins__"):
                    self._gate(name)
            case ast.Constant(value=str(text)) if id(node) not in self._cleared:
                if gate := next((word for word in _IN_STRINGS if word in text), None):
                    self._gate(gate)
            case ast.Import(names=aliases):
                for alias in aliases:
                    self._import(alias)
            case ast.ImportFrom(module=module, names=aliases):
                self._import_from(module or "", [alias.name for alias in aliases])

    def _compare(self, left: ast.AST, operator: ast.AST, right: ast.AST) -> None:
        if isinstance(operator, ast.In | ast.NotIn):
            if _is_namespace(right):
                self._clear(*_names_of_namespace(right))
            elif _is_modules(right):
                self._clear(right)
        elif _is_shell(left) and isinstance(right, ast.Constant):
            self._clear(*_shell_names(left))
        for one, other in ((left, right), (right, left)):
            if isinstance(one, ast.Name) and one.id == "__name__":
                self._clear(other)

    def _item(self, value: ast.AST, key: ast.AST) -> None:
        known = isinstance(key, ast.Constant) and key.value != "__main__"
        if _is_namespace(value):
            self._clear(*_names_of_namespace(value))
            if not known:
                self._gate("globals", lasting=False)
            else:
                self._key(key)
        elif _is_modules(value) and known:
            self._clear(value)

    def _call(self, node: ast.Call, local: bool) -> None:
        match node:
            case ast.Call(func=ast.Name(id="vars") as name, args=[_]):
                self._clear(name)
            case ast.Call(func=ast.Name(id="locals" | "vars") as name, args=[]) if local:
                self._clear(name)
            case ast.Call(
                func=ast.Name(id="exec" | "eval" | "compile") as name,
                args=[ast.Constant(value=str(text) | bytes(text)), *rest],
            ):
                passed = filter(_is_namespace, rest)
                self._clear(name, *itertools.chain(*map(_names_of_namespace, passed)))
                decoded = text if isinstance(text, str) else text.decode("utf-8", "replace")
                self._found.texts.append((decoded, None))
            case ast.Call(
                func=ast.Name(id="__import__" | "import_module")
                | ast.Attribute(attr="import_module")
                | ast.Attribute(value=ast.Name(id="builtins"), attr="__import__") as function,
                args=[ast.Constant(value=str(module)), *_],
            ) if module.split(".")[0] not in _MODULES:
                self._clear(function)
            case ast.Call(func=ast.Attribute(value=value, attr=method), args=arguments):
                self._method(node.func, value, method, arguments)
            case ast.Call(func=ast.Name(id=name), args=[argument]) if name in _AT_ONCE:
                self._at_once(argument)
            case ast.Call(func=ast.Name(id="setattr" | "delattr"), args=[_, attribute, *_]):
                if isinstance(attribute, ast.Constant) and attribute.value in _PICKLING:
                    self._gate(str(attribute.value), lasting=False)

    def _method(
        self, function: ast.AST, value: ast.AST, method: str, arguments: list[ast.expr]
    ) -> None:
        known = bool(arguments) and isinstance(arguments[0], ast.Constant)
        if _is_namespace(value) and (method in _BY_KEY or method in ("update", "copy")):
            self._clear(*_names_of_namespace(value))
            if not (known and method in _BY_KEY):
                self._gate("globals", lasting=False)
            else:
                self._key(arguments[0])
        elif _is_modules(value) and method in _BY_KEY and known:
            self._clear(value)
        elif _is_shell(value):
            texts = [one.value for one in arguments if isinstance(one, ast.Constant)]
            if len(texts) == len(arguments) and all(isinstance(one, str) for one in texts):
                if method in ("run_line_magic", "run_cell_magic") and len(texts) > 1:
                    self._clear(function, *_shell_names(value), *arguments)
                    self._found.texts += [(str(text), str(texts[0])) for text in texts[1:]]
                elif method in ("system", "getoutput", "getoutput_pexpect"):
                    self._clear(function, *_shell_names(value), *arguments)
                    self._found.texts += [(str(text), "system") for text in texts]

    def _key(self, key: ast.AST) -> None:
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            self._found.keys.append((key.value, self._later))

    def _at_once(self, argument: ast.AST) -> None:
        inner = argument
        if isinstance(argument, ast.Call) and isinstance(argument.func, ast.Attribute):
            if argument.func.attr not in ("keys", "values", "items"):
                return
            inner = argument.func.value
        if _is_namespace(inner):
            self._clear(*_names_of_namespace(inner))
            self._gate("globals", lasting=False)

    def _attribute(self, node: ast.Attribute, value: ast.AST, name: str) -> None:
        if id(node) in self._cleared:
            self._clear(value)
            return
        if name in _PICKLING and not isinstance(node.ctx, ast.Load):
            self._gate(name, lasting=False)
        if _is_shell(value) and name in _SAFE_OF_SHELL:
            self._clear(*_shell_names(value))
        if name == "get_ipython":
            self._gate(name)
        if isinstance(value, ast.Name) and (parts := _PARTS.get(value.id)) is not None:
            self._clear(value)
            if name in parts:
                self._gate(f"{value.id}.{name}")
        if name in ATTRIBUTES:
            self._gate(name)

    def _import(self, alias: ast.alias) -> None:
        parts = alias.name.split(".")
        if gate := next((part for part in parts if part in _MODULES), None):
            self._gate(gate)
        elif alias.asname not in (None, alias.name) and alias.name in _PARTS.keys() | NAMES:
            self._gate(alias.name)

    def _import_from(self, module: str, names: list[str]) -> None:
        top = module.split(".")[0]
        if top in _MODULES:
            self._gate(top)
        parts = _PARTS.get(top, frozenset[str]())
        harmless = {"get_ipython", "InteractiveShell"} if top == "IPython" else set[str]()
        for name in names:
            if name == "*":
                self._gate("import *", lasting=bool(parts) or top in ("gc", "importlib"))
            elif name not in harmless and (name in parts or name in NAMES or name in ATTRIBUTES):
                self._gate(name)


def _inside(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a function, class or generator that see its own variables."""
    match node:
        case ast.Lambda(body=body):
            yield body
        case ast.FunctionDef(body=body) | ast.AsyncFunctionDef(body=body) | ast.ClassDef(body=body):
            yield from body
        case ast.GeneratorExp(elt=elt, generators=generators):
            yield elt
            yield from generators


def _is_namespace(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Name(id=name), args=[], keywords=[]):
            return name in _NAMESPACES
        case ast.Attribute(value=shell, attr="user_ns"):
            return _is_shell(shell)
    return False


def _names_of_namespace(node: ast.AST) -> Iterable[ast.AST]:
    match node:
        case ast.Call(func=function):
            return (function,)
        case ast.Attribute(value=shell):
            return (node, *_shell_names(shell))
    return ()


def _is_modules(node: ast.AST) -> bool:
    match node:
        case ast.Attribute(value=ast.Name(id="sys"), attr="modules"):
            return True
    return False


def _is_shell(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Name(id="get_ipython"), args=[], keywords=[]):
            return True
        case ast.Call(func=ast.Attribute(value=ast.Name(), attr="get_ipython"), args=[]):
            return True
    return False


def _shell_names(node: ast.AST) -> Iterable[ast.AST]:
    return (node.func,) if isinstance(node, ast.Call) else ()


# --- code without its text ----------------------------------------------------------------

_SILENT: Final = frozenset({"CACHE", "PRECALL", "PUSH_NULL", "NOP", "EXTENDED_ARG", "KW_NAMES"})


def in_code(code: types.CodeType) -> str | None:
    """The first lasting gate in one code object, those of inner functions not counted.

    A function's own `locals()` and `vars()` reach nothing of the notebook's.
    """
    names = set(code.co_names)
    for text in used_by(code).strings:
        gate = next((word for word in _IN_STRINGS if word in text), None)
        if gate is not None and text != "__main__":
            return gate
    suspects = names & (NAMES | ATTRIBUTES | _PICKLING | _MODULES) - {"locals", "vars"}
    if not suspects and not any(names & {m} and names & parts for m, parts in _PARTS.items()):
        return None
    # Only strings tell something, and `dis` makes a text of each constant: it may be a huge number.
    strings = (text if isinstance(text, str) else None for text in code.co_consts)
    shown = dis.get_instructions(code.replace(co_consts=tuple(strings)))
    steps = [step for step in shown if step.opname not in _SILENT]
    for at, step in enumerate(steps):
        if gate := _gate_at(steps, at, str(step.argval)):
            return gate
    return None


def _gate_at(steps: list[dis.Instruction], at: int, name: str) -> str | None:
    operation = steps[at].opname

    def following(number: int) -> dis.Instruction | None:
        return steps[at + number] if at + number < len(steps) else None

    if operation in ("LOAD_GLOBAL", "LOAD_NAME"):
        after = following(1)
        attribute = after if after is not None and _loads_attribute(after) else None
        if name in _PARTS and attribute is not None:
            if attribute.argval not in _PARTS[name]:
                return None
            safe = attribute.argval == "modules" and _by_constant(following, 2)
            return None if safe else f"{name}.{attribute.argval}"
        if name == "globals":
            asked, key = following(2), following(3)
            by_key = asked is not None and _loads_attribute(asked) and asked.argval in _BY_KEY
            if _by_constant(following, 2) or (by_key and key and key.opname == "LOAD_CONST"):
                return None
        if name == "get_ipython":
            asked = following(2)
            if asked is not None and asked.argval in _SAFE_OF_SHELL:
                return None
        return name if name in NAMES - {"locals", "vars"} or name in ATTRIBUTES else None
    if _loads_attribute(steps[at]) and name in ATTRIBUTES:
        return name
    if operation in ("STORE_ATTR", "DELETE_ATTR") and name in _PICKLING:
        return name
    if operation == "IMPORT_NAME" and name.split(".")[0] in _MODULES | {"dill", "builtins"}:
        return name
    if operation == "IMPORT_FROM" and name != "get_ipython":
        before = (step.argval for step in reversed(steps[:at]) if step.opname == "IMPORT_NAME")
        parts = _PARTS.get(str(next(before, "")), frozenset[str]())
        return name if name in NAMES or name in ATTRIBUTES or name in parts else None
    return None


def _loads_attribute(step: dis.Instruction) -> bool:
    return step.opname in ("LOAD_ATTR", "LOAD_METHOD")


def _by_constant(following: Callable[[int], dis.Instruction | None], first: int) -> bool:
    """`x in globals()` and `globals()["x"]`, from the step after the namespace is there."""
    one, two = following(first), following(first + 1)
    if one is not None and one.opname == "CONTAINS_OP":
        return True
    subscript = two is not None and two.opname in ("BINARY_SUBSCR", "STORE_SUBSCR", "DELETE_SUBSCR")
    return subscript and one is not None and one.opname == "LOAD_CONST" and one.argval != "__main__"
