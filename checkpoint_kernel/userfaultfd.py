"""What Linux offers for seeing writes: userfaultfd's asynchronous write-protection, PAGEMAP_SCAN.

Only the calls, through ctypes, and a trial of them. Which ranges are worth following, and what
an answer proves, is `dirty_pages`'. Sources: the kernel's include/uapi/linux/userfaultfd.h and
fs.h, Documentation/admin-guide/mm/pagemap.rst and userfaultfd.rst, fs/proc/task_mmu.c; all of
it since Linux 6.7.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import mmap
import os
import platform
import re
import struct
import sys
from typing import Any, Final, NamedTuple

from .intervals import Interval

# A scan that finds more regions than this stops.
MOST_REGIONS: Final = 4096

_SYSTEM_CALLS: Final = {"x86_64": 323, "aarch64": 282, "riscv64": 282}
_USER_MODE_ONLY: Final = 1
_API: Final = 0xAA
_FEATURES: Final = 1 | 1 << 13 | 1 << 15  # PAGEFAULT_FLAG_WP, WP_UNPOPULATED, WP_ASYNC
_REGISTER_MODE_WP: Final = 1 << 1

_WPALLOWED: Final = 1 << 0
_WRITTEN: Final = 1 << 1
_FILE: Final = 1 << 2
_PRESENT: Final = 1 << 3
_SWAPPED: Final = 1 << 4
_PFNZERO: Final = 1 << 5
_SCAN_WP_MATCHING: Final = 1 << 0
_SCAN_CHECK_WPASYNC: Final = 1 << 1


def _request(direction: int, kind: int, number: int, size_bytes: int) -> int:
    return direction << 30 | size_bytes << 16 | kind << 8 | number


_UFFDIO_API: Final = _request(3, 0xAA, 0x3F, 24)
_UFFDIO_REGISTER: Final = _request(3, 0xAA, 0x00, 32)
_UFFDIO_UNREGISTER: Final = _request(2, 0xAA, 0x01, 16)
_UFFDIO_WRITEPROTECT: Final = _request(3, 0xAA, 0x06, 24)
_PAGEMAP_SCAN: Final = _request(3, ord("f"), 16, 96)
_VM_PIN: Final = re.compile(rb"^VmPin:\s*(\d+)", re.MULTILINE)


class Region(NamedTuple):
    """Neighbouring pages that hold something of their own."""

    start: int
    end: int
    written: int  # 0: protected, and not written since


class Unavailable(Exception):
    """This kernel, or who runs it, does not let us; the message says what is refused."""


class WriteProtection:
    """An open userfaultfd, and /proc/self/pagemap to ask what was written.

    Every call is made with the GIL held: these take microseconds, and to get it back from a
    busy thread takes 5 ms. The methods raise OSError.
    """

    def __init__(self) -> None:
        """Raises Unavailable."""
        if sys.platform != "linux" or struct.calcsize("P") != 8:
            raise Unavailable(f"dirty pages are not to be had on {sys.platform}")
        number = _SYSTEM_CALLS.get(platform.machine())
        if number is None:
            raise Unavailable(f"dirty pages are not to be had on {platform.machine()}")
        self._c: Any = ctypes.PyDLL(None, use_errno=True)
        self._c.ioctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)
        self._c.pread.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64)
        self._c.pread.restype = ctypes.c_ssize_t
        self._regions = (ctypes.c_uint64 * (3 * MOST_REGIONS))()
        self._argument = (ctypes.c_uint64 * 12)()
        self._argument[0] = ctypes.sizeof(self._argument)
        self._argument[5] = ctypes.addressof(self._regions)
        self._text = ctypes.create_string_buffer(4096)
        self._descriptors: list[int] = []
        try:
            self._userfaultfd = self._open(number)
            self._pagemap = self._open_proc("pagemap")
            self._status = self._open_proc("status")
        except BaseException:
            self.close()
            raise

    def _open(self, number: int) -> int:
        # User mode only: that needs no privilege. What the kernel writes for a system call is
        # seen all the same, because asynchronous protection never waits for an answer.
        fd: int = self._c.syscall(number, os.O_CLOEXEC | os.O_NONBLOCK | _USER_MODE_ONLY)
        if fd < 0:
            why = os.strerror(ctypes.get_errno())
            raise Unavailable(
                f"the system call userfaultfd is refused ({why}), as seccomp filters of "
                "containers and kernels older than 5.11 do"
            )
        self._descriptors.append(fd)
        try:
            self._call(fd, _UFFDIO_API, _API, _FEATURES, 0)
        except OSError as why:
            raise Unavailable(
                f"userfaultfd of Linux {platform.release()} cannot write-protect "
                f"asynchronously ({why.strerror}); that of 6.7 and newer can"
            ) from why
        return fd

    def _open_proc(self, name: str) -> int:
        try:
            fd = os.open(f"/proc/self/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as why:
            raise Unavailable(f"/proc/self/{name} cannot be opened ({why.strerror})") from why
        self._descriptors.append(fd)
        return fd

    def close(self) -> None:
        """Close everything; the kernel forgets the ranges. May be called more than once."""
        while self._descriptors:
            with contextlib.suppress(OSError):  # code that closes all descriptors was here
                os.close(self._descriptors.pop())

    def register(self, start: int, end: int) -> None:
        """Make [start, end) protectable. EBUSY: another userfaultfd has it."""
        self._call(self._userfaultfd, _UFFDIO_REGISTER, start, end - start, _REGISTER_MODE_WP, 0)

    def unregister(self, start: int, end: int) -> None:
        """Undo `register`, and every protection in [start, end).

        EPERM unless all that is mapped there is registered: before Linux 6.17 the kernel would
        take the range away from another userfaultfd too.
        """
        self._scan(start, end, _SCAN_CHECK_WPASYNC, _WPALLOWED, _WPALLOWED, 0, _WPALLOWED)
        self._call(self._userfaultfd, _UFFDIO_UNREGISTER, start, end - start)

    def unprotect(self, start: int, end: int) -> None:
        """Undo every protection in [start, end), which stays registered."""
        self._call(self._userfaultfd, _UFFDIO_WRITEPROTECT, start, end - start, 0)

    def protect(self, start: int, end: int) -> list[Region]:
        """The pages in [start, end) that do not read as zeros, all protected from here on.

        In one step for each page: a write is seen now or next time. Pages that are not there
        are left alone (to protect them would cost page tables, and the huge pages that might
        be there one day). EPERM unless all that is mapped there is registered; E2BIG if there
        are more than MOST_REGIONS regions, and then not all of it is protected.
        """
        flags = _SCAN_WP_MATCHING | _SCAN_CHECK_WPASYNC
        return self._regions_of(start, end, flags, _PFNZERO, _WRITTEN)

    def own_pages(self, start: int, end: int) -> list[Interval]:
        """The pages in [start, end) that do not show a file; nothing need be registered.

        Takes 55 to 240 ns for each 4 KB page that is there, and next to nothing for others.
        E2BIG as above.
        """
        return [(r.start, r.end) for r in self._regions_of(start, end, 0, _FILE, _PRESENT)]

    def _regions_of(self, start: int, end: int, flags: int, but: int, answer: int) -> list[Region]:
        """Pages that are there or in swap, but for those of a category."""
        found = self._scan(start, end, flags, but, but, _PRESENT | _SWAPPED, answer)
        if self._argument[4] < end:
            raise OSError(errno.E2BIG, "too many regions")
        words = iter(self._regions[: 3 * found])
        return list(map(Region._make, zip(words, words, words, strict=True)))

    def _scan(
        self, start: int, end: int, flags: int, inverted: int, mask: int, any_of: int, answer: int
    ) -> int:
        argument = self._argument
        argument[1:5] = [flags, start, end, 0]
        argument[6:] = [MOST_REGIONS, 0, inverted, mask, any_of, answer]
        found: int = self._c.ioctl(self._pagemap, _PAGEMAP_SCAN, ctypes.addressof(argument))
        if found < 0:
            raise _error()
        return found

    def pinned_bytes(self) -> int:
        """Memory that is pinned for devices (io_uring, RDMA), which write to it unseen."""
        size: int = self._c.pread(self._status, self._text, len(self._text), 0)
        if size < 0:
            raise _error()
        found = _VM_PIN.search(self._text.raw[:size])
        return int(found[1]) * 1024 if found else 0

    def _call(self, fd: int, request: int, *words: int) -> None:
        argument = (ctypes.c_uint64 * len(words))(*words)
        if self._c.ioctl(fd, request, ctypes.addressof(argument)) < 0:
            raise _error()


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


@functools.cache
def refusal() -> str | None:
    """Why writes cannot be seen here, or None; tried on real memory, once."""
    try:
        kernel = WriteProtection()
    except Unavailable as why:
        return str(why)
    try:
        return None if _sees_writes(kernel) else "this kernel's answers about writes are wrong"
    except OSError as why:
        return f"writes cannot be seen here ({why.strerror})"
    finally:
        kernel.close()


def _sees_writes(kernel: WriteProtection) -> bool:
    """A write by us and one by a system call, and nothing else; page 4 is never touched."""
    page = mmap.PAGESIZE
    with mmap.mmap(-1, 5 * page, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        edges = [start + number * page for number in range(6)]
        memory[: 4 * page] = bytes(range(256)) * (4 * page // 256)
        kernel.register(start, edges[5])
        before = kernel.protect(start, edges[5])
        nothing = kernel.protect(start, edges[5])
        memory[page] = 255
        with open("/dev/zero", "rb", buffering=0) as zeros, memoryview(memory) as view:
            zeros.readinto(view[3 * page : 3 * page + 1])
        after = kernel.protect(start, edges[5])
    return (before, nothing, after) == (
        [(start, edges[4], _WRITTEN)],
        [(start, edges[4], 0)],
        [(edges[0], edges[1], 0), (edges[1], edges[2], _WRITTEN)]
        + [(edges[2], edges[3], 0), (edges[3], edges[4], _WRITTEN)],
    )
