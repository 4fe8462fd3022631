"""A restore, top to bottom.

    manifest     which checkpoint; its signature is verified
    session      history, prompt number, sources of cells
    state        where modules and files are found; options, magics and seeds after the units
    units        one by one, each noted before it is loaded: if loading kills the kernel,
                 the next start knows which one to leave out; large buffers are mapped
    bind         in the live `__main__`, each unit as soon as it is loaded: loading the next ones
                 runs code of the user's (`__setstate__`, `__hash__`), which looks up globals
    report       what is back; what is not, and why
    verify       what was mapped, in the background, while the user works on

Deciding whether and what to restore is the supervisor's (`Session.plan`); telling the user
is `notice`'s. One unit that cannot be loaded costs itself and what needs it: the name stands for
a Stub then (`stand_ins`). What has killed or hung a kernel is in quarantine and is not loaded
unasked (`with_care`).
"""

from __future__ import annotations

import gc
import importlib
import json
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from . import (
    foreign_code,
    history_blocks,
    interactive_state,
    memory,
    namespace,
    needs,
    own_modules,
    own_modules_back,
    provenance,
    rebuild,
    registrations,
    session,
    stand_ins,
    trial,
    trials,
    with_care,
)
from .chunk_reader import useful_threads
from .contract import DEATHS
from .flight_recorder import FlightRecorder
from .interactive_state import PuttingBack
from .load_limit import GRACE_S, IMPORT_S, LoadingHangs, LoadLimit
from .loader import CannotLoad, Loader
from .manifest import BESIDE, Manifest, ManifestError, Unit
from .mapped_memory import COPY_BYTES, NEVER_BELOW_BYTES, Maps, map_from, room_for_maps
from .session import NotRestored, RestoreReport
from .store import Store, StoreError
from .stub import Stub
from .unchanged import Known

# Of what is left below the cap, a restore may fill so much with copies of small arrays.
_COPY_SHARE = 4
_MADE_IN_LIMIT_S = 0.3  # for finding the cells that made what is not back


@dataclass
class Outcome:
    """What a restore did."""

    values: dict[str, Any] = field(default_factory=dict)  # what was bound
    failed: dict[str, CannotLoad] = field(default_factory=dict)  # by name
    older: dict[str, str] = field(default_factory=dict)  # name -> "3.1 s older"
    on_cpu: dict[str, str] = field(default_factory=dict)  # name -> "cuda:0 (there is none)"
    partly: list[NotRestored] = field(default_factory=list)  # what it needs outside is gone
    mapped: list[Known] = field(default_factory=list)  # units with storages that are mapped
    modules: dict[str, set[str]] = field(default_factory=dict)  # that a restored name refers to
    other_versions: tuple[str, ...] = ()  # as in the report

    @property
    def lost(self) -> list[str]:
        """Names that this checkpoint will never give back."""
        return [name for name, why in self.failed.items() if why.lost]


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
        limit = LoadLimit(
            lambda unit, until: recorder.update(restoring_unit=unit.id, restoring_until=until)
        )
        death = _death(record)
        with limit.kept():
            left_out = with_care.known_to_kill(store, checkpoint, plan)
            state = _interactive_state(shell, store, checkpoint, left_out, limit)
            state.begin()  # what the units import is found by sys.path
            recorder.update(
                restoring_unit=None, restoring_until=None
            )  # trials have their own limit
            outcome = load(
                shell.user_ns, store, checkpoint,
                leave_out=with_care.left_out(
                    store, checkpoint, plan, death, _on_trial(shell.user_ns, store, checkpoint)
                ),
                copy_bytes=_copy_bytes(record.cap), mapping=death.get("cause") != "bus-error",
                limit=limit, plain=plan.care == "plain",
                hung=lambda unit, why: with_care.remember(store, unit, why),
            )  # fmt: skip
        bind(shell, outcome.values)  # once more: as saved, whatever loading code has set since
        _bind_in_modules(checkpoint, outcome, lambda id: _turn_of(recorder, id))
        _turn_of(recorder, interactive_state.UNIT)
        state.finish()
        adopt(outcome.mapped)
        if history is not None:
            outcome.failed["In"] = CannotLoad(history)
        report = _report(checkpoint, outcome, started, state=state)
        report = _with_origin(shell, report, outcome.failed)
        stand_ins.bind(shell.user_ns, checkpoint, report, outcome.lost)
        stand_ins.bind_again(shell.user_ns, checkpoint, (m.id for m in store.manifests()))
    except (StoreError, ManifestError, OSError) as why:
        report = RestoreReport(plan.checkpoint, "failed", started, error=str(why))
    recorder.update(restoring_unit=None, restoring_until=None, restore_done=True)
    _note(directory, report)
    store.verification.begin()
    return report


