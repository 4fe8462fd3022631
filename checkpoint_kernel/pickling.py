"""Pickling of one unit: the C pickler with our reductions, dill for what it cannot do.

Out of a unit lead three kinds of references, which become persistent ids: the live
`__main__` namespace, modules, and definitions (notebook classes and functions, which are
units of their own). Buffers of arrays go out of band. Covers one unit at a time; which
objects form a unit is decided in `units`.
"""

from __future__ import annotations

import collections
import functools
import importlib
import io
import os
import pickle
import sys
import types
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Protocol

import cloudpickle
import dill

from . import (
    arrays,
    class_parts,
    foreign_code,
    kinds,
    rebuild,
    rebuild_builtin,
    reducers_builtin,
    registry,
    tensors,
)
from . import reducers as reducers  # which tells the registry what we know
from .libraries import classes
from .needs import MissingName
from .refusals import Refused, Unsavable
from .stub import Stub

PROTOCOL: Final = 5
_builtin: Final = reducers_builtin.known

_MAIN = ("main",)


class Definitions(Protocol):
    """What a pickler asks about notebook classes and functions."""

    def key_of(self, definition: Any) -> str | None:
        """The stable key of a definition that lives in another unit, or None: save it here."""


class Observer(Protocol):
    """Is told of every object that could be shared between units."""

    def saw(self, obj: Any) -> None:
        """An edge of the unit leads to this object."""

    def opened(self) -> None:
        """The unit holds something whose references cannot be told (see `closed`)."""

    def runs_code(self) -> None:
        """The next object has code of the user's run when it is pickled."""

    def forget(self) -> None:
        """What was seen of this unit does not count: it failed, or is pickled once more."""


@dataclass
class Pickled:
    """One unit, serialized: the stream, its out-of-band buffers and whom it refers to."""

    codec: str
    stream: bytes | memoryview
    buffers: list[pickle.PickleBuffer]
    private: set[int]  # indexes of buffers that must not share memory with any other
    needs: set[str]  # keys of definitions
    codes: list[types.CodeType]  # of the functions in it
    memory: arrays.Memory
    partly: list[Refused]  # what stubs stand for
    notes: list[Refused]  # what else is not back, where no stub stands
    keep: Any = field(repr=False, default=None)  # the pickler: its memo keeps ids unique


