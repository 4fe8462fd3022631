"""A library that keeps what a notebook hands to it, in every way that libraries have.

`hold(way, obj)` keeps an object, `poke(way)` changes what is kept: by a cell whose text names
no variable. Nothing here stays on a frame, so that only the way itself holds a reference.
"""

from __future__ import annotations

import contextvars
import ctypes
import functools
import gc
import itertools
import logging
import operator
import queue
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

# For the test: takes a checkpoint in the frame of the cell that calls it.
checkpoint: Callable[[], None] = lambda: None  # noqa: E731

_held: dict[str, Any] = {}
_waiting: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
_variable: contextvars.ContextVar[Any] = contextvars.ContextVar("held")
_logger = logging.getLogger("outside")


def change(obj: Any) -> None:
    """Change an object in place, whatever it is."""
    match obj:
        case np.ndarray():
            obj.reshape(-1)[:1] += 1
        case list():
            obj.append(len(obj))
        case dict():
            obj[f"k{len(obj)}"] = len(obj)
        case set():
            obj.add(len(obj))
        case bytearray() | memoryview():
            obj[0] = (obj[0] + 1) % 256
        case int() | float() | str() | None:
            raise TypeError("a constant")
        case _ if hasattr(obj, "append"):
            obj.append(len(obj))
        case _:
            obj.changed = getattr(obj, "changed", 0) + 1


def _change_first(obj: Any, _: Any) -> None:
    change(obj)


class _Worker(threading.Thread):
    """Holds an object on its stack alone, and does what it is told, one thing at a time."""

    def __init__(self, obj: Any) -> None:
        super().__init__(daemon=True)
        self.todo: queue.Queue[Callable[[Any], Any] | None] = queue.Queue()
        self.done: queue.Queue[Any] = queue.Queue()
        self.first = [obj]
        self.start()

    def run(self) -> None:
        obj = self.first.pop()
        while (step := self.todo.get()) is not None:
            try:
                step(obj)
            finally:
                del step
                self.done.put(None)

    def do(self, step: Callable[[Any], Any]) -> None:
        self.todo.put(step)
        self.done.get(timeout=10)


class _Handler(logging.Handler):
    def __init__(self, obj: Any) -> None:
        super().__init__()
        self.obj = obj

    def emit(self, record: logging.LogRecord) -> None:
        change(self.obj)


class _Node:
    """Something that can be watched."""


def _generator(obj: Any) -> Iterator[None]:
    while True:
        yield
        change(obj)


def _closure(obj: Any) -> Callable[[], None]:
    return lambda: change(obj)


def _default() -> Callable[[], None]:
    def act(obj: Any = None) -> None:
        change(obj)

    return act


def _frame(obj: Any) -> types.FrameType:
    return sys._getframe()


def _raised(obj: Any) -> BaseException:
    try:
        raise KeyError
    except KeyError as why:
        return why


def _with_default(obj: Any) -> Callable[[], None]:
    act = _default()
    act.__defaults__ = (obj,)  # type: ignore[attr-defined]
    return act


def _attribute(obj: Any) -> types.ModuleType:
    module = types.ModuleType("held")
    module.obj = obj  # type: ignore[attr-defined]
    sys.modules["outside_held"] = module
    return module


def _logged(obj: Any) -> _Handler:
    handler = _Handler(obj)
    _logger.addHandler(handler)
    return handler


def _contextvar(obj: Any) -> contextvars.ContextVar[Any]:
    _variable.set(obj)
    return _variable


def _finalizer(obj: Any) -> tuple[_Node, Any]:
    node = _Node()
    return node, weakref.finalize(node, change, obj)


def _dispatching(obj: Any) -> Any:
    dispatch = functools.singledispatch(print)
    dispatch.register(int, functools.partial(_change_first, obj))
    return dispatch


def _entered(obj: Any) -> Iterator[None]:
    generator = _generator(obj)
    next(generator)
    return generator


