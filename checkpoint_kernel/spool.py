"""Pickled streams that wait for their turn, in a file instead of memory.

For checkpoints that are made in place near the memory limit: units are pickled before the first
is written, and their streams together may not fit. The file has no name, and its pages can be
dropped and read again.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from pathlib import Path
from typing import Final

from . import durable

SPOOLED_FROM_BYTES: Final = 1 << 20


class Spool:
    """Takes streams to a directory's disk. Called with one, gives one with the same bytes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __call__(self, stream: bytes | memoryview) -> bytes | memoryview:
        """OSError where the disk is full."""
        if len(stream) < SPOOLED_FROM_BYTES:
            return stream
        with tempfile.TemporaryFile(dir=self._directory) as file:
            fd = file.fileno()
            durable.write_all(fd, stream)
            durable.fsync(fd)  # dirty pages count against the limit, and cannot be dropped
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            return memoryview(mmap.mmap(fd, len(stream), access=mmap.ACCESS_READ))


def in_memory(stream: bytes | memoryview) -> bytes | memoryview:
    """What is done with streams where there is room."""
    return stream
