"""What memory is made of, by /proc/self/maps: nothing but zeros at first, or segments, or neither.

Covers reading the table of mappings, as text or by PROCMAP_QUERY (Linux 6.11; 3 microseconds,
where the text takes 2 ms with torch imported). Sources: proc_pid_maps(5), the kernel's
include/uapi/linux/fs.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any, Final, NamedTuple

from . import contract, segment

_QUERY: Final = 3 << 30 | 104 << 16 | ord("f") << 8 | 17
_READABLE: Final = 1 << 0
_WRITABLE: Final = 1 << 1
_SHARED: Final = 1 << 3
# size, flags, address | start, end, flags, page size, offset, inode, device | name, build id
_ASKED: Final = struct.Struct("=3Q6QII2I2Q")
_LINE: Final = re.compile(
    rb"([0-9a-f]+)-([0-9a-f]+) (..).(.) ([0-9a-f]+) ([0-9a-f]+:[0-9a-f]+) (\d+) *(.*)"
)


class Mapping(NamedTuple):
    """One line of /proc/self/maps."""

    start: int
    end: int
    private: bool  # and readable and writable
    offset: int  # in the file
    anonymous: bool
    name: str

    @property
    def allocated(self) -> bool:
        """Memory of this process alone: zeros, until it is written."""
        known = self.name in ("", "[heap]") or self.name.startswith("[anon:")
        return self.private and self.anonymous and known

    @property
    def segment(self) -> str | None:
        """The path of the segment, whose name says what is in it, for ever."""
        path = PurePosixPath(self.name.removesuffix(" (deleted)"))
        ours = path.suffix == segment.SUFFIX and path.parent.name == contract.SEGMENTS
        return str(path) if self.private and not self.anonymous and ours else None


Lookup = Callable[[int], Mapping | None]  # from an address to the mapping around it, if any


def mappings(start: int, end: int, lookup: Lookup) -> Iterator[Mapping]:
    """All the mappings in [start, end), up to the first hole. Raises OSError."""
    while start < end and (mapping := lookup(start)) is not None:
        yield mapping
        start = mapping.end


class Maps:
    """/proc/self/maps, held open. Raises OSError."""

    def __init__(self) -> None:
        # With the GIL held: to get it back from a busy thread takes 5 ms, for each query.
        self._c: Any = ctypes.PyDLL(None, use_errno=True)
        self._c.ioctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)
        self._text = ctypes.create_string_buffer(4096)
        self._asked = ctypes.create_string_buffer(_ASKED.size)
        self._fd = os.open("/proc/self/maps", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.query(ctypes.addressof(self._text))
        except OSError as why:
            self.can_query = False
            if why.errno not in (errno.ENOTTY, errno.EINVAL):
                self.close()
                raise
        else:
            self.can_query = True

    def close(self) -> None:
        """May be called more than once."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):  # code that closes all descriptors was here
                os.close(self._fd)
        self._fd = -1

    def lookup(self) -> Lookup:
        """For use at once: the table changes."""
        if self.can_query:
            return self.query
        with open("/proc/self/maps", "rb") as file:
            return from_text(file.read())

    def query(self, address: int) -> Mapping | None:
        """The mapping around an address, by PROCMAP_QUERY."""
        name = ctypes.addressof(self._text)
        room = len(self._text)
        _ASKED.pack_into(self._asked, 0, _ASKED.size, 0, address, *[0] * 8, room, 0, name, 0)
        if self._c.ioctl(self._fd, _QUERY, ctypes.addressof(self._asked)) < 0:
            number = ctypes.get_errno()
            if number == errno.ENOENT:
                return None
            raise OSError(number, os.strerror(number))
        told = _ASKED.unpack(self._asked)
        start, end, flags = told[3:6]
        offset, inode, major, minor, name_length = told[7:12]
        return Mapping(
            start,
            end,
            private=flags & (_READABLE | _WRITABLE | _SHARED) == _READABLE | _WRITABLE,
            offset=offset,
            anonymous=inode == major == minor == 0,
            name=os.fsdecode(self._text.value) if name_length else "",
        )


def from_text(text: bytes) -> Lookup:
    """The same out of the text of /proc/self/maps."""
    table = [
        Mapping(
            start=int(found[1], 16),
            end=int(found[2], 16),
            private=found[3] == b"rw" and found[4] == b"p",
            offset=int(found[5], 16),
            anonymous=int(found[6].replace(b":", b""), 16) == int(found[7]) == 0,
            name=os.fsdecode(found[8]),
        )
        for found in map(_LINE.match, text.splitlines())
        if found
    ]
    starts = [mapping.start for mapping in table]

    def lookup(address: int) -> Mapping | None:
        index = bisect_right(starts, address) - 1
        return table[index] if index >= 0 and address < table[index].end else None

    return lookup
