"""Loads the units of one checkpoint on demand, each with what it needs.

A data unit pulls in its classes, and the globals that its code looks up while it is loaded.
Which units, in which order, and what becomes of the failures, is `restore`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from functools import cached_property
from types import MappingProxyType
from typing import Any

from . import (
    foreign_code,
    namespace,
    needs,
    own_modules,
    pickling,
    rebuild,
    tensors,
    with_care,
)
from .load_limit import LoadingHangs
from .manifest import BESIDE, Manifest, Unit
from .session import NotRestored
from .store import Payload, Reader, Store, StoreError
from .stub import Stub
from .unchanged import Known


class CannotLoad(Exception):
    """A unit cannot be loaded, or one that it needs. `remedy`: what has to be done first.

    `lost`: it cannot be had from this checkpoint any more, whatever is done.
    """

    def __init__(self, reason: str, remedy: str | None = None, *, lost: bool = False) -> None:
        super().__init__(reason)
        self.remedy = remedy
        self.lost = lost

    def because(self, before: str) -> CannotLoad:
        """The same, for a unit that needs the one that failed."""
        return CannotLoad(f"{before}: {self}", self.remedy)


class Loader:
    """Loads units on demand: a data unit pulls in the classes that it needs, and the globals
    that their code looks up."""

    def __init__(
        self,
        main: dict[str, Any],
        store: Store,
        checkpoint: Manifest,
        reader: Reader,
        leave_out: Mapping[str, str] = MappingProxyType({}),
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
        self.loaded: Callable[[], None] = lambda: None  # nothing is being loaded any more
        self.hung: Callable[[Unit, str], None] = lambda unit, why: None
        self.units = {unit.id: unit for unit in checkpoint.units}
        self._home = {
            key: unit.id
            for unit in checkpoint.units
            if unit.kind not in BESIDE
            for key in (*unit.names, *unit.hidden)
        }
        self._loaded: dict[str, dict[str, Any]] = {}
        self._failed: dict[str, CannotLoad] = {}
        self.modules: dict[str, set[str]] = {}  # by unit, also of one that failed
        self._under_way: list[str] = []
        self._looked_up: set[str] = set()  # names that loading code did not find
        self.bound: dict[str, Any] = {}
        self.older: dict[str, str] = {}
        self.on_cpu: dict[str, str] = {}
        self.mapped: list[Known] = []
        self.gone: dict[str, CannotLoad] = {}  # variables of loaded units: why they are not back
        self.partly: list[NotRestored] = []
        self.doubtful = True
        self.plain = False
        self.awaited: AbstractSet[str] = frozenset()  # names to be bound if they are loaded

    def definition(self, key: str) -> Any:
        """Resolver: a class or function that lives in another unit."""
        if self._prefer_live and isinstance(self._main.get(key), type):
            return self._main[key]
        home = self._home.get(key)
        name = key.strip("#").rpartition("-")[0] if key.startswith("#") else key
        if home is None:
            raise CannotLoad(f"it needs {name}, which is not in the checkpoint")
        try:
            return self.unit(home)[key]
        except CannotLoad as why:
            raise why.because(f"it needs {name}") from why

    def unit(self, id: str) -> dict[str, Any]:
        """Everything that a unit holds, loading and binding it if need be; CannotLoad with the
        reason."""
        if id in self._loaded:
            return self._loaded[id]
        if id in self._failed:
            raise self._failed[id]
        if id in self._under_way:
            raise CannotLoad("it needs itself to be loaded first")
        self._under_way.append(id)
        try:
            self._loaded[id] = self._load(self.units[id])
        except CannotLoad as why:
            self._failed[id] = why
            raise
        finally:
            self.loaded()
            self._under_way.pop()
            if self._under_way:  # a death from here on is no longer this one's
                self.about_to_load(self.units[self._under_way[-1]])
        for name in self.units[id].names:
            if name not in self._loaded[id]:
                continue
            if not (self.wanted(name) or name in self.awaited):
                continue
            self._bind(name, self._loaded[id][name])
        return self._loaded[id]

    def forget(self, unit: Unit) -> None:
        """Let go of the values of a unit; definitions, which others need, stay."""
        if unit.kind == "data":
            self._loaded.pop(unit.id, None)

    def _bind(self, name: str, value: Any) -> None:
        if not own_modules.is_root(name):  # a module's: once all is loaded
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
            raise why.because(f"loading it uses {name}") from why
        self._bind(name, value)
        return True

    def _load(self, unit: Unit) -> dict[str, Any]:
        if unit.id in self._leave_out:
            raise CannotLoad(self._leave_out[unit.id])
        if unit.reached_by_call:
            unit = self._last_clean(unit)
        while True:
            self.about_to_load(unit)
            try:
                return self._read(unit)
            except CannotLoad:
                raise
            except (StoreError, OSError) as why:
                raise CannotLoad(str(why), lost=isinstance(why, StoreError)) from why
            except LoadingHangs as why:
                self.hung(unit, str(why))
                raise CannotLoad(str(why)) from why
            except BaseException as why:  # a __setstate__ may raise anything, SystemExit too
                if self.interruptible and isinstance(why, KeyboardInterrupt):
                    raise
                # Anew from the store: the half that was made may have changed what it was given.
                if not (isinstance(why, NameError) and self._bring(why.name or "")):
                    raise CannotLoad(*self._words(unit, why)) from why

    def _words(self, unit: Unit, why: BaseException) -> tuple[str, str | None]:
        """Reason and remedy."""
        if isinstance(why, pickling.NotPlain):
            return with_care.NOT_PLAIN, None
        if isinstance(why, foreign_code.OtherPython):
            return str(why), None
        if isinstance(why, ModuleNotFoundError):
            return needs.absent(why, self.saved_with)
        return needs.other(why, self.modules.get(unit.id, ()), self.saved_with)

    @cached_property
    def saved_with(self) -> needs.SavedWith:
        """The packages that there were."""
        return needs.saved_with(self._store.directory, self._checkpoint.session)

    def _read(self, unit: Unit) -> dict[str, Any]:
        modules = self.modules.setdefault(unit.id, set())
        plain = self.plain and unit.kind == "data"
        try:
            payload = self._store.read_payload(unit.payload, self._reader)
            with foreign_code.saved_under(self._checkpoint.python):
                values = self._values(unit, payload, modules, plain)
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

    def _values(
        self, unit: Unit, payload: Payload, modules: set[str], plain: bool
    ) -> dict[str, Any]:
        """Variables of a unit. Where a file that one of them needs is gone, that variable is
        missing; one that only holds what needs the file, holds a stub."""
        given = unit.codec, payload.stream, payload.buffers, self._main, self, modules, plain
        try:
            return pickling.load(*given)
        except rebuild.NotThere:
            gone: list[Stub] = []
            rebuild.stubs_for_missing.append(gone)
            try:
                values = pickling.load(*given)
            finally:
                rebuild.stubs_for_missing.pop()
        itself = {name: value for name, value in values.items() if type(value) is Stub}
        for name, stub in itself.items():
            self.gone[name] = CannotLoad(stub._stub_reason, stub._stub_remedy)
            del values[name]
        if not values:
            raise CannotLoad("; ".join(dict.fromkeys(str(self.gone[name]) for name in itself)))
        inside = {(s._stub_what, s._stub_reason, s._stub_remedy) for s in gone}
        self.partly += [NotRestored(name, *why) for name in values for why in sorted(inside)]
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
