"""How objects of the standard library are saved that pickle cannot save, or not rightly.

Locks come back new and unlocked, queues with their items, pools without work. What connects to
the world outside is refused with how to have it again. Files are `reducers_files`', databases
`reducers_sqlite`'s. Not covered: iterators, views, weak references, logging (`reducers_builtin`).
"""

from __future__ import annotations

import contextlib
import copyreg
import queue
from typing import Any, Final

from . import open_files, rebuild, rebuild_standard
from .refusals import Refusal, Refused, type_name
from .registry import Partly, Reduce, named_reduction

_PRIVATE_MAP: Final = 64 << 20


def refused(obj: Any, reason: str, remedy: str | None = None, *, bound: bool = False) -> Refused:
    """The error that says why an object cannot be saved."""
    return Refused(type_name(obj), Refusal(reason, remedy, bound))


def _instance(obj: Any, without: tuple[str, ...] = (), **changed: Any) -> Any:
    """As object's own reduction, with other attributes."""
    state = {k: v for k, v in vars(obj).items() if k not in without}
    return (copyreg.__newobj__, (type(obj),), {**state, **changed})  # type: ignore[attr-defined]


# --- threads ------------------------------------------------------------------------------


def reduce_lock(obj: Any) -> Any:
    """_thread.lock, held or not."""
    return (rebuild_standard.lock, ())


def reduce_rlock(obj: Any) -> Any:
    """_thread.RLock, held or not."""
    return (rebuild_standard.rlock, ())


_OF_CONDITION: Final = ("_lock", "acquire", "release", "_release_save", "_acquire_restore",
                        "_is_owned", "_waiters")  # fmt: skip


def reduce_condition(obj: Any) -> Any:
    """threading.Condition: with its own lock, which others may know, and without who waits."""
    state = {k: v for k, v in vars(obj).items() if k not in _OF_CONDITION}
    arguments = (type(obj), obj._lock)
    return (rebuild_standard.condition, arguments, state or None, None, None,
            rebuild_standard.update)  # fmt: skip


def reduce_barrier(obj: Any) -> Any:
    """threading.Barrier: those who wait end with the process; a broken one stays broken."""
    return _instance(obj, _count=0, _state=obj._state if obj._state == -2 else 0)


def reduce_local(obj: Any) -> Any:
    """threading.local: the main thread's values."""
    if open_files.forked_by_other_thread():
        raise refused(obj, "only the main thread can say what it holds, and is in a long call")
    return (rebuild_standard.new, (type(obj),), dict(vars(obj)), None, None,
            rebuild_standard.update)  # fmt: skip


def reduce_thread(obj: Any) -> Any:
    """threading.Thread: one that has not begun, or is over."""
    if not obj._started.is_set():
        arguments = (obj._target, obj._args, obj._kwargs, obj.name, obj.daemon)
        return (rebuild_standard.thread, arguments)
    if not open_files.was_alive(obj):
        return (rebuild_standard.ended_thread, (obj.name, obj.daemon))
    raise refused(obj, f"thread {obj.name!r} ends with its process", "start it again")


def reduce_simple_queue(obj: Any) -> Any:
    """queue.SimpleQueue, whose items can only be taken out; they are put back."""
    items: list[Any] = []
    try:
        with contextlib.suppress(queue.Empty):  # where there is no fork, others take from it too
            for _ in range(obj.qsize()):
                items.append(obj.get_nowait())
    finally:
        for item in items:
            obj.put(item)
    return (rebuild_standard.simple_queue, (), items, None, None, rebuild_standard.put_all)


# --- asyncio ------------------------------------------------------------------------------


def _without_waiters(**changed: Any) -> Reduce:
    def reduce(obj: Any) -> Any:
        found = vars(obj)
        fresh = {k: v() if callable(v) else v for k, v in changed.items() if k in found}
        return _instance(obj, ("_loop",), **fresh)

    return reduce


def _deque() -> Any:
    from collections import deque

    return deque()


# --- work under way -----------------------------------------------------------------------


def reduce_future(obj: Any) -> Any:
    """concurrent.futures.Future: with its result, once it has one."""
    if not obj.done():
        raise refused(obj, "whoever would complete it ends with the process")
    return _instance(obj, _waiters=[], _done_callbacks=[])


def reduce_thread_pool(obj: Any) -> Any:
    """ThreadPoolExecutor: a new one of its size, if it has nothing to do."""
    busy = len(obj._threads) - obj._idle_semaphore._value
    if obj._work_queue.qsize() > obj._shutdown or (busy > 0 and not obj._shutdown):
        raise refused(obj, "it has work that ends with the process", "make a new one")
    return (rebuild_standard.thread_pool, (
        obj._max_workers, obj._thread_name_prefix, getattr(obj, "_initializer", None),
        getattr(obj, "_initargs", ()), bool(obj._shutdown),
    ))  # fmt: skip


def reduce_process_pool(obj: Any) -> Any:
    """ProcessPoolExecutor: likewise."""
    if obj._pending_work_items:
        raise refused(obj, "it has work that ends with the process", "make a new one")
    return (rebuild_standard.process_pool, (
        obj._max_workers, obj._mp_context.get_start_method(), obj._initializer, obj._initargs,
        bool(obj._shutdown_thread),
    ))  # fmt: skip


def reduce_popen(obj: Any) -> Any:
    """subprocess.Popen: what is known of a process that has ended."""
    if obj.returncode is not None:
        return NotImplemented
    shown = f"subprocess.Popen({obj.args!r})"
    raise refused(obj, f"it stood for process {obj.pid}", f"start it again: {shown}", bound=True)


# --- connections --------------------------------------------------------------------------