def _cell_state(cell: types.CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:  # still empty
        return ()


# What `types.CodeType` takes, in its order.
_CODE_FIELDS: Final = (
    "co_argcount", "co_posonlyargcount", "co_kwonlyargcount", "co_nlocals", "co_stacksize",
    "co_flags", "co_code", "co_consts", "co_names", "co_varnames", "co_filename", "co_name",
    "co_qualname", "co_firstlineno", "co_linetable", "co_exceptiontable", "co_freevars",
    "co_cellvars",
)  # fmt: skip


def _code_fields(code: types.CodeType) -> tuple[Any, ...]:
    """The file name too, by which tracebacks and getsource find the cell's text.

    Names and tuples of names are copied: which of them are one object differs between a code
    that was compiled and one that was loaded, and equal functions should give equal bytes.
    """

    fields = {name: getattr(code, name) for name in _CODE_FIELDS}
    for name in ("co_filename", "co_name", "co_qualname"):
        fields[name] = "".join(fields[name])
    for name in ("co_names", "co_varnames", "co_freevars", "co_cellvars"):
        fields[name] = tuple(word for word in fields[name])
    return tuple(fields.values())


_FUNCTION_FIELDS: Final = (
    "__defaults__", "__kwdefaults__", "__module__", "__doc__", "__qualname__",
)  # fmt: skip


def _function_state(function: types.FunctionType) -> dict[str, Any]:
    fields = {name: getattr(function, name) for name in _FUNCTION_FIELDS}
    # From 3.14 on annotations are computed on demand, and computing them may raise.
    deferred = getattr(function, "__annotate__", None)
    if sys.version_info >= (3, 14) and deferred is not None:
        fields["__annotate__"] = deferred
    else:
        fields["__annotations__"] = function.__annotations__
    if parameters := getattr(function, "__type_params__", ()):
        fields["__type_params__"] = parameters
    cells = [(cell, _cell_state(cell)) for cell in function.__closure__ or ()]
    return {"fields": fields, "dict": function.__dict__, "cells": cells}


def _is_copy(namespace: dict[str, Any], main: dict[str, Any]) -> bool:
    """Whether the globals of a function began as a copy of the notebook's: attrs makes such."""
    return "_oh" in namespace and namespace["_oh"] is main.get("_oh")


def _used_part(function: types.FunctionType) -> dict[str, Any]:
    """What the function uses of such globals: the rest is the notebook as it was at that time."""
    used = {name for code in _codes_in(function.__code__) for name in code.co_names}
    copied = function.__globals__
    return {name: copied[name] for name in sorted(used | {"__name__"}) if name in copied}


def _codes_in(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes_in(constant)


class _Reductions:
    """What both picklers share. Attributes are set by `_start`."""

    _main: dict[str, Any]
    _definitions: Definitions
    _saw: Callable[[Any], None]
    _opened: Callable[[], None]
    _runs_code: Callable[[], None]
    _codes: list[types.CodeType]
    _needs: set[str]
    _memory: arrays.Memory
    _own_memory: set[int]
    _function_cells: set[int]
    _roots: set[int]
    _partly: list[Refused]
    _notes: list[Refused]

    def _start(
        self,
        roots: Iterable[Any],
        main: dict[str, Any],
        definitions: Definitions,
        observer: Observer,
        memory: arrays.Memory,
    ) -> None:
        self._main = main
        self._definitions = definitions
        self._saw = observer.saw
        self._opened = observer.opened
        self._runs_code = observer.runs_code
        self._codes = []
        self._needs = set()
        self._memory = memory
        self._own_memory = set()
        self._function_cells = set()
        self._roots = set(map(id, roots))
        self._partly = []
        self._notes = []

    def persistent_id(self, obj: Any) -> tuple[str, ...] | None:
        cls = type(obj)
        kind = kinds.known.get(cls)
        if kind is None:
            kind = kinds.kind_of(cls)
        if kind == kinds.ATOMIC:
            return None
        if kind == kinds.PLAIN:
            if obj is self._main:
                self._opened()
                return _MAIN
            # The compiler shares equal constants between the functions of a cell.
            if cls is not tuple or not kinds.is_constant(obj):
                self._saw(obj)
            return None
        if kind == kinds.LEAF:
            if not kinds.is_plain_function(obj):
                self._opened()
            return None
        if kind == kinds.CUSTOM:
            self._runs_code()
            self._saw(obj)
            return None
        if kind == kinds.MODULE:
            name: str = obj.__name__
            if sys.modules.get(name) is obj:
                return ("module", name)
            if cls is not types.ModuleType:
                raise pickle.PicklingError(f"module {name} cannot be imported again")
            self._saw(obj)
            return None
        if kind == kinds.REFUSED:
            self._opened()
            return None
        if kind == kinds.REDUCED:
            if registry.known[cls].users:
                self._runs_code()
            # A lock, a file or a database changes where no reference leads.
            self._saw(obj)
            self._opened()
            return None
        key = self._definitions.key_of(obj)
        if key is not None:
            self._needs.add(key)
            return ("definition", key)
        if kinds.saved_by_value(obj) and self._class_elsewhere(obj) is None:
            self._saw(obj)
        return None

    def _class_elsewhere(self, method: Any) -> Any:
        """The notebook class that a function is a method of, if that class is in another unit."""
        if type(method) is not types.FunctionType:
            return None
        owner = self._main.get(method.__qualname__.rpartition(".")[0])
        if not issubclass(type(owner), type):
            return None
        held = type.__dict__["__dict__"].__get__(owner).get(method.__name__)
        held = held.__func__ if type(held) is staticmethod else held
        return owner if held is method and self._definitions.key_of(owner) is not None else None

    def _reduce(self, obj: Any) -> Any:
        cls = type(obj)
        reducer = registry.known.get(cls)
        if reducer is not None:
            try:
                reduced = reducer(obj)
                if type(reduced) is registry.Partly:
                    self._partly.append(reduced.lost)
                    return reduced.reduction
                if reduced is not NotImplemented:
                    return reduced
            except Refused as why:
                if id(obj) in self._roots:
                    raise
                self._partly.append(why)
                return (Stub, (why.what, why.refusal.reason, why.refusal.remedy))
        if cls is types.FunctionType:
            return self._reduce_function(obj)
        builtin = _builtin.get(cls, reducers_builtin.unseen)
        if builtin is reducers_builtin.unseen:
            builtin = reducers_builtin.find(cls)
        if builtin is not None:
            return builtin(obj)
        if cls is types.CellType:
            state = None if id(obj) in self._function_cells else _cell_state(obj)
            return (rebuild.new_cell, (), state, None, None, rebuild.set_cell)
        if cls is types.CodeType:
            return (rebuild.new_code, _code_fields(obj))
        if issubclass(cls, type):
            return self._reduce_class(obj)
        numpy = sys.modules.get("numpy")
        if numpy is not None and cls is getattr(numpy, "ndarray", None):
            return arrays.reduce_array(obj, id(obj) in self._own_memory, self._memory, numpy)
        torch = sys.modules.get("torch")
        if torch is not None:
            reduced = tensors.reduce(obj, cls, self._memory, torch)
            if reduced is not NotImplemented:
                if len(reduced) > 2 and reduced[2] is tensors.DETACHED and obj.requires_grad:
                    self._notes.append(tensors.NO_GRAPH)
                return reduced
        if cls is memoryview:
            return arrays.reduce_memoryview(obj, self._memory)
        if cls is functools._lru_cache_wrapper and kinds.saved_by_value(obj):
            arguments = (obj.cache_parameters(), obj.__wrapped__)
            made_again = ("__wrapped__", "cache_parameters")
            own = {name: v for name, v in obj.__dict__.items() if name not in made_again}
            return (rebuild.cached, arguments, own, None, None, rebuild.update)
        if cls.__name__.endswith("BlockManager") and cls.__module__.startswith("pandas."):
            self._own_memory |= arrays.pandas_shared_blocks(obj)
        return NotImplemented

    def _reduce_function(self, function: types.FunctionType) -> Any:
        if not kinds.saved_by_value(function):
            return NotImplemented
        owner = self._class_elsewhere(function)
        if owner is not None:
            return (getattr, (owner, function.__name__))
        closure = function.__closure__
        # Cells are made empty and filled by the function's state, after it is memoized:
        # a recursive closure would otherwise never end.
        self._function_cells.update(id(cell) for cell in closure or ())
        # The globals of a library's function are its module's: never a copy of them.
        namespace: Any = function.__globals__
        module = sys.modules.get(namespace.get("__name__", ""))
        if namespace is not self._main and module is not None and vars(module) is namespace:
            namespace = module
        elif namespace is not self._main and _is_copy(namespace, self._main):
            namespace = _used_part(function)
        self._codes.append(function.__code__)
        arguments = (function.__code__, namespace, function.__name__, closure)
        state = _function_state(function)
        return (rebuild.new_function, arguments, state, None, None, rebuild.set_function)

    def _reduce_class(self, cls: type) -> Any:
        by_value = kinds.saved_by_value(cls)
        if by_value and (own := classes.reduction_of(cls)) is not None:
            return own
        if of_ctypes := class_parts.ctypes_type(cls):
            return of_ctypes
        reduced = cloudpickle.Pickler.reducer_override(self, cls)
        if reduced is NotImplemented or not by_value:
            return reduced
        # The last but one argument is a random tracker id: without it equal classes give
        # equal bytes, and a class loaded from another checkpoint is not mistaken for ours.
        arguments = reduced[1]
        # copyreg's cache appears on a class when its first instance is pickled.
        attributes = reduced[2][0]
        attributes.pop("__slotnames__", None)
        if len(arguments) in (6, 7):
            arguments = (*arguments[:-2], None, arguments[-1])
        if len(arguments) == 6:
            begins_with = dict(arguments[3])
            class_parts.tidy_class(cls, begins_with, attributes)
            arguments = (*arguments[:3], begins_with, *arguments[4:])
        made = (rebuild.new_class, (reduced[0], *arguments))
        if len(reduced[1]) == 7:  # an enum
            state = (reduced[5], reduced[2], class_parts.members(cls))
            return (*made, state, None, None, rebuild_builtin.set_enum)
        return classes.with_registrations(cls, (*made, *reduced[2:]))


def _reduce_environment(environment: os._Environ[str]) -> Any:
    """The process's own is that of whoever loads it: what is in it is never saved."""
    for name in ("environ", "environb"):
        if environment is getattr(os, name, None):
            return (getattr, (os, name))
    return environment.__reduce_ex__(PROTOCOL)


class _FastPickler(_Reductions, cloudpickle.Pickler):  # type: ignore[misc]
    """The C pickler."""

    dispatch_table: ClassVar[Any] = collections.ChainMap(
        {type(os.environ): _reduce_environment}, cloudpickle.Pickler.dispatch_table
    )

    def reducer_override(self, obj: Any) -> Any:
        return self._reduce(obj)


class _DillPickler(_Reductions, dill.Pickler):  # type: ignore[misc]
    """dill's pickler, pure Python and about seven times slower, for what C cannot do."""

    def reducer_override(self, obj: Any) -> Any:
        return self._reduce(obj)


Instead = tuple[str, str, str]  # the fields of a Stub


class Hide(Protocol):
    """Says what to write instead of an object, or None."""

    watched: set[int]  # ids of objects to ask about
    texts: bool  # ask about every text

    def instead_of(self, obj: Any) -> Instead | None: ...

    def inside(self, holder: Any, among: Container[Any]) -> dict[Any, Instead]:
        """Of a function's positional defaults by position, of a class's attributes by name."""


class _Instead:
    """Stands in a state for what is hidden there, and nowhere else."""

    def __init__(self, fields: Instead) -> None:
        self.fields = fields


_PLAIN_ATOMS: Final = frozenset({int, float, bool, type(None)})
_MOST_TEXTS: Final = frozenset({str, bytes})


class _Hiding:
    """For units with parts that are not to be saved. Costs little for any other object."""

    _hide: Hide

    def persistent_id(self, obj: Any) -> tuple[str, ...] | None:
        cls = type(obj)
        if cls in _PLAIN_ATOMS:
            return None
        hide = self._hide
        if id(obj) in hide.watched or (
            hide.texts and (cls is str or issubclass(cls, (str, bytes, bytearray)))
        ):
            hidden = hide.instead_of(obj)
            if hidden is not None:
                return ("stub", *hidden)
        if cls in _MOST_TEXTS:
            return None
        if cls is _Instead:
            return ("stub", *obj.fields)
        found: tuple[str, ...] | None = super().persistent_id(obj)  # type: ignore[misc]
        return found

    def _reduce_function(self, function: types.FunctionType) -> Any:
        reduced = super()._reduce_function(function)  # type: ignore[misc]
        if reduced is NotImplemented:
            return reduced
        fields = reduced[2]["fields"]
        defaults = fields["__defaults__"] or ()
        if hidden := self._hide.inside(function, range(len(defaults))):
            fields["__defaults__"] = tuple(
                _Instead(hidden[position]) if position in hidden else value
                for position, value in enumerate(defaults)
            )
        return reduced

    def _reduce_class(self, cls: type) -> Any:
        reduced = super()._reduce_class(cls)  # type: ignore[misc]
        # As cloudpickle has it; where it is not so, the texts are hidden wherever they are.
        match reduced:
            case (_, _, (dict() as attributes, _), *_):
                hidden = self._hide.inside(cls, attributes)
                attributes.update({name: _Instead(hidden[name]) for name in hidden})
        return reduced


class _HidingFastPickler(_Hiding, _FastPickler):
    pass


class _HidingDillPickler(_Hiding, _DillPickler):
    pass


def dump(
    root: dict[str, Any],
    main: dict[str, Any],
    definitions: Definitions,
    observer: Observer,
    in_band_bytes: int = arrays.IN_BAND_BYTES,
    new_stream: Callable[[], io.BytesIO] = io.BytesIO,
    variables: Iterable[Any] | None = None,
    hide: Hide | None = None,
) -> Pickled:
    """Serialize a unit, by C where possible and by dill where not.

    Memory of `in_band_bytes` and more becomes a buffer, beside the stream; `new_stream` makes
    what that is written to, 64 KB at a time. An object that is refused by type has a stub in its
    place, unless it is one of the `variables` (the values of `root`).
    Raises `Unsavable` for those, otherwise what pickling raised;
    when both picklers failed, the error of the C pickler, which users know.
    """
    variables = root.values() if variables is None else variables
    given = root, variables, main, definitions, observer, in_band_bytes, hide
    try:
        return _dump(_FastPickler, "pickle", *given, new_stream())
    except (Unsavable, RecursionError, MemoryError):
        raise
    except Exception as first:
        observer.forget()
        try:
            return _dump(_DillPickler, "dill", *given, new_stream())
        except Unsavable:
            raise
        except Exception:
            raise first from None


def _dump(
    pickler_class: Any,
    codec: str,
    root: dict[str, Any],
    variables: Iterable[Any],
    main: dict[str, Any],
    definitions: Definitions,
    observer: Observer,
    in_band_bytes: int,
    hide: Hide | None,
    out: io.BytesIO,
) -> Pickled:
    buffers: list[pickle.PickleBuffer] = []
    if hide is not None:
        pickler_class = _HIDING[pickler_class]
    pickler = pickler_class(out, protocol=PROTOCOL, buffer_callback=buffers.append)
    pickler._hide = hide
    pickler._start(variables, main, definitions, observer, arrays.Memory(in_band_bytes))
    # The C implementation's own dump: cloudpickle's rewrites RecursionError into its advice.
    if codec == "pickle":
        pickle.Pickler.dump(pickler, root)
    else:
        pickler.dump(root)
    own = {id(buffer) for buffer in pickler._memory.private}
    private = {index for index, buffer in enumerate(buffers) if id(buffer) in own}
    return Pickled(
        codec, out.getvalue(), buffers, private, pickler._needs, pickler._codes,
        pickler._memory, pickler._partly, pickler._notes, keep=pickler
    )  # fmt: skip


_HIDING: Final[dict[Any, Any]] = {
    _FastPickler: _HidingFastPickler,
    _DillPickler: _HidingDillPickler,
}


# --- loading ------------------------------------------------------------------------


class Resolver(Protocol):
    """Gives a loader the definitions that a unit refers to."""

    def definition(self, key: str) -> Any: ...


class NotPlain(Exception):
    """Loading it would run code of others."""


def load(
    codec: str,
    stream: bytes,
    buffers: list[memoryview],
    main: dict[str, Any],
    resolver: Resolver,
    modules: set[str] | None = None,
    plain: bool = False,
) -> dict[str, Any]:
    """Deserialize a unit: the variables (and hidden definitions) that it holds, by name.

    Runs the code that the pickle names: only for streams that the store has verified. `modules`
    takes in the names of the modules that it refers to. `plain`: NotPlain for a unit that holds
    more than numbers, texts, containers and arrays, before any of its code runs.
    """
    unpickler = _UNPICKLERS[codec](io.BytesIO(stream), buffers=buffers)
    unpickler._main, unpickler._resolver = main, resolver
    unpickler._modules = set() if modules is None else modules
    unpickler._plain = plain
    root: dict[str, Any] = unpickler.load()
    return root


# What a unit may refer to that is loaded with care: making these runs no code of others.
_PLAIN_MODULES: Final = frozenset({"numpy", "pandas", "datetime", "decimal", "fractions", "uuid"})
_PLAIN_NAMES: Final = frozenset(
    {("builtins", name) for name in ("bytearray", "complex", "frozenset", "range", "set", "slice")}
    | {("collections", name) for name in ("Counter", "OrderedDict", "deque")}
    | {("checkpoint_kernel.rebuild", name) for name in ("array", "plain_objects", "view")}
    | {("checkpoint_kernel.rebuild", "memory_view")}
)


def try_to_load(pickled: Pickled, main: dict[str, Any], resolver: Resolver) -> None:
    """Load a unit and throw it away; whatever loading raises."""
    buffers = [buffer.raw() for buffer in pickled.buffers]
    codes = len(rebuild.codes)
    rebuild.trying.append(True)
    try:
        load(pickled.codec, bytes(pickled.stream), buffers, main, resolver)
    finally:
        rebuild.trying.pop()
        del rebuild.codes[codes:]


class _References:
    """What both unpicklers share."""

    _main: dict[str, Any]
    _resolver: Resolver
    _modules: set[str]
    _plain: bool

    def persistent_load(self, pid: tuple[str, ...]) -> Any:
        if self._plain:
            raise NotPlain
        match pid:
            case ("main",):
                return self._main
            case ("module", name):
                self._modules.add(name)
                return importlib.import_module(name)
            case ("definition", key):
                return self._resolver.definition(key)
            case ("stub", what, reason, remedy):
                return Stub(what, reason, remedy)
        raise pickle.UnpicklingError(f"unknown reference {pid!r}")

    def _find(self, find: Callable[[str, str], Any], module: str, name: str) -> Any:
        plain = (module, name) in _PLAIN_NAMES or module.partition(".")[0] in _PLAIN_MODULES
        if self._plain and not plain:
            raise NotPlain
        if (module, name) in foreign_code.MAKERS:
            foreign_code.refuse(f"{module}.{name}")
        self._modules.add(module)
        try:
            return find(module, name)
        except AttributeError as why:
            if module not in sys.modules:  # its import has failed with this
                raise
            raise MissingName(module, name) from why


class _FastUnpickler(_References, pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # Objects that pickle by their name in the notebook: they live in another unit.
        if module == "__main__":
            return self._resolver.definition(name)
        return self._find(super().find_class, module, name)


class _DillUnpickler(_References, dill.Unpickler):  # type: ignore[misc]
    def find_class(self, module: str, name: str) -> Any:
        return self._find(super().find_class, module, name)


_UNPICKLERS: Final[dict[str, Any]] = {"pickle": _FastUnpickler, "dill": _DillUnpickler}
