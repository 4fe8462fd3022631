"""Memory for restored storages: memory of its own, or maps of the files that hold them.

A map is private and writable. Nothing is read before it is touched, what is written is copied by
the kernel page by page, and the file never changes. Here are the system's verbs and its limits
(Linux, 64 bits; elsewhere nothing is mapped). Where chunks lie is `chunk_reader`'s knowledge,
whether they are whole `verification`'s.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

# Large ones are mapped. Smaller ones are copied, into huge pages where there are any: they are
# rewritten more often, and rewriting a map costs 13 times as much (docs/adr/0008).
ALWAYS_FROM_BYTES: Final = 64 << 20
# But no more than this in all is copied. Beyond it the smaller ones are mapped too, down to:
COPY_BYTES: Final = 256 << 20
NEVER_BELOW_BYTES: Final = 1 << 20

# Storages from here on come back in maps of their own: a bytearray has no huge pages.
_OWN_MAP_FROM: Final = 4 << 20

# Filesystems whose pages come from this machine: statfs(2), linux/magic.h. Everywhere else a
# server or a daemon that goes away, or a file that another machine changes, would be SIGBUS or
# other bytes than those verified. The list follows GNU coreutils' (src/stat.c, local and remote)
# but for overlayfs: what we have written lies in its upper layer, which cannot be a network
# filesystem (Documentation/filesystems/overlayfs.rst).
_LOCAL: Final = {
    0xEF53: "ext2, ext3, ext4",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0x2FC12FC1: "zfs",
    0xF2F52010: "f2fs",
    0xCA451A4E: "bcachefs",
    0x3153464A: "jfs",
    0x52654973: "reiserfs",
    0x3434: "nilfs",
    0x01021994: "tmpfs",
    0x794C7630: "overlayfs",
}
# After the first write to a map, a fork copies the page tables of all of it: 7 ms a GB. Blocks of
# this size stay maps of their own, so that it is one block's.
BLOCK_BYTES: Final = 64 << 20

_SPARE_SHARE: Final = 4  # of the maps that the process may still make, ours are one in so many
_MAP_FIXED: Final = 0x10  # <asm-generic/mman-common.h>; the same where Linux has 64 bits
_MAP_NORESERVE: Final = 0x4000
_FAILED: Final = ctypes.c_void_p(-1).value
_MADV_HUGEPAGE: Final = getattr(mmap, "MADV_HUGEPAGE", None)
_MADV_DONTDUMP: Final = getattr(mmap, "MADV_DONTDUMP", 16)

# Reservations into which a map could not be laid: they may have a hole now (see `lay`).
_never_unmapped: list[PrivateMemory] = []


class PrivateMemory(mmap.mmap):
    """Memory of a restored storage. No other process or file sees it: who else than its views
    could change it? An mmap of the user's may be shared."""

    __slots__ = ()


def address_of(view: memoryview) -> int:
    """Where writable memory begins."""
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


class CannotMap(Exception):
    """The system refuses a map. What was to be mapped can still be read."""


@dataclass
class Maps:
    """What one restore may map."""

    from_bytes: int  # storages of this size and larger
    room: int  # so many maps at most

    def take(self, length: int) -> bool:
        """Whether there is room for a map of that many bytes; counts it, and its blocks."""
        needed = 1 + length // BLOCK_BYTES
        if self.room < needed:
            return False
        self.room -= needed
        return True


def map_from(sizes: Iterable[int], copy_bytes: int = COPY_BYTES) -> int:
    """The size in bytes from which on storages are mapped, given the sizes of all of them.

    The smallest are copied, as far as `copy_bytes` goes: so a restore takes no longer the more
    there is. Those of one size share one fate.
    """
    total = 0
    for size in sorted(sizes):
        if size >= ALWAYS_FROM_BYTES:
            break
        total += size
        if total > copy_bytes:
            return max(size, NEVER_BELOW_BYTES)
    return ALWAYS_FROM_BYTES


def room_for_maps() -> int:
    """How many maps we may add: beyond vm.max_map_count even malloc fails (proc(5))."""
    if sys.platform != "linux" or sys.maxsize < 2**32:
        return 0
    try:
        allowed = int(Path("/proc/sys/vm/max_map_count").read_text("ascii"))
        with open("/proc/self/maps", "rb") as file:
            used = sum(1 for _ in file)
    except (OSError, ValueError):
        return 0
    return max(0, (allowed - used) // _SPARE_SHARE)


def is_local(fd: int) -> bool:
    """Whether the file's pages come from this machine's own disk or memory."""
    if sys.platform != "linux":
        return False
    status = ctypes.create_string_buffer(512)  # struct statfs begins with f_type, a long
    if _libc().fstatfs(fd, status) != 0:
        return False
    kind = int.from_bytes(status.raw[: ctypes.sizeof(ctypes.c_long)], sys.byteorder)
    return kind & 0xFFFFFFFF in _LOCAL


def own(length: int) -> bytearray | PrivateMemory:
    """Writable memory, all zeros, that belongs to nobody else; in huge pages if it is large."""
    if length < _OWN_MAP_FROM:
        return bytearray(length)
    # Private: Python's default for anonymous maps is shared, and then a snapshot process
    # would see what the user writes after the fork.
    memory = PrivateMemory(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if _MADV_HUGEPAGE is not None:
        try:
            memory.madvise(_MADV_HUGEPAGE)
        except OSError:
            pass  # a kernel without huge pages: slower forks, nothing else
    return memory


def reserve(length: int) -> PrivateMemory:
    """A range of addresses to lay maps into; what is left uncovered is memory, all zeros.

    Everything in it is unmapped when the last view of it is gone. Raises CannotMap.
    """
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    try:
        return PrivateMemory(-1, length, flags=flags)
    except OSError as why:
        raise CannotMap(f"no room for {length} bytes: {why}") from why


def lay(memory: PrivateMemory, start: int, fd: int, offset: int, length: int) -> None:
    """Map `length` bytes of a file from `offset` at `start` of a reservation.

    `start` and `offset` are multiples of the page size, and the file reaches at least to the
    end. Raises CannotMap; do not use the reservation any more then.
    """
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + start
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    flags = mmap.MAP_PRIVATE | _MAP_FIXED | _MAP_NORESERVE
    if _libc().mmap(address, length, protection, flags, fd, offset) == address:
        _keep_apart(address - start, start, start + length)
        return
    why = os.strerror(ctypes.get_errno())
    # Before Linux 6.12 a MAP_FIXED that fails can leave a hole. Another thread's memory may be
    # in it by now, and unmapping the reservation would take that along.
    _never_unmapped.append(memory)
    raise CannotMap(f"{length} bytes of a file cannot be mapped: {why}")


def _keep_apart(base: int, start: int, end: int) -> None:
    """The kernel joins neighbouring maps unless a flag differs: every second block has one more.

    MADV_DONTDUMP says that the block is not for core files; where it is refused, forks cost more.
    """
    for block in range(start // BLOCK_BYTES | 1, -(-end // BLOCK_BYTES), 2):
        low = max(start, block * BLOCK_BYTES)
        high = min(end, (block + 1) * BLOCK_BYTES)
        _libc().madvise(base + low, high - low, _MADV_DONTDUMP)


@functools.cache
def _libc() -> Any:
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = (
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
    )  # fmt: skip
    library.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    library.fstatfs.argtypes = (ctypes.c_int, ctypes.c_char_p)
    return library
