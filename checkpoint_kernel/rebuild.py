"""What pickles of ours call when they are loaded.

The names of these functions stand in every checkpoint: they, and their parameters, are
part of the store's format. Add, never rename.
"""

from __future__ import annotations

import functools
import types
from typing import Any


def new_cell() -> types.CellType:
    """An empty cell; whoever refers to it fills it once everything is there."""
    return types.CellType()


def set_cell(cell: types.CellType, contents: tuple[Any, ...]) -> None:
    """Fill a cell with the only element of `contents`; leave it empty if there is none."""
    if contents:
        cell.cell_contents = contents[0]


def new_function(
    code: types.CodeType,
    namespace: dict[str, Any] | types.ModuleType,
    name: str,
    closure: tuple[types.CellType, ...] | None,
) -> types.FunctionType:
    """A function whose globals are a live namespace, or those of a module."""
    if isinstance(namespace, types.ModuleType):
        namespace = vars(namespace)
    return types.FunctionType(code, namespace, name, None, closure)


def set_function(function: types.FunctionType, state: dict[str, Any]) -> None:
    """Defaults, attributes and closure contents of a function."""
    for name, value in state["fields"].items():
        setattr(function, name, value)
    function.__dict__.update(state["dict"])
    for cell, contents in state["cells"]:
        set_cell(cell, contents)


def cached(parameters: dict[str, Any], wrapped: Any) -> Any:
    """A function under lru_cache, with an empty cache."""
    return functools.lru_cache(**parameters)(wrapped)


def update(obj: Any, attributes: dict[str, Any]) -> None:
    """Attributes of an object that `cached` made."""
    obj.__dict__.update(attributes)


def array(data: Any, dtype: Any, shape: tuple[int, ...], order: str, writeable: bool) -> Any:
    """An array on the memory of `data`, which it does not copy."""
    import numpy as np

    # frombuffer and not ndarray(buffer=...): the base is then a memoryview, which
    # `arrays` recognises at the next checkpoint.
    flat: Any = np.frombuffer(data, np.uint8)
    array = flat.view(dtype).reshape(shape, order=order)
    if not writeable:
        array.flags.writeable = False
    return array


def view(
    base: Any,
    offset: int,
    dtype: Any,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    writeable: bool,
) -> Any:
    """A view over the memory of an array, or of a buffer: `offset` and `strides` in bytes."""
    import numpy as np

    flat: Any
    if not isinstance(base, np.ndarray):
        flat = np.frombuffer(base, np.uint8)
    else:
        # A view made before its base became read-only is still writeable.
        frozen = writeable and not base.flags.writeable
        if frozen:
            base.flags.writeable = True
        flat = (base if base.flags.c_contiguous else base.T).reshape(-1)
        if frozen:
            base.flags.writeable = False
    if dtype.hasobject:  # numpy refuses to lay object arrays over raw bytes
        laid: Any = np.lib.stride_tricks.as_strided(
            flat[offset // dtype.itemsize :], shape, strides
        )
    else:
        raw = flat.view(np.uint8)
        laid = np.ndarray(shape, dtype, buffer=raw, offset=offset, strides=strides)
    if not writeable:
        laid.flags.writeable = False
    return laid


def memory_view(data: Any, readonly: bool) -> memoryview:
    """A memoryview on `data`."""
    view = memoryview(data)
    return view.toreadonly() if readonly else view
