"""Reducers that installed libraries bring, by entry points of the group below.

Each is a function without arguments that calls `checkpoint_kernel.register`. One whose name is
that of an importable module waits until somebody has imported it: we import no library on our own
initiative. One that fails is said once, and costs nothing else.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from . import registry

GROUP: Final = "checkpoint_kernel.reducers"


class EntryPoints:
    """The entry points that are still to be called. `begin` at start-up, `call_due` at any time."""

    def __init__(self) -> None:
        # Each with the module that it waits for.
        self._left: list[tuple[EntryPoint, str | None]] = []
        self._news: list[str] = []
        # Reading what is installed takes tens of milliseconds, which nobody need wait for.
        self._search = threading.Thread(
            target=self._find, name="checkpoint-kernel-entry-points", daemon=True
        )

    def begin(self) -> None:
        """Look for them in the background."""
        self._search.start()

    def call_due(self, wait_s: float = 5.0) -> list[str]:
        """Call those whose library is there, in the caller's thread; what failed, to be said."""
        if self._search.is_alive():
            self._search.join(wait_s)
        if self._left:
            due = [one for one in self._left if one[1] is None or _is_loaded(one[1])]
            self._left = [one for one in self._left if one not in due]
            for entry, _ in due:
                self._call(entry)
        news, self._news = self._news, []
        return news

    def _call(self, entry: EntryPoint) -> None:
        try:
            registry.call_entry_point(entry.load())
        except BaseException as why:  # somebody else's code
            self._news.append(
                f"the reducers of {entry.name!r} ({entry.value}) are not in use: "
                f"{type(why).__name__}: {' '.join(str(why).split())[:200]}."
            )

    def _find(self) -> None:
        try:
            self._left = [(one, _module_of(one)) for one in entry_points(group=GROUP)]
        except Exception as why:  # metadata that cannot be read
            self._news.append(f"reducers of installed libraries cannot be found: {why!r}.")


def _is_loaded(module: str) -> bool:
    """To the end of its import."""
    spec = getattr(sys.modules.get(module), "__spec__", None)
    return module in sys.modules and not getattr(spec, "_initializing", False)


def _module_of(entry: EntryPoint) -> str | None:
    """The importable module that an entry point is called after, if there is one."""
    if not entry.name.isidentifier():
        return None
    try:
        found = entry.name in sys.modules or importlib.util.find_spec(entry.name) is not None
    except (ImportError, ValueError):
        found = False
    return entry.name if found else None
