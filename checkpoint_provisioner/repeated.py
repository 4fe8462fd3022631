"""Whether a kernel has died this way before, and what those deaths have in common. Pure.

Reads records, those of earlier versions too: a key that is absent has nothing in common.
Deaths count that have the same cause and the same line of source in the same notebook.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from checkpoint_kernel.words import size

from . import clues

INTERRUPT = "memory-cap-interrupt"  # survived: no death
NEAR_CAP = 0.95
WORTH_TELLING_BYTES = 256 << 20  # kernels below hold little but themselves
_ALIKE = 0.1  # sizes that differ by less than a tenth are alike
# From outside, or without a line: they say nothing about the code that ran.
_NOT_OF_THE_CODE = ("server-gone", "terminated", "hung-up", "start-failed")

Record = Mapping[str, Any]


def survived(record: Record) -> bool:
    """Whether the kernel lived on: a cell that was interrupted, and no death."""
    return bool(record.get("survived")) or record.get("cause") == INTERRUPT


def same_place(one: Record, other: Record) -> bool:
    """Whether two records are of the same line: the text counts, cell numbers go on."""
    return bool(one.get("source")) and one.get("source") == other.get("source")


def repeated(record: Record, earlier: Sequence[Record]) -> dict[str, Any] | None:
    """`count`, `first`, `in_common`, `interrupts` and `said`; None for the first of its kind.

    `earlier`: records of the same notebook, oldest first.
    """
    if survived(record) or record.get("cause") in _NOT_OF_THE_CODE:
        return None
    here = [other for other in earlier if same_place(record, other)]
    alike = [o for o in here if o.get("cause") == record.get("cause") and not survived(o)]
    if not alike:
        return None
    deaths = [*alike, record]
    common = in_common(deaths)
    interrupts = sum(survived(other) for other in here)
    return {
        "count": len(deaths),
        "first": deaths[0].get("time"),
        "in_common": common,
        "interrupts": interrupts,
        "said": _said(len(deaths), common, interrupts),
    }


def times(count: int) -> str:
    """`twice`, `3 times`."""
    return "twice" if count == 2 else f"{count} times"


def common_words(common: Sequence[str]) -> str:
    """What the deaths have in common, as a sentence of its own; "" where that is nothing."""
    return f"In common: {'; '.join(common)}." if common else ""


def _said(count: int, common: Sequence[str], interrupts: int) -> str:
    parts = [f"The kernel has now died {times(count)} of this cause at this line."]
    if interrupts:
        were = "once" if interrupts == 1 else times(interrupts)
        parts.append(f"The line was also interrupted {were} near the memory limit.")
    return " ".join([*parts, common_words(common)]).strip()


def in_common(deaths: Sequence[Record]) -> list[str]:
    """Clauses about what all these deaths share, the most telling first."""
    found = (look(deaths) for look in _LOOKS)
    return [words for words in found if words]


# --- what is looked at ---


def _each(deaths: Sequence[Record], read: Callable[[Record], Any]) -> list[Any] | None:
    """What `read` finds in every record; None where one has nothing, or something odd."""
    try:
        values = [read(death) for death in deaths]
    except (AttributeError, KeyError, TypeError, ValueError, IndexError):
        return None
    return None if any(value is None for value in values) else values


def _same(deaths: Sequence[Record], read: Callable[[Record], Any]) -> Any | None:
    """The one value that `read` finds in every record, or None."""
    values = _each(deaths, read)
    return values[0] if values and all(value == values[0] for value in values) else None


def _near_cap(deaths: Sequence[Record]) -> str:
    shares = _each(deaths, lambda d: d["memory"]["peak_bytes"] / d["memory"]["limit_bytes"])
    if not shares or min(shares) < NEAR_CAP:
        return ""
    return f"memory was at the limit (a peak of {min(shares):.0%} of it or more)"


def _memory_alike(deaths: Sequence[Record]) -> str:
    sizes = _each(deaths, lambda d: d["memory"]["rss_bytes"])
    if not sizes or min(sizes) < WORTH_TELLING_BYTES or max(sizes) > min(sizes) * (1 + _ALIKE):
        return ""
    return f"the kernel held about {size(sum(sizes) / len(sizes))}"


def _time_in_cell(deaths: Sequence[Record]) -> str:
    ages = _each(deaths, lambda d: float(d["cell_age_s"]))
    if not ages or max(ages) - min(ages) > max(1.0, 0.2 * max(ages)):
        return ""
    return f"about {sum(ages) / len(ages):.0f} s after the cell began"


def _cell(deaths: Sequence[Record]) -> str:
    return "the same cell, unchanged" if _same(deaths, lambda d: d["cell_source"]) else ""


def _checkpoint(deaths: Sequence[Record]) -> str:
    found = _same(deaths, lambda d: d["restored_from"])
    return f"the kernel had been restored from checkpoint {found}" if found else ""


def _packages(deaths: Sequence[Record]) -> str:
    changes = _same(deaths, lambda d: d["environment_changes"])
    if not isinstance(changes, dict):
        return ""
    names = [
        name
        for key in ("changed", "added", "removed")
        if isinstance(changes.get(key), dict)
        for name in changes[key]
    ]
    if not names:
        return ""
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    return f"these packages had changed before: {shown}"


def _innermost(deaths: Sequence[Record]) -> str:
    def frame(death: Record) -> tuple[str, str] | None:
        frames = clues.current_stack(death["stack"])
        return (frames[0][0], frames[0][2]) if frames else None

    found = _same(deaths, frame)
    if found is None or found[1] == "<module>":
        return ""
    return f"the innermost call was {found[1]} of {'/'.join(found[0].split('/')[-2:])}"


def _last_words(deaths: Sequence[Record]) -> str:
    found = _same(deaths, lambda d: d["explained"][-1]["meaning"])
    return f"the last words on stderr mean the same: {found}" if found else ""


_LOOKS = (
    _near_cap,
    _memory_alike,
    _time_in_cell,
    _cell,
    _innermost,
    _checkpoint,
    _packages,
    _last_words,
)
