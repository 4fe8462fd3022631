"""What pickles of ours call when they are loaded.

The names of these functions stand in every checkpoint: they, and their parameters, are
part of the store's format. Add, never rename.
"""

from __future__ import annotations

import ctypes
import functools
import io
import pickle
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from . import kinds
from .stub import Stub


def new_cell() -> types.CellType:
    """An empty cell; whoever refers to it fills it once everything is there."""
    return types.CellType()


def set_cell(cell: types.CellType, contents: tuple[Any, ...]) -> None:
    """Fill a cell with the only element of `contents`; leave it empty if there is none."""
    if contents:
        cell.cell_contents = contents[0]


def new_code(*fields: Any) -> types.CodeType:
    """A code object, from the fields that `types.CodeType` takes, in its order (3.11 and later)."""
    code = types.CodeType(*fields)
    codes.append(code)
    return code


class NotThere(OSError):
    """What an object needs outside of the checkpoint is gone: its file, its database."""


# Not empty: what is loaded has stubs where NotThere would be raised; these are noted in here.
stubs_for_missing: list[list[Any]] = []


def or_stub(make: Callable[..., Any], what: str, remedy: str | None, *arguments: Any) -> Any:
    """`make(*arguments)`; where what that needs is gone, a stub of a `what`, if stubs will do."""
    try:
        return make(*arguments)
    except NotThere as why:
        if not stubs_for_missing:
            raise
        made = Stub(what, str(why), remedy)
        stubs_for_missing[-1].append(made)
        return made


# Not empty while what was saved is loaded on trial: nothing outside is to change by that.
trying: list[bool] = []

# Of functions that were loaded: their texts stand in no cell of this session.
codes: list[types.CodeType] = []


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


def new_class(make: Callable[..., type], *arguments: Any) -> type:
    """A class without its attributes, by cloudpickle's `make`, and without telling the notebook.

    The notebook's hooks ran when the class was defined, and what they did is saved as all else
    is: run again they would register it twice, or fail for want of the class statement's
    keywords. Hooks of libraries, whose registries are not saved, run.
    """
    bases = types.resolve_bases(next(given for given in arguments if isinstance(given, tuple)))
    metaclasses = [*(given for given in arguments if isinstance(given, type)), *map(type, bases)]
    with (
        _aside(metaclasses, ("__prepare__", "__new__", "__init__")),
        _aside(bases, ("__init_subclass__",)),
    ):
        return make(*arguments)


@contextmanager
def _aside(classes: Iterable[type], hooks: tuple[str, ...]) -> Iterator[None]:
    """Take hooks from those of the classes, and of their parents, that are the notebook's.

    For microseconds: a thread that defines a class of the same family just then goes without.
    """
    taken = {
        (cls, name): vars(cls)[name]
        for child in classes
        for cls in child.__mro__
        for name in hooks
        if name in vars(cls) and kinds.saved_by_value(cls)
    }
    try:
        for cls, name in taken:
            type.__delattr__(cls, name)
        yield
    finally:
        for (cls, name), hook in taken.items():
            type.__setattr__(cls, name, hook)


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


def plain_objects(data: Any, shape: tuple[int, ...], fortran: bool, writeable: bool) -> Any:
    """An object array of texts and numbers; `data` is a pickle of their list, in memory order."""
    import numpy as np

    array = np.empty(shape, object, order="F" if fortran else "C")
    array.ravel(order="K")[:] = _PlainUnpickler(io.BytesIO(data)).load()
    if not writeable:
        array.flags.writeable = False
    return array


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} is neither text nor a number")


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


def view_of_storage(
    storage: Any,
    offset: int,
    dtype: Any,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    writeable: bool,
) -> Any:
    """An array over the memory of a tensor's storage, as `Tensor.numpy` makes it."""
    import torch

    flat = torch.empty(0, dtype=torch.uint8, device="cpu").set_(storage).numpy()
    return view(flat, offset, dtype, shape, strides, writeable)


# Devices whose storages stayed on the CPU, with the reason; `tensors.left_on_cpu` reads it.
left_on_cpu: list[str] = []


def storage(data: Any, device: str | None) -> Any:
    """An untyped storage: a copy of bytes, or over the memory of a buffer, without a copy.

    One that lies over a buffer cannot be enlarged. `device` is where it was, unless that is
    the CPU; if it cannot be there again it stays on the CPU, and `left_on_cpu` says so.
    """
    import torch

    if isinstance(data, bytes):
        made = torch.UntypedStorage(len(data))
        if data:
            ctypes.memmove(made.data_ptr(), data, len(data))
    else:
        made = torch.frombuffer(data, dtype=torch.uint8).untyped_storage()
    return made if device is None else _on_device(made, device)


def _on_device(storage: Any, device: str) -> Any:
    import torch

    kind, _, index = device.partition(":")
    backend = getattr(torch, kind, None)
    try:
        if backend is None or not backend.is_available():
            why = "there is none"
        elif int(index or 0) >= backend.device_count():
            why = f"there are {backend.device_count()}"
        else:
            return storage.to(device=torch.device(device))
    except Exception as failed:  # no memory left on it, a driver that is too old
        why = f"{type(failed).__name__}: {' '.join(str(failed).split())[:100]}"
    left_on_cpu.append(f"{device} ({why})")
    return storage


def typed_storage(storage: Any, dtype: Any) -> Any:
    """A typed storage over an untyped one."""
    import torch

    return torch.storage.TypedStorage(wrap_storage=storage, dtype=dtype, _internal=True)


def tensor_of_new_dtype(
    storage: Any,
    storage_offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    requires_grad: bool,
    backward_hooks: Any,
    dtype: Any,
    metadata: Any = None,
) -> Any:
    """A tensor of a dtype that has no class of storages: uint16, float8."""
    import torch

    rebuilt = torch._utils._rebuild_tensor_v3  # takes what torch.load has wrapped
    return rebuilt(
        typed_storage(storage, torch.uint8), storage_offset, size, stride, requires_grad,
        backward_hooks, dtype, metadata,
    )  # fmt: skip


def set_tensor(tensor: Any, state: dict[str, Any]) -> None:
    """Gradient and hooks of a leaf; `requires_grad=False` for a tensor that has lost its graph."""
    for name, value in state.items():
        setattr(tensor, name, value)
