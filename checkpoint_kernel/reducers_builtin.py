"""How built-in and standard library objects are saved that pickle, cloudpickle and dill cannot do,
or that these bring back as something else: views, weak references, matches, tracebacks.

Each reduction keeps what the object refers to: a view of a dict is saved as a view, and shares a
unit with its dict. Types are looked up once. Covers nothing whose state lies outside the process
(files, locks, connections), and no library beyond the standard one.
"""

from __future__ import annotations

import codecs
import collections
import contextvars
import ctypes
import dataclasses
import functools
import gc
import logging
import pickle
import re
import struct
import sys
import types
from collections.abc import Callable
from typing import Any, Final

from . import class_parts, kinds, rebuild_places, reducers_errors, reducers_places, reducers_weak
from . import rebuild as rebuild_all
from . import rebuild_builtin as rebuild

# An object to its reduction, in the form of `__reduce__`, or NotImplemented: as pickle does it.
Reducer = Callable[[Any], Any]

known: dict[type, Reducer | None] = {}


def find(cls: type) -> Reducer | None:
    """The reducer for objects of a type, if it needs one; looked up once for each."""
    found = _BY_TYPE.get(cls)
    if found is None:
        found = _BY_NAME.get((cls.__module__, cls.__qualname__)) or _by_base(cls)
    known[cls] = found
    return found


def unseen(_: Any) -> Any:
    """Stands for the reducer of a type that has not been looked up."""
    raise NotImplementedError


def _by_base(cls: type) -> Reducer | None:
    if issubclass(cls, type):  # its objects are classes
        return None
    if issubclass(cls, BaseException):
        return reducers_errors.exception
    for (module, name), reducer in _BY_BASE.items():
        base = getattr(sys.modules.get(module), name, None)
        if isinstance(base, type) and issubclass(cls, base):
            return reducer
    return _instance if class_parts.asks_for_attributes(cls) else None


def _instance(obj: Any) -> Any:
    reduced = obj.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    if not isinstance(reduced, tuple) or not 3 <= len(reduced) <= 5 or reduced[2] is None:
        return NotImplemented
    return (*reduced, *(None,) * (5 - len(reduced)), rebuild.set_state)


def _held_by(obj: Any) -> list[Any]:
    """What an object refers to, and Python has no name for; without its type."""
    return [part for part in gc.get_referents(obj) if part is not type(obj)]


# --- views and descriptors ------------------------------------------------------------


def _dict_view(view: Any) -> Any:
    kind = type(view).__name__.rpartition("_")[2]  # dict_keys, odict_items
    return (rebuild.dict_view, (_held_by(view)[0], kind))


def _mapping_proxy(proxy: Any) -> Any:
    if proxy is _NO_METADATA:
        return (getattr, (dataclasses, "_EMPTY_METADATA"))
    mapping = _held_by(proxy)[0]
    owner = getattr(proxy.get("__dict__"), "__objclass__", None)
    if isinstance(owner, type) and _held_by(vars(owner))[0] is mapping:
        return (vars, (owner,))
    return (types.MappingProxyType, (mapping,))


# All fields of all dataclasses share it.
_NO_METADATA: Final = getattr(dataclasses, "_EMPTY_METADATA", None)


class VarsOf:
    """Stands for the dict of an object's attributes."""

    def __init__(self, owner: Any) -> None:
        self._owner = owner

    def __reduce__(self) -> Any:
        return (vars, (self._owner,))


def dict_of(obj: Any) -> Any:
    """The dict of an object's attributes, without asking the object; None if it has none."""
    if not type(obj).__dictoffset__:
        return None
    try:
        return object.__getattribute__(obj, "__dict__")
    except AttributeError:
        return None


def _descriptor(descriptor: Any) -> Any:
    return (rebuild.class_attribute, (descriptor.__objclass__, descriptor.__name__))


