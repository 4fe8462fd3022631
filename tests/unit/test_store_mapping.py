"""Storages that are mapped: the same bytes as those that are read, and no SIGBUS ever."""

from __future__ import annotations

import errno
import mmap
import os
import random
import resource
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_cases import KEY, make_manifest, save, segments

from checkpoint_kernel import chunk_reader, mapped_memory
from checkpoint_kernel.chunk_reader import useful_threads
from checkpoint_kernel.manifest import Manifest, Unit
from checkpoint_kernel.mapped_memory import Maps, PrivateMemory
from checkpoint_kernel.prune import prune
from checkpoint_kernel.store import BufferRef, DamagedChunk, MissingChunk, Payload, Store

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or mmap.PAGESIZE != 4096, reason="only pages of 4 KB are mapped"
)

MIB = 1 << 20
KIB = 1 << 10


@pytest.fixture(autouse=True)
def any_filesystem(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the tests' directory is."""
    monkeypatch.setattr(mapped_memory, "is_local", lambda fd: True)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "notebook", KEY)


def payload_of(
    store: Store, manifest: Manifest, room: int = 1000, threads: int = 1, number: int = 0
) -> Payload:
    """A unit of a checkpoint, with maps allowed from 64 KiB on."""
    with store.reader(threads, Maps(64 * KIB, room)) as reader:
        return store.read_payload(manifest.units[number].payload, reader)


def maps_of(store: Store) -> int:
    """How many maps of its segments there are."""
    return Path("/proc/self/maps").read_text().count(f"{store.directory}/segments/")


