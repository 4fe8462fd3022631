"""Device memory for a snapshot: copied to the host before the fork, as a child must not touch it.

    stage      kernel's main thread, before the fork: copies of what has changed
    copy_of    snapshot process, while it pickles: a copy, or the payload that has the same bytes
    settle     kernel: which payloads hold what, and which variables were missed

Which variables lead to a device is known from their types, or from the last snapshot process, which
has found out; then the next one is due at once. What has not changed since the newest
checkpoint is not copied: a digest tells, made on the device. Without a fork the reductions
read the device themselves.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from . import device_memory
from .arrays import IN_BAND_BYTES
from .refusals import Refusal, Unsavable

_BUSY_S: Final = 0.5
_PROT_NONE: Final = 0
_MAP_NORESERVE: Final = getattr(mmap, "MAP_NORESERVE", 0x4000)
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)
_LIBC.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)

Place = tuple[str, int]  # a payload of the store, and the number of a storage in it


class DeviceBusy(Exception):
    """The device has more queued than somebody should wait for: not now."""


class NotStaged(Unsavable):
    """A storage that was not expected to be there: the next snapshot has it."""


@dataclass(frozen=True)
class HostCopy:
    """What a snapshot process has of a device's storage.

    With `place` there are no bytes at `address`, only room that cannot be read: they are in that
    place of the store. `digest` is None for what was not digested.
    """

    address: int
    length: int
    owner: Any  # keeps the memory
    digest: bytes | None
    place: Place | None


class _Room:
    """Addresses that belong to nothing else, and have no memory: who reads there crashes."""

    def __init__(self, length: int) -> None:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        self.address, self._length = _LIBC.mmap(None, length, _PROT_NONE, flags, -1, 0), length
        if self.address in (None, ctypes.c_void_p(-1).value):
            self.address = 0
            raise OSError(ctypes.get_errno(), "no room for a copy of device memory")

    def __del__(self) -> None:
        if self.address:
            _LIBC.munmap(self.address, self._length)


# By the address of the storage's C++ object; None: no snapshot process is meant, read the device.
_copies: dict[int, HostCopy | Refusal] | None = None


def copy_of(storage: Any) -> HostCopy | None:
    """What was staged of a storage; None where the device may be read. Raises Unsavable."""
    if _copies is None:
        return None
    copy = _copies.get(storage._cdata)
    if copy is None:
        reason = f"it is on {storage.device}, and was not copied before the snapshot"
        raise NotStaged("torch.Tensor", Refusal(reason))
    if isinstance(copy, Refusal):
        raise Unsavable("torch.Tensor", copy)
    return copy


def is_needed() -> bool:
    """Whether torch has a device in use, so that a fork needs its memory staged."""
    torch = sys.modules.get("torch")
    return hasattr(torch, "UntypedStorage") and device_memory.is_in_use(torch)


def is_possible() -> bool:
    """Not while a CUDA graph is being captured, which only the main thread can tell."""
    return not (is_needed() and device_memory.is_capturing(sys.modules["torch"]))


class Staging:
    """The device memory of one kernel's namespace, from checkpoint to checkpoint."""

    def __init__(self) -> None:
        self._names: set[str] = set()  # variables that lead to a device
        self._saved: dict[bytes, Place] = {}  # digest -> where the newest checkpoint has it

    @contextmanager
    def staged(
        self,
        variables: Callable[[], Mapping[str, Any]],
        local: Callable[[], Iterable[Any]],
        room_bytes: int,
    ) -> Iterator[None]:
        """For a fork: copies of what variables and other objects lead to, gone in the end.

        Neither is asked for where no device is in use. `room_bytes`: what the copies may take.
        Raises DeviceBusy.
        """
        global _copies
        _copies = {}
        try:
            if is_needed():
                torch = sys.modules["torch"]
                _copies = self._stage(variables(), tuple(local()), room_bytes, torch)
            yield
        finally:
            _copies = None

    def _stage(
        self, variables: Mapping[str, Any], local: tuple[Any, ...], room_bytes: int, torch: Any
    ) -> dict[int, HostCopy | Refusal]:
        kinds = (torch.Tensor, torch.nn.Module, torch.optim.Optimizer)
        roots = [v for name, v in variables.items() if name in self._names]
        # What is found first should be what most probably has something.
        certain = [v for v in (*variables.values(), *local) if issubclass(type(v), kinds)]
        storages = device_memory.below([*local, *roots, *certain], torch)
        copies: dict[int, HostCopy | Refusal] = {}
        ready: dict[Any, Refusal | None] = {}  # by device
        for key, storage in storages.items():
            if storage.device not in ready:
                ready[storage.device] = _waited_for(storage, torch)
            copy = ready[storage.device] or self._copy(storage, room_bytes, torch)
            if isinstance(copy, HostCopy) and copy.place is None:
                room_bytes -= copy.length
            copies[key] = copy
        return copies

    def _copy(self, storage: Any, room_bytes: int, torch: Any) -> HostCopy | Refusal:
        length = storage.nbytes()
        digest = None
        if length >= IN_BAND_BYTES:
            try:
                digest = device_memory.digest(storage, torch)
            except RuntimeError:  # the device is full: then it is copied each time
                pass
        place = None if digest is None else self._saved.get(digest)
        if place is not None:
            room = _Room(length)
            return HostCopy(room.address, length, room, digest, place)
        if length > room_bytes:
            return too_large(storage, room_bytes)
        try:
            host = device_memory.copied(storage)
        except RuntimeError as why:
            return _failed(storage, why)
        return HostCopy(host.data_ptr(), length, host, digest, None)

    def settle(
        self, payloads: Collection[str], saved: Iterable[tuple[str, str, int]], missed: list[str]
    ) -> bool:
        """A snapshot was committed; whether it has missed variables that the next one can have.

        `payloads` of the checkpoint; `saved`: digest (hex), payload and number of a storage.
        """
        kept = {d: place for d, place in self._saved.items() if place[0] in payloads}
        new = {bytes.fromhex(digest): (payload, n) for digest, payload, n in saved}
        self._saved = {**kept, **new}
        more = set(missed) - self._names
        self._names |= more
        return bool(more)

    def forget(self) -> None:
        """The newest checkpoint may not be what it was thought to be: copy everything."""
        self._saved = {}


def too_large(storage: Any, room_bytes: int) -> Refusal:
    """Of a storage that does not fit into the host's memory."""
    return Refusal(
        f"it is on {storage.device}, and its {storage.nbytes() >> 20} MB do not fit beside what "
        f"is in this machine's memory ({room_bytes >> 20} MB may be used)",
        "free memory, or save it by torch.save",
    )


def _waited_for(storage: Any, torch: Any) -> Refusal | None:
    """The device has done its work, or fails."""
    try:
        if not device_memory.synchronize(storage.device, torch, _BUSY_S):
            raise DeviceBusy
    except RuntimeError as why:
        return _failed(storage, why)
    return None


def _failed(storage: Any, why: Exception) -> Refusal:
    said = " ".join(str(why).split())[:200]
    return Refusal(
        f"it is on {storage.device}, which fails: {type(why).__name__}: {said}",
        "an earlier checkpoint may have it: %checkpoint list",
    )
