"""Types whose objects hold what pickle cannot reach: they fail for certain, so say so by type.

The rule is CPython's own (`object_getstate_default` and `reduce_newobj` in Objects/typeobject.c):
an object of a C type without a reduction has more memory than its `__dict__` and slots account for.
Where this says no, pickling may still fail.
"""

from __future__ import annotations

import copyreg
from typing import Any, Final

import cloudpickle
import dill

_REDUCERS: Final = ("__reduce_ex__", "__reduce__", "__getstate__")
_ARGUMENTS: Final = ("__getnewargs__", "__getnewargs_ex__")
_CANNOT_BE_MADE: Final = 1 << 7  # Py_TPFLAGS_DISALLOW_INSTANTIATION
_POINTER: Final = tuple.__itemsize__


def has_hidden_state(cls: type) -> bool:
    """Whether pickle, cloudpickle and dill all refuse objects of exactly this type."""
    tables: tuple[Any, ...] = (
        copyreg.dispatch_table, cloudpickle.Pickler.dispatch_table, dill.Pickler.dispatch,
    )  # fmt: skip
    if any(cls in table for table in tables) or cls.__dictoffset__:
        return False  # an instance with attributes may have a reduction for itself alone
    if any(getattr(cls, name, None) is not getattr(object, name, None) for name in _REDUCERS):
        return False
    if cls.__flags__ & _CANNOT_BE_MADE:
        return True
    if issubclass(cls, list | dict) or any(hasattr(cls, name) for name in _ARGUMENTS):
        return False
    accounted = object.__basicsize__ + (_POINTER if cls.__weakrefoffset__ else 0)
    accounted += _POINTER * len(copyreg._slotnames(cls) or ())  # type: ignore[attr-defined]
    return bool(cls.__itemsize__) or cls.__basicsize__ > accounted
