"""How objects are saved that stand for another thing: pointers of ctypes, entries of a directory,
contexts and the variables of libraries in them.
"""

from __future__ import annotations

import contextvars
import sys
from pathlib import Path
from typing import Any, Final

from . import rebuild, rebuild_places
from .refusals import Refusal, Refused, type_name
from .registry import named_reduction


def _refused(obj: Any, reason: str, remedy: str | None = None) -> Refused:
    return Refused(type_name(obj), Refusal(reason, remedy))


def reduce_pointer(pointer: Any) -> Any:
    """One to an object of ctypes that it keeps alive, and none that was computed or cast."""
    import ctypes

    if not pointer:
        return (rebuild_places.pointer, (type(pointer), None))
    kept = pointer._objects  # "1": what was pointed to; "0": what that keeps alive itself
    target: Any = kept.get("1") if type(kept) is dict and kept.keys() <= {"0", "1"} else None
    whole = isinstance(target, pointer._type_) and target._b_base_ is None
    if not whole or ctypes.addressof(target) != ctypes.addressof(pointer.contents):
        raise _refused(pointer, "what a pointer leads to cannot be told")
    return (rebuild_places.pointer, (type(pointer), target))


def reduce_entry(entry: Any) -> Any:
    """os.DirEntry: read again, if the same file is there."""
    directory = entry.path[: -len(entry.name)]
    if not isinstance(directory, str) or not directory:
        raise _refused(entry, "its directory was given as bytes or as a descriptor")
    where = (directory, str(Path(directory).absolute()), entry.name, entry.inode())
    made = (rebuild_places.entry, type_name(entry), "scan the directory again", *where)
    return (rebuild.or_stub, made)


# Of this kernel itself: to which cell an output belongs.
_KERNELS: Final = frozenset({"parent_header", "shell_parent", "shell_parent_ident"})


def reduce_context(context: contextvars.Context) -> Any:
    """contextvars.Context: its variables and their values, but for the kernel's own."""
    pairs, decimal = [], []
    for variable, value in context.items():
        if variable.name == "decimal_context":  # in C, where nobody finds it
            decimal.append(value)
        elif module_of(variable) or variable.name not in _KERNELS:
            pairs.append((variable, value))
    return (rebuild_places.context, (), (pairs, decimal), None, None, rebuild_places.set_context)


def module_of(variable: contextvars.ContextVar[Any]) -> tuple[str, str] | None:
    """Where a library has a variable, by module and name."""
    for module, found in list(sys.modules.items()):
        if module != "__main__" and isinstance(names := getattr(found, "__dict__", None), dict):
            for name, value in list(names.items()):
                if value is variable:
                    return module, name
    return None


named_reduction("ctypes", "_Pointer", reduce_pointer, subclasses=True)
named_reduction("os", "DirEntry", reduce_entry)
named_reduction("contextvars", "Context", reduce_context)
