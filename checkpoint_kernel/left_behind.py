"""What restores could not load, and in which checkpoint it still is.

Pure: from a restore's report to what the next manifests say. `prune` keeps those checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from .manifest import LeftBehind, Manifest
from .session import RestoreReport

RENEWED_S: Final = 24 * 3600.0


def after(
    before: Iterable[LeftBehind], checkpoint: Manifest, report: RestoreReport, now: float
) -> tuple[LeftBehind, ...]:
    """What is left behind once `checkpoint` has been restored, as far as `report` says."""
    failed = names(checkpoint, report)
    rest = _without(before, {*report.restored, *failed})
    return (*rest, LeftBehind(checkpoint.id, failed, now)) if failed else rest


def names(checkpoint: Manifest, report: RestoreReport) -> tuple[str, ...]:
    """What the checkpoint holds and the restore has not brought back."""
    missing = {entry.name for entry in report.not_restored}
    everything = report.state == "failed"
    return tuple(name for name in checkpoint.names if everything or name in missing)


def still(left: tuple[LeftBehind, ...], newest: Manifest | None) -> tuple[LeftBehind, ...]:
    """What is left behind unless the newest checkpoint holds it: made anew, or restored since."""
    if newest is None:
        return left
    before = tuple(each for each in left if newest.time <= each.since)
    later = (each for each in left if newest.time > each.since)
    return (*before, *_without(later, set(newest.names)))


def renewed(
    left: Iterable[LeftBehind], standing_for: Callable[[str], str | None], now: float
) -> tuple[LeftBehind, ...]:
    """The same, with the time of `now` where a name still stands for what was left behind.

    `standing_for(name)`: the checkpoint that holds the value of the Stub of that name. So it is
    kept for as long as somebody may ask for it. Once a day: manifests are compared.
    """
    return tuple(
        replace(each, since=now)
        if now - each.since > RENEWED_S
        and any(standing_for(name) == each.checkpoint for name in each.names)
        else each
        for each in left
    )


def _without(left: Iterable[LeftBehind], gone: set[str]) -> tuple[LeftBehind, ...]:
    rest = [(each, tuple(name for name in each.names if name not in gone)) for each in left]
    return tuple(LeftBehind(each.checkpoint, kept, each.since) for each, kept in rest if kept)
