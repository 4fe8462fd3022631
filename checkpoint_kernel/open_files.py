"""Open files and sockets as they were at the fork, for reducers in the snapshot process.

    note       kernel's main thread, before the fork: offsets, which the user moves from then on
    stand_in   snapshot process: a private descriptor, for reading, in the place of each file's

Without a fork the reducers look at the files themselves. Regular files and sockets; Linux.
"""

from __future__ import annotations

import ctypes
import os
import socket
import stat
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

# Without a position or a content that could be other ones.
_DEVICES: Final = frozenset({"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"})
_NO_FILE: Final = "it leads to a pipe, a terminal or a device"
_STREAMS: Final = ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__")


@dataclass(frozen=True)
class Place:
    """Which file a descriptor is of, and where in it. Times in nanoseconds since the epoch."""

    path: str | None  # None: the file has no name (any more)
    offset: int
    device: int
    inode: int
    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True)
class _Facts:
    places: dict[int, Place]  # by descriptor
    sockets: dict[int, tuple[Any, Any]]  # own and peer's address


_noted: dict[int, tuple[int, os.stat_result]] = {}
_streams: dict[int, str] = {}  # id of the object -> its name in sys
_facts: _Facts | None = None  # None: this is no snapshot process
_other_thread = False  # the fork was no main thread's
_alive: frozenset[int] = frozenset()  # ids of the threads that were


def note() -> None:
    """Where all regular files are. The user waits: some microseconds for each descriptor."""
    global _noted, _streams, _other_thread, _alive
    _other_thread = threading.current_thread() is not threading.main_thread()
    _alive = frozenset(map(id, threading.enumerate()))
    _streams = {id(getattr(sys, name, None)): name for name in _STREAMS}
    found: dict[int, tuple[int, os.stat_result]] = {}
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 (half the time of the others)
        number = int(name)
        try:
            offset = os.lseek(number, 0, os.SEEK_CUR)  # most others have none
            status = os.fstat(number)
        except OSError:
            continue
        if number > 2 and stat.S_IFMT(status.st_mode) in (stat.S_IFREG, stat.S_IFCHR):
            found[number] = (offset, status)
    _noted = found


def stand_in() -> frozenset[int]:
    """The descriptors that file objects go on using here; they share nothing with the kernel's.

    For the snapshot process, before it closes all others.
    """
    global _facts
    places, sockets = {}, {}
    for number, (offset, status) in _noted.items():
        with suppress(OSError):  # above a limit that was lowered: it is closed as all others
            place = _place(number, offset, status)
            if stat.S_ISREG(status.st_mode) or place.path in _DEVICES:
                _replace(number, offset)
                places[number] = place
    for entry in os.scandir("/proc/self/fd"):
        number = int(entry.name)
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                sockets[number] = _addresses(os.dup(number))
    _facts = _Facts(places, sockets)
    return frozenset(places)


def _replace(number: int, offset: int) -> None:
    try:
        private = os.open(f"/proc/self/fd/{number}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:  # ours to write, not to read
        private = os.memfd_create("checkpoint-kernel", os.MFD_CLOEXEC)
    try:
        os.lseek(private, offset, os.SEEK_SET)
        os.dup2(private, number, inheritable=False)
    finally:
        os.close(private)


def _place(number: int, offset: int, status: os.stat_result) -> Place:
    named = Path(f"/proc/self/fd/{number}").readlink()  # OSError where there is no such list
    path = str(named) if named.is_absolute() and status.st_nlink > 0 else None
    return Place(path, offset, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _addresses(number: int) -> tuple[Any, Any]:
    own = peer = None
    with socket.socket(fileno=number) as copy:
        with suppress(OSError):
            own = copy.getsockname()
        with suppress(OSError):
            peer = copy.getpeername()
    return own, peer


def in_snapshot() -> bool:
    """Whether file objects are copies, which reading their state may use up."""
    return _facts is not None


def forked_by_other_thread() -> bool:
    """Whether the main thread's own values are out of reach."""
    if _facts is None:
        return threading.current_thread() is not threading.main_thread()
    return _other_thread


def was_alive(thread: threading.Thread) -> bool:
    """Whether a thread was running; in a snapshot process no other does."""
    return thread.is_alive() if _facts is None else id(thread) in _alive


def place_of(number: int) -> Place:
    """Which file a descriptor is of, and where it stood at the fork. OSError if that is unknown."""
    if _facts is not None:
        if number not in _facts.places:
            raise OSError(_NO_FILE)
        return _facts.places[number]
    status = os.fstat(number)
    if stat.S_IFMT(status.st_mode) in (stat.S_IFREG, stat.S_IFCHR):
        place = _place(number, os.lseek(number, 0, os.SEEK_CUR), status)
        if stat.S_ISREG(status.st_mode) or place.path in _DEVICES:
            return place
    raise OSError(_NO_FILE)


def places() -> list[Place]:
    """All files that are open, and have a name."""
    found = []
    for number in [int(name) for name in os.listdir("/proc/self/fd")]:  # noqa: PTH208
        with suppress(OSError):  # the list's own, and what is no file
            found.append(place_of(number))
    return [place for place in found if place.path is not None]


def addresses_of(number: int) -> tuple[Any, Any]:
    """A socket's own address and its peer's; None for one that it does not have."""
    if _facts is not None:
        return _facts.sockets.get(number, (None, None))
    with suppress(OSError):
        return _addresses(os.dup(number))
    return None, None


def stream_name(obj: Any) -> str | None:
    """`stdout` for what is (or was, at the fork) `sys.stdout`."""
    if _facts is None:
        return next((n for n in _STREAMS if getattr(sys, n, None) is obj), None)
    return _streams.get(id(obj))


def content_of(number: int) -> bytes:
    """All bytes of a file that has no name. OSError if it has been written to since the fork."""
    place = place_of(number)
    content = os.pread(number, place.size_bytes, 0)
    now = os.fstat(number)
    if (now.st_size, now.st_mtime_ns) != (place.size_bytes, place.mtime_ns):
        raise OSError("it is being written to")
    return content


@dataclass(frozen=True)
class Mapping:
    """The part of a file that is mapped, shared. `offset` in bytes."""

    path: str
    device: int
    inode: int
    offset: int
    writes: bool


def _address(memory: Any) -> int:
    """Where a buffer begins. A Py_buffer has 80 bytes and begins with that (Python's C API)."""
    view = (ctypes.c_void_p * 16)()
    api = ctypes.pythonapi
    if api.PyObject_GetBuffer(ctypes.py_object(memory), ctypes.byref(view), 0) != 0:
        raise OSError("its memory cannot be looked at")
    api.PyBuffer_Release(ctypes.byref(view))
    return view[0] or 0


def mapping_of(memory: Any) -> Mapping | None:
    """Which file a map shares; None for one that shares none. OSError where that is unknown."""
    address = _address(memory)
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            span, modes, offset, _, inode, *path = line.rstrip("\n").split(None, 5)
            start, end = (int(part, 16) for part in span.split("-"))
            if start <= address < end:
                if modes[3] != "s" or inode == "0" or not path or path[0].endswith(" (deleted)"):
                    return None
                status = Path(path[0]).stat()
                begins = int(offset, 16) + address - start
                return Mapping(path[0], status.st_dev, status.st_ino, begins, modes[1] == "w")
    return None
