"""Thins a curve of memory over time for the record. Pure."""

from __future__ import annotations

from collections.abc import Sequence

POINTS = 120


def thinned(
    curve: Sequence[tuple[float, int]], until: float, points: int = POINTS
) -> list[tuple[float, int]]:
    """At most `points` of (seconds relative to `until`, bytes), oldest first.

    Of every stretch of time its highest reading stays, and so does the last one: what led to the
    end must not be averaged away.
    """
    known = sorted(curve)
    if len(known) > points:
        last, stretches = known[-1], points - 1
        begin, length_s = known[0][0], max(known[-1][0] - known[0][0], 1e-9)
        highest: dict[int, tuple[float, int]] = {}
        for at, used in known[:-1]:
            stretch = min(int((at - begin) / length_s * stretches), stretches - 1)
            if stretch not in highest or used >= highest[stretch][1]:
                highest[stretch] = (at, used)
        known = [*(highest[stretch] for stretch in sorted(highest)), last]
    return [(round(at - until, 2), used) for at, used in known]
