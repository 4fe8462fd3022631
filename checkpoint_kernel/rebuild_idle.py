"""What pickles of `reducers_idle` call when they are loaded. Starts no process and runs no code.

The names of these functions, and their parameters, stand in checkpoints: add, never rename.
"""

from __future__ import annotations

from typing import Any

from . import rebuild

# Modules are imported where they are used: a restore should not cost what it does not need.


def update(obj: Any, attributes: dict[str, Any]) -> None:
    """Attributes of an instance."""
    vars(obj).update(attributes)


def call(
    function: Any, arguments: tuple[Any, ...], keywords: dict[str, Any], name: str, qualname: str
) -> Any:
    """A generator or coroutine of `function`, whose code has not begun to run."""
    made = function(*arguments, **keywords)
    made.__name__, made.__qualname__ = name, qualname
    if rebuild.trying and hasattr(made, "cr_code"):
        made.close()  # one that is thrown away without would warn
    return made


def loop(cls: Any, is_closed: bool) -> Any:
    """An event loop with nothing to do."""
    made = cls()
    if is_closed or rebuild.trying:
        made.close()
    return made


def selector(cls: Any, is_closed: bool) -> Any:
    """A selector that watches nothing."""
    made = cls()
    if is_closed:
        made.close()
    return made


def process(
    cls: Any, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], name: str, daemon: Any
) -> Any:
    """A process of multiprocessing that has not been started."""
    return cls(None, target, name, args, kwargs, daemon=daemon)


def shared(cls: Any, method: str, value: int | None, bound: int | None) -> Any:
    """A lock, semaphore, event or queue of multiprocessing, for processes started by `method`.

    `value`: of a semaphore, whether an event is set, the size of a queue; `bound`: the value that
    a bounded semaphore had at first.
    """
    import multiprocessing

    if rebuild.trying:  # it may start a process that watches over its semaphores
        return object()
    context = multiprocessing.get_context(method)
    name = cls.__name__
    if name == "Event":
        made = cls(ctx=context)
        if value:
            made.set()
        return made
    if value is None:
        return cls(ctx=context)
    if bound is None:
        return cls(value, ctx=context)
    made = cls(bound, ctx=context)
    for _ in range(bound - value):
        made.acquire()
    return made


def synchronized(cls: Any, content: bytes, lock: Any) -> Any:
    """A number or array of ctypes in memory that forked processes share, under a lock."""
    import ctypes
    from multiprocessing import sharedctypes

    if rebuild.trying:
        return object()
    raw = sharedctypes.RawValue(cls)
    ctypes.memmove(ctypes.addressof(raw), content, len(content))
    return sharedctypes.synchronized(raw, lock)
