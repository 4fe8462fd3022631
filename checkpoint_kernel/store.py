"""The store of one notebook: payloads in, payloads out, every byte verified.

    Store         what is there: manifests, and where each chunk lies (the segments' indexes)
    Snapshot      a writer: put payloads, then commit a manifest (`store_writer`)
    Reader        reads and verifies chunks, or maps them (`chunk_reader`)
    Verification  verifies afterwards what was mapped (`verification`)

A payload is a pickle stream and its out-of-band buffers; its digest is that of its recipe
(`recipe`), which names chunks by digest. Nothing is unpickled here. Removing old
checkpoints is `prune`'s, examining all of the store `check`'s.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import durable, manifest
from .chunk_reader import DamagedChunk, Location, MissingChunk, Reader
from .contract import MANIFESTS, SEGMENTS
from .manifest import Manifest, ManifestError
from .mapped_memory import Maps, address_of
from .recipe import BufferRef, Span
from .segment import (
    SUFFIX,
    DamagedSegment,
    Entry,
    Segment,
    StoreError,
    machine_boot_id,
    read_index,
)
from .store_writer import IncompleteCheckpoint, Proof, Snapshot, StoreBusy, Written
from .verification import Verification

__all__ = [
    "BufferRef",
    "DamagedChunk",
    "DamagedSegment",
    "Finding",
    "IncompleteCheckpoint",
    "MissingChunk",
    "NoSuchCheckpoint",
    "Payload",
    "Proof",
    "Reader",
    "Snapshot",
    "Store",
    "StoreBusy",
    "StoreError",
    "StoreRefused",
    "Written",
]


class NoSuchCheckpoint(StoreError):
    """No checkpoint, or more than one, has an id that begins so."""


class StoreRefused(StoreError):
    """The directory is not ours alone. Unpickling runs code, so it is not used."""


@dataclass(frozen=True)
class Payload:
    """One unit as it was put. Buffers that were slices of one storage share memory again.

    `unverified`: the chunks that the buffers map. `mapped`: for each storage of the recipe its
    address and length in bytes if it is mapped, else zeros.
    """

    stream: bytes
    buffers: list[memoryview]
    unverified: tuple[Location, ...] = ()
    mapped: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Finding:
    """Something wrong in the store. `check` fills in what it affects."""

    kind: str
    path: Path
    message: str
    checkpoints: tuple[str, ...] = ()  # ids of checkpoints that are not whole because of it
    variables: tuple[str, ...] = ()  # their variables that cannot be restored


class Store:
    """What is in a notebook's directory. Made by `Store.open`; holds no descriptors."""

    def __init__(self, directory: Path, key: bytes) -> None:
        self.directory = directory
        self.key = key
        self.boot_id = machine_boot_id()
        self.findings: list[Finding] = []  # of segments, as of the last refresh
        self.damaged: list[tuple[Path, ManifestError]] = []  # as of the last `manifests()`
        self.tightened: str | None = None  # one sentence if the mode was too open
        self.segments: dict[str, Segment] = {}
        self._index: dict[bytes, Location] = {}
        self._bad: dict[str, Finding] = {}
        self._manifests: manifest.Cache = {}
        self._verified: set[bytes] = set()  # chunks of earlier boots, read and found whole
        self._damaged: set[tuple[Path, bytes]] = set()  # copies of chunks that are not whole
        self._complete: set[bytes] = set()  # recipes all of whose chunks are there
        self.verification = Verification(self)  # of what restores map

    @staticmethod
    def open(directory: Path, key: bytes) -> Store:
        """Open, or make, the store in a notebook's directory.

        Damaged segments are in `findings`. Raises StoreRefused if the directory belongs to
        somebody else or stays accessible to others, OSError if it cannot be made.
        """
        store = Store(directory, key)
        for path in (directory, directory / SEGMENTS, directory / MANIFESTS):
            _make_directory(path)
        store.tightened = _tighten(directory)
        store.refresh()
        store.manifests()
        return store

    def refresh(self) -> None:
        """Take notice of segments that have appeared or gone since."""
        directory = self.directory / SEGMENTS
        present = {e.name: Path(e.path) for e in os.scandir(directory) if e.name.endswith(SUFFIX)}
        self._bad = {name: finding for name, finding in self._bad.items() if name in present}
        appeared = []
        for name in present.keys() - self.segments.keys() - self._bad.keys():
            try:
                appeared.append(read_index(present[name]))
            except FileNotFoundError:
                continue  # pruned between the listing and the read
            except DamagedSegment as why:
                self._bad[name] = Finding(why.kind, present[name], str(why))
        self.findings = list(self._bad.values())
        gone = self.segments.keys() - present.keys()
        if gone:
            appeared += [s for name, s in self.segments.items() if name in present]
            self.segments.clear()
            self._index.clear()
            self._complete.clear()
        self._add(appeared)

    def manifests(self) -> list[Manifest]:
        """All usable checkpoints, oldest first; the others are in `damaged`."""
        good, self.damaged = manifest.read_all(self.directory, self.key, self._manifests)
        return good

    def forget(self) -> None:
        """Read everything from the files again, and verify it again, when it is next asked for."""
        self.segments.clear()
        self._index.clear()
        self._bad.clear()
        self._manifests.clear()
        self._verified.clear()
        self._damaged.clear()
        self._complete.clear()

    def manifest(self, id: str) -> Manifest:
        """The checkpoint whose id begins with `id`; NoSuchCheckpoint if not exactly one does."""
        everything = self.manifests()
        found = [m for m in everything if m.id == id] or [
            m for m in everything if m.id.startswith(id)
        ]
        if len(found) == 1:
            return found[0]
        if found:
            raise NoSuchCheckpoint(
                f"{len(found)} checkpoints begin with {id!r}: {_listed(m.id for m in found)}"
            )
        there = _listed(m.id for m in everything) or "there are none"
        raise NoSuchCheckpoint(f"no checkpoint begins with {id!r}; the newest: {there}")

    def has(self, digest: str) -> bool:
        """Whether a chunk (or recipe) of that digest is in an undamaged segment."""
        return bytes.fromhex(digest) in self._index

    def begin(self, *, near_cap: bool = False, wait_s: float = 5.0) -> Snapshot:
        """A writer. It takes the writer's lock and makes its file at its first `put`.

        So it can be made before a fork and used after it. `near_cap`: hand dirty pages to
        the disk every 32 MB, because they count against a memory cap.
        """
        return Snapshot(self, near_cap=near_cap, wait_s=wait_s)

    def read_payload(self, digest: str, reader: Reader | None = None) -> Payload:
        """Read one unit back. A `reader` with `maps` may map large storages instead.

        Everything that is read is verified before it is returned, the stream always; what is
        mapped is named in `unverified`. Raises MissingChunk, DamagedChunk, or OSError.
        """
        if reader is None:
            with self.reader() as own:
                return self.read_payload(digest, own)
        plan = reader.recipe(bytes.fromhex(digest))
        stream = _filled(plan.stream, reader)
        storages, unverified, where = [], [], []
        # `bytes`, or a stream inside the stream (`arrays`): nobody writes to these, and who reads
        # them may trust them.
        whole = {ref.storage for ref in plan.buffers if ref.readonly}
        for number, span in enumerate(plan.storages):
            memory, mapped = reader.storage(span, verified=number in whole)
            storages.append(memory)
            unverified += mapped
            where.append((address_of(memory), len(memory)) if mapped else (0, 0))
        buffers = []
        for ref in plan.buffers:
            view = storages[ref.storage][ref.offset : ref.offset + ref.length]
            buffers.append(view.toreadonly() if ref.readonly else view)
        return Payload(stream, buffers, tuple(unverified), tuple(where))

    def locate(self, digest: bytes) -> Location | None:
        """Where a chunk is read from, or None."""
        return self._index.get(digest)

    def note_verified(self, segment: Segment, entry: Entry) -> None:
        """A chunk has been read and found whole; forked snapshot processes inherit that."""
        location = self._index.get(entry.digest)
        if segment.boot_id != self.boot_id and location and location[0] is segment:
            self._verified.add(entry.digest)

    def note_damaged(self, segment: Segment, entry: Entry) -> None:
        """This copy of a chunk is wrong, or cannot be read: nothing new may refer to it."""
        self._damaged.add((segment.path, entry.digest))
        self._complete.clear()

    @property
    def verified(self) -> frozenset[bytes]:
        """Chunks of earlier boots that were read and found whole."""
        return frozenset(self._verified)

    def note_whole(self, payloads: Iterable[str], chunks: Iterable[str]) -> None:
        """What another process of ours has found to be complete, and whole, under the lock."""
        self._complete.update(map(bytes.fromhex, payloads))
        self._verified.update(map(bytes.fromhex, chunks))

    def is_trusted(self, digest: bytes, reader: Reader) -> bool:
        """Whether a chunk may be referred to again instead of being written.

        One of an earlier boot is read once first: after a power loss a page of it may be
        torn, whatever the disk promised.
        """
        location = self._index.get(digest)
        if location is None or (location[0].path, digest) in self._damaged:
            return False
        if location[0].boot_id == self.boot_id != bytes(16) or digest in self._verified:
            return True
        try:
            reader.chunk(digest)
        except (StoreError, OSError):
            return False
        return True

    def is_complete(self, digest: bytes, reader: Reader) -> bool:
        """Whether a recipe and all of its chunks are there, and may be referred to again."""
        if digest not in self._complete:
            try:
                needed = reader.recipe(digest).chunks()
            except (StoreError, OSError):
                return False
            if not all(self.is_trusted(chunk, reader) for chunk in needed):
                return False
            self._complete.add(digest)
        return True

    def adopt(self, segment: Segment) -> None:
        """Take notice of a segment that this process has just written."""
        self._add([segment])

    @contextmanager
    def reader(self, threads: int = 1, maps: Maps | None = None) -> Iterator[Reader]:
        """Opens segments as they are needed, and closes them all."""
        reader = self.new_reader(threads, maps)
        try:
            yield reader
        finally:
            reader.close()

    def new_reader(self, threads: int = 1, maps: Maps | None = None) -> Reader:
        """As `reader`, for an owner that closes it itself."""
        return Reader(self, threads, maps)

    def _add(self, segments: list[Segment]) -> None:
        for segment in segments:
            self.segments[segment.path.name] = segment
            for entry in segment.entries():
                there = self._index.get(entry.digest)
                # Where two hold a chunk, the newer was written because the older could not
                # be trusted, or is its compacted copy.
                if there is None or there[0].created_ns <= segment.created_ns:
                    self._index[entry.digest] = (segment, entry)


