"""What the kernel is doing at this moment, for a client that asks while a cell runs. Pure text.

Nothing is done about a cell that does not move: whether it works or hangs, its user knows best.
"""

from __future__ import annotations

import traceback
import types
from collections.abc import Sequence
from typing import Final

from .flight_recorder import Flight
from .notice import clock
from .words import age, size

# Looks are a fifth of a second apart, and one may be late on a busy machine.
_MOVING_S: Final = 1.5
# Of a processor, while it did not move: below, it waits; above, it works.
_WAITING, _WORKING = 0.05, 0.5


def cell_stack(
    innermost: types.FrameType | None, cell_file: str | None
) -> list[traceback.FrameSummary]:
    """The calls from the running cell on, most recent last; [] outside of one."""
    summary = traceback.extract_stack(innermost)
    for number, frame in enumerate(summary):
        if frame.filename == cell_file:
            return summary[number:]
    return []


def in_words(
    flight: Flight,
    stack: Sequence[traceback.FrameSummary],
    now: float,
    rss_bytes: int,
    cpu_s: float,
    cap: str | None,
) -> str:
    """Several lines. `cpu_s` is the main thread's since `flight.moved`; `cap` as configured."""
    memory = f"Memory: {size(rss_bytes)}" + (f" of the limit {cap}." if cap else ".")
    if flight.state != "busy":
        last = flight.execution_count
        return (
            f"No cell is running{'' if last is None else f' (the last was In[{last}])'}.\n{memory}"
        )
    began = flight.cell_started or now
    lines = [
        f"In[{flight.execution_count}] has been running for {age(now - began)}, "
        f"since {clock(began)}{_line(flight, stack)}."
    ]
    lines += [_movement(flight, now, cpu_s), memory]
    if stack:
        lines.append("The main thread's stack (most recent call last):")
        lines.append("".join(traceback.format_list(list(stack))).rstrip())
    return "\n".join(lines)


def _line(flight: Flight, stack: Sequence[traceback.FrameSummary]) -> str:
    number = stack[0].lineno if stack else flight.line
    if number is None:
        return ""
    lines = flight.cell_source.splitlines()
    source = f" (`{lines[number - 1].strip()}`)" if 0 < number <= len(lines) else ""
    return f"; it is at line {number}{source}"


def _movement(flight: Flight, now: float, cpu_s: float) -> str:
    if flight.moved is None:
        return "Whether it moves is not known yet."
    still_s = now - flight.moved
    if still_s < _MOVING_S:
        return "It moves: it has been seen at different places in the last second."
    used = cpu_s / still_s
    if used < _WAITING:
        reason = "waits for something: a lock, a child, a disk, the network"
    elif used > _WORKING:
        reason = "works, in one long call or in a short loop"
    else:
        reason = "works now and then"
    return (
        f"It has been at the same place for {age(still_s)}, with {age(cpu_s)} of processor time: "
        f"it {reason}. It is not ended for that; interrupt it if it should not go on."
    )
