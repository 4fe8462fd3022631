"""Reducers for objects with traits, and for Jupyter widgets.

traitlets leaves out the observers that were added to an object. A widget comes back with a comm of
its own, opened when the next cell begins: only then a frontend listens. Views of before show the
old one, which nobody moves any more.
"""

from __future__ import annotations

import sys
from typing import Any

from checkpoint_kernel import rebuild
from checkpoint_kernel.registry import named_reduction

_OWN = ("_trait_values", "_trait_notifiers", "_trait_validators", "_cross_validation_lock")


def reduce_traits(obj: Any) -> Any:
    """Values, attributes and observers; what the class itself observes is not saved."""
    traitlets = sys.modules["traitlets"]
    cls: Any = type(obj)
    own_state = cls.__getstate__ is not traitlets.HasTraits.__getstate__
    if own_state or cls.__reduce_ex__ is not object.__reduce_ex__ or _is_plotly(cls):
        return NotImplemented
    handler = sys.modules["traitlets.traitlets"].EventHandler
    observers = {}
    for name, by_type in obj._trait_notifiers.items():
        for kind, functions in by_type.items():
            added = [one for one in functions if not isinstance(one, handler)]
            if added:
                observers[name, kind] = added
    values = dict(obj._trait_values)
    attributes = {name: value for name, value in vars(obj).items() if name not in _OWN}
    if _is_widget(cls):
        values.pop("comm", None)
        attributes["_model_id"] = obj.model_id if obj.comm is not None else None
    return (new_traits, (cls,), (values, attributes, observers), None, None, set_traits)


def _is_widget(cls: type) -> bool:
    widget = getattr(sys.modules.get("ipywidgets"), "Widget", None)
    return isinstance(widget, type) and issubclass(cls, widget)


def _is_plotly(cls: type) -> bool:
    return any(base.__module__.startswith("plotly.") for base in cls.__mro__)


def new_traits(cls: Any) -> Any:
    """An object with its defaults; its constructor does not run."""
    return cls.__new__(cls)


def set_traits(obj: Any, state: tuple[dict[str, Any], dict[str, Any], dict[Any, Any]]) -> None:
    """Values, without telling the observers, then the observers."""
    values, attributes, observers = state
    obj._trait_values.update(values)
    vars(obj).update(attributes)
    for (name, kind), functions in observers.items():
        there = obj._trait_notifiers.setdefault(name, {}).setdefault(kind, [])
        there.extend(functions)
    if _is_widget(type(obj)) and attributes.get("_model_id") and not rebuild.trying:
        _open_later(obj)


# Children come before those that hold them.
_waiting: list[Any] = []


def _open_later(widget: Any) -> None:
    from IPython import get_ipython

    shell: Any = get_ipython()
    if shell is None:
        return
    if not _waiting:
        shell.events.register("pre_run_cell", _open)
    _waiting.append(widget)


def _open(*_: object) -> None:
    from IPython import get_ipython

    shell: Any = get_ipython()
    shell.events.unregister("pre_run_cell", _open)
    waiting = _waiting[:]
    _waiting.clear()
    for widget in waiting:
        widget.open()


named_reduction("traitlets", "HasTraits", reduce_traits, subclasses=True)
