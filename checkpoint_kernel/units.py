"""From a namespace to units: variables that reach a common mutable object are one unit.

Each variable is pickled on its own while every object it reaches is noted. Where two meet
in an object, or in overlapping memory, they are pickled again as one. Notebook classes and
functions are units that others refer to by key. One variable that fails costs itself. What runs
code of the user's when it is pickled comes last, and is tried in other processes (`trials`): it
can do no harm to what is pickled already.
Runs in the snapshot process; what is done with the payloads is `checkpoint`'s.
"""

from __future__ import annotations

import io
import types
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from . import (
    aliases,
    arrays,
    closed,
    graphs,
    healing,
    hiding,
    kinds,
    own_code,
    pickling,
    reducers_builtin,
    secrets_search,
    shield,
    spool,
    trials,
)
from .arrays import address_of
from .kinds import type_name
from .manifest import Skipped
from .pickling import Pickled
from .refusals import Refused, Unsavable
from .secrets_rules import Rules
from .staging import NotStaged
from .store import BufferRef

TOO_LARGE: Final = "saving it takes more memory than there is"
FREE_MEMORY: Final = "free memory (`del`), or raise memory_limit"

# To load a stream of more, on trial, takes time and memory: it is done once.
_TRIED_BYTES: Final = 32 << 20
_NO_RULES: Final = Rules()

# What becomes of a stream between pickling and writing.
Hold = Callable[[bytes | memoryview], bytes | memoryview]


@dataclass
class Draft:
    """A unit in the making."""

    kind: str  # data, function, class, module
    root: dict[str, Any]  # variables and hidden definitions that it holds
    pickled: Pickled | None = None
    reached_by_call: bool = False  # a C call under way was given one of its objects
    in_band_bytes: int = arrays.IN_BAND_BYTES  # memory below this goes into the stream
    closed: bool = False  # nothing outside holds one of its objects (see `closed`)
    parts: list[Draft] = field(default_factory=list)  # what it was made of
    guessed: bool = False  # the parts were taken together before anything was known of them
    runs_code: bool = False  # pickling it runs code of the user's

    @property
    def id(self) -> str:
        """Stable while the unit holds the same names: `data:df+view`."""
        return f"{self.kind}:{'+'.join(sorted(map(_escaped, self.root)))}"


def _escaped(name: str) -> str:
    """globals()["a+b"] is a name too, and no other unit than "a" and "b" together."""
    return name.replace("%", "%25").replace("+", "%2B")


@dataclass
class _Known:
    """Definitions that are in a unit already; for pickling beside a partition."""

    key_by_id: dict[int, str]

    def key_of(self, definition: Any) -> str | None:
        return self.key_by_id.get(id(definition))


class _RunsCode(BaseException):
    """The unit has code of the user's run. No Exception: dill could do nothing better."""


@dataclass(frozen=True)
class Trying:
    """How what runs code of the user's is tried. `slow`: names that are waited for, or not tried
    at all where `dares`: a checkpoint without them is committed, and time is short."""

    slow: Collection[str] = ()
    dares: bool = False
    began: Callable[[list[str]], None] = lambda _: None  # is told which variables are in hand


class _Blind:
    def saw(self, obj: Any) -> None:
        """Sharing does not matter here."""

    def opened(self) -> None:
        """Nor does who else holds it."""

    def runs_code(self) -> None:
        """It may."""

    def forget(self) -> None:
        """Nothing was noted."""


NO_DEFINITIONS = _Known({})
NO_OBSERVER = _Blind()


@dataclass
class Partition:
    """The units of a namespace, and the variables that are in none."""

    units: list[Draft]
    skipped: list[Skipped]
    definition_units: dict[str, str] = field(default_factory=dict)  # key -> unit id
    definitions: _Known = field(default_factory=lambda: _Known({}))
    identities: dict[str, int] = field(default_factory=dict)  # id of each definition, by key
    missed: list[str] = field(default_factory=list)  # variables whose device memory is not staged
    partly: list[Skipped] = field(default_factory=list)  # variables that are saved without a part
    fatal: dict[str, str] = field(default_factory=dict)  # variables that end or hang processes
    costly: dict[str, str] = field(default_factory=dict)  # variables that fail after long
    undecided: list[str] = field(default_factory=list)  # not tried to the end
    killed: int = 0  # processes that tried something, by SIGKILL
    rules: Rules = _NO_RULES  # the texts of secrets that were found are known to them


