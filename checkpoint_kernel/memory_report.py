"""The text of `%checkpoint memory`. Pure: from facts to lines of at most 88 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from .memory_gauge import Split
from .memory_use import CellUse
from .session import UNREADABLE, Cap, Event
from .sizes import Sized
from .words import size

VARIABLES: Final = 12
_CELLS: Final = 10
_EVENTS: Final = 5
_CHILDREN: Final = 6
_WORTH_LINES: Final = 3  # of what to free
_COMMAND: Final = 50  # characters
_NAME: Final = 28
_TYPE: Final = 22
_WORTH_BYTES: Final = 1 << 20  # what is not worth a line


@dataclass(frozen=True)
class Machine:
    """Memory of the machine, in bytes."""

    total_bytes: int
    available_bytes: int


@dataclass(frozen=True)
class Facts:
    """All that the report says."""

    cap: Cap | None
    machine: Machine
    split: Split
    variables: Sequence[Sized]  # all, largest first; outputs as `Out[3]`
    set_in: Mapping[str, int]  # the newest cell that set a variable, where its text shows it
    left_by_error: Sequence[Sized]  # locals that the last traceback keeps: `of f, line 3`
    cells: Sequence[CellUse]  # in order
    events: Sequence[Event]
    figures: int  # that pyplot keeps open


def text(facts: Facts) -> str:
    """Everything that there is to say, and no more."""
    sections = [
        _limit(facts),
        _whose(facts),
        _variables(facts),
        _growth(facts.cells),
        _events(facts.events),
        _to_free(facts),
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if lines)


def _limit(facts: Facts) -> list[str]:
    cap, used = facts.cap, facts.split.used_bytes
    if cap is None:
        machine = facts.machine
        return [
            f"{size(used)} used. There is no memory limit; the machine has "
            f"{size(machine.total_bytes)}, of which {size(machine.available_bytes)} are free."
        ]
    enforced = f"enforced ({cap.backend})" if cap.enforced else "NOT enforced"
    lines = [f"{size(used)} of {cap.configured} used ({_share(used, cap.cap_bytes)}); {enforced}."]
    if not cap.enforced:
        lines.append(cap.detail)
    if cap.guarded:
        over = used - cap.soft_bytes
        where = f"{size(over)} above" if over > 0 else f"{size(-over)} below"
        lines.append(f"That is {where} the soft limit of {size(cap.soft_bytes)}.")
    return lines


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole else ""


def _whose(facts: Facts) -> list[str]:
    split = facts.split
    lines = [_part("this kernel", split.kernel_bytes)]
    if split.children:
        lines.append(_part("child processes", sum(child.private_bytes for child in split.children)))
        lines += [
            f"    {size(child.private_bytes):>12}   pid {child.pid}: {_cut(child.name, _COMMAND)}"
            for child in split.children[:_CHILDREN]
        ]
        hidden = split.children[_CHILDREN:]
        if hidden:
            rest = sum(child.private_bytes for child in hidden)
            lines.append(f"    {size(rest):>12}   {len(hidden)} more")
    if split.shared_bytes >= _WORTH_BYTES:
        lines.append(_part("shared memory", split.shared_bytes) + "   /dev/shm, shared maps")
    if facts.cap is not None and split.rest_bytes >= _WORTH_BYTES:
        lines.append(_part("the system's", split.rest_bytes) + "   page tables, buffers, sockets")
    return lines


def _part(what: str, size_bytes: int) -> str:
    return f"  {what:<17}{size(size_bytes):>12}"


def _variables(facts: Facts) -> list[str]:
    cap = facts.cap
    whole = facts.split.used_bytes if cap is None else cap.cap_bytes
    of_what = "of all used" if cap is None else "of the limit"
    shown = [one for one in facts.variables[:VARIABLES] if one.size_bytes >= _WORTH_BYTES]
    others = facts.variables[len(shown) :]
    in_all = sum(one.size_bytes for one in facts.variables)
    held = sum(one.size_bytes for one in facts.left_by_error)
    lines = []
    if shown:
        rows = [
            (_cut(one.name, _NAME), _cut(one.type, _TYPE), size(one.size_bytes),
             _share(one.size_bytes, whole), _cell_of(one.name, facts.set_in))
            for one in shown
        ]  # fmt: skip
        lines = _table(rows, ("variable", "type", "size", of_what, "set in"), "llrrl")
    if others:
        less = size(sum(one.size_bytes for one in others))
        counted = "1 other variable" if len(others) == 1 else f"{len(others)} other variables"
        lines.append(f"{counted if shown else counted.replace(' other', '')}: {less}.")
    unnamed = facts.split.kernel_bytes - in_all - held
    if unnamed >= _WORTH_BYTES:
        lines.append(
            f"Of no variable: about {size(unnamed)}: modules, libraries, "
            "freed memory kept for reuse."
        )
    return lines


def _cell_of(names: str, set_in: Mapping[str, int]) -> str:
    numbers = [set_in[name] for name in names.split(", ") if name in set_in]
    return f"In[{max(numbers)}]" if numbers else ""


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _growth(cells: Sequence[CellUse]) -> list[str]:
    shown = cells[-_CELLS:]
    if not shown:
        return []
    most = max(shown, key=lambda cell: cell.growth_bytes)
    rows = [
        (
            f"In[{cell.number}]",
            f"{datetime.fromtimestamp(cell.began):%H:%M:%S}",
            size(cell.before_bytes),
            size(cell.after_bytes),
            _signed(cell.growth_bytes),
            size(cell.peak_bytes),
        )
        for cell in shown
    ]
    headers = ("cell", "began", "before", "after", "growth", "peak")
    lines = _table(rows, headers, "lrrrrr")
    if most.growth_bytes >= _WORTH_BYTES:
        lines[shown.index(most) - len(shown)] += "  <- most"
    return lines


def _signed(size_bytes: int) -> str:
    if abs(size_bytes) < _WORTH_BYTES // 10:
        return "0"
    return ("+" if size_bytes > 0 else "-") + size(abs(size_bytes))


def _table(rows: Sequence[Sequence[str]], headers: Sequence[str], align: str) -> list[str]:
    from tabulate import tabulate

    sides = ["right" if letter == "r" else "left" for letter in align]
    made = tabulate(rows, headers=headers, colalign=sides, disable_numparse=True)
    return [line.rstrip() for line in made.splitlines()]


def _events(events: Sequence[Event]) -> list[str]:
    lines = [
        event.said
        if event.kind == UNREADABLE
        else f"{datetime.fromtimestamp(event.time):%H:%M:%S}  {event.said}"
        for event in events[-_EVENTS:]
    ]
    return lines and ["In this session:", *[f"  {line}" for line in lines]]


def _to_free(facts: Facts) -> list[str]:
    """What would give memory back, largest first."""
    found: list[tuple[int, str]] = []
    for one in facts.variables[:_WORTH_LINES]:
        found.append((one.size_bytes, " and ".join(_deletion(one.name.split(", ")))))
    held = sum(one.size_bytes for one in facts.left_by_error)
    if facts.left_by_error:
        where = facts.left_by_error[0].name
        found.append(
            (held, f"`%checkpoint memory --forget-error` (locals {where}, kept for %debug)")
        )
    worth = sorted((one for one in found if one[0] >= _WORTH_BYTES), reverse=True)
    lines = [f"  {size(size_bytes):>10}  {command}" for size_bytes, command in worth]
    if facts.figures:
        lines.append(f"  {'?':>10}  `plt.close('all')` ({facts.figures} figures are open)")
    return lines and ["To free memory:", *lines]


def _deletion(names: Sequence[str]) -> list[str]:
    """`df, Out[3]` is gone when both are."""
    variables = [name for name in names if not name.startswith("Out[")]
    outputs = ["`%reset -f out`"] if len(variables) < len(names) else []
    return [*([f"`del {', '.join(variables)}`"] if variables else []), *outputs]
