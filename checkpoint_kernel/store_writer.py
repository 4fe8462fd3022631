"""The writer of a store: payloads into one new segment, then the manifest that commits them.

The order is the guarantee: chunks are durable in a renamed segment before the manifest
that names them is published. Runs in the snapshot process too, so it starts no thread and
uses no descriptor from before the fork. One writer at a time, by flock.
"""

from __future__ import annotations

import bisect
import fcntl
import itertools
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import PickleBuffer
from types import TracebackType
from typing import TYPE_CHECKING, Self

from . import durable, manifest, recipe
from .contract import MANIFESTS, SEGMENTS, WRITER_FILE
from .manifest import Manifest
from .recipe import ALIGNED_FROM, BufferRef, Recipe, Span, check_buffers, chunk_size
from .segment import SegmentWriter, StoreError, digest_of

if TYPE_CHECKING:
    from .store import Reader, Store


class StoreBusy(StoreError):
    """Another process is writing checkpoints into this store, or pruning it."""


class IncompleteCheckpoint(StoreError):
    """A manifest names a payload that is not in the store; it was not published."""


@dataclass(frozen=True)
class Written:
    """One payload that was put."""

    digest: str  # of its recipe: `Unit.payload`
    size_bytes: int  # stream and storages
    new_bytes: int  # of that, what was not in the store before, and the recipe if new


@dataclass(frozen=True)
class Proof:
    """In some places a storage's memory is known to be as it was in a payload of this store."""

    address: int  # of the storage's first byte
    payload: str
    storage: int  # its number in that payload's recipe
    intervals: Sequence[tuple[int, int]]  # addresses [start, end), sorted
    is_all: bool = False  # there is no memory to look at where it does not hold