def _turn_of(recorder: FlightRecorder, unit_id: str) -> None:
    """What runs now runs the user's code: a death, or a hang, is this unit's."""
    until = time.monotonic() + IMPORT_S + GRACE_S
    recorder.update(restoring_unit=unit_id, restoring_until=until)


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


def _death(record: session.Session) -> dict[str, Any]:
    """The record of the death before this start; empty where there is none.

    After a bus error nothing is mapped: touching a map of bytes that the disk does not give is
    one. Reading them is an error instead, which names the variable.
    """
    path = Path(record.notebook_directory) / DEATHS / (record.plan.death or "none")
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


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
    live value, and so do all if the restore is broken off. The interactive state
    (working directory, options, seeds, ...) is put back too, unless there are `names`. With
    `names`, notebook classes that the namespace has are used as they are, so that `isinstance`
    holds between old and restored objects. What is in quarantine is loaded only if it is named,
    and in a process of its own first. Raises StoreError.
    """
    started = time.time()
    asked = set(names)
    importlib.invalidate_caches()  # something may just have been installed
    # The texts of the cells, for tracebacks and `inspect.getsource`, and for functions that another
    # Python has saved; this session's history stays.
    sources = bring_back_session(shell, store, checkpoint, namespace.restore_sources)
    main = shell.user_ns
    state = PuttingBack(shell)
    if not asked:
        state = _interactive_state(
            shell, store, checkpoint, with_care.in_quarantine(store, checkpoint)
        )
    with _all_or_nothing(main):
        state.begin()
        stubs = stand_ins.taken_out(main, checkpoint)
        outcome = load(
            main, store, checkpoint, wanted=asked.__contains__ if asked else _is_variable,
            prefer_live=bool(asked), doubtful=bool(asked), interruptible=True, awaited=set(stubs),
            leave_out=with_care.left_out_by_hand(
                store, checkpoint, asked, _on_trial(main, store, checkpoint)
            ),
        )  # fmt: skip
    bind(shell, outcome.values)
    main.update({name: stub for name, stub in stubs.items() if name not in main})
    _bind_in_modules(checkpoint, outcome)
    state.finish()
    if sources is not None:
        outcome.failed["In"] = CannotLoad(sources)
    store.verification.begin()
    report = _report(checkpoint, outcome, started, asked, state)
    stand_ins.bind(main, checkpoint, report, outcome.lost)
    with_care.released(store, checkpoint, report.restored)
    return report


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
    leave_out: Mapping[str, str] = MappingProxyType({}),
    wanted: Callable[[str], bool] = lambda name: True,
    prefer_live: bool = False,
    doubtful: bool = False,
    interruptible: bool = False,
    copy_bytes: int = COPY_BYTES,
    mapping: bool = True,
    limit: LoadLimit | None = None,
    hung: Callable[[Unit, str], None] = lambda unit, why: None,
    plain: bool = False,
    awaited: AbstractSet[str] = frozenset(),
) -> Outcome:
    """Load a checkpoint's variables and bind them in `main`, each unit as soon as it is loaded.

    Modules first, then functions and classes, then data, the small ones before the large. A name
    that loading code looks up in vain is loaded and bound before that code is run again, also
    one that is not `wanted`. A unit that fails is not bound; what its code had done to other
    variables by then stays.

    `doubtful`: also units that a call was changing and of which there is no earlier version.
    `interruptible`: a Ctrl-C breaks it off, and is no fault of the unit that is being loaded.
    `copy_bytes`: of smaller buffers no more than that is copied, the rest is mapped. What is
    mapped waits for `store.verification.begin()`. `leave_out`: reasons by unit id. `limit` is
    told of each unit before it is loaded, and `hung` of one that took too long. `plain`: no data
    is loaded that runs code of others. `awaited`: what is bound if something wanted needs it.
    """
    units = [
        unit
        for unit in checkpoint.units
        if unit.kind not in BESIDE and any(map(wanted, unit.names))
    ]
    units.sort(key=lambda unit: (_ORDER.get(unit.kind, _LAST), unit.size_bytes))
    maps = _maps(store, units, copy_bytes) if mapping else None
    with store.reader(useful_threads(), maps) as reader, _no_collection():
        loader = Loader(main, store, checkpoint, reader, leave_out, prefer_live)
        loader.wanted = wanted
        loader.doubtful = doubtful
        loader.interruptible = interruptible
        loader.plain = plain
        loader.awaited = awaited
        if limit is not None:
            loader.about_to_load, loader.loaded, loader.hung = limit.begin, limit.end, hung
        outcome = Outcome(loader.bound, {}, loader.older, loader.on_cpu)
        outcome.partly, outcome.mapped = loader.partly, loader.mapped
        for unit in units:
            try:
                loader.unit(unit.id)
            except CannotLoad as why:
                outcome.failed.update(dict.fromkeys(filter(wanted, unit.names), why))
            except LoadingHangs as why:  # rung between two units
                outcome.failed.update(
                    dict.fromkeys(filter(wanted, unit.names), CannotLoad(str(why)))
                )
            else:
                used = loader.modules.get(unit.id, set())
                outcome.modules.update(dict.fromkeys(filter(wanted, unit.names), used))
        if not prefer_live:
            outcome.failed.update(registrations.bring_back(checkpoint, loader.unit, CannotLoad))
        outcome.failed.update({name: why for name, why in loader.gone.items() if wanted(name)})
        outcome.other_versions = _other_versions(checkpoint, outcome, lambda: loader.saved_with)
    for one in checkpoint.skipped:
        if one.stub and wanted(one.name) and namespace.identity(main, one.name) is None:
            namespace.bind(main, one.name, Stub(one.type, one.reason, one.remedy))
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
        loader = Loader(main, store, checkpoint, reader, prefer_live=True)
        for unit in units:
            frames.update(loader.unit(unit.id))
    store.verification.begin()
    return frames


def _on_trial(main: dict[str, Any], store: Store, checkpoint: Manifest) -> trial.Loader:
    """Loads units in a forked process, which keeps nothing of them."""

    def loader(leave_out: AbstractSet[str], about_to_load: Callable[[Unit], None]) -> trial.Load:
        without = dict.fromkeys(leave_out, "it is left out")
        rebuild.trying.append(True)  # nothing outside is to change; this process ends with it
        made = Loader(main, store, checkpoint, store.new_reader(), without)
        made.about_to_load = about_to_load

        def load(unit: Unit) -> None:
            with suppress(CannotLoad):
                made.unit(unit.id)
            made.forget(unit)

        return load

    return loader


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
                    loader = Loader({}, store, checkpoint, reader)
                    put_back(shell, history_blocks.unpack(loader.unit(unit.id)["session"]))
            except Exception as why:  # the variables do not depend on it
                return f"the history of cells could not be loaded: {why}"
    return None


def _interactive_state(
    shell: Any,
    store: Store,
    checkpoint: Manifest,
    left_out: Mapping[str, str],
    limit: LoadLimit | None = None,
) -> PuttingBack:
    """The interactive state, ready to be put back; empty, and said why, if it cannot be loaded."""
    unit = next((unit for unit in checkpoint.units if unit.kind == interactive_state.KIND), None)
    if unit is None:
        return PuttingBack(shell)
    try:
        with store.reader() as reader:
            loader = Loader(shell.user_ns, store, checkpoint, reader, left_out)
            if limit is not None:
                loader.about_to_load, loader.loaded = limit.begin, limit.end
            packed = loader.unit(unit.id)[interactive_state.KIND]
    except CannotLoad as why:
        return PuttingBack(shell).lost(str(why))
    definitions = _Definitions(shell.user_ns, store, checkpoint, left_out)
    return PuttingBack(shell, packed, definitions)


@dataclass
class _Definitions:
    """Resolver: a notebook's function or class as it is by now, else as it was saved."""

    main: dict[str, Any]
    store: Store
    checkpoint: Manifest
    left_out: Mapping[str, str]

    def definition(self, key: str) -> Any:
        if key in self.main:
            return self.main[key]
        with self.store.reader() as reader:
            loader = Loader(self.main, self.store, self.checkpoint, reader, self.left_out)
            return loader.definition(key)


