"""`%checkpoint rebuild NAME`: shows the cells that make a variable, asks, and runs them again.

Nothing runs without the user's yes. Which cells these are is `rebuild_plan`'s to say. Cells run as
the shell runs any cell, but that the history does not grow; one that awaits something can run only
where the command itself is awaited, which `awaited` sees to in the text of a cell.
"""

from __future__ import annotations

import contextlib
import re
import signal
import threading
import time
import types
from collections.abc import Awaitable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from IPython.core.error import StdinNotImplementedError, UsageError

from . import namespace, notice, provenance, rebuild_plan, restore
from .cell_reader import is_async
from .code_names import parts_of, used_by
from .contract import DEATHS
from .manifest import Manifest
from .missing import listed, not_back
from .provenance import Cell
from .rebuild_plan import Plan
from .store import StoreError
from .stub import Stub
from .touched import by_text
from .units import type_name

if TYPE_CHECKING:
    from .kernel import CheckpointKernel

USAGE: Final = "%checkpoint rebuild NAME [NAME ...] [--yes [NUMBER ...]]"
AWAITED: Final = "--awaited"
_LINE: Final = re.compile(
    r"^(get_ipython\(\)\.run_line_magic\('checkpoint', ')rebuild\b(.*'\))(\s*)$", re.DOTALL
)


def awaited(lines: list[str]) -> list[str]:
    """An input transformer: at the top level of a cell the command is awaited."""
    return [_LINE.sub(rf"await \1rebuild {AWAITED}\2\3", line) for line in lines]


@dataclass(frozen=True)
class Source:
    """Where the cells are from."""

    cells: Sequence[Cell]
    seen: dict[str, int]
    checkpoint: Manifest | None = None  # of an earlier session; None: they are this kernel's own


def run(kernel: CheckpointKernel, arguments: list[str]) -> Awaitable[None] | None:
    """Show and ask; run what the user wants. The rest of it is to be awaited, if asked so."""
    is_awaited = AWAITED in arguments
    names, yes = parsed([one for one in arguments if one != AWAITED])
    steps = _Rebuild(kernel, names).steps(yes)
    if is_awaited:
        return _awaiting(kernel.shell, steps)
    result = None
    while True:
        try:
            cell = steps.send(result)
        except StopIteration:
            return None
        if is_async(cell.parsed):
            steps.close()
            raise UsageError(
                f"In[{cell.number}] uses await: give the command a line of its own, outside of "
                "functions and blocks"
            )
        result = kernel.shell.run_cell(cell.raw, store_history=False)


