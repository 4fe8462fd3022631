"""Reducers for torch: what its own pickling refuses, or brings back with less than there was.

Tensors are `tensors`'.
"""

from __future__ import annotations

import copyreg
import io
import sys
from typing import Any, Final

from checkpoint_kernel import open_files
from checkpoint_kernel.refusals import Refusal, Refused, type_name
from checkpoint_kernel.registry import named, named_reduction

_new: Final[Any] = copyreg.__newobj__  # type: ignore[attr-defined]

# --- optimizers

# torch saves the first three. A scheduler wraps `step` anew.
_SAVED_BY_TORCH: Final = frozenset({"defaults", "state", "param_groups", "step", "_patched_step"})


def reduce_optimizer(optimizer: Any) -> Any:
    """With its other attributes and its hooks, which torch leaves out: LBFGS cannot do without."""
    cls: Any = type(optimizer)
    base = sys.modules["torch.optim"].Optimizer
    if cls.__getstate__ is not base.__getstate__ or cls.__reduce_ex__ is not object.__reduce_ex__:
        return NotImplemented
    more = {name: v for name, v in vars(optimizer).items() if name not in _SAVED_BY_TORCH}
    return (_new, (cls,), (optimizer.__getstate__(), more), None, None, set_optimizer)


def set_optimizer(optimizer: Any, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """As torch does, then the rest."""
    optimizer.__setstate__(state[0])
    vars(optimizer).update(state[1])


named_reduction("torch.optim", "Optimizer", reduce_optimizer, subclasses=True)


# --- loaders

# An iterator over more batches than this is not written down.
_BATCHES: Final = 10_000_000


def reduce_loader(loader: Any) -> Any:
    """Without its workers, which start again when it is iterated."""
    if getattr(loader, "_iterator", None) is None:
        return NotImplemented
    return (_new, (type(loader),), {**vars(loader), "_iterator": None})


def reduce_loader_iterator(iterator: Any) -> Any:
    """Its loader's parts, and the indices that are still to come.

    To tell these uses them up: that can only be done in a copy of the process.
    """
    if not open_files.in_snapshot():
        raise _no_iterator(iterator, "it cannot be looked at while the kernel goes on")
    if type(iterator._dataset_fetcher).__name__ != "_MapDatasetFetcher":
        raise _no_iterator(iterator, "its data set does not tell its position")
    left: list[Any] = []
    for indices in iterator._sampler_iter:
        left.append(indices)
        if len(left) > _BATCHES:
            raise _no_iterator(iterator, "its sampler does not end")
    iterator._sampler_iter = iter(left)  # for who asks again, in another unit
    state = {name: value for name, value in vars(iterator).items() if name != "_sampler_iter"}
    return (_new, (type(iterator),), (state, left), None, None, set_loader_iterator)


def _no_iterator(iterator: Any, reason: str) -> Refused:
    return Refused(type_name(iterator), Refusal(reason, "iter() of its loader begins anew"))


def set_loader_iterator(iterator: Any, state: tuple[dict[str, Any], list[Any]]) -> None:
    """As far as it was."""
    vars(iterator).update(state[0])
    iterator._sampler_iter = iter(state[1])


named_reduction("torch.utils.data", "DataLoader", reduce_loader, subclasses=True)
named_reduction(
    "torch.utils.data.dataloader", "_SingleProcessDataLoaderIter", reduce_loader_iterator
)


# --- TorchScript


def reduce_scripted(module: Any) -> Any:
    """`torch.jit.save` for the code; parameters and buffers as they are, for who shares them."""
    torch = sys.modules["torch"]
    out = io.BytesIO()
    torch.jit.save(module, out)
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return (load_scripted, (out.getvalue(), tensors))


def load_scripted(data: bytes, tensors: list[tuple[str, Any]]) -> Any:
    """`torch.jit.load`, over these tensors."""
    import torch

    module: Any = torch.jit.load(io.BytesIO(data))
    for path, tensor in tensors:
        above, _, name = path.rpartition(".")
        owner = module.get_submodule(above) if above else module
        owner._c.setattr(name, tensor)
    return module


def save_script_function(function: Any) -> Any:
    """The Python function, which is compiled again."""
    python = getattr(function, "_torchdynamo_inline", None)
    if python is None:
        raise Refused(type_name(function), Refusal("torch does not give back its function"))
    return python


def load_script_function(python: Any) -> Any:
    """`torch.jit.script`."""
    import torch

    return torch.jit.script(python)


named_reduction("torch.jit", "ScriptModule", reduce_scripted, subclasses=True)
named("torch.jit", "ScriptFunction", save_script_function, load_script_function)


# --- modules


def reduce_module(module: Any) -> Any:
    """One with parametrizations has a class of its own, of which torch saves nothing."""
    cls = type(module)
    parametrize = sys.modules.get("torch.nn.utils.parametrize")
    if cls.__module__ != "torch.nn.utils.parametrize" or hasattr(parametrize, cls.__name__):
        return NotImplemented
    base = cls.__bases__[0]
    return (load_parametrized, (base,), dict(vars(module)), None, None, set_parametrized)


def load_parametrized(base: Any) -> Any:
    """A module of the class that it had before."""
    return base.__new__(base)


def set_parametrized(module: Any, attributes: dict[str, Any]) -> None:
    """Its attributes, and for each parametrization the property that computes it."""
    from torch.nn.utils import parametrize

    vars(module).update(attributes)
    parametrize._inject_new_class(module)
    for name in module.parametrizations:
        parametrize._inject_property(module, name)


named_reduction("torch.nn", "Module", reduce_module, subclasses=True)
