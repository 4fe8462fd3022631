"""The interactive state: what is set once in a notebook, beside its variables.

    look       main thread: how things are when a cell begins or ends, and at a checkpoint
    draft      snapshot process: what a fresh kernel does not have, as a unit of the kind "state"
    put back   where modules and files are found before the units are loaded; options, magics and
               hooks after them; seeds last

What there is stands in `state_python`, `state_libraries` and `state_ipython`; each item that fails
costs itself. Variables of the environment may be secrets: they are named, and not saved.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from . import held_signals, pickling, state_ipython, state_libraries, state_python, units
from .manifest import Skipped
from .session import NotRestored
from .state_item import Item, NotBack, differs

ITEMS: Final[tuple[Item, ...]] = (
    *(item for item in state_python.ITEMS if item.first),
    state_ipython.EXTENSIONS,
    *(item for item in state_python.ITEMS if not item.first),
    *state_libraries.OPTIONS,
    *state_ipython.ITEMS,
    state_python.SEED,
    *state_libraries.SEEDS,
)
KIND: Final = "state"
UNIT: Final = f"{KIND}:{KIND}"  # its id
TYPE: Final = "interactive state"

_IN_STREAM: Final = 1 << 62  # arrays of any size stay in an item's stream
# What is larger is a chunk of its own, which is written when it has changed.
_CHUNK_FROM: Final = 512
_AS_BEFORE: Final = (
    "it was changed in the cell that had not finished, perhaps by a `with` for a part of it: it is "
    "as it was before that cell"
)
# Set by libraries when they are imported, or by ipykernel; polars' are in its Config.
_ENVIRONMENT_OF_LIBRARIES: Final = (
    "CUDA_MODULE_LOADING", "KMP_", "POLARS_", "TF2_BEHAVIOR", "TPU_", "PYTORCH_NVML", "QT_API",
    "ENABLE_RUNTIME_UPTIME_TELEMETRY", "PYDEVD_", "_RJEM_", "LINES", "COLUMNS", "TORCHINDUCTOR_",
    "JPY_",
)  # fmt: skip


@dataclass(frozen=True)
class _Failed:
    """It could not be looked at."""

    reason: str


@dataclass(frozen=True)
class Seen:
    """What was looked at in the main thread for one checkpoint."""

    at_start: dict[str, Any] = field(default_factory=dict)
    now: dict[str, Any] = field(default_factory=dict)
    before_cell: dict[str, Any] | None = None  # of scoped items, if a cell is running
    environment: dict[str, str] = field(default_factory=dict)  # as at the start
    signals: dict[str, str] = field(default_factory=dict)  # handlers of the notebook, and types


def _look(item: Item, shell: Any) -> Any:
    try:
        return item.look(shell)
    except Exception as why:
        return _Failed(units.one_line(why))


class Watch:
    """Looks at what a snapshot process cannot see: how things were, and in which context."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._at_start = {item.name: _look(item, shell) for item in ITEMS}
        self._environment = dict(os.environ)
        self._before_cell: dict[str, Any] | None = None
        self._after_cell: dict[str, Any] = {}

    def cell_begins(self) -> None:
        """In the cell's context."""
        self._before_cell = {i.name: _look(i, self._shell) for i in ITEMS if i.scoped}

    def cell_ended(self) -> None:
        """In the cell's context."""
        self._before_cell = None
        self._after_cell = {i.name: _look(i, self._shell) for i in ITEMS if i.contextual}

    def seen(self, inside_cell: bool) -> Seen:
        """For a checkpoint of this moment."""
        now = {i.name: _look(i, self._shell) for i in ITEMS if i.scoped or i.early}
        before = self._before_cell if inside_cell else None
        if before is None:
            now |= self._after_cell
        elif threading.current_thread() is not threading.main_thread():
            now |= {i.name: before[i.name] for i in ITEMS if i.contextual}
        return Seen(self._at_start, now, before, self._environment, _signal_handlers())


# --- draft: the snapshot process --------------------------------------------------------------


@dataclass
class Drafted:
    """The unit, unless all is as in a fresh kernel; and what is not saved."""

    units: list[units.Draft] = field(default_factory=list)
    words: tuple[str, ...] = ()  # what is in it, for people
    skipped: list[Skipped] = field(default_factory=list)


