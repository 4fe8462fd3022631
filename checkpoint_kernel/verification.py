"""Verifies, after a restore, what the restore has mapped instead of reading it.

What this guarantees: a pickle stream is verified before anything is unpickled, and so is every
buffer that was read. A buffer that was mapped shows the bytes of its file from the moment of the
restore, and they are verified here, within seconds to minutes. Until then a variable may hold what
a damaged disk made of it, and cells that use it, and checkpoints taken of it, have the same. A
mismatch is never silent: it names the variables before the next cell.

Reads the file, never the user's memory: what the user has written there would be no damage. Does
not repair anything, and does not look at what no restore has mapped (`check` does).
"""

from __future__ import annotations

import collections
import contextlib
import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .chunk_reader import Location, Reader, read_chunk
from .manifest import Manifest
from .segment import Entry, Segment, StoreError

if TYPE_CHECKING:
    from .store import Store

# Works for a turn of CPU time, then rests three times as long: a quarter of one core at most.
_TURN_S: Final = 0.02
_REST: Final = 3.0
_NICE: Final = 10
# Files that are kept open, so that a prune meanwhile takes nothing away. Others are opened by name.
_HELD_OPEN: Final = 32


@dataclass(frozen=True)
class Damage:
    """Bytes of restored variables that are not those that were saved."""

    checkpoint: str  # id of the one that was restored
    names: tuple[str, ...]  # of the unit: which of them has the bytes is not known
    damaged_bytes: int
    digests: frozenset[bytes]  # of the chunks
    reason: str  # which file, and what is wrong with it


@dataclass(frozen=True)
class _Task:
    checkpoint: str
    names: tuple[str, ...]
    segment: Segment
    entry: Entry


class Verification:
    """The background verification of one store. `add` what was mapped, then `begin`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()  # of the three below
        self._tasks: collections.deque[_Task] = collections.deque()
        self._working = False
        self._held: dict[Path, int] = {}
        self._thread: threading.Thread | None = None  # the last one
        self._stopped = threading.Event()
        self._damages: collections.deque[Damage] = collections.deque()
        self._results: dict[tuple[Path, int], str | None] = {}  # by place: None is whole

    def add(
        self, checkpoint: str, names: tuple[str, ...], mapped: Iterable[Location], reader: Reader
    ) -> None:
        """Note the chunks that a restore has just mapped for some variables, through `reader`."""
        with self._lock:
            for segment, entry in mapped:
                path, fd = segment.path, reader.descriptor(segment)
                if fd is not None and path not in self._held and len(self._held) < _HELD_OPEN:
                    self._held[path] = os.dup(fd)
                self._tasks.append(_Task(checkpoint, names, segment, entry))

    def begin(self) -> None:
        """Start the thread, unless there is nothing to do or it is at work."""
        with self._lock:
            if self._tasks and not self._working:
                self._working = True
                self._stopped.clear()
                self._thread = threading.Thread(
                    target=self._run, name="checkpoint-kernel-verification", daemon=True
                )
                self._thread.start()

    def stop(self, wait_s: float = 1.0) -> None:
        """Ask the thread to end after the chunk that it is reading, and wait for it."""
        self._stopped.set()
        self.finish(wait_s)

    def finish(self, wait_s: float) -> bool:
        """Wait until everything is verified; whether it is."""
        if self._thread is not None:
            self._thread.join(wait_s)
        return not (self._tasks or self._working)

    @property
    def remaining_bytes(self) -> int:
        """What is mapped and not yet verified."""
        return sum(task.entry.length for task in tuple(self._tasks))

    def damages(self) -> list[Damage]:
        """What was found since this was last asked, one entry for each unit."""
        found: dict[tuple[str, tuple[str, ...]], list[Damage]] = {}
        while self._damages:
            damage = self._damages.popleft()
            found.setdefault((damage.checkpoint, damage.names), []).append(damage)
        return [
            Damage(
                checkpoint,
                names,
                sum(damage.damaged_bytes for damage in parts),
                frozenset().union(*(damage.digests for damage in parts)),
                parts[0].reason,
            )
            for (checkpoint, names), parts in found.items()
        ]

    def announcements(self) -> list[tuple[Damage, Manifest | None]]:
        """`damages`, each with the newest earlier checkpoint that has those bytes whole."""
        return [(damage, whole_before(self._store, damage)) for damage in self.damages()]

    # --- the thread -----------------------------------------------------------------------

    def _run(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # Linux: of this thread alone
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        buffer = bytearray()
        began = time.thread_time()
        while (task := self._next()) is not None:
            if len(buffer) < task.entry.length:
                buffer = bytearray(task.entry.length)
            self._verify(task, memoryview(buffer)[: task.entry.length])
            worked_s = time.thread_time() - began
            if worked_s >= _TURN_S:
                self._stopped.wait(worked_s * _REST)
                began = time.thread_time()

    def _next(self) -> _Task | None:
        """What is verified next; None ends the thread."""
        with self._lock:
            if self._tasks and not self._stopped.is_set():
                return self._tasks.popleft()
            self._working = False
            self._results.clear()
            for fd in self._held.values():
                os.close(fd)
            self._held.clear()
            return None

    def _verify(self, task: _Task, into: memoryview) -> None:
        place = (task.segment.path, task.entry.offset)
        if place not in self._results:  # an array of ones is one chunk, mapped a thousand times
            self._results[place] = self._examine(task, into)
        reason = self._results[place]
        if reason is not None:
            self._damages.append(
                Damage(
                    task.checkpoint,
                    task.names,
                    task.entry.length,
                    frozenset({task.entry.digest}),
                    reason,
                )
            )

    def _examine(self, task: _Task, into: memoryview) -> str | None:
        """What is wrong with a chunk, or None."""
        path = task.segment.path
        try:
            fd = self._held.get(path, -1)
            if fd >= 0:
                whole = read_chunk(fd, task.entry, into)
            else:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    whole = read_chunk(fd, task.entry, into)
                finally:
                    os.close(fd)
        except OSError as why:
            self._store.note_damaged(task.segment, task.entry)
            return f"{path.name} cannot be read: {why.strerror or why}"
        if whole:
            self._store.note_verified(task.segment, task.entry)
            return None
        self._store.note_damaged(task.segment, task.entry)
        return f"the bytes in {path.name} are not those that were written"


def whole_before(store: Store, damage: Damage) -> Manifest | None:
    """The newest checkpoint before the damaged one in which a unit's damaged bytes are others."""
    everything = store.manifests()
    seq = next((m.seq for m in everything if m.id == damage.checkpoint), 0)
    with store.reader() as reader:
        for earlier in reversed([m for m in everything if m.seq < seq]):
            units = [unit for unit in earlier.units if not set(damage.names).isdisjoint(unit.names)]
            if {name for unit in units for name in unit.names}.issuperset(damage.names):
                digests = [bytes.fromhex(unit.payload) for unit in units]
                try:
                    chunks = {c for digest in digests for c in reader.recipe(digest).chunks()}
                except (StoreError, OSError):
                    continue
                if chunks.isdisjoint(damage.digests) and all(map(store.locate, chunks)):
                    return earlier
    return None
