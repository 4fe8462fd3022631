"""Pickling of one unit: the C pickler with our reductions, dill for what it cannot do.

Out of a unit lead three kinds of references, which become persistent ids: the live
`__main__` namespace, modules, and definitions (notebook classes and functions, which are
units of their own). Buffers of arrays go out of band. Covers one unit at a time; which
objects form a unit is decided in `units`.
"""

from __future__ import annotations

import ctypes
import datetime
import decimal
import enum
import fractions
import functools
import importlib
import io
import pathlib
import pickle
import re
import sys
import types
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import cloudpickle
import dill
from cloudpickle.cloudpickle import _should_pickle_by_reference

from .refusals import Unsavable, refusal_for

PROTOCOL: Final = 5
# Arrays below this stay in the pickle stream: a buffer costs a table entry and a chunk.
IN_BAND_BYTES: Final = 64 * 1024

_MAIN = ("main",)


class Definitions(Protocol):
    """What a pickler asks about notebook classes and functions."""

    def key_of(self, definition: Any) -> str | None:
        """The stable key of a definition that lives in another unit, or None: save it here."""


class Observer(Protocol):
    """Is told of every object that could be shared between units."""

    def saw(self, oid: int) -> None: ...


@dataclass
class Pickled:
    """One unit, serialized: the stream, its out-of-band buffers and whom it refers to."""

    codec: str
    stream: bytes
    buffers: list[pickle.PickleBuffer]
    private: set[int]  # indexes of buffers that must not share memory with any other
    needs: set[str]  # keys of definitions
    keep: Any = field(repr=False, default=None)  # the pickler: its memo keeps ids unique


# --- kinds of types -----------------------------------------------------------------

_PLAIN, _ATOMIC, _FUNCTION, _CLASS, _MODULE, _REFUSED = range(6)

_LEAVES: Final = (
    str, int, float, complex, bool, bytes, type(None), type(...), type(NotImplemented), range,
    slice, types.BuiltinFunctionType, types.CodeType, types.MethodDescriptorType,
    types.WrapperDescriptorType, types.GetSetDescriptorType, types.MemberDescriptorType,
    datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo, decimal.Decimal,
    fractions.Fraction, uuid.UUID, pathlib.PurePath, re.Pattern, enum.Enum,
)  # fmt: skip
_LEAVES_BY_NAME: Final = (
    ("numpy", "dtype"),
    ("numpy", "generic"),
    ("numpy", "ufunc"),
    ("pandas.api.extensions", "ExtensionDtype"),
    ("torch", "dtype"),
    ("torch", "device"),
    ("torch", "Size"),
)

_kinds: dict[type, int] = {}


def _kind(cls: type) -> int:
    """How `persistent_id` treats objects of a type; looked up once for each type."""
    if refusal_for(cls) is not None:
        kind = _REFUSED
    elif issubclass(cls, types.FunctionType):
        kind = _FUNCTION
    elif issubclass(cls, type):
        kind = _CLASS
    elif issubclass(cls, types.ModuleType):
        kind = _MODULE
    elif issubclass(cls, _LEAVES) or any(
        isinstance(leaf := getattr(sys.modules.get(module), name, None), type)
        and issubclass(cls, leaf)
        for module, name in _LEAVES_BY_NAME
    ):
        kind = _ATOMIC
    else:
        kind = _PLAIN
    _kinds[cls] = kind
    return kind


def is_leaf(obj: Any) -> bool:
    """Immutable and without parts that could be shared: identity between names is not kept."""
    cls = type(obj)
    try:
        kind = _kinds.get(cls)
        return (_kind(cls) if kind is None else kind) == _ATOMIC
    except Exception:  # a metaclass without a hash, a __subclasscheck__ that raises
        return False


def _is_constant(values: tuple[Any, ...]) -> bool:
    """A tuple of leaves, or of such tuples: nobody can change it."""
    return all(is_leaf(v) or (type(v) is tuple and _is_constant(v)) for v in values)


_HEAP_TYPE: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement or by type()


def saved_by_value(definition: Any) -> bool:
    """A class or function that cannot be imported again: it belongs to the notebook."""
    if issubclass(type(definition), type) and not definition.__flags__ & _HEAP_TYPE:
        return False
    try:
        return not _should_pickle_by_reference(definition)
    except Exception:  # a __module__ that is a property, a __getattr__ that raises
        return True


