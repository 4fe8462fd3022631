"""`%checkpoint memory`: gathers the facts, in bounded time and little memory, and shows them.

Made to work right after a cell was interrupted because memory had run short. The words are
`memory_report`'s, the plot `memory_plot`'s.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import psutil
from IPython.core.error import UsageError

from . import assignments, memory_gauge, memory_plot, memory_report, namespace, session, sizes
from .memory_guard import let_go
from .memory_report import Facts, Machine
from .memory_use import MemoryUse
from .session import Cap
from .sizes import Sized
from .words import size

USAGE: Final = "%checkpoint memory [--plot | --forget-error]"
# For all variables; a person waits.
_LIMIT_S: Final = 1.0
_HISTORY_LIMIT_S: Final = 0.3
# What importing matplotlib and drawing with it takes.
_MATPLOTLIB_BYTES: Final = 100 << 20
_CHAIN: Final = 20  # errors that an error came from
_LOCALS: Final = "\0"  # before the names of locals that are looked at beside variables


def run(shell: Any, use: MemoryUse, cap: Cap | None, directory: Path, options: list[str]) -> None:
    """Print the report or show the plot; `directory` is the session's. May raise UsageError."""
    if options == []:
        print(memory_report.text(gather(shell, use, cap, directory)))
    elif options == ["--plot"]:
        _plot(use, cap)
    elif options == ["--forget-error"]:
        # Not all that is used: a checkpoint that is being written may keep it for a moment.
        before_bytes = memory_gauge.kernel_bytes()
        forget_error(shell)
        print(f"{size(max(before_bytes - memory_gauge.kernel_bytes(), 0))} freed.")
    else:
        raise UsageError(f"{USAGE}: there is no option {' '.join(options)}")


def gather(shell: Any, use: MemoryUse, cap: Cap | None, directory: Path) -> Facts:
    """The facts as of now."""
    machine = psutil.virtual_memory()
    users = namespace.of_user(shell.user_ns, shell.user_ns_hidden)
    held = {f"{_LOCALS}{where}": found for where, found in _locals_of_last_error()}
    found = sizes.largest({**users, **held}, len(users) + len(held), _LIMIT_S)
    variables = [one for one in found if not one.name.startswith(_LOCALS)]
    return Facts(
        cap=cap,
        machine=Machine(machine.total, machine.available),
        split=use.gauge.split(),
        variables=variables,
        set_in=_set_in(shell, variables[: memory_report.VARIABLES]),
        left_by_error=[
            one._replace(name=one.name.removeprefix(_LOCALS))
            for one in found
            if one.name.startswith(_LOCALS)
        ],
        cells=use.cells(),
        events=session.read_events(directory),
        figures=_open_figures(),
    )


def _set_in(shell: Any, variables: Sequence[Sized]) -> dict[str, int]:
    """Cells that set these variables last, by the history of this kernel."""
    names = [name for one in variables for name in one.name.split(", ")]
    cells = list(enumerate(shell.history_manager.input_hist_parsed))
    return assignments.last_set(names, reversed(cells), _HISTORY_LIMIT_S)


def _locals_of_last_error() -> list[tuple[str, dict[str, Any]]]:
    """`of f, line 3` and what the frame of f still holds: IPython keeps the last traceback."""
    found: list[tuple[str, dict[str, Any]]] = []
    for start in _last_tracebacks():
        for frame, line in traceback.walk_tb(start):
            if frame.f_locals is not frame.f_globals:
                found.append((f"of {frame.f_code.co_name}, line {line}", dict(frame.f_locals)))
    return found


def _last_tracebacks() -> list[types.TracebackType]:
    """Of the last error, and of those that it came from."""
    found: list[types.TracebackType] = []
    error = getattr(sys, "last_value", None)
    while isinstance(error, BaseException) and len(found) < _CHAIN:
        if error.__traceback__ is not None:
            found.append(error.__traceback__)
        error = error.__cause__ or error.__context__
    return found


def forget_error(shell: Any) -> None:
    """Empty the frames of the last error, whoever keeps them; %debug then shows no locals."""
    for start in _last_tracebacks():
        let_go(start)
    for name in ("last_traceback", "last_value", "last_exc", "last_type"):
        if hasattr(sys, name):
            setattr(sys, name, None)
    shell.InteractiveTB.tb = None


def _open_figures() -> int:
    helpers = sys.modules.get("matplotlib._pylab_helpers")
    return 0 if helpers is None else len(helpers.Gcf.figs)


def _plot(use: MemoryUse, cap: Cap | None) -> None:
    samples = use.samples()
    running = use.running()
    cells = [*use.cells(), *([] if running is None else [running])]
    if _has_room_for_matplotlib(use, cap):
        try:
            png = memory_plot.as_png(samples, cells, cap)
        except (ImportError, MemoryError):
            pass  # the text below needs neither
        else:
            from IPython.display import Image, display

            display(Image(data=png))
            return
    print(memory_plot.as_text(samples, cells, cap))


def _has_room_for_matplotlib(use: MemoryUse, cap: Cap | None) -> bool:
    if importlib.util.find_spec("matplotlib") is None:
        return False
    if cap is None or "matplotlib.figure" in sys.modules:
        return True
    return use.gauge.used_bytes() + _MATPLOTLIB_BYTES < cap.soft_bytes
