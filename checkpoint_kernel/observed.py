"""What was seen of the cells while they ran: which names each bound, and which raised an error.

A text tells less: a cell may not have got so far, and functions and magics bind names too. Looks
at the namespace's bindings only, before and after a cell; no object is touched or kept.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable
from typing import Any, Final

# A namespace with more names than this would be compared for longer than a cell's end may take.
_LIMIT_NAMES: Final = 3_000


class Observed:
    """Kept by the kernel, in its main thread; a snapshot process reads its copy."""

    def __init__(self) -> None:
        self.bound_in: dict[str, int] = {}  # name -> the cell that bound it last
        self.failed: set[int] = set()  # cells
        self._before: dict[str, int] | None = None

    def adopt(self, bound_in: dict[str, int], failed: Iterable[int]) -> None:
        """What the checkpoint that was restored knows; the numbering goes on."""
        self.bound_in.update(bound_in)
        self.failed.update(failed)

    def learn(self, bound_in: dict[str, int]) -> None:
        """What was found in the texts of cells, for names that nothing else is known of."""
        self.bound_in = {**bound_in, **self.bound_in}

    def begins(self, namespace: dict[str, Any]) -> None:
        """A cell is about to run."""
        self._before = _identities(namespace)

    def ended(self, namespace: dict[str, Any], number: int, failed: bool = False) -> None:
        """It has run; `number` is its In[n]."""
        if failed:
            self.failed.add(number)
        self.bound_in = self.by_now(namespace, number)
        self._before = None

    def by_now(self, namespace: dict[str, Any], number: int | None) -> dict[str, int]:
        """`bound_in`, with what the cell that is running has bound so far."""
        before = self._before
        if len(namespace) > _LIMIT_NAMES:
            return {}  # the texts of the cells must do
        if number is None or before is None:
            return self.bound_in
        # No Python code runs for each name. One that stands for a new object at the address of
        # the old one is not seen.
        now = dict(namespace)  # at once: another thread may be adding names
        differs = map(operator.ne, map(before.get, now), map(id, now.values()))
        bound = list(itertools.compress(now, differs))
        gone = before.keys() - now.keys()
        if not bound and not gone:
            return self.bound_in
        known = {name: where for name, where in self.bound_in.items() if name not in gone}
        return {**known, **dict.fromkeys(bound, number)}

    def passes_over(self, namespace: dict[str, Any], names: Iterable[str] = ()) -> None:
        """What was bound just now was not made by the cell that runs; `names`: by none here."""
        for name in names:
            self.bound_in.pop(name, None)
        if self._before is not None:
            self._before = _identities(namespace)


def _identities(namespace: dict[str, Any]) -> dict[str, int] | None:
    if len(namespace) > _LIMIT_NAMES:
        return None
    now = dict(namespace)  # at once: another thread may be adding names
    return dict(zip(now, map(id, now.values()), strict=True))
