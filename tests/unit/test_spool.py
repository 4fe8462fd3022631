"""Streams that wait on the disk near the memory limit."""

from __future__ import annotations

from pathlib import Path

from checkpoint_kernel.spool import SPOOLED_FROM_BYTES, Spool


def test_a_large_stream_is_the_same_from_the_disk_and_leaves_no_file(tmp_path: Path) -> None:
    stream = bytes(range(256)) * (SPOOLED_FROM_BYTES // 128)
    spooled = Spool(tmp_path)(stream)
    assert not isinstance(spooled, bytes)
    assert bytes(spooled) == stream
    assert spooled.readonly
    assert list(tmp_path.iterdir()) == []


def test_a_small_one_stays_where_it_is(tmp_path: Path) -> None:
    stream = b"small"
    assert Spool(tmp_path)(stream) is stream