def part_of_memory(view: memoryview) -> Any:
    """A memoryview of a part of a bytearray or array, or of another format than bytes."""
    owner = view.obj
    whole = memoryview(owner)
    format = view.format.removeprefix("@").removeprefix("<" if sys.byteorder == "little" else ">")
    simple = format in _FORMATS and (view.ndim == 1 or view.c_contiguous)
    if not (simple and whole.c_contiguous and view.nbytes):
        # Of records, or in Fortran's order: a copy of the bytes.
        return (rebuild_all.memory_view, (bytearray(view.tobytes()), view.readonly))
    offset = _address(view) - _address(whole)
    # From the first byte to the last, gaps and all.
    size = view.nbytes
    if view.ndim == 1:
        size = (len(view) - 1) * abs((view.strides or (0,))[0]) + view.itemsize
    layout = (offset, size, format, view.shape, view.strides, view.readonly)
    return (rebuild.memory_view_within, (owner, *layout))


_FORMATS: Final = frozenset("bBhHiIlLqQnNfd?c")
_FULL_RO: Final = 0x11C  # PyBUF_FULL_RO


def _address(view: memoryview) -> int:
    """Of its first element, as `struct Py_buffer` says first of all."""
    buffer = (ctypes.c_void_p * 12)()
    get, release = ctypes.pythonapi.PyObject_GetBuffer, ctypes.pythonapi.PyBuffer_Release
    get(ctypes.py_object(view), ctypes.byref(buffer), _FULL_RO)
    address = buffer[0] or 0
    release(ctypes.byref(buffer))
    return address


# --- the rest -------------------------------------------------------------------------


def _match(match: re.Match[Any]) -> Any:
    """By matching again: of the ways to find it, one that finds the same."""
    pattern, text = match.re, match.string
    for how, start in (("search", match.pos), ("match", match.start()), ("fullmatch", match.pos)):
        again = getattr(pattern, how)(text, start, match.endpos)
        if again is not None and again.regs == match.regs:
            return (rebuild.match, (pattern, how, text, start, match.endpos))
    raise pickle.PicklingError("the text does not match any more, as it did when it was searched")


def _struct(layout: struct.Struct) -> Any:
    return (struct.Struct, (layout.format,))


def _codec(info: codecs.CodecInfo) -> Any:
    parts = (
        info.encode, info.decode, info.streamreader, info.streamwriter, info.incrementalencoder,
        info.incrementaldecoder, info.name,
    )  # fmt: skip
    return (codecs.CodecInfo, parts)


def _context_variable(variable: contextvars.ContextVar[Any]) -> Any:
    """By name, if a library has it; else with its default, and its value in the context of the
    main thread."""
    if (place := reducers_places.module_of(variable)) is not None:
        return (rebuild_places.library_variable, place)
    default: tuple[Any, ...] = ()
    try:
        default = (contextvars.Context().run(variable.get),)
    except LookupError:
        pass
    here = contextvars.copy_context()
    value = (here[variable],) if variable in here else ()
    state = value
    return (
        rebuild.context_variable,
        (variable.name, default),
        state,
        None,
        None,
        rebuild.set_context,
    )


def _logger(logger: logging.Logger) -> Any:
    """The live logger of its name, with level, handlers and filters as they were."""
    own = ("level", "propagate", "disabled", "handlers", "filters")
    state = {name: getattr(logger, name) for name in own}
    if logger.name != "root" and logging.Logger.manager.loggerDict.get(logger.name) is not logger:
        made: tuple[Any, ...] = (type(logger), (logger.name,))
    else:
        made = (logging.getLogger, () if logger is logging.root else (logger.name,))
        if not (logger.handlers or logger.filters or logger.level or logger.disabled):
            return made
    return (*made, state, None, None, rebuild.set_logger)


def _of_sys(fact: Any) -> Any:
    return (getattr, (sys, type(fact).__name__.rpartition(".")[2]))


def _singleton(module: str, name: str) -> Reducer:
    def reduce(_: Any) -> Any:
        return (getattr, (sys.modules[module], name))

    return reduce


def _module(module: types.ModuleType) -> Any:
    """One that was made by hand, and cannot be imported."""
    state = {name: value for name, value in vars(module).items() if name != "__builtins__"}
    return (type(module), (module.__name__, module.__doc__), state, None, None, rebuild.set_module)


def _json_scanner(scanner: Any) -> Any:
    names = (
        "strict", "object_hook", "object_pairs_hook", "parse_float", "parse_int", "parse_constant"
    )  # fmt: skip
    return (rebuild.json_scanner, ({name: getattr(scanner, name) for name in names},))


