"""The one door to durable files: temporary name, write, fsync, rename, fsync of the directory.

Covers atomic publication of small whole files. Segments, which are streamed, use the same
primitives from `store`. Does not lock: the caller holds the store's lock.

The primitives are module attributes on purpose, so that crash tests can count them, fail
them and die at each of them.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

TEMPORARY_PREFIX = ".tmp-"


def fsync(fd: int) -> None:
    """Flush a file (or directory) descriptor to the disk."""
    os.fsync(fd)


def create(path: Path, mode: int = 0o600) -> int:
    """A write descriptor of a file that did not exist; FileExistsError if it did."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)


def rename(source: Path, target: Path) -> None:
    """Atomically give `source` the name `target`."""
    os.replace(source, target)


def unlink(path: Path) -> None:
    """Remove a file; one that is already gone is fine. Durable after `fsync_directory`."""
    path.unlink(missing_ok=True)


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all bytes; a short write is continued, an error raises OSError."""
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(fd, view) :]


def temporary_name(directory: Path) -> Path:
    """A name in `directory` that no reader takes for a finished file."""
    return directory / f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(6)}"


def fsync_directory(directory: Path) -> None:
    """Make renames inside `directory` durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fsync(fd)
    finally:
        os.close(fd)


def publish(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Make `path` hold exactly `data`, or leave it as it was.

    After a crash at any moment the file is the old one, the new one, or absent if there
    was none before. Raises OSError with the cause (ENOSPC, EROFS, EACCES, ...), having
    removed its temporary file.
    """
    temporary = temporary_name(path.parent)
    fd = create(temporary, mode)
    try:
        try:
            write_all(fd, data)
            fsync(fd)
        finally:
            os.close(fd)
        rename(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_directory(path.parent)
