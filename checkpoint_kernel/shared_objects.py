"""Shared objects are loaded without the guard's RLIMIT_DATA.

Their writable segments count as data when they are mapped, and are memory only where they are
written to: torch with CUDA maps 400 MB that it hardly touches. And what a library's own start
is refused, it answers with abort(). Covers imports and ctypes; what C code opens by itself is not
seen here.
"""

from __future__ import annotations

import _ctypes
import _imp
import contextlib
import ctypes
import functools
from collections.abc import Callable
from typing import Any


def load_without(unlimited: Callable[[], contextlib.AbstractContextManager[None]]) -> None:
    """From now on shared objects are loaded under `unlimited()`."""
    _imp.create_dynamic = _under(unlimited, _imp.create_dynamic)
    _imp.exec_dynamic = _under(unlimited, _imp.exec_dynamic)
    ctypes._dlopen = _under(unlimited, _ctypes.dlopen)  # type: ignore[attr-defined]


def _under(
    unlimited: Callable[[], contextlib.AbstractContextManager[None]], load: Callable[..., Any]
) -> Callable[..., Any]:
    @functools.wraps(load)
    def loading(*arguments: Any) -> Any:
        with unlimited():
            return load(*arguments)

    return loading
