"""Reductions of numpy arrays and memoryviews: memory out of band, views over their base.

Arrays that share memory share it again. numpy is never imported here: who has no numpy has
no arrays.
"""

from __future__ import annotations

import array as arrays_of_numbers
import ctypes
import pickle
import sys
from typing import Any, Final

from . import rebuild, reducers_builtin

# Arrays below this stay in the pickle stream: a buffer costs a table entry and a chunk.
IN_BAND_BYTES: Final = 64 * 1024


# Object arrays of so many elements are looked through for such as are only these.
_MANY: Final = 1000
_PLAIN: Final = frozenset({str, bytes, int, float, bool, type(None)})


class Memory:
    """Where the memory that one pickler meets goes: out of band, or into the stream if small.

    What is in the stream has no address any more. So that objects of two libraries that share
    such memory can be found (`aliases`), its ranges are noted.
    """

    def __init__(self, in_band_bytes: int = IN_BAND_BYTES) -> None:
        self._in_band_bytes = in_band_bytes  # 0: all of it goes out of band
        self._notes = "torch" in sys.modules
        self.private: list[pickle.PickleBuffer] = []  # must not share memory with any other
        self.temporary: list[pickle.PickleBuffer] = []  # made by pickling: gone with it
        self.staged: list[tuple[pickle.PickleBuffer, Any]] = []  # with its `staging.HostCopy`
        self.in_stream: list[tuple[int, int]] = []  # start and end of what went into the stream
        self.borrowed: list[tuple[int, int]] = []  # under objects that do not tell whose it is

    def is_small(self, length: int) -> bool:
        """Whether so many bytes go into the stream."""
        return length < self._in_band_bytes

    def note(self, address: int, length: int) -> None:
        """Memory that goes into the stream."""
        if self._notes and length:
            self.in_stream.append((address, address + length))

    def take(
        self, address: int, length: int, owner: Any, private: bool = False
    ) -> bytes | pickle.PickleBuffer:
        """The bytes at an address, which `owner` keeps alive."""
        if not length:
            return b""
        if self.is_small(length):
            if not private:
                self.note(address, length)
            return ctypes.string_at(address, length)
        buffer = memory_at(address, length, owner)
        if private:
            self.private.append(buffer)
        return buffer


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


def reduce_memoryview(view: memoryview, memory: Memory) -> Any:
    """A memoryview on its bytearray, or on memory of its own."""
    owner = view.obj
    if not view.c_contiguous or view.format != "B" or view.ndim != 1:
        return reducers_builtin.part_of_memory(view)
    whole = isinstance(owner, bytearray | bytes) and len(owner) == view.nbytes
    if not (memory.is_small(view.nbytes) or (whole and memory.is_small(0))):
        return (rebuild.memory_view, (pickle.PickleBuffer(view), view.readonly))
    if not whole and isinstance(owner, bytearray | arrays_of_numbers.array):
        return reducers_builtin.part_of_memory(view)
    if (address := address_of(view)) is not None:
        memory.note(address, view.nbytes)
    return (rebuild.memory_view, (owner if whole else bytearray(view), view.readonly))


def reduce_array(array: Any, own_memory: bool, memory: Memory, numpy: Any) -> Any:
    """An ndarray; `own_memory` if it must not share any."""
    writeable = bool(array.flags.writeable)
    copied = own_memory and not (array.flags.c_contiguous or array.flags.f_contiguous)
    if copied:
        array = array.copy(order="K")
    if not own_memory and array.base is not None and array.size:
        reduced = _reduce_view(array, writeable, numpy)
        if reduced is not None:
            return reduced
    if array.dtype == object and array.size >= _MANY:
        return _reduce_plain_objects(array, memory)
    if array.dtype.hasobject or array.size == 0 or array.dtype.itemsize == 0:
        return NotImplemented
    if array.flags.c_contiguous:
        order = "C"
    elif array.flags.f_contiguous:
        order = "F"
    else:
        return NotImplemented  # strided memory that no array owns: numpy saves a copy
    layout = (array.dtype, array.shape, order, writeable)
    address = array.ctypes.data
    if not own_memory and array.base is not None:
        memory.borrowed.append((address, address + array.nbytes))
    data = memory.take(address, array.nbytes, array, private=own_memory)
    if copied and isinstance(data, pickle.PickleBuffer):
        memory.temporary.append(data)
    return (rebuild.array, (bytearray(data) if isinstance(data, bytes) else data, *layout))


