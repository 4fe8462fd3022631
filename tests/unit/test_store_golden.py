"""Stores that earlier versions wrote."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from golden.make_golden import checkpoints, make
from store_cases import KEY

from checkpoint_kernel.check import check
from checkpoint_kernel.manifest import FORMAT
from checkpoint_kernel.segment import FORMAT as SEGMENT_FORMAT
from checkpoint_kernel.store import Store

GOLDEN = Path(__file__).parents[1] / "golden"


def copy_of(version: int, tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / f"format-{version}", tmp_path / "golden"))


def test_every_format_version_has_its_golden_store() -> None:
    assert {path.name for path in GOLDEN.glob("format-*")} == {
        f"format-{version}" for version in range(1, max(FORMAT, SEGMENT_FORMAT) + 1)
    }


@pytest.mark.parametrize("version", range(1, FORMAT + 1))
def test_golden_store_is_read_byte_for_byte(version: int, tmp_path: Path) -> None:
    store = Store.open(copy_of(version, tmp_path), KEY)
    assert check(store) == []
    manifests = store.manifests()
    expected = checkpoints()
    assert [m.seq for m in manifests] == [1, 2]
    for one, variables in zip(manifests, expected, strict=True):
        assert one.names == sorted(variables)
        for unit in one.units:
            stream, storages, buffers = variables[unit.names[0]]
            payload = store.read_payload(unit.payload)
            assert payload.stream == stream
            assert len(payload.buffers) == len(buffers)
            for view, ref in zip(payload.buffers, buffers, strict=True):
                assert view == storages[ref.storage][ref.offset : ref.offset + ref.length]
                assert view.readonly == ref.readonly


def test_golden_store_takes_new_checkpoints_without_writing_known_chunks(tmp_path: Path) -> None:
    store = Store.open(copy_of(FORMAT, tmp_path), KEY)
    with store.begin() as snapshot:
        for stream, storages, buffers in checkpoints()[1].values():
            views = [memoryview(storage) for storage in storages]
            assert snapshot.put(stream, views, buffers).new_bytes == 0


def test_segments_written_today_are_those_of_the_format(tmp_path: Path) -> None:
    """A change of what is written needs a new format version, and its golden store."""
    make(tmp_path)
    written = {path.name: path.read_bytes() for path in (tmp_path / "segments").iterdir()}
    golden = GOLDEN / f"format-{SEGMENT_FORMAT}" / "segments"
    assert written == {path.name: path.read_bytes() for path in golden.iterdir()}
