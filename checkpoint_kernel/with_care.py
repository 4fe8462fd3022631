"""Which units a restore leaves out because loading them may end the kernel, and why.

    killed a restore before          left out, in quarantine
    hung one, and was stopped        the same
    after a death while restoring    everything that may do so is loaded in another process first
    named by the user                so too; if it does no harm there, it is loaded

What is in quarantine stays in its checkpoint, and is released once it has been loaded.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from . import quarantine, trial
from .manifest import Manifest, Unit
from .session import Plan

if TYPE_CHECKING:
    from .store import Store

NOT_PLAIN: Final = (
    "after two deaths while restoring only what runs no code when it is loaded was brought back"
)
KILLED: Final = "the kernel died while it was being loaded, so it was left out"


def left_out(
    store: Store,
    checkpoint: Manifest,
    plan: Plan,
    death: Mapping[str, Any],
    loader: trial.Loader,
) -> dict[str, str]:
    """What the restore at a start leaves out: unit id -> reason. Remembers what is found.

    `death`: the record of the one before this start. `loader`: as `trial.find` takes it.
    """
    units = {unit.id: unit for unit in checkpoint.units}
    killers = [units[id] for id in plan.leave_out if id in units]
    found = dict.fromkeys((unit.id for unit in killers), KILLED)
    if plan.step:
        _remember(store, quarantine.of_death(killers, death.get("cause"), _time_of(death)))
    found |= in_quarantine(store, checkpoint)
    for_memory = death.get("cause") in quarantine.FOR_MEMORY
    if plan.care == "trial" and not for_memory and trial.possible():
        suspects = [u for u in checkpoint.units if trial.is_suspect(u) and u.id not in found]
        results: list[trial.Finding] = []
        with contextlib.suppress(KeyboardInterrupt):  # the user does not want to wait
            results = _tried(checkpoint, suspects, loader, set(found))
        _remember(store, (_entry(one) for one in results if one.proved))
        found |= {one.unit.id: _entry(one).reason for one in results}
    return found


def left_out_by_hand(
    store: Store, checkpoint: Manifest, asked: AbstractSet[str], loader: trial.Loader
) -> dict[str, str]:
    """The same for `%checkpoint restore`: what is in quarantine, but not what is named and does no
    harm when it is loaded in another process."""
    found = in_quarantine(store, checkpoint)
    wished = [u for u in checkpoint.units if u.id in found and not asked.isdisjoint(u.names)]
    if not wished:
        return found
    harmful: dict[str, trial.Finding] = {}
    if trial.possible():
        others = found.keys() - {unit.id for unit in wished}
        tried = _tried(checkpoint, wished, loader, others, patient=True)
        harmful = {one.unit.id: one for one in tried}
    for unit in wished:
        before = found.pop(unit.id)
        if unit.id in harmful:
            before = before.removesuffix(", so it was left out")
            found[unit.id] = f"{before}; tried again just now, it {harmful[unit.id].did}"
    return found


def remember(store: Store, hung: Unit, why: str) -> None:
    """A unit took too long to load, and was stopped."""
    did = why.removeprefix("loading it ")
    _remember(store, [quarantine.Entry(hung.payload, hung.names, time.time(), did)])


def released(store: Store, checkpoint: Manifest, restored: Iterable[str]) -> None:
    """These variables have been loaded: their units are in quarantine no more."""
    back = set(restored)
    with contextlib.suppress(OSError):  # a full disk: it is asked for by name once more
        quarantine.release(
            store.directory, (u.payload for u in checkpoint.units if not back.isdisjoint(u.names))
        )


def known_to_kill(store: Store, checkpoint: Manifest, plan: Plan) -> dict[str, str]:
    """What is left out before anything is tried: unit id -> reason."""
    return {**dict.fromkeys(plan.leave_out, KILLED), **in_quarantine(store, checkpoint)}


def in_quarantine(store: Store, checkpoint: Manifest) -> dict[str, str]:
    """Units that are loaded on the user's wish only: id -> reason."""
    entries = quarantine.read(store.directory)
    return {u.id: entries[u.payload].reason for u in checkpoint.units if u.payload in entries}


def _remember(store: Store, entries: Iterable[quarantine.Entry]) -> None:
    new = list(entries)
    with contextlib.suppress(OSError):  # a full disk: it is found anew
        if new:
            stored = (unit.payload for m in store.manifests() for unit in m.units)
            quarantine.put(store.directory, new, stored)


def _entry(one: trial.Finding) -> quarantine.Entry:
    return quarantine.Entry(one.unit.payload, one.unit.names, time.time(), one.did)


def _time_of(death: Mapping[str, Any]) -> float | None:
    try:
        return datetime.fromisoformat(death["time"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return None


def _tried(
    checkpoint: Manifest,
    suspects: list[Unit],
    loader: trial.Loader,
    left_out: AbstractSet[str],
    *,
    patient: bool = False,
) -> list[trial.Finding]:
    try:
        units = {unit.id: unit for unit in checkpoint.units}
        return trial.find(suspects, units, loader, left_out, patient=patient)
    except OSError:  # no process can be forked: what kills is found one by one
        return []
