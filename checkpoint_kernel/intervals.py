"""Sets of addresses as sorted lists of disjoint intervals [start, end)."""

from __future__ import annotations

from collections.abc import Sequence

Interval = tuple[int, int]


def gaps(start: int, end: int, taken: Sequence[Interval]) -> list[Interval]:
    """What of [start, end) is left beside the intervals in it."""
    edges = [start, *(edge for interval in taken for edge in interval), end]
    pairs = zip(edges[0::2], edges[1::2], strict=True)
    return [(left, right) for left, right in pairs if left < right]


def in_both(a: Sequence[Interval], b: Sequence[Interval]) -> list[Interval]:
    """What two sets have in common."""
    both = []
    i = j = 0
    while i < len(a) and j < len(b):
        start, end = max(a[i][0], b[j][0]), min(a[i][1], b[j][1])
        if start < end:
            both.append((start, end))
        if a[i][1] < b[j][1]:
            i += 1
        else:
            j += 1
    return both


def joined(intervals: Sequence[Interval]) -> list[Interval]:
    """The set of intervals that come in any order and touch, but do not overlap."""
    result: list[Interval] = []
    for start, end in sorted(intervals):
        if result and result[-1][1] == start:
            result[-1] = (result[-1][0], end)
        else:
            result.append((start, end))
    return result
