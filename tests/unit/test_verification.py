"""What a restore has mapped is verified afterwards: a mismatch is named, and not referred to."""

from __future__ import annotations

import errno
import mmap
import os
import random
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_cases import KEY, save, segments

from checkpoint_kernel import mapped_memory, verification
from checkpoint_kernel.manifest import Manifest
from checkpoint_kernel.mapped_memory import Maps
from checkpoint_kernel.prune import prune
from checkpoint_kernel.store import IncompleteCheckpoint, Store
from checkpoint_kernel.verification import Verification, whole_before

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or mmap.PAGESIZE != 4096, reason="only pages of 4 KB are mapped"
)

MIB = 1 << 20
VALUE = random.Random(8).randbytes(9 * MIB)
OTHER = random.Random(9).randbytes(9 * MIB)


@pytest.fixture(autouse=True)
def any_filesystem(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the tests' directory is. And nobody waits for the rests."""
    monkeypatch.setattr(mapped_memory, "is_local", lambda fd: True)
    monkeypatch.setattr(verification, "_REST", 0.0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "notebook", KEY)
    yield store
    store.verification.stop()


def restored(store: Store, manifest: Manifest) -> list[memoryview]:
    """What a restore does: map, and hand what is mapped to the verification."""
    views = []
    with store.reader(maps=Maps(MIB, 1000)) as reader:
        for unit in manifest.units:
            payload = store.read_payload(unit.payload, reader)
            store.verification.add(manifest.id, unit.names, payload.unverified, reader)
            views += payload.buffers
    return views


def verified(store: Store) -> Verification:
    store.verification.begin()
    assert store.verification.finish(30)
    return store.verification


def flip(store: Store, content: bytes) -> Path:
    (path,) = [path for path in segments(store.directory) if content in path.read_bytes()]
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(path.read_bytes().index(content))
        file.write(bytes([content[0] ^ 1]))
    return path


def another_boot(store: Store) -> Store:
    reopened = Store.open(store.directory, KEY)
    reopened.boot_id = bytes(reversed(store.boot_id))
    return reopened


def test_whole_storages_give_nothing_to_say(store: Store) -> None:
    views = restored(store, save(store, 1, {"x": VALUE}))
    assert store.verification.remaining_bytes == 9 * MIB
    assert verified(store).announcements() == []
    assert store.verification.remaining_bytes == 0
    assert views == [VALUE]


def test_what_the_user_has_written_is_no_damage(store: Store) -> None:
    (view,) = restored(store, save(store, 1, {"x": VALUE}))
    view[:] = bytes(9 * MIB)
    assert verified(store).announcements() == []


def test_damage_names_variables_bytes_and_file_once(store: Store) -> None:
    manifest = save(store, 1, {"x": VALUE, "y": OTHER})
    path = flip(store, VALUE[3 * MIB :][:100])
    flip(store, VALUE[7 * MIB :][:100])
    restored(store, manifest)
    ((damage, whole),) = verified(store).announcements()
    assert (damage.checkpoint, damage.names) == ("checkpoint-0001", ("x",))
    assert damage.damaged_bytes == 2 * MIB
    assert damage.reason == f"the bytes in {path.name} are not those that were written"
    assert whole is None
    assert store.verification.announcements() == []


def test_newest_earlier_checkpoint_with_other_bytes_is_offered(store: Store) -> None:
    first = save(store, 1, {"x": OTHER})
    second = save(store, 2, {"x": OTHER, "y": b"1"})
    changed = VALUE[:MIB] + OTHER[MIB:]
    third = save(store, 3, {"x": changed})
    save(store, 4, {"x": VALUE})
    flip(store, VALUE[:100])
    restored(store, third)
    ((damage, whole),) = verified(store).announcements()
    assert whole == second
    assert whole != first
    assert damage.damaged_bytes == MIB


def test_no_earlier_checkpoint_is_offered_that_has_the_same_damaged_bytes(store: Store) -> None:
    save(store, 1, {"x": VALUE})
    manifest = save(store, 2, {"x": VALUE[: 8 * MIB] + OTHER[8 * MIB :]})
    flip(store, VALUE[:100])
    restored(store, manifest)
    ((_, whole),) = verified(store).announcements()
    assert whole is None


def test_no_earlier_checkpoint_is_offered_that_does_not_hold_all_of_the_names(
    store: Store,
) -> None:
    save(store, 1, {"x": OTHER})
    manifest = save(store, 2, {"x": VALUE})
    flip(store, VALUE[:100])
    with store.reader(maps=Maps(MIB, 1000)) as reader:
        payload = store.read_payload(manifest.units[0].payload, reader)
        store.verification.add(manifest.id, ("x", "view"), payload.unverified, reader)
    ((damage, whole),) = verified(store).announcements()
    assert (damage.names, whole) == (("x", "view"), None)


def test_a_chunk_that_cannot_be_read_is_damage_that_says_so(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    restored(store, save(store, 1, {"x": VALUE}))

    def refuse(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "preadv", refuse)
    assert store.verification.finish(0) is False
    store.verification.begin()
    assert store.verification.finish(30)
    monkeypatch.undo()
    (damage,) = store.verification.damages()
    assert damage.reason.endswith("cannot be read: Input/output error")
    assert damage.damaged_bytes == 9 * MIB


def test_what_is_pruned_before_its_turn_is_verified_all_the_same(store: Store) -> None:
    manifest = save(store, 1, {"x": VALUE})
    flip(store, VALUE[:100])
    restored(store, manifest)
    save(store, 2, {})
    prune(Store.open(store.directory, KEY), {manifest.id})
    assert segments(store.directory) == []
    (damage,) = verified(store).damages()
    assert damage.damaged_bytes == MIB


def test_a_file_that_was_not_held_open_and_is_gone_is_named(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "_HELD_OPEN", 0)
    restored(store, save(store, 1, {"x": VALUE}))
    (path,) = segments(store.directory)
    path.unlink()
    (damage,) = verified(store).damages()
    assert damage.reason == f"{path.name} cannot be read: No such file or directory"


def test_files_that_are_not_held_open_are_opened_by_name(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "_HELD_OPEN", 0)
    restored(store, save(store, 1, {"x": VALUE}))
    assert verified(store).damages() == []


def test_slices_that_repeat_are_read_once_and_all_counted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = save(store, 1, {"x": VALUE[:MIB] * 9})
    flip(store, VALUE[:100])
    restored(store, manifest)
    reads = []
    real = verification.read_chunk
    monkeypatch.setattr(verification, "read_chunk", lambda *a: [reads.append(1), real(*a)][1])
    (damage,) = verified(store).damages()
    assert (len(reads), damage.damaged_bytes) == (1, 9 * MIB)


def test_stopped_it_ends_and_goes_on_when_begun_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, go_on = threading.Event(), threading.Event()
    real = verification.read_chunk

    def slow(*arguments: object) -> bool:
        reached.set()
        go_on.wait(30)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(verification, "read_chunk", slow)
    restored(store, save(store, 1, {"x": VALUE}))
    store.verification.begin()
    store.verification.begin()
    assert reached.wait(30)
    store.verification.stop(wait_s=0)
    go_on.set()
    assert not store.verification.finish(30)
    assert store.verification.remaining_bytes == 8 * MIB
    assert verified(store).damages() == []


def test_it_leaves_no_thread_and_no_descriptor(store: Store) -> None:
    manifest = save(store, 1, {"x": VALUE})
    threads, files = set(threading.enumerate()), os.listdir("/proc/self/fd")  # noqa: PTH208
    restored(store, manifest)
    verified(store)
    assert set(threading.enumerate()) == threads
    assert os.listdir("/proc/self/fd") == files  # noqa: PTH208


def test_nothing_to_verify_starts_no_thread(store: Store) -> None:
    threads = set(threading.enumerate())
    restored(store, save(store, 1, {"x": b"small"}))
    store.verification.begin()
    assert set(threading.enumerate()) == threads


class TestTrust:
    """What later checkpoints may refer to without writing it again."""

    def test_verified_chunks_of_an_earlier_boot_are_not_read_again(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        manifest = save(store, 1, {"x": VALUE})
        later = another_boot(store)
        restored(later, manifest)
        with later.reader() as reader:
            chunks = reader.recipe(bytes.fromhex(manifest.units[0].payload)).storages[0].digests
        assert later._verified.isdisjoint(chunks)
        verified(later)
        assert later._verified.issuperset(chunks)

    def test_unverified_chunks_of_an_earlier_boot_are_read_before_they_are_carried_over(
        self, store: Store
    ) -> None:
        manifest = save(store, 1, {"x": VALUE})
        later = another_boot(store)
        restored(later, manifest)
        with later.begin() as snapshot:
            snapshot.commit(carried_over(manifest))
        assert len(later._verified) == 11  # recipe, stream, nine slices

    def test_torn_chunks_of_an_earlier_boot_are_not_carried_over(self, store: Store) -> None:
        manifest = save(store, 1, {"x": VALUE})
        flip(store, VALUE[:100])
        later = another_boot(store)
        restored(later, manifest)
        with later.begin() as snapshot, pytest.raises(IncompleteCheckpoint, match="put again"):
            snapshot.commit(carried_over(manifest))

    def test_damage_of_this_boot_is_not_carried_over_once_it_is_known(self, store: Store) -> None:
        manifest = save(store, 1, {"x": VALUE})
        restored(store, manifest)
        with store.reader() as reader:
            assert store.is_complete(bytes.fromhex(manifest.units[0].payload), reader)
        flip(store, VALUE[:100])
        verified(store)
        with store.begin() as snapshot, pytest.raises(IncompleteCheckpoint, match="put again"):
            snapshot.commit(carried_over(manifest))

    def test_whoever_still_has_the_right_bytes_writes_them_again(self, store: Store) -> None:
        manifest = save(store, 1, {"x": VALUE})
        flip(store, VALUE[:100])
        restored(store, manifest)
        verified(store)
        again = save(store, 2, {"x": VALUE})
        assert store.read_payload(again.units[0].payload).buffers == [VALUE]
        assert restored(store, again) == [VALUE]
        save(store, 3, {"x": VALUE})
        assert len(segments(store.directory)) == 2

    def test_an_unreadable_chunk_of_an_earlier_boot_is_written_again(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        save(store, 1, {"x": VALUE})
        later = another_boot(store)
        (bad,) = segments(store.directory)
        real_open = os.open

        def refuse(path: str | Path, flags: int, mode: int = 0o777) -> int:
            if str(path) == str(bad):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real_open(path, flags, mode)

        with monkeypatch.context() as patched:
            patched.setattr(os, "open", refuse)
            save(later, 2, {"x": VALUE})
        assert len(segments(store.directory)) == 2


def carried_over(manifest: Manifest) -> Manifest:
    from dataclasses import replace

    return replace(manifest, id="checkpoint-0009", seq=9)


def test_whole_before_says_none_where_the_damaged_checkpoint_is_gone(store: Store) -> None:
    manifest = save(store, 1, {"x": VALUE})
    flip(store, VALUE[:100])
    restored(store, manifest)
    (damage,) = verified(store).damages()
    save(store, 2, {})
    prune(store, {manifest.id})
    assert whole_before(store, damage) is None