def partition(
    roots: dict[str, Any],
    main: dict[str, Any],
    known_bad: dict[str, Skipped],
    progress: Callable[[list[str]], None],
    in_call: tuple[Any, ...] = (),
    together: Iterable[Collection[str]] = (),
    hold: Hold = spool.in_memory,
    interruptible: bool = False,
    tried: Collection[tuple[str, str]] = (),
    rules: Rules = _NO_RULES,
    trying: Trying | None = None,
) -> Partition:
    """Pickle `roots` as units; those that reach an object of `in_call` are marked.

    `together`: names that were one unit before, and mostly still are. Taking them as one from
    the start spares pickling each alone; nothing but their size depends on it.

    `known_bad` names variables that killed or hung an earlier snapshot process; they are
    not touched. `progress` is told which variables are about to be pickled, so that a death
    in here can be blamed. Never raises for a bad variable. `hold` keeps a stream until it is
    written. `interruptible`: KeyboardInterrupt is raised. `tried`: variables, and the types of
    the parts that stubs stood for in them when they were last saved. `rules`: secrets inside of
    objects. `trying`: None where no process can be forked.
    """
    partitioner = _Partitioner(main, progress, in_call, hold, interruptible, tried, rules, trying)
    return partitioner.run(roots, known_bad, together)