def _sort_key(key: Any) -> Any:
    """What functools.cmp_to_key gives, or what that gives for one element."""
    comparison = next(part for part in _held_by(key) if part is not key.obj)
    return (rebuild.sort_key, (comparison, key.obj))


def _csv_reader(reader: Any) -> Any:
    """Over what is left of its source; each row that it has begun, it has read."""
    source = next(part for part in _held_by(reader) if hasattr(part, "__next__"))
    return (rebuild.csv_reader, (source, reader.line_num, _dialect_options(reader.dialect)))


def _csv_writer(writer: Any) -> Any:
    write = next(part for part in _held_by(writer) if callable(part))
    return (rebuild.csv_writer, (write, _dialect_options(writer.dialect)))


def _dialect_options(dialect: Any) -> dict[str, Any]:
    names = (
        "delimiter", "doublequote", "escapechar", "lineterminator", "quotechar", "quoting",
        "skipinitialspace", "strict",
    )  # fmt: skip
    return {name: getattr(dialect, name) for name in names}


def _argument(part: Any) -> Any:
    """argparse tells its SUPPRESS, a text, by identity."""
    reduced = part.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    if len(reduced) == 2 or type(reduced[2]) is not dict:
        return NotImplemented
    return (*reduced[:3], None, None, rebuild.set_argument)


def _library(library: Any) -> Any:
    """A shared library of ctypes, opened again; its functions with the types they were given."""
    functions = {
        name: (function.restype, function.argtypes)
        for name, function in vars(library).items()
        if hasattr(function, "restype") and hasattr(function, "argtypes")
    }
    made = (type(library), (library._name,))
    return (*made, functions, None, None, rebuild.set_library)


def _mock(mock: Any) -> Any:
    # Each mock has a class of its own, for its magic methods.
    return (rebuild.new_mock, (type(mock).__mro__[1],), vars(mock), None, None, rebuild.set_mock)


def _mock_call(call: Any) -> Any:
    parts = (tuple(call), call._mock_name, call._mock_parent, len(call) == 2, call._mock_from_kall)
    return (rebuild.mock_call, parts)


_VIEWED: Final[tuple[Any, ...]] = ({}, collections.OrderedDict())
_FACTS: Final = ("version_info", "flags", "float_info", "int_info", "hash_info", "thread_info")

_BY_TYPE: Final[dict[type, Reducer]] = {
    **{type(d.keys()): _dict_view for d in _VIEWED},
    **{type(d.values()): _dict_view for d in _VIEWED},
    **{type(d.items()): _dict_view for d in _VIEWED},
    types.MappingProxyType: _mapping_proxy,
    types.GetSetDescriptorType: _descriptor,
    types.MemberDescriptorType: _descriptor,
    types.ModuleType: _module,
    types.TracebackType: reducers_errors.traceback,
    re.Match: _match,
    struct.Struct: _struct,
    codecs.CodecInfo: _codec,
    contextvars.ContextVar: _context_variable,
    logging.Logger: _logger,
    logging.RootLogger: _logger,
    type(functools.cmp_to_key(max)): _sort_key,
    **{type(getattr(sys, name)): _of_sys for name in _FACTS},
    **class_parts.BY_TYPE,
    **reducers_weak.BY_TYPE,
}

_BY_NAME: Final[dict[tuple[str, str], Reducer]] = {
    ("dataclasses", "_MISSING_TYPE"): _singleton("dataclasses", "MISSING"),
    ("dataclasses", "_KW_ONLY_TYPE"): _singleton("dataclasses", "KW_ONLY"),
    ("dataclasses", "_HAS_DEFAULT_FACTORY_CLASS"): _singleton(
        "dataclasses", "_HAS_DEFAULT_FACTORY"
    ),
    ("_json", "Scanner"): _json_scanner,
    ("_csv", "reader"): _csv_reader,
    ("_csv", "writer"): _csv_writer,
    ("unittest.mock", "_Call"): _mock_call,
}
_BY_BASE: Final[dict[tuple[str, str], Reducer]] = {
    ("argparse", "Action"): _argument,
    ("argparse", "_ActionsContainer"): _argument,
    ("ctypes", "CDLL"): _library,
    ("unittest.mock", "NonCallableMock"): _mock,
}

kinds.reduced_elsewhere.append(lambda cls: find(cls) is not None)
