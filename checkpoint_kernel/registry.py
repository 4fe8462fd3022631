"""How objects of a type are saved and made again: the one place that libraries and users extend.

A reducer is found by type, once for each (`find`), and asked before pickle, dill and our
refusals. Ours are known by the names of module and type, so that nothing is imported to have
them. Which reducers there are is `reducers_*`'s; what entry points bring, `entry_points`'.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from .refusals import Refusal, Refused, Unsavable, type_name

Save = Callable[[Any], Any]
Load = Callable[[Any], Any]
# As `__reduce__`: a tuple of at most six, or NotImplemented for "as if I were not here".
Reduce = Callable[[Any], Any]

# The picklers write these themselves, and ask nobody.
_WRITTEN_BY_PICKLE: Final = frozenset(
    {type(None), bool, int, float, complex, str, bytes, bytearray, tuple, list, dict, set,
     frozenset, type(...), type(NotImplemented)}
)  # fmt: skip


@dataclass(frozen=True)
class Reducer:
    """One way to save objects of a type."""

    name: str  # of who is asked, for messages
    reduce: Reduce
    subclasses: bool
    users: bool = False  # registered, perhaps in a cell: what it does is not ours

    def __call__(self, obj: Any) -> Any:
        """The reduction of an object; Unsavable, naming the reducer, if that fails."""
        try:
            return self.reduce(obj)
        except (Unsavable, RecursionError, MemoryError):
            raise
        except Exception as why:
            said = f"{type(why).__name__}: {' '.join(str(why).split())[:300]}"
            refusal = Refusal(f"its reducer {self.name} failed: {said}", None)
            raise Unsavable(type_name(obj), refusal) from why

    @classmethod
    def refusing(cls, refusal: Refusal) -> Reducer:
        """For objects that cannot be saved."""

        def reduce(obj: Any) -> Any:
            raise Refused(type_name(obj), refusal)

        return cls("", reduce, True)


@dataclass(frozen=True)
class Partly:
    """What a reducer gives for an object of which something cannot be saved."""

    reduction: Any
    lost: Refused


@dataclass(frozen=True)
class Registration:
    """What a user has registered; saved with the checkpoint, to be there after a restart."""

    type: type
    save: Save
    load: Load
    subclasses: bool


_by_users: dict[type, Registration] = {}
_by_libraries: dict[type, Registration] = {}  # through entry points: the user's come first
_ours: dict[tuple[str, str], Reducer] = {}  # by module and name of the type
# The answers so far. `known` holds those types only that have a reducer.
known: dict[type, Reducer] = {}
# What others have made of our answers: emptied with them.
caches: Final[list[dict[type, Any]]] = [known]
_by_entry_point = False


def register(type: type, save: Save, load: Load, *, subclasses: bool = False) -> None:
    """Save objects of `type` by what `save(obj)` returns, and make them again by `load(state)`.

    Exactly that type; its subclasses too if `subclasses`. The state is any value that can be
    saved, and is saved as part of the variable; `load` must need nothing else. `save` must not
    change the object. It replaces what was registered for the type before, and comes before what
    this kernel knows of it. What a notebook registers is there again after a restore.
    """
    checked = _checked(type, save, load, subclasses)
    (_by_libraries if _by_entry_point else _by_users)[type] = checked
    forget()


def unregister(type: type) -> None:
    """Undo `register`. KeyError if nothing is registered for the type."""
    if type in _by_users:
        del _by_users[type]
    else:
        del _by_libraries[type]
    forget()


def _checked(cls: Any, save: Any, load: Any, subclasses: bool) -> Registration:
    if not isinstance(cls, type):
        raise TypeError(f"register: {cls!r} is not a type")
    if cls in _WRITTEN_BY_PICKLE:
        raise TypeError(f"register: {cls.__name__} is written by pickle itself, and cannot be")
    if cls is object and subclasses:
        raise TypeError("register: every type is a subclass of object")
    for word, function in (("save", save), ("load", load)):
        if not callable(function):
            raise TypeError(f"register: {word} must be callable, {function!r} is not")
    return Registration(cls, save, load, bool(subclasses))


def named(module: str, name: str, save: Save, load: Load, *, subclasses: bool = False) -> None:
    """As `register`, of ours: the type is looked up by its name once its module is imported."""
    label = getattr(save, "__name__", repr(save))
    _ours[module, name] = Reducer(label, lambda obj: (load, (save(obj),)), subclasses)


def named_reduction(module: str, name: str, reduce: Reduce, *, subclasses: bool = False) -> None:
    """As `named`, by what `__reduce__` would return; that can hold objects in a cycle too."""
    _ours[module, name] = Reducer(getattr(reduce, "__name__", repr(reduce)), reduce, subclasses)


def find(cls: type) -> Reducer | None:
    """The reducer for objects of exactly this type; noted in `known`.

    Users before libraries before ours; the type itself before its parents, the nearest first.
    """
    found = _registered(_by_users, cls) or _registered(_by_libraries, cls) or _of_ours(cls)
    if found is not None:
        known[cls] = found
    return found


def _registered(where: dict[type, Registration], cls: type) -> Reducer | None:
    if not where:
        return None
    for base in cls.__mro__:
        try:
            entry = where.get(base)
        except TypeError:  # a metaclass without a hash
            continue
        if entry is not None and (base is cls or entry.subclasses):
            return Reducer(_name_of(entry), _reduction(entry), entry.subclasses, users=True)
    return None


def _name_of(entry: Registration) -> str:
    return str(getattr(entry.save, "__qualname__", None) or repr(entry.save))


def _reduction(entry: Registration) -> Reduce:
    return lambda obj: (entry.load, (entry.save(obj),))


def _of_ours(cls: type) -> Reducer | None:
    mro = cls.__mro__
    best: tuple[int, Reducer] | None = None
    for (module, name), reducer in _ours.items():
        loaded: Any = sys.modules.get(module)
        if loaded is None:
            continue
        for part in name.split("."):
            loaded = getattr(loaded, part, None)
        if loaded is cls:
            return reducer
        if reducer.subclasses and isinstance(loaded, type) and loaded in mro:
            distance = mro.index(loaded)
            if best is None or distance < best[0]:
                best = (distance, reducer)
    return None if best is None else best[1]


def forget() -> None:
    """Answers so far no longer count."""
    for cache in caches:
        cache.clear()


def registered() -> list[Registration]:
    """What users have registered, in the order of arrival; not what libraries bring."""
    return list(_by_users.values())


def bring_back(entry: Registration) -> None:
    """A registration of a checkpoint; one that was made since for that type stays."""
    if entry.type not in _by_users:
        _by_users[entry.type] = entry
        forget()


def call_entry_point(function: Callable[[], Any]) -> None:
    """Call what an entry point names; what it registers counts as its library's."""
    global _by_entry_point
    before, _by_entry_point = _by_entry_point, True
    try:
        function()
    finally:
        _by_entry_point = before