# --- reductions ---------------------------------------------------------------------


def _new_cell() -> types.CellType:
    return types.CellType()


def _set_cell(cell: types.CellType, contents: tuple[Any, ...]) -> None:
    if contents:
        cell.cell_contents = contents[0]


def _cell_state(cell: types.CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:  # still empty
        return ()


def _new_function(
    code: types.CodeType,
    namespace: dict[str, Any] | types.ModuleType,
    name: str,
    closure: tuple[types.CellType, ...] | None,
) -> types.FunctionType:
    if isinstance(namespace, types.ModuleType):
        namespace = vars(namespace)
    return types.FunctionType(code, namespace, name, None, closure)


_FUNCTION_FIELDS: Final = (
    "__defaults__", "__kwdefaults__", "__module__", "__doc__", "__qualname__",
)  # fmt: skip


def _set_function(function: types.FunctionType, state: dict[str, Any]) -> None:
    for name, value in state["fields"].items():
        setattr(function, name, value)
    function.__dict__.update(state["dict"])
    for cell, contents in state["cells"]:
        _set_cell(cell, contents)


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


def _cached(parameters: dict[str, Any], wrapped: Any) -> Any:
    """A function under lru_cache, with an empty cache."""
    return functools.lru_cache(**parameters)(wrapped)


def _update(obj: Any, attributes: dict[str, Any]) -> None:
    obj.__dict__.update(attributes)


def _array(data: Any, dtype: Any, shape: tuple[int, ...], order: str, writeable: bool) -> Any:
    import numpy as np

    # frombuffer and not ndarray(buffer=...): the base is then a memoryview, which
    # `_reduce_array` recognises at the next checkpoint.
    flat: Any = np.frombuffer(data, np.uint8)
    array = flat.view(dtype).reshape(shape, order=order)
    if not writeable:
        array.flags.writeable = False
    return array


def _view(
    base: Any,
    offset: int,
    dtype: Any,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    writeable: bool,
) -> Any:
    import numpy as np

    flat: Any
    if not isinstance(base, np.ndarray):
        flat = np.frombuffer(base, np.uint8)
    else:
        # A view made before its base became read-only is still writeable.
        frozen = writeable and not base.flags.writeable
        if frozen:
            base.flags.writeable = True
        flat = (base if base.flags.c_contiguous else base.T).reshape(-1)
        if frozen:
            base.flags.writeable = False
    if dtype.hasobject:  # numpy refuses to lay object arrays over raw bytes
        view: Any = np.lib.stride_tricks.as_strided(
            flat[offset // dtype.itemsize :], shape, strides
        )
    else:
        raw = flat.view(np.uint8)
        view = np.ndarray(shape, dtype, buffer=raw, offset=offset, strides=strides)
    if not writeable:
        view.flags.writeable = False
    return view


def _memoryview(data: Any, readonly: bool) -> memoryview:
    view = memoryview(data)
    return view.toreadonly() if readonly else view


def _span(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> tuple[int, int]:
    """Bytes before and after an array's first element that its elements cover."""
    low = sum(min(0, s * (n - 1)) for n, s in zip(shape, strides, strict=True))
    high = sum(max(0, s * (n - 1)) for n, s in zip(shape, strides, strict=True))
    return low, high + itemsize


def _memory(address: int, length: int, owner: Any) -> pickle.PickleBuffer:
    """The bytes at an address, as a buffer; `owner` keeps them alive."""
    raw = (ctypes.c_ubyte * length).from_address(address)
    raw._owner = owner  # type: ignore[attr-defined]
    return pickle.PickleBuffer(memoryview(raw).cast("B"))


def _root_of(array: Any, ndarray: type) -> Any:
    """The array that owns the memory of a view, as far as numpy knows."""
    root = array
    while True:
        base = root.base
        if type(base).__name__ == "DummyArray":  # what as_strided puts in between
            base = base.base
        if type(base) is not ndarray:
            return root
        root = base


class _Reductions:
    """What both picklers share. Attributes are set by `_start`."""

    _main: dict[str, Any]
    _definitions: Definitions
    _saw: Callable[[int], None]
    _needs: set[str]
    _private: list[Any]
    _own_memory: set[int]
    _function_cells: set[int]

    def _start(self, main: dict[str, Any], definitions: Definitions, observer: Observer) -> None:
        self._main = main
        self._definitions = definitions
        self._saw = observer.saw
        self._needs = set()
        self._private = []
        self._own_memory = set()
        self._function_cells = set()

    def persistent_id(self, obj: Any) -> tuple[str, ...] | None:
        cls = type(obj)
        kind = _kinds.get(cls)
        if kind is None:
            kind = _kind(cls)
        if kind == _ATOMIC:
            return None
        if kind == _PLAIN:
            if obj is self._main:
                return _MAIN
            # The compiler shares equal constants between the functions of a cell.
            if cls is not tuple or not _is_constant(obj):
                self._saw(id(obj))
            return None
        if kind == _MODULE:
            name: str = obj.__name__
            if sys.modules.get(name) is not obj:
                raise pickle.PicklingError(f"module {name} cannot be imported again")
            return ("module", name)
        if kind == _REFUSED:
            refusal = refusal_for(cls)
            assert refusal is not None
            raise Unsavable(f"{cls.__module__}.{cls.__qualname__}", refusal)
        key = self._definitions.key_of(obj)
        if key is not None:
            self._needs.add(key)
            return ("definition", key)
        if saved_by_value(obj):
            self._saw(id(obj))
        return None

    def _reduce(self, obj: Any) -> Any:
        cls = type(obj)
        if cls is types.FunctionType:
            return self._reduce_function(obj)
        if cls is types.CellType:
            state = None if id(obj) in self._function_cells else _cell_state(obj)
            return (_new_cell, (), state, None, None, _set_cell)
        if issubclass(cls, type):
            return self._reduce_class(obj)
        numpy = sys.modules.get("numpy")
        if numpy is not None and cls is getattr(numpy, "ndarray", None):
            return self._reduce_array(obj, numpy)
        if cls is memoryview:
            return self._reduce_memoryview(obj)
        if cls is functools._lru_cache_wrapper and saved_by_value(obj):
            arguments = (obj.cache_parameters(), obj.__wrapped__)
            made_again = ("__wrapped__", "cache_parameters")
            own = {name: v for name, v in obj.__dict__.items() if name not in made_again}
            return (_cached, arguments, own, None, None, _update)
        if cls.__name__.endswith("BlockManager") and cls.__module__.startswith("pandas."):
            self._note_pandas_blocks(obj)
        return NotImplemented

    def _reduce_function(self, function: types.FunctionType) -> Any:
        if not saved_by_value(function):
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
        arguments = (function.__code__, namespace, function.__name__, closure)
        return (_new_function, arguments, _function_state(function), None, None, _set_function)

    def _reduce_class(self, cls: type) -> Any:
        reduced = cloudpickle.Pickler.reducer_override(self, cls)
        if reduced is NotImplemented or not saved_by_value(cls):
            return reduced
        # The last but one argument is a random tracker id: without it equal classes give
        # equal bytes, and a class loaded from another checkpoint is not mistaken for ours.
        arguments = reduced[1]
        # copyreg's cache appears on a class when its first instance is pickled.
        attributes = reduced[2][0]
        attributes.pop("__slotnames__", None)
        if len(arguments) in (6, 7):
            reduced = (reduced[0], (*arguments[:-2], None, arguments[-1]), *reduced[2:])
        return reduced

    def _note_pandas_blocks(self, manager: Any) -> None:
        """Blocks that pandas shares copy-on-write must come back with memory of their own.

        The references by which pandas knows of the sharing are not saved; shared memory
        without them would let a write to one frame change the other.
        """
        for block in getattr(manager, "blocks", ()):
            refs = getattr(block, "refs", None)
            shared = getattr(refs, "has_reference", None)
            if shared is not None and shared():
                self._own_memory.add(id(block.values))

    def _reduce_memoryview(self, view: memoryview) -> Any:
        if not view.c_contiguous or view.format not in ("B", "b", "c"):
            return NotImplemented
        owner = view.obj
        if isinstance(owner, bytearray | bytes) and len(owner) == view.nbytes:
            return (_memoryview, (owner, view.readonly))
        if view.nbytes < IN_BAND_BYTES:
            return (_memoryview, (bytearray(view), view.readonly))
        return (_memoryview, (pickle.PickleBuffer(view), view.readonly))

    def _reduce_array(self, array: Any, numpy: Any) -> Any:
        writeable = bool(array.flags.writeable)
        private = id(array) in self._own_memory
        if private and not (array.flags.c_contiguous or array.flags.f_contiguous):
            array = array.copy(order="K")
        if not private and array.size:
            reduced = self._reduce_view(array, writeable, numpy)
            if reduced is not None:
                return reduced
        if array.dtype.hasobject or array.size == 0 or array.dtype.itemsize == 0:
            return NotImplemented
        if array.flags.c_contiguous:
            order = "C"
        elif array.flags.f_contiguous:
            order = "F"
        else:
            return NotImplemented  # strided memory that no array owns: numpy saves a copy
        layout = (array.dtype, array.shape, order, writeable)
        if array.nbytes < IN_BAND_BYTES:
            return (_array, (bytearray(array.tobytes(order)), *layout))
        buffer = _memory(array.ctypes.data, array.nbytes, array)
        if private:
            self._private.append(buffer)
        return (_array, (buffer, *layout))

    def _reduce_view(self, array: Any, writeable: bool, numpy: Any) -> Any:
        """A view as its base plus a layout, so that both share memory again; else None."""
        root = _root_of(array, numpy.ndarray)
        low, high = _span(array.shape, array.strides, array.itemsize)
        layout = (array.dtype, array.shape, array.strides, writeable)
        if root is not array:
            if not (root.flags.c_contiguous or root.flags.f_contiguous):
                return None
            offset = array.ctypes.data - root.ctypes.data
            whole = root.nbytes
        elif isinstance(root.base, memoryview) and root.base.c_contiguous:
            root = root.base
            offset = array.ctypes.data - numpy.frombuffer(root, numpy.uint8).ctypes.data
            whole = root.nbytes
        else:
            return None
        if offset + low < 0 or offset + high > whole:
            return None
        return (_view, (root, offset, *layout))


class _FastPickler(_Reductions, cloudpickle.Pickler):  # type: ignore[misc]
    """The C pickler."""

    def reducer_override(self, obj: Any) -> Any:
        return self._reduce(obj)


class _DillPickler(_Reductions, dill.Pickler):  # type: ignore[misc]
    """dill's pickler, pure Python and about seven times slower, for what C cannot do."""

    def reducer_override(self, obj: Any) -> Any:
        return self._reduce(obj)


def dump(
    root: dict[str, Any], main: dict[str, Any], definitions: Definitions, observer: Observer
) -> Pickled:
    """Serialize a unit, by C where possible and by dill where not.

    Raises `Unsavable` for objects that are refused by type, otherwise what pickling raised;
    when both picklers failed, the error of the C pickler, which users know.
    """
    try:
        return _dump(_FastPickler, "pickle", root, main, definitions, observer)
    except (Unsavable, RecursionError, MemoryError):
        raise
    except Exception as first:
        try:
            return _dump(_DillPickler, "dill", root, main, definitions, observer)
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
) -> Pickled:
    out = io.BytesIO()
    buffers: list[pickle.PickleBuffer] = []
    pickler = pickler_class(out, protocol=PROTOCOL, buffer_callback=buffers.append)
    pickler._start(main, definitions, observer)
    # The C implementation's own dump: cloudpickle's rewrites RecursionError into its advice.
    if codec == "pickle":
        pickle.Pickler.dump(pickler, root)
    else:
        pickler.dump(root)
    own = {id(buffer) for buffer in pickler._private}
    private = {index for index, buffer in enumerate(buffers) if id(buffer) in own}
    return Pickled(codec, out.getvalue(), buffers, private, pickler._needs, keep=pickler)


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

    def persistent_load(_self: Any, pid: tuple[str, ...]) -> Any:
        match pid:
            case ("main",):
                return main
            case ("module", name):
                return importlib.import_module(name)
            case ("definition", key):
                return resolver.definition(key)
        raise pickle.UnpicklingError(f"unknown reference {pid!r}")

    base: Any = {"pickle": pickle.Unpickler, "dill": dill.Unpickler}[codec]

    def find_class(self: Any, module: str, name: str) -> Any:
        # Objects that pickle by their name in the notebook: they live in another unit.
        if module == "__main__" and codec == "pickle":
            return resolver.definition(name)
        return base.find_class(self, module, name)

    members = {"persistent_load": persistent_load, "find_class": find_class}
    unpickler = type("Unpickler", (base,), members)
    root: dict[str, Any] = unpickler(io.BytesIO(stream), buffers=buffers).load()
    return root