def _reduce_plain_objects(array: Any, memory: Memory) -> Any:
    """An array of texts and numbers, as the columns of a DataFrame are: pickled by itself.

    Nothing in it could be shared with another unit or need a reduction of ours, so no Python
    code runs for each element: 2 M texts in 0.3 s instead of 1.2 s.
    """
    elements = array.ravel(order="K").tolist()
    if not set(map(type, elements)) <= _PLAIN:
        return NotImplemented
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    if not (fortran or array.flags.c_contiguous):
        return NotImplemented
    stream = pickle.dumps(elements, 5)
    if not memory.is_small(len(stream)):
        buffer = pickle.PickleBuffer(stream)
        memory.temporary.append(buffer)
        return (rebuild.plain_objects, (buffer, array.shape, fortran, bool(array.flags.writeable)))
    return NotImplemented


def _reduce_view(array: Any, writeable: bool, numpy: Any) -> Any:
    """A view as its base plus a layout, so that both share memory again; else None."""
    root = root_of(array, numpy.ndarray)
    low, high = _span(array.shape, array.strides, array.itemsize)
    layout = (array.dtype, array.shape, array.strides, writeable)
    if (storage := _storage_behind(root)) is not None:
        offset = array.ctypes.data - storage.data_ptr()
        return (rebuild.view_of_storage, (storage, offset, *layout))
    if (mapped := _map_behind(root)) is not None:
        root = mapped
    if root is not array:
        if not (root.flags.c_contiguous or root.flags.f_contiguous):
            return None
        offset = array.ctypes.data - root.ctypes.data
    elif isinstance(root.base, memoryview) and root.base.c_contiguous and not _of_cython(root.base):
        root = root.base
        offset = array.ctypes.data - numpy.frombuffer(root, numpy.uint8).ctypes.data
    else:
        return None
    if offset + low < 0 or offset + high > root.nbytes:
        return None
    return (rebuild.view, (root, offset, *layout))


def _of_cython(view: memoryview) -> bool:
    """Over memory that Cython code holds, by an object that cannot be pickled."""
    return type(view.obj).__name__ in ("_memoryviewslice", "memoryview")


def _map_behind(root: Any) -> Any:
    """The memmap that a plain array is a view of, or None."""
    memmap = getattr(sys.modules.get("numpy"), "memmap", None)
    return root.base if memmap is not None and type(root.base) is memmap else None


def _storage_behind(root: Any) -> Any:
    """The storage of the torch tensor that an array was made of by `Tensor.numpy`, or None."""
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)
    if tensor is None or not issubclass(type(root.base), tensor):
        return None
    return root.base.untyped_storage()


def _span(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> tuple[int, int]:
    """Bytes before and after an array's first element that its elements cover."""
    low = sum(min(0, s * (n - 1)) for n, s in zip(shape, strides, strict=True))
    high = sum(max(0, s * (n - 1)) for n, s in zip(shape, strides, strict=True))
    return low, high + itemsize


def address_of(view: memoryview) -> int | None:
    """Where a buffer lies, or None without numpy (then nobody made overlapping arrays)."""
    numpy = sys.modules.get("numpy")
    if numpy is None or view.nbytes == 0:
        return None
    return int(numpy.frombuffer(view, numpy.uint8).ctypes.data)


def memory_at(address: int, length: int, owner: Any) -> pickle.PickleBuffer:
    """The bytes at an address, as a buffer; `owner` keeps them alive."""
    raw = (ctypes.c_ubyte * length).from_address(address)
    raw._owner = owner  # type: ignore[attr-defined]
    return pickle.PickleBuffer(memoryview(raw).cast("B"))


def root_of(array: Any, ndarray: type) -> Any:
    """The array that owns the memory of a view, as far as numpy knows."""
    root = array
    while True:
        base = root.base
        if type(base).__name__ == "DummyArray":  # what as_strided puts in between
            base = base.base
        if type(base) is not ndarray:
            return root
        root = base
