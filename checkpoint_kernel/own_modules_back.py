"""Sets again what had changed in the user's modules, in the objects that their import has made.

What there is to set is found by `own_modules`.
"""

from __future__ import annotations

import importlib
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from . import kinds, own_modules, units

_HEAP_TYPE: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement


def put_back(
    values: Mapping[str, Any],
    shared: frozenset[str],
    about_to_set: Callable[[str], None] = lambda root: None,
) -> dict[str, str]:
    """Import the modules and set their names; why not, by root.

    Values in `shared` hold objects that others do too, variables perhaps. Others go into the
    objects that the import has made, where they can, for the module may have handed those on.
    """
    failed: dict[str, str] = {}
    for root, value in values.items():
        about_to_set(root)
        try:
            _set(root, value, root in shared)
        except (Exception, SystemExit) as why:  # importing runs code of the user's
            failed[root] = f"its module cannot be set: {units.one_line(why)}"
    return failed


def _set(root: str, value: Any, shared: bool) -> None:
    owner, name = own_modules.owner_of(root, importlib.import_module)
    before = vars(owner).get(name)
    if before is value:
        return
    mutable = before is not None and not kinds.is_leaf(before)
    if mutable and not shared and _filled(before, value):
        return
    setattr(owner, name, value)
    if not mutable:
        return
    # `from config import CACHE` elsewhere; default arguments and the like get what is in it.
    for module in own_modules.modules():
        for key, other in list(vars(module).items()):
            if other is before:
                setattr(module, key, value)
    _filled(before, value)


def _filled(old: Any, value: Any) -> bool:
    """Give an object the content of another one of its type; whether that could be done."""
    cls = type(old)
    if cls is not type(value):
        return False
    if cls in (list, bytearray):
        old[:] = value
    elif cls in (dict, OrderedDict, Counter, defaultdict, set):
        content = cls.copy(value)
        old.clear()
        old.update(content)
        if cls is defaultdict:
            old.default_factory = value.default_factory
    elif cls is deque and old.maxlen == value.maxlen:
        old.clear()
        old.extend(value)
    elif _is_simple(cls):
        content = dict(vars(value))
        vars(old).clear()
        vars(old).update(content)
    else:
        return False
    return True


def _is_simple(cls: type) -> bool:
    """Its instances are their `__dict__`, and come back as that."""
    made_by_class_statements = all(base.__flags__ & (1 << 9) for base in cls.__mro__[:-1])
    return (
        made_by_class_statements
        and not any("__slots__" in vars(base) for base in cls.__mro__)
        and getattr(cls, "__reduce_ex__", None) is object.__reduce_ex__
        and not any(hasattr(cls, hook) for hook in ("__setstate__", "__getnewargs_ex__"))
    )
