"""Which units of the newest checkpoint can be carried over into the next one, unlooked at.

The proof has two halves. When the unit was saved no reference from outside led into it
(`closed`); and no code that can have run since holds one of its names (`touched`). Then
nobody can have reached its objects. What is not proved is looked at again: here "changed"
means "perhaps". Pure: identities of live values are handed in.
"""

from __future__ import annotations

import itertools
import operator
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from .manifest import Unit
from .namespace import output_number
from .touched import NOTHING, Touched, by_python, by_text

Range = tuple[int, int]  # address and length in bytes; of an interval, start and end

# How a cell names outputs without saying which.
_ANY_OUTPUT: Final = frozenset({"_", "__", "___", "Out", "_oh"})
# The first write to a followed page costs a fault, 4 ms for 10 MB: smaller buffers are hashed.
_FOLLOWED_FROM: Final = 32 << 20


@dataclass(frozen=True)
class Known:
    """What the snapshot process found out about a unit that it has saved."""

    unit: Unit
    closed: bool
    identities: dict[str, int]  # variable -> id of its value
    needs: dict[str, int]  # key of a definition in another unit -> id of the definition
    memory: tuple[Range, ...]  # of its storages, in the order of the payload's recipe


def encode(known: Known) -> list[Any]:
    """As JSON, for the report of the snapshot process; the unit itself is in the manifest."""
    return [known.unit.id, known.closed, known.identities, known.needs, known.memory]


def decode(raw: list[Any], units: dict[str, Unit]) -> Known:
    """The inverse of `encode`, given the manifest's units by id."""
    unit_id, closed, identities, needs, memory = raw
    return Known(units[unit_id], closed, identities, needs, tuple((a, n) for a, n in memory))


class Newest:
    """The units of the newest checkpoint, and what must hold for each to be carried over.

    The user waits while all of them are asked, and there may be thousands: so what is asked for
    stands in lists of its own, and no Python code runs for each.
    """

    def __init__(self, units: Iterable[Known] = ()) -> None:
        self.units: Final = tuple(units)
        # Variables that are one unit.
        names = [known.unit.names for known in self.units if len(known.unit.names) > 1]
        self.together: Final = tuple(names)
        # Large buffers: the payload and the storage that hold them.
        self.followed: Final[dict[Range, tuple[str, int]]] = {
            where: (known.unit.payload, number)
            for known in self.units
            for number, where in enumerate(known.memory)
            if where[1] >= _FOLLOWED_FROM
        }
        # A class that was defined anew is another one; this unit's is nameless now.
        self._provable: Final = bytearray(
            known.closed and not any(key.startswith("#") for key in known.needs)
            for known in self.units
        )
        words: list[tuple[str, int]] = []  # that touch a unit, and the unit's place
        variables: list[tuple[str, int, int]] = []  # name, id of its value, place
        outputs: list[tuple[int, int, int]] = []  # its number instead of its name
        shown: list[int] = []  # places of units with outputs
        for place in itertools.compress(itertools.count(), self._provable):
            known = self.units[place]
            for name, oid in itertools.chain(known.identities.items(), known.needs.items()):
                number = output_number(name)
                if number is None:
                    variables.append((name, oid, place))
                else:
                    outputs.append((number, oid, place))
                if name in known.identities:
                    words.append((name if number is None else f"_{number}", place))
                    shown += [] if number is None else [place]
        self._shown: Final = shown
        self._words: Final = [word for word, _ in words]
        self._named: Final = [place for _, place in words]
        self._variables: Final = [name for name, _, _ in variables]
        self._outputs: Final = [number for number, _, _ in outputs]
        self._identities: Final = [oid for _, oid, _ in (*variables, *outputs)]
        self._bound: Final = [place for _, _, place in (*variables, *outputs)]

    def unchanged(
        self, touched: Touched, identities: Callable[[list[str], list[int]], list[int]]
    ) -> list[Known]:
        """The units that are proved to be as they were saved.

        `touched`: by all code since; `identities`: ids of the values that variables, and outputs
        by their numbers, stand for now.
        """
        if touched.blind is not None:
            return []
        words = touched.names | touched.later
        now = identities(self._variables, self._outputs)
        disproved = itertools.chain(
            itertools.compress(self._named, map(words.__contains__, self._words)),
            () if words.isdisjoint(_ANY_OUTPUT) else self._shown,
            itertools.compress(self._bound, map(operator.ne, self._identities, now)),
        )
        proved = bytearray(self._provable)
        for place in disproved:
            proved[place] = False
        return list(itertools.compress(self.units, proved))


