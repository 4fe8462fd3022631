"""When the garbage collector ran in full, and for how long: one cause of a slow cell."""

from __future__ import annotations

import gc
import time

_began = 0.0
_FULL = 2
# (began on the system's monotonic clock, took), in seconds.
collections: list[tuple[float, float]] = []


def watch() -> None:
    """Record every full collection from now on."""
    if _watched not in gc.callbacks:
        gc.callbacks.append(_watched)


def _watched(phase: str, info: dict[str, int]) -> None:
    global _began
    if info["generation"] != _FULL:
        return
    if phase == "start":
        _began = time.monotonic()
    else:
        collections.append((_began, time.monotonic() - _began))
