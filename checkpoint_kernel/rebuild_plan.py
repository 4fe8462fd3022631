"""The cells that make a variable again: those that made and changed it, and those that they need.

Pure: from the texts of the cells (`provenance.Cell`) to a plan, and to words for it. Asking the
user and running are `rebuild_command`'s.
"""

from __future__ import annotations

import builtins
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from .cell_effects import Effects
from .missing import listed
from .provenance import Cell, output_number

# What the shell gives every cell; `_3` and `Out` are looked at apart.
_OF_THE_SHELL: Final = frozenset(
    {"get_ipython", "display", "exit", "quit", "open", "In", "_ih", "_oh", "_dh", "__name__",
     "__doc__", "__file__", "__builtins__"}
)  # fmt: skip
_GENERATORS: Final = frozenset({"generator", "async_generator", "coroutine"})
_CELL_SHOWN: Final = 40  # lines
_ANY: Final = 1 << 62  # after every cell


@dataclass(frozen=True)
class Step:
    """One cell that would run again."""

    cell: Cell
    why: tuple[str, ...]
    sets: tuple[str, ...] = ()  # variables that are there now, and would be set as well
    changes: tuple[str, ...] = ()  # ... and changed
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The cells that make some variables again, in the order in which they ran."""

    names: tuple[str, ...]
    steps: tuple[Step, ...]
    unknown: tuple[str, ...] = ()  # of the names: no cell is known that makes them
    warnings: tuple[str, ...] = ()

    def makes(self, name: str) -> bool:
        """Whether a cell was found that makes this name."""
        return name not in self.unknown


@dataclass
class _Planner:
    cells: Sequence[Cell]
    live: Mapping[str, Collection[str]]
    seen: Mapping[str, int]
    types: Mapping[str, str]
    why: dict[int, dict[str, None]] = field(default_factory=dict)  # chosen cells
    queue: list[tuple[int, int]] = field(default_factory=list)  # whose needs are not looked at
    warnings: dict[str, None] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    asked: set[tuple[str, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.by_number = {cell.number: cell for cell in self.cells}
        self.binds: dict[str, list[int]] = {}  # cells that bind a name, oldest first
        self.holders: dict[str, set[str]] = {}
        self.parts: dict[str, set[str]] = {}
        self.same: dict[str, set[str]] = {}
        self.known_partners: dict[str, list[str]] = {}
        self.remade: set[str] = set()
        self.set_by_call: dict[int, frozenset[str]] = {}  # through `global`
        setters: dict[str, set[str]] = {}
        # By every cell that binds them:
        defined, imported, harmless = set[str](), set[str](), set[str]()
        otherwise: dict[str, set[str]] = {"defined": set(), "imported": set(), "harmless": set()}
        for cell in self.cells:
            found = cell.effects
            called = {name for function in found.called for name in setters.get(function, ())}
            self.set_by_call[cell.number] = frozenset(called)
            bound = found.binds | called
            for holder, held in found.holds:
                self.holders.setdefault(held, set()).add(holder)
                self.parts.setdefault(holder, set()).add(held)
            for one, other in found.same:
                self.same.setdefault(one, set()).add(other)
                self.same.setdefault(other, set()).add(one)
            for name in bound:
                self.binds.setdefault(name, []).append(cell.number)
            defined |= found.definitions
            imported |= found.imports
            harmless |= found.harmless
            otherwise["defined"] |= bound - found.definitions
            otherwise["imported"] |= bound - found.imports
            otherwise["harmless"] |= bound - found.harmless
            for function in found.definitions:
                setters[function] = {name for by, name in found.setters if by == function}
        self.defined = defined - otherwise["defined"]  # modules, functions, classes
        self.imported = imported - otherwise["imported"]
        self.harmless = harmless - otherwise["harmless"]  # functions that only read

    # --- who made a name ------------------------------------------------------------------

    def maker(self, name: str, before: int) -> int | None:
        """The cell that bound a name last, of those before another one."""
        output = output_number(name)
        if output is not None and name not in self.binds:
            return output if output in self.by_number and output < before else None
        seen = self.seen.get(name)
        if seen is not None and seen < before and seen in self.by_number:
            return seen
        numbers = [number for number in self.binds.get(name, ()) if number < before]
        good = [number for number in numbers if not self.by_number[number].failed] or numbers
        certain = [number for number in good if name in self.certain(number)]
        return certain[-1] if certain else next(iter(good), None)

    def certain(self, number: int) -> frozenset[str]:
        """What a cell binds whatever happens in it."""
        found = self.by_number[number].effects
        return found.certain | self.set_by_call.get(number, frozenset())

    def changers(self, name: str, after: int, before: int) -> list[tuple[int, str]]:
        """Cells in between that changed the value of a name, or have perhaps set it, and how."""
        found = []
        for cell in self.cells:
            if after < cell.number < before:
                # Where it was seen which cell bound it last, no later one did.
                if name in cell.effects.binds and self.seen.get(name) != after:
                    found.append((cell.number, "may set it"))
                    continue
                hows = (self.change(one, cell.effects) for one in (name, *self.partners(name)))
                how = next((how for how in hows if how), None)
                if how:
                    found.append((cell.number, how))
        return found

    def partners(self, name: str) -> list[str]:
        """Variables that hold the same object, what holds it, and what it holds itself."""
        if name not in self.known_partners:
            found = self.reached(name, self.holders) | self.parts.get(name, set()) - self.defined
            self.known_partners[name] = sorted(found - {name})
        return self.known_partners[name]

    def is_of_before(self, name: str) -> bool:
        """Whether a live variable holds something that is made again: then it holds the old one."""
        return not self.remade.isdisjoint(self.reached(name, self.parts) - {name})

    def reached(self, name: str, links: Mapping[str, set[str]]) -> set[str]:
        found, new = {name}, [name]
        while new:
            one = new.pop()
            more = links.get(one, set()) | self.same.get(one, set())
            more -= found | self.defined
            found |= more
            new += more
        return found

    def change(self, name: str, found: Effects) -> str | None:
        """How a cell changes what a name stands for, if it may; `gen.send()`."""
        if name in self.defined:
            return "sets a part of it" if name in found.stores else None
        how = found.change(name, self.imported | self.harmless | _OF_THE_SHELL)
        if how is None and self.types.get(name) in _GENERATORS:
            given = {of for of, by in found.passed if not by[:1].isupper()}
            return "goes through it" if name in found.consumes | given else None
        return how

    # --- what is needed -------------------------------------------------------------------

    def target(self, name: str) -> None:
        """Choose the cells that make a name, whether it is there or not."""
        if not self.make(name, _ANY, f"makes {name}", _ANY):
            self.unknown.append(name)
            self.warnings[f"No cell is known that makes {name}."] = None

    def make(self, name: str, before: int, why: str, at: int) -> bool:
        number = self.maker(name, before)
        if number is None:
            return False
        self.remade.add(name)
        self.choose(number, why, at)
        for changer, how in self.changers(name, number, before):
            if self.by_number[changer].failed:
                self.warnings[
                    f"In[{changer}] may have changed {name} too ({how}), but raised an error: it "
                    "is left out."
                ] = None
            else:
                self.choose(changer, f"changes {name} ({how})", changer)
        between = range(number + 1, before)
        for cell in self.cells:
            if cell.number in between and name in cell.effects.deletes - cell.effects.binds:
                self.warnings[f"{name} was deleted by In[{cell.number}]."] = None
        return True

    def choose(self, number: int, why: str, at: int) -> None:
        """Run this cell; its functions are called in cell `at`, or at any time."""
        self.why.setdefault(number, {})[why] = None
        self.queue.append((number, at))

    def look(self) -> None:
        """Choose what the chosen cells need."""
        while self.queue:
            number, at = self.queue.pop()
            found = self.by_number[number].effects
            for name in sorted(found.loads):
                self.need(name, number, number)
            for name in sorted(found.deferred):
                self.need(name, at, number, at)
                if found.called & found.definitions:  # perhaps before the cell sets it
                    self.need(name, number, number, number, quiet=name in found.binds)

    def need(
        self, name: str, before: int, by: int, at: int | None = None, quiet: bool = False
    ) -> None:
        """A variable that cell `by` looks up; `quiet`: which may be its own."""
        if name in _OF_THE_SHELL or (name, before) in self.asked:
            return
        self.asked.add((name, before))
        if name in self.live and not self.is_of_before(name):
            for inner in sorted(self.live[name]):  # what a function of the user's looks up
                self.need(inner, before, by, at)
            return
        why = f"makes {name}, which In[{by}] needs"
        if self.make(name, before, why, before if at is None else at) or hasattr(builtins, name):
            return
        stars = [cell for cell in self.cells if cell.effects.stars and cell.number < before]
        if stars:
            module = stars[-1].effects.stars[-1]
            self.choose(stars[-1].number, f"may bring {name}: from {module} import *", before)
        elif not quiet:
            who = f"In[{by}] needs" if at is None else f"a function of In[{by}] uses"
            self.warnings[f"{name}, which {who}, is not there, and no cell makes it."] = None

    def settle(self) -> None:
        """A cell sees what the cells run before it have set: that must be as it was then."""
        while True:
            self.look()
            before = len(self.why)
            chosen = sorted(self.why)
            for number in chosen:
                for name in sorted(self.by_number[number].effects.loads):
                    set_by = [n for n in chosen if n < number and name in self.bound_by(n)]
                    old = name in self.live and self.is_of_before(name)
                    if (set_by or old) and self.maker(name, number) is not None:
                        self.make(name, number, f"makes {name}, which In[{number}] needs", number)
            if len(self.why) == before:
                return

    def used_by(self, cell: Cell) -> set[str]:
        """What a cell looks up, also by functions that it calls."""
        found = cell.effects
        used = set(found.loads)
        for name in found.loads & self.live.keys():
            used.update(self.live[name])
        if found.called & found.definitions:
            used |= found.deferred
        return used

    def text(self, number: int) -> str:
        return self.by_number[number].raw.strip()

    def is_set_before(self, name: str, number: int) -> bool:
        return any(n < number and name in self.bound_by(n) for n in self.why)

    def bound_by(self, number: int) -> frozenset[str]:
        return self.by_number[number].effects.binds

    # --- the plan -------------------------------------------------------------------------

    def plan(self, names: Sequence[str]) -> Plan:
        for name in names:
            self.target(name)
        self.settle()
        steps = tuple(self.step(number, set(names)) for number in sorted(self.why))
        for name in sorted({name for step in steps for name in step.sets}):
            last, chosen = self.maker(name, _ANY), [s.cell.number for s in steps if name in s.sets]
            if last is not None and last > max(chosen):
                self.warnings[
                    f"{name} would be what In[{max(chosen)}] makes it; In[{last}] has set it since."
                ] = None
        for step in steps:
            for name in sorted(self.used_by(step.cell) & self.live.keys() - self.imported):
                self.warn_of_change(name, step.cell.number)
        return Plan(tuple(names), steps, tuple(self.unknown), tuple(self.warnings))

    def warn_of_change(self, name: str, number: int) -> None:
        """A cell runs again with a live variable that is not what it was then."""
        if self.is_set_before(name, number):
            return
        uses = f"In[{number}] uses {name} as it is now"
        last = self.maker(name, _ANY)
        if name in self.defined and last is not None:
            then = self.maker(name, number)
            if then is not None and self.text(then) == self.text(last):
                return  # run again to define the same
        if last is not None and last >= number:
            since = "itself" if last == number else "since"
            self.warnings[f"{uses}: In[{last}] has set it {since}."] = None
            return
        changers = [where for where, _ in self.changers(name, number - 1, _ANY)]
        if changers:
            cells = listed(f"In[{where}]" for where in changers)
            self.warnings[f"{uses}: {cells} may have changed it, then or since."] = None

    def step(self, number: int, targets: set[str]) -> Step:
        cell = self.by_number[number]
        found = cell.effects
        # An import that runs again gives the same module.
        sets = found.binds & self.live.keys() - targets - found.imports
        changes = [
            name
            for name in sorted(self.live.keys() - targets - sets - self.imported)
            if name in cell.parsed and self.change(name, found)
        ]
        warnings = []
        if cell.killed is not None:
            warnings.append(f"this very cell has killed the kernel: {cell.killed}")
        if cell.failed:
            warnings.append("it raised an error in its time")
        if found.magics:
            warnings.append(f"it also runs {', '.join(found.magics)}, which may do anything")
        if not found.is_python:
            warnings.append("it is no Python that can be read: what it does is not known")
        return Step(cell, tuple(self.why[number]), tuple(sorted(sets)), tuple(changes),
                    tuple(warnings))  # fmt: skip


def plan(
    names: Sequence[str],
    cells: Sequence[Cell],
    live: Mapping[str, Collection[str]],
    seen: Mapping[str, int] | None = None,
    types: Mapping[str, str] | None = None,
) -> Plan:
    """Which cells make `names` again.

    `cells`: oldest first. `live`: variables that are there, each with the globals that it looks
    up if it is a function or a class of the notebook's. `seen`: name -> cell that bound it last,
    as `observed`. `types`: of the names, as far as they are known.
    """
    others = {name: inner for name, inner in live.items() if name not in names}
    return _Planner(cells, others, seen or {}, types or {}).plan(names)


# --- in words -------------------------------------------------------------------------------


def shown(found: Plan) -> str:
    """The plan for the user: every cell with its reason, and what it does besides."""
    lines = []
    if found.steps:
        count = len(found.steps)
        which = "This cell makes" if count == 1 else f"These {count} cells, in this order, make"
        lines.append(f"{which} {listed(filter(found.makes, found.names))}:")
    for step in found.steps:
        lines += ["", f"In[{step.cell.number}]  {'; '.join(step.why)}"]
        if step.sets:
            lines.append(f"  also sets: {listed(step.sets)}")
        if step.changes:
            lines.append(f"  may also change: {listed(step.changes)}")
        lines += [f"  ! {warning}" for warning in step.warnings]
        source = step.cell.raw.strip("\n").splitlines()
        lines += [f"    {line}" for line in source[:_CELL_SHOWN]]
        if len(source) > _CELL_SHOWN:
            lines.append(f"    ... and {len(source) - _CELL_SHOWN} more lines")
    if found.warnings:
        lines += ["", *found.warnings]
    return "\n".join(lines).strip("\n")
