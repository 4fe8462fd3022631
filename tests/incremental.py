"""A kernel's checkpoints without a kernel: each one beside a dump of everything, made just then.

`Incremental` runs cells in a real IPython shell and has a real `Checkpointer` take checkpoints of
it, in place instead of in a snapshot process. What it does around a cell is what `kernel` does.
After each checkpoint `differences` loads it and the full dump, and says where the two differ.
"""

from __future__ import annotations

import itertools
import sys
import time
import types
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import interactive
import numpy as np

from checkpoint_kernel import checkpoint, rebuild, restore, safe_point, snapshot
from checkpoint_kernel.carry_over import Proved
from checkpoint_kernel.checkpoint import Checkpointer, Facts
from checkpoint_kernel.flight_recorder import FlightRecorder
from checkpoint_kernel.manifest import Manifest
from checkpoint_kernel.own_modules import Tracker
from checkpoint_kernel.safe_point import IDLE
from checkpoint_kernel.session import Plan, Session, Settings
from checkpoint_kernel.store import Store
from checkpoint_kernel.unchanged import Known

_FULL = "full"
_LIMIT_S = 60.0


class Interrupted(Exception):
    """A checkpoint that is taken and never committed."""


@dataclass(frozen=True)
class Taken:
    """One committed checkpoint, and the dump of everything at the same moment."""

    manifest: Manifest
    full: Manifest
    carried: tuple[Known, ...]


