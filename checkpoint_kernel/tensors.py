"""Reductions of torch tensors: memory out of band, gradients and hooks kept, devices by name.

How a tensor is described is torch's own: here are its storage, whose memory torch would write
into the stream, and what torch leaves out. Tensors that share a storage share it again, and
share it with arrays (`torch.from_numpy`, `Tensor.numpy`). The graph that computed a tensor is
not saved: such a tensor comes back as a value that needs no gradient, so that `backward()`
says so instead of doing nothing. torch is never imported here: who has no torch has no
tensors. Storages elsewhere than on the CPU are copied to it; for a forked process, which must not
touch a device, that was done before (`staging`).
"""

from __future__ import annotations

import warnings
from pickle import PickleBuffer
from typing import Any, Final

from . import device_memory, memory, rebuild, staging
from .arrays import Memory
from .refusals import Refusal, Refused, Unsavable

_PROTOCOL: Final = 5

# The state of a tensor that has lost its graph, and what is said of it.
DETACHED: Final = {"requires_grad": False}
NO_GRAPH: Final = Refused(
    "torch.Tensor", Refusal("the graph that computed it is not saved", "compute it again")
)


def reduce(obj: Any, cls: type, place: Memory, torch: Any) -> Any:
    """The reduction of a tensor or of a storage; NotImplemented for anything else."""
    tensor = getattr(torch, "Tensor", None)
    if tensor is None or not hasattr(torch, "UntypedStorage"):
        return NotImplemented  # another thread is importing torch
    if cls is torch.UntypedStorage:
        return reduce_storage(obj, place)
    if cls is torch.TypedStorage:
        return (rebuild.typed_storage, (obj._untyped_storage, obj.dtype))
    if issubclass(cls, tensor):
        return _reduce_tensor(obj, torch)
    return NotImplemented


def reduce_storage(storage: Any, place: Memory) -> Any:
    """The bytes of a storage, and on which device they were.

    Reading address and size neither copies nor starts a thread. Raises Unsavable where the
    copy from a device does not fit into the host's memory.
    """
    if device_memory.is_elsewhere(storage):
        return (rebuild.storage, (_from_device(storage, place), str(storage.device)))
    if storage.device.type == "meta":
        return NotImplemented
    address, length = storage.data_ptr(), storage.nbytes()
    if not storage.resizable():  # laid over memory that is not torch's: an array's, perhaps
        place.borrowed.append((address, address + length))
    return (rebuild.storage, (place.take(address, length, storage), None))


def _from_device(storage: Any, place: Memory) -> bytes | PickleBuffer:
    copy = staging.copy_of(storage)
    if copy is None:  # no forked process
        room_bytes = memory.room_bytes(None)
        if storage.nbytes() > room_bytes:
            raise Unsavable("torch.Tensor", staging.too_large(storage, room_bytes))
        host = device_memory.copied(storage)
        copy = staging.HostCopy(host.data_ptr(), host.nbytes(), host, None, None)
    data = place.take(copy.address, copy.length, copy.owner, private=True)
    if isinstance(data, PickleBuffer):
        # The kernel lets go of the copy: what comes to lie there is something else.
        place.temporary.append(data)
        place.staged.append((data, copy))
    return data


def _reduce_tensor(tensor: Any, torch: Any) -> Any:
    state = _left_out_by_torch(tensor, torch)
    with warnings.catch_warnings():
        # torch warns that it leaves hooks out; they are in the state.
        warnings.simplefilter("ignore", UserWarning)
        reduced = tensor.__reduce_ex__(_PROTOCOL)
    if not isinstance(reduced, tuple) or len(reduced) != 2:
        return reduced  # a class with a reduction of its own
    function, arguments = _with_typed_storage(*reduced, torch)
    if not state:
        return (function, arguments)
    return (function, arguments, state, None, None, rebuild.set_tensor)


def _left_out_by_torch(tensor: Any, torch: Any) -> dict[str, Any]:
    """Gradient and hooks of a leaf; of other tensors, that they have lost their graph."""
    with torch._C.DisableTorchFunctionSubclass():
        if not tensor.is_leaf:
            return DETACHED
        kept = {
            "grad": tensor.grad,
            "_backward_hooks": tensor._backward_hooks,
            "_post_accumulate_grad_hooks": getattr(tensor, "_post_accumulate_grad_hooks", None),
        }
    return {name: value for name, value in kept.items() if value is not None}


def _with_typed_storage(function: Any, arguments: tuple[Any, ...], torch: Any) -> tuple[Any, Any]:
    """Tensors without a class of storages (uint16, float8): torch reads only what it wrote."""
    new_dtypes = getattr(torch._utils, "_rebuild_tensor_v3", None)
    if function is new_dtypes:
        return rebuild.tensor_of_new_dtype, arguments
    if arguments and arguments[0] is new_dtypes:  # with attributes, or of a subclass
        return function, (rebuild.tensor_of_new_dtype, *arguments[1:])
    return function, arguments


def left_on_cpu() -> list[str]:
    """Devices of storages that were loaded since the last call and stayed on the CPU, each once.

    `cuda:1 (there is no such device)`; for the report of a restore.
    """
    devices = sorted(set(rebuild.left_on_cpu))
    rebuild.left_on_cpu.clear()
    return devices


__all__ = ["left_on_cpu", "reduce", "reduce_storage"]
