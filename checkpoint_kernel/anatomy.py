"""What an object is made of: bytes of its own, memory that it points to, other objects.

By its type alone, and by functions in C or of known libraries: no code of the user's runs (no
`__len__`, `__iter__`, `__sizeof__`, `nbytes` or `__getattr__` of theirs), and nothing is imported.
Covers one object; `sizes` follows the parts. Not seen: what C code keeps to itself, and devices.
"""

from __future__ import annotations

import array
import collections
import gc
import mmap
import sys
import types
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

_GC_HEADER_BYTES: Final = 16
_POINTER_BYTES: Final = 8
_WHOLE: Final = 500  # elements of a container that is looked at whole, if the limit allows it
_FEW: Final = 40  # of one that always is
_LONGEST_CHAIN: Final = 100  # of views of views

# Of `type` itself, so that no metaclass is asked.
_bases: Final[Callable[[type], tuple[type, ...]]] = type.__dict__["__mro__"].__get__
_attributes: Final[Callable[[type], Any]] = type.__dict__["__dict__"].__get__
_contents: Final[Callable[[Any], Any]] = vars(types.ModuleType)["__dict__"].__get__


class Look(NamedTuple):
    """What was seen of an object."""

    own_bytes: int
    parts: Sequence[Any] = ()
    # `parts` are so many times as many in all: those not seen are like those seen.
    factor: float = 1.0
    besides: Sequence[Any] = ()  # parts that stand for themselves alone
    memory: Sequence[tuple[int, int]] = ()  # start and end of what may be shared with others


NOTHING: Final = Look(0)
_Looker = Callable[[Any, int], Look]


class Anatomy:
    """Decides how to look at an object by its type, once for each type."""

    def __init__(self) -> None:
        self._lookers = _lookers()
        # By id, for a metaclass may define `__hash__`; the type is kept so that its id stays its.
        self._known: dict[int, tuple[type, _Looker]] = {}

    def look(self, value: Any, limit: int) -> Look:
        """Look at about `limit` parts at most. Raises what the libraries raise, and MemoryError."""
        return self._looker(type(value))(value, limit)

    def rank(self, value: Any) -> int:
        """Whose shared memory is: 0 an array's or text's, 1 a view's, 2 that of what holds them."""
        looker = self._looker(type(value))
        if looker is _array:
            return int(sys.modules["numpy"].ndarray.base.__get__(value) is not None)
        return 0 if looker in _MEMORY else 2

    def _looker(self, cls: type) -> _Looker:
        known = self._known.get(id(cls))
        if known is None:
            found = (self._lookers.get(id(base)) for base in _bases(cls))
            known = (cls, next((looker for looker in found if looker is not None), _instance))
            self._known[id(cls)] = known
        return known[1]


def _lookers() -> dict[int, _Looker]:
    """By the id of a class; subclasses are looked at in the same way."""
    found: dict[int, _Looker] = {id(cls): looker for cls, looker in _BUILT_IN}
    for module_name, name, looker in _OF_LIBRARIES:
        module = sys.modules.get(module_name)
        if isinstance(module, types.ModuleType) and name in (contents := _contents(module)):
            found[id(contents[name])] = looker
    return found


# --- Python's own -------------------------------------------------------------------------


def _nothing(_value: Any, _limit: int) -> Look:
    return NOTHING


def _leaf(value: Any, _limit: int) -> Look:
    return Look(_own_bytes(value))


def _own_bytes(value: Any) -> int:
    """As sys.getsizeof, by the nearest `__sizeof__` that is written in C."""
    for base in _bases(type(value)):
        sizeof = _attributes(base).get("__sizeof__")
        if isinstance(sizeof, types.MethodDescriptorType):
            return int(sizeof(value))
    return 0


def _sequence(cls: Any) -> _Looker:
    """list or tuple."""

    def look(value: Any, limit: int) -> Look:
        count, own = cls.__len__(value), cls.__sizeof__(value) + _GC_HEADER_BYTES
        limit = _limited(count, limit)
        if count <= limit:
            return Look(own, cls.__getitem__(value, slice(None)), 1.0, _beside(value, cls))
        # Spread, and out of step with any period that the elements may have.
        picked = [cls.__getitem__(value, place) for place in _spread(count, limit)]
        return Look(own, picked, count / limit, _beside(value, cls))

    return look


