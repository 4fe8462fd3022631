"""Does pickling an object of a type run code that the user wrote?

Told from the class alone, past metaclasses and without running anything. Errs to "yes" for
libraries that are developed in place, and to "no" for hooks that a library calls back.
"""

from __future__ import annotations

import copyreg
import sys
import sysconfig
from collections.abc import Callable, Mapping
from typing import Any, Final

# What pickle looks up on an object, and what it asks containers for.
_HOOKS: Final = frozenset(
    {"__reduce__", "__reduce_ex__", "__getstate__", "__getnewargs__", "__getnewargs_ex__",
     "__getattribute__", "__getattr__", "__class__", "__buffer__"}
)  # fmt: skip
_OF_CONTAINERS: Final = frozenset({"__iter__", "items", "__len__"})
_OF_METACLASSES: Final = frozenset(
    {"__getattribute__", "__getattr__", "__hash__", "__eq__", "__subclasscheck__"}
)
_LIBRARIES: Final = ("site-packages", "dist-packages", sysconfig.get_paths()["stdlib"])

_mro_of: Final[Callable[[type], tuple[type, ...]]] = type.__dict__["__mro__"].__get__
_dict_of: Final[Callable[[type], Mapping[str, Any]]] = type.__dict__["__dict__"].__get__


def runs(cls: type) -> bool:
    """Whether pickling its instances calls something that the user defined."""
    reducer = copyreg.dispatch_table.get(cls)
    if reducer is not None and is_users(getattr(reducer, "__module__", None)):
        return True
    hooks = _HOOKS | _OF_CONTAINERS if issubclass(cls, list | dict | set | frozenset) else _HOOKS
    return _defines(cls, hooks)


def is_wild(value: Any) -> bool:
    """Whether to look at the type of `value`, or at `value` if it is a class, runs such code."""
    metaclass = type(type(value))
    if metaclass is not type and _defines(metaclass, _OF_METACLASSES):
        return True
    return issubclass(type(value), type) and _defines(type(value), _OF_METACLASSES)


def is_users(module: object) -> bool:
    """Whether a module, by its name, is the notebook or a file of the user's."""
    if module == "__main__":
        return True
    if not isinstance(module, str) or module.split(".")[0] == __package__:
        return False
    file = getattr(sys.modules.get(module), "__file__", None)
    return isinstance(file, str) and not any(part in file for part in _LIBRARIES)


def _defines(cls: type, hooks: frozenset[str]) -> bool:
    for base in _mro_of(cls):
        attributes = _dict_of(base)
        own = not hooks.isdisjoint(attributes) or type(attributes.get("__dict__")) is property
        # A class statement always writes down __module__; most classes have no hook at all.
        if own and is_users(attributes.get("__module__")):
            return True
    return False
