"""Whether a snapshot fits under the cap, by the files of a cgroup."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from checkpoint_kernel import memory
from checkpoint_kernel.session import Cap

pytestmark = pytest.mark.unit

MB = 1 << 20


def cap(directory: Path, used_mb: int, cache_mb: int = 0, usage: str = "memory.current") -> Cap:
    """A cap of 500 MB of which so much is in use."""
    (directory / usage).write_text(f"{used_mb * MB}\n")
    (directory / "memory.stat").write_text(
        f"anon {(used_mb - cache_mb) * MB}\ninactive_file {cache_mb * MB}\nactive_file 0\n"
    )
    return Cap("500M", 500 * MB, 425 * MB, "cgroup v2", True, "", str(directory), str(directory))


@pytest.mark.parametrize("usage", ["memory.current", "memory.usage_in_bytes"])
def test_what_is_left_is_told_with_either_version_of_cgroups(tmp_path: Path, usage: str) -> None:
    assert memory.headroom_bytes(cap(tmp_path, 300, usage=usage)) == 200 * MB


def test_page_cache_that_can_be_reclaimed_is_left_too(tmp_path: Path) -> None:
    assert memory.headroom_bytes(cap(tmp_path, 490, cache_mb=290)) == 300 * MB


def test_a_snapshot_that_may_not_fit_is_refused_with_the_figures(tmp_path: Path) -> None:
    short = memory.shortage(cap(tmp_path, 400), last_private_bytes=100 * MB)
    assert short == memory.Shortage(
        "100 MB are left below the memory limit of 500M, and the process "
        "that writes them may need 152 MB",
        in_place=True,
    )


def test_where_next_to_nothing_is_left_there_is_no_room_in_place_either(tmp_path: Path) -> None:
    short = memory.shortage(cap(tmp_path, 480), last_private_bytes=0)
    assert short is not None
    assert not short.in_place


def test_above_the_soft_limit_no_snapshot_process_is_started(tmp_path: Path) -> None:
    assert memory.shortage(cap(tmp_path, 430), last_private_bytes=0) is not None
    assert memory.shortage(cap(tmp_path, 420), last_private_bytes=0) is None


def test_one_that_fits_is_not(tmp_path: Path) -> None:
    assert memory.shortage(cap(tmp_path, 300), last_private_bytes=100 * MB) is None


def test_without_a_cap_nothing_is_refused() -> None:
    assert memory.shortage(None, last_private_bytes=1 << 50) is None


def test_what_is_done_near_the_cap_gets_memory_errors_and_leaves_the_limit_as_it_was(
    tmp_path: Path,
) -> None:
    noted: list[int] = []
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with memory.bounded(cap(tmp_path, 440), noted.append):
        assert resource.getrlimit(resource.RLIMIT_DATA) == (noted[0], before[1])
        with pytest.raises(MemoryError):
            b"x" * (400 * MB)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    with memory.bounded(None, noted.append):
        assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert len(noted) == 1


def test_what_a_snapshot_may_allocate_is_half_of_what_is_left(tmp_path: Path) -> None:
    assert memory.room_bytes(cap(tmp_path, 300)) <= 100 * MB
    assert memory.room_bytes(None) > memory.room_bytes(cap(tmp_path, 400))
