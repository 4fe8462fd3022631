"""Stubs for variables that a restore could not load, while the checkpoint still holds them.

A name whose value can be had stands for a Stub: any use of it says what to do. It is no NameError,
for code such as `if "model" not in globals(): model = train()` would start from the beginning
what `%checkpoint restore model` brings back. A name whose value is lost (a damaged chunk) is left
unbound: there such code is what helps. Outputs are never stood in for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from . import namespace, own_modules
from .manifest import Manifest
from .session import RestoreReport
from .stub import Stub


def checkpoint_of(value: Any) -> str | None:
    """The checkpoint that holds what a Stub stands for; None for any other value."""
    return value._stub_checkpoint if type(value) is Stub else None


def bind(
    main: dict[str, Any], checkpoint: Manifest, report: RestoreReport, lost: Iterable[str]
) -> None:
    """Stubs for what the checkpoint holds, the report has not brought back, and nobody has made.

    `lost`: names whose value cannot be had from it any more.
    """
    held, gone = set(checkpoint.names), set(lost)
    for entry in report.not_restored:
        if entry.name in held - gone and _may_be_bound(main, entry.name):
            again = f"%checkpoint restore {entry.name}"
            remedy = f"{entry.remedy}, then {again}" if entry.remedy else f"to try again: {again}"
            main[entry.name] = Stub(entry.type, entry.reason, remedy, checkpoint.id)


def bind_again(main: dict[str, Any], checkpoint: Manifest, there: Iterable[str]) -> None:
    """The Stubs that stood in the namespace when this checkpoint was made.

    `there`: ids of the checkpoints that still exist.
    """
    exist = set(there)
    for entry in checkpoint.skipped:
        if entry.checkpoint in exist and _may_be_bound(main, entry.name):
            main[entry.name] = Stub(entry.type, entry.reason, entry.remedy, entry.checkpoint)


def _may_be_bound(main: Mapping[str, Any], name: str) -> bool:
    if namespace.output_number(name) is not None or own_modules.is_root(name):
        return False
    return name not in main or checkpoint_of(main[name]) is not None


def taken_out(main: dict[str, Any], checkpoint: Manifest) -> dict[str, Stub]:
    """Take the Stubs of variables that a checkpoint holds out of the namespace, and give them.

    Loading code that looks such a variable up then finds that it has to be loaded first.
    """
    stubs = {
        name: main[name]
        for name in checkpoint.names
        if name in main and checkpoint_of(main[name]) is not None
    }
    for name in stubs:
        del main[name]
    return stubs
