"""Locals of running functions: what is shared, what is left out, and how long it may take."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

from checkpoint_kernel import locals_unit, pickling, units
from checkpoint_kernel.locals_unit import Frames
from checkpoint_kernel.manifest import Skipped

pytestmark = pytest.mark.unit

MAIN: dict[str, Any] = {"__name__": "__main__"}


def drafts(
    frames: list[types.FrameType],
    known_bad: dict[str, Skipped] | None = None,
    progress: Callable[[list[str]], None] = lambda names: None,
) -> Frames:
    nothing = units.Partition([], [])
    return locals_unit.drafts(tuple(frames), MAIN, nothing, known_bad or {}, progress)


def loaded(frames: Frames) -> dict[str, Any]:
    [draft] = frames.units
    assert draft.pickled is not None
    stream, buffers = draft.pickled.stream, draft.pickled.buffers
    return pickling.load(
        draft.pickled.codec, stream, [buffer.raw() for buffer in buffers], MAIN, Nothing()
    )


class Nothing:
    def definition(self, key: str) -> Any:
        raise AssertionError(f"{key} is in another unit")


def frame_of(**held: Any) -> types.FrameType:
    """The frame of a function `work` with these locals."""
    names = ", ".join(held)
    scope: dict[str, Any] = {}
    exec(f"def work({names}): return sys._getframe()", {"sys": sys}, scope)
    frame: types.FrameType = scope["work"](**held)
    return frame


class Counted:
    """Cannot be saved, and counts how often that was tried."""

    tries = 0

    def __reduce__(self) -> Any:
        type(self).tries += 1
        raise ValueError("no")


def test_what_several_functions_were_given_is_saved_once_and_is_one_object_again() -> None:
    graph = {number: [number] for number in range(1000)}
    alone = drafts([frame_of(graph=graph)])
    frames = drafts([frame_of(graph=graph, depth=depth) for depth in range(20)])
    sizes = [len(f.units[0].pickled.stream) for f in (alone, frames) if f.units[0].pickled]
    assert sizes[1] < sizes[0] + 2000
    back = loaded(frames)
    assert list(back) == [f"{depth}:work" for depth in range(20)]
    assert back["0:work"]["graph"] == graph
    assert back["0:work"]["graph"] is back["19:work"]["graph"]


def test_of_a_deep_recursion_both_ends_are_saved_and_the_rest_is_named() -> None:
    frames = drafts([frame_of(depth=depth) for depth in range(300)])
    kept = [*range(10), *range(290, 300)]
    assert loaded(frames) == {f"{depth}:work": {"depth": depth} for depth in kept}
    [skipped] = frames.skipped
    assert skipped.name == "10:work to 289:work"
    assert skipped.reason.startswith("300 functions were running; ")


def test_a_local_that_takes_too_long_is_named_and_costs_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(locals_unit, "_LIMIT_S", 0.1)
    large = [[number] for number in range(1_000_000)]
    frames = drafts([frame_of(large=large, epoch=3), frame_of(step=4)])
    assert loaded(frames) == {"0:work": {"epoch": 3}, "1:work": {"step": 4}}
    assert [(s.name, s.type) for s in frames.skipped] == [("0:work.large", "list")]
    assert "with this one it was more" in frames.skipped[0].reason


def test_a_local_that_takes_too_much_memory_is_named_and_costs_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(locals_unit, "_LIMIT_BYTES", 1 << 20)
    frames = drafts([frame_of(large=bytes(1 << 20), epoch=3)])
    assert loaded(frames) == {"0:work": {"epoch": 3}}
    assert [s.name for s in frames.skipped] == ["0:work.large"]


def test_many_locals_never_take_longer_than_the_limits_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(locals_unit, "_LIMIT_BYTES", 1 << 20)
    frames = drafts([frame_of(bad=Counted(), part=bytes([depth]) * 90_000) for depth in range(20)])
    back = loaded(frames)
    # The outermost and the innermost first.
    assert [name for name, held in back.items() if held] == [
        *(f"{depth}:work" for depth in (0, 1, 2, 3, 4, 5)),
        *(f"{depth}:work" for depth in (15, 16, 17, 18, 19)),
    ]
    assert len(frames.skipped) == 20 + 9


def test_an_object_that_cannot_be_saved_is_tried_once_and_named_for_each_function() -> None:
    Counted.tries = 0
    bad = Counted()
    frames = drafts([frame_of(bad=bad, depth=depth) for depth in range(10)])
    assert loaded(frames) == {f"{depth}:work": {"depth": depth} for depth in range(10)}
    assert [s.name for s in frames.skipped] == [
        f"{depth}:work.bad" for depth in (0, 9, 1, 8, 2, 7, 3, 6, 4, 5)
    ]
    assert Counted.tries == 4  # together and alone, each by both picklers


def test_the_function_whose_locals_are_in_hand_is_reported() -> None:
    told: list[list[str]] = []
    bad = {"1:work": Skipped("1:work", "locals", "it crashed")}
    frames = drafts([frame_of(n=n) for n in range(3)], bad, told.append)
    assert told == [["0:work"], ["2:work"]]
    assert frames.skipped == [bad["1:work"]]


def test_where_no_function_runs_there_is_no_unit() -> None:
    assert drafts([]) == Frames([], [])