class _Partitioner:
    def __init__(
        self,
        main: dict[str, Any],
        progress: Callable[[list[str]], None],
        in_call: tuple[Any, ...],
        hold: Hold,
        interruptible: bool,
        tried: Collection[tuple[str, str]],
        rules: Rules,
        trying: Trying | None,
    ) -> None:
        self._main = main
        # Who waits for it waits for no more than this.
        self._hiding = hiding.Hiding(rules, *((0.05, 0.1, 0.2) if interruptible else ()))
        self._trying = trying
        self._postponed: list[Draft] | None = []  # None: code of the user's may run
        self._order: healing.Order | None = None
        self._partly: list[Skipped] = []
        self._fatal: dict[str, str] = {}
        self._costly: dict[str, str] = {}
        self._undecided: list[str] = []
        self._killed = 0
        self._hold = hold
        self._interruptible = interruptible
        self._tried = frozenset(tried)
        self._in_call = {id(value) for value in in_call if not kinds.is_leaf(value)}
        self._progress = progress
        self._drafts: list[Draft] = []
        self._skipped: list[Skipped] = []
        self._missed: list[str] = []
        self._with_stubs: set[str] = set()  # names, of variables and definitions
        self._key_by_id: dict[int, str] = {}  # definitions: id(object) -> key
        self._definition_draft: dict[str, Draft] = {}
        self._queue: list[Draft] = []
        self._owner: dict[int, Draft] = {}  # object -> the first unit that reached it
        self._meetings: dict[tuple[int, int], tuple[Draft, Draft]] = {}
        self._bindings: dict[int, int] = {}  # object -> references from the namespace and roots
        # Of the current unit: its objects, edges to them beyond the first, and whether it
        # has something that cannot be counted.
        self._objects: list[Any] = []
        self._again: dict[int, int] = {}
        self._open = False
        self._current: Draft | None = None
        self._owned_before = 0  # length of _owner when the current unit was begun

    # The two faces that `pickling` sees.

    def saw(self, obj: Any) -> None:
        """Observer: an edge of the current unit leads to an object."""
        oid = id(obj)
        current = self._current
        assert current is not None
        owner = self._owner.get(oid)
        if owner is None:
            self._owner[oid] = current
            self._objects.append(obj)
            if oid in self._in_call:
                current.reached_by_call = True
        elif owner is current:
            self._again[oid] = self._again.get(oid, 0) + 1
        else:
            self._meetings[id(owner), id(current)] = (owner, current)
            if oid in self._in_call:
                current.reached_by_call = True

    def opened(self) -> None:
        """Observer: what holds the current unit's objects cannot be known."""
        self._open = True

    def runs_code(self) -> None:
        """Observer: the current unit is for later."""
        if self._postponed is not None:
            raise _RunsCode

    def forget(self) -> None:
        """Observer: the current unit owns nothing; two others may still meet in what it had.

        Its pickler is gone as well, and with it what kept the ids of temporary objects unique.
        """
        while len(self._owner) > self._owned_before:  # a dict keeps the order of arrival
            self._owner.popitem()
        self._objects, self._again, self._open = [], {}, False

    def key_of(self, definition: Any) -> str | None:
        """Definitions: where a notebook class or function lives, unless it lives here."""
        assert self._current is not None
        key = self._key_by_id.get(id(definition))
        if key is None:
            # Without a unit of its own a nameless class would tie all its instances together.
            if not issubclass(type(definition), type) or not kinds.saved_by_value(definition):
                return None
            key = f"#{definition.__qualname__}-{len(self._key_by_id)}"
            draft = Draft("class", {key: definition})
            self._key_by_id[id(definition)] = key
            self._definition_draft[key] = draft
            self._queue.append(draft)
        return None if key in self._current.root else key

    # The story.

    def run(
        self,
        roots: dict[str, Any],
        known_bad: dict[str, Skipped],
        together: Iterable[Collection[str]],
    ) -> Partition:
        self._count_bindings(roots, known_bad)
        first = self._first_drafts(roots, known_bad)
        self._look_for_secrets(first)
        self._queue = _joined(first, together)
        self._postponed = [draft for draft in self._queue if draft.runs_code]
        self._queue = [draft for draft in self._queue if not draft.runs_code]
        self._pickle_queue()
        self._merge_all()
        if self._postponed:
            self._queue, self._postponed = self._postponed, None
            if self._trying is not None:
                over = shield.Shield(_memory_of(self._live()))
                self._order = healing.order(self._main)
                self._try(self._trying)
                self._pickle_queue()
                over.put_back()
            self._pickle_queue()
            self._merge_all()
        units = self._live()
        where = {key: draft.id for draft in units for key in draft.root}
        self._drop_units_without_their_definitions(units, where)
        usable = {oid: key for oid, key in self._key_by_id.items() if key in where}
        identities = {key: oid for oid, key in usable.items()}
        partly = [one for draft in units for one in self._parts_not_saved(draft)]
        # The picklers know us: a cycle would keep them, and every object that they saw.
        self._drafts, self._meetings, self._owner, self._current = [], {}, {}, None
        saved = {name for draft in units for name in draft.root}
        partly += [one for one in dict.fromkeys(self._partly) if one.name in saved]
        return Partition(
            units, self._skipped, where, _Known(usable), identities, self._missed, partly,
            self._fatal, self._costly, self._undecided, self._killed, self._hiding.rules,
        )  # fmt: skip

    def _look_for_secrets(self, drafts: list[Draft]) -> None:
        """Before any is pickled: a text found in one is a secret in all of them."""
        for draft in drafts:
            value = next(iter(draft.root.values()))
            if secrets_search.has_parts(value):
                self._progress(sorted(draft.root))
                self._hiding.look_into(draft.root, value)

    def _pickle_queue(self) -> None:
        while self._queue:
            self._pickle(self._queue.pop(0))

    def _merge_all(self) -> None:
        kept = self._owner if self._postponed else None
        while self._meetings:
            meetings, self._meetings = self._meetings, {}
            self._merge(meetings.values(), kept)
        self._merge(_overlapping(self._live()), kept)
        self._merge(self._aliased(), kept)
        self._merge_definition_cycles(kept)
        if kept is not None:  # what is pickled later may meet them
            self._owner = {oid: d for oid, d in kept.items() if d.pickled is not None}

    def _try(self, trying: Trying) -> None:
        """Leave in the queue what can be pickled without harm."""
        drafts: list[Draft] = []
        dared: list[Draft] = []
        for draft in self._queue:
            slow = any(name in trying.slow for name in draft.root)
            (dared if slow and trying.dares else drafts).append(draft)

        def attempt(
            number: int, new_stream: Callable[[], io.BytesIO]
        ) -> tuple[str | None, str | None, bool]:
            self._skipped, self._missed = [], []
            self._pickle(drafts[number], new_stream)
            for one in self._skipped:
                return one.reason, one.remedy, bool(self._missed)
            return None, None, False

        def began(numbers: list[int]) -> None:
            trying.began([n for i in numbers if i < len(drafts) for n in sorted(drafts[i].root)])

        patient = [any(name in trying.slow for name in draft.root) for draft in drafts]
        try:
            verdicts = trials.run(len(drafts), attempt, patient, began)
        except OSError as why:
            verdicts = [trials.Verdict(str(why))] * len(drafts)
        trying.began([])
        self._queue = []
        for draft, verdict in zip(drafts, verdicts, strict=True):
            if verdict.reason is None:
                self._queue.append(draft)
            else:
                self._leave_out(draft, verdict, verdict.reason)
        self._queue += dared

    def _leave_out(self, draft: Draft, verdict: trials.Verdict, reason: str) -> None:
        self._skip(draft, reason, verdict.remedy)
        self._missed += draft.root if verdict.missed else ()
        self._undecided += draft.root if verdict.undecided else ()
        self._killed += verdict.killed
        self._fatal |= dict.fromkeys(draft.root, reason) if verdict.fatal else {}
        self._costly |= dict.fromkeys(draft.root, reason) if verdict.costly else {}

    def _count_bindings(self, roots: dict[str, Any], known_bad: dict[str, Skipped]) -> None:
        """References from our table, and from names by which a unit is found to be touched.

        Any other name is a way into a unit that nobody would see: one that is excluded or bad,
        `__x__`, or `_` after a loop.
        """
        found = list(roots.values())
        found += [self._main[name] for name in roots.keys() - known_bad.keys() & self._main.keys()]
        outputs = self._main.get("_oh")
        if isinstance(outputs, dict):
            shown = {id(value) for number, value in outputs.items() if isinstance(number, int)}
            found += [value for number, value in outputs.items() if isinstance(number, int)]
            names = ["_", "__", "___", *(f"_{number}" for number in outputs)]
            # One that the user has set is a root, and counted above.
            values = [self._main[name] for name in names if name in self._main.keys() - roots]
            found += [value for value in values if id(value) in shown]
        for value in found:
            self._bindings[id(value)] = self._bindings.get(id(value), 0) + 1

    def _first_drafts(self, roots: dict[str, Any], known_bad: dict[str, Skipped]) -> list[Draft]:
        """One draft for each object that has names; leaves stay apart even if they are one."""
        drafts: dict[int, Draft] = {}
        for name, value in roots.items():
            if name in known_bad:
                self._skipped.append(known_bad[name])
                continue
            wild = own_code.is_wild(value)
            if wild:
                self._progress([name])
            leaf = kinds.is_leaf(value)
            draft = None if leaf else drafts.get(id(value))
            if draft is None:
                try:
                    kind = _kind(value)
                except Exception as why:  # a metaclass may raise anything
                    reason = f"its type cannot be looked at: {one_line(why)}"
                    self._skipped.append(Skipped(name, type_name(value), reason))
                    continue
                draft = Draft(kind, {}, runs_code=wild)
                drafts[-len(drafts) - 1 if leaf else id(value)] = draft
            draft.root[name] = value
            if draft.kind in ("function", "class"):
                key = self._key_by_id.setdefault(id(value), name)
                self._definition_draft[key] = draft
        return list(drafts.values())

    def _live(self) -> list[Draft]:
        return [draft for draft in self._drafts if draft.pickled is not None]

    def _pickle(self, draft: Draft, new_stream: Callable[[], io.BytesIO] = io.BytesIO) -> None:
        self._progress(sorted(draft.root))
        self._current = draft
        self._owned_before = len(self._owner)
        self._objects, self._again, self._open = [], {}, False
        try:
            draft.pickled, without = hiding.dump(
                draft.root, self._main, self, self, self._hiding, draft.in_band_bytes, new_stream
            )
            if owned := self._owned_dicts(draft):
                self.forget()
                draft.pickled, without = hiding.dump(
                    {**draft.root, **owned}, self._main, self, self, self._hiding,
                    draft.in_band_bytes, new_stream, draft.root.values(),
                )  # fmt: skip
                self._open = True
            if draft.pickled.partly and self._parted(draft):
                return
            self._partly += without
            draft.pickled.stream = self._hold(draft.pickled.stream)
            draft.closed = self._is_closed(draft)
        except _RunsCode:
            self._postpone(draft)
            return
        except Unsavable as why:
            if isinstance(why, NotStaged):
                self._missed += draft.root
            stub = isinstance(why, Refused) and why.refusal.bound
            self._skip(draft, _refusal_text(draft, why), why.refusal.remedy, stub)
        except RecursionError:
            self._skip(draft, "it is nested too deeply to be saved", None)
        except MemoryError:
            self._skip(draft, TOO_LARGE, FREE_MEMORY)
        except BaseException as why:  # a __reduce__ may raise anything, SystemExit too
            if self._interruptible and isinstance(why, KeyboardInterrupt):
                raise
            self._skip(draft, f"saving it failed: {one_line(why)}", None)
        finally:
            if self._order is not None:
                self._order.restore()
        self._drafts.append(draft)

    def _parted(self, draft: Draft) -> bool:
        """See that a unit with stubs in it can be loaded, and note in which variables they are.

        True if these were joined from the start, and are pickled one by one to tell.
        """
        assert draft.pickled is not None
        if draft.guessed:
            draft.pickled = None
            self.forget()
            self._queue += draft.parts
            return True
        if len(set(map(id, draft.root.values()))) == 1:
            self._with_stubs.update(draft.root)
        if len(draft.pickled.stream) > _TRIED_BYTES and self._tried_before(draft):
            return False
        first = draft.pickled.partly[0]
        if len(draft.pickled.stream) > _TRIED_BYTES and self._interruptible:
            raise Unsavable(first.what, first.refusal)  # the user waits, perhaps for want of memory
        try:
            pickling.try_to_load(draft.pickled, self._main, self)
        except Exception as why:
            # Whoever is given the stub uses it at once: an iterator, a class's constructor.
            raise Unsavable(first.what, first.refusal) from why
        return False

    def _tried_before(self, draft: Draft) -> bool:
        assert draft.pickled is not None
        parts = {part.what for part in draft.pickled.partly}
        names = draft.root.keys() & self._with_stubs or draft.root.keys()
        return all((name, part) in self._tried for name in names for part in parts)

    def definition(self, key: str) -> Any:
        """Resolver, for trials: the live definition."""
        return self._definition_draft[key].root[key]

    def _parts_not_saved(self, draft: Draft) -> Iterator[Skipped]:
        assert draft.pickled is not None
        lost = [*draft.pickled.partly, *draft.pickled.notes]
        for name in draft.root.keys() & self._with_stubs or draft.root.keys():
            for part in dict.fromkeys((p.what, p.refusal) for p in lost):
                what, refusal = part
                shown = name.strip("#").rsplit("-", 1)[0] if name.startswith("#") else name
                yield Skipped(shown, what, refusal.reason, refusal.remedy)

    def _owned_dicts(self, draft: Draft) -> dict[str, Any]:
        """Variables that are `vars()` of an object in the same unit: to be that again."""
        shared = {
            id(value): name
            for name, value in draft.root.items()
            if type(value) is dict and id(value) in self._again
        }
        if not shared:
            return {}
        owners = ((id(reducers_builtin.dict_of(obj)), obj) for obj in self._objects)
        return {shared[o]: reducers_builtin.VarsOf(obj) for o, obj in owners if o in shared}

    def _postpone(self, draft: Draft) -> None:
        self.forget()
        if draft.guessed:  # most of them may be harmless
            self._queue += draft.parts
        elif self._postponed is not None:
            draft.runs_code = True
            self._postponed.append(draft)

    def _is_closed(self, draft: Draft) -> bool:
        pickled = draft.pickled
        if self._open or pickled is None or draft.kind != "data" or pickled.codec != "pickle":
            return False
        objects = [obj for obj in self._objects if obj is not draft.root]
        self._objects = []
        bindings = self._bindings
        if draft.parts:  # they hold the same values
            again = [oid for part in draft.parts for oid in map(id, part.root.values())]
            bindings = {**bindings, **{oid: bindings[oid] + again.count(oid) for oid in again}}
        return closed.is_closed(objects, self._again, bindings, pickled.buffers)

    def _skip(self, draft: Draft, reason: str, remedy: str | None, stub: bool = False) -> None:
        draft.pickled = None
        self.forget()
        if draft.parts:  # perhaps they share nothing any more, and one is to blame
            self._queue += [part for part in draft.parts if not part.runs_code]
            for part in draft.parts:
                if part.runs_code:
                    self._skip(part, reason, remedy)
            return
        for name, value in draft.root.items():
            self._skipped.append(Skipped(name, type_name(value), reason, remedy, stub=stub))

    def _merge(
        self, meetings: Iterable[tuple[Draft, Draft]], kept: dict[int, Draft] | None
    ) -> None:
        """Pickle again, as one, the drafts that are connected by meetings.

        `kept` is told who owns what; None: nobody asks again.
        """
        groups = graphs.components(
            (a, b) for a, b in meetings if a.pickled is not None and b.pickled is not None
        )
        for group in groups:
            kinds = {draft.kind for draft in group}
            merged = Draft(
                kinds.pop() if len(kinds) == 1 else "data",
                {name: value for draft in group for name, value in draft.root.items()},
                in_band_bytes=min(draft.in_band_bytes for draft in group),
            )
            if any(draft.runs_code for draft in group):  # that may go wrong the second time
                merged.parts = [
                    Draft(
                        d.kind, dict(d.root), in_band_bytes=d.in_band_bytes, runs_code=d.runs_code
                    )
                    for d in group
                ]
            gone = {id(draft) for draft in group}
            self._drafts = [draft for draft in self._drafts if id(draft) not in gone]
            for draft in group:
                draft.pickled = None  # frees the pickler and all that it kept
                draft.root, draft.parts = {}, []  # references that nobody would account for
            here = merged.root.keys() & self._definition_draft.keys()
            self._definition_draft.update(dict.fromkeys(here, merged))
            self._owner = {}  # ids may be reused from here on; meetings are complete
            self._pickle(merged)
            self._pickle_queue()
            if kept is not None:
                kept.update(self._owner)

    def _aliased(self) -> Iterator[tuple[Draft, Draft]]:
        """Units that share memory which only addresses tell, and which have to keep it."""
        live = self._live()
        for first, second in aliases.pairs([draft.pickled for draft in live if draft.pickled]):
            live[first].in_band_bytes = live[second].in_band_bytes = 0
            yield live[first], live[second]

    def _merge_definition_cycles(self, kept: dict[int, Draft] | None) -> None:
        """Definitions that need each other cannot be loaded one after the other."""
        while True:
            live = self._live()
            by_key = {key: draft for draft in live for key in draft.root}
            needs = {
                id(draft): [by_key[key] for key in sorted(draft.pickled.needs) if key in by_key]
                for draft in live
                if draft.pickled is not None
            }
            cycles = [cycle for cycle in graphs.strong_components(live, needs) if len(cycle) > 1]
            if not cycles:
                return
            self._merge([(cycle[0], other) for cycle in cycles for other in cycle[1:]], kept)

    def _drop_units_without_their_definitions(
        self, units: list[Draft], where: dict[str, str]
    ) -> None:
        """A unit whose class could not be saved could never be loaded: say so now."""
        dropped = True
        while dropped:
            dropped = False
            for draft in list(units):
                assert draft.pickled is not None
                missing = sorted(key for key in draft.pickled.needs if key not in where)
                if not missing:
                    continue
                needed = ", ".join(key.strip("#").rsplit("-", 1)[0] for key in missing)
                self._skip(draft, f"it needs {needed}, which could not be saved", None)
                units.remove(draft)
                for key in draft.root:
                    where.pop(key, None)
                dropped = True


