"""What the next snapshot may take over from the newest checkpoint: whole units, and clean pages.

Kept in the kernel from one checkpoint to the next, in the main thread while a snapshot is begun.
That a unit is unchanged is proved by `unchanged`, that a page is clean by `dirty_pages`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from . import dirty_pages, intervals, namespace, rebuild, unchanged
from .manifest import Manifest
from .touched import NOTHING, Touched
from .unchanged import Known, Newest, Range, Touches

# So often variables that are one unit are looked at one by one: they may have come apart.
_PARTED_EVERY: Final = 16

Clean = dict[Range, tuple[str, int, list[Range]]]


@dataclass(frozen=True)
class Proved:
    """What one snapshot may take over.

    `clean`: buffers of the newest checkpoint, by address and length: its payload and storage, and
    the address intervals in them that nobody has written to since.
    """

    units: tuple[Known, ...] = ()  # as they are in the newest checkpoint
    together: tuple[tuple[str, ...], ...] = ()  # names that were one unit in it
    clean: Clean = field(default_factory=dict)


class CarryOver:
    """The newest checkpoint, and what can have been changed since."""

    def __init__(self) -> None:
        self.touches: Final = Touches()
        self._newest = Newest()  # without units: look at everything
        self._reachable = NOTHING  # what the functions in the newest checkpoint may touch
        self._pages = dirty_pages.DirtyPages() if dirty_pages.available() is None else None
        self._clean: dict[Range, list[Range]] | None = None  # since the newest checkpoint
        self._settled = 0

    def proved(self, live: dict[str, Any]) -> Proved:
        """What can be taken over now; `live` is the namespace. The user waits."""
        touched = self.touches.taken() | self._reachable
        units = self._newest.unchanged(touched, functools.partial(namespace.identities, live))
        together = self._newest.together if self._settled % _PARTED_EVERY else ()
        return Proved(tuple(units), together, self._clean_pages())

    def _clean_pages(self) -> Clean:
        if self._pages is None:
            return {}
        if dirty_pages.available() is not None:
            self._pages.close()  # or its protection would go on costing the user's writes
            self._pages = None
            return {}
        # Whatever happens from here on: what this look finds written is not asked for again.
        before, self._clean = self._clean, {}
        looked = self._pages.look()
        if before is not None:  # the snapshot before failed: clean means, clean both times
            looked = {
                where: intervals.in_both(unwritten, before[where])
                for where, unwritten in looked.items()
                if where in before
            }
        self._clean = looked
        buffers = self._newest.followed
        self._pages.follow(buffers)
        return {
            where: (*buffers[where], unwritten)
            for where, unwritten in looked.items()
            if where in buffers and unwritten
        }

    def adopt(self, mapped: list[Known]) -> None:
        """A restore has mapped these from the store: what is not written to needs no look."""
        self._newest = Newest(mapped)
        if self._pages is not None:
            self._pages.follow(self._newest.followed)
            self._pages.look()

    def forget(self) -> None:
        """Whatever was wrong: the next snapshot looks at everything, each variable alone."""
        self._newest = Newest()

    def settle(self, newest: Manifest, carried: Iterable[Known], report: dict[str, Any]) -> None:
        """A snapshot was committed; `report`: what it has told of that (`checkpoint.write`)."""
        self._settled += 1
        units = {unit.id: unit for unit in newest.units}
        looked_at = [unchanged.decode(raw, units) for raw in report["known"]]
        taken_over = [
            replace(known, unit=units[known.unit.id])
            for known in carried
            if known.unit.id in units  # its class may have become one that cannot be saved
        ]
        # Never less: a function may become one that cannot be saved, and still be called.
        names, blind, restored = report["reachable"]
        self._reachable |= Touched(frozenset(names), frozenset(names), blind, blind is not None)
        del rebuild.codes[:restored]
        self._clean = None
        self.touches.committed()
        # Last: Ctrl-C in place may have left some of the above as it was before.
        self._newest = Newest([*looked_at, *taken_over])
