"""What a restore could not bring back is missing until its name is bound again.

Until then every checkpoint names it, and so does the next restore. A name that the user has bound
since, or has deleted, is missed by nobody. Looks at names, and at no object.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from . import locals_unit, namespace
from .manifest import Skipped
from .session import NotRestored


class StillMissing:
    """Kept by the kernel, in its main thread."""

    def __init__(self) -> None:
        self._entries: dict[str, NotRestored] = {}
        self._stubs: set[str] = set()  # of them, those that a Stub stands for

    def restored(self, missing: Iterable[NotRestored], live: dict[str, Any]) -> None:
        """What the restore at this start has not brought back."""
        self._entries = {one.name: one for one in missing if not locals_unit.is_frame(one.name)}
        self._stubs = {n for n in self._entries if namespace.identity(live, n) is not None}

    def restored_by_hand(self, missing: Iterable[NotRestored], live: dict[str, Any]) -> None:
        """Likewise, of another session: its outputs and cells have other numbers."""
        found = {
            one.name: replace(one, made_in=None, made_by=None)
            for one in missing
            if one.name.isidentifier() and one.name != "In"
        }
        self._entries = {**self._entries, **found}
        self._stubs |= {n for n in found if namespace.identity(live, n) is not None}

    def now(self, live: dict[str, Any]) -> list[NotRestored]:
        """What is missing still."""
        return [one for one in self._entries.values() if not self._is_found(one.name, live)]

    def cell_ended(self, live: dict[str, Any], text: str) -> None:
        """What is there now is missed no more if it goes; nor what the cell has deleted."""
        if not self._entries:
            return
        gone = _deleted(text, self._entries) if "del" in text else set()
        self._entries = {one.name: one for one in self.now(live) if one.name not in gone}

    def not_saved(self, live: dict[str, Any]) -> list[Skipped]:
        """For a checkpoint: the names that stand for nothing at all. Others it sees itself."""
        return [
            Skipped(
                one.name, one.type, one.reason, one.remedy, made_in=one.made_in, made_by=one.made_by
            )
            for one in self.now(live)
            if _is_variable(one.name) and namespace.identity(live, one.name) is None
        ]

    def _is_found(self, name: str, live: dict[str, Any]) -> bool:
        if namespace.is_there(live, name):
            return True
        return name in self._stubs and namespace.identity(live, name) is None  # deleted


def _is_variable(name: str) -> bool:
    """And nothing of the interactive state, which every checkpoint looks at anew."""
    return (name.isidentifier() and name != "In") or namespace.output_number(name) is not None


def _deleted(text: str, names: Mapping[str, object]) -> set[str]:
    """Of `names`, those that a cell deletes at its top level."""
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    targets = (target for one in body if isinstance(one, ast.Delete) for target in one.targets)
    parts = (part for target in targets for part in ast.walk(target))
    return {part.id for part in parts if isinstance(part, ast.Name) and part.id in names
            and isinstance(part.ctx, ast.Del)}  # fmt: skip
