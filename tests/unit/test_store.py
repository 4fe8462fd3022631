from __future__ import annotations

import errno
import mmap
import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_cases import KEY, load, make_manifest, newest, save, segments, temporaries

from checkpoint_kernel import durable, segment
from checkpoint_kernel.contract import SEGMENTS
from checkpoint_kernel.manifest import Unit
from checkpoint_kernel.prune import prune
from checkpoint_kernel.store import (
    BufferRef,
    DamagedChunk,
    IncompleteCheckpoint,
    MissingChunk,
    NoSuchCheckpoint,
    Store,
    StoreBusy,
    StoreRefused,
)

MIB = 1 << 20


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "notebook", KEY)


@st.composite
def payloads(draw: st.DrawFn) -> tuple[bytes, list[bytes], list[BufferRef]]:
    """Streams and storages around the sizes where something changes, buffers that overlap."""
    edges = [0, 1, 4095, 4096, 64 * 1024 - 1, 64 * 1024, 256 * 1024, 256 * 1024 + 1]
    lengths = draw(st.lists(st.sampled_from(edges) | st.integers(0, 5000), max_size=4))
    noise = random.Random(draw(st.integers(0, 3)))  # few seeds: storages repeat each other
    storages = [noise.randbytes(length) for length in lengths]
    buffers = []
    for _ in range(draw(st.integers(0, 5)) if storages else 0):
        number = draw(st.integers(0, len(storages) - 1))
        offset = draw(st.integers(0, lengths[number]))
        length = draw(st.integers(0, lengths[number] - offset))
        buffers.append(BufferRef(number, offset, length, draw(st.booleans())))
    return draw(st.binary(max_size=3000)), storages, buffers


@settings(max_examples=25, deadline=None)
@given(cases=st.lists(payloads(), min_size=1, max_size=4), data=st.data())
def test_payloads_come_back_as_they_were_put(
    tmp_path_factory: pytest.TempPathFactory,
    cases: list[tuple[bytes, list[bytes], list[BufferRef]]],
    data: st.DataObject,
) -> None:
    directory = tmp_path_factory.mktemp("notebook")
    store = Store.open(directory, KEY)
    digests = []
    for seq, (stream, storages, buffers) in enumerate(cases):
        with store.begin() as snapshot:
            views = [memoryview(storage) for storage in storages]
            written = snapshot.put(stream, views, buffers)
            assert snapshot.put(stream, views, buffers).new_bytes == 0
            assert written.size_bytes == len(stream) + sum(map(len, storages))
            unit = Unit("var:x", "data", ("x",), "pickle", written.digest, written.size_bytes)
            snapshot.commit(make_manifest(seq, (unit,)))
        digests.append(written.digest)
    reopened = Store.open(directory, KEY) if data.draw(st.booleans()) else store
    assert len(reopened.manifests()) == len(cases)
    for digest, (stream, storages, buffers) in zip(digests, cases, strict=True):
        payload = reopened.read_payload(digest)
        assert payload.stream == stream
        assert [view.readonly for view in payload.buffers] == [b.readonly for b in buffers]
        for view, ref in zip(payload.buffers, buffers, strict=True):
            assert view == storages[ref.storage][ref.offset : ref.offset + ref.length]


def test_buffers_of_one_storage_share_memory_after_a_restore(store: Store) -> None:
    refs = [BufferRef(0, 0, 100, False), BufferRef(0, 50, 50, False), BufferRef(0, 50, 1, True)]
    with store.begin() as snapshot:
        digest = snapshot.put(b"", [memoryview(bytes(100))], refs).digest
        unit = Unit("var:x", "data", ("x",), "pickle", digest, 100)
        snapshot.commit(make_manifest(1, (unit,)))
    base, view, fixed = store.read_payload(digest).buffers
    view[0] = 7
    assert base[50] == fixed[0] == 7


def test_large_restored_storage_is_private_so_a_fork_does_not_see_later_writes(
    store: Store,
) -> None:
    save(store, 1, {"x": bytes(4 * MIB)})
    (unit,) = store.manifests()[0].units
    (view,) = store.read_payload(unit.payload).buffers
    assert isinstance(view.obj, mmap.mmap)
    written, seen = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.read(written[0], 1)
        os.write(seen[1], view[:1])
        os._exit(0)
    view[0] = 9
    os.write(written[1], b".")
    os.waitpid(child, 0)
    assert os.read(seen[0], 1) == b"\0"
    for fd in written + seen:
        os.close(fd)


def test_changed_slice_of_a_large_storage_writes_only_that_slice(store: Store) -> None:
    value = bytearray(random.Random(1).randbytes(9 * MIB + 5))
    save(store, 1, {"x": bytes(value)})
    value[3 * MIB + 7] ^= 1
    with store.begin() as snapshot:
        whole = [BufferRef(0, 0, len(value), False)]
        assert MIB < snapshot.put(b"x", [memoryview(value)], whole).new_bytes < MIB + 1000


