"""What pickles of locks, queues, databases, pools and the like call when they are loaded.

The names of these functions, and their parameters, stand in checkpoints: add, never rename.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from . import rebuild

# Modules are imported where they are used: a restore should not cost what it does not need.


def new(cls: Any) -> Any:
    """An instance that nobody has initialized."""
    return cls.__new__(cls)


def update(obj: Any, attributes: dict[str, Any]) -> None:
    """Attributes of an instance."""
    obj.__dict__.update(attributes)


def lock() -> Any:
    """A new lock, unlocked."""
    import _thread

    return _thread.allocate_lock()


def rlock() -> Any:
    """A new reentrant lock, unlocked."""
    import threading

    return threading.RLock()


def condition(cls: Any, lock: Any) -> Any:
    """A condition over a lock, which nobody waits for."""
    import threading

    made = cls.__new__(cls)
    threading.Condition.__init__(made, lock)
    return made


def simple_queue() -> Any:
    """queue.SimpleQueue."""
    import queue

    return queue.SimpleQueue()


def put_all(queue: Any, items: Iterable[Any]) -> None:
    """Items of a queue, in order."""
    for item in items:
        queue.put(item)


def thread(
    target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], name: str, daemon: bool
) -> Any:
    """A thread that has not been started."""
    import threading

    return threading.Thread(None, target, name, args, kwargs, daemon=daemon)


def ended_thread(name: str, daemon: bool) -> Any:
    """A thread that has run to its end."""
    import threading

    made = threading.Thread(None, None, name, daemon=daemon)
    if rebuild.trying:  # in a snapshot process, which starts none
        return made
    made.start()
    made.join()
    return made


def thread_pool(
    workers: int, prefix: str, initializer: Any, arguments: tuple[Any, ...], is_shut: bool
) -> Any:
    """concurrent.futures.ThreadPoolExecutor, without threads as yet."""
    from concurrent.futures import ThreadPoolExecutor

    made = ThreadPoolExecutor(workers, prefix, initializer, arguments)
    if is_shut:
        made.shutdown()
    return made


def process_pool(
    workers: int, method: str, initializer: Any, arguments: tuple[Any, ...], is_shut: bool
) -> Any:
    """concurrent.futures.ProcessPoolExecutor, without processes as yet."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

    if rebuild.trying:  # it may start a process that watches over its semaphores
        return ThreadPoolExecutor(workers)
    context = multiprocessing.get_context(method)
    made = ProcessPoolExecutor(workers, context, initializer, arguments)
    if is_shut:
        made.shutdown()
    return made


def database(content: bytes, options: dict[str, Any]) -> Any:
    """A connection to an sqlite3 database in memory. `options`: of `sqlite3.connect`."""
    import sqlite3

    made = sqlite3.connect(":memory:", check_same_thread=False, **options)
    if content:
        made.deserialize(content)
    return made


def set_database(connection: Any, state: dict[str, Any]) -> None:
    """What a connection was told after it was made: attributes, and the content of attached
    databases."""
    for name, content in state["attached"].items():
        connection.execute(f"ATTACH ':memory:' AS \"{name}\"")
        if content:
            connection.deserialize(content, name=name)
    for name, value in state["attributes"].items():
        setattr(connection, name, value)


def closed_database() -> Any:
    """A connection that has been closed."""
    import sqlite3

    made = sqlite3.connect(":memory:")
    made.close()
    return made


def cursor(connection: Any, arraysize: int, row_factory: Any) -> Any:
    """A cursor that holds no rows."""
    made = connection.cursor()
    made.arraysize, made.row_factory = arraysize, row_factory
    return made


def cursor_over(
    connection: Any, arraysize: int, row_factory: Any, names: list[str], rows: list[Any]
) -> Any:
    """A cursor that has rows to give, of which these are the names of the columns."""
    made = cursor(connection, arraysize, row_factory)
    quoted = [name.replace('"', '""') for name in names]
    if not rows:
        made.execute("SELECT {} WHERE 0".format(", ".join(f'NULL AS "{name}"' for name in quoted)))
        return made
    columns = ", ".join(f'column{n} AS "{name}"' for n, name in enumerate(quoted, 1))
    values = ", ".join([f"({', '.join('?' * len(names))})"] * len(rows))
    cells = [cell for one in rows for cell in one]
    made.execute(f"SELECT {columns} FROM (VALUES {values})", cells)
    return made


_descriptions: dict[tuple[str, ...], Any] = {}  # cursors, which know the names of columns


def row(names: tuple[str, ...], values: tuple[Any, ...]) -> Any:
    """sqlite3.Row."""
    import sqlite3

    if names not in _descriptions:
        columns = ", ".join('1 AS "{}"'.format(name.replace('"', '""')) for name in names)
        _descriptions[names] = sqlite3.connect(":memory:").execute(f"SELECT {columns}")
    return sqlite3.Row(_descriptions[names], values)


def mapped_file(path: str, device: int, inode: int, length: int, offset: int, writes: bool) -> Any:
    """A shared map of a file; NotThere if another one is at the path."""
    import mmap
    import os

    access = mmap.ACCESS_WRITE if writes else mmap.ACCESS_READ
    try:
        number = os.open(path, (os.O_RDWR if writes else os.O_RDONLY) | os.O_CLOEXEC)
    except OSError as why:
        raise rebuild.NotThere(f"{path} cannot be opened: {why.strerror}") from why
    try:
        status = os.fstat(number)
        if (status.st_dev, status.st_ino) != (device, inode):
            raise rebuild.NotThere(f"another file is at {path} now")
        if status.st_size < offset + length:
            raise rebuild.NotThere(f"{path} is shorter now than what was mapped")
        return mmap.mmap(number, length, access=access, offset=offset)
    finally:
        os.close(number)


def mapped_memory(content: bytes) -> Any:
    """A map of no file."""
    import mmap

    made = mmap.mmap(-1, len(content))
    made[:] = content
    return made


def seek(obj: Any, position: int) -> None:
    """The position of a file or a map."""
    obj.seek(position)


def compressed(module: str, path: str, device: int, inode: int, mode: str, position: int) -> Any:
    """A file that gzip, bz2 or lzma reads, at a position of its content (decompressed again)."""
    import importlib
    from pathlib import Path

    try:
        status = Path(path).stat()
    except OSError as why:
        raise rebuild.NotThere(f"{path} cannot be opened: {why.strerror}") from why
    if (status.st_dev, status.st_ino) != (device, inode):
        raise rebuild.NotThere(f"another file is at {path} now")
    made = importlib.import_module(module).open(path, mode)
    made.seek(position)
    return made


def http_connection(cls: Any) -> Any:
    """One that has nothing but the default timeout."""
    import socket

    made = cls.__new__(cls)
    made.timeout = getattr(socket, "_GLOBAL_DEFAULT_TIMEOUT", None)
    return made


def system_random(cls: Any) -> Any:
    """random.SystemRandom: it has no state."""
    return cls()