def _joined(drafts: list[Draft], together: Iterable[Collection[str]]) -> list[Draft]:
    """Data drafts whose names belong together, as one."""
    left = {id(draft): draft for draft in drafts}
    by_name = {name: draft for draft in drafts if draft.kind == "data" for name in draft.root}
    for names in together:
        parts = {id(by_name[name]): by_name[name] for name in names if name in by_name}
        if len(parts) > 1 and left.keys() >= parts.keys():
            root = {name: value for part in parts.values() for name, value in part.root.items()}
            for oid in parts:
                del left[oid]
            draft = Draft("data", root, parts=list(parts.values()), guessed=True)
            left[id(draft)] = draft
    return list(left.values())


def _kind(value: Any) -> str:
    cls = type(value)  # and not isinstance(): objects may lie about their class
    if issubclass(cls, types.ModuleType):
        return "module"
    if issubclass(cls, types.FunctionType | type) and kinds.saved_by_value(value):
        return "class" if issubclass(cls, type) else "function"
    return "data"


def _refusal_text(draft: Draft, why: Unsavable) -> str:
    itself = any(type_name(value) == why.what for value in draft.root.values())
    what = why.what.removeprefix("_thread.")
    if isinstance(why, Refused) and why.refusal.bound:
        return why.refusal.reason
    if itself:
        return f"a {what} cannot be saved: {why.refusal.reason}"
    return f"it holds a {what}, which cannot be saved: {why.refusal.reason}"


