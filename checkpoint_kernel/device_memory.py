"""Memory of torch storages that are not on the CPU: where it is, what it holds, and its copy.

Covers finding such storages below some objects (no code of the user's runs), a digest that the
device computes itself, and copying to the host. When that is done is `staging`'s. torch is
handed in, and no context is made. Tried with storages on the CPU only: no device was lent.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import os
import sys
import time
import types
from collections.abc import Iterable
from typing import Any, Final

from blake3 import blake3

from . import kinds

_KINDS: Final = ("cuda", "xpu")  # of devices that a forked process must not touch
_ROW_WORDS: Final = 1 << 18  # 1 MB
_ROWS: Final = 8  # at a time: 48 MB of the device's memory while digesting
_KEYS: Final = 2
_POLL_S: Final = 0.002
_SEARCH_S: Final = 0.3  # of this thread's own time
# What a sparse tensor is made of, instead of a storage.
_PARTS: Final = ("_indices", "_values", "crow_indices", "ccol_indices", "col_indices",
                 "row_indices", "values")  # fmt: skip


def is_in_use(torch: Any) -> bool:
    """A context of a device was made by torch, which may hold tensors."""
    backends = [getattr(torch, kind, None) for kind in _KINDS]
    return any(
        backend is not None and getattr(backend, "is_initialized", bool)() for backend in backends
    )


def is_elsewhere(storage: Any) -> bool:
    """A storage is on a device, neither on the CPU nor without any memory."""
    return storage.device.type not in ("cpu", "meta")


def is_capturing(torch: Any) -> bool:
    """A CUDA graph is being captured: any synchronization would break it."""
    cuda = getattr(torch, "cuda", None)
    return cuda is not None and cuda.is_initialized() and cuda.is_current_stream_capturing()


def below(roots: Iterable[Any], torch: Any) -> dict[int, Any]:
    """Storages on a device that objects lead to, by the address of the C++ object.

    Follows what the garbage collector would follow, and the gradients and parts of tensors; not
    into modules, nor classes that can be imported. The last roots first, and for a while only.
    """
    found: dict[int, Any] = {}
    seen: dict[int, Any] = {}  # kept, so that no other object gets its id
    left = list(roots)
    numpy_array = getattr(sys.modules.get("numpy"), "ndarray", None)
    deadline = time.thread_time() + _SEARCH_S
    while left and (len(seen) % 256 or time.thread_time() < deadline):
        obj = left.pop()
        if id(obj) in seen or kinds.is_leaf(obj):
            continue
        seen[id(obj)] = obj
        cls = type(obj)
        if issubclass(cls, types.ModuleType):
            continue
        if issubclass(cls, type) and not kinds.saved_by_value(obj):
            continue
        if issubclass(cls, types.FunctionType):
            left += [*(obj.__closure__ or ()), *(obj.__defaults__ or ())]
            left += [obj.__kwdefaults__, obj.__dict__]
            continue
        if issubclass(cls, torch.Tensor):
            left += _parts(obj, found, torch)
        elif cls is torch.UntypedStorage:
            _note(obj, found)
        elif cls is torch.TypedStorage:
            _note(obj._untyped_storage, found)
        elif cls is numpy_array and obj.dtype.hasobject:
            left += obj.ravel().tolist()
        left += gc.get_referents(obj)
    return found


def _parts(tensor: Any, found: dict[int, Any], torch: Any) -> list[Any]:
    parts = []
    with torch._C.DisableTorchFunctionSubclass():
        try:
            _note(tensor.untyped_storage(), found)
        except (NotImplementedError, RuntimeError):  # sparse: it has none, but parts that do
            for name in _PARTS:
                try:
                    parts.append(getattr(tensor, name)())
                except (RuntimeError, AttributeError, NotImplementedError):
                    continue  # of another layout
        if tensor.is_leaf and tensor.grad is not None:
            parts.append(tensor.grad)
    return parts


def _note(storage: Any, found: dict[int, Any]) -> None:
    if is_elsewhere(storage):
        found[storage._cdata] = storage


def synchronize(device: Any, torch: Any, limit_s: float) -> bool:
    """Wait until all streams of a device have done what was asked of them; whether they have.

    `limit_s` is for the current stream, which mostly has all the work.
    """
    backend = getattr(torch, device.type)
    if device.type in _KINDS:
        reached = backend.Event()
        reached.record(backend.current_stream(device))
        deadline = time.monotonic() + limit_s
        while not reached.query():
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
    backend.synchronize(device)
    return True


def copied(storage: Any) -> Any:
    """Its bytes as a storage on the CPU, of its own."""
    copy = storage.cpu()
    return storage.clone() if copy is storage else copy


def digest(storage: Any, torch: Any) -> bytes:
    """What a storage holds, in 32 bytes, computed where it is: only sums leave the device.

    Each MB is hashed by two multilinear sums over its 32-bit words, modulo 2^64, under random
    keys of 64 bits that only this process has. Two that differ agree with a probability of
    2^-66 at most: words differ by less than 2^32, so that of the 2^64 keys for one of them no
    more than 2^31 make up for the others (D. Lemire, O. Kaser: Strongly universal string hashing
    is fast, 2014). Raises what torch raises, where the device has no 48 MB left.
    """
    device, length = storage.device, storage.nbytes()
    flat = torch.empty(0, dtype=torch.uint8, device=device).set_(storage)
    words, tail = flat[: length // 4 * 4].view(torch.int32), flat[length // 4 * 4 :]
    keys = _keys(device)
    sums = []
    for start in range(0, len(words), _ROWS * _ROW_WORDS):
        piece = words[start : start + _ROWS * _ROW_WORDS].to(torch.int64)
        whole = len(piece) // _ROW_WORDS
        rows = piece[: whole * _ROW_WORDS].view(whole, _ROW_WORDS)
        rest = piece[whole * _ROW_WORDS :]
        for key in keys:
            sums.append((rows * key).sum(dim=1))
            sums.append((rest * key[: len(rest)]).sum().view(1))
    hashed = blake3(length.to_bytes(8, "little"))
    for part in (*([torch.cat(sums)] if sums else []), tail):
        host = part.cpu()
        hashed.update(ctypes.string_at(host.data_ptr(), host.nbytes))
    return hashed.digest()


@functools.cache
def _keys(device: Any) -> Any:
    import torch

    random = torch.frombuffer(_random(), dtype=torch.int64)
    return random.view(_KEYS, _ROW_WORDS).to(device)


@functools.cache
def _random() -> bytearray:
    return bytearray(os.urandom(_KEYS * _ROW_WORDS * 8))
