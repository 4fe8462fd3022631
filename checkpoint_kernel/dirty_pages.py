"""Which pages of some memory ranges were certainly not written since the last look.

A wrong "unwritten" is data loss, so only this is proof: a page that is protected since then
and still is, or one that held nothing of its own then and does not now (it reads as zeros,
or as the segment that is mapped there). Everything else counts as written. What is not seen,
and so not followed: shared memory, maps of files that others may change, memory that
devices write. A transfer by O_DIRECT of another thread that is under way during a look can
be missed. docs/adr/0007 has the measurements.
"""

from __future__ import annotations

import bisect
import errno
import mmap
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from . import contract, intervals, mappings, userfaultfd
from .intervals import Interval
from .mappings import Backing, Lookup, Maps
from .userfaultfd import WRITTEN, Unavailable, WriteProtection

# What the main thread may spend in one follow(); the rest is done at later calls.
FOLLOW_LIMIT_S: Final = 0.002
# A range is protected from its start: so much at first, and GROWTH times as much after each
# look that finds it calm. A first write to a protected page costs 1.3 us, so a loop that
# rewrites 1 GB would pay 0.35 s before it is known as such; this way it pays 0.01 s.
FIRST_STEP_BYTES: Final = 32 << 20
GROWTH: Final = 8
# A range of which more than this part was written at a look rests for so many calls of
# follow() that name it; doubled each time up to the second figure.
DENSE: Final = 0.25
FIRST_REST: Final = 8
LONGEST_REST: Final = 256
# Each range splits mappings in two places, and a process has 65,530 (vm.max_map_count).
MOST_RANGES: Final = 4096

_PAGE: Final = mmap.PAGESIZE
_HUGE_PAGE: Final = 2 << 20
_STRIDE_BYTES: Final = 16 << 20  # 4 KB pages: 0.15 ms to protect, 0.3 ms to unregister
_LOOK_BYTES: Final = 128 << 20  # so often a dense range is noticed, before all is protected anew

Key = tuple[int, int]  # address, length in bytes


@dataclass
class _Followed:
    """A range whose pages in [start, reached) are protected."""

    start: int
    end: int
    backing: Backing
    reached: int
    proved: int  # as far as it was protected when the last look began
    step_bytes: int = FIRST_STEP_BYTES
    # Where pages held nothing of their own at the last look.
    blank: list[Interval] = field(default_factory=list)


@dataclass
class _Rest:
    """A range that is not followed for so many more calls."""

    calls: int
    length: int  # in calls, of this rest or the last one


def available() -> str | None:
    """None where dirty pages can be had, otherwise the reason in one sentence."""
    if os.environ.get(contract.ENV_DIRTY_PAGES) == "off":
        return f"switched off by {contract.ENV_DIRTY_PAGES}"
    return _gpu_in_use() or userfaultfd.refusal()