def _spread(count: int, wanted: int) -> list[int]:
    """`wanted` places below `count`, evenly but not regularly (golden ratio)."""
    return [int(count * (k * 0.6180339887498949 % 1.0)) for k in range(wanted)]


def _limited(count: int, limit: int) -> int:
    """How many parts to look at: records and attributes all, for they are not alike."""
    if count <= _FEW or (count <= _WHOLE and limit >= _WHOLE // 4):
        return count
    return limit


def _dictionary(value: Any, limit: int) -> Look:
    count, own = dict.__len__(value), dict.__sizeof__(value) + _GC_HEADER_BYTES
    limit = _limited(count, limit)
    items = list(islice(dict.items(value), count if count <= limit else limit // 2))
    if count > limit:
        items += islice(reversed(dict.items(value)), limit - limit // 2)
    parts = [part for item in items for part in item]
    return Look(own, parts, count / max(len(items), 1), _beside(value, dict))


def _iterable(cls: Any) -> _Looker:
    """set, frozenset or deque: the first elements, which are no worse than others."""

    def look(value: Any, limit: int) -> Look:
        count, own = cls.__len__(value), cls.__sizeof__(value) + _GC_HEADER_BYTES
        parts = list(islice(cls.__iter__(value), _limited(count, limit)))
        return Look(own, parts, count / max(len(parts), 1), _beside(value, cls))

    return look


def _beside(value: Any, cls: type) -> Sequence[Any]:
    """Attributes of an instance of a subclass of a container."""
    if type(value) is cls:
        return ()
    for base in _bases(type(value)):
        slot = _attributes(base).get("__dict__")
        if isinstance(slot, types.GetSetDescriptorType):
            return (slot.__get__(value),)
    return ()


def _function(value: Any, _limit: int) -> Look:
    """Not its globals, which are everybody's."""
    parts = [value.__defaults__, value.__kwdefaults__, *(value.__closure__ or ())]
    return Look(_own_bytes(value), parts)


def _class(value: Any, _limit: int) -> Look:
    attributes = _attributes(value)
    if attributes.get("__module__") != "__main__":
        return NOTHING  # everybody's
    return Look(_own_bytes(value), list(attributes.values()))


def _instance(value: Any, _limit: int) -> Look:
    parts = gc.get_referents(value)
    return Look(_own_bytes(value) + _GC_HEADER_BYTES + _POINTER_BYTES * len(parts), parts)


def _mmap(value: Any, _limit: int) -> Look:
    numpy = sys.modules.get("numpy")
    length = mmap.mmap.__len__(value)
    if numpy is None:
        return Look(length)
    start = numpy.frombuffer(value, numpy.uint8).ctypes.data
    return Look(0, memory=[(start, start + length)])


# --- libraries ----------------------------------------------------------------------------


def _array(value: Any, limit: int) -> Look:
    """A numpy array: a view keeps all that it was cut from."""
    ndarray = sys.modules["numpy"].ndarray
    root = value
    for _ in range(_LONGEST_CHAIN):
        base = ndarray.base.__get__(root)
        if not _is_a(base, ndarray):
            break
        root = base
    if _is_a(base, memoryview):
        base = base.obj
    own, parts, factor = 112, [], 1.0
    if ndarray.dtype.__get__(value).char == "O":
        count = ndarray.size.__get__(value)
        limit = _limited(count, limit)
        places = range(count) if count <= limit else _spread(count, limit)
        parts, factor = [ndarray.item(value, place) for place in places], count / max(limit, 1)
    if _is_a(base, bytes) or _is_a(base, bytearray) or _is_a(base, _tensor_class()):
        return Look(own, parts, factor, [base])
    start = ndarray.__array_interface__.__get__(root)["data"][0]
    return Look(own, parts, factor, memory=[(start, start + ndarray.nbytes.__get__(root))])


def _is_a(value: Any, cls: type | None) -> bool:
    return any(base is cls for base in _bases(type(value)))


def _tensor_class() -> type | None:
    torch = sys.modules.get("torch")
    return None if torch is None else _contents(torch).get("Tensor")


def _tensor(value: Any, _limit: int) -> Look:
    torch: Any = sys.modules["torch"]
    plain = torch._C.TensorBase
    with torch._C.DisableTorchFunctionSubclass():
        memory = _memory_of_tensor(value, plain)
        if plain.is_leaf.__get__(value) and (grad := plain.grad.__get__(value)) is not None:
            memory += _memory_of_tensor(grad, plain)
    return Look(_own_bytes(value), memory=memory, besides=gc.get_referents(value))


def _memory_of_tensor(tensor: Any, plain: Any) -> list[tuple[int, int]]:
    if plain.is_sparse.__get__(tensor):
        parts = [plain._indices(tensor), plain._values(tensor)]
    elif plain.is_sparse_csr.__get__(tensor):
        parts = [plain.crow_indices(tensor), plain.col_indices(tensor), plain.values(tensor)]
    else:
        parts = [tensor]
    return [place for part in parts for place in _storage(plain.untyped_storage(part), 0).memory]


def _storage(value: Any, _limit: int) -> Look:
    if value.device.type != "cpu":
        return NOTHING
    start = value.data_ptr()
    return Look(0, memory=[(start, start + value.nbytes())])


def _by_method(module_name: str, class_name: str, method: str) -> _Looker:
    """What a library says of its own object, asked of its own class."""

    def look(value: Any, _limit: int) -> Look:
        return Look(int(getattr(getattr(sys.modules[module_name], class_name), method)(value)))

    return look


def _arrow_buffer(value: Any, _limit: int) -> Look:
    return Look(0, memory=[(value.address, value.address + value.size)])


def _decision_tree(value: Any, _limit: int) -> Look:
    """scikit-learn keeps nodes (64 bytes) and values (float64) in C: forests are made of these."""
    tree = sys.modules["sklearn.tree._tree"].Tree
    values = tree.n_outputs.__get__(value) * tree.max_n_classes.__get__(value)
    return Look(tree.capacity.__get__(value) * (64 + 8 * values))


_BUILT_IN: Final[tuple[tuple[type, _Looker], ...]] = (
    *((cls, _leaf) for cls in (str, bytes, bytearray, int, float, complex, range, array.array)),
    *(
        (cls, _nothing)
        for cls in (
            types.ModuleType, types.FrameType, types.CodeType, types.BuiltinFunctionType,
            types.GetSetDescriptorType, types.MemberDescriptorType, types.MethodDescriptorType,
            types.WrapperDescriptorType, type(None), type(...),
        )
    ),
    (list, _sequence(list)),
    (tuple, _sequence(tuple)),
    (dict, _dictionary),
    *((cls, _iterable(cls)) for cls in (set, frozenset, collections.deque)),
    (types.FunctionType, _function),
    (type, _class),
    (mmap.mmap, _mmap),
)  # fmt: skip
_MEMORY: Final = frozenset({_nothing, _leaf, _storage, _tensor, _mmap, _function, _class})
_ARROW: Final = ("Table", "RecordBatch", "ChunkedArray", "Array")
_OF_LIBRARIES: Final[tuple[tuple[str, str, _Looker], ...]] = (
    ("numpy", "ndarray", _array),
    ("torch", "Tensor", _tensor),
    ("torch", "UntypedStorage", _storage),
    *(
        ("pyarrow", name, _by_method("pyarrow", name, "get_total_buffer_size"))
        for name in _ARROW
    ),
    ("pyarrow", "Buffer", _arrow_buffer),
    ("sklearn.tree._tree", "Tree", _decision_tree),
    *(
        ("polars", name, _by_method("polars", name, "estimated_size"))
        for name in ("DataFrame", "Series")
    ),
)  # fmt: skip
