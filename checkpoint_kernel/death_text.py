"""A death record as lines for people: only what is there, in the order of its weight. Pure.

Reads records of every version, so nothing is taken for granted; one part that is odd costs that
part. The record is described in docs/death-record.schema.json.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from .words import age, size

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 48  # bars of a curve
_STACK_LINES = 40  # of a stack that are shown; the record has all of them
_ROUTINE = "running over TCP without encryption"  # ipykernel says it at every start
_PACKAGES = 8  # changed ones that are shown by name


def lines(death: dict[str, Any]) -> list[str]:
    """What `%checkpoint why` shows."""
    found = [str(death.get("paragraph") or death.get("because"))]
    for part in _PARTS:
        try:
            found += part(death)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            continue  # a record of another version, or one that somebody has edited
    return found


def in_one_line(death: dict[str, Any]) -> str:
    """`The last death: killed in In[3], line 2; 2026-01-31 12:00:00`."""
    said = f"The last death: {death.get('cause') or 'unknown'}"
    if death.get("cell") is not None and death.get("cell_running"):
        said += f" in In[{death['cell']}]"
        said += f", line {death['line']}" if death.get("line") is not None else ""
    try:
        moment = datetime.fromisoformat(str(death.get("time"))).astimezone()
    except ValueError:
        return said
    return f"{said}; {moment:%Y-%m-%d %H:%M:%S}"


def sparkline(points: Sequence[Sequence[float]], top_bytes: float, width: int = _WIDTH) -> str:
    """Bars over time from 0 to `top_bytes`; of each stretch of time its highest reading.

    A stretch without a reading repeats the one before.
    """
    begin, length_s = points[0][0], max(points[-1][0] - points[0][0], 1e-9)
    highest: list[float | None] = [None] * min(width, len(points))
    for at, used in points:
        stretch = min(int((at - begin) / length_s * len(highest)), len(highest) - 1)
        highest[stretch] = max(highest[stretch] or 0.0, used)
    bars, level = [], 0.0
    for reading in highest:
        level = level if reading is None else reading
        step = min(int(level / max(top_bytes, 1) * len(_BARS)), len(_BARS) - 1)
        bars.append(_BARS[max(step, 0)])
    return "".join(bars)


# --- the parts ---


def _cause(death: dict[str, Any]) -> list[str]:
    said = f"Cause: {death.get('cause')} ({death.get('confidence', '?')})"
    code = death.get("container_code")
    if code is not None:
        said += f"; a container shows {code}"
        if death.get("container_code_meaning"):
            said += f" ({death['container_code_meaning']})"
    return [said]


def _again(death: dict[str, Any]) -> list[str]:
    return [str(death["repeated"]["said"])] if death.get("repeated") else []


def _remedy(death: dict[str, Any]) -> list[str]:
    return [f"What to do: {death['remedy']}"] if death.get("remedy") else []


def _explained(death: dict[str, Any]) -> list[str]:
    return [f"`{one['text']}` on stderr: {one['meaning']}" for one in death.get("explained") or ()]


def _enforcement(death: dict[str, Any]) -> list[str]:
    # Without a cap the sentence matters only where memory was the cause.
    found = death.get("enforcement")
    about_memory = "oom" in str(death.get("cause")) or death.get("cause") == "memory-cap-interrupt"
    if not found or (found["level"] == "none" and not about_memory):
        return []
    return [str(found["said"])]


def _curve(death: dict[str, Any]) -> list[str]:
    points = death.get("memory_curve") or []
    if len(points) < 2:
        return []
    cap = death.get("cap") or {}
    highest = max(used for _, used in points)
    limit_bytes = cap.get("cap_bytes")
    bars = sparkline(points, max(limit_bytes or 0, highest))
    under = f" of {cap['configured']}" if limit_bytes else ""
    return [
        f"Memory over the last {age(points[-1][0] - points[0][0])}: {bars} "
        f"{size(points[-1][1])} at the end, {size(highest)} at most{under}"
    ]


def _shared_memory(death: dict[str, Any]) -> list[str]:
    shm = death.get("shared_memory")
    if not shm or death.get("cause") != "bus-error":
        return []
    where = " of this container" if death.get("in_container") else ""
    total, free = size(shm["total_bytes"]), size(shm["free_bytes"])
    return [f"/dev/shm{where} has {total}, {free} of it free after the death"]


def _processor(death: dict[str, Any]) -> list[str]:
    found = death.get("processor")
    if not found or death.get("cause") != "illegal-instruction":
        return []
    missing = ", ".join(found["missing_flags"])
    lacks = f"lacks {missing}" if missing else "has what common builds need"
    return [f"Processor: {found['model']}, which {lacks}"]


def _gpu(death: dict[str, Any]) -> list[str]:
    found = death.get("gpu")
    if not found:
        return []
    said = []
    for gpu in found["devices"]:
        used, total = gpu["used_bytes"], gpu["total_bytes"]
        memory = "" if used is None or total is None else f", {size(used)} of {size(total)} in use"
        said.append(f"GPU {gpu['index']} after the death: {gpu['name']}{memory}")
    said += [
        f"  process {one['pid']} ({one['name']})"
        + ("" if one["used_bytes"] is None else f" holds {size(one['used_bytes'])}")
        for one in found["processes"]
    ]
    return [*said, *(f"  the driver reported: {line}" for line in found["xids"])]


def _changes(death: dict[str, Any]) -> list[str]:
    found = death.get("environment_changes")
    if not found:
        return []
    said = []
    if found.get("python"):
        said.append("Python {} -> {}".format(*found["python"]))
    changed = found.get("changed") or {}
    packages = [f"{name} {old} -> {new}" for name, (old, new) in changed.items()]
    packages += [f"{name} {version} added" for name, version in (found.get("added") or {}).items()]
    packages += [f"{name} {was} removed" for name, was in (found.get("removed") or {}).items()]
    said += packages[:_PACKAGES]
    if len(packages) > _PACKAGES:
        said.append(f"{len(packages) - _PACKAGES} more: `jupyter checkpoint deaths --json`")
    if found.get("conda_revision"):
        said.append("conda revision {} -> {}".format(*found["conda_revision"]))
    return [f"Changed since the last healthy session: {', '.join(said)}"] if said else []


def _events(death: dict[str, Any]) -> list[str]:
    because = death.get("because")  # an interrupt's is its own event
    found = [event["said"] for event in (death.get("events") or ()) if event["said"] != because]
    return [f"Before: {said}" for said in found[-5:]]


def _stacks(death: dict[str, Any]) -> list[str]:
    said = []
    # Of a kernel that had to be killed `stack` is the beginning of `stacks`.
    if python := death.get("stack") or death.get("stacks"):
        said.append(f"Python's stack at that moment:\n{_cut(str(python))}")
    if native := death.get("native_stack"):
        said.append(f"Stack of the compiled code:\n{_cut(str(native))}")
    return said


def _cut(stack: str) -> str:
    shown = stack.rstrip().splitlines()
    if len(shown) <= _STACK_LINES:
        return "\n".join(shown)
    more = f"... and {len(shown) - _STACK_LINES} more lines: `jupyter checkpoint deaths --json`"
    return "\n".join([*shown[:_STACK_LINES], more])


def _last_words(death: dict[str, Any]) -> list[str]:
    told = str(death.get("stderr_tail") or "").splitlines()
    tail = [line for line in told if line.strip() and _ROUTINE not in line]
    return ["Last words on stderr:\n" + "\n".join(tail)] if tail else []


def _notes(death: dict[str, Any]) -> list[str]:
    notes = (death.get("evidence") or {}).get("notes") or ()
    return [f"Not to be had: {note}" for note in notes]


_PARTS: tuple[Callable[[dict[str, Any]], list[str]], ...] = (
    _cause,
    _again,
    _remedy,
    _explained,
    _enforcement,
    _curve,
    _shared_memory,
    _processor,
    _gpu,
    _changes,
    _events,
    _notes,
    _stacks,
    _last_words,
)
