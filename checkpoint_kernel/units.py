"""From a namespace to units: variables that reach a common mutable object are one unit.

Each variable is pickled on its own while every object it reaches is noted. Where two meet
in an object, or in overlapping memory, they are pickled again as one. Notebook classes and
functions are units that others refer to by key. One variable that fails costs itself.
Runs in the snapshot process; what is done with the payloads is `checkpoint`'s.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from . import aliases, arrays, closed, graphs, kinds, pickling, spool
from .arrays import address_of
from .manifest import Skipped
from .pickling import Pickled
from .refusals import Unsavable
from .staging import NotStaged
from .store import BufferRef

TOO_LARGE: Final = "saving it takes more memory than there is"
FREE_MEMORY: Final = "free memory (`del`), or raise memory_limit"

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
    parts: list[Draft] = field(default_factory=list)  # what it was made of by `together`

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


class _Blind:
    def saw(self, obj: Any) -> None:
        """Sharing does not matter here."""

    def opened(self) -> None:
        """Nor does who else holds it."""

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


_module_of: Final[Callable[[type], object]] = type.__dict__["__module__"].__get__
_name_of: Final[Callable[[type], str]] = type.__dict__["__qualname__"].__get__


def type_name(value: Any) -> str:
    """A type as people write it: `pandas.DataFrame`, `int`."""
    cls = type(value)
    try:
        module, name = _module_of(cls), _name_of(cls)  # and no metaclass's
    except AttributeError:
        return "object"
    if not isinstance(module, str) or module in ("builtins", "__main__"):
        return name
    return f"{module.split('.')[0]}.{name}"


def partition(
    roots: dict[str, Any],
    main: dict[str, Any],
    known_bad: dict[str, Skipped],
    progress: Callable[[list[str]], None],
    in_call: tuple[Any, ...] = (),
    together: Iterable[Collection[str]] = (),
    hold: Hold = spool.in_memory,
    interruptible: bool = False,
) -> Partition:
    """Pickle `roots` as units; those that reach an object of `in_call` are marked.

    `together`: names that were one unit before, and mostly still are. Taking them as one from
    the start spares pickling each alone; nothing but their size depends on it.

    `known_bad` names variables that killed or hung an earlier snapshot process; they are
    not touched. `progress` is told which variables are about to be pickled, so that a death
    in here can be blamed. Never raises for a bad variable. `hold` keeps a stream until it is
    written. `interruptible`: KeyboardInterrupt is raised.
    """
    return _Partitioner(main, progress, in_call, hold, interruptible).run(
        roots, known_bad, together
    )


class _Partitioner:
    def __init__(
        self,
        main: dict[str, Any],
        progress: Callable[[list[str]], None],
        in_call: tuple[Any, ...],
        hold: Hold,
        interruptible: bool,
    ) -> None:
        self._main = main
        self._hold = hold
        self._interruptible = interruptible
        self._in_call = {id(value) for value in in_call if not kinds.is_leaf(value)}
        self._progress = progress
        self._drafts: list[Draft] = []
        self._skipped: list[Skipped] = []
        self._missed: list[str] = []
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
        self._queue = _joined(self._first_drafts(roots, known_bad), together)
        while self._queue:
            self._pickle(self._queue.pop(0))
        self._merge(self._meetings.values())
        self._merge(_overlapping(self._live()))
        self._merge(self._aliased())
        self._merge_definition_cycles()
        units = self._live()
        where = {key: draft.id for draft in units for key in draft.root}
        self._drop_units_without_their_definitions(units, where)
        usable = {oid: key for oid, key in self._key_by_id.items() if key in where}
        identities = {key: oid for oid, key in usable.items()}
        # The picklers know us: a cycle would keep them, and every object that they saw.
        self._drafts, self._meetings, self._owner, self._current = [], {}, {}, None
        return Partition(units, self._skipped, where, _Known(usable), identities, self._missed)

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
            leaf = kinds.is_leaf(value)
            draft = None if leaf else drafts.get(id(value))
            if draft is None:
                try:
                    kind = _kind(value)
                except Exception as why:  # a metaclass may raise anything
                    reason = f"its type cannot be looked at: {one_line(why)}"
                    self._skipped.append(Skipped(name, type_name(value), reason))
                    continue
                draft = Draft(kind, {})
                drafts[-len(drafts) - 1 if leaf else id(value)] = draft
            draft.root[name] = value
            if draft.kind in ("function", "class"):
                key = self._key_by_id.setdefault(id(value), name)
                self._definition_draft[key] = draft
        return list(drafts.values())

    def _live(self) -> list[Draft]:
        return [draft for draft in self._drafts if draft.pickled is not None]

    def _pickle(self, draft: Draft) -> None:
        self._progress(sorted(draft.root))
        self._current = draft
        self._owned_before = len(self._owner)
        self._objects, self._again, self._open = [], {}, False
        try:
            draft.pickled = pickling.dump(draft.root, self._main, self, self, draft.in_band_bytes)
            draft.pickled.stream = self._hold(draft.pickled.stream)
            draft.closed = self._is_closed(draft)
        except Unsavable as why:
            if isinstance(why, NotStaged):
                self._missed += draft.root
            self._skip(draft, _refusal_text(draft, why), why.refusal.remedy)
        except RecursionError:
            self._skip(draft, "it is nested too deeply to be saved", None)
        except MemoryError:
            self._skip(draft, TOO_LARGE, FREE_MEMORY)
        except BaseException as why:  # a __reduce__ may raise anything, SystemExit too
            if self._interruptible and isinstance(why, KeyboardInterrupt):
                raise
            self._skip(draft, f"saving it failed: {one_line(why)}", None)
        self._drafts.append(draft)

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

    def _skip(self, draft: Draft, reason: str, remedy: str | None) -> None:
        draft.pickled = None
        self.forget()
        if draft.parts:  # perhaps they share nothing any more, and one is to blame
            self._queue += draft.parts
            return
        for name, value in draft.root.items():
            self._skipped.append(Skipped(name, type_name(value), reason, remedy))

    def _merge(self, meetings: Iterable[tuple[Draft, Draft]]) -> None:
        """Pickle again, as one, the drafts that are connected by meetings."""
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
            gone = {id(draft) for draft in group}
            self._drafts = [draft for draft in self._drafts if id(draft) not in gone]
            for draft in group:
                draft.pickled = None  # frees the pickler and all that it kept
                draft.root, draft.parts = {}, []  # references that nobody would account for
            self._owner = {}  # ids may be reused from here on; meetings are complete
            self._pickle(merged)
            while self._queue:
                self._pickle(self._queue.pop(0))

    def _aliased(self) -> Iterator[tuple[Draft, Draft]]:
        """Units that share memory which only addresses tell, and which have to keep it."""
        live = self._live()
        for first, second in aliases.pairs([draft.pickled for draft in live if draft.pickled]):
            live[first].in_band_bytes = live[second].in_band_bytes = 0
            yield live[first], live[second]

    def _merge_definition_cycles(self) -> None:
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
            self._merge([(cycle[0], other) for cycle in cycles for other in cycle[1:]])

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
            draft = Draft("data", root, parts=list(parts.values()))
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
    itself = any(
        f"{type(value).__module__}.{type(value).__qualname__}" == why.what
        for value in draft.root.values()
    )
    what = why.what.removeprefix("builtins.").removeprefix("_thread.")
    if itself:
        return f"a {what} cannot be saved: {why.refusal.reason}"
    return f"it holds a {what}, which cannot be saved: {why.refusal.reason}"


def one_line(why: BaseException) -> str:
    """An exception as part of a reason that users read."""
    text = " ".join(str(why).split())
    return f"{type(why).__name__}: {text[:300]}" if text else type(why).__name__


# --- memory -------------------------------------------------------------------------


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
