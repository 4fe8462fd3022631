"""What was written, by whatever means, is never reported as unwritten, and user code works."""

from __future__ import annotations

import ctypes
import errno
import mmap
import multiprocessing
import os
import random
import re
import socket
import subprocess
import sys
import textwrap
import threading
import types
from collections.abc import Callable, Iterator
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checkpoint_kernel import (
    contract,
    dirty_pages,
    mappings,
    protected_range,
    snapshot,
    userfaultfd,
)
from checkpoint_kernel.dirty_pages import DirtyPages, Key
from checkpoint_kernel.intervals import Interval, gaps, in_both, joined
from checkpoint_kernel.mappings import Mapping, Maps
from checkpoint_kernel.userfaultfd import Region, Unavailable, WriteProtection

REASON = dirty_pages.available()
assert "wrong" not in str(REASON), REASON  # a kernel that cannot is no failure, an answer is
pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(REASON is not None, reason=f"no dirty pages here: {REASON}"),
]

PAGE = mmap.PAGESIZE
HUGE = 2 << 20
MADV_COLLAPSE = 25
MADV_PAGEOUT = 21

Array = np.ndarray[Any, np.dtype[np.uint8]]


def libc() -> Any:
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = library.mremap.restype = ctypes.c_void_p
    size, number = ctypes.c_size_t, ctypes.c_int
    library.mmap.argtypes = (ctypes.c_void_p, size, number, number, number, ctypes.c_long)
    library.mremap.argtypes = (ctypes.c_void_p, size, size, number, ctypes.c_void_p)
    library.munmap.argtypes = (ctypes.c_void_p, size)
    library.mprotect.argtypes = (ctypes.c_void_p, size, number)
    library.madvise.argtypes = (ctypes.c_void_p, size, number)
    return library


LIBC = libc()


