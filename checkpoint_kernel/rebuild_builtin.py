"""What pickles call that `reducers_builtin` made, when they are loaded.

The names of these functions, and their parameters, stand in checkpoints: as in `rebuild`, add,
never rename.
"""

from __future__ import annotations

import contextvars
import functools
import itertools
import logging
import threading
import types
import typing
import weakref
from collections.abc import Callable
from typing import Any

from .stub import Stub


def set_state(obj: Any, state: Any) -> None:
    """Attributes and slots of an object, without asking it for anything."""
    attributes, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
    if attributes:
        object.__getattribute__(obj, "__dict__").update(attributes)
    for name, value in (slots or {}).items():
        object.__setattr__(obj, name, value)


def dict_view(mapping: Any, kind: str) -> Any:
    """`mapping.keys()`, `values()` or `items()`."""
    return getattr(mapping, kind)()


def class_attribute(owner: type, name: str) -> Any:
    """What stands under a name in a class itself, a descriptor, and not what it gives."""
    return vars(owner)[name]


def memory_view_within(
    owner: Any,
    offset: int,
    size: int,
    format: str,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    readonly: bool,
) -> memoryview:
    """A view of a part of `owner`'s memory; `offset`, `size` and `strides` in bytes."""
    flat = memoryview(owner).cast("B")
    if len(shape) == 1 and shape[0] > 1 and strides[0] < 0:
        reach = (shape[0] - 1) * -strides[0]
        flat = flat[offset - reach : offset - reach + size]
    else:
        flat = flat[offset : offset + size]
    if len(shape) == 1:
        view = flat.cast(format)  # type: ignore[call-overload]
        view = view[:: strides[0] // view.itemsize] if view.nbytes else view
    else:
        view = flat.cast(format, shape)  # type: ignore[call-overload]
    result: memoryview = view.toreadonly() if readonly and not view.readonly else view
    return result


class _Gone:
    """Once there was something that a weak reference was of."""


def weak_reference(referent: Any, callback: Any) -> Any:
    """A weak reference; a dead one for None, and the stub itself of what is not back."""
    if isinstance(referent, Stub):
        return referent
    return weakref.ref(_Gone() if referent is None else referent, callback)


def weak_proxy(referent: Any) -> Any:
    """As `weak_reference`, a proxy."""
    if isinstance(referent, Stub):
        return referent
    return weakref.proxy(_Gone() if referent is None else referent)


def weak_method(owner: Any, function: Any) -> Any:
    """A weak reference to a bound method; a dead one for None."""
    if isinstance(owner, Stub):
        return owner
    if owner is None:
        owner, function = _Gone(), _Gone.__repr__
    return weakref.WeakMethod(types.MethodType(function, owner))


def fill_weakly(collection: Any, content: list[Any]) -> None:
    """Members of a WeakSet, pairs of a weak dictionary; stubs cannot be in them."""
    for each in content:
        if isinstance(collection, weakref.WeakSet):
            if not isinstance(each, Stub):
                collection.add(each)
        elif not any(isinstance(part, Stub) for part in each):
            collection[each[0]] = each[1]


def finalizer(
    obj: Any, function: Any, arguments: tuple[Any, ...], keywords: dict[str, Any], at_exit: bool
) -> Any:
    """A weakref.finalize that has not run yet; for None one that has."""
    made: Any = weakref.finalize(
        _Gone() if obj is None else obj, function or id, *arguments, **keywords
    )
    if obj is None:
        made.detach()
    else:
        made.atexit = at_exit
    return made


def new_exception(cls: Any, *arguments: Any) -> BaseException:
    """An exception, without running the `__new__` and `__init__` of Python classes."""
    base = next(base for base in cls.__mro__ if not base.__flags__ & 1 << 9)  # no heap type
    error: BaseException = base.__new__(cls, *arguments)
    base.__init__(error, *arguments)
    return error


def set_exception(error: BaseException, whole: tuple[Any, ...]) -> None:
    """State, cause, context, whether the context is hidden, and traceback."""
    state, cause, context, suppressed, traceback = whole
    if state is not None:
        error.__setstate__(state)
    error.__context__ = context
    error.__cause__ = cause  # it suppresses the context
    error.__suppress_context__ = suppressed
    error.__traceback__ = traceback


_Places = list[tuple[str, int, str, str, str | None]]


def traceback_of(places: _Places) -> types.TracebackType | None:
    """A traceback of files, lines and names, whose frames have no variables."""
    made: list[types.TracebackType | None] = []
    # A frame keeps those that called it, and here they hold all that is being restored.
    thread = threading.Thread(target=lambda: made.append(_traceback_of(places)))
    thread.start()
    thread.join()
    return made[0]


def _traceback_of(places: _Places) -> types.TracebackType | None:
    made = None
    for file, line, name, qualified_name, module in reversed(places):
        code = _RAISES.replace(
            co_filename=file, co_name=name, co_qualname=qualified_name, co_firstlineno=line
        )
        # Without an instruction nobody looks for columns.
        made = types.TracebackType(made, _frame(code, module), -1, line)
    return made


_RAISES = compile("1 / 0", "", "exec")


def _frame(code: types.CodeType, module: str | None) -> types.FrameType:
    """A frame of code that raises ZeroDivisionError."""
    found: Any = None
    try:
        exec(code, {"__name__": module})
    except ZeroDivisionError as raised:
        found = raised.__traceback__
    frame: types.FrameType = found.tb_next.tb_frame
    return frame


def match(pattern: Any, how: str, text: Any, start: int, end: int) -> Any:
    """Match again: `how` is search, match or fullmatch."""
    return getattr(pattern, how)(text, start, end)


def context_variable(name: str, default: tuple[Any, ...]) -> contextvars.ContextVar[Any]:
    """A ContextVar; `default` is empty if it has none."""
    if default:
        return contextvars.ContextVar(name, default=default[0])
    return contextvars.ContextVar(name)


def set_context(variable: contextvars.ContextVar[Any], value: tuple[Any, ...]) -> None:
    """Set it in the context of whoever loads it; `value` is empty if it was not set."""
    if value:
        variable.set(value[0])


def set_logger(logger: logging.Logger, state: dict[str, Any]) -> None:
    """Level, handlers and filters; handlers and filters that are not back are left out."""
    for name, value in state.items():
        if isinstance(value, list):
            value = [part for part in value if not isinstance(part, Stub)]
        setattr(logger, name, value)
    logger.setLevel(logger.level)  # forgets which levels are on


def type_parameter(cls: Any, name: str, options: dict[str, Any], module: str) -> Any:
    """A ParamSpec or TypeVarTuple."""
    made = cls(name, **options)
    made.__module__ = module
    return made


def new_type(name: str, supertype: Any, module: str) -> Any:
    """A typing.NewType."""
    make: Any = typing.NewType
    made = make(name, supertype)
    made.__module__ = module
    return made


def type_alias(name: str, value: Any, parameters: tuple[Any, ...]) -> Any:
    """What `type Name = ...` makes (Python 3.12)."""
    make: Any = vars(typing)["TypeAliasType"]
    return make(name, value, type_params=parameters)


def set_module(module: types.ModuleType, state: dict[str, Any]) -> None:
    """The names of a module that was made by hand."""
    vars(module).update(state)


def json_scanner(options: dict[str, Any]) -> Any:
    """What a JSONDecoder scans with."""
    from json import scanner

    make: Any = scanner.make_scanner
    return make(types.SimpleNamespace(memo={}, **options))


def sort_key(comparison: Any, element: Any) -> Any:
    """A key function of a comparison, or the key of an element unless that is None."""
    key = functools.cmp_to_key(comparison)
    return key if element is None else key(element)


def csv_reader(source: Any, line_number: int, options: dict[str, Any]) -> Any:
    """A csv.reader that has read so many lines before."""
    import csv

    if not line_number:
        return csv.reader(source, **options)
    reader = csv.reader(itertools.chain(itertools.repeat("", line_number), source), **options)
    for _ in range(line_number):
        next(reader)
    return reader


def csv_writer(write: Any, options: dict[str, Any]) -> Any:
    """A csv.writer that hands its text to `write`."""
    import csv

    return csv.writer(types.SimpleNamespace(write=write), **options)


def set_argument(part: Any, state: dict[str, Any]) -> None:
    """Attributes of a part of an argument parser, with argparse's own SUPPRESS."""
    from argparse import SUPPRESS

    vars(part).update(
        (name, SUPPRESS if isinstance(value, str) and value == SUPPRESS else value)
        for name, value in state.items()
    )


def set_library(library: Any, functions: dict[str, tuple[Any, Any]]) -> None:
    """Result and argument types of the functions of a ctypes library."""
    for name, (result, arguments) in functions.items():
        function = getattr(library, name)
        function.restype = result
        if arguments is not None:
            function.argtypes = arguments


def new_mock(cls: Callable[..., Any]) -> Any:
    """A mock of a class, without what it was told."""
    return cls()


def set_mock(mock: Any, state: dict[str, Any]) -> None:
    """What a mock was told and has seen, its magic methods too."""
    vars(mock).clear()
    vars(mock).update(state)
    for name, child in list(state["_mock_children"].items()):
        if name.startswith("__"):
            setattr(mock, name, child)


def mock_call(values: tuple[Any, ...], name: Any, parent: Any, two: bool, whole: bool) -> Any:
    """A call that a mock has seen."""
    from unittest import mock

    made: Any = mock._Call(values, name, parent, two, whole)
    return made


def set_enum(
    cls: Any, whole: tuple[Callable[[Any, Any], None], Any, list[tuple[str, Any, dict[str, Any]]]]
) -> None:
    """The class's own state, by `set_class`, and its members: name, value and attributes of each.

    Aliases and named combinations of flags are made here, all others with the class.
    """
    set_class, state, members = whole
    set_class(cls, state)
    for name, value, attributes in members:
        if name not in cls._member_map_:
            member = cls(value)
            if member._name_ not in cls._member_map_:
                member._name_ = name
            cls._member_map_[name] = member
            type.__setattr__(cls, name, member)
        vars(cls._member_map_[name]).update(attributes)


def pointer_type(target: Any) -> Any:
    """ctypes makes one for each type."""
    import ctypes

    return ctypes.POINTER(target)


def array_type(element: Any, length: int) -> Any:
    """ctypes makes one for each element type and length."""
    return element * length
