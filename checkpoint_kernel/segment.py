"""Segment files: immutable runs of chunks with an index at the end. Reading and writing one.

    header   64 bytes   magic, format, creation time (ns), boot id of the writing machine
    chunks              slices of large buffers start on a page; small ones are packed
    index               48 bytes a chunk: digest, offset, length, encoding
    footer   64 bytes   offset and length of the index, BLAKE3 of header + index, magic

The name is the first half of that BLAKE3. Which chunks are needed, by what, and where a
digest is found among many segments is `store`'s; nothing here is locked or remembered.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from blake3 import blake3

from . import durable

FORMAT: Final = 1
SUFFIX: Final = ".seg"
PAGE: Final = 4096
RAW: Final = 0  # the encoding of a chunk; 0 is the only one in format 1
FLUSH_BYTES: Final = 32 << 20

_MAGIC: Final = b"CKPTSEG\n"
_END: Final = b"\nCKPTEND"
_HEADER: Final = struct.Struct("<8sIIQ16s24x")
_ENTRY: Final = struct.Struct("<32sQIB3x")
_FOOTER: Final = struct.Struct("<QQ32s8x8s")
_TAIL_BYTES: Final = 64 << 10  # read at once when a segment is opened; holds 1,300 entries
_PENDING_BYTES: Final = 256 << 10  # small chunks are gathered up to this before a write


class StoreError(Exception):
    """Something in the store cannot be used; the message names it, the place and the remedy."""


class DamagedSegment(StoreError):
    """A segment file is not what was written. `kind` is as `check` spells it."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Entry(NamedTuple):
    """Where a chunk lies in its segment. A tuple: opening a store makes one a chunk."""

    digest: bytes
    offset: int
    length: int
    encoding: int


@dataclass(frozen=True)
class Segment:
    """An open (that is, indexed) segment. The file itself is opened only to read chunks."""

    path: Path
    created_ns: int
    boot_id: bytes
    size_bytes: int
    index: bytes

    def entries(self) -> Iterator[Entry]:
        """All chunks, in the order of their offsets."""
        return map(Entry._make, _ENTRY.iter_unpack(self.index))


def digest_of(data: bytes | bytearray | memoryview) -> bytes:
    """BLAKE3, 32 bytes. Starts no thread: the snapshot process must not."""
    return blake3(data).digest()


def machine_boot_id() -> bytes:
    """16 bytes that change with every boot; zeros where the system does not say."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text("ascii")
        return bytes.fromhex(text.strip().replace("-", ""))
    except (OSError, ValueError):
        return bytes(16)


def read_index(path: Path) -> Segment:
    """Read and verify header, index and footer of one segment.

    Raises DamagedSegment (kinds `segment-truncated`, `index-damaged`, `unknown-format`)
    or OSError.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        header = os.pread(fd, _HEADER.size, 0)
        tail_start = max(0, size - _TAIL_BYTES)
        tail = os.pread(fd, size - tail_start, tail_start)
        if len(header) == _HEADER.size:
            magic, version, *_ = _HEADER.unpack(header)
            if magic == _MAGIC and version > FORMAT:
                raise DamagedSegment(
                    "unknown-format",
                    f"segment {path} has format {version}, this version reads up to {FORMAT}: "
                    "update checkpoint-kernel",
                )
        if size < _HEADER.size + _FOOTER.size or not tail.endswith(_END):
            raise DamagedSegment(
                "segment-truncated", _damage(path, f"its end is missing ({size} bytes are there)")
            )
        offset, length, expected, _end = _FOOTER.unpack_from(tail, len(tail) - _FOOTER.size)
        if offset + length + _FOOTER.size != size or length % _ENTRY.size:
            raise DamagedSegment("index-damaged", _damage(path, "its footer is wrong"))
        index = tail[offset - tail_start : -_FOOTER.size] if offset >= tail_start else b""
        if offset < tail_start:
            index = os.pread(fd, length, offset)
    finally:
        os.close(fd)
    if digest_of(header + index) != expected:
        raise DamagedSegment("index-damaged", _damage(path, "its header or index was altered"))
    if path.stem != expected.hex()[:32]:
        raise DamagedSegment("index-damaged", _damage(path, "its name is not that of its index"))
    _magic, _version, _reserved, created_ns, boot_id = _HEADER.unpack(header)
    return Segment(path, created_ns, boot_id, size, index)