class Memory:
    """Private anonymous memory on a huge page's edge, filled with noise."""

    def __init__(self, size: int, huge: bool = False, fill: bool = True) -> None:
        self.map = mmap.mmap(-1, size + HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        whole = np.frombuffer(self.map, np.uint8)
        self.offset = -whole.ctypes.data % HUGE
        self.advise(mmap.MADV_HUGEPAGE if huge else mmap.MADV_NOHUGEPAGE, 0, size)
        self.bytes: Array = whole[self.offset : self.offset + size]
        if fill:
            self.bytes[:] = np.random.default_rng(1).integers(0, 256, size, np.uint8)
        self.key: Key = (self.bytes.ctypes.data, size)

    def advise(self, advice: int, start: int, length: int) -> None:
        self.map.madvise(advice, self.offset + start, length)

    def page(self, number: int) -> Array:
        return self.bytes[number * PAGE : (number + 1) * PAGE]


@pytest.fixture(autouse=True)
def in_no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not done within 2 ms counts as written: on a busy machine that could be anything."""
    monkeypatch.setattr(dirty_pages, "FOLLOW_LIMIT_S", 10.0)
    monkeypatch.setattr(dirty_pages, "SEGMENTS_LIMIT_S", 10.0)


@pytest.fixture
def pages() -> Iterator[DirtyPages]:
    followed = DirtyPages()
    yield followed
    followed.close()


def follow(pages: DirtyPages, *keys: Key) -> None:
    """Until the next look is about all of each."""
    for _ in range(30):
        pages.follow(keys)
        looked = pages.look()
        if all(key in looked for key in keys) and all(
            here.whole for here in pages._protected.values()
        ):
            return
    raise AssertionError(f"not followed: {keys}")


def written(pages: DirtyPages, key: Key) -> list[int]:
    """Numbers of the pages that the next look does not report as unwritten."""
    unwritten = pages.look()[key]
    start, end = key[0], key[0] + key[1]
    return [
        number
        for left, right in gaps(start, end, unwritten)
        for number in range((left - start) // PAGE, (right - start) // PAGE)
    ]


# --- what is told apart -------------------------------------------------------------------


@pytest.mark.parametrize("huge", [False, True])
def test_exactly_the_pages_that_were_written_are_not_reported(
    pages: DirtyPages, huge: bool
) -> None:
    memory = Memory(2 * HUGE, huge)
    follow(pages, memory.key)
    assert written(pages, memory.key) == []
    memory.page(7)[:] = 0
    memory.page(600)[PAGE - 1] ^= 1
    assert written(pages, memory.key) == [7, 600]
    assert written(pages, memory.key) == []


def test_writing_the_same_bytes_is_writing(pages: DirtyPages) -> None:
    memory = Memory(16 * PAGE)
    follow(pages, memory.key)
    memory.page(3)[:] = memory.page(3).copy()
    assert written(pages, memory.key) == [3]


def test_reading_is_not_writing(pages: DirtyPages) -> None:
    memory = Memory(HUGE, huge=True)
    follow(pages, memory.key)
    assert int(memory.bytes.sum()) > 0
    assert written(pages, memory.key) == []


def test_nothing_is_said_before_the_second_look(pages: DirtyPages) -> None:
    # Who calls follow() and then look() asks about the time before, too.
    memory = Memory(16 * PAGE)
    pages.follow([memory.key])
    assert pages.look() == {memory.key: []}
    assert written(pages, memory.key) == []


def test_only_whole_pages_inside_a_range_are_reported(pages: DirtyPages) -> None:
    memory = Memory(8 * PAGE)
    address = memory.key[0]
    inside = (address + 1, 4 * PAGE)
    follow(pages, inside)
    assert pages.look() == {inside: [(address + PAGE, address + 4 * PAGE)]}


def test_parts_of_pages_are_not_followed(pages: DirtyPages) -> None:
    memory = Memory(8 * PAGE)
    pages.follow([(memory.key[0] + 1, PAGE), (memory.key[0] + 2 * PAGE, 0)])
    assert pages.look() == {}


def test_of_ranges_that_overlap_only_one_is_followed(pages: DirtyPages) -> None:
    memory = Memory(8 * PAGE)
    part = (memory.key[0] + 2 * PAGE, 2 * PAGE)
    for _ in range(3):
        pages.follow([memory.key, part])
        pages.look()
    memory.page(2)[0] ^= 1
    assert written(pages, memory.key) == [2]
    assert part not in pages.look()
    pages.follow([part])
    pages.look()
    memory.page(2)[0] ^= 1
    assert written(pages, part) == [0]


# --- pages that are not there ---------------------------------------------------------------


@pytest.mark.parametrize("huge", [False, True])
def test_a_page_is_written_when_it_is_touched_first(pages: DirtyPages, huge: bool) -> None:
    memory = Memory(4 * HUGE, huge, fill=False)
    follow(pages, memory.key)
    assert written(pages, memory.key) == []  # zeros then and now
    memory.page(600)[5] = 1
    assert 600 in written(pages, memory.key)
    assert written(pages, memory.key) == []


@pytest.mark.parametrize("read", [False, True])
@pytest.mark.parametrize("huge", [False, True])
def test_what_madvise_drops_is_written(pages: DirtyPages, huge: bool, read: bool) -> None:
    memory = Memory(16 * HUGE, huge)
    memory.advise(mmap.MADV_DONTNEED, 15 * HUGE, HUGE)  # zeros then and now
    follow(pages, memory.key)
    memory.advise(mmap.MADV_DONTNEED, HUGE, HUGE)  # no page table may be left of it
    memory.advise(mmap.MADV_DONTNEED, 5 * PAGE, PAGE)
    if read:
        assert memory.bytes[5 * PAGE] == memory.bytes[HUGE] == 0
    assert written(pages, memory.key) == [5, *range(512, 1024)]
    assert written(pages, memory.key) == []
    memory.page(5)[0] = memory.page(700)[0] = 1
    assert {5, 700} <= set(written(pages, memory.key))


def test_what_madvise_free_drops_is_written(pages: DirtyPages) -> None:
    memory = Memory(16 * PAGE)
    follow(pages, memory.key)
    memory.advise(mmap.MADV_FREE, 0, PAGE)
    before = memory.bytes.copy()
    unwritten = pages.look()[memory.key]  # no longer there only once memory is short
    for start, end in unwritten:
        here = slice(start - memory.key[0], end - memory.key[0])
        assert (memory.bytes[here] == before[here]).all()
    memory.page(0)[0] = 1
    assert written(pages, memory.key) == [0]


def test_reading_zeros_does_not_cost_the_huge_page(pages: DirtyPages) -> None:
    memory = Memory(8 * HUGE, huge=True, fill=False)
    assert int(memory.bytes[HUGE:].sum()) == 0
    follow(pages, memory.key)
    memory.bytes[HUGE : 2 * HUGE] = 1
    assert written(pages, memory.key) == list(range(512, 1024))


def test_what_was_swapped_out_and_in_is_unwritten(pages: DirtyPages) -> None:
    if len(Path("/proc/swaps").read_text().splitlines()) < 2:
        pytest.skip("there is no swap on this machine")
    memory = Memory(64 * PAGE)
    follow(pages, memory.key)
    memory.advise(MADV_PAGEOUT, 0, 64 * PAGE)
    memory.page(3)[0] ^= 1
    assert written(pages, memory.key) == [3]


# --- other memory at the same address ---------------------------------------------------------


def test_memory_that_was_unmapped_and_mapped_again_is_written(pages: DirtyPages) -> None:
    memory = Memory(16 * PAGE)
    follow(pages, memory.key)
    memory_again(memory.key[0] + 4 * PAGE, 2 * PAGE)
    assert pages.look() == {memory.key: []}
    assert pages.look() == {}
    follow(pages, memory.key)
    memory.page(5)[0] = 1
    assert written(pages, memory.key) == [5]


def memory_again(address: int, length: int) -> None:
    """Fresh memory, all zeros, where other memory was."""
    assert LIBC.munmap(address, length) == 0
    fixed = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x10
    assert LIBC.mmap(address, length, 3, fixed, -1, 0) == address


def test_a_hole_is_not_reported(pages: DirtyPages) -> None:
    address = LIBC.mmap(None, 8 * PAGE, 3, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    ctypes.memset(address, 1, 8 * PAGE)
    key = (address, 8 * PAGE)
    follow(pages, key)
    assert LIBC.munmap(address + 3 * PAGE, PAGE) == 0
    assert written(pages, key) == [3]
    assert LIBC.munmap(address, 3 * PAGE) == 0
    assert LIBC.munmap(address + 4 * PAGE, 4 * PAGE) == 0


def test_memory_that_mremap_moved_away_and_here_is_written(pages: DirtyPages) -> None:
    here, other = Memory(16 * PAGE), Memory(16 * PAGE)
    follow(pages, here.key, other.key)
    may_move, fixed = 1, 2
    moved = LIBC.mremap(other.key[0], 4 * PAGE, 4 * PAGE, may_move | fixed, here.key[0])
    assert moved == here.key[0]
    memory_again(other.key[0], 4 * PAGE)
    assert pages.look() == {here.key: [], other.key: []}
    # The marks of the old place may have come along, where they protect nothing any more.
    follow(pages, here.key)
    here.page(2)[0] ^= 1
    assert written(pages, here.key) == [2]


def test_marks_from_before_do_not_hide_writes(pages: DirtyPages) -> None:
    memory = Memory(16 * PAGE)
    start, end = memory.key[0], memory.key[0] + memory.key[1]
    pages._kernel.register(start, end)
    pages._kernel.protect(start, end)
    memory.page(3)[0] ^= 1
    unprotected = []
    real = pages._kernel.unprotect
    pages._kernel.unprotect = lambda *range_: unprotected.append(range_) or real(*range_)  # type: ignore[method-assign, func-returns-value]
    follow(pages, memory.key)
    assert unprotected == [(start, end)]  # on Linux up to 6.12.10 they might be writable
    memory.page(4)[0] ^= 1
    assert written(pages, memory.key) == [4]


def test_an_array_in_the_place_of_a_freed_one_is_written() -> None:
    reused = 0
    for _ in range(5):
        pages = DirtyPages()
        array = np.ones(40 << 20, np.uint8)
        key = key_of(array)
        for _ in range(3):
            pages.follow([key])
            pages.look()
        del array
        array = np.full(40 << 20, 2, np.uint8)
        if key_of(array) == key:
            reused += 1
            assert pages.look()[key] == []
        del array
        pages.close()
    if not reused:
        pytest.skip("malloc never gave the same address again")


def test_a_bytearray_that_moves_as_it_grows_is_written(pages: DirtyPages) -> None:
    data = bytearray(40 << 20)
    address, length = ctypes.addressof(ctypes.c_char.from_buffer(data)), len(data)
    follow(pages, (address, length))
    blocker = mmap.mmap(-1, 1 << 20)  # perhaps right behind it
    data += bytes(length)  # by mremap
    moved = ctypes.addressof(ctypes.c_char.from_buffer(data))
    unwritten = pages.look()[address, length]
    assert unwritten == [] or moved == address
    follow(pages, (moved, len(data)))
    data[5 * PAGE] ^= 1
    assert len(written(pages, (moved, len(data)))) <= 3  # the edges, and this one
    blocker.close()


# --- memory that is not followed ----------------------------------------------------------


def not_followed(pages: DirtyPages, array: Array) -> bool:
    key = (array.ctypes.data, array.nbytes)
    for _ in range(3):
        pages.follow([key])
        pages.look()
    return key not in pages.look()


def test_shared_memory_is_not_followed(pages: DirtyPages) -> None:
    assert not_followed(pages, np.frombuffer(mmap.mmap(-1, 16 * PAGE), np.uint8))
    shared = shared_memory.SharedMemory(create=True, size=16 * PAGE)
    array: Array = np.frombuffer(shared.buf, np.uint8)
    try:
        assert not_followed(pages, array)
    finally:
        del array
        shared.close()
        shared.unlink()


@pytest.mark.parametrize("mode", ["r+", "c"])
def test_maps_of_the_users_files_are_not_followed_and_work(
    pages: DirtyPages, tmp_path: Path, mode: Any
) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(16 * PAGE))
    array = np.memmap(path, np.uint8, mode)
    assert not_followed(pages, array)
    array[3] = 7
    array.flush()
    assert path.read_bytes()[3] == (7 if mode == "r+" else 0)


def test_read_only_memory_and_memory_that_is_not_there_are_not_followed(pages: DirtyPages) -> None:
    memory = Memory(16 * PAGE)
    assert LIBC.mprotect(memory.key[0], PAGE, 1) == 0
    assert not_followed(pages, memory.bytes)
    assert LIBC.mprotect(memory.key[0], PAGE, 3) == 0
    pages.follow([(PAGE, PAGE), (1 << 46, 4 * PAGE)])
    assert pages.look() == {}


def test_huge_pages_of_hugetlbfs_are_not_followed(pages: DirtyPages) -> None:
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000  # MAP_HUGETLB
    try:
        memory = mmap.mmap(-1, HUGE, flags=flags)
    except OSError as why:
        pytest.skip(f"no huge pages are set aside here: {why}")
    assert not_followed(pages, np.frombuffer(memory, np.uint8))


def test_what_another_userfaultfd_follows_stays_its_own(pages: DirtyPages) -> None:
    memory = Memory(16 * PAGE)
    other = DirtyPages()
    follow(other, memory.key)
    assert not_followed(pages, memory.bytes)
    memory.page(3)[0] ^= 1
    assert written(other, memory.key) == [3]
    other.close()


def test_what_is_forgotten_can_be_followed_by_others(pages: DirtyPages) -> None:
    memory = Memory(2 * HUGE, huge=True)
    follow(pages, memory.key)
    pages.follow([])
    assert pages.look() == {}
    other = DirtyPages()
    follow(other, memory.key)
    memory.page(3)[0] ^= 1
    assert written(other, memory.key) == [3]
    other.close()


def test_only_what_is_registered_is_unregistered(pages: DirtyPages) -> None:
    memory = Memory(16 * PAGE)
    with pytest.raises(OSError, match="not permitted"):
        pages._kernel.unregister(memory.key[0], sum(memory.key))


# --- maps of segments -------------------------------------------------------------------------


def segment_map(directory: Path, size: int) -> Array:
    path = directory / contract.SEGMENTS / "abc.seg"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(np.random.default_rng(2).integers(0, 256, size, np.uint8).tobytes())
    with open(path, "r+b") as file:
        private = mmap.mmap(file.fileno(), size, flags=mmap.MAP_PRIVATE)
    return np.frombuffer(private, np.uint8)


def key_of(array: Array) -> Key:
    return array.ctypes.data, array.nbytes


@pytest.mark.parametrize("read", [False, True])
@pytest.mark.parametrize("removed", [False, True])
def test_restored_pages_are_unwritten_until_they_are_written(
    pages: DirtyPages, tmp_path: Path, read: bool, removed: bool
) -> None:
    array = segment_map(tmp_path, 64 * PAGE)
    follow(pages, key_of(array))
    if removed:
        (tmp_path / contract.SEGMENTS / "abc.seg").unlink()
    if read:
        assert int(array.sum()) > 0
    assert written(pages, key_of(array)) == []
    array[3 * PAGE] ^= 1
    assert written(pages, key_of(array)) == [3]
    assert written(pages, key_of(array)) == [3]  # from then on
    array[5 * PAGE] ^= 1
    assert written(pages, key_of(array)) == [3, 5]


def test_a_page_that_falls_back_to_the_segments_bytes_is_written(
    pages: DirtyPages, tmp_path: Path
) -> None:
    array = segment_map(tmp_path, 64 * PAGE)
    original = array.copy()
    array[3 * PAGE] ^= 1
    follow(pages, key_of(array))
    assert written(pages, key_of(array)) == [3]
    assert LIBC.madvise(array.ctypes.data, 64 * PAGE, mmap.MADV_DONTNEED) == 0
    assert written(pages, key_of(array)) == [3]
    assert (array == original).all()
    assert written(pages, key_of(array)) == []


@pytest.mark.parametrize("number", [0, 20, 63])
def test_another_map_in_the_place_of_a_segments_is_written(
    pages: DirtyPages, tmp_path: Path, number: int
) -> None:
    array = segment_map(tmp_path, 64 * PAGE)
    follow(pages, key_of(array))
    memory_again(array.ctypes.data + number * PAGE, PAGE)
    assert written(pages, key_of(array)) == list(range(64))
    assert written(pages, key_of(array)) == []
    array[number * PAGE] = 1
    assert written(pages, key_of(array)) == [number]


def test_other_bytes_of_the_same_segment_are_written(pages: DirtyPages, tmp_path: Path) -> None:
    array = segment_map(tmp_path, 64 * PAGE)
    follow(pages, key_of(array))
    with open(tmp_path / contract.SEGMENTS / "abc.seg", "rb") as file:
        private_fixed = mmap.MAP_PRIVATE | 0x10
        address = array.ctypes.data
        arguments = (address, PAGE, 3, private_fixed, file.fileno(), 5 * PAGE)
        assert LIBC.mmap(*arguments) == address
    assert written(pages, key_of(array)) == list(range(64))
    assert written(pages, key_of(array)) == []


def test_memory_between_maps_of_segments_is_unwritten_while_it_is_untouched(
    pages: DirtyPages, tmp_path: Path
) -> None:
    array = segment_map(tmp_path, 64 * PAGE)
    memory_again(array.ctypes.data + 8 * PAGE, 3 * PAGE)
    array[9 * PAGE] = 1
    follow(pages, key_of(array))
    assert written(pages, key_of(array)) == [9]
    memory_again(array.ctypes.data + 9 * PAGE, PAGE)  # one map with its neighbours, perhaps
    assert 9 in written(pages, key_of(array))
    array[10 * PAGE] = 1
    assert written(pages, key_of(array)) == [10]


def test_madvise_on_a_part_of_a_map_changes_nothing(pages: DirtyPages, tmp_path: Path) -> None:
    array = segment_map(tmp_path, 64 * PAGE)
    follow(pages, key_of(array))
    assert LIBC.madvise(array.ctypes.data, 9 * PAGE, mmap.MADV_DONTFORK) == 0
    assert written(pages, key_of(array)) == []
    assert LIBC.madvise(array.ctypes.data, 9 * PAGE, mmap.MADV_DOFORK) == 0
    assert written(pages, key_of(array)) == []


def test_restored_memory_that_is_no_longer_named_is_forgotten(
    pages: DirtyPages, tmp_path: Path
) -> None:
    array = segment_map(tmp_path, 64 * PAGE)
    follow(pages, key_of(array))
    pages.follow([])
    assert pages.look() == {}
    pages.follow([key_of(array)])
    assert pages.look() == {key_of(array): []}


def test_restored_memory_that_is_mostly_rewritten_rests(pages: DirtyPages, tmp_path: Path) -> None:
    array = segment_map(tmp_path, 64 * PAGE)
    follow(pages, key_of(array))
    array[: 17 * PAGE] ^= 1
    assert written(pages, key_of(array)) == list(range(17))
    for _ in range(8):
        pages.follow([key_of(array)])
        assert pages.look() == {}
    pages.follow([key_of(array)])
    assert key_of(array) in pages.look()


def test_a_look_at_restored_memory_that_takes_too_long_says_nothing(
    pages: DirtyPages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = segment_map(tmp_path, 64 * PAGE)
    follow(pages, key_of(array))
    monkeypatch.setattr(dirty_pages, "SEGMENTS_LIMIT_S", -1.0)
    assert pages.look() == {key_of(array): []}
    pages.follow([key_of(array)])
    assert pages.look() == {}


def test_restored_memory_is_read_as_fast_as_without(pages: DirtyPages, tmp_path: Path) -> None:
    array = segment_map(tmp_path, 64 * PAGE)
    follow(pages, key_of(array))
    # Registered maps of files lose the kernel's fault-around.
    flags = re.search(
        rf"^{array.ctypes.data:x}-.*?^VmFlags: (.*?)$",
        Path("/proc/self/smaps").read_text(),
        re.MULTILINE | re.DOTALL,
    )
    assert flags is not None
    assert "uw" not in flags[1].split()


# --- the user's code ------------------------------------------------------------------------


def test_what_system_calls_write_is_seen(pages: DirtyPages, tmp_path: Path) -> None:
    memory = Memory(64 * PAGE)
    follow(pages, memory.key)
    path = tmp_path / "data"
    path.write_bytes(b"x" * PAGE)
    with open(path, "rb", buffering=0) as file:
        assert file.readinto(memory.page(3)) == PAGE
    near, far = socket.socketpair()
    with near, far:
        near.sendall(b"y" * 10)
        assert far.recv_into(memory.page(5)) == 10
    reading, writing = os.pipe()
    os.write(writing, b"z")
    assert os.readv(reading, [memory.page(7)]) == 1
    os.close(reading)
    os.close(writing)
    assert bytes(memory.page(3)) == b"x" * PAGE
    assert written(pages, memory.key) == [3, 5, 7]


def test_what_o_direct_reads_is_seen(pages: DirtyPages, tmp_path: Path) -> None:
    memory = Memory(64 * PAGE)
    path = tmp_path / "data"
    path.write_bytes(b"x" * 4 * PAGE)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    except OSError as why:
        pytest.skip(f"no O_DIRECT on this filesystem: {why}")
    follow(pages, memory.key)
    assert os.preadv(fd, [memory.bytes[8 * PAGE : 12 * PAGE]], 0) == 4 * PAGE
    os.close(fd)
    assert bytes(memory.page(8)) == b"x" * PAGE
    assert written(pages, memory.key) == [8, 9, 10, 11]


def test_another_process_that_writes_here_is_seen(pages: DirtyPages) -> None:
    memory = Memory(64 * PAGE)
    follow(pages, memory.key)
    with open("/proc/self/mem", "r+b", buffering=0) as file:  # as debuggers do
        file.seek(memory.key[0] + 9 * PAGE)
        file.write(b"debugger")
    assert written(pages, memory.key) == [9]


@pytest.mark.parametrize("huge", [False, True])
def test_a_childs_writes_are_its_own_and_the_parents_are_seen(
    pages: DirtyPages, huge: bool
) -> None:
    memory = Memory(2 * HUGE, huge)
    follow(pages, memory.key)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        memory.bytes[:] = 3  # in the child nothing is protected
        pages.follow([memory.key])
        os._exit(int(pages.look() != {} or memory.bytes.sum() != 3 * 2 * HUGE))
    memory.page(4)[0] ^= 1  # copy on write
    assert os.waitpid(pid, 0)[1] == 0
    os.close(reading)
    os.close(writing)
    assert written(pages, memory.key) == [4]
    memory.page(5)[0] ^= 1
    assert written(pages, memory.key) == [5]


@pytest.mark.skipif(snapshot.available() is not None, reason=str(snapshot.available()))
@pytest.mark.parametrize("huge", [False, True])
def test_the_snapshot_process_leaves_the_parents_proof_alone(pages: DirtyPages, huge: bool) -> None:
    memory = Memory(2 * HUGE, huge)
    follow(pages, memory.key)
    memory.page(1)[0] ^= 1  # protected no longer, and shared with the child
    before = memory.bytes.copy()
    child = snapshot.fork(lambda report: snapshot.limit(5) or threading.Event().wait())
    memory.page(2)[0] ^= 1
    memory.page(1)[1] ^= 1
    assert written(pages, memory.key) == [1, 2]
    memory.page(600)[0] ^= 1
    snapshot.kill(child)
    snapshot.reap(child, block=True)
    snapshot.close(child)
    memory.page(601)[0] ^= 1
    assert written(pages, memory.key) == [600, 601]
    assert np.flatnonzero((memory.bytes != before).reshape(-1, PAGE).any(1)).tolist() == [
        1, 2, 600, 601,
    ]  # fmt: skip


@pytest.mark.parametrize("huge", [False, True])
def test_pages_that_fork_leaves_out_stay_followed(pages: DirtyPages, huge: bool) -> None:
    memory = Memory(2 * HUGE, huge)
    follow(pages, memory.key)
    memory.advise(mmap.MADV_DONTFORK, HUGE, HUGE)
    child = snapshot.fork(lambda report: None)
    memory.advise(mmap.MADV_DOFORK, HUGE, HUGE)
    snapshot.reap(child, block=True)
    snapshot.close(child)
    memory.page(600)[0] ^= 1
    memory.page(3)[0] ^= 1
    assert written(pages, memory.key) == [3, 600]


def test_protection_by_the_user_and_ours_do_not_mix(pages: DirtyPages) -> None:
    memory = Memory(64 * PAGE)
    follow(pages, memory.key)
    assert LIBC.mprotect(memory.key[0], 16 * PAGE, 1) == 0
    assert LIBC.mprotect(memory.key[0], 16 * PAGE, 3) == 0
    assert written(pages, memory.key) == []
    memory.page(3)[0] ^= 1
    assert written(pages, memory.key) == [3]


def test_huge_pages_made_and_split_hide_no_write(pages: DirtyPages) -> None:
    memory = Memory(2 * HUGE)
    follow(pages, memory.key)
    memory.page(3)[0] ^= 1
    memory.advise(mmap.MADV_HUGEPAGE, 0, 2 * HUGE)
    LIBC.madvise(memory.key[0], 2 * HUGE, MADV_COLLAPSE)  # refused where pages are protected
    assert 3 in written(pages, memory.key)
    memory.page(4)[0] ^= 1
    memory.advise(mmap.MADV_NOHUGEPAGE, 0, 2 * HUGE)
    memory.page(600)[0] ^= 1
    assert {4, 600} <= set(written(pages, memory.key))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing_works(pages: DirtyPages, method: str) -> None:
    memory = Memory(256 * PAGE)
    follow(pages, memory.key)
    with multiprocessing.get_context(method).Pool(1) as pool:
        total = pool.apply_async(np.sum, (memory.bytes,)).get(timeout=60)
    assert total == memory.bytes.sum()
    memory.page(3)[0] ^= 1
    assert 3 in written(pages, memory.key)


def test_subprocesses_work_and_inherit_nothing(pages: DirtyPages) -> None:
    memory = Memory(64 * PAGE)
    follow(pages, memory.key)
    program = "import os; print([os.readlink(f.path) for f in os.scandir('/proc/self/fd')])"
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], input=memory.bytes.tobytes(),
        capture_output=True, check=False, close_fds=False,
    )  # fmt: skip
    assert b"userfaultfd" not in done.stdout
    assert b"pagemap" not in done.stdout
    assert written(pages, memory.key) == []


def test_threads_of_joblib_read_and_write(pages: DirtyPages) -> None:
    joblib = pytest.importorskip("joblib")  # scikit-learn's threads
    memory = Memory(64 * PAGE)
    follow(pages, memory.key)
    run = joblib.Parallel(n_jobs=4, prefer="threads")
    sums = run(joblib.delayed(np.sum)(memory.page(number)) for number in range(64))
    assert sums == [memory.page(number).sum() for number in range(64)]
    assert written(pages, memory.key) == []
    run(joblib.delayed(memory.page(number).fill)(number) for number in (3, 5, 60))
    assert written(pages, memory.key) == [3, 5, 60]


def test_a_thread_that_writes_all_the_time_is_seen_in_the_end(pages: DirtyPages) -> None:
    memory = Memory(4 * HUGE, huge=True)
    follow(pages, memory.key)
    saved = memory.bytes.copy()
    stop = threading.Event()

    def write() -> None:
        chosen = random.Random(3)
        while not stop.is_set():
            start = chosen.randrange(memory.bytes.size - HUGE // 4)
            here = memory.bytes[start : start + HUGE // 4]
            np.add(here, 1, here)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(40):
            save(pages, memory, saved)
    finally:
        stop.set()
        writer.join()
    save(pages, memory, saved)
    assert (saved == memory.bytes).all()


def save(pages: DirtyPages, memory: Memory, saved: Array) -> None:
    """As a checkpoint does: everything but what is proved to be as it was saved."""
    unwritten = pages.look().get(memory.key, [])
    for start, end in gaps(memory.key[0], sum(memory.key), unwritten):
        here = slice(start - memory.key[0], end - memory.key[0])
        saved[here] = memory.bytes[here]
    pages.follow([memory.key])


# --- devices ------------------------------------------------------------------------------


def test_a_live_cuda_context_ends_it(pages: DirtyPages, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(16 * PAGE)
    follow(pages, memory.key)
    live = types.SimpleNamespace(cuda=types.SimpleNamespace(is_initialized=lambda: True))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torch", live)
        assert "CUDA" in str(dirty_pages.available())
        assert pages.look() == {memory.key: []}
        pages.follow([memory.key])
        assert pages.look() == {}
    patch.setitem(sys.modules, "torch", types.SimpleNamespace())  # half imported
    assert dirty_pages.available() is None
    patch.undo()


def test_memory_pinned_for_devices_ends_it(pages: DirtyPages) -> None:
    memory = Memory(16 * PAGE)
    follow(pages, memory.key)
    parameters = ctypes.create_string_buffer(120)
    ring = LIBC.syscall(425, 4, parameters)  # io_uring_setup
    if ring < 0:
        pytest.skip(f"no io_uring here: {os.strerror(ctypes.get_errno())}")
    vector = (ctypes.c_uint64 * 2)(memory.key[0], PAGE)
    assert LIBC.syscall(427, ring, 0, vector, 1) == 0  # io_uring_register, buffers
    try:
        assert pages._kernel.pinned_bytes() == PAGE
        assert pages.look() == {memory.key: []}
        pages.follow([memory.key])
        assert pages.look() == {}
    finally:
        assert LIBC.syscall(427, ring, 1, None, 0) == 0
        os.close(ring)
    follow(pages, memory.key)


# --- costs ----------------------------------------------------------------------------------


def test_a_range_that_is_written_densely_rests_longer_and_longer(pages: DirtyPages) -> None:
    memory = Memory(16 * PAGE)
    for calls in (8, 16, 32):
        follow(pages, memory.key)
        memory.bytes[: 5 * PAGE] ^= 1
        assert written(pages, memory.key) == [0, 1, 2, 3, 4]  # still true
        for _ in range(calls):
            pages.follow([memory.key])
            assert pages.look() == {}
    pages.follow([memory.key])
    assert memory.key in pages.look()
    dirty_pages_rest = pages._rests[memory.key]
    dirty_pages_rest.length = dirty_pages.LONGEST_REST
    memory.bytes[:] ^= 1
    pages.look()
    assert pages._rests[memory.key].length == dirty_pages.LONGEST_REST


def test_writes_all_over_a_range_are_dense(
    pages: DirtyPages, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory(64 * PAGE)
    follow(pages, memory.key)
    monkeypatch.setattr(userfaultfd, "MOST_REGIONS", 4)
    memory.bytes[:: 16 * PAGE] ^= 1
    assert pages.look() == {memory.key: []}
    pages.follow([memory.key])
    assert pages.look() == {}


def test_a_large_range_is_followed_step_by_step(pages: DirtyPages) -> None:
    memory = Memory(5 * protected_range.FIRST_STEP_BYTES, huge=True, fill=False)
    reached = []
    for _ in range(4):
        pages.follow([memory.key])
        pages.look()
        reached.append(pages._protected[memory.key]._reached - memory.key[0])
    assert reached[0] == protected_range.FIRST_STEP_BYTES
    assert reached[-1] == memory.key[1]


def test_what_is_protected_only_in_part_is_reported_only_in_part(
    pages: DirtyPages, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory(2 * protected_range.FIRST_STEP_BYTES, huge=True, fill=False)
    monkeypatch.setattr(protected_range, "GROWTH", 1)
    for _ in range(3):
        pages.follow([memory.key])
        looked = pages.look()
    start = memory.key[0]
    assert looked == {memory.key: [(start, start + protected_range.FIRST_STEP_BYTES)]}


def test_without_time_nothing_is_followed(
    pages: DirtyPages, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory(16 * PAGE)
    with monkeypatch.context() as patch:
        patch.setattr(dirty_pages, "FOLLOW_LIMIT_S", -1.0)
        pages.follow([memory.key])
        assert pages.look() == {}
    follow(pages, memory.key)
    monkeypatch.setattr(dirty_pages, "FOLLOW_LIMIT_S", -1.0)
    pages.follow([])
    pages.follow([memory.key])  # it has not left yet
    assert pages.look() == {}


def test_follow_before_look_says_nothing_about_what_it_has_just_protected(
    pages: DirtyPages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protected_range, "FIRST_STEP_BYTES", 2 * HUGE)
    memory = Memory(8 * HUGE)
    saved = memory.bytes.copy()
    for round_ in range(8):
        memory.bytes[round_::HUGE] ^= 1
        pages.follow([memory.key])
        save(pages, memory, saved)
        assert (saved == memory.bytes).all()


# --- failures -------------------------------------------------------------------------------


def test_a_look_that_is_interrupted_forgets_everything(
    pages: DirtyPages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Memory(16 * PAGE), Memory(16 * PAGE)
    restored = segment_map(tmp_path, 16 * PAGE)
    follow(pages, first.key, second.key, key_of(restored))
    first.page(3)[0] ^= 1
    real = pages._kernel.protect

    def interrupted(start: int, end: int) -> list[Region]:
        if start == second.key[0]:
            raise KeyboardInterrupt
        return real(start, end)

    monkeypatch.setattr(pages._kernel, "protect", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pages.look()
    monkeypatch.undo()
    assert pages.look() == {}
    follow(pages, first.key, second.key)
    assert written(pages, first.key) == []


def test_user_code_that_closes_all_descriptors_costs_the_proof_only(pages: DirtyPages) -> None:
    memory = Memory(16 * PAGE)
    follow(pages, memory.key)
    for fd in pages._kernel._descriptors:
        os.close(fd)
    memory.page(3)[0] ^= 1
    assert pages.look() == {memory.key: []}
    pages.follow([memory.key])
    assert pages.look() == {}


def test_after_close_it_knows_nothing(pages: DirtyPages) -> None:
    memory = Memory(16 * PAGE)
    follow(pages, memory.key)
    pages.close()
    pages.close()
    pages.follow([memory.key])
    assert pages.look() == {}
    memory.page(3)[0] ^= 1


# --- whether it can be had ----------------------------------------------------------------


def test_the_environment_switches_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHECKPOINT_KERNEL_DIRTY_PAGES", "off")
    assert dirty_pages.available() == "switched off by CHECKPOINT_KERNEL_DIRTY_PAGES"


def test_a_kernel_without_the_features_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(userfaultfd, "_FEATURES", 1 << 62)
    with pytest.raises(Unavailable, match=r"cannot write-protect .* that of 6\.7 and newer can"):
        WriteProtection()


def test_a_machine_whose_system_calls_we_do_not_know_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "m68k")
    assert userfaultfd.refusal.__wrapped__() == "dirty pages are not to be had on m68k"


def test_a_kernel_that_answers_wrongly_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing_written(self: Any, start: int, end: int) -> list[Region]:
        return [Region(start, end, 0)]

    monkeypatch.setattr(WriteProtection, "protect", nothing_written)
    assert "wrong" in str(userfaultfd.refusal.__wrapped__())

    def refused(self: Any, start: int, end: int) -> list[Region]:
        raise OSError(errno.ENOTTY, "no such request")

    monkeypatch.setattr(WriteProtection, "protect", refused)
    assert "no such request" in str(userfaultfd.refusal.__wrapped__())


def said_in_a_process(preparation: str) -> str:
    program = textwrap.dedent(preparation) + textwrap.dedent("""
        from checkpoint_kernel import dirty_pages
        print(dirty_pages.available())
    """)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_seccomp_filter_is_told() -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("the filter of this test is for x86-64")
    said = said_in_a_process("""
        import ctypes, struct
        instructions = [(0x20, 0, 0, 0), (0x15, 0, 1, 323), (0x06, 0, 0, 0x50000 | 1),
                        (0x06, 0, 0, 0x7FFF0000)]  # userfaultfd: EPERM; all else: allowed
        code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *i) for i in instructions))
        program = struct.pack("HxxxxxxQ", len(instructions), ctypes.addressof(code))
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.prctl(38, 1, 0, 0, 0) == 0
        assert libc.prctl(22, 2, ctypes.c_char_p(program), 0, 0) == 0, ctypes.get_errno()
    """)
    assert said.startswith("the system call userfaultfd is refused (Operation not permitted)")


def test_no_privilege_is_needed() -> None:
    if os.geteuid() != 0:
        assert REASON is None  # as whom the tests run
        return
    said = said_in_a_process("""
        import ctypes, os, checkpoint_kernel.dirty_pages
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # dumpable again: /proc/self stays ours
    """)
    assert said == "None"


# --- mappings and intervals ---------------------------------------------------------------


def test_the_text_of_the_mappings_says_what_queries_say() -> None:
    maps = Maps()
    if not maps.can_query:
        pytest.skip("no PROCMAP_QUERY before Linux 6.11")
    text = Path("/proc/self/maps").read_bytes()
    by_text = mappings.from_text(text)
    starts = [int(line.split(b"-")[0], 16) for line in text.splitlines()]
    same = [maps.query(start) == by_text(start) for start in starts]
    assert len(same) > 20
    # The table changes while it is read: a heap that grows, at most.
    assert same.count(False) <= 3
    assert by_text(1) is None
    assert maps.query(1) is None
    maps.close()
    maps.close()


def test_without_queries_the_text_is_read(pages: DirtyPages) -> None:
    pages._maps.can_query = False
    memory = Memory(16 * PAGE)
    follow(pages, memory.key)
    assert not_followed(pages, np.frombuffer(mmap.mmap(-1, 16 * PAGE), np.uint8))


def mapping(name: str, private: bool = True, anonymous: bool = True) -> Mapping:
    return Mapping(0, PAGE, private, 0, anonymous, name)


@pytest.mark.parametrize(
    ("name", "followed"),
    [("", True), ("[heap]", True), ("[anon:python]", True), ("[stack]", False), ("[vvar]", False)],
)
def test_which_anonymous_memory_is_followed(name: str, followed: bool) -> None:
    assert mapping(name).allocated is followed
    assert not mapping(name, private=False).allocated
    assert mapping(name).segment is None


@pytest.mark.parametrize(
    ("name", "segment"),
    [
        ("/home/a/checkpoints/k/segments/0a.seg", "/home/a/checkpoints/k/segments/0a.seg"),
        (
            "/home/a/checkpoints/k/segments/0a.seg (deleted)",
            "/home/a/checkpoints/k/segments/0a.seg",
        ),
        ("/home/a/data.seg", None),
        ("/home/a/segments/data.npy", None),
        ("/memfd:x (deleted)", None),
        ("/anon_hugepage (deleted)", None),
        ("/dev/nvidiactl", None),
    ],
)
def test_which_files_are_segments(name: str, segment: str | None) -> None:
    assert mapping(name, anonymous=False).segment == segment
    assert mapping(name, anonymous=False, private=False).segment is None
    assert not mapping(name, anonymous=False).allocated


numbers = st.sets(st.integers(0, 40))


def runs(chosen: set[int]) -> list[Interval]:
    return joined([(number, number + 1) for number in chosen])


@given(numbers, numbers)
def test_intervals_are_sets_of_numbers(a: set[int], b: set[int]) -> None:
    def members(intervals: list[Interval]) -> set[int]:
        assert intervals == sorted(intervals)
        return {number for start, end in intervals for number in range(start, end)}

    assert members(runs(a)) == a
    assert members(in_both(runs(a), runs(b))) == a & b
    assert members(gaps(0, 41, runs(a))) == set(range(41)) - a


# --- at random ------------------------------------------------------------------------------

PAGES = 2 * HUGE // PAGE
SEGMENT_PAGES = 64


class World:
    """Memory of both kinds, ways to change it, and what it was at the last look."""

    def __init__(self, directory: Path) -> None:
        self.memory = Memory(2 * HUGE, huge=True)
        self.segment = segment_map(directory, SEGMENT_PAGES * PAGE)
        self.arrays: dict[Key, Array]
        self.arrays = {key_of(array): array for array in (self.memory.bytes, self.segment)}
        self.file = open(directory / contract.SEGMENTS / "abc.seg", "rb")  # noqa: SIM115 (kept)
        self.pages = DirtyPages()
        self.saved = {key: array.copy() for key, array in self.arrays.items()}
        self.reported = 0

    def close(self) -> None:
        self.pages.close()
        self.file.close()

    def at(self, number: int, count: int) -> Array:
        """`count` pages from the `number`th on, in one of the two."""
        array = self.segment if number % 3 == 0 else self.memory.bytes
        first = number % (array.size // PAGE)
        return array[first * PAGE : (first + count) * PAGE]

    def write(self, number: int, count: int) -> None:
        self.at(number, count)[:: PAGE // 2] += 1

    def write_zeros(self, number: int, count: int) -> None:
        self.at(number, count)[:] = 0

    def read_into(self, number: int, count: int) -> None:
        with open("/dev/urandom", "rb", buffering=0) as file:
            file.readinto(self.at(number, 1))

    def read(self, number: int, count: int) -> None:
        self.at(number, count).sum()

    def drop(self, number: int, count: int) -> None:
        here = self.at(number, count)
        assert LIBC.madvise(here.ctypes.data, here.nbytes, mmap.MADV_DONTNEED) == 0

    def page_out(self, number: int, count: int) -> None:
        here = self.at(number, count)
        assert LIBC.madvise(here.ctypes.data, here.nbytes, MADV_PAGEOUT) == 0

    def segment_again(self, number: int, count: int) -> None:
        here = self.segment[number % SEGMENT_PAGES * PAGE :][: count * PAGE]
        fixed = mmap.MAP_PRIVATE | 0x10
        offset = number % 2 * (here.ctypes.data - self.segment.ctypes.data)
        arguments = (here.ctypes.data, here.nbytes, 3, fixed, self.file.fileno(), offset)
        assert LIBC.mmap(*arguments) == here.ctypes.data

    def drop_much(self, number: int, count: int) -> None:
        self.memory.advise(mmap.MADV_DONTNEED, number % 2 * HUGE, HUGE)

    def collapse(self, number: int, count: int) -> None:
        LIBC.madvise(self.memory.key[0], 2 * HUGE, MADV_COLLAPSE)

    def map_again(self, number: int, count: int) -> None:
        here = self.at(number, count)
        memory_again(here.ctypes.data, here.nbytes)

    def forked(self, number: int, count: int) -> None:
        pid = LIBC._Fork()
        if pid == 0:
            LIBC._exit(0)
        self.write(number, count)
        os.waitpid(pid, 0)

    def protected(self, number: int, count: int) -> None:
        here = self.at(number, count)
        assert LIBC.mprotect(here.ctypes.data, here.nbytes, 1) == 0
        assert LIBC.mprotect(here.ctypes.data, here.nbytes, 3) == 0

    def follow(self, number: int, count: int) -> None:
        self.pages.follow(list(self.arrays)[: None if number % 7 else 1])

    def look(self, number: int = 0, count: int = 0) -> None:
        for key, intervals in self.pages.look().items():
            assert intervals == joined(intervals)
            for start, end in intervals:
                here = slice(start - key[0], end - key[0])
                assert (self.arrays[key][here] == self.saved[key][here]).all()
                self.reported += end - start
        self.saved = {key: array.copy() for key, array in self.arrays.items()}


ACTS: list[Callable[[World, int, int], None]] = [
    World.write, World.write, World.write, World.write_zeros, World.read_into, World.read,
    World.drop, World.drop_much, World.page_out, World.collapse, World.map_again, World.forked,
    World.protected, World.segment_again,
    World.follow, World.follow, World.follow, World.look, World.look, World.look,
]  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(ACTS), st.integers(0, PAGES - 1), st.integers(1, 40)),
        min_size=5,
        max_size=40,
    )
)
def test_whatever_happens_nothing_that_differs_is_reported(
    tmp_path_factory: pytest.TempPathFactory, acts: list[tuple[Any, int, int]]
) -> None:
    world = World(tmp_path_factory.mktemp("world", numbered=True))
    try:
        for act, number, count in acts:
            act(world, number, count)
        world.look()
    finally:
        world.close()


def test_in_a_long_life_nothing_that_differs_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dirty_pages, "FIRST_REST", 1)
    monkeypatch.setattr(dirty_pages, "LONGEST_REST", 2)
    world = World(tmp_path)
    chosen = random.Random(7)
    for _ in range(400):
        act = chosen.choice(ACTS)
        act(world, chosen.randrange(PAGES), chosen.randrange(1, 5))
    world.look()
    assert world.reported > 30 << 20  # it is not all silence
    world.close()