class Incremental:
    """A shell whose namespace is checkpointed, again and again, into a store below `directory`."""

    def __init__(self, directory: Path, exclude: tuple[str, ...] = ()) -> None:
        rebuild.codes.clear()  # functions that other tests have loaded are none of this kernel's
        self.directory = directory
        self.store = interactive.new_store(directory)
        self.full_store = interactive.new_store(directory / _FULL)
        self.exclude = exclude
        self.carried_units = 0
        self.proved_buffers = 0
        self._generation = 0
        self._fail_at: str | None = None
        self._begin_generation(Plan("clean", ""))

    def _begin_generation(self, plan: Plan) -> None:
        self._generation += 1
        session = Session(
            id=f"s{self._generation}", line="line", started=0.0, kernel_id="k", notebook=None,
            notebook_directory=str(self.store.directory), key_file="", supervisor_pid=1,
            boot_id="", settings=Settings(exclude=self.exclude), plan=plan,
        )  # fmt: skip
        self.shell = interactive.new_shell()
        self.shell.showtraceback = lambda *_, **__: None
        recorder = FlightRecorder(self.directory / f"flight-{self._generation}")
        self.checkpointer = Checkpointer(self.shell, session, self.store, recorder)
        self.checkpointer.own_modules = Tracker(frozenset(sys.modules))  # pytest's
        self._recorder = recorder
        self.shell.events.register("pre_run_cell", self._cell_begins)

    def _cell_begins(self, info: Any) -> None:
        touches = self.checkpointer.carry_over.touches
        touches.becomes(info.raw_cell or "", getattr(info, "transformed_cell", None))
        self._recorder.update(
            state="busy", cell_file=self.shell.compile.get_code_name(info.raw_cell, "", 1)
        )

    # --- what a frontend and a clock do ---------------------------------------------------

    def run(self, cell: str) -> bool:
        """Run a cell as a frontend has it run; whether it went well."""
        touches = self.checkpointer.carry_over.touches
        touches.begin(cell)
        try:
            result = self.shell.run_cell(cell, store_history=True)
        finally:
            touches.end()
        self._recorder.update(state="idle")
        self.checkpointer.changed()
        ok = bool(result.success)
        # Tracebacks hold frames, and frames hold what they were working on.
        self.shell.last_execution_result = None
        for name in ("last_type", "last_value", "last_traceback", "last_exc"):
            if hasattr(sys, name):
                delattr(sys, name)
        return ok

    def take(self, fail_at: str | None = None, in_frame: types.FrameType | None = None) -> Taken:
        """A checkpoint of this moment. `fail_at`: "begin" or "commit", then it raises."""
        taken: list[Taken] = []
        self._fail_at = fail_at

        def write(
            facts: Facts, shell: Any, store: Store, report: Any, limit: Any, *more: Any
        ) -> None:
            if self._fail_at == "begin":
                raise Interrupted
            everything = replace(facts, proved=Proved(together=facts.proved.together))
            mine, full = _Listening(report), _Listening(_silent)
            _WRITE(everything, shell, self.full_store, full, _silent)
            _WRITE(facts, shell, store, mine, limit, *more)
            if self._fail_at == "commit":
                raise Interrupted
            self.full_store.refresh()
            manifests = store.manifest(mine.committed), self.full_store.manifest(full.committed)
            taken.append(self._taken(manifests, facts))

        position = self._position(in_frame)
        available = snapshot.available
        checkpoint.write, snapshot.available = write, lambda: "a test"  # type: ignore[assignment]
        try:
            begun = self.checkpointer.take("cell" if in_frame is None else "mid-cell", position)
        finally:
            checkpoint.write, snapshot.available = _WRITE, available
            if in_frame is not None:
                self.checkpointer.changed()
        if not taken:
            assert fail_at is not None, self.checkpointer.settled.trouble
            raise Interrupted
        assert begun, self.checkpointer.settled.trouble
        return taken[0]

    def _position(self, frame: types.FrameType | None) -> safe_point.Position:
        if frame is None:
            return IDLE
        file = self._recorder.flight.cell_file
        return safe_point.examine(frame, self.shell.user_ns, file)

    def _taken(self, manifests: tuple[Manifest, Manifest], facts: Facts) -> Taken:
        self.carried_units += len(facts.proved.units)
        self.proved_buffers += len(facts.proved.clean)
        return Taken(*manifests, facts.proved.units)

    def checkpoint(self) -> Taken:
        """Take a checkpoint and insist that it holds what a dump of everything holds."""
        taken = self.take()
        assert_same(self, taken)
        return taken

    def die_and_restore(self, taken: Taken) -> None:
        """Go on in a new shell, from a checkpoint."""
        self._begin_generation(Plan("restore", "", checkpoint=taken.manifest.id))
        restore.bind(self.shell, self.loaded(taken.manifest, self.store, self.shell.user_ns))

    @staticmethod
    def loaded(
        manifest: Manifest, store: Store, main: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """The variables of a checkpoint, unless one of them fails to load."""
        known = len(rebuild.codes)
        outcome = restore.load({"__name__": "__main__"} if main is None else main, store, manifest)
        assert not outcome.failed, outcome.failed
        if main is None:
            del rebuild.codes[known:]  # nobody is going to call these functions
        return outcome.values

    def carried(self, taken: Taken) -> set[str]:
        """Names of variables that were not looked at."""
        return {name for known in taken.carried for name in known.identities}


class Forked(Incremental):
    """The same in snapshot processes, with the dirty pages of buffers that are not large."""

    def take(self, fail_at: str | None = None, in_frame: types.FrameType | None = None) -> Taken:
        self._fail_at = fail_at

        def write(
            facts: Facts, shell: Any, store: Store, report: Any, limit: Any, hold: Any
        ) -> None:
            if self._fail_at == "begin":
                raise Interrupted
            everything = replace(facts, proved=Proved(together=facts.proved.together))
            _WRITE(everything, shell, self.full_store, _silent, _silent)
            if self._fail_at != "commit":
                _WRITE(facts, shell, store, report, limit)
                return
            _WRITE(facts, shell, store, _silent, limit)
            raise Interrupted

        checkpointer, settled = self.checkpointer, self.checkpointer.settled
        before = settled.count
        checkpoint.write = write
        try:
            reason = "cell" if in_frame is None else "mid-cell"
            begun = checkpointer.take(reason, self._position(in_frame))
            facts = checkpointer._facts
        finally:
            checkpoint.write = _WRITE
            if in_frame is not None:
                checkpointer.changed()
        assert begun, settled.trouble
        assert checkpointer.finish(time.monotonic() + _LIMIT_S)
        if settled.count == before:
            assert fail_at is not None, settled.trouble
            raise Interrupted
        self.full_store.refresh()
        assert settled.newest is not None
        assert facts is not None
        return self._taken((settled.newest, self.full_store.manifests()[-1]), facts)


_WRITE = checkpoint.write


class _Listening:
    """Takes note of what was committed: the checkpoint before, where nothing has changed."""

    def __init__(self, report: Callable[..., None]) -> None:
        self._report = report
        self.committed = ""

    def __call__(self, **fields: Any) -> None:
        self.committed = fields.get("committed", self.committed)
        self._report(**fields)


def _silent(*_: Any, **__: Any) -> None:
    """Reports of the full dump are nobody's."""


def assert_same(kernel: Incremental, taken: Taken) -> None:
    """What was carried over is what looking would have found."""
    mine = kernel.loaded(taken.manifest, kernel.store)
    full = kernel.loaded(taken.full, kernel.full_store)
    shapes = shape(mine), shape(full)
    wrong = {n: (shapes[0].get(n), shapes[1].get(n)) for n in shapes[0].keys() | shapes[1].keys()}
    wrong = {n: (a, b) for n, (a, b) in wrong.items() if a != b}
    assert not wrong, f"carried over although changed (saved, live): {wrong}"
    assert shared_memory(mine) == shared_memory(full)
    assert {s.name for s in taken.manifest.skipped} == {s.name for s in taken.full.skipped}


# --- comparing ----------------------------------------------------------------------------


def is_constant(value: Any) -> bool:
    """A value whose identity is not kept, and need not be."""
    if type(value) is tuple:
        return all(is_constant(v) for v in value)
    return value is None or isinstance(value, int | float | str | bytes | np.generic)


def shape(variables: dict[str, Any]) -> dict[str, Any]:
    """Variables as nested plain data, in which an object's second mention is its number."""
    numbers: dict[int, int] = {}
    keep: list[Any] = []

    def items(value: Any) -> Any:
        if isinstance(value, dict):
            return [(walk(k), walk(v)) for k, v in value.items()]
        if isinstance(value, set | frozenset):
            return sorted(map(repr, map(walk, value)))
        return [walk(v) for v in value]

    def walk(value: Any) -> Any:
        if is_constant(value):
            return repr(value)  # nan too
        if id(value) in numbers:
            return f"object {numbers[id(value)]}"
        numbers[id(value)] = len(numbers)
        keep.append(value)
        kind = type(value).__name__
        if isinstance(value, np.ndarray):
            values = [walk(v) for v in value.ravel()] if value.dtype == object else value.tobytes()
            strides = value.strides if value.size else None
            return ("array", str(value.dtype), value.shape, strides, values, value.flags.writeable)
        if isinstance(value, bytearray | memoryview):
            return (kind, bytes(value))
        if isinstance(value, type):
            held = {k: v for k, v in vars(value).items() if not k.startswith("_")}
            return ("class", value.__name__, {k: walk(v) for k, v in sorted(held.items())})
        if isinstance(value, types.FunctionType):
            cells = [walk(c.cell_contents) for c in value.__closure__ or ()]
            defaults = walk(list(value.__defaults__ or ()))
            return ("function", value.__qualname__, value.__code__.co_code, cells, defaults)
        if isinstance(value, types.MethodType | types.BuiltinMethodType):
            return ("method", value.__name__, walk(value.__self__))
        if isinstance(value, types.ModuleType):
            return ("module", value.__name__)
        if isinstance(value, weakref.ref):
            return (kind, walk(value()))
        if hasattr(value, "__next__"):
            return (kind, walk(value.__reduce__()))
        inside: list[Any] = []
        if isinstance(value, list | tuple | dict | set | frozenset) or kind == "deque":
            inside.append(items(value))
        if hasattr(value, "default_factory"):
            inside.append(walk(value.default_factory))
        if hasattr(value, "__dict__"):
            inside.append({k: walk(v) for k, v in sorted(vars(value).items())})
        slots = [s for c in type(value).__mro__ for s in vars(c).get("__slots__", ())]
        inside += [(s, walk(getattr(value, s, None))) for s in slots if s != "__dict__"]
        definition = walk(type(value)) if type(value).__module__ == "__main__" else kind
        return (kind, definition, *inside)

    return {name: walk(variables[name]) for name in sorted(variables)}


def shared_memory(variables: dict[str, Any]) -> set[tuple[str, str]]:
    """Pairs of arrays that lie over the same bytes."""
    arrays = {n: v for n, v in variables.items() if isinstance(v, np.ndarray)}
    return {
        (a, b)
        for a, b in itertools.combinations(sorted(arrays), 2)
        if np.shares_memory(arrays[a], arrays[b])
    }


Step = Callable[[], Any]
