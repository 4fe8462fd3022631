"""Types whose objects hold exactly the references that pickle follows, and nothing else.

Only of these can it be counted who holds what (`closed`). A type is judged as it is now: a class
may get a reduction of its own at any time. Whatever is not known here is not countable, which is
always right. Arrays, memoryviews and our buffers are `closed`'s own.
"""

from __future__ import annotations

import abc
import collections
import copyreg
import dataclasses
import types
import typing
from typing import Any, Final

_PLAIN: Final = frozenset({list, dict, tuple, set, frozenset, bytearray})
# Python or C classes with a reduction of their own, which passes each reference once.
_KNOWN: Final = frozenset(
    {collections.OrderedDict, collections.defaultdict, collections.deque, types.SimpleNamespace}
)
_METACLASSES: Final = frozenset({type, abc.ABCMeta, type(typing.Protocol)})
_REDUCERS: Final = ("__reduce_ex__", "__reduce__")
# Each of these types has the same one, under another address.
_GETATTRIBUTES: Final[list[Any]] = [base.__getattribute__ for base in (object, tuple, list, dict)]
# An instance may have these for itself alone.
REDUCTIONS: Final = frozenset({"__reduce_ex__", "__reduce__", "__getstate__"})
_HEAP_TYPE: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE
_POINTER: Final = tuple.__itemsize__
# What the standard library gives to named tuples, and to frozen dataclasses with slots.
_NAMED: Final = collections.namedtuple("_NAMED", ())
_GETNEWARGS: Final = _NAMED().__getnewargs__.__code__  # type: ignore[attr-defined]
_GETSTATE: Final = getattr(dataclasses, "_dataclass_getstate", None)

OPEN, EXACT, INSTANCE, TEMPORARIES = range(4)


def countability(cls: type) -> int:
    """Which of the four it is.

    INSTANCE is EXACT unless the instance has a reduction for itself alone (`REDUCTIONS`). So is
    TEMPORARIES, but for containers that the reduction makes and that hold its parts once more.
    """
    if cls in _PLAIN or cls in _KNOWN:
        return EXACT
    if cls is collections.Counter:
        return TEMPORARIES
    if (
        type(cls) not in _METACLASSES
        or cls in copyreg.dispatch_table
        or hasattr(cls, "__getnewargs_ex__")
        or cls.__getattribute__ not in _GETATTRIBUTES
        or any(getattr(cls, name) is not getattr(object, name) for name in _REDUCERS)
    ):
        return OPEN
    built_in = [base for base in cls.__mro__[:-1] if not base.__flags__ & _HEAP_TYPE]
    slots = _slots_of(cls)
    if slots is None or len(built_in) > 1:
        return OPEN
    state: Any = cls.__getstate__
    if state is not object.__getstate__:
        frozen = state is _GETSTATE and slots and not built_in and not cls.__dictoffset__
        return TEMPORARIES if frozen and not hasattr(cls, "__getnewargs__") else OPEN
    if built_in == [tuple]:
        named = getattr(cls, "__getnewargs__", None)
        return INSTANCE if getattr(named, "__code__", None) == _GETNEWARGS and not slots else OPEN
    if hasattr(cls, "__getnewargs__"):
        return OPEN
    if built_in == [list]:
        return INSTANCE if cls.__iter__ is list.__iter__ and not slots else OPEN  # type: ignore[attr-defined]
    if built_in == [dict]:
        return INSTANCE if cls.items is dict.items and not slots else OPEN  # type: ignore[attr-defined]
    if built_in or cls.__basicsize__ != _size_of_instance(cls, slots):
        return OPEN
    return TEMPORARIES if slots else INSTANCE


def _slots_of(cls: type) -> int | None:
    """How many slots an instance has; None if they are not those of class statements."""
    count = 0
    for base in cls.__mro__[:-1]:
        if base.__flags__ & _HEAP_TYPE:
            members = sum(type(v) is types.MemberDescriptorType for v in vars(base).values())
            if members and "__slots__" not in vars(base):
                return None
            count += members
    return count


def _size_of_instance(cls: type, slots: int) -> int:
    """Bytes of an instance that a class statement made: anything more is a C struct's."""
    attributes = sum(offset > 0 for offset in (cls.__dictoffset__, cls.__weakrefoffset__))
    return object.__basicsize__ + (slots + attributes) * _POINTER


def parts_of(container: Any) -> list[Any]:
    """What a tuple, list or dict holds."""
    if type(container) is dict:
        return [*container.keys(), *container.values()]
    return list(container)
