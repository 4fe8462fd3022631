"""What a memory cgroup uses: by files of either version, and by a real group with one below it."""

from __future__ import annotations

import contextlib
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from checkpoint_kernel import cgroup_memory, memory
from checkpoint_kernel.cgroup_memory import GroupMemory, Reading
from checkpoint_kernel.memory_gauge import Gauge
from checkpoint_kernel.session import Cap
from checkpoint_provisioner.caps import group, hierarchy, meter

pytestmark = pytest.mark.unit

MB = 1 << 20
FIELDS = "shmem 3\ninactive_file 10\nactive_file 20\n"


def test_v2_counts_without_page_cache(tmp_path: Path) -> None:
    (tmp_path / "memory.current").write_text("1000\n")
    (tmp_path / "memory.stat").write_text(f"anon 5\n{FIELDS}inactive_file_x 7\n")
    assert cgroup_memory.read(tmp_path) == Reading(1000, 970, 3)


def test_v1_counts_the_groups_below_too(tmp_path: Path) -> None:
    (tmp_path / "memory.usage_in_bytes").write_text("1000\n")
    total = "total_shmem 30\ntotal_inactive_file 100\ntotal_active_file 200\n"
    (tmp_path / "memory.stat").write_text(FIELDS + total)
    assert cgroup_memory.read(tmp_path) == Reading(1000, 700, 30)


def test_more_cache_than_usage_for_a_moment_is_no_use_at_all(tmp_path: Path) -> None:
    (tmp_path / "memory.current").write_text("25\n")
    (tmp_path / "memory.stat").write_text(FIELDS)
    assert cgroup_memory.read(tmp_path) == Reading(25, 0, 3)


def test_what_cannot_be_read_says_nothing_and_keeps_no_file_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert cgroup_memory.read(tmp_path) is None
    (tmp_path / "memory.current").write_text("gone")
    assert cgroup_memory.read(tmp_path) is None
    (tmp_path / "memory.stat").write_text("")
    assert cgroup_memory.read(tmp_path) is None
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    closed = GroupMemory(tmp_path)
    closed.close()
    assert closed.read() is None


PAGES = """\
import os, sys
with open(sys.argv[1], "wb") as file:
    file.write(bytes(40 << 20))
    os.fsync(file.fileno())
print(flush=True)
input()"""


@pytest.fixture
def cached_below(tmp_path: Path) -> Iterator[Path]:
    """A real group of ours that uses nothing but page cache, all of it in a group below."""
    place = hierarchy.memory_v1()
    if place is None or not os.access(place.directory, os.W_OK):
        pytest.skip("no v1 memory controller that is ours to divide: v2 has no such fields")
    outer = place.directory / group.name_for("cgroup_memory")
    inner = outer / "below"
    inner.mkdir(parents=True)
    writer = subprocess.Popen(
        [sys.executable, "-c", PAGES, str(tmp_path / "cached")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        preexec_fn=lambda: group.enter(inner),
    )  # fmt: skip
    try:
        assert writer.stdout is not None
        writer.stdout.readline()
        yield outer
    finally:
        with contextlib.suppress(BrokenPipeError):
            writer.communicate(b"\n")
        assert group.remove(outer) is None


def test_all_who_ask_agree_on_a_real_group_with_page_cache_below_it(cached_below: Path) -> None:
    counted = cgroup_memory.read(cached_below)
    assert counted is not None
    if counted.usage_bytes < 40 * MB:
        pytest.skip("files here leave no page cache that is charged to their writer")
    assert counted.used_bytes < 30 * MB
    cap = Cap("100M", 100 * MB, 85 * MB, "cgroup v1", True, "", str(cached_below))
    # The local fields say 0 of page cache, which is all below.
    near = 4 * MB + mmap.PAGESIZE
    assert abs(Gauge(cap).used_bytes() - counted.used_bytes) < near
    assert abs((meter.of_group(cached_below)() or 0) - counted.used_bytes) < near
    counted_in = Cap(
        "100M", 100 * MB, 85 * MB, "cgroup v1", True, "", counted_in=str(cached_below)
    )  # fmt: skip
    room = memory.headroom_bytes(counted_in)
    assert room is not None
    assert abs(100 * MB - room - counted.used_bytes) < near
