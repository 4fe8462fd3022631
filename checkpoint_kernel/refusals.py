"""Types that must not be saved, each with the reason that the user reads and a remedy.

Some of these would pickle (dill saves locks, cloudpickle turns an open file into a
StringIO) but would come back as something else; a wrong value is worse than a missing one.
Covers types that are recognised by class; objects that fail on their own say so themselves.
"""

from __future__ import annotations

import _thread
import io
import socket
import subprocess
import sys
import threading
import types
from dataclasses import dataclass

from .missing import AGAIN


@dataclass(frozen=True)
class Refusal:
    """Why objects of a type are not saved, and what to do instead."""

    reason: str
    remedy: str = AGAIN


class Unsavable(Exception):
    """An object of a refused type was reached. `what` is the type's name."""

    def __init__(self, what: str, refusal: Refusal) -> None:
        super().__init__(f"{what}: {refusal.reason}")
        self.what = what
        self.refusal = refusal


_RUNNING = Refusal("its position is inside running code, which ends with the process")
_FRAME = Refusal(_RUNNING.reason, "keep its text: `traceback.format_exc()`")
_LOCK = Refusal("it belongs to threads of the process that died")
_SOCKET = Refusal("a network connection ends with its process", "connect again")
_CONNECTION = Refusal("a database connection ends with its process", "connect again")
_FILE = Refusal("an open file ends with its process", "open it again")
_PROCESS = Refusal("it stands for a running process or thread", "start it again")
_FUTURE = Refusal("whoever would complete it ends with the process")

_BY_TYPE: dict[type, Refusal] = {
    types.GeneratorType: _RUNNING,
    types.CoroutineType: _RUNNING,
    types.AsyncGeneratorType: _RUNNING,
    types.FrameType: _FRAME,
    types.TracebackType: _FRAME,
    _thread.LockType: _LOCK,
    type(threading.RLock()): _LOCK,
    threading.Condition: _LOCK,
    threading.Event: _LOCK,
    threading.Semaphore: _LOCK,
    threading.BoundedSemaphore: _LOCK,
    threading.Barrier: _LOCK,
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
    ("zmq", "Socket"): _SOCKET,
    ("zmq", "Context"): _SOCKET,
    ("http.client", "HTTPConnection"): _SOCKET,
}


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
    return None
