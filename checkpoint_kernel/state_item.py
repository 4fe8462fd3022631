"""One item of the interactive state: how it is looked at, what of it is saved, how it is put back.

The tables of items are `state_python`, `state_libraries` and `state_ipython`; what is done with
them is `interactive_state`'s.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


class NotBack(Exception):
    """An item, or a part of it, cannot be put back. The message is the reason that users read."""

    def __init__(self, reason: str, remedy: str | None = "set it again") -> None:
        super().__init__(reason)
        self.remedy = remedy


def _no_words(value: Any) -> str:
    return ""


def _perhaps(before: Any, now: Any) -> bool:
    return True


@dataclass(frozen=True)
class Item:
    """A thing that users set once, and that ends with the process.

    `look(shell)`: a copy of it as it is now, None where there is nothing. `changed(seen, start)`:
    from that, and from what it was when the kernel started, the value that is saved; None where a
    fresh kernel has the same. `put_back(shell, value)` raises NotBack where it cannot be. None of
    them imports a library; values are plain data, or functions and classes of the notebook.
    """

    name: str  # as users read it
    look: Callable[[Any], Any]
    changed: Callable[[Any, Any], Any]
    put_back: Callable[[Any, Any], None]
    # About a value, in brackets: "2 added". None: not worth a word, the library sets it as well.
    words: Callable[[Any], str | None] = _no_words
    first: bool = False  # put back before the units are loaded
    # A `with` block may have set it for a part of a cell, so inside a cell it is saved as it was
    # before that. Looked at in the main thread whenever a cell begins: it takes microseconds.
    scoped: bool = False
    # Whether that can be, from what was looked at before the cell and now.
    in_block: Callable[[Any, Any], bool] = _perhaps
    contextual: bool = False  # scoped, and of the context that cells run in (PEP 567)
    early: bool = False  # looked at before the fork: a forked process could not
    library: str | None = None  # put back only where that is loaded


def loaded(name: str) -> Any:
    """A module if it is there and has been imported to its end."""
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    return None if getattr(spec, "_initializing", False) else module


def differs(one: Any, other: Any) -> bool:
    """Whether two values are not the same; also where comparing them tells nothing."""
    if one is other:
        return False
    try:
        return type(one) is not type(other) or bool(one != other)
    except Exception:  # arrays, or objects of the user's: perhaps they differ
        return True


def changes(seen: dict[Any, Any], start: dict[Any, Any]) -> dict[Any, Any] | None:
    """The entries that are not as they were; None where all are."""
    nothing = object()
    found = {k: v for k, v in seen.items() if differs(v, start.get(k, nothing))}
    return found or None


def each(settings: Iterable[tuple[str, Any]], put_back: Callable[[str, Any], object]) -> None:
    """Put back one by one; NotBack names those that fail."""
    failed = []
    for name, value in settings:
        try:
            put_back(name, value)
        except Exception as why:
            failed.append(f"{name} ({type(why).__name__}: {why})")
    if failed:
        raise NotBack(f"this part of it could not be set: {', '.join(failed)}")


def counted(value: Any) -> str:
    """How many settings there are."""
    return str(len(value))


def listed(value: Any) -> str:
    """Which settings there are."""
    return ", ".join(sorted(map(str, value)))
