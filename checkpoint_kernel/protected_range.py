"""One range of memory that is protected piece by piece, and what its pages prove.

How fast the protection grows, what a look proves, and when a range is written too densely to
be worth it. Which ranges there are, and when they rest, is `dirty_pages`'.
"""

from __future__ import annotations

import errno
import time
from typing import Final

from . import intervals
from .intervals import Interval
from .userfaultfd import WriteProtection

# A range is protected from its start: so much at first, and GROWTH times as much after each
# look that finds it calm. A first write to a protected page costs 1.4 us, so a loop that
# rewrites 1 GB would pay 0.37 s before it is known as such; this way it pays 0.012 s.
FIRST_STEP_BYTES: Final = 32 << 20
GROWTH: Final = 8
# More than this part written at a look is too dense.
DENSE: Final = 0.25

_HUGE_PAGE: Final = 2 << 20
_STRIDE_BYTES: Final = 16 << 20  # 4 KB pages: 0.15 ms to protect, 0.3 ms to unregister
_LOOK_BYTES: Final = 128 << 20  # so often a dense range is noticed, before all is protected anew


class TooDense(Exception):
    """Too much was written for following the range to pay; `unwritten` is still true."""

    def __init__(self, unwritten: list[Interval]) -> None:
        super().__init__("too much was written")
        self.unwritten = unwritten


class ProtectedRange:
    """A registered range [start, end) of whole pages. The methods raise OSError."""

    def __init__(self, kernel: WriteProtection, start: int, end: int) -> None:
        self.start, self.end = start, end
        self._kernel = kernel
        self._reached = start  # so far it is protected
        self._proved = start  # so far it was protected when the last look began
        self._step_bytes = FIRST_STEP_BYTES
        self._blank: list[Interval] = []  # pages that were not there at the last look

    @property
    def whole(self) -> bool:
        """The next look is about all of it."""
        return self._proved == self.end

    def protect_more(self, deadline: float) -> None:
        """Protect the next strides, as far as the step and the time (`time.thread_time`) allow."""
        goal = self._goal()
        while self._reached < goal and time.thread_time() < deadline:
            end = stride(self._reached, goal)
            regions = self._kernel.protect(self._reached, end)
            if not all(region.written for region in regions):
                # Marked as protected before we came, perhaps in name only: up to Linux 6.12.10
                # memory that mremap moved keeps the mark and is writable (CVE-2025-21696).
                # Such pages are passed over, and writes to them would be missed.
                self._kernel.unprotect(self._reached, end)
                regions = self._kernel.protect(self._reached, end)
                if not all(region.written for region in regions):
                    raise OSError(errno.EIO, "pages that cannot be protected anew")
            self._reached = end

    def look(self) -> list[Interval]:
        """What was not written since the last look; all is protected anew. Raises TooDense."""
        unwritten: list[Interval] = []
        blank: list[Interval] = []
        most_bytes = DENSE * (self._reached - self.start)
        written_bytes = 0
        at = self.start
        while at < self._reached and written_bytes <= most_bytes:
            end = min(_huge(at + _LOOK_BYTES), self._reached)
            regions = self._kernel.protect(at, end)
            if regions == [(at, end, 0)]:  # nearly always
                unwritten.append((at, end))
            else:
                unwritten += [(r.start, r.end) for r in regions if not r.written]
                blank += intervals.gaps(at, end, [(r.start, r.end) for r in regions])
                written_bytes += sum(r.end - r.start for r in regions if r.written)
            at = end
        if self._blank:  # zeros then and now
            unwritten += intervals.in_both(self._blank, blank)
        unwritten = intervals.joined(unwritten)
        if self._proved < self._reached:
            unwritten = intervals.in_both(unwritten, [(self.start, self._proved)])
        if written_bytes > most_bytes:
            raise TooDense(unwritten)
        if self._reached >= self._goal():
            self._step_bytes *= GROWTH
        self._proved, self._blank = self._reached, blank
        return unwritten

    def _goal(self) -> int:
        return min(_huge(self.start + self._step_bytes), self.end)


def stride(at: int, end: int) -> int:
    """The end of the next part of [at, end) that is done in one call, 0.3 ms at most."""
    return min(_huge(at + _STRIDE_BYTES), end)


def _huge(address: int) -> int:
    """The edge of a huge page at or below: to protect a part of one would split it."""
    return address // _HUGE_PAGE * _HUGE_PAGE
