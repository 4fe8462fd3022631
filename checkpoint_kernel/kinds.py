"""What kind of thing an object is to a pickler: a leaf, a definition, refused, or to be entered.

Decided by type, once for each. Covers nothing about how an object is then saved.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import pathlib
import re
import sys
import types
import uuid
from collections.abc import Callable
from typing import Any, Final

from cloudpickle.cloudpickle import _should_pickle_by_reference

from . import own_code, registry
from .hidden_state import has_hidden_state
from .refusals import Refusal, refusal_for
from .refusals import type_name as type_name

# ATOMIC and LEAF have no parts that could be shared. An ATOMIC object can never change either.
# REDUCED: `registry` knows how. CUSTOM is PLAIN, but to pickle it runs code of the user's.
PLAIN, ATOMIC, LEAF, FUNCTION, CLASS, MODULE, REFUSED, REDUCED, CUSTOM = range(9)

_LEAVES: Final = (
    str, int, float, complex, bool, bytes, type(None), type(...), type(NotImplemented), range,
    slice, types.BuiltinFunctionType, types.CodeType, types.MethodDescriptorType,
    types.WrapperDescriptorType, types.GetSetDescriptorType, types.MemberDescriptorType,
    types.MappingProxyType,
    datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo, decimal.Decimal,
    fractions.Fraction, uuid.UUID, pathlib.PurePath, re.Pattern, enum.Enum,
)  # fmt: skip
# Exactly these: a subclass may have attributes.
_IMMUTABLE: Final = frozenset(
    {str, int, float, complex, bool, bytes, type(None), type(...), type(NotImplemented), range,
     types.CodeType, datetime.date, datetime.time, datetime.datetime, datetime.timedelta,
     datetime.timezone, decimal.Decimal, fractions.Fraction, uuid.UUID, pathlib.PosixPath,
     pathlib.PurePosixPath, re.Pattern}
)  # fmt: skip
_LEAVES_BY_NAME: Final = (
    ("dataclasses", "_MISSING_TYPE"),
    ("dataclasses", "_KW_ONLY_TYPE"),
    ("dataclasses", "_HAS_DEFAULT_FACTORY_CLASS"),
    ("dataclasses", "_FIELD_BASE"),
    ("numpy", "dtype"),
    ("numpy", "generic"),
    ("numpy", "ufunc"),
    ("pandas.api.extensions", "ExtensionDtype"),
    ("torch", "dtype"),
    ("torch", "device"),
    ("torch", "layout"),
    ("torch", "memory_format"),
    ("torch", "qscheme"),
    ("torch", "Size"),
)

# `pickling` knows how, and those who say so here.
_REDUCED_ELSEWHERE: Final = frozenset({types.CellType, memoryview})
reduced_elsewhere: Final[list[Callable[[type], bool]]] = []
_HIDDEN: Final = Refusal("it has a state that pickle cannot reach")

_EVERYBODYS: Final = (("numpy", "ufunc"), ("jaxlib._jax", "Device"))

known: dict[type, int] = {}
registry.caches.append(known)


def kind_of(cls: type) -> int:
    """How `persistent_id` treats objects of a type; looked up once for each type."""
    if registry.find(cls) is not None:
        kind = LEAF if _is_everybodys(cls) else REDUCED
    elif (refusal := refusal_for(cls)) is not None:
        kind = REFUSED
        registry.known[cls] = registry.Reducer.refusing(refusal)
    elif issubclass(cls, types.FunctionType):
        kind = FUNCTION
    elif issubclass(cls, type):
        kind = CLASS
    elif issubclass(cls, types.ModuleType):
        kind = MODULE
    elif issubclass(cls, _LEAVES) or any(
        isinstance(leaf := getattr(sys.modules.get(module), name, None), type)
        and issubclass(cls, leaf)
        for module, name in _LEAVES_BY_NAME
    ):
        immutable = _is_immutable(cls)
        kind = ATOMIC if immutable else CUSTOM if own_code.runs(cls) else LEAF
    elif has_hidden_state(cls) and not _is_reduced_elsewhere(cls):
        kind = REFUSED
        registry.known[cls] = registry.Reducer.refusing(_HIDDEN)
    else:
        kind = CUSTOM if own_code.runs(cls) else PLAIN
    known[cls] = kind
    return kind


def _is_reduced_elsewhere(cls: type) -> bool:
    return cls in _REDUCED_ELSEWHERE or any(knows(cls) for knows in reduced_elsewhere)


def _is_everybodys(cls: type) -> bool:
    """Objects that most units have in common, and that must not make one unit of them."""
    return any(cls is getattr(sys.modules.get(module), name, None) for module, name in _EVERYBODYS)


def _is_immutable(cls: type) -> bool:
    return cls in _IMMUTABLE or _is_numpy_number(cls) or _is_constant_enum(cls)


def _is_constant_enum(cls: type) -> bool:
    """Its members are saved by their values, and those never change. Its class is another unit."""
    return (
        issubclass(cls, enum.Enum)
        and getattr(cls.__reduce_ex__, "__module__", None) == "enum"
        and all(_never_changes(member._value_) for member in cls.__members__.values())
    )


def _never_changes(value: Any) -> bool:
    if type(value) is tuple:
        return all(map(_never_changes, value))
    return is_leaf(value) and known[type(value)] == ATOMIC


def _is_numpy_number(cls: type) -> bool:
    """Numbers, times and their dtypes: np.void and structured dtypes have parts."""
    numpy = sys.modules.get("numpy")
    if numpy is None or cls.__module__.split(".")[0] != "numpy":
        return False
    if issubclass(cls, numpy.dtype):
        scalar = getattr(cls, "type", None)
        return isinstance(scalar, type) and issubclass(scalar, _numpy_scalars(numpy))
    return issubclass(cls, _numpy_scalars(numpy))


def _numpy_scalars(numpy: Any) -> tuple[type, ...]:
    return (
        numpy.number,
        numpy.bool_,
        numpy.datetime64,
        numpy.timedelta64,
        numpy.str_,
        numpy.bytes_,
    )


def is_leaf(obj: Any) -> bool:
    """Immutable and without parts that could be shared: identity between names is not kept."""
    cls = type(obj)
    try:
        kind = known.get(cls)
        return (kind_of(cls) if kind is None else kind) in (ATOMIC, LEAF)
    except Exception:  # a metaclass without a hash, a __subclasscheck__ that raises
        return False


def is_plain_function(obj: Any) -> bool:
    """A function of a C module, bound to nothing."""
    return type(obj) is types.BuiltinFunctionType and type(obj.__self__) in (
        types.ModuleType,
        types.NoneType,
    )


def is_constant(values: tuple[Any, ...]) -> bool:
    """A tuple of leaves, or of such tuples: nobody can change it."""
    return all(is_leaf(v) or (type(v) is tuple and is_constant(v)) for v in values)


_HEAP_TYPE: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement or by type()


def saved_by_value(definition: Any) -> bool:
    """A class or function that cannot be imported again: it belongs to the notebook."""
    if issubclass(type(definition), type) and not definition.__flags__ & _HEAP_TYPE:
        return False
    try:
        return not _should_pickle_by_reference(definition)
    except Exception:  # a __module__ that is a property, a __getattr__ that raises
        return True
