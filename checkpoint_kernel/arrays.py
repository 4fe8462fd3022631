"""Reductions of numpy arrays and memoryviews: memory out of band, views over their base.

Arrays that share memory share it again. numpy is never imported here: who has no numpy has
no arrays.
"""

from __future__ import annotations

import ctypes
import pickle
from typing import Any, Final

from . import rebuild

# Arrays below this stay in the pickle stream: a buffer costs a table entry and a chunk.
IN_BAND_BYTES: Final = 64 * 1024


def pandas_shared_blocks(manager: Any) -> set[int]:
    """Ids of arrays that must come back with memory of their own.

    These are blocks that pandas shares copy-on-write. The references by which pandas knows
    of the sharing are not saved; shared memory without them would let a write to one frame
    change the other.
    """
    shared = set()
    for block in getattr(manager, "blocks", ()):
        has_reference = getattr(getattr(block, "refs", None), "has_reference", None)
        if has_reference is not None and has_reference():
            shared.add(id(block.values))
    return shared


def reduce_memoryview(view: memoryview) -> Any:
    """A memoryview on its bytearray, or on memory of its own."""
    if not view.c_contiguous or view.format not in ("B", "b", "c"):
        return NotImplemented
    owner = view.obj
    if isinstance(owner, bytearray | bytes) and len(owner) == view.nbytes:
        return (rebuild.memory_view, (owner, view.readonly))
    if view.nbytes < IN_BAND_BYTES:
        return (rebuild.memory_view, (bytearray(view), view.readonly))
    return (rebuild.memory_view, (pickle.PickleBuffer(view), view.readonly))


def reduce_array(array: Any, own_memory: bool, private: list[Any], numpy: Any) -> Any:
    """An ndarray; `own_memory` if it must not share any (its buffer is added to `private`)."""
    writeable = bool(array.flags.writeable)
    if own_memory and not (array.flags.c_contiguous or array.flags.f_contiguous):
        array = array.copy(order="K")
    if not own_memory and array.size:
        reduced = _reduce_view(array, writeable, numpy)
        if reduced is not None:
            return reduced
    if array.dtype.hasobject or array.size == 0 or array.dtype.itemsize == 0:
        return NotImplemented
    if array.flags.c_contiguous:
        order = "C"
    elif array.flags.f_contiguous:
        order = "F"
    else:
        return NotImplemented  # strided memory that no array owns: numpy saves a copy
    layout = (array.dtype, array.shape, order, writeable)
    if array.nbytes < IN_BAND_BYTES:
        return (rebuild.array, (bytearray(array.tobytes(order)), *layout))
    buffer = memory_at(array.ctypes.data, array.nbytes, array)
    if own_memory:
        private.append(buffer)
    return (rebuild.array, (buffer, *layout))


def _reduce_view(array: Any, writeable: bool, numpy: Any) -> Any:
    """A view as its base plus a layout, so that both share memory again; else None."""
    root = _root_of(array, numpy.ndarray)
    low, high = _span(array.shape, array.strides, array.itemsize)
    layout = (array.dtype, array.shape, array.strides, writeable)
    if root is not array:
        if not (root.flags.c_contiguous or root.flags.f_contiguous):
            return None
        offset = array.ctypes.data - root.ctypes.data
    elif isinstance(root.base, memoryview) and root.base.c_contiguous:
        root = root.base
        offset = array.ctypes.data - numpy.frombuffer(root, numpy.uint8).ctypes.data
    else:
        return None
    if offset + low < 0 or offset + high > root.nbytes:
        return None
    return (rebuild.view, (root, offset, *layout))


def _span(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> tuple[int, int]:
    """Bytes before and after an array's first element that its elements cover."""
    low = sum(min(0, s * (n - 1)) for n, s in zip(shape, strides, strict=True))
    high = sum(max(0, s * (n - 1)) for n, s in zip(shape, strides, strict=True))
    return low, high + itemsize


def memory_at(address: int, length: int, owner: Any) -> pickle.PickleBuffer:
    """The bytes at an address, as a buffer; `owner` keeps them alive."""
    raw = (ctypes.c_ubyte * length).from_address(address)
    raw._owner = owner  # type: ignore[attr-defined]
    return pickle.PickleBuffer(memoryview(raw).cast("B"))


def _root_of(array: Any, ndarray: type) -> Any:
    """The array that owns the memory of a view, as far as numpy knows."""
    root = array
    while True:
        base = root.base
        if type(base).__name__ == "DummyArray":  # what as_strided puts in between
            base = base.base
        if type(base) is not ndarray:
            return root
        root = base