def _filled(span: Span, reader: Reader) -> bytes:
    """A stream, read into the bytes object itself: a second copy could be what ends the memory."""
    if not span.length:
        return b""
    file = io.BytesIO()
    file.seek(span.length - 1)
    file.write(b"\0")
    with file.getbuffer() as memory:
        reader.fill(span, memory)
    return file.getvalue()


def _make_directory(path: Path) -> None:
    """Make a directory and those above it, ours alone, each durable in the one above."""
    if not path.is_dir():
        _make_directory(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
        durable.fsync_directory(path.parent)


def _tighten(directory: Path) -> str | None:
    """Make the directory 0700; what was done about it, for the user, or None."""
    stat = directory.stat()
    if stat.st_uid != os.geteuid():
        raise StoreRefused(
            f"the store {directory} belongs to user {stat.st_uid}, not to us: "
            "configure another `store`"
        )
    mode = stat.st_mode & 0o777
    if not mode & 0o077:
        return None
    try:
        directory.chmod(0o700)
        refused = directory.stat().st_mode & 0o077
    except OSError as why:
        raise StoreRefused(f"the store {directory} has mode {mode:o}: {why}") from why
    if refused:
        raise StoreRefused(
            f"the store {directory} has mode {mode:o} and its filesystem keeps it: "
            "configure another `store`"
        )
    return f"the store {directory} had mode {mode:o}, now 700"


def _listed(ids: Iterable[str], limit: int = 5) -> str:
    """The newest few ids."""
    newest = list(ids)[-limit:]
    return ", ".join(reversed(newest))
