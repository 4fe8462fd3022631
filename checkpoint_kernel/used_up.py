"""What a file object does not tell: it is found out by using up the snapshot process' copy of it.

What it has not written yet, what it has read ahead, how it treats ends of lines. Where there is no
snapshot process the object is the user's: then it is flushed, and the rest stays unknown.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final

from . import open_files

_WINDOW_BYTES: Final = 1 << 20  # around a position; what is buffered is mostly 8 KB
_settled: dict[int, Any] = {}  # by id of a file object: what reading its state has used up


def once(obj: Any, find_out: Callable[[], Any]) -> Any:
    """What `find_out` says or raises, asked once for each object in a snapshot process."""
    if not open_files.in_snapshot():
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
    if not open_files.in_snapshot():
        flush()
        return None
    place = open_files.place_of(number)
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
    if not open_files.in_snapshot():
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
    if not open_files.in_snapshot():
        return None
    with _scratch(number, b"", 0, open_files.place_of(number).offset):
        return file.read()