def test_checkpoint_without_new_chunks_makes_no_segment(store: Store) -> None:
    save(store, 1, {"x": b"same"})
    save(store, 2, {"x": b"same"})
    assert len(segments(store.directory)) == 1
    assert newest(store.directory) == {"x": b"same"}


def test_slices_of_a_large_storage_lie_page_aligned_in_one_run(store: Store) -> None:
    noise = random.Random(2)
    save(store, 1, {"small": noise.randbytes(777), "big": noise.randbytes(9 * MIB)})
    (only,) = store.segments.values()
    slices = [entry for entry in only.entries() if entry.length == MIB]
    assert len(slices) == 9
    assert slices[0].offset % segment.PAGE == 0
    assert [e.offset for e in slices] == [slices[0].offset + n * MIB for n in range(9)]


def test_segments_are_read_only_and_directories_are_the_owners_alone(store: Store) -> None:
    save(store, 1, {"x": b"1"})
    (path,) = segments(store.directory)
    assert path.stat().st_mode & 0o777 == 0o444
    for directory in (store.directory, store.directory / SEGMENTS):
        assert directory.stat().st_mode & 0o777 == 0o700


def test_snapshot_begun_before_a_fork_writes_in_the_child(store: Store) -> None:
    save(store, 1, {"x": b"old"})
    snapshot = store.begin()
    child = os.fork()
    if child == 0:
        try:
            os.closerange(3, 100)  # as the snapshot process does with what it inherits
            digest = snapshot.put(b"x", [memoryview(b"new")], [BufferRef(0, 0, 3, False)]).digest
            unit = Unit("var:x", "data", ("x",), "pickle", digest, 4)
            snapshot.commit(make_manifest(2, (unit,)))
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert load(store, store.manifests()[-1]) == {"x": b"new"}


def test_memory_that_changes_while_it_is_saved_gives_a_chunk_that_verifies(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = bytearray(MIB)
    real_write = durable.write_all

    def write_and_change(fd: int, data: bytes | bytearray | memoryview) -> None:
        for at in range(0, len(shared), 4096):
            shared[at] ^= 255
        real_write(fd, data)

    monkeypatch.setattr(durable, "write_all", write_and_change)
    with store.begin() as snapshot:
        digest = snapshot.put(b"", [memoryview(shared)], [BufferRef(0, 0, MIB, False)]).digest
        unit = Unit("var:x", "data", ("x",), "pickle", digest, MIB)
        snapshot.commit(make_manifest(1, (unit,)))
    assert len(store.read_payload(digest).buffers[0]) == MIB


def test_second_writer_is_told_that_the_store_is_busy(store: Store) -> None:
    other = Store.open(store.directory, KEY)
    with store.begin() as first:
        first.put(b"", [], [])
        with pytest.raises(StoreBusy, match="writer"), other.begin(wait_s=0.01) as second:
            second.put(b"", [], [])
    with other.begin(wait_s=0) as second:
        second.put(b"", [], [])


def test_abort_leaves_nothing_behind(store: Store) -> None:
    snapshot = store.begin()
    snapshot.put(b"stream", [memoryview(bytes(MIB))], [])
    assert len(temporaries(store.directory)) == 1
    snapshot.abort()
    snapshot.abort()
    assert temporaries(store.directory) == segments(store.directory) == []


def test_next_writer_removes_what_a_killed_one_left(store: Store) -> None:
    leftover = store.directory / SEGMENTS / ".tmp-1-dead"
    leftover.write_bytes(bytes(100))
    save(store, 1, {"x": b"1"})
    assert not leftover.exists()


def test_manifest_of_a_payload_that_is_not_there_is_not_published(store: Store) -> None:
    unit = Unit("var:x", "data", ("x",), "pickle", "ab" * 32, 1)
    with store.begin() as snapshot, pytest.raises(IncompleteCheckpoint, match="var:x"):
        snapshot.commit(make_manifest(1, (unit,)))
    assert store.manifests() == []


def test_manifest_of_a_payload_that_lost_a_chunk_is_not_published(store: Store) -> None:
    carried = save(store, 1, {"x": b"1" * 100})
    save(store, 2, {"y": b"x"})
    other = Store.open(store.directory, KEY)
    with store.reader() as reader:
        needed = next(iter(reader.recipe(bytes.fromhex(carried.units[0].payload)).chunks()))
    del other._index[needed]
    with other.begin() as snapshot, pytest.raises(IncompleteCheckpoint, match="put again"):
        snapshot.commit(make_manifest(3, carried.units))


def test_damaged_chunk_is_refused_by_name_place_and_remedy(store: Store) -> None:
    manifest = save(store, 1, {"x": b"precious" * 10})
    (path,) = segments(store.directory)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b"precious", b"Precious", 1))
    with pytest.raises(DamagedChunk, match=rf"{path}.*jupyter checkpoint check"):
        store.read_payload(manifest.units[0].payload)


def test_missing_chunk_is_refused_by_name_and_remedy(store: Store) -> None:
    with pytest.raises(MissingChunk, match=r"abababababab.*jupyter checkpoint check"):
        store.read_payload("ab" * 32)


