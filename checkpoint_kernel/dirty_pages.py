"""Which pages of some memory ranges were certainly not written since the last look.

A wrong "unwritten" is data loss, so only this is proof: a page that is protected since then
and still is, or one that reads as zeros then and now because it is not there
(`protected_range`). Restored memory has a proof of its own (`segment_maps`). Everything else
counts as written. Not followed: shared memory, maps of other files, memory that devices write.
A transfer by O_DIRECT of another thread that is under way during a look can be missed.
docs/adr/0007 has the reasons and the measurements.
"""

from __future__ import annotations

import bisect
import errno
import mmap
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from . import contract, cuda, userfaultfd
from .intervals import Interval
from .mappings import Lookup, Maps, mappings
from .protected_range import DENSE, ProtectedRange, TooDense, stride
from .segment_maps import SegmentMaps, TooLong
from .userfaultfd import Unavailable, WriteProtection

# What the main thread may work in one follow(); the rest is done at later calls. Its own time, as
# a busy machine should not have everything looked at.
FOLLOW_LIMIT_S: Final = 0.002
# And in one look() at restored memory; what is not done by then counts as written.
SEGMENTS_LIMIT_S: Final = 0.004
# A range that is written densely, or cannot be followed, rests for so many calls of follow()
# that name it; doubled each time up to the second figure.
FIRST_REST: Final = 8
LONGEST_REST: Final = 256
# Each range splits mappings in two places, and a process has 65,530 (vm.max_map_count).
MOST_RANGES: Final = 4096

_PAGE: Final = mmap.PAGESIZE

Key = tuple[int, int]  # address, length in bytes


@dataclass
class _Rest:
    """A range that is not followed for so many more calls."""

    calls: int
    length: int  # in calls, of this rest or the last one


def available() -> str | None:
    """None where dirty pages can be had, otherwise the reason in one sentence."""
    if os.environ.get(contract.ENV_DIRTY_PAGES) == "off":
        return f"switched off by {contract.ENV_DIRTY_PAGES}"
    if cuda.context_is_live():
        return "a CUDA context is live, and what a GPU writes to memory is not seen"
    return userfaultfd.refusal()


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
        self._protected: dict[Key, ProtectedRange] = {}
        self._restored: dict[Key, SegmentMaps] = {}
        self._rests: dict[Key, _Rest] = {}
        # All that is registered, sorted: no page may be looked at for two ranges.
        self._registered: list[Interval] = []
        # What of it is forgotten, and where the rest of that begins: to unregister 1 GB in
        # 4 KB pages takes 20 ms.
        self._leaving: dict[Interval, int] = {}
        self._devices_wrote = False  # perhaps, as of the last look

    def follow(self, ranges: Iterable[Key]) -> None:
        """Follow the buffers at these (address, length in bytes) from now on, and no others.

        Takes 2 ms at most: what is left is done at the next calls, so name the same ranges
        each time. A range counts as written until it is done, and it is done step by step.
        Never raises for a range that cannot be followed: one that is shared, or of a file, a
        driver, another userfaultfd, less than a page, or overlaps another.
        """
        if not self._here():
            return
        deadline = time.thread_time() + FOLLOW_LIMIT_S
        wanted = {} if self._devices_wrote else dict.fromkeys(ranges)
        for key in self._protected.keys() - wanted.keys():
            self._forget(key)
        for key in self._restored.keys() - wanted.keys():
            del self._restored[key]
        for key in self._rests.keys() - wanted.keys():
            del self._rests[key]
        self._unregister(deadline)
        lookup: Lookup | None = None
        for key in wanted:
            if key in self._restored or self._resting(key):
                continue
            if key not in self._protected:
                if time.thread_time() > deadline or len(self._protected) >= MOST_RANGES:
                    continue
                lookup = lookup or self._lookup()
                self._begin(key, lookup)
            if key in self._protected:
                try:
                    self._protected[key].protect_more(deadline)
                except OSError:
                    self._forget(key)
                    self._let_rest(key)

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
            self._devices_wrote = self._devices_write()
            if self._devices_wrote:
                nothing: dict[Key, list[Interval]]
                nothing = {key: [] for key in (*self._protected, *self._restored)}
                self._forget_all()
                return nothing
            answer = {key: self._look_at(key) for key in list(self._protected)}
            deadline = time.thread_time() + SEGMENTS_LIMIT_S
            for key in list(self._restored):
                answer[key] = self._look_at_restored(key, deadline)
            return answer
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
            return cuda.context_is_live() or self._kernel.pinned_bytes() > 0
        except OSError:
            return True  # code that closes all descriptors has closed ours

    def _lookup(self) -> Lookup:
        try:
            return self._maps.lookup()
        except OSError:
            return lambda address: None

    def _resting(self, key: Key) -> bool:
        rest = self._rests.get(key)
        if rest is None or rest.calls == 0 or key in self._protected:
            return False
        rest.calls -= 1
        return True

    def _let_rest(self, key: Key) -> None:
        before = self._rests.get(key)
        length = FIRST_REST if before is None else min(2 * before.length, LONGEST_REST)
        self._rests[key] = _Rest(length, length)

    def _forget(self, key: Key) -> None:
        here = self._protected.pop(key)
        self._leaving[here.start, here.end] = here.start

    def _forget_all(self) -> None:
        self._restored.clear()
        for key in list(self._protected):
            self._forget(key)

    def _unregister(self, deadline: float) -> None:
        for interval, at in list(self._leaving.items()):
            try:
                while at < interval[1] and time.thread_time() < deadline:
                    end = stride(at, interval[1])
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
            made_of = list(mappings(start, end, lookup))
            if not made_of or made_of[-1].end < end:
                self._let_rest(key)
            elif all(mapping.allocated for mapping in made_of):
                self._kernel.register(start, end)
                self._registered.insert(place, (start, end))
                self._protected[key] = ProtectedRange(self._kernel, start, end)
            elif self._maps.can_query and any(mapping.segment for mapping in made_of):
                self._restored[key] = SegmentMaps(start, end)
            else:
                self._let_rest(key)
        except OSError:
            self._let_rest(key)

    def _look_at(self, key: Key) -> list[Interval]:
        try:
            return self._protected[key].look()
        except TooDense as why:
            self._forget(key)
            self._let_rest(key)
            return why.unwritten
        except OSError as why:
            self._forget(key)
            if why.errno == errno.E2BIG:  # written all over
                self._let_rest(key)
            return []

    def _look_at_restored(self, key: Key, deadline: float) -> list[Interval]:
        here = self._restored[key]
        try:
            unwritten = here.look(self._maps.query, self._kernel.own_pages, deadline)
        except (OSError, TooLong):
            unwritten = []
        else:
            if here.written_bytes <= DENSE * key[1]:
                return unwritten
        del self._restored[key]
        self._let_rest(key)
        return unwritten
