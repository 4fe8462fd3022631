"""Reads chunks from segments, and verifies each before anybody sees it.

Where a digest lies is `Store`'s knowledge; the reader follows a chunk that has moved.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from . import recipe
from .recipe import Recipe, Span
from .segment import Entry, Segment, StoreError, digest_of

if TYPE_CHECKING:
    from .store import Store

_REMEDY = "`jupyter checkpoint check` lists what it affects"


class MissingChunk(StoreError):
    """A chunk is in no segment."""


class DamagedChunk(StoreError):
    """A chunk's bytes are not those of its digest."""


class Reader:
    """Made by `Store.reader`. Opens segments as they are needed; `close` closes them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._descriptors: dict[Path, int] = {}

    def recipe(self, digest: bytes) -> Recipe:
        """The recipe stored under that digest."""
        data = self.chunk(digest)
        try:
            return recipe.decode(data)
        except ValueError as why:
            raise DamagedChunk(f"chunk {digest.hex()[:12]} is not a recipe: {why}") from why

    def chunk(self, digest: bytes) -> bytes:
        """One chunk."""
        fd, segment, entry = self._find(digest)
        data = bytearray(entry.length)
        self._read(fd, segment, entry, memoryview(data))
        return bytes(data)

    def fill(self, span: Span, memory: memoryview) -> None:
        """Read all slices of a span into `memory`."""
        for digest, start, end in span.slices():
            fd, segment, entry = self._find(digest)
            if entry.length != end - start:
                raise DamagedChunk(
                    f"chunk {digest.hex()[:12]} in {segment.path} has {entry.length} bytes "
                    f"where its recipe says {end - start}; {_REMEDY}"
                )
            self._read(fd, segment, entry, memory[start:end])

    def own_copy_is_whole(self, segment: Segment, entry: Entry) -> bool:
        """Whether a segment's copy of a chunk can be read, also where a newer copy is used."""
        try:
            self._read(self._open(segment), segment, entry, memoryview(bytearray(entry.length)))
        except (DamagedChunk, OSError):
            return False
        return True

    def close(self) -> None:
        """Close the segments."""
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

    def _read(self, fd: int, segment: Segment, entry: Entry, into: memoryview) -> None:
        done = 0
        while done < entry.length:
            count = os.preadv(fd, [into[done:]], entry.offset + done)
            if count == 0:
                break
            done += count
        if done != entry.length or digest_of(into) != entry.digest:
            raise DamagedChunk(
                f"chunk {entry.digest.hex()[:12]} in {segment.path}: digest differs; {_REMEDY}"
            )
        self._store.note_verified(segment, entry)
