"""Types that must not be saved, each with the reason that the user reads and a remedy.

Some of these would pickle (dill saves locks, cloudpickle turns an open file into a
StringIO) but would come back as something else; a wrong value is worse than a missing one.
Covers types that are recognised by class; objects that fail on their own say so themselves.
"""

from __future__ import annotations

import contextvars
import io
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from .missing import AGAIN
from .stub import Stub


@dataclass(frozen=True)
class Refusal:
    """Why objects of a type are not saved, and what to do instead.

    `bound`: a variable that is one is a stub after a restore, instead of nothing.
    """

    reason: str
    remedy: str | None = AGAIN
    bound: bool = False


class Unsavable(Exception):
    """An object was reached that cannot be saved. `what` is the type's name."""

    def __init__(self, what: str, refusal: Refusal) -> None:
        super().__init__(f"{what}: {refusal.reason}")
        self.what = what
        self.refusal = refusal


class Refused(Unsavable):
    """It is to be expected of such an object: inside of another one, a stub takes its place."""


_module_of: Final[Callable[[type], object]] = type.__dict__["__module__"].__get__
_name_of: Final[Callable[[type], str]] = type.__dict__["__qualname__"].__get__


def type_name(value: Any) -> str:
    """A type as people write it: `pandas.DataFrame`, `int`; of a stub, what it stands for."""
    cls = type(value)
    if cls is Stub:
        return str(value._stub_what)
    try:
        module, name = _module_of(cls), _name_of(cls)  # and no metaclass's
    except AttributeError:
        return "object"
    if not isinstance(module, str) or module in ("builtins", "__main__"):
        return name
    return f"{module.split('.')[0]}.{name}"


_RUNNING = Refusal("its position is inside running code, which ends with the process")
_FRAME = Refusal(_RUNNING.reason, "keep its text: `traceback.format_exc()`")
_SOCKET = Refusal("a network connection ends with its process", "connect again", bound=True)
_CONNECTION = Refusal("a database connection ends with its process", "connect again", bound=True)
_HASH = Refusal("the state of a digest cannot be read", "hash the data again")
_SHARED = Refusal("it is shared with processes that end with this one", "make a new one")
_FILE = Refusal("an open file ends with its process", "open it again")
_PROCESS = Refusal("it stands for a running process or thread", "start it again")
_REMOVED = Refusal("shared memory is removed with the process that made it")
_CONTEXT = Refusal("it belongs to running code, which ends with the process")
_FUTURE = Refusal("whoever would complete it ends with the process")

_BY_TYPE: dict[type, Refusal] = {
    types.GeneratorType: _RUNNING,
    types.CoroutineType: _RUNNING,
    types.AsyncGeneratorType: _RUNNING,
    types.FrameType: _FRAME,
    contextvars.Context: _CONTEXT,
    contextvars.Token: _CONTEXT,
    threading.Thread: _PROCESS,
    subprocess.Popen: _PROCESS,
    socket.socket: _SOCKET,
    io.TextIOWrapper: _FILE,
    io.BufferedReader: _FILE,
    io.BufferedWriter: _FILE,
    io.BufferedRandom: _FILE,
    io.BufferedRWPair: _FILE,
    io.FileIO: _FILE,
}

# Looked up only once the module is loaded: importing it to ask would cost the user's kernel.
_BY_NAME: dict[tuple[str, str], Refusal] = {
    ("sqlite3", "Connection"): _CONNECTION,
    ("sqlite3", "Cursor"): _CONNECTION,
    ("ssl", "SSLSocket"): _SOCKET,
    ("mmap", "mmap"): _FILE,
    ("asyncio", "Future"): _FUTURE,
    ("asyncio", "AbstractEventLoop"): _RUNNING,
    ("concurrent.futures", "Future"): _FUTURE,
    ("concurrent.futures", "Executor"): _PROCESS,
    ("multiprocessing.process", "BaseProcess"): _PROCESS,
    ("multiprocessing.pool", "Pool"): _PROCESS,
    ("multiprocessing.connection", "Connection"): _SOCKET,
    ("multiprocessing.shared_memory", "SharedMemory"): _REMOVED,
    ("multiprocessing.shared_memory", "ShareableList"): _REMOVED,
    ("zmq", "Socket"): _SOCKET,
    ("zmq", "Context"): _SOCKET,
    ("http.client", "HTTPConnection"): _SOCKET,
    ("_hashlib", "HASH"): _HASH,
    ("_hashlib", "HMAC"): _HASH,
    ("hmac", "HMAC"): _HASH,
    ("_blake2", "blake2b"): _HASH,
    ("_blake2", "blake2s"): _HASH,
    ("ssl", "SSLContext"): Refusal("its certificates cannot be read", "make a new one"),
    ("multiprocessing.synchronize", "SemLock"): _SHARED,
    ("multiprocessing.synchronize", "Condition"): _SHARED,
    ("multiprocessing.synchronize", "Event"): _SHARED,
    ("multiprocessing.synchronize", "Barrier"): _SHARED,
    ("multiprocessing.queues", "Queue"): _SHARED,
    ("multiprocessing.queues", "SimpleQueue"): _SHARED,
    ("multiprocessing.managers", "BaseManager"): _SHARED,
    ("multiprocessing.managers", "BaseProxy"): _SHARED,
    ("multiprocessing.sharedctypes", "SynchronizedBase"): _SHARED,
    ("redis.client", "Redis"): _CONNECTION,
    ("redis.connection", "ConnectionPool"): _CONNECTION,
    ("redis.connection", "Connection"): _CONNECTION,
    ("pymongo.mongo_client", "MongoClient"): _CONNECTION,
}


def refuse(module: str, name: str, refusal: Refusal) -> None:
    """Refuse objects of a type, and of its subclasses, once its module is imported."""
    _BY_NAME[module, name] = refusal


def refusal_for(cls: type) -> Refusal | None:
    """The refusal that applies to objects of `cls`, if any; subclasses are refused too."""
    for base in cls.__mro__:
        if base in _BY_TYPE:
            return _BY_TYPE[base]
    for (module, name), refusal in _BY_NAME.items():
        loaded = sys.modules.get(module)
        refused = getattr(loaded, name, None)
        if isinstance(refused, type) and issubclass(cls, refused):
            return refusal
    return _CONNECTION if _is_of_a_database(cls) else None


def _is_of_a_database(cls: type) -> bool:
    """A driver's connection or cursor, as PEP 249 describes them; no class of the notebook's."""
    name, has = _name_of(cls).lower(), _has(cls)
    if _module_of(cls) == "__main__":
        return False
    connects = name.endswith("connection") and has("cursor", "commit", "rollback", "close")
    return connects or (name.endswith("cursor") and has("execute", "fetchone", "fetchall", "close"))


def _has(cls: type) -> Callable[..., bool]:
    return lambda *names: all(callable(getattr(cls, name, None)) for name in names)
