"""How often checkpoints may be taken."""

from __future__ import annotations

import pytest

from checkpoint_kernel.cadence import CPU_SHARE, LAST_STATE_S, PAUSE_SHARE, WINDOW_S, Cadence

pytestmark = pytest.mark.unit

NOW = 1000.0
BURST_S = PAUSE_SHARE * WINDOW_S


@pytest.mark.parametrize("awaited", [False, True])
def test_the_first_checkpoint_is_due_at_once(awaited: bool) -> None:
    assert Cadence().due_at(NOW, NOW, awaited) <= NOW


def test_where_somebody_waits_a_pause_of_5_ms_is_followed_by_100_ms_without_one() -> None:
    cadence = Cadence()
    cadence.paused(NOW, 0.005)
    assert cadence.due_at(NOW, NOW, awaited=True) == pytest.approx(NOW + 0.1)
    assert cadence.free_at(NOW) == pytest.approx(NOW + 0.1)
    assert cadence.due_at(NOW, NOW + 0.2, awaited=True) <= NOW + 0.2


def test_where_nobody_waits_the_newest_state_is_taken_at_once() -> None:
    cadence = Cadence()
    cadence.paused(NOW, 0.2)
    assert cadence.due_at(NOW, NOW, awaited=False) <= NOW


@pytest.mark.parametrize("awaited", [False, True])
def test_pauses_take_no_more_than_their_share_of_a_busy_hour(awaited: bool) -> None:
    cadence, now, paused_s = Cadence(), NOW, 0.0
    while now < NOW + 3600:
        now = max(now, cadence.due_at(now, now, awaited)) + 0.02  # a cell every 20 ms
        paused_s += 0.02
        cadence.paused(now, 0.02)
    saved_up = 0.0 if awaited else BURST_S
    assert paused_s <= PAUSE_SHARE * (now - NOW) + saved_up + 0.1


def test_what_the_pauses_of_a_minute_may_take_is_not_taken_twice() -> None:
    cadence = Cadence()
    cadence.paused(NOW, BURST_S + 1)  # in place, where no fork can be had
    assert cadence.due_at(NOW, NOW, awaited=False) == pytest.approx(NOW + 1 / PAUSE_SHARE)


def test_a_long_pause_is_not_repeated_within_seconds_while_somebody_waits() -> None:
    cadence = Cadence()
    cadence.paused(NOW, 2.0)
    assert cadence.due_at(NOW, NOW, awaited=True) == NOW + 40


def test_a_burst_of_background_work_is_free() -> None:
    cadence = Cadence()
    cadence.spent(NOW, CPU_SHARE * WINDOW_S - 1)
    assert cadence.due_at(NOW, NOW, awaited=True) <= NOW


def test_background_work_is_half_a_core_on_average_when_changes_can_wait() -> None:
    cadence, now, spent_s = Cadence(), NOW, 0.0
    while now < NOW + 3600:
        now = max(now, cadence.due_at(now, now, awaited=False))
        spent_s += 1.0
        now += 1.0
        cadence.spent(now, 1.0)
    allowed = CPU_SHARE * (now - NOW) + CPU_SHARE * WINDOW_S
    assert spent_s <= allowed + 1


def test_the_newest_state_waits_no_longer_than_3_s_for_the_background_budget() -> None:
    cadence = Cadence()
    cadence.spent(NOW, 1000.0)
    assert cadence.due_at(NOW, NOW, awaited=False) == NOW + LAST_STATE_S
    assert cadence.due_at(NOW - 5, NOW, awaited=False) <= NOW
