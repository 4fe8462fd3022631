"""The locals of the user's functions that were running: saved beside the namespace.

A training loop is often in a function. Its locals are offered after a crash, never
injected. They are one unit, so that what several functions were given is pickled once; what
they share with variables is copied. The variables' checkpoint waits meanwhile: so only the
ends of a deep recursion are saved, in a bounded time, and what is left out is named.
"""

from __future__ import annotations

import io
import time
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from . import hiding, kinds, units
from .manifest import Skipped
from .refusals import Refused
from .secrets_rules import Rules

# Functions that began a recursion, and those that are at work in it.
_OUTERMOST: Final = 10
_INNERMOST: Final = 10
_LIMIT_S: Final = 3.0
_LIMIT_BYTES: Final = 256 << 20  # of the stream; arrays are not copied into it
# A local that hangs the snapshot process is left out of the next one.
HANG_LIMIT_S: Final = 20.0

_NO_RULES: Final = Rules()

_TOO_MUCH: Final = (
    f"locals may take {_LIMIT_S:g} s and {_LIMIT_BYTES >> 20} MB altogether, and with this one it "
    "was more"
)

Locals = dict[str, dict[str, Any]]  # by the names of frames


@dataclass
class Frames:
    """The unit of the running functions, if there are any, and what of them is not in it."""

    units: list[units.Draft]
    skipped: list[Skipped]
    partly: list[Skipped] = field(default_factory=list)  # with stubs inside them


def drafts(
    frames: tuple[types.FrameType, ...],
    main: dict[str, Any],
    partition: units.Partition,
    known_bad: dict[str, Skipped],
    progress: Callable[[list[str]], None],
    rules: Rules = _NO_RULES,
) -> Frames:
    """Pickle the locals of `frames`, outermost first, as `0:train`, `1:step`, ..."""
    result = Frames([], [])
    held: Locals = {}
    for name, frame in _chosen(frames, result.skipped).items():
        if name in known_bad:
            result.skipped.append(known_bad[name])
        else:
            held[name] = _without_secrets(name, frame.f_locals, rules, result.skipped)

    without_secrets: list[Skipped] = []  # of what was pickled last

    def pickle(held: Locals, limit_s: float, limit_bytes: int) -> units.Draft | str:
        """The unit, or why there is none."""
        draft = units.Draft("locals", dict(held))
        observer = _Frame(held, progress)
        deadline = time.monotonic() + limit_s
        try:
            draft.pickled, without_secrets[:] = hiding.dump(
                draft.root, main, partition.definitions, observer,
                hiding.Hiding(rules, limit_s / 10, limit_s / 10),
                new_stream=lambda: _Bounded(deadline, limit_bytes),
                variables=[value for one in held.values() for value in one.values()],
            )  # fmt: skip
        except _TooMuch:
            return _TOO_MUCH
        except BaseException as why:
            return f"it cannot be saved: {units.one_line(why)}"
        return draft

    draft = pickle(held, _LIMIT_S, _LIMIT_BYTES)
    if isinstance(draft, str) or (draft.pickled and draft.pickled.partly):
        good = _one_by_one(held, pickle, result)
        # All of them were within the limits, with little to spare perhaps.
        draft = pickle(good, 2 * _LIMIT_S, 2 * _LIMIT_BYTES)
    if isinstance(draft, str):
        result.skipped += [Skipped(name, "locals", draft) for name in held]
    elif draft.root:
        result.units.append(draft)
        result.partly += without_secrets
    return result


def _without_secrets(
    frame: str, values: Mapping[str, Any], rules: Rules, skipped: list[Skipped]
) -> dict[str, Any]:
    """What the rules for variables leave of a function's locals."""
    kept: dict[str, Any] = {}
    for name, value in values.items():
        if name.startswith("."):
            continue
        pattern = rules.excluded(name)
        reason = (
            f"excluded by the pattern {pattern!r}"
            if pattern is not None
            else rules.secret(name, value)
        )
        if reason is None:
            kept[name] = value
        else:
            skipped.append(Skipped(f"{frame}.{name}", kinds.type_name(value), reason))
    return kept


