"""Reads chunks from segments, and verifies each before anybody sees it; or maps them.

Where a digest lies is `Store`'s knowledge; the reader follows a chunk that has moved. What it
maps instead of reading it is not verified: whoever asked for maps has `verification` do it.
"""

from __future__ import annotations

import functools
import mmap
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from . import mapped_memory, recipe
from .mapped_memory import CannotMap, Maps
from .recipe import Recipe, Span
from .segment import Entry, Segment, StoreError, digest_of

if TYPE_CHECKING:
    from .store import Store

_REMEDY = "`jupyter checkpoint check` lists what it affects"

# A large array may lie in a thousand segments, and a process that holds a thousand files open
# cannot use select() any more.
_OPEN_AT_ONCE: Final = 64
# Less than this is read by one thread: handing it on would cost more.
_SHARED_FROM: Final = 2 << 20
_THREADS: Final = 4
# A run of chunks that is shorter is read: a map of its own would cost more.
_RUN_FROM: Final = 64 << 10


Location = tuple[Segment, Entry]


class MissingChunk(StoreError):
    """A chunk is in no segment."""


class DamagedChunk(StoreError):
    """A chunk's bytes are not those of its digest."""


class Piece(NamedTuple):
    """A slice of a stream or storage, and where its chunk is."""

    fd: int
    segment: Segment
    entry: Entry
    start: int  # in the stream or storage


def useful_threads() -> int:
    """How many threads read faster than one, where threads may be started."""
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1, _THREADS)


