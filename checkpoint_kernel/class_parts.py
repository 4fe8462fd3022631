"""What cloudpickle leaves out of a class, or cannot make: slots, qualified names, what enums set on
their members, types of ctypes; and type parameters, which pickle by a name that may not be theirs.
"""

from __future__ import annotations

import enum
import sys
import types
import typing
from collections.abc import Callable
from typing import Any, Final

from . import kinds
from . import rebuild_builtin as rebuild


def ctypes_type(cls: Any) -> Any:
    """The reduction of a metaclass of ctypes, or of an array or pointer type that it made of
    another type; else None."""
    ctypes = sys.modules.get("ctypes")
    if ctypes is None:
        return None
    for base in ("Structure", "Union", "Array", "_Pointer", "_CFuncPtr", "_SimpleCData"):
        if cls is type(getattr(ctypes, base)):  # metaclasses, which have no name in any module
            return (type, (getattr(ctypes, base),))
    if type(cls).__module__ != "_ctypes":
        return None
    target: Any = getattr(cls, "_type_", None)
    length = getattr(cls, "_length_", None)
    if isinstance(length, int) and rebuild.array_type(target, length) is cls:
        return (rebuild.array_type, (target, length))
    if isinstance(target, type) and ctypes.POINTER(target) is cls:
        return (rebuild.pointer_type, (target,))
    return None


def tidy_class(cls: type, begins_with: dict[str, Any], attributes: dict[str, Any]) -> None:
    """What cloudpickle makes a class with, and what it sets afterwards: slots and the qualified
    name have to be there from the beginning, and what the class makes itself is not set.

    The fields of a ctypes structure come last: they fix its layout.
    """
    if cls.__qualname__ != cls.__name__:
        begins_with["__qualname__"] = "".join(cls.__qualname__)
    # typing.NamedTuple makes its own.
    if "__slots__" in attributes and typing.NamedTuple not in attributes.get("__orig_bases__", ()):
        slots = attributes.pop("__slots__")
        begins_with["__slots__"] = slots if isinstance(slots, str | dict) else tuple(slots)
        for name in [name for name, v in attributes.items() if _is_slot_of(v, cls)]:
            del attributes[name]
    if type(cls).__module__ != "_ctypes":
        return
    for name in [name for name, v in attributes.items() if type(v).__name__ == "CField"]:
        del attributes[name]
    if "_fields_" in attributes:
        attributes["_fields_"] = attributes.pop("_fields_")


def _is_slot_of(value: Any, cls: type) -> bool:
    return type(value) is types.MemberDescriptorType and value.__objclass__ is cls


def members(cls: type[enum.Enum]) -> list[tuple[str, Any, dict[str, Any]]]:
    """Of an enum by name: each one's value, and what `__new__` and `__init__` have set on it."""
    return [
        (name, member._value_, {k: v for k, v in vars(member).items() if k not in _MEMBERS_OWN})
        for name, member in cls.__members__.items()
    ]


_MEMBERS_OWN: Final = frozenset({"_value_", "_name_", "__objclass__", "_sort_order_"})


def asks_for_attributes(cls: type) -> bool:
    """A notebook class whose `__getattr__` pickle would ask for `__setstate__`, of an object that
    has no attributes yet; which mostly never ends."""
    defined = [vars(base) for base in cls.__mro__ if base is not object]
    if any("__setstate__" in names or "__reduce_ex__" in names for names in defined):
        return False
    return any(
        ("__getattr__" in vars(base) or "__getattribute__" in vars(base))
        and kinds.saved_by_value(base)
        for base in cls.__mro__
    )


def _is_importable(definition: Any) -> bool:
    module = sys.modules.get(definition.__module__)
    name = getattr(definition, "__name__", "")
    return module is not None and module.__name__ != "__main__" and getattr(
        module, name, None
    ) is definition  # fmt: skip


def _type_parameter(parameter: Any) -> Any:
    if _is_importable(parameter):
        return NotImplemented
    options = {}
    for option in ("bound", "covariant", "contravariant", "infer_variance"):
        if value := getattr(parameter, f"__{option}__", None):
            options[option] = value
    if getattr(parameter, "has_default", bool)():
        options["default"] = parameter.__default__
    arguments = (type(parameter), parameter.__name__, options, parameter.__module__)
    return (rebuild.type_parameter, arguments)


def _new_type(made: Any) -> Any:
    if _is_importable(made):
        return NotImplemented
    return (rebuild.new_type, (made.__qualname__, made.__supertype__, made.__module__))


def _type_alias(alias: Any) -> Any:
    if _is_importable(alias):
        return NotImplemented
    parts = (alias.__name__, alias.__value__, alias.__type_params__)
    return (rebuild.type_alias, parts)


BY_TYPE: Final[dict[type, Callable[[Any], Any]]] = {
    typing.NewType: _new_type,
    **{
        cls: _type_parameter
        for name in ("ParamSpec", "TypeVarTuple")
        if (cls := getattr(typing, name, None))
    },
}
if sys.version_info >= (3, 12):
    BY_TYPE[typing.TypeAliasType] = _type_alias