def _gpu_in_use() -> str | None:
    """Why a GPU may be writing to memory, unseen because no page fault tells; or None."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    is_initialized = getattr(cuda, "is_initialized", None)
    if is_initialized is not None and is_initialized():
        return "a CUDA context is live, and what a GPU writes to memory is not seen"
    return None


class DirtyPages:
    """Follows memory ranges of this process; for its main thread only.

    In a forked child it does nothing and knows nothing.
    """

    def __init__(self) -> None:
        """Raises Unavailable; ask `available()` before."""
        self._pid = os.getpid()
        self._kernel = WriteProtection()
        try:
            self._maps = Maps()
        except OSError as why:
            self._kernel.close()
            raise Unavailable(f"/proc/self/maps cannot be read ({why.strerror})") from why
        self._followed: dict[Key, _Followed] = {}
        self._rests: dict[Key, _Rest] = {}
        # All that is registered, sorted: no page may be looked at for two ranges.
        self._registered: list[Interval] = []
        # What of it is forgotten, and where the rest of that begins: to unregister 1 GB in
        # 4 KB pages takes 20 ms.
        self._leaving: dict[Interval, int] = {}

    def follow(self, ranges: Iterable[Key]) -> None:
        """Follow the buffers at these (address, length in bytes) from now on, and no others.

        Takes 2 ms at most: what is left is done at the next calls, so name the same ranges
        each time. A range counts as written until it is done, and from its first part on it
        is done step by step (FIRST_STEP_BYTES). Never raises for a range that cannot be
        followed: one that is shared, or of a file, a driver, another userfaultfd, less than a
        page, or overlaps another.
        """
        if not self._here():
            return
        deadline = time.monotonic() + FOLLOW_LIMIT_S
        wanted = {} if self._devices_write() else dict.fromkeys(ranges)
        for key in self._followed.keys() - wanted.keys():
            self._forget(key)
        for key in self._rests.keys() - wanted.keys():
            del self._rests[key]
        self._unregister(deadline)
        lookup: Lookup | None = None
        for key in wanted:
            if key not in self._followed and not self._resting(key):
                if time.monotonic() > deadline or len(self._followed) >= MOST_RANGES:
                    continue
                lookup = lookup or self._lookup()
                self._begin(key, lookup)
            if key in self._followed:
                self._protect_more(key, deadline)

    def look(self) -> dict[Key, list[Interval]]:
        """For each followed range the intervals that were not written since the last look().

        What is not in them counts as written, and so does a range that is missing: also all
        that follow() has added since the last look, whichever of the two is called first.
        The next look begins here: what is written while a range is looked at is in the next
        answer at the latest. Whoever fails to save what this look found written must
        remember it. After any error a range is forgotten.
        """
        if not self._here():
            return {}
        try:
            if self._devices_write():
                answer: dict[Key, list[Interval]] = {key: [] for key in self._followed}
                self._forget_all()
                return answer
            return {key: self._look_at(key) for key in list(self._followed)}
        except BaseException:
            # Some ranges were protected anew, and what was known of them is lost here.
            self._forget_all()
            raise

    def close(self) -> None:
        """Follow nothing any more. May be called more than once."""
        self._pid = 0
        self._kernel.close()
        self._maps.close()

    def _here(self) -> bool:
        """False in a forked child, whose inherited descriptors are about its parent."""
        return os.getpid() == self._pid

    def _devices_write(self) -> bool:
        try:
            return _gpu_in_use() is not None or self._kernel.pinned_bytes() > 0
        except OSError:
            return True  # code that closes all descriptors has closed ours

    def _lookup(self) -> Lookup:
        try:
            return self._maps.lookup()
        except OSError:
            return lambda address: None

    def _resting(self, key: Key) -> bool:
        rest = self._rests.get(key)
        if rest is None or rest.calls == 0:
            return False
        rest.calls -= 1
        return True

    def _let_rest(self, key: Key) -> None:
        before = self._rests.get(key)
        length = FIRST_REST if before is None else min(2 * before.length, LONGEST_REST)
        self._rests[key] = _Rest(length, length)

    def _forget(self, key: Key) -> None:
        here = self._followed.pop(key)
        self._leaving[here.start, here.end] = here.start

    def _forget_all(self) -> None:
        for key in list(self._followed):
            self._forget(key)

    def _unregister(self, deadline: float) -> None:
        for interval, at in list(self._leaving.items()):
            try:
                while at < interval[1] and time.monotonic() < deadline:
                    end = min(_huge(at + _STRIDE_BYTES), interval[1])
                    self._kernel.unregister(at, end)
                    at = end
            except OSError:
                at = interval[1]  # it is gone already, or something else is there
            self._leaving[interval] = at
            if at < interval[1]:
                return
            del self._leaving[interval]
            self._registered.remove(interval)

    def _begin(self, key: Key, lookup: Lookup) -> None:
        """Register a new range, unless it cannot be followed."""
        address, length = key
        start, end = -(-address // _PAGE) * _PAGE, (address + length) // _PAGE * _PAGE
        place = bisect.bisect(self._registered, (start, end))
        beside = self._registered[max(place - 1, 0) : place + 1]
        if any(start < other[1] and other[0] < end for other in beside):
            return  # perhaps only until that one has left
        try:
            backing = mappings.backing(start, end, lookup) if start < end else None
            if backing is None:
                self._let_rest(key)
                return
            self._kernel.register(start, end)
        except OSError:
            self._let_rest(key)
            return
        self._registered.insert(place, (start, end))
        self._followed[key] = _Followed(start, end, backing, reached=start, proved=start)

    def _protect_more(self, key: Key, deadline: float) -> None:
        """Protect the next strides of a range, as far as its step and the time allow."""
        here = self._followed[key]
        goal = min(_huge(here.start + here.step_bytes), here.end)
        try:
            while here.reached < goal and time.monotonic() < deadline:
                self._protect_first(here, min(_huge(here.reached + _STRIDE_BYTES), goal))
        except OSError:
            self._forget(key)
            self._let_rest(key)

    def _protect_first(self, here: _Followed, end: int) -> None:
        """Protect [reached, end) for the first time."""
        regions = self._kernel.protect(here.reached, end, here.backing)
        if any(not region.unproved & WRITTEN for region in regions):
            # Marked as protected before we came, perhaps in name only: up to Linux 6.12.10
            # memory that mremap moved keeps the mark and is writable (CVE-2025-21696). Such
            # pages are passed over, and writes to them would be missed.
            self._kernel.unprotect(here.reached, end)
            regions = self._kernel.protect(here.reached, end, here.backing)
            if any(not region.unproved & WRITTEN for region in regions):
                raise OSError(errno.EIO, "pages that cannot be protected anew")
        here.reached = end

    def _look_at(self, key: Key) -> list[Interval]:
        here = self._followed[key]
        unwritten: list[Interval] = []
        blank: list[Interval] = []
        most_bytes = DENSE * (here.reached - here.start)
        written_bytes = 0
        at = here.start
        try:
            while at < here.reached and written_bytes <= most_bytes:
                end = min(_huge(at + _LOOK_BYTES), here.reached)
                regions = self._kernel.protect(at, end, here.backing)
                if regions == [(at, end, 0)]:  # nearly always
                    unwritten.append((at, end))
                else:
                    unwritten += [(r.start, r.end) for r in regions if not r.unproved]
                    blank += intervals.gaps(at, end, [(r.start, r.end) for r in regions])
                    written_bytes += sum(r.end - r.start for r in regions if r.unproved)
                at = end
        except OSError as why:
            self._forget(key)
            if why.errno == errno.E2BIG:  # written all over
                self._let_rest(key)
            return []
        if written_bytes > most_bytes:
            self._forget(key)
            self._let_rest(key)
        elif here.reached >= min(_huge(here.start + here.step_bytes), here.end):
            here.step_bytes *= GROWTH
        if here.blank:
            unwritten += intervals.in_both(here.blank, blank)
        unwritten = intervals.joined(unwritten)
        if here.proved < here.reached:
            unwritten = intervals.in_both(unwritten, [(here.start, here.proved)])
        here.proved, here.blank = here.reached, blank
        return unwritten


def _huge(address: int) -> int:
    """The edge of a huge page at or below: to protect a part of one would split it."""
    return address // _HUGE_PAGE * _HUGE_PAGE