def one_line(why: BaseException) -> str:
    """An exception as part of a reason that users read."""
    text = " ".join(str(why).split())
    return f"{type(why).__name__}: {text[:300]}" if text else type(why).__name__


# --- memory -------------------------------------------------------------------------


def _memory_of(drafts: list[Draft]) -> Iterator[tuple[int, int]]:
    """Addresses and lengths of the buffers beside the streams; of those that can be written to."""
    for draft in drafts:
        for buffer in draft.pickled.buffers if draft.pickled is not None else ():
            raw = buffer.raw()
            address = None if raw.readonly else address_of(raw)
            if address is not None:
                yield address, raw.nbytes


def _overlapping(drafts: list[Draft]) -> Iterator[tuple[Draft, Draft]]:
    """Pairs of units whose buffers share memory."""
    ranges = []
    for number, draft in enumerate(drafts):
        assert draft.pickled is not None
        for index, buffer in enumerate(draft.pickled.buffers):
            raw = buffer.raw()
            start = None if index in draft.pickled.private else address_of(raw)
            if start is not None:
                ranges.append((start, start + raw.nbytes, number))
    ranges.sort()
    end, holder = -1, -1
    for start, stop, number in ranges:
        if start < end and number != holder:
            yield drafts[holder], drafts[number]
        if stop > end:
            end, holder = stop, number


