"""A disk that is really full: a tmpfs of 8 MB."""

from __future__ import annotations

import errno
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_cases import KEY, load, newest, save, temporaries

from checkpoint_kernel.check import check
from checkpoint_kernel.prune import prune, shrink
from checkpoint_kernel.store import Store

MIB = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def free_bytes(place: Path) -> int:
    disk = os.statvfs(place)
    return disk.f_bavail * disk.f_frsize


def test_full_disk_keeps_the_old_checkpoint_and_gets_its_space_back(small_disk: Path) -> None:
    store = Store.open(small_disk / "notebook", KEY)
    old = {"x": random.Random(1).randbytes(3 * MIB)}
    save(store, 1, old)
    before = free_bytes(small_disk)
    with pytest.raises(OSError, match="No space left") as raised:
        save(store, 2, {"x": random.Random(2).randbytes(6 * MIB)})
    assert raised.value.errno == errno.ENOSPC
    assert temporaries(small_disk) == []
    assert free_bytes(small_disk) == before
    assert newest(store.directory) == old
    assert check(store) == []


def test_disk_with_any_number_of_free_pages_has_the_old_or_the_new_checkpoint(
    small_disk: Path,
) -> None:
    """Whatever is the first to find no room: a chunk, the index, the manifest."""
    directory = small_disk / "notebook"
    old, new = {"x": b"old"}, {"x": random.Random(1).randbytes(100_000)}
    save(Store.open(directory, KEY), 1, old)
    outcomes = []
    for free_pages in range(40):
        with (small_disk / "ballast").open("wb") as ballast:
            ballast.write(bytes(free_bytes(small_disk) - free_pages * 4096))
        store = Store.open(directory, KEY)
        try:
            save(store, 2, new)
        except OSError as why:
            failure: int | None = why.errno
        else:
            failure = None
        assert failure in (None, errno.ENOSPC)
        outcomes.append(failure is None)
        assert newest(directory) == (old if failure else new)
        assert temporaries(small_disk) == []
        assert check(store) == []
        prune(store, {"checkpoint-0002"})
        (small_disk / "ballast").unlink()
    assert outcomes == sorted(outcomes)
    assert outcomes.count(False) > 25
    assert outcomes[-1]


def test_full_disk_takes_a_new_checkpoint_after_the_oldest_are_removed(small_disk: Path) -> None:
    store = Store.open(small_disk / "notebook", KEY)
    for seq in range(3):
        save(store, seq, {"x": random.Random(seq).randbytes(2 * MIB)})
    new = {"x": random.Random(9).randbytes(3 * MIB)}
    with pytest.raises(OSError, match="No space left"):
        save(store, 9, new)
    report = shrink(store, 3 * MIB, "line-a", now=0.0)
    assert report.removed_manifests == ("checkpoint-0000", "checkpoint-0001")
    assert load(store, save(store, 9, new)) == new
