"""Objects as some installed libraries have them: one cannot be loaded, one cannot be saved."""

from __future__ import annotations


class CannotBeLoaded:
    """Saves without a complaint; its `__setstate__` raises."""

    def __init__(self) -> None:
        self.value = 1

    def __setstate__(self, state: object) -> None:
        raise RuntimeError("cannot be loaded")


class CannotBeSaved:
    """Its `__reduce__` raises an error that is no PicklingError."""

    def __reduce__(self) -> str:
        raise RuntimeError("cannot be saved")