async def _awaiting(shell: Any, steps: Generator[Cell, Any, None]) -> None:
    result = None
    while True:
        try:
            with _interruptible():
                cell = steps.send(result)
        except StopIteration:
            return
        if not is_async(cell.parsed):
            with _interruptible():
                result = shell.run_cell(cell.raw, store_history=False)
            continue
        try:
            result = await shell.run_cell_async(
                cell.raw, store_history=False, transformed_cell=shell.transform_cell(cell.raw)
            )
        finally:
            shell.events.trigger("post_execute")
            shell.events.trigger("post_run_cell", result)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """In a cell that awaits, ipykernel's Stop only cancels: code that does not await runs on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def parsed(arguments: list[str]) -> tuple[list[str], frozenset[int] | bool]:
    """Names, and whether to run: not without asking, or all, or the cells of these numbers."""
    if "--yes" not in arguments:
        names, yes = arguments, None
    else:
        at = arguments.index("--yes")
        numbers = [one for one in arguments[at + 1 :] if one.isdigit()]
        names = arguments[:at] + [one for one in arguments[at + 1 :] if not one.isdigit()]
        yes = frozenset(map(int, numbers)) or True
    for name in names:
        if not name.isidentifier() and namespace.output_number(name) is None:
            raise UsageError(f"{USAGE}: {name} is no variable")
    return list(dict.fromkeys(names)), False if yes is None else yes


class _Rebuild:
    def __init__(self, kernel: CheckpointKernel, names: list[str]) -> None:
        self._kernel = kernel
        self._shell = kernel.shell
        self._names = names

    def steps(self, yes: frozenset[int] | bool) -> Generator[Cell, Any, None]:
        """Yields the cells to run, and is sent the result of each."""
        if not self._names:
            self._list()
            return
        source = self._source()
        found = self._plan(source)
        print(_there(self._shell.user_ns, filter(found.makes, self._names)), end="")
        print(_origin(source) + rebuild_plan.shown(found), flush=True)
        if not found.steps:
            raise UsageError(f"no cell makes {listed(self._names)}")
        chosen = self._chosen(found, yes)
        for at, cell in enumerate(chosen):
            print(f"\n── In[{cell.number}] runs again", flush=True)
            with _Again(self._kernel, cell, own=source.checkpoint is None):
                result = yield cell
            if result is None or not result.success:
                raise UsageError(_stopped(cell, result, chosen[at + 1 :]))
        if chosen:
            print(self._said(chosen, [name for name in self._names if found.makes(name)]))

    def _list(self) -> None:
        checkpointer = self._kernel.checkpointer
        newest = None if checkpointer is None else checkpointer.settled.newest
        lines = not_back(self._kernel.unsaid())
        lines += not_back([] if newest is None else newest.skipped, "not saved")
        print("\n".join([USAGE, *lines]))

    # --- what is known --------------------------------------------------------------------

    def _source(self) -> Source:
        """This kernel's cells if they make the names, else those of the session before."""
        killed = deaths_by_text(Path(self._kernel.session_record.notebook_directory or "/"))
        observed = getattr(self._kernel.checkpointer, "observed", None)
        history = self._shell.history_manager
        cells = provenance.cells_of(
            list(history.input_hist_raw), list(history.input_hist_parsed),
            () if observed is None else observed.failed, killed,
        )  # fmt: skip
        own = Source(cells, {} if observed is None else dict(observed.bound_in))
        if all(map(self._plan(own).makes, self._names)):
            return own
        try:
            everything = self._kernel.the_store().manifests()
        except StoreError:
            return own
        for checkpoint in self._candidates(everything):
            before = self._history_of(checkpoint, killed)
            if before is not None and all(map(self._plan(before).makes, self._names)):
                return before
        return own

    def _candidates(self, everything: list[Manifest]) -> Iterable[Manifest]:
        """Checkpoints that know the names: the newest of each line, newest first; then the one
        that would be restored. One that only goes on naming them may lack their cells."""
        wanted = set(self._names)
        knowing = [m for m in everything if wanted <= {*m.names, *(s.name for s in m.skipped)}]
        default = self._kernel.default_checkpoint(everything)
        of_lines = sorted({m.line: m for m in knowing}.values(), key=lambda m: -m.seq)
        found = [*of_lines, *([] if default is None else [default])]
        return {m.id: m for m in found}.values()

    def _history_of(self, checkpoint: Manifest, killed: dict[str, str]) -> Source | None:
        kept: dict[str, Any] = {}
        store = self._kernel.the_store()
        why = restore.bring_back_session(
            self._shell, store, checkpoint, lambda _, state: kept.update(state)
        )
        if why is not None or "raw" not in kept:
            print(f"Checkpoint {checkpoint.id}: {why or 'it holds no history'}")
            return None
        cells = provenance.cells_of(kept["raw"], kept["parsed"], checkpoint.failed_cells, killed)
        seen = {s.name: s.made_in for s in checkpoint.skipped if s.made_in is not None}
        return Source(cells, seen, checkpoint)

    def _plan(self, source: Source) -> Plan:
        users = self._shell.user_ns
        live = {
            name: _looked_up(value)
            for name, value in list(users.items())
            if isinstance(name, str) and not isinstance(value, Stub)
        }
        return rebuild_plan.plan(self._names, source.cells, live, source.seen, self._types())

    def _types(self) -> dict[str, str]:
        """Of the names, as checkpoints tell them."""
        try:
            everything = self._kernel.the_store().manifests()
        except StoreError:
            return {}
        return {s.name: s.type for m in everything for s in m.skipped}

    # --- asking, and telling --------------------------------------------------------------

    def _chosen(self, found: Plan, yes: frozenset[int] | bool) -> list[Cell]:
        cells = [step.cell for step in found.steps]
        if yes is False:
            yes = self._ask(len(cells))
        if isinstance(yes, frozenset):
            return [cell for cell in cells if cell.number in yes]
        return cells if yes else []

    def _ask(self, count: int) -> frozenset[int] | bool:
        which = "this cell" if count == 1 else f"these {count} cells"
        try:
            answer = input(f"Run {which}? [y/N, or the numbers of some] ").strip().lower()
        except StdinNotImplementedError:
            print(
                f"\nNothing has been run. This frontend cannot be asked: to run {which}, "
                f"%checkpoint rebuild {' '.join(self._names)} --yes; some of them: --yes NUMBER ..."
            )
            return False
        numbers = frozenset(map(int, re.findall(r"\d+", answer)))
        if numbers:
            return numbers
        if answer in ("y", "yes"):
            return True
        print("Nothing has been run.")
        return False

    def _said(self, chosen: Sequence[Cell], names: Sequence[str]) -> str:
        lines = []
        for name in names:
            try:
                value = namespace.value_of(self._shell.user_ns, name)
            except KeyError:
                cells = listed(f"In[{cell.number}]" for cell in chosen)
                lines.append(f"{name} is still not there: {cells} ran, and did not set it.")
            else:
                lines.append(f"{name} is there again: {type_name(value)}")
        return "\n".join(lines)


