"""Shared objects are loaded even where the guard's RLIMIT_DATA has no room for their maps.

Their writable segments count as data when they are mapped, and are memory only where they are
written to: torch with CUDA maps 400 MB that it hardly touches. Where loading one fails for that
reason, it is loaded again without the limit. Covers imports and ctypes; what C code opens by
itself is not seen here.
"""

from __future__ import annotations

import _ctypes
import _imp
import contextlib
import ctypes
import functools
from collections.abc import Callable
from typing import Any, Final

# glibc's elf/dl-load.c and dl-map-segments.h; "cannot allocate memory in static TLS block" is
# another trouble.
_NO_ROOM: Final = ("failed to map segment", "cannot map zero-fill pages", "Cannot allocate memory")


def load_without(lifted: Callable[[], contextlib.AbstractContextManager[None]]) -> None:
    """From now on: try once more under `lifted()` when a shared object did not fit."""
    _imp.create_dynamic = _retrying(_imp.create_dynamic, lifted)
    ctypes._dlopen = _retrying(_ctypes.dlopen, lifted)  # type: ignore[attr-defined]


def _retrying(
    load: Callable[..., Any], lifted: Callable[[], contextlib.AbstractContextManager[None]]
) -> Callable[..., Any]:
    @functools.wraps(load)
    def retrying(*arguments: Any) -> Any:
        try:
            return load(*arguments)
        except (ImportError, OSError) as why:
            if not any(text in str(why) for text in _NO_ROOM):
                raise
        with lifted():
            return load(*arguments)

    return retrying
