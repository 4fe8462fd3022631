"""What is mapped, and the memory behind it: laid, left uncovered, let go of."""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from checkpoint_kernel import mapped_memory
from checkpoint_kernel.mapped_memory import (
    ALWAYS_FROM_BYTES,
    COPY_BYTES,
    NEVER_BELOW_BYTES,
    CannotMap,
    map_from,
)

MIB = 1 << 20
PAGE = mmap.PAGESIZE
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux maps")


class TestMapFrom:
    def test_without_storages_only_large_ones_would_be_mapped(self) -> None:
        assert map_from([]) == ALWAYS_FROM_BYTES

    def test_little_is_copied_altogether(self) -> None:
        assert map_from([10 * MIB] * 20) == ALWAYS_FROM_BYTES

    def test_large_storages_do_not_count_for_what_is_copied(self) -> None:
        assert map_from([10 * MIB] * 20 + [1 << 34]) == ALWAYS_FROM_BYTES

    def test_more_than_is_copied_is_mapped_all_of_one_size_alike(self) -> None:
        assert map_from([10 * MIB] * 100) == 10 * MIB

    def test_the_smallest_are_copied(self) -> None:
        assert map_from([30 * MIB] * 6 + [10 * MIB] * 10 + [20 * MIB] * 10) == 20 * MIB

    def test_very_small_ones_are_never_mapped(self) -> None:
        assert map_from([100_000] * 10_000) == NEVER_BELOW_BYTES

    def test_without_room_everything_from_the_least_size_on_is_mapped(self) -> None:
        assert map_from([2 * MIB], copy_bytes=0) == 2 * MIB
        assert map_from([1000], copy_bytes=0) == NEVER_BELOW_BYTES

    def test_what_is_copied_stays_below_its_limit(self) -> None:
        noise = random.Random(1)
        for _ in range(50):
            sizes = [noise.randrange(MIB, 100 * MIB) for _ in range(noise.randrange(1, 60))]
            assert sum(size for size in sizes if size < map_from(sizes)) <= COPY_BYTES


@pytest.fixture
def file(tmp_path: Path) -> Iterator[tuple[int, bytes]]:
    """Eight pages of noise."""
    content = random.Random(2).randbytes(8 * PAGE)
    path = tmp_path / "file"
    path.write_bytes(content)
    fd = os.open(path, os.O_RDONLY)
    yield fd, content
    os.close(fd)


def maps_of(path: Path) -> int:
    return Path("/proc/self/maps").read_text().count(f"{path}\n")


@linux
class TestMaps:
    def test_each_piece_shows_its_part_of_the_file_and_the_rest_is_zeros(
        self, file: tuple[int, bytes]
    ) -> None:
        fd, content = file
        memory = mapped_memory.reserve(4 * PAGE + 7)
        mapped_memory.lay(memory, PAGE, fd, 5 * PAGE, PAGE)
        mapped_memory.lay(memory, 3 * PAGE, fd, 0, PAGE + 7)
        assert memory[:PAGE] == memory[2 * PAGE : 3 * PAGE] == bytes(PAGE)
        assert memory[PAGE : 2 * PAGE] == content[5 * PAGE : 6 * PAGE]
        assert memory[3 * PAGE :] == content[: PAGE + 7]

    def test_what_is_written_stays_in_this_process(self, file: tuple[int, bytes]) -> None:
        fd, content = file
        memory = mapped_memory.reserve(8 * PAGE)
        mapped_memory.lay(memory, 0, fd, 0, 8 * PAGE)
        view = memoryview(memory)
        view[:] = bytes(8 * PAGE)
        assert os.pread(fd, 8 * PAGE, 0) == content

    def test_memory_is_let_go_of_with_its_last_view_and_not_before(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"x" * 4 * PAGE)
        with path.open("rb") as file:
            memory = mapped_memory.reserve(4 * PAGE)
            mapped_memory.lay(memory, 0, file.fileno(), 0, 2 * PAGE)
            mapped_memory.lay(memory, 2 * PAGE, file.fileno(), 0, 2 * PAGE)
        whole = memoryview(memory)
        part = whole[PAGE : PAGE + 3]
        del memory, whole
        assert part == b"xxx"
        assert maps_of(path) == 2
        del part
        assert maps_of(path) == 0

    @pytest.mark.parametrize("start", [0, 1, 2, 5])
    def test_blocks_stay_maps_of_their_own(
        self, tmp_path: Path, start: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(mapped_memory, "BLOCK_BYTES", 2 * PAGE)
        path = tmp_path / "file"
        path.write_bytes(b"x" * 8 * PAGE)
        with path.open("rb") as file:
            memory = mapped_memory.reserve((start + 7) * PAGE)
            mapped_memory.lay(memory, start * PAGE, file.fileno(), 0, 6 * PAGE + 9)
        assert maps_of(path) == 4
        maps = mapped_memory.Maps(0, room=7)
        assert maps.take(6 * PAGE + 9)
        assert maps.room == 3
        assert not maps.take(6 * PAGE + 9)
        assert memory[start * PAGE :][: 6 * PAGE + 9] == b"x" * (6 * PAGE + 9)

    def test_a_map_that_the_system_refuses_leaves_no_hole_for_others(
        self, file: tuple[int, bytes]
    ) -> None:
        fd, _ = file
        memory = mapped_memory.reserve(4 * PAGE)
        with pytest.raises(CannotMap, match="Invalid argument"):
            mapped_memory.lay(memory, 0, fd, 1, PAGE)  # not a multiple of the page size
        assert mapped_memory._never_unmapped.pop() is memory

    def test_addresses_that_cannot_be_had_are_refused(self) -> None:
        with pytest.raises(CannotMap, match="no room"):
            mapped_memory.reserve(1 << 60)

    def test_there_is_room_for_thousands_of_maps_but_not_for_all_there_can_be(self) -> None:
        allowed = int(Path("/proc/sys/vm/max_map_count").read_text())
        assert allowed // 8 < mapped_memory.room_for_maps() <= allowed // 4


class TestLocalFilesystems:
    @linux
    def test_a_file_of_the_kernel_itself_is_not_mapped(self) -> None:
        with open("/proc/self/status", "rb") as file:
            assert not mapped_memory.is_local(file.fileno())

    @linux
    @pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="no tmpfs at /dev/shm")  # noqa: PTH112
    def test_tmpfs_is_local(self) -> None:
        fd = os.open("/dev/shm", os.O_RDONLY | os.O_DIRECTORY)
        assert mapped_memory.is_local(fd)
        os.close(fd)

    @pytest.mark.parametrize(
        ("magic", "local"),
        [(0xEF53, True), (0x58465342, True), (0x9123683E, True), (0x794C7630, True),
         (0x6969, False), (0xFF534D42, False), (0xFE534D42, False), (0x65735546, False),
         (0x01021997, False), (0x00C36400, False), (0x0BD00BD0, False), (0x47504653, False),
         (0x12345678, False)],
        ids=["ext4", "xfs", "btrfs", "overlayfs", "nfs", "cifs", "smb2", "fuse", "9p", "ceph",
             "lustre", "gpfs", "unknown"],
    )  # fmt: skip
    @linux
    def test_only_filesystems_of_this_machine_are_mapped(
        self, magic: int, local: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Library:
            @staticmethod
            def fstatfs(_fd: int, status: Any) -> int:
                ctypes.memmove(status, ctypes.byref(ctypes.c_long(magic)), 8)
                return 0

        monkeypatch.setattr(mapped_memory, "_libc", Library)
        assert mapped_memory.is_local(0) is local