def bind(shell: Any, values: dict[str, Any]) -> None:
    """Give restored variables their names in the live namespace, and `_` its value.

    Outputs first: the user may have called something else `_3`.
    """
    for name in sorted(values, key=lambda name: namespace.output_number(name) is None):
        if not own_modules.is_root(name):
            namespace.bind(shell.user_ns, name, values[name])
    namespace.restore_last_outputs(shell, values.keys())


def _bind_in_modules(
    checkpoint: Manifest, outcome: Outcome, note: Callable[[str], None] = lambda id: None
) -> None:
    """Set in the user's modules what had changed there; `note`: the unit whose turn it is."""
    values = {n: value for n, value in outcome.values.items() if own_modules.is_root(n)}
    together = (name for unit in checkpoint.units if len(unit.names) > 1 for name in unit.names)
    home = {name: unit.id for unit in checkpoint.units for name in unit.names}
    failed = own_modules_back.put_back(values, frozenset(together), lambda root: note(home[root]))
    outcome.failed.update({name: CannotLoad(why) for name, why in failed.items()})
    for name in failed:
        del outcome.values[name]


def _report(
    checkpoint: Manifest,
    outcome: Outcome,
    started: float,
    asked: AbstractSet[str] = frozenset(),
    state: PuttingBack | None = None,
) -> RestoreReport:
    types = {name: t for unit in checkpoint.units for name, t in unit.types.items()}
    missing = [
        NotRestored(s.name, s.type, _in_hindsight(s.reason), s.remedy, s.made_in, s.made_by)
        for s in checkpoint.skipped
        if not asked or s.name in asked
    ]
    missing += [
        NotRestored(name, "?", "it is large, and was not written yet when the kernel ended")
        for name in checkpoint.pending
        if not asked or name in asked
    ]
    missing += [
        NotRestored(name, types.get(name, "?"), str(why), why.remedy)
        for name, why in outcome.failed.items()
    ]
    missing += [] if state is None else state.failed
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
        partly=tuple(
            NotRestored(s.name, s.type, s.reason, s.remedy)
            for s in checkpoint.partly
            if s.name in outcome.values and s.type
        )
        + tuple(one for one in outcome.partly if one.name in outcome.values),
        older=tuple(f"{name} ({by})" for name, by in sorted(outcome.older.items())),
        on_cpu=tuple(f"{name}: {device}" for name, device in sorted(outcome.on_cpu.items())),
        other_versions=outcome.other_versions,
        interactive=() if state is None else tuple(state.back),
    )


def _in_hindsight(reason: str) -> str:
    """Nothing is tried again of a kernel that has ended."""
    too_long = "it took too long to be saved before the kernel ended"
    return too_long if reason == trials.UNDECIDED else reason


def _other_versions(
    checkpoint: Manifest, outcome: Outcome, saved_with: Callable[[], needs.SavedWith]
) -> tuple[str, ...]:
    """Packages of other versions than those that restored variables were saved with."""
    used = {name: outcome.modules.get(name, set()) for name in sorted(outcome.values)}
    said = []
    if foreign_code.is_foreign(checkpoint.python):
        said.append(f"Python {checkpoint.python}, here {platform.python_version()}")
    if not any(used.values()):
        return tuple(said)
    saved = saved_with()
    for version in saved.others(set().union(*used.values())):
        names = [n for n, modules in used.items() if saved.uses(version.package, modules)]
        said.append(f"{version.said} ({', '.join(names)})")
    return tuple(said)


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
