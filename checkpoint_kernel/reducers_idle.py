"""How objects are saved that have not begun, or have nothing to do: generators and coroutines,
processes, event loops, selectors, and what multiprocessing shares.

Once they are under way they stand for running code, for other processes or for what these have
yet to take, and are refused.
"""

from __future__ import annotations

import dis
import gc
import inspect
import types
from typing import Any, Final

from . import rebuild_idle
from .refusals import Refusal, Refused, refusal_for, type_name
from .registry import named_reduction

_ITEMS: Final = "its items are on their way to processes that end with this one"
_LEFT: Final = dis.opmap["RETURN_GENERATOR"]


def _refused(obj: Any) -> Refused:
    """As all of its type that are under way."""
    refusal = refusal_for(type(obj))
    assert refusal is not None
    return Refused(type_name(obj), refusal)


# --- code that has not begun --------------------------------------------------------------


def reduce_generator(obj: Any) -> Any:
    """A generator: its function and the arguments of the call."""
    return _not_begun(obj, inspect.getgeneratorstate(obj) == "GEN_CREATED", "gi")


def reduce_coroutine(obj: Any) -> Any:
    """A coroutine, likewise."""
    return _not_begun(obj, inspect.getcoroutinestate(obj) == "CORO_CREATED", "cr")


def reduce_async_generator(obj: Any) -> Any:
    """An asynchronous generator, likewise."""
    return _not_begun(obj, _is_created(obj), "ag")


def _is_created(obj: types.AsyncGeneratorType[Any, Any]) -> bool:
    if hasattr(inspect, "getasyncgenstate"):  # Python 3.12
        return bool(inspect.getasyncgenstate(obj) == "AGEN_CREATED")
    frame = obj.ag_frame
    # Until it begins, it stands where the call left it.
    return frame is not None and frame.f_code.co_code[frame.f_lasti] == _LEFT


def _not_begun(obj: Any, created: bool, prefix: str) -> Any:
    code: types.CodeType = getattr(obj, f"{prefix}_code")
    # The frame holds the function that was called.
    functions = [
        one
        for one in gc.get_referents(obj)
        if type(one) is types.FunctionType and one.__code__ is code
    ]
    if not created or not functions:
        raise _refused(obj)
    # An argument may be such a function too, and then they are the same but for their closures.
    if any(one is not functions[0] for one in functions):
        raise _refused(obj)
    given = getattr(obj, f"{prefix}_frame").f_locals
    names = list(code.co_varnames)
    positional = names[: code.co_argcount]
    by_name = names[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    rest = names[code.co_argcount + code.co_kwonlyargcount :]
    arguments = tuple(given[name] for name in positional)
    if code.co_flags & inspect.CO_VARARGS:
        arguments += given[rest.pop(0)]
    keywords = {name: given[name] for name in by_name}
    if code.co_flags & inspect.CO_VARKEYWORDS:
        keywords |= given[rest.pop(0)]
    return (rebuild_idle.call, (functions[0], arguments, keywords, obj.__name__, obj.__qualname__))


def reduce_loop(obj: Any) -> Any:
    """An event loop that does not run, and has nothing to run."""
    busy = obj.is_running() or obj._ready or obj._scheduled or obj._signal_handlers
    descriptors = () if obj.is_closed() else obj._selector.get_map()
    if busy or len(descriptors) > 1 or obj._default_executor is not None:
        raise _refused(obj)
    state = {name: getattr(obj, name) for name in ("slow_callback_duration", "_debug")}
    state |= {name: getattr(obj, name) for name in ("_exception_handler", "_task_factory")}
    return (rebuild_idle.loop, (type(obj), obj.is_closed()), state, None, None,
            rebuild_idle.update)  # fmt: skip


def reduce_selector(obj: Any) -> Any:
    """A selector that watches nothing."""
    watched = obj.get_map()
    if watched:
        what = Refusal(f"it watches {len(watched)} files or connections", "register them again")
        raise Refused(type_name(obj), what)
    return (rebuild_idle.selector, (type(obj), watched is None))


# --- multiprocessing ----------------------------------------------------------------------


def reduce_process(obj: Any) -> Any:
    """A process that has not been started."""
    if obj._popen is not None or obj._closed:
        raise _refused(obj)
    given = (obj._target, obj._args, obj._kwargs, obj._name, obj._config.get("daemon"))
    return (rebuild_idle.process, (type(obj), *given))


def _method(lock: Any) -> str:
    """How the processes are started that it is for: forked ones need no name of it."""
    return "fork" if lock._semlock.name is None else "spawn"


def reduce_lock(obj: Any) -> Any:
    """Locks: new and unlocked. Whoever held it is gone."""
    return (rebuild_idle.shared, (type(obj), _method(obj), None, None))


def reduce_semaphore(obj: Any) -> Any:
    """Semaphores: with their value."""
    inner = obj._semlock
    bound = inner.maxvalue if type(obj).__name__ == "BoundedSemaphore" else None
    return (rebuild_idle.shared, (type(obj), _method(obj), inner._get_value(), bound))


def reduce_event(obj: Any) -> Any:
    """An event: with its flag."""
    is_set = obj._flag._semlock._get_value()
    return (rebuild_idle.shared, (type(obj), _method(obj._flag), is_set, None))


def reduce_queue(obj: Any) -> Any:
    """A queue with nothing in it; what is in a pipe cannot be looked at."""
    inside = obj._maxsize - obj._sem._semlock._get_value()
    open_tasks = getattr(obj, "_unfinished_tasks", None)
    if obj._closed or inside or (open_tasks is not None and open_tasks._semlock._get_value()):
        reason = "it is closed" if obj._closed else _ITEMS
        raise Refused(type_name(obj), Refusal(reason, "make a new one"))
    arguments = (type(obj), _method(obj._rlock), obj._maxsize, None)
    return (rebuild_idle.shared, arguments)


def reduce_synchronized(obj: Any) -> Any:
    """`Value` and `Array`: with their value, under their lock."""
    raw = obj._obj
    return (rebuild_idle.synchronized, (type(raw), bytes(raw), obj._lock))


named_reduction("types", "GeneratorType", reduce_generator)
named_reduction("types", "CoroutineType", reduce_coroutine)
named_reduction("types", "AsyncGeneratorType", reduce_async_generator)
named_reduction("asyncio.unix_events", "_UnixSelectorEventLoop", reduce_loop)
for _name in ("SelectSelector", "PollSelector", "EpollSelector"):
    named_reduction("selectors", _name, reduce_selector)
for _name in ("Process", "ForkProcess", "SpawnProcess", "ForkServerProcess"):
    named_reduction("multiprocessing.context", _name, reduce_process)
for _name in ("Lock", "RLock"):
    named_reduction("multiprocessing.synchronize", _name, reduce_lock)
for _name in ("Semaphore", "BoundedSemaphore"):
    named_reduction("multiprocessing.synchronize", _name, reduce_semaphore)
named_reduction("multiprocessing.synchronize", "Event", reduce_event)
for _name in ("Queue", "JoinableQueue"):
    named_reduction("multiprocessing.queues", _name, reduce_queue)
for _name in ("Synchronized", "SynchronizedArray", "SynchronizedString"):
    named_reduction("multiprocessing.sharedctypes", _name, reduce_synchronized)