def draft(shell: Any, seen: Seen | None, definitions: pickling.Definitions) -> Drafted:
    """Each item is pickled on its own; functions and classes of the notebook are referred to."""
    if seen is None:
        return Drafted()
    packed: dict[str, tuple[str, Any]] = {}
    words, skipped = [], _environment(seen)
    for name, kind in seen.signals.items():
        why_not = "handlers of signals are not put back"
        skipped.append(Skipped(f"signal.getsignal({name})", kind, why_not, "set it again"))
    needs: set[str] = set()
    codes: list[types.CodeType] = []
    for item in ITEMS:
        try:
            value, reason = _value(item, shell, seen)
            if reason is not None:
                skipped.append(Skipped(item.name, TYPE, reason, "set it again"))
            if value is None:
                continue
            pickled = pickling.dump(
                {item.name: value}, shell.user_ns, definitions, units.NO_OBSERVER, _IN_STREAM
            )
        except Exception as why:
            failed = f"saving it failed: {units.one_line(why)}"
            skipped.append(Skipped(item.name, TYPE, failed, "set it again"))
            continue
        stream = pickled.stream
        large = len(stream) >= _CHUNK_FROM
        packed[item.name] = (pickled.codec, pickle.PickleBuffer(stream) if large else stream)
        needs |= pickled.needs
        codes += pickled.codes
        words += _in_words(item, value)
    if not packed:
        return Drafted(skipped=skipped)
    unit = units.Draft(KIND, {KIND: packed})
    unit.pickled = pickling.dump(unit.root, {}, units.NO_DEFINITIONS, units.NO_OBSERVER)
    unit.pickled.needs |= needs
    unit.pickled.codes += codes
    return Drafted([unit], tuple(words), skipped)


def _value(item: Item, shell: Any, seen: Seen) -> tuple[Any, str | None]:
    """What is saved of an item, and what users should know of that. Raises what it raises."""
    start = seen.at_start.get(item.name)
    start = None if isinstance(start, _Failed) else start
    now = seen.now[item.name] if item.name in seen.now else _look(item, shell)
    value = _changed(item, now, start)
    if not item.scoped or seen.before_cell is None:
        return value, None
    looked = seen.before_cell.get(item.name)
    if isinstance(looked, dict) and not item.in_block(looked, now):
        return value, None
    before = _changed(item, looked, start)
    return before, _AS_BEFORE if differs(before, value) else None


def _changed(item: Item, looked: Any, start: Any) -> Any:
    if isinstance(looked, _Failed):
        raise LookupError(looked.reason)
    return None if looked is None else item.changed(looked, start)


def _in_words(item: Item, value: Any) -> list[str]:
    about: str | None
    try:
        about = item.words(value)
    except Exception:  # as for `_changed`: values may be of any kind
        about = ""
    if about is None:
        return []
    return [f"{item.name} ({about})" if about else item.name]


def _environment(seen: Seen) -> list[Skipped]:
    """Variables that this session has set or removed. Their values are nobody's business."""
    changed = {
        name
        for name in seen.environment.keys() | os.environ.keys()
        if os.environ.get(name) != seen.environment.get(name)
        and not name.startswith(_ENVIRONMENT_OF_LIBRARIES)
    }
    return [
        Skipped(
            f"os.environ[{name!r}]", "environment variable",
            "it may be a secret, and is not saved"
            if name in os.environ else "that it was removed is not saved",
            "set it again" if name in os.environ else "remove it again",
        )
        for name in sorted(changed)
    ]  # fmt: skip


def _signal_handlers() -> dict[str, str]:
    """Those of the notebook, by signal. They are called at any time: the user sets them again."""
    return {
        signal.Signals(number).name: units.type_name(handler)
        for number, handler in held_signals.handlers().items()
        if getattr(handler, "__module__", None) == "__main__"
    }


# --- put back ---------------------------------------------------------------------------------


@dataclass
class PuttingBack:
    """The items of a checkpoint on their way into a kernel."""

    shell: Any
    packed: dict[str, Any] = field(default_factory=dict)
    definitions: pickling.Resolver | None = None
    back: list[str] = field(default_factory=list)  # in words
    failed: list[NotRestored] = field(default_factory=list)

    def lost(self, reason: str) -> PuttingBack:
        """None of it can be loaded."""
        self.failed.append(NotRestored(TYPE, "settings and seeds", reason))
        return self

    def begin(self) -> None:
        """What the units need to be loaded."""
        self._put_back(first=True)

    def finish(self) -> None:
        """What needs the units, and what loading them may have changed."""
        self._put_back(first=False)
        for name in self.packed.keys() - {item.name for item in ITEMS}:
            self._fail(name, NotBack("this version of checkpoint-kernel does not know it"))

    def _put_back(self, first: bool) -> None:
        for item in _in_order(first):
            if item.name not in self.packed:
                continue
            try:
                if item.library is not None and item.library not in sys.modules:
                    raise NotBack(
                        f"{item.library} has not been loaded", f"import {item.library}, and set it"
                    )
                value = self._load(item.name)
                item.put_back(self.shell, value)
            except NotBack as why:
                self._fail(item.name, why)
            except (Exception, SystemExit) as why:  # of an extension, perhaps
                self._fail(item.name, NotBack(units.one_line(why)))
            else:
                self.back += _in_words(item, value)

    def _load(self, name: str) -> Any:
        assert self.definitions is not None
        codec, stream = self.packed[name]
        main = self.shell.user_ns
        return pickling.load(codec, bytes(stream), [], main, self.definitions)[name]

    def _fail(self, name: str, why: NotBack) -> None:
        self.failed.append(NotRestored(name, TYPE, str(why), why.remedy))


def _in_order(first: bool) -> Iterator[Item]:
    return (item for item in ITEMS if item.first == first)
