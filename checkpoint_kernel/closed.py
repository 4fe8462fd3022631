"""Is a unit closed: does no reference from outside lead to any of its mutable objects?

Who has no reference must go through the namespace, by name. So a closed unit whose name
stands in no code that ran since (`touched`) is unchanged, without looking at it: no thread,
callback, registry or C code can have reached it.

A reference is found by counting. The pickler passes every edge inside the unit once; what
the interpreter counts above that, comes from outside. That holds only for types whose
references are exactly what pickle follows (`countable`), so a unit with any other type in it is
open. Open is always right, and costs a look. Runs in the snapshot process, after the unit's dump.
"""

from __future__ import annotations

import gc
import io
import itertools
import pickle
import sys
import sysconfig
import weakref
from collections import OrderedDict
from collections.abc import Collection, Iterable
from typing import Any, Final

from .countable import EXACT, OPEN, REDUCTIONS, TEMPORARIES, countability, parts_of
from .mapped_memory import PrivateMemory

# Nobody can hold one of these weakly.
_NEVER_WEAK: Final = frozenset({list, dict, tuple, bytearray})


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
    if not CAN_COUNT:
        return False
    try:
        return _is_closed(objects, again, bindings, buffers, _OURS)
    except Exception:  # a metaclass may raise anything; what cannot be looked at is open
        return False


def _is_closed(
    objects: list[Any],
    again: dict[int, int],
    bindings: dict[int, int],
    buffers: list[pickle.PickleBuffer],
    ours: int,
) -> bool:
    """`ours`: references to an object while this looks at it, its unit's edges not counted: from
    the pickler's memo, the list of objects, the loop's variable, the argument of getrefcount."""
    numpy = sys.modules.get("numpy")
    ndarray = None if numpy is None else numpy.ndarray
    verdicts = {cls: countability(cls) for cls in set(map(type, objects))}
    for cls in (ndarray, memoryview, pickle.PickleBuffer):
        if cls in verdicts:
            verdicts[cls] = EXACT
    if OPEN in verdicts.values():
        return False
    held = _held_by(buffers)
    temporary = _hold_again(objects, TEMPORARIES in verdicts.values(), held, ours)
    members: Collection[int] = ()
    if ndarray in verdicts or memoryview in verdicts:
        members = set(map(id, objects))
    if memoryview in verdicts and not _only_views(objects, members, held):
        return False
    if OrderedDict in verdicts:  # its list of keys holds them once more
        _add(held, itertools.chain.from_iterable(o for o in objects if type(o) is OrderedDict))
    count = sys.getrefcount
    for obj in objects:
        cls = type(obj)
        if cls not in _NEVER_WEAK:
            if cls is ndarray:
                if not _owns_its_memory(obj, members):
                    return False
            elif cls is pickle.PickleBuffer:
                if id(obj) not in temporary:
                    return False  # the user's: nobody has looked at what it is of
            elif verdicts[cls] != EXACT and _reduces_itself(obj, cls):
                return False
            if weakref.getweakrefcount(obj):
                return False
        if count(obj) > ours + 1:
            oid = id(obj)
            outside = count(obj) - ours - 1 - again.get(oid, 0)
            if outside > bindings.get(oid, 0) + held.get(oid, 0):
                return False
    return True


def _reduces_itself(obj: Any, cls: type) -> bool:
    return cls.__dictoffset__ != 0 and not REDUCTIONS.isdisjoint(obj.__dict__)


def _add(held: dict[int, int], objects: Iterable[Any]) -> None:
    for one in objects:
        held[id(one)] = held.get(id(one), 0) + 1


def _held_by(buffers: list[pickle.PickleBuffer]) -> dict[int, int]:
    """References that our own out-of-band buffers make: to the array of `arrays.memory_at`,
    to the memoryview that a buffer was made of; and our list, to the buffers."""
    held: dict[int, int] = {}
    for buffer in buffers:
        exporter = buffer.raw().obj
        owner = getattr(getattr(exporter, "obj", None), "_owner", exporter)
        _add(held, (buffer, owner))
    return held


def _hold_again(objects: list[Any], all_kinds: bool, held: dict[int, int], ours: int) -> set[int]:
    """Ids of what the pickler's temporary containers hold; notes those references.

    A container that nobody holds but the pickler was made by a reduction. The edge from it stands
    for the object's own reference; the container's is one more. `all_kinds`: some reductions of
    the unit put their parts into a list, or into a dict in a tuple.
    """
    found: set[int] = set()
    for obj in objects:
        cls = type(obj)
        if (cls is tuple or (all_kinds and cls is list)) and sys.getrefcount(obj) <= ours:
            found.update(map(id, obj))
            _add(held, obj)
    if all_kinds:
        for obj in objects:
            if type(obj) is dict and id(obj) in found and sys.getrefcount(obj) <= ours + 1:
                _add(held, parts_of(obj))
    return found


def _only_views(objects: list[Any], members: Collection[int], held: dict[int, int]) -> bool:
    """Whether the memoryviews of the unit are all that lie over their memory.

    All memoryviews of one object share what CPython calls a managed buffer, which holds it once.
    """
    views = [obj for obj in objects if type(obj) is memoryview]
    managed = {id(one): one for view in views for one in gc.get_referents(view)}
    owners = {id(owner): owner for view in views if (owner := view.obj) is not None}
    del owner
    seen = 0
    of_owner = dict.fromkeys(owners, 0)
    for buffer in managed.values():
        seen += sys.getrefcount(buffer) - 3  # in `managed`, our variable, the argument
        of_owner[id(gc.get_referents(buffer)[0])] += 1
    if seen != len(views):
        return False
    for oid, number in of_owner.items():
        if oid in members:  # an edge leads to it from each view, a reference from each buffer
            edges = sum(id(view.obj) == oid for view in views)
            held[oid] = held.get(oid, 0) - edges + number
        elif not _is_only_ours(owners[oid], number):
            return False
    return True


def _is_only_ours(owner: Any, buffers: int) -> bool:
    """Memory of a restored array, which nobody else may hold."""
    return (
        type(owner) in (bytearray, PrivateMemory)
        and sys.getrefcount(owner) <= buffers + 3  # in `owners`, our variable, the argument
        and not weakref.getweakrefcount(owner)
    )


def _owns_its_memory(array: Any, members: Collection[int]) -> bool:
    """No file, other process or library stands behind it; what does is in the unit, and counted.

    A copy is pickled of an array that lies in another one with gaps: that one is not.
    """
    if array.dtype.hasobject:
        return False
    return bool(array.flags.owndata) or id(array.base) in members


def _ours() -> int | None:
    """How many references are ours, found out by trial; None where they cannot be counted.

    A list that only its unit holds is closed; with one more reference it is not.
    """
    if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
        return None
    root = {"outer": [[1], {"k": [2]}]}

    def verdict(ours: int) -> bool:
        pickler = pickle.Pickler(io.BytesIO(), 5)
        pickler.dump(root)
        objects = [root["outer"], *root["outer"]]
        return _is_closed(objects, {}, {}, [], ours)

    for ours in range(2, 6):
        if verdict(ours):
            elsewhere = root["outer"][0]
            return ours if not verdict(ours) and elsewhere == [1] else None
    return None


_FOUND: Final = _ours()
CAN_COUNT: Final = _FOUND is not None
_OURS: Final = _FOUND or 0