@dataclass(frozen=True)
class Transformed:
    """What IPython runs for the text of a cell."""

    python: str


@dataclass
class Touches:
    """What code may have touched since the state that the newest checkpoint holds.

    `begin` and `end` around whatever runs for the user; `taken` when a snapshot is forked,
    then `committed` or `failed`. Code that is running at a fork counts before and after. Cells
    may run in several threads.
    """

    _since: list[str | Transformed | Touched] = field(default_factory=list)  # since the last fork
    _unread: list[str | Transformed | Touched] = field(default_factory=list)  # before it
    _running: list[str | Transformed | Touched] = field(default_factory=list)
    _taken: Touched = NOTHING  # between the newest checkpoint and the last fork
    _lasting: Touched = NOTHING  # what functions of all cells may touch at any time
    _depth: int = 0
    # Reentrant: a snapshot is taken inside pending calls and signal handlers too.
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def begin(self, *texts: str) -> None:
        """The user's code begins to run, perhaps inside other code or beside it."""
        with self._lock:
            self._depth += 1
            self.add(*texts)

    def add(self, *texts: str | Touched) -> None:
        """Code runs, inside what has begun; a `Touched` stands for code that we do not see."""
        # Texts are read when a snapshot is due, when nobody waits.
        with self._lock:
            if self._depth:
                self._running += texts  # first: a snapshot that comes in between begins with it
            self._since += texts

    def becomes(self, text: str, python: str | None) -> None:
        """IPython has made `python` of a text, and runs that: magics, macros and typing errors
        are told apart by it. None: it does not say, as older ones do not."""
        if python is None:
            self.add(text)
            return
        with self._lock:
            # Before the text goes: Ctrl-C may come in between, and the cell begin all the same.
            for texts in (self._running, self._since) if self._depth else (self._since,):
                texts.append(Transformed(python))
            for texts in (self._running, self._since):
                if text in texts:
                    texts.remove(text)

    def end(self) -> None:
        """What `begin` began has ended; other code may still be running."""
        with self._lock:
            self._depth -= 1
            if self._depth == 0:
                self._running.clear()

    def taken(self) -> Touched:
        """A snapshot is forked now: what may differ from the newest checkpoint.

        Whatever is raised, Ctrl-C too, no text is lost: the next call reads what this one has
        not. A text that cannot be read may have touched everything, until it can.
        """
        with self._lock:
            self._unread += self._since  # first: to count twice what ran is harmless
            self._since = list(self._running)
        left: list[str | Transformed | Touched] = []
        for text in dict.fromkeys(self._unread):
            try:
                touched = _touched_by(text)
            except Exception as why:  # deep in a recursion, or out of memory
                left.append(text)
                touched = Touched(blind=f"a text cannot be read ({type(why).__name__}: {why})")
            self._taken |= touched
            self._lasting |= touched.afterwards()
        self._taken |= self._lasting
        self._unread = left
        return self._taken

    def committed(self) -> None:
        """The snapshot of the last `taken` is the newest checkpoint."""
        self._taken = NOTHING

    # After a failure `_taken` stays: the newest checkpoint is the one before.


def _touched_by(text: str | Transformed | Touched) -> Touched:
    match text:
        case Touched():
            return text
        case Transformed(python=python):
            return by_python(python)
    return by_text(text)