def test_damaged_segment_is_a_finding_and_the_rest_opens(store: Store) -> None:
    save(store, 1, {"x": b"1"})
    first = segments(store.directory)[0]
    save(store, 2, {"y": b"2"})
    first.chmod(0o600)
    os.truncate(first, 100)
    again = Store.open(store.directory, KEY)
    assert [(finding.kind, finding.path) for finding in again.findings] == [
        ("segment-truncated", first)
    ]
    assert load(again, again.manifests()[1]) == {"y": b"2"}


def another_boot(store: Store) -> Store:
    reopened = Store.open(store.directory, KEY)
    reopened.boot_id = bytes(reversed(store.boot_id))
    return reopened


def test_whole_chunk_of_an_earlier_boot_is_verified_once_and_reused(store: Store) -> None:
    save(store, 1, {"x": b"1" * 5000})
    later = another_boot(store)
    save(later, 2, {"x": b"1" * 5000})
    assert len(segments(store.directory)) == 1
    assert len(later._verified) == 3  # stream, storage, recipe


def test_torn_chunk_of_an_earlier_boot_is_written_again(store: Store) -> None:
    save(store, 1, {"x": b"1" * 5000})
    (path,) = segments(store.directory)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b"1" * 4000, bytes(4000), 1))
    later = another_boot(store)
    manifest = save(later, 2, {"x": b"1" * 5000})
    assert load(later, manifest) == {"x": b"1" * 5000}
    assert load(Store.open(store.directory, KEY), manifest) == {"x": b"1" * 5000}


def test_newer_of_two_copies_is_read_whichever_is_found_first(store: Store) -> None:
    save(store, 1, {"x": b"1" * 5000})
    (older,) = store.segments.values()
    later = another_boot(store)
    older.path.chmod(0o600)
    older.path.write_bytes(older.path.read_bytes().replace(b"1" * 4000, bytes(4000), 1))
    manifest = save(later, 2, {"x": b"1" * 5000})
    store.refresh()
    store.adopt(older)
    assert load(store, manifest) == {"x": b"1" * 5000}


def test_chunk_that_was_pruned_by_another_process_is_written_again(store: Store) -> None:
    save(store, 1, {"x": b"1" * 5000})
    save(store, 2, {})
    prune(Store.open(store.directory, KEY), {"checkpoint-0001"})
    assert segments(store.directory) == []
    save(store, 3, {"x": b"1" * 5000})
    assert newest(store.directory) == {"x": b"1" * 5000}


def test_refresh_finds_what_another_process_wrote(store: Store) -> None:
    other = Store.open(store.directory, KEY)
    digest = save(other, 1, {"x": b"1"}).units[0].payload
    assert not store.has(digest)
    store.refresh()
    assert store.has(digest)


def test_checkpoint_is_found_by_a_unique_prefix(store: Store) -> None:
    first = save(store, 1, {"x": b"1"})
    save(store, 2, {"x": b"2"})
    assert store.manifest("checkpoint-0001") == first
    with pytest.raises(NoSuchCheckpoint, match=r"2 checkpoints .*checkpoint-0002"):
        store.manifest("checkpoint")
    with pytest.raises(NoSuchCheckpoint, match="the newest: checkpoint-0002, checkpoint-0001"):
        store.manifest("nothing")


def test_near_the_cap_dirty_pages_are_flushed_as_the_segment_grows(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment, "FLUSH_BYTES", MIB)
    syncs: list[int] = []
    monkeypatch.setattr(durable, "fsync", syncs.append)
    with store.begin(near_cap=True) as snapshot:
        snapshot.put(b"", [memoryview(random.Random(3).randbytes(9 * MIB))], [])
        assert len(syncs) == 9


def test_store_open_to_others_is_tightened_and_says_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    assert "755" in (Store.open(tmp_path, KEY).tightened or "")
    assert tmp_path.stat().st_mode & 0o777 == 0o700
    assert Store.open(tmp_path, KEY).tightened is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to another user")
def test_store_of_another_user_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, -1)
    with pytest.raises(StoreRefused, match="12345"):
        Store.open(tmp_path, KEY)


def test_buffer_outside_its_storage_is_refused(store: Store) -> None:
    with store.begin() as snapshot, pytest.raises(ValueError, match="buffer 0"):
        snapshot.put(b"", [memoryview(b"123")], [BufferRef(0, 1, 3, False)])


def test_store_on_a_read_only_disk_can_be_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands that list and show must work where nothing can be written."""
    manifest = save(store, 1, {"x": b"1"})
    real_open = os.open

    def refuse_writing(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real_open(path, flags, mode)

    monkeypatch.setattr(os, "open", refuse_writing)
    assert load(Store.open(store.directory, KEY), manifest) == {"x": b"1"}
    with pytest.raises(OSError, match="Read-only"):
        save(store, 2, {"x": b"2"})


def test_directories_above_the_store_are_made_for_the_owner_alone(tmp_path: Path) -> None:
    Store.open(tmp_path / "checkpoints" / "notebook", KEY)
    assert (tmp_path / "checkpoints").stat().st_mode & 0o777 == 0o700
