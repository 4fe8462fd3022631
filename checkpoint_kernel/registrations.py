"""What a notebook has registered is part of its checkpoints: each as a hidden unit of its own.

Covers their names within a checkpoint, and how they come back; what a registration is, is
`registry`'s. Those of libraries are not saved: entry points make them again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final

from . import registry
from .manifest import Manifest, Skipped

_KEY: Final = "#register "  # and a number: no variable can be called so


def roots() -> dict[str, Any]:
    """The registrations to be saved, by their hidden names."""
    return {
        f"{_KEY}{number}": (entry.type, entry.save, entry.load, entry.subclasses)
        for number, entry in enumerate(registry.registered())
    }


def said(skipped: Iterable[Skipped]) -> list[Skipped]:
    """With the names of registrations as people write them."""
    entries = registry.registered()
    return [
        replace(one, name=f"checkpoint_kernel.register({entry.type.__name__})", type="registration")
        if (entry := _of(one.name, entries)) is not None
        else one
        for one in skipped
    ]


def _of(name: str, entries: list[registry.Registration]) -> registry.Registration | None:
    number = name.removeprefix(_KEY)
    return entries[int(number)] if number != name and int(number) < len(entries) else None


def bring_back(
    checkpoint: Manifest, unit: Callable[[str], dict[str, Any]], cannot_load: type[Exception]
) -> dict[str, str]:
    """Register again what the checkpoint holds; by name, why one is not back.

    `unit` loads one by its id, or raises `cannot_load`.
    """
    failed: dict[str, str] = {}
    for held in checkpoint.units:
        keys = [key for key in held.hidden if key.startswith(_KEY)]
        for key in keys:
            try:
                registry.bring_back(registry.Registration(*unit(held.id)[key]))
            except cannot_load as why:
                failed[f"checkpoint_kernel.register, {key.removeprefix(_KEY)}"] = str(why)
    return failed
