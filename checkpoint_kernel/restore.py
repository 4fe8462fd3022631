"""A restore, top to bottom.

    manifest     which checkpoint; its signature is verified
    session      history, prompt number, sources of cells
    units        one by one, each noted before it is loaded: if loading kills the kernel,
                 the next start knows which one to leave out; large buffers are mapped
    bind         in the live `__main__`, each unit as soon as it is loaded: loading the next ones
                 runs code of the user's (`__setstate__`, `__hash__`), which looks up globals
    report       what is back; what is not, and why
    verify       what was mapped, in the background, while the user works on

Deciding whether and what to restore is the supervisor's (`Session.plan`); telling the user
is `notice`'s. One unit that cannot be loaded costs itself and what needs it.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from . import history_blocks, memory, namespace, pickling, provenance, session, tensors
from .chunk_reader import useful_threads
from .contract import DEATHS
from .flight_recorder import FlightRecorder
from .manifest import Manifest, ManifestError, Unit
from .mapped_memory import COPY_BYTES, NEVER_BELOW_BYTES, Maps, map_from, room_for_maps
from .session import NotRestored, RestoreReport
from .store import Reader, Store, StoreError
from .unchanged import Known

# Of what is left below the cap, a restore may fill so much with copies of small arrays.
_COPY_SHARE = 4
_MADE_IN_LIMIT_S = 0.3  # for finding the cells that made what is not back


class CannotLoad(Exception):
    """A unit that another one needs cannot be loaded."""


@dataclass
class Outcome:
    """What a restore did."""

    values: dict[str, Any] = field(default_factory=dict)  # what was bound
    failed: dict[str, str] = field(default_factory=dict)  # name -> reason
    older: dict[str, str] = field(default_factory=dict)  # name -> "3.1 s older"
    on_cpu: dict[str, str] = field(default_factory=dict)  # name -> "cuda:0 (there is none)"
    mapped: list[Known] = field(default_factory=list)  # units with storages that are mapped


def at_start(
    shell: Any,
    record: session.Session,
    store: Store,
    directory: Path,
    recorder: FlightRecorder,
    adopt: Callable[[list[Known]], None],
) -> RestoreReport:
    """Restore as the plan says, before the first cell. Never raises: see the report's state.

    `adopt` is told what is mapped: until it is written to, a checkpoint need not look at it.
    """
    plan = record.plan
    assert plan.checkpoint is not None
    started = time.time()
    report = RestoreReport(plan.checkpoint, "loading", started)
    recorder.update(state="restoring")
    _note(directory, report)
    try:
        checkpoint = store.manifest(plan.checkpoint)
        history = bring_back_session(shell, store, checkpoint, namespace.restore_interactive_state)
        outcome = load(
            shell.user_ns, store, checkpoint, leave_out=plan.leave_out,
            copy_bytes=_copy_bytes(record.cap), mapping=not _bus_error(record),
            about_to_load=lambda unit: recorder.update(restoring_unit=unit.id),
        )  # fmt: skip
        bind(shell, outcome.values)  # once more: as saved, whatever loading code has set since
        adopt(outcome.mapped)
        if history is not None:
            outcome.failed["In"] = history
        report = _report(checkpoint, outcome, started)
        report = _with_origin(shell, report, outcome.failed)
    except (StoreError, ManifestError, OSError) as why:
        report = RestoreReport(plan.checkpoint, "failed", started, error=str(why))
    recorder.update(restoring_unit=None, restore_done=True)
    _note(directory, report)
    store.verification.begin()
    return report


def _with_origin(shell: Any, report: RestoreReport, failed: Iterable[str]) -> RestoreReport:
    """Which cells made what is not back: of what could be saved the checkpoint does not say."""
    missing = provenance.made_in(
        report.not_restored, provenance.cells_of_shell(shell), {}, set(failed), _MADE_IN_LIMIT_S
    )
    return replace(report, not_restored=tuple(missing))


def _copy_bytes(cap: session.Cap | None) -> int:
    """How much is copied at most; what is mapped needs no memory before it is written to."""
    room = None if cap is None else memory.headroom_bytes(cap)
    return COPY_BYTES if room is None else max(0, min(COPY_BYTES, room // _COPY_SHARE))


def _bus_error(record: session.Session) -> bool:
    """Whether the death before this start was a bus error, as touching a map of bytes that the
    disk does not give is. Reading them is an error instead, which names the variable."""
    path = Path(record.notebook_directory) / DEATHS / (record.plan.death or "none")
    try:
        return bool(json.loads(path.read_bytes()).get("cause") == "bus-error")
    except (OSError, ValueError, AttributeError):
        return False  # no death, or no record of it


def _note(directory: Path, report: RestoreReport) -> None:
    """The progress file is for people who look later: a full disk must not cost the restore."""
    try:
        session.save(directory, report)
    except OSError:
        pass  # the flight recorder says as much to the next start


def on_request(
    shell: Any, store: Store, checkpoint: Manifest, names: Iterable[str] = ()
) -> RestoreReport:
    """Restore into a running kernel: all variables, or only `names`.

    Loading code finds what is wanted as it was saved, and for the rest the live globals; one
    that the namespace lacks is brought back too. A variable that cannot be loaded keeps its
    live value, and so do all if the restore is broken off. With `names`, notebook classes that
    the namespace has are used as they are, so that `isinstance` holds between old and restored
    objects. Raises StoreError.
    """
    started = time.time()
    asked = set(names)
    with _all_or_nothing(shell.user_ns):
        outcome = load(
            shell.user_ns, store, checkpoint, wanted=asked.__contains__ if asked else _is_variable,
            prefer_live=bool(asked), doubtful=bool(asked), interruptible=True,
        )  # fmt: skip
    bind(shell, outcome.values)
    # The texts of the cells, for tracebacks and `inspect.getsource`; this session's history stays.
    sources = bring_back_session(shell, store, checkpoint, namespace.restore_sources)
    if sources is not None:
        outcome.failed["In"] = sources
    store.verification.begin()
    return _report(checkpoint, outcome, started, asked)


def _is_variable(name: str) -> bool:
    return not name.startswith("Out[")  # the session's own outputs keep their numbers


@contextmanager
def _all_or_nothing(main: dict[str, Any]) -> Iterator[None]:
    """A restore that is broken off leaves the names as they were."""
    before = dict(main)
    try:
        yield
    except BaseException:
        for name in main.keys() - before.keys():
            del main[name]
        main.update(before)
        raise


# What loading code is most likely to look up comes first.
_ORDER: Final = {"module": 0, "function": 1, "class": 1}
_LAST: Final = 2


def load(
    main: dict[str, Any],
    store: Store,
    checkpoint: Manifest,
    *,
    leave_out: Iterable[str] = (),
    wanted: Callable[[str], bool] = lambda name: True,
    prefer_live: bool = False,
    doubtful: bool = False,
    interruptible: bool = False,
    copy_bytes: int = COPY_BYTES,
    mapping: bool = True,
    about_to_load: Callable[[Unit], None] = lambda unit: None,
) -> Outcome:
    """Load a checkpoint's variables and bind them in `main`, each unit as soon as it is loaded.

    Modules first, then functions and classes, then data, the small ones before the large. A name
    that loading code looks up in vain is loaded and bound before that code is run again, also
    one that is not `wanted`. A unit that fails is not bound; what its code had done to other
    variables by then stays.

    `doubtful`: also units that a call was changing and of which there is no earlier version.
    `interruptible`: a Ctrl-C breaks it off, and is no fault of the unit that is being loaded.
    `copy_bytes`: of smaller buffers no more than that is copied, the rest is mapped. What is
    mapped waits for `store.verification.begin()`.
    """
    units = [
        unit
        for unit in checkpoint.units
        if unit.kind not in ("locals", "session") and any(map(wanted, unit.names))
    ]
    units.sort(key=lambda unit: (_ORDER.get(unit.kind, _LAST), unit.size_bytes))
    maps = _maps(store, units, copy_bytes) if mapping else None
    with store.reader(useful_threads(), maps) as reader, _no_collection():
        loader = _Loader(main, store, checkpoint, reader, set(leave_out), prefer_live)
        loader.wanted = wanted
        loader.about_to_load = about_to_load
        loader.doubtful = doubtful
        loader.interruptible = interruptible
        outcome = Outcome(loader.bound, {}, loader.older, loader.on_cpu, loader.mapped)
        for unit in units:
            try:
                loader.unit(unit.id)
            except CannotLoad as why:
                outcome.failed.update(dict.fromkeys(filter(wanted, unit.names), str(why)))
    return outcome


def _maps(store: Store, units: Iterable[Unit], copy_bytes: int) -> Maps | None:
    """What is mapped, by the sizes of everything that could be."""
    sizes: list[int] = []
    with store.reader() as reader:
        for unit in units:
            if unit.size_bytes >= NEVER_BELOW_BYTES:
                try:
                    plan = reader.recipe(bytes.fromhex(unit.payload))
                except (StoreError, OSError):
                    continue  # loading it will say why
                sizes += [span.length for span in plan.storages]
    return Maps(map_from(sizes, copy_bytes), room_for_maps()) if sizes else None


def load_locals(main: dict[str, Any], store: Store, checkpoint: Manifest) -> dict[str, Any]:
    """The locals of the functions that were running: `{"0:train": {"epoch": 80, ...}}`."""
    frames: dict[str, Any] = {}
    units = [unit for unit in checkpoint.units if unit.kind == "locals"]
    maps = _maps(store, units, COPY_BYTES)
    with store.reader(useful_threads(), maps) as reader, _no_collection():
        loader = _Loader(main, store, checkpoint, reader, prefer_live=True)
        for unit in units:
            frames.update(loader.unit(unit.id))
    store.verification.begin()
    return frames


class _Loader:
    """Loads units on demand: a data unit pulls in the classes that it needs, and the globals
    that their code looks up."""

    def __init__(
        self,
        main: dict[str, Any],
        store: Store,
        checkpoint: Manifest,
        reader: Reader,
        leave_out: AbstractSet[str] = frozenset(),
        prefer_live: bool = False,
    ) -> None:
        self._main = main
        self._store = store
        self._checkpoint = checkpoint
        self._reader = reader
        self._leave_out = leave_out
        self._prefer_live = prefer_live
        self.wanted: Callable[[str], bool] = lambda name: False
        self.interruptible = False
        self.about_to_load: Callable[[Unit], None] = lambda unit: None
        self._units = {unit.id: unit for unit in checkpoint.units}
        self._home = {
            key: unit.id
            for unit in checkpoint.units
            if unit.kind not in ("locals", "session")
            for key in (*unit.names, *unit.hidden)
        }
        self._loaded: dict[str, dict[str, Any]] = {}
        self._failed: dict[str, str] = {}
        self._under_way: list[str] = []
        self._looked_up: set[str] = set()  # names that loading code did not find
        self.bound: dict[str, Any] = {}
        self.older: dict[str, str] = {}
        self.on_cpu: dict[str, str] = {}
        self.mapped: list[Known] = []
        self.doubtful = True

    def definition(self, key: str) -> Any:
        """Resolver: a class or function that lives in another unit."""
        if self._prefer_live and isinstance(self._main.get(key), type):
            return self._main[key]
        home = self._home.get(key)
        if home is None:
            raise CannotLoad(f"it needs {key}, which is not in the checkpoint")
        return self.unit(home)[key]

    def unit(self, id: str) -> dict[str, Any]:
        """Everything that a unit holds, loading and binding it if need be; CannotLoad with the
        reason."""
        if id in self._loaded:
            return self._loaded[id]
        if id in self._failed:
            raise CannotLoad(self._failed[id])
        if id in self._under_way:
            raise CannotLoad("it needs itself to be loaded first")
        self._under_way.append(id)
        try:
            self._loaded[id] = self._load(self._units[id])
        except CannotLoad as why:
            self._failed[id] = str(why)
            raise
        finally:
            self._under_way.pop()
            if self._under_way:  # a death from here on is no longer this one's
                self.about_to_load(self._units[self._under_way[-1]])
        for name in filter(self.wanted, self._units[id].names):
            self._bind(name, self._loaded[id][name])
        return self._loaded[id]

    def _bind(self, name: str, value: Any) -> None:
        namespace.bind(self._main, name, value)
        self.bound[name] = value

    def _bring(self, name: str) -> bool:
        """Bind a global that loading code has looked up in vain; whether there is one.

        Raises CannotLoad where it cannot be loaded. Once for each name: code may delete it.
        """
        home = self._home.get(name)
        if home is None or name in self._main or name in self._looked_up:
            return False
        self._looked_up.add(name)
        try:
            value = self.unit(home)[name]
        except CannotLoad as why:
            raise CannotLoad(f"loading it uses {name}: {why}") from why
        self._bind(name, value)
        return True

    def _load(self, unit: Unit) -> dict[str, Any]:
        if unit.id in self._leave_out:
            raise CannotLoad("loading it killed the kernel, so it was left out")
        if unit.reached_by_call:
            unit = self._last_clean(unit)
        while True:
            self.about_to_load(unit)
            try:
                return self._read(unit)
            except CannotLoad as why:
                raise CannotLoad(f"it needs something else: {why}") from why
            except ModuleNotFoundError as why:
                raise CannotLoad(f"the package {why.name} is not installed") from why
            except (StoreError, OSError) as why:
                raise CannotLoad(str(why)) from why
            except BaseException as why:  # a __setstate__ may raise anything, SystemExit too
                if self.interruptible and isinstance(why, KeyboardInterrupt):
                    raise
                # Anew from the store: the half that was made may have changed what it was given.
                if not (isinstance(why, NameError) and self._bring(why.name or "")):
                    raise CannotLoad(f"loading it failed: {type(why).__name__}: {why}") from why

    def _read(self, unit: Unit) -> dict[str, Any]:
        try:
            payload = self._store.read_payload(unit.payload, self._reader)
            values = pickling.load(unit.codec, payload.stream, payload.buffers, self._main, self)
        except BaseException:
            tensors.left_on_cpu()  # forgets them: they are not back at all
            raise
        if unit.kind == "data" and (devices := tensors.left_on_cpu()):
            self.on_cpu.update(dict.fromkeys(unit.names, ", ".join(devices)))
        if payload.unverified:
            self.mapped.append(Known(unit, False, {}, {}, payload.mapped))
        names = unit.names or unit.hidden
        self._store.verification.add(self._checkpoint.id, names, payload.unverified, self._reader)
        return values

    def _last_clean(self, unit: Unit) -> Unit:
        """The newest version of a unit that no C call was changing when it was saved."""
        for earlier in reversed(self._store.manifests()):
            if earlier.seq >= self._checkpoint.seq or earlier.line != self._checkpoint.line:
                continue
            for candidate in earlier.units:
                # A class without a name may have another key in another checkpoint.
                nameless = any("#" in needed for needed in candidate.needs)
                if candidate.id == unit.id and not candidate.reached_by_call and not nameless:
                    older_s = self._checkpoint.time - earlier.time
                    self.older.update(dict.fromkeys(unit.names, f"{older_s:.1f} s older"))
                    return candidate
        if self.doubtful:
            return unit
        # A list that is being sorted is empty: a wrong value is worse than none.
        raise CannotLoad(
            "a call was changing it when it was saved, and no earlier version is there; as it was: "
            f"%checkpoint restore {self._checkpoint.id} {' '.join(unit.names)}"
        )


def bring_back_session(
    shell: Any,
    store: Store,
    checkpoint: Manifest,
    put_back: Callable[[Any, dict[str, Any]], None],
) -> str | None:
    """What was around the variables, by `put_back(shell, state)`; why not, if it is not back."""
    for unit in checkpoint.units:
        if unit.kind == "session":
            try:
                with store.reader() as reader:
                    loader = _Loader({}, store, checkpoint, reader)
                    put_back(shell, history_blocks.unpack(loader.unit(unit.id)["session"]))
            except Exception as why:  # the variables do not depend on it
                return f"the history of cells could not be loaded: {why}"
    return None


def bind(shell: Any, values: dict[str, Any]) -> None:
    """Give restored variables their names in the live namespace, and `_` its value.

    Outputs first: the user may have called something else `_3`.
    """
    for name in sorted(values, key=lambda name: namespace.output_number(name) is None):
        namespace.bind(shell.user_ns, name, values[name])
    namespace.restore_last_outputs(shell, values.keys())


def _report(
    checkpoint: Manifest, outcome: Outcome, started: float, asked: AbstractSet[str] = frozenset()
) -> RestoreReport:
    types = {name: t for unit in checkpoint.units for name, t in unit.types.items()}
    missing = [
        NotRestored(s.name, s.type, s.reason, s.remedy, s.made_in, s.made_by)
        for s in checkpoint.skipped
        if not asked or s.name in asked
    ]
    missing += [
        NotRestored(name, "?", "it is large, and was not written yet when the kernel ended")
        for name in checkpoint.pending
        if not asked or name in asked
    ]
    missing += [
        NotRestored(name, types.get(name, "?"), reason) for name, reason in outcome.failed.items()
    ]
    missing += [
        NotRestored(name, "?", f"checkpoint {checkpoint.id} does not hold it")
        for name in sorted(asked)
        if name not in outcome.values and name not in {m.name for m in missing}
    ]
    return RestoreReport(
        checkpoint=checkpoint.id,
        state="done",
        started=started,
        seconds=time.time() - started,
        restored=tuple(sorted(outcome.values)),
        not_restored=tuple(missing),
        older=tuple(f"{name} ({by})" for name, by in sorted(outcome.older.items())),
        on_cpu=tuple(f"{name}: {device}" for name, device in sorted(outcome.on_cpu.items())),
    )


@contextmanager
def _no_collection() -> Iterator[None]:
    """Millions of new objects make the collector the most costly part of loading."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            # Young objects are looked at again and again. Thawed ones go to the oldest generation
            # (gc's documentation); what the user has frozen must stay so.
            if not gc.get_freeze_count():
                gc.freeze()
                gc.unfreeze()
            gc.enable()
