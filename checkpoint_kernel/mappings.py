"""What memory is made of, by /proc/self/maps: whether writes to it can be followed.

Covers reading the table of mappings, as text or by PROCMAP_QUERY (Linux 6.11; 3 microseconds,
where the text takes 2 ms with torch imported). Sources: proc_pid_maps(5), the kernel's
include/uapi/linux/fs.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import errno
import os
import re
import struct
from bisect import bisect_right
from collections.abc import Callable
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
    rb"([0-9a-f]+)-([0-9a-f]+) (..)(.)(.) [0-9a-f]+ ([0-9a-f]+:[0-9a-f]+) (\d+) *(.*)"
)


class Backing(enum.Enum):
    """What the pages of a mapping read as that hold nothing of their own."""

    ZEROS = enum.auto()
    # In part at least the bytes of segments, which nobody rewrites.
    SEGMENTS = enum.auto()


class Mapping(NamedTuple):
    """One line of /proc/self/maps."""

    start: int
    end: int
    private: bool  # and readable and writable
    anonymous: bool
    name: str

    @property
    def backing(self) -> Backing | None:
        """None where a page may change without a write by this process."""
        if not self.private:
            return None
        if self.anonymous:
            allocated = self.name in ("", "[heap]") or self.name.startswith("[anon:")
            return Backing.ZEROS if allocated else None
        path = PurePosixPath(self.name.removesuffix(" (deleted)"))
        ours = path.suffix == segment.SUFFIX and path.parent.name == contract.SEGMENTS
        return Backing.SEGMENTS if ours else None


Lookup = Callable[[int], Mapping | None]  # from an address to the mapping around it, if any


def backing(start: int, end: int, lookup: Lookup) -> Backing | None:
    """What is behind all of [start, end); None if writes to some of it cannot be followed.

    Raises OSError.
    """
    found = Backing.ZEROS
    while start < end:
        mapping = lookup(start)
        if mapping is None or mapping.backing is None:
            return None
        if mapping.backing is Backing.SEGMENTS:
            found = Backing.SEGMENTS
        start = mapping.end
    return found


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
            self._can_query = False
            if why.errno not in (errno.ENOTTY, errno.EINVAL):
                self.close()
                raise
        else:
            self._can_query = True

    def close(self) -> None:
        """May be called more than once."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):  # code that closes all descriptors was here
                os.close(self._fd)
        self._fd = -1

    def lookup(self) -> Lookup:
        """For use at once: the table changes."""
        if self._can_query:
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
        inode, major, minor, name_length = told[8:12]
        return Mapping(
            start,
            end,
            private=flags & (_READABLE | _WRITABLE | _SHARED) == _READABLE | _WRITABLE,
            anonymous=inode == major == minor == 0,
            name=os.fsdecode(self._text.value) if name_length else "",
        )


def from_text(text: bytes) -> Lookup:
    """The same out of the text of /proc/self/maps."""
    table = [
        Mapping(
            start=int(found[1], 16),
            end=int(found[2], 16),
            private=found[3] == b"rw" and found[5] == b"p",
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
