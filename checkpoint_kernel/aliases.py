"""Finds memory that went into a stream although something else lies over it.

An array below 64 KiB is written into its unit's stream, where it has no address any more. A
tensor made of it (`torch.from_numpy`) lies over the same memory but knows nothing of the array,
so neither the pickler nor the addresses of buffers would tell. Units found here are pickled
again with all memory out of band, and together. Covers memory whose range was noted
(`arrays.Memory`); a tensor over a `bytearray` (`torch.frombuffer`) gets memory of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .arrays import address_of
from .pickling import Pickled

_Range = tuple[int, int, int, int]  # start, end, unit, and one of:
_IN_STREAM, _BUFFER, _BORROWED = range(3)


def pairs(units: Sequence[Pickled]) -> Iterator[tuple[int, int]]:
    """Units, by index, that share memory of which some is in a stream; (n, n) within one."""
    if not any(unit.memory.borrowed for unit in units):
        return  # everything lies over memory of its own, or of an owner that the pickler has seen
    group: list[_Range] = []
    end = 0
    for one in sorted(one for number, unit in enumerate(units) for one in _ranges(unit, number)):
        if one[0] >= end:
            yield from _aliased(group)
            group = []
        group.append(one)
        end = max(end, one[1])
    yield from _aliased(group)


def _ranges(unit: Pickled, number: int) -> Iterator[_Range]:
    for start, end in unit.memory.in_stream:
        yield start, end, number, _IN_STREAM
    for start, end in unit.memory.borrowed:
        yield start, end, number, _BORROWED
    for index, buffer in enumerate(unit.buffers):
        raw = buffer.raw()
        address = None if index in unit.private else address_of(raw)
        if address is not None:
            yield address, address + raw.nbytes, number, _BUFFER


def _aliased(group: list[_Range]) -> Iterator[tuple[int, int]]:
    """Pairs of the first unit with the others, if one object's memory is another one's."""
    sorts = [sort for *_, sort in group]
    saved = len(sorts) - sorts.count(_BORROWED)  # what is borrowed stands here twice
    if saved > 1 and _IN_STREAM in sorts and _BORROWED in sorts:
        for _, _, number, _ in group:
            yield group[0][2], number
