"""Whom a death of the snapshot process is blamed on, for how long, and what the user is told."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from checkpoint_kernel.blame import Blame
from checkpoint_kernel.locals_unit import HANG_LIMIT_S
from checkpoint_kernel.snapshot import Exit

pytestmark = pytest.mark.unit

KILLED, CRASHED, ALARM = (
    Exit(int(number)) for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGALRM)
)
HOUR = 3600.0


class Snapshots:
    """Snapshot processes of a namespace, one after the other."""

    def __init__(self, **live: Any) -> None:
        self.blame = Blame()
        self.live: dict[str, Any] = live
        self.news: list[str] = []

    def left_out(self, now: float) -> set[str]:
        """What the next one leaves out."""
        return set(self.blame.variables(self.live, now))

    def ends(self, how: Exit, in_hand: str, now: float) -> str | None:
        self.left_out(now)
        trouble = self.blame.judge(how, False, [in_hand], self.live, now)
        self.news += self.blame.news()
        return trouble

    def commits(self, now: float) -> None:
        self.blame.acquit(self.live.keys() - self.left_out(now))
        self.news += self.blame.news()

    def killed_twice(self, name: str, now: float) -> None:
        assert "ended from outside" in str(self.ends(KILLED, name, now))
        assert self.ends(KILLED, name, now) is None


@pytest.fixture
def snapshots() -> Snapshots:
    return Snapshots(big=[1], small=[2])


@pytest.mark.parametrize("how", [CRASHED, ALARM])
def test_what_crashed_or_hung_is_left_out_until_it_is_another_object(
    snapshots: Snapshots, how: Exit
) -> None:
    assert snapshots.ends(how, "big", 0.0) is None
    snapshots.commits(0.0)
    assert snapshots.left_out(1000 * HOUR) == {"big"}
    assert not snapshots.blame.tries_again(1000 * HOUR)
    snapshots.live["big"] = [1]
    assert snapshots.left_out(0.0) == set()


def test_what_was_in_hand_at_two_kills_is_left_out_for_a_while_and_then_tried_again(
    snapshots: Snapshots,
) -> None:
    snapshots.killed_twice("big", 0.0)
    assert snapshots.left_out(1.0) == {"big"}
    snapshots.commits(1.0)
    assert snapshots.left_out(14.0) == {"big"}
    assert not snapshots.blame.tries_again(14.0)
    assert snapshots.blame.tries_again(16.0)
    assert snapshots.left_out(16.0) == set()


def test_a_suspect_that_is_saved_is_acquitted(snapshots: Snapshots) -> None:
    snapshots.killed_twice("big", 0.0)
    snapshots.commits(1.0)
    snapshots.commits(16.0)
    assert not snapshots.blame.tries_again(HOUR)
    # One kill more is the first one again.
    assert "ended from outside" in str(snapshots.ends(KILLED, "big", HOUR))


def test_a_suspect_that_is_killed_again_waits_longer_each_time_and_never_for_ever(
    snapshots: Snapshots,
) -> None:
    snapshots.killed_twice("big", 0.0)
    now, waits = 0.0, []
    for _ in range(12):
        again_at = now
        while not snapshots.blame.tries_again(again_at):
            again_at += 5.0
        waits.append(again_at - now)
        now = again_at
        assert snapshots.ends(KILLED, "big", now) is None  # once is enough
        snapshots.commits(now)
    assert waits[:4] == [15.0, 30.0, 60.0, 120.0]
    assert waits[-1] == 1800.0


def test_a_suspect_that_crashes_when_it_is_tried_again_is_tried_no_more(
    snapshots: Snapshots,
) -> None:
    snapshots.killed_twice("big", 0.0)
    assert snapshots.ends(CRASHED, "big", 16.0) is None
    assert snapshots.left_out(1000 * HOUR) == {"big"}


def test_a_kill_with_something_else_in_hand_does_not_tell_against_a_suspect(
    snapshots: Snapshots,
) -> None:
    snapshots.killed_twice("big", 0.0)
    assert "ended from outside" in str(snapshots.ends(KILLED, "small", 16.0))
    assert snapshots.left_out(17.0) == set()


def test_the_user_is_told_once_that_it_is_not_saved_and_once_that_it_is_again(
    snapshots: Snapshots,
) -> None:
    snapshots.killed_twice("big", 0.0)
    snapshots.commits(1.0)
    snapshots.ends(KILLED, "big", 16.0)
    snapshots.commits(17.0)
    assert snapshots.news == [
        "big is not saved at present: the snapshot process was killed twice while saving it, "
        "perhaps for want of memory; it is tried again now and then."
    ]
    snapshots.commits(HOUR)
    assert snapshots.news[1:] == ["big is saved again."]


def test_a_hanging_local_is_left_out_with_its_own_limit_in_that_cell_only() -> None:
    blame = Blame()
    assert blame.frames(7, 0.0) == {}
    assert blame.judge(ALARM, False, ["0:train"], {}, 0.0) is None
    assert blame.news() == []
    reason = blame.frames(7, HOUR)["0:train"].reason
    assert reason == f"saving it took longer than {HANG_LIMIT_S:g} s"
    assert blame.frames(8, HOUR) == {}