def is_frame(name: str) -> bool:
    """A name as `drafts` gives to a running function; no variable is called so."""
    depth, colon, _ = name.partition(":")
    return bool(colon) and depth.isdigit()


def _chosen(
    frames: tuple[types.FrameType, ...], skipped: list[Skipped]
) -> dict[str, types.FrameType]:
    """The frames to look at, by name: of very many the outermost and the innermost."""
    names = [f"{depth}:{frame.f_code.co_name}" for depth, frame in enumerate(frames)]
    named = list(zip(names, frames, strict=True))
    if len(frames) <= _OUTERMOST + _INNERMOST:
        return dict(named)
    left_out = f"{names[_OUTERMOST]} to {names[-_INNERMOST - 1]}"
    reason = (
        f"{len(frames)} functions were running; the locals of the outermost {_OUTERMOST} "
        f"and the innermost {_INNERMOST} are saved"
    )
    skipped.append(Skipped(left_out, "locals", reason))
    return dict(named[:_OUTERMOST] + named[-_INNERMOST:])


def _one_by_one(
    held: Locals,
    pickle: Callable[[Locals, float, int], units.Draft | str],
    result: Frames,
) -> Locals:
    """The locals that can be saved, and in `result` what of them cannot. Each object is tried
    once."""
    left_s, left_bytes = _LIMIT_S, _LIMIT_BYTES
    refused: dict[int, str | None] = {}
    good: Locals = {name: {} for name in held}
    for name in _from_both_ends(held):
        for key, value in held[name].items():
            if id(value) not in refused:
                started = time.monotonic()
                # Half of what is left: a large one leaves something to those after it.
                tried = (
                    pickle({name: {key: value}}, left_s / 2, left_bytes)
                    if left_s > 0
                    else _TOO_MUCH
                )
                left_s -= time.monotonic() - started
                if isinstance(tried, units.Draft) and tried.pickled is not None:
                    left_bytes -= len(tried.pickled.stream)
                    result.partly += [
                        Skipped(f"{name}.{key}", part.what, *_why(part))
                        for part in tried.pickled.partly
                    ]
                refused[id(value)] = tried if isinstance(tried, str) else None
            reason = refused[id(value)]
            if reason is None:
                good[name][key] = value
            else:
                what = units.type_name(value)
                result.skipped.append(Skipped(f"{name}.{key}", what, reason))
    return good


def _why(part: Refused) -> tuple[str, str | None]:
    return part.refusal.reason, part.refusal.remedy


def _from_both_ends(names: Iterable[str]) -> Iterator[str]:
    """Outermost, innermost, next to the outermost, ...: what matters most comes first."""
    left = list(names)
    while left:
        yield left.pop(0)
        left.reverse()


class _Frame:
    """Observer: says whose locals are being pickled."""

    def __init__(self, held: Locals, progress: Callable[[list[str]], None]) -> None:
        self._names = {id(values): name for name, values in held.items()}
        self._progress = progress

    def saw(self, obj: Any) -> None:
        """What is shared with a frame before it is that one's."""
        name = self._names.get(id(obj))
        if name is not None:
            self._progress([name])

    def opened(self) -> None:
        """Who else holds it does not matter."""

    def runs_code(self) -> None:
        """It may."""

    def forget(self) -> None:
        """Nothing was noted."""


class _TooMuch(BaseException):
    """The limits are reached. No Exception: there is nothing that dill could do better."""


class _Bounded(io.BytesIO):
    """A stream that ends the pickling; picklers write to it every 64 KB."""

    def __init__(self, deadline: float, limit_bytes: int) -> None:
        super().__init__()
        self._deadline = deadline
        self._limit_bytes = limit_bytes

    def write(self, data: Any) -> int:
        if time.monotonic() > self._deadline or self.tell() + len(data) > self._limit_bytes:
            raise _TooMuch
        return super().write(data)
