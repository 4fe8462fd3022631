"""How much memory variables take, quickly and roughly: who asks may be out of memory already.

Walks along references; of large containers some elements are looked at (`anatomy`), and the rest
is reckoned. Memory counts as far as it is there (`resident_pages`). Never raises: what cannot be
measured counts as nothing, and what was found when time or memory ran out is told.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import time
from bisect import bisect_right
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from .anatomy import Anatomy, Look
from .resident_pages import ResidentPages
from .units import type_name

# Objects looked at for one variable, each for about 3 microseconds and 150 bytes.
_VISITS: Final = 10_000
_SAMPLE: Final = 200
_FEWEST: Final = 2
_LOOKS_BETWEEN_CLOCKS: Final = 32
_CONTAINERS: Final = frozenset(map(id, (dict, list, tuple, set, frozenset, OrderedDict)))
# One variable may take this share of the time that is left; what it leaves is for the others.
_SHARE: Final = 1 / 4


class Sized(NamedTuple):
    """A variable; several names of one object stand together: `a, b`."""

    name: str
    size_bytes: int
    type: str


def of(value: Any, deadline: float) -> int:
    """Bytes that a value takes, as far as was seen until `deadline` (time.monotonic())."""
    try:
        with _walking(()) as walk:
            return walk.measure(value, deadline)
    except Exception:  # MemoryError, most of all
        return 0


def largest(namespace: dict[str, Any], count: int, limit_s: float) -> list[Sized]:
    """The `count` largest variables, largest first, looked for during `limit_s` seconds.

    What several of them share counts once: for an array itself before what holds it.
    """
    until = time.monotonic() + limit_s
    found: list[Sized] = []
    try:
        with _walking((namespace, sys.modules)) as walk:
            objects = _by_object(namespace, walk)
            for to_come, (value, names) in zip(range(len(objects), 0, -1), objects, strict=True):
                now = time.monotonic()
                if now > until:
                    break
                share = max(_SHARE, 1 / to_come)
                size_bytes = walk.measure(value, now + share * (until - now))
                found.append(Sized(", ".join(names), size_bytes, type_name(value)))
        found.sort(key=lambda one: -one.size_bytes)
    except Exception:  # as above: what was found is better than nothing
        pass
    return found[:count]


@contextlib.contextmanager
def _walking(never: tuple[Any, ...]) -> Iterator[_Walk]:
    """A walk that never counts some objects, undisturbed by collections (seconds, perhaps)."""
    walk, collects = _Walk(never), gc.isenabled()
    gc.disable()
    try:
        yield walk
    finally:
        if collects:
            gc.enable()
        walk.close()


def _by_object(namespace: dict[str, Any], walk: _Walk) -> list[tuple[Any, list[str]]]:
    """Each object with all its names; arrays before what may hold them."""
    found: dict[int, tuple[Any, list[str]]] = {}
    for name, value in list(namespace.items()):
        found.setdefault(id(value), (value, []))[1].append(name)
    return sorted(found.values(), key=lambda one: walk.rank(one[0]))


class _Counted:
    """An object or a range of memory that was counted: for how many like it, for which variable."""

    __slots__ = ("end", "size_bytes", "variable", "weight")

    def __init__(self, size_bytes: int, weight: float, variable: int, end: int = 0) -> None:
        self.size_bytes = size_bytes
        self.weight = weight
        self.variable = variable
        self.end = end  # of a range


class _Walk:
    """Counts each object once, over all that it measures."""

    def __init__(self, never: tuple[Any, ...]) -> None:
        self._anatomy = Anatomy()
        self._pages = ResidentPages()
        self._seen = {id(value): _Counted(0, 1.0, 0) for value in never}
        self._ranges: dict[int, _Counted] = {}  # by start; they do not overlap
        self._starts: list[int] = []  # sorted
        self._queue: deque[tuple[Any, float]] = deque()
        self._variable = 0
        self._total = 0.0
        self._left = 0  # objects that may still be looked at

    def close(self) -> None:
        self._pages.close()

    def rank(self, value: Any) -> int:
        return self._anatomy.rank(value)

    def measure(self, value: Any, deadline: float) -> int:
        """Bytes of what a value leads to and nothing before it did."""
        self._variable += 1
        self._total = 0.0
        queue = self._queue = deque([(value, 1.0)])
        self._left = _VISITS
        looks = 0
        while queue:
            looks += 1
            if looks % _LOOKS_BETWEEN_CLOCKS == 0 and time.monotonic() > deadline:
                break
            one, weight = queue.popleft()
            # The more wait, the fewer of each one's parts join them; in the end none.
            fair = self._left // (len(queue) + 1)
            limit = min(max(fair, _FEWEST), _SAMPLE) if self._left > 0 else 0
            try:
                self._visit(one, weight, limit)
            except MemoryError:
                raise
            except Exception:  # a map that is closed, an object that another thread changes
                continue
        return max(int(self._total), 0)

    def _visit(self, value: Any, weight: float, limit: int) -> None:
        counted = self._seen.get(id(value))
        if counted is None:
            look = self._anatomy.look(value, limit or _FEWEST)
            self._seen[id(value)] = _Counted(look.own_bytes, weight, self._variable)
            self._total += look.own_bytes * weight
            self._enter(look, weight, limit)
        elif self._is_fewer(counted, weight) and limit:  # so are its parts
            self._enter(self._anatomy.look(value, limit), counted.weight, limit)

    def _is_fewer(self, counted: _Counted, weight: float) -> bool:
        """What samples have met twice is one thing that they share, and not one of many."""
        if counted.weight == 1.0 or counted.variable != self._variable:
            return False
        fewer = weight if weight < counted.weight else 1.0
        self._total -= counted.size_bytes * (counted.weight - fewer)
        counted.weight = fewer
        return True

    def _enter(self, look: Look, weight: float, limit: int) -> None:
        for start, end in look.memory:
            self._count_range(start, end, weight)
        if not limit:
            return
        for part in look.besides:
            self._wait(part, weight)
        if look.factor <= 1.0:
            for part in look.parts:
                self._wait(part, weight)
            return
        times = Counter(map(id, look.parts))
        for part in look.parts:
            alone = times[id(part)] == 1
            self._wait(part, weight * look.factor if alone else weight)

    def _wait(self, part: Any, weight: float) -> None:
        """Queue what leads on; most parts are texts and numbers, which are counted at once."""
        cls = type(part)
        self._left -= 1
        if cls is str or cls is int or cls is float:
            counted = self._seen.get(id(part))
            if counted is None:
                size_bytes = part.__sizeof__()
                self._seen[id(part)] = _Counted(size_bytes, weight, self._variable)
                self._total += size_bytes * weight
            else:
                self._is_fewer(counted, weight)
        elif id(cls) in _CONTAINERS and not part:
            self._total += part.__sizeof__() * weight
        elif part is not None and cls is not bool:
            self._queue.append((part, weight))

    def _count_range(self, start: int, end: int, weight: float) -> None:
        """What of it was not counted before."""
        while start < end:
            place = bisect_right(self._starts, start)
            before = self._ranges[self._starts[place - 1]] if place else None
            if before is not None and before.end > start:
                self._is_fewer(before, weight)
                start = before.end
                continue
            stop = min([end, *self._starts[place : place + 1]])
            size_bytes = self._pages.of(start, stop)
            self._starts.insert(place, start)
            self._ranges[start] = _Counted(size_bytes, weight, self._variable, stop)
            self._total += size_bytes * weight
            start = stop
