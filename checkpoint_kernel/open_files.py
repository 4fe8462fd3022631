"""Open files and sockets as they were at the fork, for reducers in the snapshot process.

    note       kernel's main thread, before the fork: offsets, which the user moves from then on
    stand_in   snapshot process: a private descriptor, for reading, in the place of each file's
    pending    snapshot process: what a file object has not written yet, from its copy of the object

Without a fork the reducers look at the files themselves. Regular files and sockets; Linux.
"""

from __future__ import annotations

import ctypes
import io
import os
import socket
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

_WINDOW_BYTES: Final = 1 << 20  # around a position; what is buffered is mostly 8 KB
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
_settled: dict[int, Any] = {}  # by id of a file object: what reading its state has used up


def note() -> None:
    """Where all regular files are. The user waits: some microseconds for each descriptor."""
    global _noted, _other_thread, _alive
    _other_thread = threading.current_thread() is not threading.main_thread()
    _alive = frozenset(map(id, threading.enumerate()))
    _streams.update({id(getattr(sys, name, None)): name for name in _STREAMS})
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
        place = _place(number, offset, status)
        if stat.S_ISREG(status.st_mode) or place.path in _DEVICES:
            try:
                _replace(number, offset)
            except OSError:
                continue  # above a limit that was lowered: it is closed as all others
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
    path: str | None = None
    with suppress(OSError):
        named = Path(f"/proc/self/fd/{number}").readlink()
        if named.is_absolute() and status.st_nlink > 0:
            path = str(named)
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


def once(obj: Any, find_out: Callable[[], Any]) -> Any:
    """What `find_out` says or raises, asked once for each object in a snapshot process."""
    if _facts is None:
        return find_out()
    if id(obj) not in _settled:
        try:
            _settled[id(obj)] = (obj, find_out(), None)
        except Exception as why:
            _settled[id(obj)] = (obj, None, why)
    _, found, error = _settled[id(obj)]
    if error is not None:
        raise error
    return found


@dataclass(frozen=True)
class Pending:
    """Bytes that a file object has not written, and where they belong."""

    at: int
    data: bytes


def pending(number: int, flush: Callable[[], Any]) -> Pending | None:
    """What `flush` would change in a file. It is written where there is no snapshot process."""
    if _facts is None:
        flush()
        return None
    place = place_of(number)
    # A file that is also read has its pending bytes anywhere in its buffer.
    start = max(0, place.offset - _WINDOW_BYTES)
    before = _pread(number, min(place.size_bytes, place.offset + _WINDOW_BYTES) - start, start)
    with _scratch(number, before, start, place.offset) as scratch:
        flush()
        after = os.pread(scratch, os.fstat(scratch).st_size, start)
    if after == before:
        return None
    same = takewhile(lambda pair: pair[0] == pair[1], zip(before, after, strict=False))
    first = sum(1 for _ in same)
    return Pending(start + first, after[first:])


def _pread(number: int, length: int, start: int) -> bytes:
    found = os.pread(number, length, start) if length > 0 else b""
    return found + bytes(max(0, length - len(found)))


@contextmanager
def _scratch(number: int, content: bytes, start: int, offset: int) -> Iterator[int]:
    """A scratch file behind a descriptor, which stays there; `content` lies at `start`."""
    scratch = os.memfd_create("checkpoint-kernel", os.MFD_CLOEXEC)
    try:
        os.pwrite(scratch, content, start)
        os.lseek(scratch, offset, os.SEEK_SET)
        os.dup2(scratch, number, inheritable=False)
        yield scratch
    finally:
        os.close(scratch)


def newline_of(number: int, file: io.TextIOWrapper, writes: bool) -> str | None:
    """How a text file was told to treat ends of lines, which no attribute says.

    Found out by trial, which uses up the file object; None, the default, where it cannot be.
    """
    if _facts is None:
        return None
    try:
        return _ending_written(number, file) if writes else _ending_read(number, file)
    except (OSError, ValueError):
        return None


def _ending_written(number: int, file: io.TextIOWrapper) -> str | None:
    with _scratch(number, b"", 0, 0) as scratch:
        file.seek(0, os.SEEK_END)
        file.write("\n")
        file.flush()
        wrote = os.pread(scratch, 100, 0).decode(file.encoding).lstrip("\ufeff\0")
    return wrote if wrote in ("\r\n", "\r") else None


def _ending_read(number: int, file: io.TextIOWrapper) -> str | None:
    with _scratch(number, "a\rb\nc".encode(file.encoding), 0, 0):
        file.seek(0, os.SEEK_END)  # out of what is buffered
        file.seek(0)
        match [file.readline(), file.readline()]:
            case ["a\r", "b\n"]:
                return ""
            case ["a\r", _]:
                return "\r"
            case ["a\rb\n", _]:
                return "\n"
            case ["a\rb\nc", _]:
                return "\r\n"
    return None


def rest_of(number: int, file: io.TextIOWrapper) -> str | None:
    """What a text file has read and not given out yet, in the middle of an iteration.

    Uses up the file object; None where it cannot be found out.
    """
    if _facts is None:
        return None
    with _scratch(number, b"", 0, place_of(number).offset):
        return file.read()


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