def reduce_socket(obj: Any) -> Any:
    """socket.socket and its subclasses."""
    own, peer = open_files.addresses_of(obj.fileno()) if obj.fileno() >= 0 else (None, None)
    told = f" (from {own} to {peer})" if own and peer else f" (at {own})" if own else ""
    remedy = "connect again"
    if isinstance(peer, tuple):
        remedy += f": socket.create_connection({peer[:2]!r})"
    raise refused(obj, f"a network connection{told} ends with its process", remedy, bound=True)


def reduce_http(obj: Any) -> Any:
    """http.client.HTTPConnection: it connects by itself when it is used next."""
    import socket

    fresh: dict[str, Any] = {
        "sock": None, "_HTTPConnection__response": None, "_HTTPConnection__state": "Idle",
        "_buffer": [],
    }  # fmt: skip
    state = {**vars(obj), **fresh}
    if obj.timeout is getattr(socket, "_GLOBAL_DEFAULT_TIMEOUT", None):
        del state["timeout"]  # known by identity
    return (rebuild_standard.http_connection, (type(obj),), state)


def reduce_https(obj: Any) -> Any:
    """http.client.HTTPSConnection: its certificates are not known."""
    again = f"http.client.HTTPSConnection({obj.host!r}, {obj.port})"
    reason = "a network connection ends with its process"
    raise refused(obj, reason, f"connect again: {again}", bound=True)


# --- files ---------------------------------------------------------------------------------


def reduce_mmap(obj: Any) -> Any:
    """mmap.mmap: a shared map of a file is mapped again, others are copied."""
    if obj.closed:
        raise refused(obj, "it is closed", None)
    try:
        where = open_files.mapping_of(obj)
    except OSError as why:
        raise refused(obj, f"what it maps cannot be found out: {why}", "map it again") from why
    seek = (obj.tell(), None, None, rebuild_standard.seek)
    if where is not None:
        arguments = (where.path, where.device, where.inode, len(obj), where.offset, where.writes)
        made = (rebuild_standard.mapped_file, type_name(obj), "map it again", *arguments)
        return (rebuild.or_stub, made, *seek)
    if len(obj) > _PRIVATE_MAP:
        raise refused(obj, f"it holds {len(obj)} bytes of no file", "copy them: bytes(m)")
    return (rebuild_standard.mapped_memory, (obj[:],), *seek)


def _compressed(module: str, raw: str) -> Reduce:
    def reduce(obj: Any) -> Any:
        again = "open it again"
        if obj.closed or not obj.readable():
            raise refused(obj, "a compressed file that is closed or written ends with its process",
                          again)  # fmt: skip
        inner = getattr(obj, raw, None)
        try:
            place = open_files.place_of(inner.fileno())  # type: ignore[union-attr]
        except (OSError, AttributeError) as why:
            raise refused(obj, "what it reads is no file", again) from why
        if place.path is None:
            raise refused(obj, "its file has no name, and ends with the process", again)
        arguments = (module, place.path, place.device, place.inode, "rb", obj.tell())
        made = (rebuild_standard.compressed, type_name(obj), again, *arguments)
        return (rebuild.or_stub, made)

    return reduce


def reduce_system_random(obj: Any) -> Any:
    """random.SystemRandom."""
    return (rebuild_standard.system_random, (type(obj),))


def reduce_stub(obj: Any) -> Any:
    """What is not back is not saved either, and named again; it says where it still is."""
    why = Refused(obj._stub_what, Refusal(obj._stub_reason, obj._stub_remedy, bound=True))
    if obj._stub_checkpoint is not None:
        return Partly(obj.__reduce__(), why)
    raise why


def reduce_struct(obj: Any) -> Any:
    """struct.Struct."""
    return (type(obj), (obj.format,))


for _name in ("LockType", "lock"):
    named_reduction("_thread", _name, reduce_lock)
named_reduction("_thread", "RLock", reduce_rlock)
named_reduction("threading", "Condition", reduce_condition, subclasses=True)
named_reduction("threading", "Barrier", reduce_barrier)
named_reduction("threading", "local", reduce_local, subclasses=True)
named_reduction("threading", "Thread", reduce_thread)
named_reduction("_queue", "SimpleQueue", reduce_simple_queue)
named_reduction("asyncio.locks", "Lock", _without_waiters(_waiters=None, _locked=False))
named_reduction("asyncio.locks", "Event", _without_waiters(_waiters=_deque))
named_reduction("asyncio.locks", "Condition", _without_waiters(_waiters=_deque))
for _name in ("Semaphore", "BoundedSemaphore"):
    named_reduction("asyncio.locks", _name, _without_waiters(_waiters=None))
for _name in ("Queue", "LifoQueue", "PriorityQueue"):
    named_reduction("asyncio.queues", _name, _without_waiters(_getters=_deque, _putters=_deque))
named_reduction("concurrent.futures._base", "Future", reduce_future)
named_reduction("concurrent.futures.thread", "ThreadPoolExecutor", reduce_thread_pool)
named_reduction("concurrent.futures.process", "ProcessPoolExecutor", reduce_process_pool)
named_reduction("subprocess", "Popen", reduce_popen)
named_reduction("socket", "socket", reduce_socket, subclasses=True)
named_reduction("http.client", "HTTPConnection", reduce_http)
named_reduction("http.client", "HTTPSConnection", reduce_https)
named_reduction("mmap", "mmap", reduce_mmap)
named_reduction("gzip", "GzipFile", _compressed("gzip", "fileobj"))
named_reduction("bz2", "BZ2File", _compressed("bz2", "_fp"))
named_reduction("lzma", "LZMAFile", _compressed("lzma", "_fp"))
named_reduction("random", "SystemRandom", reduce_system_random)
named_reduction("_struct", "Struct", reduce_struct)
named_reduction("checkpoint_kernel.stub", "Stub", reduce_stub)
