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
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Protocol

import cloudpickle
import dill

from . import arrays, kinds, rebuild, tensors
from .refusals import Unsavable, refusal_for
from .stub import Stub

PROTOCOL: Final = 5

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

    def _start(
        self,
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
            if sys.modules.get(name) is not obj:
                raise pickle.PicklingError(f"module {name} cannot be imported again")
            return ("module", name)
        if kind == kinds.REFUSED:
            refusal = refusal_for(cls)
            assert refusal is not None
            raise Unsavable(f"{cls.__module__}.{cls.__qualname__}", refusal)
        key = self._definitions.key_of(obj)
        if key is not None:
            self._needs.add(key)
            return ("definition", key)
        if kinds.saved_by_value(obj):
            self._saw(obj)
        return None

    def _reduce(self, obj: Any) -> Any:
        cls = type(obj)
        if cls is types.FunctionType:
            return self._reduce_function(obj)
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
        closure = function.__closure__
        # Cells are made empty and filled by the function's state, after it is memoized:
        # a recursive closure would otherwise never end.
        self._function_cells.update(id(cell) for cell in closure or ())
        # The globals of a library's function are its module's: never a copy of them.
        namespace: Any = function.__globals__
        module = sys.modules.get(namespace.get("__name__", ""))
        if namespace is not self._main and module is not None and vars(module) is namespace:
            namespace = module
        self._codes.append(function.__code__)
        arguments = (function.__code__, namespace, function.__name__, closure)
        state = _function_state(function)
        return (rebuild.new_function, arguments, state, None, None, rebuild.set_function)

    def _reduce_class(self, cls: type) -> Any:
        reduced = cloudpickle.Pickler.reducer_override(self, cls)
        if reduced is NotImplemented or not kinds.saved_by_value(cls):
            return reduced
        # The last but one argument is a random tracker id: without it equal classes give
        # equal bytes, and a class loaded from another checkpoint is not mistaken for ours.
        arguments = reduced[1]
        # copyreg's cache appears on a class when its first instance is pickled.
        attributes = reduced[2][0]
        attributes.pop("__slotnames__", None)
        if len(arguments) in (6, 7):
            arguments = (*arguments[:-2], None, arguments[-1])
        return (rebuild.new_class, (reduced[0], *arguments), *reduced[2:])


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


# What to write instead of an object: the fields of a Stub, or None.
Hide = Callable[[Any], tuple[str, str, str] | None]


class _Hiding:
    """For units with parts that are not to be saved. Costs a call for every object."""

    _hide: Hide

    def persistent_id(self, obj: Any) -> tuple[str, ...] | None:
        hidden = self._hide(obj)
        if hidden is not None:
            return ("stub", *hidden)
        found: tuple[str, ...] | None = super().persistent_id(obj)  # type: ignore[misc]
        return found


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
    hide: Hide | None = None,
) -> Pickled:
    """Serialize a unit, by C where possible and by dill where not.

    Memory of `in_band_bytes` and more becomes a buffer, beside the stream; `new_stream` makes
    what that is written to, 64 KB at a time.
    Raises `Unsavable` for objects that are refused by type, otherwise what pickling raised;
    when both picklers failed, the error of the C pickler, which users know.
    """
    given = root, main, definitions, observer, in_band_bytes, hide
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
    pickler._start(main, definitions, observer, arrays.Memory(in_band_bytes))
    # The C implementation's own dump: cloudpickle's rewrites RecursionError into its advice.
    if codec == "pickle":
        pickle.Pickler.dump(pickler, root)
    else:
        pickler.dump(root)
    own = {id(buffer) for buffer in pickler._memory.private}
    private = {index for index, buffer in enumerate(buffers) if id(buffer) in own}
    return Pickled(
        codec, out.getvalue(), buffers, private, pickler._needs, pickler._codes,
        pickler._memory, keep=pickler
    )  # fmt: skip


_HIDING: Final[dict[Any, Any]] = {
    _FastPickler: _HidingFastPickler,
    _DillPickler: _HidingDillPickler,
}


# --- loading ------------------------------------------------------------------------


class Resolver(Protocol):
    """Gives a loader the definitions that a unit refers to."""

    def definition(self, key: str) -> Any: ...


def load(
    codec: str, stream: bytes, buffers: list[memoryview], main: dict[str, Any], resolver: Resolver
) -> dict[str, Any]:
    """Deserialize a unit: the variables (and hidden definitions) that it holds, by name.

    Runs the code that the pickle names: only for streams that the store has verified.
    """

    unpickler = _UNPICKLERS[codec](io.BytesIO(stream), buffers=buffers)
    unpickler._main, unpickler._resolver = main, resolver
    root: dict[str, Any] = unpickler.load()
    return root


class _References:
    """What both unpicklers share."""

    _main: dict[str, Any]
    _resolver: Resolver

    def persistent_load(self, pid: tuple[str, ...]) -> Any:
        match pid:
            case ("main",):
                return self._main
            case ("module", name):
                return importlib.import_module(name)
            case ("definition", key):
                return self._resolver.definition(key)
            case ("stub", what, reason, remedy):
                return Stub(what, reason, remedy)
        raise pickle.UnpicklingError(f"unknown reference {pid!r}")


class _FastUnpickler(_References, pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # Objects that pickle by their name in the notebook: they live in another unit.
        if module == "__main__":
            return self._resolver.definition(name)
        return super().find_class(module, name)


class _DillUnpickler(_References, dill.Unpickler):  # type: ignore[misc]
    pass


_UNPICKLERS: Final[dict[str, Any]] = {"pickle": _FastUnpickler, "dill": _DillUnpickler}