def noise(length: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(length)


def test_storage_in_one_segment_is_one_map(store: Store) -> None:
    value = noise(9 * MIB + 5)
    payload = payload_of(store, save(store, 1, {"x": value}))
    (view,) = payload.buffers
    assert view == value
    assert (maps_of(store), len(payload.unverified)) == (1, 10)
    assert not view.readonly


def test_storage_whose_slices_were_changed_one_by_one_is_mapped_run_by_run(store: Store) -> None:
    value = bytearray(noise(16 * MIB))
    manifest = save(store, 1, {"x": bytes(value)})
    for seq, changed in enumerate((3, 4, 9, 15), start=2):
        value[changed * MIB : changed * MIB + 3] = b"new"
        manifest = save(store, seq, {"x": bytes(value)})
    (view,) = payload_of(store, manifest).buffers
    assert view == value
    assert maps_of(store) == 7  # 0-2, 3, 4, 5-8, 9, 10-14, 15
    view[:3] = view[9 * MIB : 9 * MIB + 3] = b"own"
    assert bytes(payload_of(store, manifest).buffers[0]) == value


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_mapped_storages_hold_what_read_ones_hold(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Slices that repeat, that are zeros, that lie in several segments, packed or not."""
    store = Store.open(tmp_path_factory.mktemp("notebook"), KEY)
    lengths = [64 * KIB, 256 * KIB, 256 * KIB + 1, 777 * KIB, 2 * MIB + 4096, 8 * MIB, 9 * MIB + 5]
    value = bytearray(data.draw(st.sampled_from(lengths)))
    step = MIB if len(value) >= 8 * MIB else 256 * KIB
    manifest = None
    for seq in range(1, data.draw(st.integers(2, 4))):
        for _ in range(data.draw(st.integers(0, 8))):
            start = step * data.draw(st.integers(0, (len(value) - 1) // step))
            fill = data.draw(st.integers(0, 3))
            part = bytes(step) if fill == 0 else noise(step, fill)
            value[start : start + step] = part[: len(value) - start]
        manifest = save(store, seq, {"packed": noise(99, seq), "x": bytes(value)})
    assert manifest is not None
    room, threads = data.draw(st.sampled_from([0, 1, 2, 1000])), data.draw(st.integers(1, 3))
    (view,) = payload_of(store, manifest, room, threads, number=1).buffers
    assert view == value
    (view,) = store.read_payload(manifest.units[1].payload).buffers
    assert view == value


def put(store: Store, refs: list[BufferRef]) -> Manifest:
    """A checkpoint of one storage of noise, 1 MiB, and these buffers on it."""
    with store.begin() as snapshot:
        digest = snapshot.put(b"", [memoryview(noise(MIB))], refs).digest
        manifest = make_manifest(1, (Unit("var:x", "data", ("x",), "pickle", digest, MIB),))
        snapshot.commit(manifest)
    return manifest


def test_views_of_one_mapped_storage_share_memory(store: Store) -> None:
    manifest = put(store, [BufferRef(0, 0, MIB, False), BufferRef(0, 5000, 50, False)])
    base, view = payload_of(store, manifest).buffers
    assert maps_of(store) == 1
    view[0] = 7
    assert base[5000] == 7


def test_what_nobody_may_write_to_is_verified_before_anybody_sees_it(store: Store) -> None:
    """It may be a pickle stream of its own."""
    manifest = put(store, [BufferRef(0, 0, MIB, False), BufferRef(0, 5000, 50, True)])
    payload = payload_of(store, manifest)
    assert (payload.unverified, maps_of(store)) == ((), 0)
    assert [view.readonly for view in payload.buffers] == [False, True]
    flip(store, noise(MIB)[:100])
    with pytest.raises(DamagedChunk, match="digest differs"):
        payload_of(store, manifest)


def test_mapping_takes_no_memory_before_it_is_written_to(store: Store) -> None:
    def anonymous_kb() -> int:
        status = Path("/proc/self/status").read_text()
        return int(status.split("RssAnon:")[1].split()[0])

    manifest = save(store, 1, {"x": noise(32 * MIB)})
    before = anonymous_kb()
    (view,) = payload_of(store, manifest).buffers
    assert hash(bytes(view[-5:])) is not None
    assert anonymous_kb() - before < 8 * KIB
    view[: 16 * MIB] = bytes(16 * MIB)
    assert 16 * KIB <= anonymous_kb() - before < 24 * KIB


def test_zeros_are_neither_read_nor_mapped(store: Store) -> None:
    manifest = save(store, 1, {"x": bytes(32 * MIB)})
    payload = payload_of(store, manifest)
    assert payload.buffers[0][MIB : 2 * MIB] == bytes(MIB)
    assert (payload.unverified, maps_of(store)) == ((), 0)


def test_without_room_for_maps_the_rest_is_read(store: Store) -> None:
    value = bytearray(noise(9 * MIB))
    save(store, 1, {"x": bytes(value)})
    value[5 * MIB] ^= 1
    manifest = save(store, 2, {"x": bytes(value)})
    payload = payload_of(store, manifest, room=2)
    assert payload.buffers[0] == value
    assert (maps_of(store), len(payload.unverified)) == (2, 6)


def test_a_map_that_is_refused_is_read_instead(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise mapped_memory.CannotMap("Cannot allocate memory")

    monkeypatch.setattr(mapped_memory, "lay", refuse)
    payload = payload_of(store, save(store, 1, {"x": noise(9 * MIB)}))
    assert payload.buffers[0] == noise(9 * MIB)
    assert payload.unverified == ()


def test_on_a_network_filesystem_everything_is_read_and_verified(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapped_memory, "is_local", lambda fd: False)
    payload = payload_of(store, save(store, 1, {"x": noise(9 * MIB)}))
    assert payload.buffers[0] == noise(9 * MIB)
    assert (payload.unverified, maps_of(store)) == ((), 0)


def test_what_others_prune_stays_mapped(store: Store) -> None:
    value = noise(9 * MIB)
    (view,) = payload_of(store, save(store, 1, {"x": value})).buffers
    save(store, 2, {})
    prune(Store.open(store.directory, KEY), {"checkpoint-0001"})
    assert segments(store.directory) == []
    assert view == value


def test_memory_that_owns_a_storage_is_told_from_maps_of_the_users(store: Store) -> None:
    manifest = save(store, 1, {"x": noise(9 * MIB)})
    assert type(payload_of(store, manifest).buffers[0].obj) is PrivateMemory
    assert type(store.read_payload(manifest.units[0].payload).buffers[0].obj) is PrivateMemory


class TestThreads:
    def test_they_have_ended_when_the_reader_is_closed(self, store: Store) -> None:
        manifest = save(store, 1, {"x": noise(9 * MIB)})
        before = set(threading.enumerate())
        with store.reader(threads=3) as reader:
            payload = store.read_payload(manifest.units[0].payload, reader)
            assert set(threading.enumerate()) > before
        assert set(threading.enumerate()) == before
        assert payload.buffers[0] == noise(9 * MIB)

    def test_a_single_one_starts_none(self, store: Store) -> None:
        """The snapshot process must not."""
        manifest = save(store, 1, {"x": noise(9 * MIB)})
        before = set(threading.enumerate())
        with store.reader() as reader:
            store.read_payload(manifest.units[0].payload, reader)
            assert set(threading.enumerate()) == before

    @pytest.mark.parametrize("slice_number", [0, 8])
    def test_damage_that_any_of_them_reads_is_raised(self, store: Store, slice_number: int) -> None:
        value = noise(9 * MIB)
        manifest = save(store, 1, {"x": value})
        flip(store, value[slice_number * MIB :][:100])
        with store.reader(threads=3) as reader, pytest.raises(DamagedChunk, match="digest differs"):
            store.read_payload(manifest.units[0].payload, reader)

    def test_as_many_are_useful_as_there_are_processors_up_to_four(self) -> None:
        assert useful_threads() == min(4, len(os.sched_getaffinity(0)))


class TestDescriptors:
    def test_none_is_left_open(self, store: Store) -> None:
        manifest = save(store, 1, {"x": noise(9 * MIB)})
        before = os.listdir("/proc/self/fd")  # noqa: PTH208
        payload = payload_of(store, manifest)
        assert os.listdir("/proc/self/fd") == before  # noqa: PTH208
        assert payload.buffers[0] == noise(9 * MIB)

    @pytest.mark.parametrize("room", [0, 1000])
    def test_a_storage_in_more_segments_than_may_be_open_comes_back(
        self, store: Store, room: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(chunk_reader, "_OPEN_AT_ONCE", 4)
        value = bytearray(noise(12 * MIB))
        manifest = save(store, 1, {"x": bytes(value)})
        for seq in range(2, 12):
            value[seq * MIB] ^= 1
            manifest = save(store, seq, {"x": bytes(value)})
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 8, hard))  # noqa: PTH208
        try:
            (view,) = payload_of(store, manifest, room).buffers
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert view == value


def flip(store: Store, content: bytes) -> Path:
    """Change one bit of the file that holds these bytes."""
    (path,) = [path for path in segments(store.directory) if content in path.read_bytes()]
    path.chmod(0o600)
    with path.open("r+b") as file:
        position = path.read_bytes().index(content)
        file.seek(position)
        file.write(bytes([content[0] ^ 1]))
    return path


class TestDamage:
    """Each kind, where the storage would be mapped and where it is read."""

    VALUE = noise(9 * MIB, 7)

    @pytest.fixture(params=[0, 1000], ids=["read", "mapped"])
    def get(self, request: pytest.FixtureRequest) -> Callable[[Store, Manifest], Payload]:
        return lambda store, manifest: payload_of(store, manifest, room=request.param)

    def test_bit_flip_in_a_storage_that_is_read_is_refused(self, store: Store) -> None:
        manifest = save(store, 1, {"x": self.VALUE})
        path = flip(store, self.VALUE[3 * MIB :][:100])
        with pytest.raises(DamagedChunk, match=rf"{path}.*jupyter checkpoint check"):
            payload_of(store, manifest, room=0)

    def test_bit_flip_in_a_storage_that_is_mapped_is_left_to_the_verification(
        self, store: Store
    ) -> None:
        manifest = save(store, 1, {"x": self.VALUE})
        flip(store, self.VALUE[3 * MIB :][:100])
        payload = payload_of(store, manifest)
        assert len(payload.unverified) == 9

    def test_bit_flip_in_a_stream_is_always_refused(
        self, store: Store, get: Callable[[Store, Manifest], Payload]
    ) -> None:
        manifest = save(store, 1, {"longname": self.VALUE})
        flip(store, b"longname")
        with pytest.raises(DamagedChunk, match="digest differs"):
            get(store, manifest)

    def test_bit_flip_in_a_recipe_is_always_refused(
        self, store: Store, get: Callable[[Store, Manifest], Payload]
    ) -> None:
        manifest = save(store, 1, {"x": self.VALUE})
        flip(store, b"CKR1")
        with pytest.raises(DamagedChunk, match="digest differs"):
            get(store, manifest)

    @pytest.mark.parametrize("kept", [0, 100_000, 3 * MIB])
    def test_segment_truncated_before_the_store_is_opened_is_missing(
        self, store: Store, get: Callable[[Store, Manifest], Payload], kept: int
    ) -> None:
        manifest = save(store, 1, {"x": self.VALUE})
        (path,) = segments(store.directory)
        os.truncate(path, kept)
        again = Store.open(store.directory, KEY)
        assert [finding.kind for finding in again.findings] == ["segment-truncated"]
        with pytest.raises(MissingChunk, match="in no segment"):
            get(again, manifest)

    @pytest.mark.parametrize("kept", [3 * MIB, 9 * MIB - 1])
    def test_segment_truncated_after_the_store_was_opened_is_refused_and_no_sigbus(
        self, store: Store, get: Callable[[Store, Manifest], Payload], kept: int
    ) -> None:
        """The recipe is in another segment, so that the map itself is what finds out."""
        save(store, 1, {"x": self.VALUE})
        (path,) = segments(store.directory)
        again = save(store, 2, {"again": self.VALUE})
        assert len(segments(store.directory)) == 2
        os.truncate(path, kept)
        with pytest.raises(DamagedChunk, match=rf"{path}.*jupyter checkpoint check"):
            get(store, again)

    def test_missing_segment_is_refused(
        self, store: Store, get: Callable[[Store, Manifest], Payload]
    ) -> None:
        save(store, 1, {"x": self.VALUE})
        (path,) = segments(store.directory)
        again = save(store, 2, {"again": self.VALUE})
        path.unlink()
        with pytest.raises(MissingChunk, match=r"in no segment.*jupyter checkpoint check"):
            get(store, again)

    @pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
    def test_segment_that_cannot_be_opened_is_an_error_of_the_system(
        self,
        store: Store,
        get: Callable[[Store, Manifest], Payload],
        code: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        manifest = save(store, 1, {"x": self.VALUE})
        real_open = os.open

        def refuse(path: str | Path, flags: int, mode: int = 0o777) -> int:
            if str(path).endswith(".seg"):
                raise OSError(code, os.strerror(code), str(path))
            return real_open(path, flags, mode)

        monkeypatch.setattr(os, "open", refuse)
        with pytest.raises(OSError, match=os.strerror(code)):
            get(store, manifest)