class Snapshot:
    """One checkpoint in the making. `put` any number of payloads, then `commit` or `abort`."""

    def __init__(self, store: Store, *, near_cap: bool, wait_s: float) -> None:
        self._store = store
        self._near_cap = near_cap
        self._wait_s = wait_s
        self._lock = -1
        self._reader: Reader | None = None
        self._writer: SegmentWriter | None = None
        self._new: set[bytes] = set()
        self._new_bytes = 0
        self._put: set[bytes] = set()
        self._copy = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        why: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.abort()  # nothing to do after a commit

    @property
    def bytes_written(self) -> int:
        """Size of the new segment so far; 0 if nothing is new."""
        return self._writer.bytes_written if self._writer else 0

    def put(
        self,
        stream: bytes | memoryview,
        storages: Sequence[memoryview],
        buffers: Sequence[BufferRef],
        proofs: Sequence[Proof | None] = (),
    ) -> Written:
        """Store one payload, writing only chunks that are not there yet.

        Storages are contiguous buffers of any shape and format. `proofs`, one for each storage
        or none at all, spare looking at memory. Raises ValueError for a buffer outside its
        storage, StoreError where a proof `is_all` there is and does not hold, StoreBusy, or OSError
        (then `abort`).
        """
        views = [_flat(storage) for storage in storages]
        check_buffers([len(view) for view in views], buffers)
        self._start()
        before = self._new_bytes
        plan = Recipe(
            self._span(_flat(stream), aligned=False),
            tuple(
                self._span(view, aligned=len(view) >= ALIGNED_FROM, proof=proof)
                for view, proof in itertools.zip_longest(views, proofs)
            ),
            tuple(buffers),
        )
        encoded = recipe.encode(plan)
        digest = digest_of(encoded)
        self._chunk(digest, encoded, aligned=False)
        self._put.add(digest)
        return Written(digest.hex(), plan.size_bytes, self._new_bytes - before)

    def commit(self, manifest_: Manifest) -> Path:
        """Make the chunks durable, then publish the manifest: the commit point.

        On any failure the checkpoint before is untouched, and nothing temporary is left.
        Raises IncompleteCheckpoint, StoreBusy or OSError.
        """
        try:
            self._start()
            self._refuse_incomplete(manifest_)
            segment = None
            if self._writer:
                segment = self._writer.finish()
                self._writer = None
            path = manifest.path_of(self._store.directory, manifest_)
            try:
                durable.publish(path, manifest.encode(manifest_, self._store.key))
            except BaseException:
                # On a full disk its space is needed. Nothing can name it while we hold the
                # lock, unless the manifest got its name and only the last fsync failed.
                if segment and not path.exists():
                    durable.unlink(segment.path)
                raise
            if segment:
                self._store.adopt(segment)
            return path
        finally:
            self.abort()

    def abort(self) -> None:
        """Remove what is temporary and let go of the lock. Harmless when there is nothing."""
        try:
            if self._writer:
                self._writer.discard()
        finally:
            self._writer = None
            self._new.clear()
            self._put.clear()
            if self._reader:
                self._reader.close()
                self._reader = None
            unlock(self._lock)
            self._lock = -1

    def _start(self) -> Reader:
        if self._reader is None:
            self._lock = lock(self._store.directory, self._wait_s)
            remove_temporaries(self._store.directory)
            self._store.refresh()  # under the lock: from here on no chunk disappears
            self._reader = self._store.new_reader()
        return self._reader

    def _span(self, view: memoryview, aligned: bool, proof: Proof | None = None) -> Span:
        step = chunk_size(len(view))
        digests = []
        proved = {} if proof is None else self._proved(proof, len(view))
        new = False  # as the slice before: neighbours mostly share their fate
        for start in range(0, len(view), step):
            digest = proved.get(start)
            if digest is None or not self._is_stored(digest):
                if proof is not None and proof.is_all:
                    raise StoreError(f"payload {proof.payload[:12]} is gone, or not whole")
                digest, new = self._slice(view[start : start + step], aligned, new)
            digests.append(digest)
        return Span(len(view), step, tuple(digests))

    def _proved(self, proof: Proof, length: int) -> dict[int, bytes]:
        """Digests of the slices, by their start, of which every byte is as it was."""
        try:
            before = self._start().recipe(bytes.fromhex(proof.payload)).storages[proof.storage]
        except (StoreError, IndexError, OSError):
            return {}  # pruned or damaged meanwhile: then it is looked at
        if before.length != length or before.chunk_size != chunk_size(length):
            return {}
        ends = [end for _, end in proof.intervals]
        found = {}
        for digest, start, end in before.slices():
            number = bisect.bisect_left(ends, proof.address + end)
            if number < len(ends) and proof.intervals[number][0] <= proof.address + start:
                found[start] = digest
        return found

    def _slice(self, data: memoryview, aligned: bool, expect_new: bool) -> tuple[bytes, bool]:
        """Store a slice of live memory; its digest, and whether it was new.

        Shared memory, or other threads where we could not fork, may change between a hash
        and a write, so what is written is a private copy. A slice that is probably known is
        hashed in place first, which saves the copy.
        """
        if not expect_new:
            digest = digest_of(data)
            if self._is_stored(digest):
                return digest, False
        copy = self._copied(data)
        digest = digest_of(copy)
        return digest, self._chunk(digest, copy, aligned)

    def _copied(self, data: memoryview) -> memoryview:
        if len(self._copy) < len(data):
            self._copy = bytearray(len(data))
        copy = memoryview(self._copy)[: len(data)]
        copy[:] = data
        return copy

    def _is_stored(self, digest: bytes) -> bool:
        return digest in self._new or self._store.is_trusted(digest, self._start())

    def _chunk(self, digest: bytes, data: bytes | memoryview, aligned: bool) -> bool:
        """Append a chunk unless it is there; whether it was new."""
        if self._is_stored(digest):
            return False
        if self._writer is None:
            self._writer = SegmentWriter(
                self._store.directory / SEGMENTS, self._store.boot_id, self._near_cap
            )
        self._writer.append(digest, data, aligned)
        self._new.add(digest)
        self._new_bytes += len(data)
        return True

    def _refuse_incomplete(self, manifest_: Manifest) -> None:
        """A payload carried over from an earlier checkpoint may have been pruned meanwhile."""
        reader = self._start()
        for unit in manifest_.units:
            digest = bytes.fromhex(unit.payload)
            if digest not in self._put and not self._store.is_complete(digest, reader):
                raise IncompleteCheckpoint(
                    f"unit {unit.id}: payload {unit.payload[:12]} is not, or not wholly, in "
                    f"{self._store.directory}; it must be put again"
                )


@contextmanager
def writing(directory: Path, wait_s: float) -> Iterator[None]:
    """Hold the writer's lock of a store."""
    held = lock(directory, wait_s)
    try:
        yield
    finally:
        unlock(held)


def lock(directory: Path, wait_s: float) -> int:
    """Take the writer's lock, or raise StoreBusy. It goes with its holder, however that ends."""
    path = directory / WRITER_FILE
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError as why:
            if time.monotonic() >= deadline:
                os.close(fd)
                raise StoreBusy(
                    f"another process has held {path} for {wait_s:g} s: a snapshot or a prune "
                    "is running; `fuser` names it"
                ) from why
        except BaseException:
            os.close(fd)
            raise
        time.sleep(0.005)


def unlock(fd: int) -> None:
    """Let go of the lock; -1 is none."""
    if fd >= 0:
        # Closing alone would not do it while a process forked meanwhile still has it open.
        fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)


def remove_temporaries(directory: Path) -> list[Path]:
    """Remove what a killed writer left. Only under the lock: then no writer lives."""
    left = temporaries(directory)
    for path in left:
        durable.unlink(path)
    return left


def temporaries(directory: Path) -> list[Path]:
    """Temporary files among segments and manifests."""
    found = []
    for name in (SEGMENTS, MANIFESTS):
        for entry in os.scandir(directory / name):
            if entry.name.startswith(durable.TEMPORARY_PREFIX):
                found.append(Path(entry.path))
    return sorted(found)


def _flat(data: bytes | memoryview) -> memoryview:
    """The same memory as bytes, whatever its shape, order and format."""
    return PickleBuffer(data).raw()
