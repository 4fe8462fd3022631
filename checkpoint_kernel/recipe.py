"""A recipe: which chunks make up one payload, and how its buffers lie in them.

Packed, because a payload of 10 GB has 10,000 chunks. Holds digests only, never
locations, so that chunks may move. Pure: reading and writing are `store`'s.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

_MAGIC: Final = b"CKR1"
_HEAD: Final = struct.Struct("<4sII")  # magic, spans (the stream and the storages), buffers
_SPAN: Final = struct.Struct("<QI")  # length, chunk size
_BUFFER: Final = struct.Struct("<IQQB")
_DIGEST_BYTES: Final = 32

# Storages from here on are kept on pages of their own, so that they can be mapped.
ALIGNED_FROM: Final = 64 << 10


@dataclass(frozen=True)
class BufferRef:
    """One out-of-band buffer: a slice of a storage. Buffers may overlap."""

    storage: int
    offset: int
    length: int
    readonly: bool


@dataclass(frozen=True)
class Span:
    """A stream or a storage: its length and the digests of its slices, in order."""

    length: int
    chunk_size: int
    digests: tuple[bytes, ...]

    def slices(self) -> Iterator[tuple[bytes, int, int]]:
        """(digest, start, end) of each chunk."""
        for number, digest in enumerate(self.digests):
            start = number * self.chunk_size
            yield digest, start, min(start + self.chunk_size, self.length)


@dataclass(frozen=True)
class Recipe:
    """A payload in terms of its chunks."""

    stream: Span
    storages: tuple[Span, ...]
    buffers: tuple[BufferRef, ...]

    @property
    def size_bytes(self) -> int:
        """Stream and storages."""
        return self.stream.length + sum(span.length for span in self.storages)

    def chunks(self) -> Iterator[bytes]:
        """Every digest that the payload needs, in order, repeats included."""
        for span in (self.stream, *self.storages):
            yield from span.digests


def chunk_size(length: int) -> int:
    """Depends on the length alone, so that an unchanged slice keeps its digest."""
    return 1 << 20 if length >= 8 << 20 else 256 << 10


def encode(recipe: Recipe) -> bytes:
    """The bytes that are stored as a chunk; equal recipes give equal bytes."""
    spans = (recipe.stream, *recipe.storages)
    parts = [_HEAD.pack(_MAGIC, len(spans), len(recipe.buffers))]
    parts += [_SPAN.pack(span.length, span.chunk_size) for span in spans]
    parts += [_BUFFER.pack(b.storage, b.offset, b.length, b.readonly) for b in recipe.buffers]
    parts += recipe.chunks()
    return b"".join(parts)


def decode(data: bytes) -> Recipe:
    """The inverse of `encode`; ValueError says what does not fit."""
    if data[:4] != _MAGIC:
        raise ValueError(f"a recipe begins with {_MAGIC!r}, this with {data[:4]!r}")
    _magic, span_count, buffer_count = _HEAD.unpack_from(data)
    position = _HEAD.size
    spans_end = position + span_count * _SPAN.size
    buffers_end = spans_end + buffer_count * _BUFFER.size
    sizes = list(_SPAN.iter_unpack(data[position:spans_end]))
    buffers = tuple(
        BufferRef(storage, offset, length, bool(readonly))
        for storage, offset, length, readonly in _BUFFER.iter_unpack(data[spans_end:buffers_end])
    )
    spans = []
    position = buffers_end
    for length, slice_bytes in sizes:
        end = position + _DIGEST_BYTES * -(-length // slice_bytes)
        digests = [data[at : at + _DIGEST_BYTES] for at in range(position, end, _DIGEST_BYTES)]
        spans.append(Span(length, slice_bytes, tuple(digests)))
        position = end
    if position != len(data):
        raise ValueError(f"a recipe of {position} bytes has {len(data)}")
    check_buffers([span.length for span in spans[1:]], buffers)
    return Recipe(spans[0], tuple(spans[1:]), buffers)


def check_buffers(storage_lengths: Sequence[int], buffers: Sequence[BufferRef]) -> None:
    """ValueError if a buffer lies outside its storage."""
    for number, ref in enumerate(buffers):
        length = storage_lengths[ref.storage] if 0 <= ref.storage < len(storage_lengths) else -1
        if not 0 <= ref.offset <= ref.offset + ref.length <= length:
            raise ValueError(f"buffer {number} lies outside its storage: {ref}")
