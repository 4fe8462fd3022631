"""Is a unit closed: does no reference from outside lead to any of its mutable objects?

Who has no reference must go through the namespace, by name. So a closed unit whose name
stands in no code that ran since (`touched`) is unchanged, without looking at it: no thread,
callback, registry or C code can have reached it.

A reference is found by counting. The pickler passes every edge inside the unit once; what
the interpreter counts above that, comes from outside. That holds only for types whose
references are exactly what pickle follows, so a unit with any other type in it is open.
Open is always right, and costs a look. Runs in the snapshot process, after the unit's dump.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import sys
import sysconfig
import weakref
from typing import Any, Final

from .arrays import root_of

_BUILTIN: Final = frozenset({list, dict, tuple, set, frozenset, bytearray, pickle.PickleBuffer})
_HEAP_TYPE: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE
# What holds a restored array's memory; nobody but its memoryviews may hold it.
_MEMORY_OWNERS: Final = frozenset({bytearray})


_REDUCERS: Final = ("__reduce_ex__", "__reduce__", "__getstate__")


class _Plain:
    """An instance as the class statement makes it: its size tells others apart."""


def is_closed(
    objects: list[Any],
    again: dict[int, int],
    bindings: dict[int, int],
    buffers: list[pickle.PickleBuffer],
) -> bool:
    """Whether all references to `objects` are accounted for.

    `objects`: each mutable object of the unit, once. `again`: by id, how many edges of the
    unit lead to it beyond the first. `bindings`: by id, references from the namespace and
    from our own tables. `buffers`: the unit's, each of which holds the array that it is of.
    """
    numpy = sys.modules.get("numpy")
    ndarray = None if numpy is None else numpy.ndarray
    held = _held_by(buffers)
    _add_arguments(objects, held)
    plain: dict[type, bool] = {}
    count = sys.getrefcount
    for obj in objects:
        cls = type(obj)
        if cls not in _BUILTIN:
            if cls is ndarray:
                known = _owns_its_memory(obj, ndarray)
            elif cls is memoryview:
                known = _is_only_view(obj, {id(one) for one in objects})
            elif (verdict := plain.get(cls)) is not None:
                known = verdict
            else:
                known = plain[cls] = _is_plain(cls)
            if not known or (cls is not memoryview and weakref.getweakrefcount(obj)):
                return False
        elif cls in (set, frozenset) and weakref.getweakrefcount(obj):
            return False
        if count(obj) > _OURS + 1:
            oid = id(obj)
            outside = count(obj) - _OURS - 1 - again.get(oid, 0)
            if outside > bindings.get(oid, 0) + held.get(oid, 0):
                return False
    return True


# References to an object during `is_closed`, its unit's edges not counted: the pickler's memo,
# the list of objects, the loop's variable, and the argument of getrefcount.
_OURS: Final = 4


def _held_by(buffers: list[pickle.PickleBuffer]) -> dict[int, int]:
    """References that our own out-of-band buffers make: to the array of `arrays.memory_at`,
    to the memoryview that a buffer was made of; and our list, to the buffers."""
    held: dict[int, int] = {}
    for buffer in buffers:
        exporter = buffer.raw().obj
        owner = getattr(getattr(exporter, "obj", None), "_owner", exporter)
        for one in (buffer, owner):
            held[id(one)] = held.get(id(one), 0) + 1
    return held


def _add_arguments(objects: list[Any], held: dict[int, int]) -> None:
    """A tuple that nobody holds but the pickler was made for it, by a reduction. The edge from
    it stands for the object's own reference; the tuple's is one more."""
    for obj in objects:
        if type(obj) is tuple and sys.getrefcount(obj) <= _OURS:
            for item in obj:
                held[id(item)] = held.get(id(item), 0) + 1


def _owns_its_memory(array: Any, ndarray: Any) -> bool:
    """No file, other process or library stands behind it; the array that does is in the unit."""
    if array.dtype.hasobject:
        return False
    if array.flags.owndata:
        return True
    base_type = type(array.base)
    return base_type is memoryview or (
        base_type is ndarray and root_of(array, ndarray) is array.base
    )


def _is_only_view(view: memoryview, members: set[int]) -> bool:
    owner = view.obj
    if id(owner) in members:
        return True  # counted as one of them
    # Its memoryviews hold it through one managed buffer; then our variable, and the argument.
    return type(owner) in _MEMORY_OWNERS and sys.getrefcount(owner) <= 3


def _is_plain(cls: type) -> bool:
    """Instances consist of their __dict__, and pickle takes just that."""
    return (
        type(cls) is type
        and all(base is object or base.__flags__ & _HEAP_TYPE for base in cls.__mro__)
        and not any("__slots__" in vars(base) for base in cls.__mro__)
        and cls.__basicsize__ == _Plain.__basicsize__
        and cls.__dictoffset__ == _Plain.__dictoffset__
        and all(getattr(cls, name) is getattr(object, name) for name in _REDUCERS)
        and not hasattr(cls, "__getnewargs__")
        and not hasattr(cls, "__getnewargs_ex__")
        and cls not in copyreg.dispatch_table
    )


def _self_test() -> bool:
    """A list that only its unit holds is closed; with one more reference it is not."""
    if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
        return False
    root = {"outer": [[1], {"k": [2]}]}

    def verdict() -> bool:
        pickler = pickle.Pickler(io.BytesIO(), 5)
        pickler.dump(root)
        objects = [root["outer"], *root["outer"]]
        return is_closed(objects, {}, {}, [])

    alone = verdict()
    elsewhere = root["outer"][0]
    return alone and not verdict() and elsewhere == [1]


CAN_COUNT = _self_test()
