"""Notebook classes that libraries make, or note: saved with what the library did to them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from cloudpickle.cloudpickle import _class_setstate

from . import declarative

Registration = tuple[Callable[[Any, Any], None], Any]


def reduction_of(cls: Any) -> Any:
    """The reduction of a class that only its library can make again, or None."""
    made_of = vars(cls).get("__pydantic_generic_metadata__")
    if made_of and made_of.get("origin") is not None:
        return (load_parametrized, (made_of["origin"], made_of["args"]))
    return declarative.reduction_of(cls)


def load_parametrized(origin: Any, arguments: tuple[Any, ...]) -> Any:
    """A generic model with its parameters: pydantic keeps one class for each choice of them."""
    return origin[arguments]


def with_registrations(cls: Any, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
    """The reduction of a class, and where it is registered."""
    found = [*_in_jax(cls), *_in_pandas(cls)]
    if not found:
        return reduced
    return (*reduced[:2], (reduced[2], found), None, None, set_registered)


def set_registered(cls: Any, state: tuple[Any, list[Registration]]) -> None:
    """Attributes of a class, and its registrations."""
    _class_setstate(cls, state[0])
    for register, argument in state[1]:
        register(cls, argument)


def _in_jax(cls: Any) -> list[Registration]:
    registry = getattr(sys.modules.get("jax._src.tree_util"), "_registry", {})
    entries = [entry for noted, entry in registry.items() if noted is cls]  # it may have no hash
    return [(register_pytree, (entry.to_iter, entry.from_iter)) for entry in entries]


def register_pytree(cls: Any, functions: tuple[Any, Any]) -> None:
    """`jax.tree_util.register_pytree_node`."""
    import jax

    jax.tree_util.register_pytree_node(cls, *functions)


def _in_pandas(cls: Any) -> list[Registration]:
    pandas: Any = sys.modules.get("pandas")
    names = ("DataFrame", "Series", "Index")
    owners: list[Any] = [getattr(pandas, name, None) for name in names]
    return [
        (register_accessor, (owner.__name__, name))
        for owner in owners
        for name in getattr(owner, "_accessors", ())
        if getattr(vars(owner).get(name), "_accessor", None) is cls
    ]


def register_accessor(cls: Any, where: tuple[str, str]) -> None:
    """`pandas.api.extensions.register_dataframe_accessor`, or of a series, or of an index."""
    import pandas

    owner, name = where
    if name in getattr(pandas, owner)._accessors:
        return  # of this session: it stays
    getattr(pandas.api.extensions, f"register_{owner.lower()}_accessor")(name)(cls)
