"""Reducers for numpy and scipy: what is not an ndarray, or more than one.

A memmap reopens its file, and is a copy where that is no longer the same one: its contents are
the file's, as they are when it comes back.
"""

from __future__ import annotations

import collections
import gc
import itertools
import sys
from typing import Any, Final

from checkpoint_kernel import rebuild
from checkpoint_kernel.refusals import Refusal, Refused, type_name
from checkpoint_kernel.registry import named, named_reduction

from . import same_file

# Of a mapped file of at most so many bytes a copy is kept, lest the file be gone.
_COPIED_BYTES: Final = 16 << 20


def _address(array: Any) -> int:
    return int(array.ctypes.data)


# --- memmap


def reduce_memmap(array: Any) -> Any:
    """The file, by its path; a view of one by the array that maps it."""
    numpy = sys.modules["numpy"]
    root = array
    while type(root.base) is numpy.memmap:
        root = root.base
    if root is not array:
        offset = _address(array) - _address(root)
        layout = (array.dtype, array.shape, array.strides, bool(array.flags.writeable))
        return (load_view, (root, offset, *layout))
    if getattr(array, "_mmap", None) is None:
        return NotImplemented  # a copy of one, in memory
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    facts = same_file.facts_of(str(array.filename)) if array.filename else None
    private = array.mode == "c" or facts is None
    copied = private or array.nbytes <= _COPIED_BYTES
    data = array.tobytes(order="A") if copied else None
    mapped = (array.mode, array.offset, array.dtype, array.shape, order)
    return (load_memmap, (None if private else facts, data, *mapped))


def load_memmap(
    facts: dict[str, Any] | None, data: Any, mode: str, offset: int, dtype: Any, shape: Any,
    order: str,
) -> Any:  # fmt: skip
    """A map of the file, or an array of the same class over a copy of what was in it."""
    import numpy as np

    try:
        if facts is None:
            raise rebuild.NotThere("it was in memory only")
        path = same_file.check(facts, unwritten=False)
        # Never "w+": that would empty the file.
        kept: Any = mode if mode in ("r", "c") else "r+"
        return np.memmap(path, dtype, kept, offset, shape, order)  # type: ignore[call-overload]
    except rebuild.NotThere:
        if data is None:
            raise
        flat: Any = np.frombuffer(bytearray(data), dtype)
        return flat.reshape(shape, order=order).view(np.memmap)


def load_view(root: Any, offset: int, dtype: Any, shape: Any, strides: Any, writeable: bool) -> Any:
    """A part of a memmap."""
    made = rebuild.view(root, offset, dtype, shape, strides, writeable).view(type(root))
    for name in ("_mmap", "filename", "offset", "mode"):
        setattr(made, name, getattr(root, name, None))
    return made


# --- masked arrays


def reduce_masked(array: Any) -> Any:
    """Data and mask as arrays, so that who shares them goes on sharing them."""
    numpy = sys.modules["numpy"]
    data = array.view(numpy.ndarray)
    state = {
        "_mask": array._mask,
        "_fill_value": array._fill_value,
        "_hardmask": array._hardmask,
        "_sharedmask": array._sharedmask,
        "_baseclass": array._baseclass,
        "_optinfo": dict(array._optinfo),
    }
    return (load_masked, (data, array._mask is numpy.ma.nomask, state))


def load_masked(data: Any, unmasked: bool, state: dict[str, Any]) -> Any:
    """A masked array over the memory of `data`."""
    import numpy as np

    made: Any = data.view(np.ma.MaskedArray)
    if unmasked:
        state["_mask"] = np.ma.nomask  # a number, and told by identity
    made.__dict__.update(state)
    return made


# --- iterators


def save_flat(iterator: Any) -> tuple[Any, int]:
    """The array, and how far it is."""
    return (iterator.base, iterator.index)


def load_flat(state: tuple[Any, int]) -> Any:
    """An iterator over an array, as far as it was."""
    made = state[0].flat
    collections.deque(itertools.islice(made, state[1]), maxlen=0)
    return made


def save_broadcast(iterator: Any) -> tuple[Any, int]:
    """The arrays, and how far it is."""
    return ([one.base for one in iterator.iters], iterator.index)


def load_broadcast(state: tuple[Any, int]) -> Any:
    """Arrays that are broadcast against each other, as far as they were."""
    import numpy as np

    made = np.broadcast(*state[0])
    collections.deque(itertools.islice(made, state[1]), maxlen=0)
    return made


# --- the rest


def reduce_ufunc(function: Any) -> Any:
    """One made of a Python function: that function. numpy's own have names."""
    inside = [one for one in gc.get_referents(function) if callable(one)]
    if not function.__name__.endswith("(vectorized)") or len(inside) != 1:
        return NotImplemented
    return (load_ufunc, (inside[0], function.nin, function.nout, function.identity))


def load_ufunc(function: Any, inputs: int, outputs: int, identity: Any) -> Any:
    """What `numpy.frompyfunc` makes."""
    import numpy as np

    if identity is None:
        return np.frompyfunc(function, inputs, outputs)
    return np.frompyfunc(function, inputs, outputs, identity=identity)


def reduce_info(info: Any) -> Any:
    """finfo and iinfo: of a dtype; a bare copy of their attributes has none of their methods."""
    return (type(info), (info.dtype,))


def reduce_errstate(state: Any) -> Any:
    """What it sets; whether it has been entered ends with the process."""
    names = ("all", "divide", "over", "under", "invalid", "call")
    if not hasattr(state, "_divide"):
        return NotImplemented  # before numpy 2 it had ordinary attributes
    given = {name: getattr(state, f"_{name}") for name in names}
    if type(given["call"]).__name__ == "_unspecified":
        del given["call"]
    return (load_errstate, ({k: v for k, v in given.items() if v is not None},))


def load_errstate(given: dict[str, Any]) -> Any:
    """`numpy.errstate`."""
    import numpy as np

    return np.errstate(**given)


def reduce_busdays(calendar: Any) -> Any:
    """Week mask and holidays."""
    return (type(calendar), (calendar.weekmask, calendar.holidays))


def reduce_npz(archive: Any) -> Any:
    """The archive is opened again; nothing of it is read."""
    zipped = getattr(archive, "zip", None)
    facts = same_file.facts_of(zipped.filename) if zipped and zipped.filename else None
    if facts is None:
        raise Refused(type_name(archive), Refusal("its file is closed or gone", "open it again"))
    return (load_npz, (facts, archive.allow_pickle))


def load_npz(facts: dict[str, Any], allow_pickle: bool) -> Any:
    """`numpy.load` of an archive."""
    import numpy as np

    return np.load(same_file.check(facts, unwritten=True), allow_pickle=allow_pickle)


named_reduction("numpy", "memmap", reduce_memmap)
named_reduction("numpy.ma", "MaskedArray", reduce_masked)
named("numpy", "flatiter", save_flat, load_flat)
named("numpy", "broadcast", save_broadcast, load_broadcast)
named_reduction("numpy", "ufunc", reduce_ufunc)
named_reduction("numpy", "finfo", reduce_info)
named_reduction("numpy", "iinfo", reduce_info)
named_reduction("numpy", "errstate", reduce_errstate)
named_reduction("numpy", "busdaycalendar", reduce_busdays)
named_reduction("numpy.lib.npyio", "NpzFile", reduce_npz)