# What is kept of an object, and how what is kept leads to it again.
WAYS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "reference": (lambda o: o, change),
    "in a tuple": (lambda o: (o,), lambda k: change(k[0])),
    "weak": (weakref.ref, lambda k: change(k())),
    "weak set": (lambda o: weakref.WeakSet([o]), lambda k: change(next(iter(k)))),
    "bound method": (
        lambda o: getattr(o, "append", None) or getattr(o, "update", None) or o.__init__,
        lambda k: change(k.__self__),
    ),
    "partial": (lambda o: functools.partial(change, o), lambda k: k()),
    "iterator": (iter, lambda k: change(k.__reduce__()[1][0])),
    "view of a dict": (dict.items, lambda k: change(next(iter(gc.get_referents(k))))),
    "itertools": (lambda o: itertools.cycle([o]), lambda k: change(next(k))),
    "closure": (_closure, lambda k: k()),
    "default": (_with_default, lambda k: k()),
    "generator": (_entered, next),
    "frame": (_frame, lambda k: change(k.f_locals["obj"])),
    "traceback": (_raised, lambda k: change(k.__traceback__.tb_frame.f_locals["obj"])),
    "thread": (_Worker, lambda k: k.do(change)),
    "handler": (_logged, lambda k: _logger.error("x")),
    "module": (_attribute, lambda k: change(sys.modules["outside_held"].obj)),
    "context": (_contextvar, lambda k: change(k.get())),
    "finalizer": (_finalizer, lambda k: k[1]()),
    "dispatch": (_dispatching, lambda k: k(1)),
    "slice": (slice, lambda k: change(k.stop)),
    "cell": (types.CellType, lambda k: change(k.cell_contents)),
    "attributes": (vars, lambda k: k.update(changed=k.get("changed", 0) + 1)),
    "base": (lambda o: o.base if o.base is not None else o[:], lambda k: change(k)),
    "array view": (lambda o: o[1:], change),
    "strided view": (
        lambda o: np.lib.stride_tricks.as_strided(o, (1,), o.strides[:1]),
        change,
    ),
    "memory": (lambda o: memoryview(o).cast("B"), change),
    "memory of the base": (lambda o: memoryview(o.base.base)[:], change),
    "another array": (lambda o: np.frombuffer(o, "u1"), change),
    "pointer": (
        lambda o: o.ctypes.data_as(ctypes.POINTER(ctypes.c_ubyte)),
        lambda k: operator.setitem(k, 0, (k[0] + 1) % 256),
    ),
    "from_buffer": (
        lambda o: (ctypes.c_ubyte * 4).from_buffer(o),
        lambda k: operator.setitem(k, 0, 9),
    ),
}


def hold(way: str, obj: Any) -> None:
    """Keep an object. Raises what its type makes of the way."""
    release(way)
    _held[way] = WAYS[way][0](obj)


def poke(way: str) -> None:
    """Change what is kept."""
    WAYS[way][1](_held[way])


def poke_at(address: int) -> None:
    """Change the byte at an address, as C code does that was told it."""
    byte = ctypes.c_ubyte.from_address(address)
    byte.value = (byte.value + 1) % 256


def later(function: Callable[..., Any], *arguments: Any) -> None:
    """Call it at the next `fire`."""
    _waiting.append((function, arguments))


def fire() -> None:
    """Call what waits."""
    while _waiting:
        function, arguments = _waiting.pop(0)
        function(*arguments)


def release(way: str) -> None:
    """Let go of what is kept."""
    kept = _held.pop(way, None)
    if isinstance(kept, _Worker):
        kept.todo.put(None)
        kept.join()
    if isinstance(kept, _Handler):
        _logger.removeHandler(kept)
    if way == "module":
        sys.modules.pop("outside_held", None)
    if way == "context":
        _variable.set(None)


def release_all() -> None:
    """As if it had just been imported."""
    for way in list(_held):
        release(way)
    _waiting.clear()
