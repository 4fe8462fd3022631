"""Reducers for matplotlib and plotly: who calls whom in a figure, and pyplot's current one.

matplotlib's own pickling leaves out nearly all callbacks, and gives figures new numbers.
"""

from __future__ import annotations

import copyreg
import sys
from typing import Any

from checkpoint_kernel import rebuild
from checkpoint_kernel.registry import named_reduction

# --- matplotlib

# Of the window, which is another one after a restart.
_WINDOWS = (
    ("matplotlib.backend_bases", "FigureManagerBase"),
    ("matplotlib.backend_bases", "FigureCanvasBase"),
    ("matplotlib.backend_bases", "NavigationToolbar2"),
    ("matplotlib.backend_bases", "TimerBase"),
    ("matplotlib.backend_managers", "ToolManager"),
)


def reduce_callbacks(registry: Any) -> Any:
    """With all callbacks but those of the window."""
    state = registry.__getstate__()
    state["callbacks"] = {
        signal: {
            cid: function
            for cid, proxy in proxies.items()
            if (function := proxy()) is not None and not _is_of_a_window(function)
        }
        for signal, proxies in registry.callbacks.items()
    }
    return (copyreg.__newobj__, (type(registry),), state)  # type: ignore[attr-defined]


def _is_of_a_window(function: Any) -> bool:
    owner = getattr(function, "__self__", None)
    types = (getattr(sys.modules.get(module), name, ()) for module, name in _WINDOWS)
    return owner is not None and any(isinstance(owner, cls) for cls in types)


def reduce_figure(figure: Any) -> Any:
    """As matplotlib does, and its number and place in pyplot's list."""
    reduced = figure.__reduce_ex__(4)
    helpers = sys.modules.get("matplotlib._pylab_helpers")
    managers: Any = helpers.Gcf.figs if helpers is not None else {}
    for rank, (number, manager) in enumerate(managers.items()):
        if manager.canvas.figure is figure:
            # What matplotlib loads is put into pyplot's list under the next free number.
            shown = (number, rank, sys.modules["matplotlib"].get_backend().lower(),
                     manager.get_window_title())  # fmt: skip
            state = (reduced[2], shown)
            return (*reduced[:2], state, None, None, set_figure)
    return reduced


_WITHOUT_WINDOWS = ("agg", "cairo", "pdf", "pgf", "ps", "svg", "template")


def set_figure(figure: Any, state: tuple[Any, tuple[int, int, str, str | None]]) -> None:
    """A figure that pyplot knew: under its number again if that is free, and in its order."""
    own, (number, rank, backend, title) = state
    import matplotlib
    from matplotlib import pyplot
    from matplotlib._pylab_helpers import Gcf

    # Before the first figure: the notebook's own backend closes all figures after each cell.
    if pyplot._backend_mod is None and backend in _WITHOUT_WINDOWS:
        matplotlib.use(backend)
    figure.__setstate__(own)

    manager: Any = figure.canvas.manager
    if manager is None:
        return
    if rebuild.trying:
        Gcf.figs.pop(manager.num, None)
        return
    if manager.num != number and number not in Gcf.figs:
        Gcf.figs[number] = Gcf.figs.pop(manager.num)
        manager.num = number
    if title:
        manager.set_window_title(title)
    manager._checkpoint_rank = rank
    # The last is the current one. Figures of this session stay in front of restored ones.
    ranks = {num: getattr(one, "_checkpoint_rank", 1 << 60) for num, one in Gcf.figs.items()}
    for num in sorted(ranks, key=lambda n: ranks[n]):
        Gcf.figs.move_to_end(num)


named_reduction("matplotlib.cbook", "CallbackRegistry", reduce_callbacks, subclasses=True)
named_reduction("matplotlib.figure", "Figure", reduce_figure, subclasses=True)


# --- plotly


def reduce_part(part: Any) -> Any:
    """A part of a figure by its place there; plotly saves a copy that stands alone."""
    above = getattr(part, "_parent", None)
    name = getattr(part, "_plotly_name", None)
    if above is None or not name:
        return NotImplemented
    figure = sys.modules["plotly.basedatatypes"].BaseFigure
    if isinstance(above, figure):
        for number, trace in enumerate(above.data):
            if trace is part:
                return (load_trace, (above, number))
        return (load_named, (above, "layout")) if above.layout is part else NotImplemented
    held = getattr(above, name, None)
    if held is part:
        return (load_named, (above, name))
    if isinstance(held, tuple):
        for number, one in enumerate(held):
            if one is part:
                return (load_numbered, (above, name, number))
    return NotImplemented


def load_trace(figure: Any, number: int) -> Any:
    """A trace of a figure."""
    return figure.data[number]


def load_named(above: Any, name: str) -> Any:
    """A part by its name."""
    return getattr(above, name)


def load_numbered(above: Any, name: str, number: int) -> Any:
    """One of several parts of a name."""
    return getattr(above, name)[number]


named_reduction("plotly.basedatatypes", "BasePlotlyType", reduce_part, subclasses=True)