class _Again:
    """Around a cell that runs again: it has its number, and what it binds counts as its own."""

    def __init__(self, kernel: CheckpointKernel, cell: Cell, own: bool) -> None:
        self._kernel, self._cell, self._own = kernel, cell, own

    def __enter__(self) -> None:
        kernel, shell = self._kernel, self._kernel.shell
        self._count = shell.execution_count
        if kernel.checkpointer is not None:
            kernel.checkpointer.carry_over.touches.add(by_text(self._cell.raw))
            # What the command's own cell has done so far is its own.
            kernel.checkpointer.observed.ended(shell.user_ns, self._running())
            kernel.checkpointer.observed.begins(shell.user_ns)
        kernel.runs_again = True
        if self._own:  # tracebacks and outputs say In[n] and Out[n] as they did
            shell.execution_count = self._cell.number

    def __exit__(self, *_: object) -> None:
        kernel, shell = self._kernel, self._kernel.shell
        kernel.runs_again = False
        shell.execution_count = self._count
        if kernel.checkpointer is not None:
            observed = kernel.checkpointer.observed
            if self._own:
                observed.ended(shell.user_ns, self._cell.number)
            observed.begins(shell.user_ns)

    def _running(self) -> int:
        return len(self._kernel.shell.history_manager.input_hist_parsed) - 1


def _there(live: dict[str, Any], names: Iterable[str]) -> str:
    """Nobody need make again what has not gone."""
    there = [name for name in names if namespace.is_there(live, name)]
    are, them = ("is", "it") if len(there) == 1 else ("are", "them")
    return f"{listed(there)} {are} there: this would make {them} anew.\n" if there else ""


def _origin(source: Source) -> str:
    if source.checkpoint is None:
        return ""
    when = notice.clock(source.checkpoint.time)
    return f"In[n] are cells of the session before, as of {when}.\n"


def _stopped(cell: Cell, result: Any, left: Sequence[Cell]) -> str:
    error = None if result is None else result.error_in_exec or result.error_before_exec
    said = f"In[{cell.number}] raised {type(error).__name__}" if error else "it was broken off"
    rest = listed(f"In[{one.number}]" for one in left)
    return f"stopped: {said}" + (f"; not run: {rest}" if rest else "")


def _looked_up(value: Any) -> frozenset[str]:
    """Globals that a function of the notebook's, or a method of its class, looks up."""
    functions = [value]
    if isinstance(value, type):
        functions = list(vars(value).values()) if value.__module__ == "__main__" else []
    found: set[str] = set()
    for function in functions:
        inner = getattr(function, "__func__", function)
        if isinstance(inner, types.FunctionType) and inner.__module__ == "__main__":
            found.update(*(used_by(code).names for code in parts_of(inner.__code__)))
    return frozenset(found)


def deaths_by_text(notebook_directory: Path) -> dict[str, str]:
    """When and of what the kernel died in a cell, by `provenance.text_of` the cell."""
    found: dict[str, str] = {}
    for path in sorted((notebook_directory / DEATHS).glob("*.json")):
        record = notice.read_death(notebook_directory, path.name)
        if record is None or record.get("survived") or not record.get("cell_running"):
            continue
        source, moment = record.get("cell_source"), _moment(record)
        if isinstance(source, str) and source.strip():
            found[provenance.text_of(source)] = f"{record.get('cause') or 'unknown'}{moment}"
    return found


def _moment(record: dict[str, Any]) -> str:
    try:
        died = datetime.fromisoformat(str(record.get("time"))).timestamp()
    except ValueError:
        return ""
    return time.strftime(", %Y-%m-%d %H:%M:%S", time.localtime(died))