def storages(pickled: Pickled) -> tuple[list[memoryview], list[BufferRef]]:
    """The memory behind a unit's buffers: overlapping buffers become slices of one storage."""
    raws = [buffer.raw() for buffer in pickled.buffers]
    spans: list[tuple[int, int, int]] = []  # start, stop, buffer
    memory: list[memoryview] = []
    refs: list[BufferRef | None] = [None] * len(raws)
    for index, raw in enumerate(raws):
        start = None if index in pickled.private else address_of(raw)
        if start is None:
            refs[index] = BufferRef(len(memory), 0, raw.nbytes, raw.readonly)
            memory.append(raw)
        else:
            spans.append((start, start + raw.nbytes, index))
    # By buffers and not by addresses: equal states should give equal payloads.
    for group in sorted(_touching(sorted(spans)), key=lambda group: min(i for *_, i in group)):
        low, high = group[0][0], max(stop for _, stop, _ in group)
        whole = next((i for start, stop, i in group if (start, stop) == (low, high)), None)
        view = raws[whole] if whole is not None else _bytes_at(low, high - low, raws)
        for start, stop, index in group:
            refs[index] = BufferRef(len(memory), start - low, stop - start, raws[index].readonly)
        memory.append(view)
    return memory, [ref for ref in refs if ref is not None]


def ranges(pickled: Pickled, storages: list[memoryview]) -> list[tuple[int, int]]:
    """Address and length of each storage; address 0 for memory that pickling made."""
    ours = {address_of(buffer.raw()) for buffer in pickled.memory.temporary}
    found = [(address_of(view) or 0, view.nbytes) for view in storages]
    return [(0 if address in ours else address, length) for address, length in found]


def _bytes_at(start: int, length: int, owner: Any) -> memoryview:
    return arrays.memory_at(start, length, owner).raw()


def _touching(spans: list[tuple[int, int, int]]) -> Iterator[list[tuple[int, int, int]]]:
    """Groups of spans (sorted by start) that overlap one another."""
    group: list[tuple[int, int, int]] = []
    end = -1
    for span in spans:
        if group and span[0] >= end:
            yield group
            group = []
        group.append(span)
        end = max(end, span[1])
    if group:
        yield group


def plain_size(pickled: Pickled) -> int:
    """Bytes of a unit before deduplication."""
    return len(pickled.stream) + sum(buffer.raw().nbytes for buffer in pickled.buffers)


__all__ = ["Draft", "Partition", "partition", "plain_size", "ranges", "storages", "type_name"]
