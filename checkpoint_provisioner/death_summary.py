"""Counts deaths over notebooks: how often which cause, and where. Pure.

Records of every version are counted. Cells that were interrupted near the memory limit, whose
kernels lived, are counted apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .repeated import Record, survived


def summarized(records: Sequence[Record]) -> dict[str, Any]:
    """`deaths`, `survived`: totals; `causes`: per cause; `places`, `interrupts`: per place.

    A place is cause, notebook and line of source; the line's number is that of the last time.
    The most frequent stand first, and of those the last that happened.
    """
    died = [record for record in records if not survived(record)]
    lived = [record for record in records if survived(record)]
    causes: dict[str, int] = {}
    for record in died:
        causes[str(record.get("cause"))] = causes.get(str(record.get("cause")), 0) + 1
    return {
        "deaths": len(died),
        "survived": len(lived),
        "causes": [
            {"cause": cause, "count": count}
            for cause, count in sorted(causes.items(), key=lambda pair: (-pair[1], pair[0]))
        ],
        "places": _places(died),
        "interrupts": _places(lived),
    }


def _places(records: Sequence[Record]) -> list[dict[str, Any]]:
    places: dict[tuple[Any, ...], dict[str, Any]] = {}
    for record in sorted(records, key=lambda record: str(record.get("time"))):
        key = tuple(record.get(name) for name in ("cause", "notebook", "source"))
        place = places.setdefault(key, {"count": 0, "first": record.get("time")})
        place |= {name: record.get(name) for name in ("cause", "notebook", "line", "source")}
        place |= {"count": place["count"] + 1, "last": record.get("time")}
    order = ("cause", "notebook", "line", "source", "count", "first", "last")
    newest_first = sorted(places.values(), key=lambda place: str(place["last"]), reverse=True)
    return [
        {name: place[name] for name in order}
        for place in sorted(newest_first, key=lambda place: -place["count"])
    ]
