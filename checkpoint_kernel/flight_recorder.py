"""A small memory-mapped file that the kernel keeps current and that outlives it.

Two slots are written in turn, each with a sequence number and a CRC, so that a kernel
killed in the middle of a write leaves the record before it. It is a record for a
post-mortem, not a durable one: it survives the process, not the machine.
"""

from __future__ import annotations

import dataclasses
import json
import mmap
import os
import struct
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SLOT_BYTES = 16 * 1024
_HEADER = struct.Struct("<QII")  # sequence, length of the JSON, its CRC-32
SOURCE_LIMIT = 6000  # characters of a cell's source kept in the record


@dataclass(frozen=True)
class Flight:
    """What the kernel was doing, as of its last word. Times are seconds since the epoch."""

    pid: int = 0
    state: str = "starting"  # starting, restoring, idle, busy, exiting
    execution_count: int | None = None  # of the running cell, or of the last one
    cell_source: str = ""  # of the running cell, or of the last one; cut at SOURCE_LIMIT
    cell_file: str | None = None  # the file name that tracebacks show for that cell
    cell_started: float | None = None
    line: int | None = None  # in that cell, from 1, sampled a few times a second
    cells_started: int = 0  # cells with store_history begun in this session
    moved: float | None = None  # when its main thread was last seen to have moved, in a cell
    stacks_tid: int | None = None  # native id of the thread that waits for STACKS_SIGNAL
    clock_tid: int | None = None  # of the clock thread, which a signal does not disturb
    rss_bytes: int = 0
    sampled: float = 0.0
    checkpoint: str | None = None  # newest committed checkpoint of this session
    checkpoint_time: float | None = None
    snapshot_pid: int | None = None  # the snapshot process, while one lives
    snapshots_killed: int = 0  # snapshot processes that ended by SIGKILL
    lifted: bool = False  # RLIMIT_DATA is to be left alone: a restore maps more than it may use
    data_limit: int | None = (
        None  # what the kernel has raised its RLIMIT_DATA to, until the next tick
    )
    users_data_limit: int | None = None  # RLIMIT_DATA as the user's code has set it, if it has
    maps_restored: bool = False  # a restore by hand has mapped files of the store
    memory_interrupts: int = 0  # how often the guard's signal was raised in a cell
    cells_ended: int = 0  # cells that ended for want of memory, by that or by an allocation
    restoring_unit: str | None = None  # the unit that is being loaded right now
    restoring_until: float | None = None  # time.monotonic() after which that is a hang
    restore_done: bool = False
    shutdown: str | None = None  # "restart" or "shutdown": a shutdown_request has arrived
    sent_itself: str | None = None  # a signal that the kernel was about to send itself: "SIGKILL"
    exiting: str | None = None  # why the kernel is leaving: "exit()", "os._exit(3)", "SIGTERM",
    # "parent gone", "atexit"; None if it did not know that it was going to


class FlightRecorder:
    """The kernel's side: `update(line=7)` changes fields and writes the record."""

    def __init__(self, path: Path) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                # Not ftruncate: writing to a hole of a full disk is SIGBUS.
                os.posix_fallocate(fd, 0, 2 * _SLOT_BYTES)
                self._map = mmap.mmap(fd, 2 * _SLOT_BYTES)
            except OSError:  # the kernel works without a record that outlives it
                self._map = mmap.mmap(-1, 2 * _SLOT_BYTES)
        finally:
            os.close(fd)
        self._pid = os.getpid()
        self._sequence = 0
        self._lock = threading.RLock()  # a signal handler may come while we write
        self._fields: dict[str, Any] = {}
        self.flight = Flight()
        self.update(pid=os.getpid())

    def update(self, **fields: Any) -> None:
        """Change the named fields of `Flight` and write the record. Nothing in a forked child."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            if "cell_source" in fields:
                fields["cell_source"] = fields["cell_source"][:SOURCE_LIMIT]
            self._fields.update(fields)
            self.flight = Flight(**self._fields)
            self._write()

    def _write(self) -> None:
        while True:
            self._sequence += 1
            sequence = self._sequence
            body = json.dumps(vars(self.flight)).encode()
            if len(body) > _SLOT_BYTES - _HEADER.size:  # non-ASCII source, escaped six times
                short = dataclasses.replace(
                    self.flight, cell_source=self.flight.cell_source[: SOURCE_LIMIT // 6]
                )
                body = json.dumps(vars(short)).encode()
            start = (sequence % 2) * _SLOT_BYTES
            header = _HEADER.pack(sequence, len(body), zlib.crc32(body))
            end = start + _HEADER.size + len(body)
            self._map[start : start + _HEADER.size] = bytes(_HEADER.size)
            self._map[start + _HEADER.size : end] = body
            self._map[start : start + _HEADER.size] = header
            if sequence == self._sequence:
                return
            # A handler has written a newer record meanwhile, perhaps into this very slot.


def read(path: Path) -> Flight | None:
    """The newest whole record, or None if the kernel never wrote one (or there is no file)."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    best: tuple[int, bytes] | None = None
    for start in (0, _SLOT_BYTES):
        slot = data[start : start + _SLOT_BYTES]
        if len(slot) < _HEADER.size:
            continue
        sequence, length, crc = _HEADER.unpack_from(slot)
        body = slot[_HEADER.size : _HEADER.size + length]
        whole = sequence > 0 and len(body) == length and zlib.crc32(body) == crc
        if whole and (best is None or sequence > best[0]):
            best = (sequence, body)
    if best is None:
        return None
    known = {field.name for field in dataclasses.fields(Flight)}
    return Flight(**{k: v for k, v in json.loads(best[1]).items() if k in known})