def _damage(path: Path, what: str) -> str:
    return f"segment {path}: {what}; `jupyter checkpoint check` lists what it affects"


class SegmentWriter:
    """Writes one segment under a temporary name; `finish` gives it its own.

    The temporary file is made at once, by the process that calls this: nothing is
    inherited over a fork.
    """

    def __init__(self, directory: Path, boot_id: bytes, near_cap: bool = False) -> None:
        self.directory = directory
        self._path = durable.temporary_name(directory)
        self._header = _HEADER.pack(_MAGIC, FORMAT, 0, time.time_ns(), boot_id)
        self._near_cap = near_cap
        self._entries = bytearray()
        self._pending = bytearray(self._header)  # not written yet
        self._position = len(self._header)  # of the next chunk, pending bytes counted
        self._flushed = 0
        self._fd = durable.create(self._path)

    @property
    def bytes_written(self) -> int:
        """Size of the file so far."""
        return self._position

    def append(self, digest: bytes, data: bytes | memoryview, aligned: bool) -> Entry:
        """Store one chunk; `aligned` ones start on a page, so that runs can be mapped."""
        if aligned:
            padding = -self._position % PAGE
            self._pending += bytes(padding)
            self._position += padding
        entry = Entry(digest, self._position, len(data), RAW)
        self._entries += _ENTRY.pack(digest, self._position, len(data), RAW)
        if len(data) < _PENDING_BYTES:
            self._pending += data
            if len(self._pending) >= _PENDING_BYTES:
                self._drain()
        else:
            self._drain()
            durable.write_all(self._fd, data)
        self._position += len(data)
        if self._position - self._flushed >= FLUSH_BYTES:
            self._flush()
        return entry

    def _drain(self) -> None:
        if self._pending:
            durable.write_all(self._fd, self._pending)
            self._pending = bytearray()

    def _flush(self) -> None:
        """Start the write-back, so that the last fsync is short and dirty pages stay few."""
        if self._near_cap:  # wait, and drop the pages: all of them count against the cap
            durable.fsync(self._fd)
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
        else:
            # On dirty pages this only begins the write-back (mm/fadvise.c); the pages stay,
            # and a restore soon after reads from memory.
            os.posix_fadvise(self._fd, self._flushed, 0, os.POSIX_FADV_DONTNEED)
        self._flushed = self._position

    def finish(self) -> Segment:
        """Index, footer, fsync, rename, fsync of the directory. On failure, call `discard`."""
        digest = digest_of(self._header + self._entries)
        self._pending += self._entries
        self._pending += _FOOTER.pack(self._position, len(self._entries), digest, _END)
        self._drain()
        os.fchmod(self._fd, 0o444)
        durable.fsync(self._fd)
        if self._near_cap:
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
        size = os.fstat(self._fd).st_size
        expected = self._position + len(self._entries) + _FOOTER.size
        if size != expected:
            raise OSError(f"{self._path} has {size} bytes after writing {expected}")
        path = self.directory / f"{digest.hex()[:32]}{SUFFIX}"
        durable.rename(self._path, path)
        self._path = path  # still ours to discard: nothing refers to it yet
        os.close(self._fd)
        self._fd = -1
        durable.fsync_directory(self.directory)
        return read_index(path)

    def discard(self) -> None:
        """Remove the file, under whichever name it has. Not after a `finish` that returned."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        durable.unlink(self._path)