class Reader:
    """Made by `Store.reader`. Opens segments as they are needed; `close` closes them.

    `threads` above one are started when there is something for them, and end with `close`.
    """

    def __init__(self, store: Store, threads: int = 1, maps: Maps | None = None) -> None:
        self._store = store
        self._threads = threads
        self._maps = maps
        self._descriptors: dict[Path, int] = {}
        self._mappable: dict[int, bool] = {}  # device -> whether its files may be mapped
        self._pool: ThreadPoolExecutor | None = None

    def recipe(self, digest: bytes) -> Recipe:
        """The recipe stored under that digest."""
        data = self.chunk(digest)
        try:
            return recipe.decode(data)
        except ValueError as why:
            raise DamagedChunk(f"chunk {digest.hex()[:12]} is not a recipe: {why}") from why

    def chunk(self, digest: bytes) -> bytes:
        """One chunk."""
        self._make_room()
        fd, segment, entry = self._find(digest)
        data = bytearray(entry.length)
        self._read(fd, segment, entry, memoryview(data))
        return bytes(data)

    def fill(self, span: Span, memory: memoryview) -> None:
        """Read all slices of a span into `memory`."""
        for pieces in self._located(span.slices(), span):
            self._read_all(pieces, memory)

    def storage(self, span: Span, verified: bool = False) -> tuple[memoryview, list[Location]]:
        """A storage in writable memory, and those of its chunks that are mapped, not verified.

        `verified`: it is read, however large it is.

        Raises MissingChunk, DamagedChunk (also for a file that is shorter than it was: touching
        a map of that would be SIGBUS), or OSError.
        """
        if not verified and self._maps is not None and span.length >= self._maps.from_bytes:
            try:
                return self._map(span, self._maps)
            except CannotMap:
                pass  # it is read instead, and costs time
        memory = memoryview(mapped_memory.own(span.length))
        for pieces in self._located(_without_zeros(span), span):
            self._read_all(pieces, memory)
        return memory, []

    def descriptor(self, segment: Segment) -> int | None:
        """The reader's own descriptor of a segment that is open just now."""
        return self._descriptors.get(segment.path)

    def own_copy_is_whole(self, segment: Segment, entry: Entry) -> bool:
        """Whether a segment's copy of a chunk can be read, also where a newer copy is used."""
        self._make_room()
        try:
            self._read(self._open(segment), segment, entry, memoryview(bytearray(entry.length)))
        except (DamagedChunk, OSError):
            return False
        return True

    def close(self) -> None:
        """Close the segments, and end the threads."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        for fd in self._descriptors.values():
            os.close(fd)
        self._descriptors.clear()

    # --- finding --------------------------------------------------------------------------

    def _located(
        self, slices: Iterable[tuple[bytes, int, int]], span: Span
    ) -> Iterator[list[Piece]]:
        """Where the slices are, in batches: descriptors stay open until the next is asked for."""
        batch: list[Piece] = []
        for digest, start, end in slices:
            if len(self._descriptors) >= _OPEN_AT_ONCE and not self._is_open(digest):
                yield batch
                batch = []
                self._make_room()
            fd, segment, entry = self._find(digest)
            if entry.length != end - start:
                raise DamagedChunk(
                    f"chunk {digest.hex()[:12]} in {segment.path} has {entry.length} bytes "
                    f"where its recipe says {end - start}; {_REMEDY}"
                )
            batch.append(Piece(fd, segment, entry, start))
        yield batch

    def _is_open(self, digest: bytes) -> bool:
        location = self._store.locate(digest)
        return location is not None and location[0].path in self._descriptors

    def _make_room(self) -> None:
        """No descriptor that somebody is using: only between two batches."""
        if len(self._descriptors) >= _OPEN_AT_ONCE:
            for fd in self._descriptors.values():
                os.close(fd)
            self._descriptors.clear()

    def _find(self, digest: bytes) -> tuple[int, Segment, Entry]:
        for look_again in (True, False):
            location = self._store.locate(digest)
            if location is not None:
                segment, entry = location
                try:
                    return self._open(segment), segment, entry
                except FileNotFoundError:
                    pass  # compacted, or pruned, after we last looked
            if look_again:
                self._store.refresh()
        raise MissingChunk(
            f"chunk {digest.hex()[:12]} is in no segment of {self._store.directory}; {_REMEDY}"
        )

    def _open(self, segment: Segment) -> int:
        fd = self._descriptors.get(segment.path)
        if fd is None:
            fd = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
            self._descriptors[segment.path] = fd
        return fd

    # --- reading --------------------------------------------------------------------------

    def _read_all(self, pieces: Sequence[Piece], memory: memoryview) -> None:
        """Read and verify; the system calls and the hash let other threads run."""
        wanted = sum(piece.entry.length for piece in pieces)
        if self._threads == 1 or len(pieces) == 1 or wanted < _SHARED_FROM:
            self._read_some(pieces, memory)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads - 1, "checkpoint-kernel-reader")
        each = -(-len(pieces) // self._threads)
        shares = [pieces[at : at + each] for at in range(0, len(pieces), each)]
        others = [self._pool.submit(self._read_some, share, memory) for share in shares[1:]]
        try:
            self._read_some(shares[0], memory)
        finally:
            failures = [other.exception() for other in others]  # waits: `memory` is in use
        for failure in failures:
            if failure is not None:
                raise failure

    def _read_some(self, pieces: Sequence[Piece], memory: memoryview) -> None:
        for fd, segment, entry, start in pieces:
            self._read(fd, segment, entry, memory[start : start + entry.length])

    def _read(self, fd: int, segment: Segment, entry: Entry, into: memoryview) -> None:
        if not read_chunk(fd, entry, into):
            raise DamagedChunk(
                f"chunk {entry.digest.hex()[:12]} in {segment.path}: digest differs; {_REMEDY}"
            )
        self._store.note_verified(segment, entry)

    # --- mapping --------------------------------------------------------------------------

    def _map(self, span: Span, maps: Maps) -> tuple[memoryview, list[Location]]:
        memory = mapped_memory.reserve(span.length)
        view = memoryview(memory)
        unverified: list[Location] = []
        for pieces in self._located(_without_zeros(span), span):
            read: list[Piece] = []
            for run in _runs(pieces):
                fd, segment, entry, start = run[0]
                length = sum(piece.entry.length for piece in run)
                if self._may_be_mapped(fd, segment, entry, start, length) and maps.take(length):
                    mapped_memory.lay(memory, start, fd, entry.offset, length)
                    unverified += [(piece.segment, piece.entry) for piece in run]
                else:
                    read += run
            self._read_all(read, view)
        return view, unverified

    def _may_be_mapped(
        self, fd: int, segment: Segment, entry: Entry, start: int, length: int
    ) -> bool:
        if length < _RUN_FROM or entry.offset % mmap.PAGESIZE or start % mmap.PAGESIZE:
            return False
        status = os.fstat(fd)
        if status.st_size != segment.size_bytes:
            raise DamagedChunk(
                f"chunk {entry.digest.hex()[:12]}: {segment.path} has {status.st_size} bytes where "
                f"{segment.size_bytes} were written; {_REMEDY}"
            )
        if status.st_dev not in self._mappable:
            self._mappable[status.st_dev] = mapped_memory.is_local(fd)
        return self._mappable[status.st_dev]


def read_chunk(fd: int, entry: Entry, into: memoryview) -> bool:
    """Read a chunk's bytes into memory of its length; whether they are those of its digest."""
    done = 0
    while done < entry.length:
        count = os.preadv(fd, [into[done:]], entry.offset + done)
        if count == 0:
            return False
        done += count
    return digest_of(into) == entry.digest


def _runs(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Pieces that follow each other in the storage and in one file, without a gap."""
    run: list[Piece] = []
    for piece in pieces:
        if run and not _follows(run[-1], piece):
            yield run
            run = []
        run.append(piece)
    if run:
        yield run


def _follows(before: Piece, piece: Piece) -> bool:
    length = before.entry.length
    return (
        piece.segment is before.segment
        and piece.start == before.start + length
        and piece.entry.offset == before.entry.offset + length
    )


def _without_zeros(span: Span) -> Iterator[tuple[bytes, int, int]]:
    """The slices that are not all zeros: new memory is so by itself, and takes no room yet."""
    zeros = _digest_of_zeros(span.chunk_size)
    return (one for one in span.slices() if one[0] != zeros)


@functools.cache
def _digest_of_zeros(length: int) -> bytes:
    return digest_of(bytes(length))
