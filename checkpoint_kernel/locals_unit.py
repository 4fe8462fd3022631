"""The locals of the user's functions that were running: saved beside the namespace.

A training loop is often in a function. Its locals are offered after a crash, never
injected. Each frame is a unit of its own; what it shares with variables is copied.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import pickling, units
from .manifest import Skipped


@dataclass
class Frames:
    """One unit per running function, and the locals that could not be saved."""

    units: list[units.Draft]
    skipped: list[Skipped]


def drafts(
    frames: tuple[types.FrameType, ...],
    main: dict[str, Any],
    partition: units.Partition,
    known_bad: dict[str, Skipped],
    progress: Callable[[list[str]], None],
) -> Frames:
    """Pickle the locals of `frames`, outermost first, as `0:train`, `1:step`, ..."""
    result = Frames([], [])
    for depth, frame in enumerate(frames):
        name = f"{depth}:{frame.f_code.co_name}"
        if name in known_bad:
            result.skipped.append(known_bad[name])
            continue
        values = {k: v for k, v in frame.f_locals.items() if not k.startswith(".")}
        progress([name])
        draft = _pickle(name, values, main, partition)
        if draft is None:
            good = {}
            for key, value in values.items():
                if _pickle(name, {key: value}, main, partition) is not None:
                    good[key] = value
                else:
                    reason = f"this local of {frame.f_code.co_name}() cannot be saved"
                    result.skipped.append(Skipped(f"{name}.{key}", units.type_name(value), reason))
            draft = _pickle(name, good, main, partition)
        if draft is not None:
            result.units.append(draft)
    return result


def is_frame(name: str) -> bool:
    """A name as `drafts` gives to a running function; no variable is called so."""
    depth, colon, _ = name.partition(":")
    return bool(colon) and depth.isdigit()


def _pickle(
    name: str, values: dict[str, Any], main: dict[str, Any], partition: units.Partition
) -> units.Draft | None:
    draft = units.Draft("locals", {name: values})
    try:
        draft.pickled = pickling.dump(draft.root, main, partition.definitions, units.NO_OBSERVER)
    except BaseException:
        return None
    return draft
