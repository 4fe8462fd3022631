"""How often checkpoints may be taken."""

from __future__ import annotations

import pytest

from checkpoint_kernel.cadence import (
    BURST,
    CPU_SHARE,
    LAST_STATE_S,
    LONGEST_S,
    PAUSE_SHARE,
    WINDOW_S,
    Cadence,
    Changed,
)

pytestmark = pytest.mark.unit

NOW = 1000.0
BURST_S = BURST * PAUSE_SHARE * WINDOW_S


def most_in_a_minute(spent: list[tuple[float, float]]) -> float:
    """The most seconds that any minute holds, of (when, how many)."""
    most = total = 0.0
    first = 0
    for at, seconds in spent:
        total += seconds
        while spent[first][0] <= at - WINDOW_S:
            total -= spent[first][1]
            first += 1
        most = max(most, total)
    return most


@pytest.mark.parametrize("awaited", [False, True])
def test_the_first_checkpoint_is_due_at_once(awaited: bool) -> None:
    assert Cadence().due_at(Changed(NOW, NOW), NOW, awaited) <= NOW


def test_where_somebody_waits_a_pause_of_5_ms_is_followed_by_100_ms_without_one() -> None:
    cadence = Cadence()
    cadence.paused(NOW, 0.005)
    assert cadence.due_at(Changed(NOW, NOW), NOW, awaited=True) == pytest.approx(NOW + 0.1)
    assert cadence.free_at(NOW) == pytest.approx(NOW + 0.1)
    assert cadence.due_at(Changed(NOW, NOW), NOW + 0.2, awaited=True) <= NOW + 0.2


def test_where_nobody_waits_the_newest_state_is_taken_at_once() -> None:
    cadence = Cadence()
    cadence.paused(NOW, 0.2)
    assert cadence.due_at(Changed(NOW, NOW), NOW, awaited=False) <= NOW


@pytest.mark.parametrize("pause_s", [0.002, 0.02, 0.2])
@pytest.mark.parametrize("awaited", [False, True])
def test_no_minute_has_more_pauses_than_its_share(awaited: bool, pause_s: float) -> None:
    cadence, now, pauses = Cadence(), NOW, []
    while now < NOW + 200:
        now = max(now, cadence.due_at(Changed(now, now), now, awaited)) + 0.02  # a cell every 20 ms
        pauses.append((now, pause_s))
        cadence.paused(now, pause_s)
    assert most_in_a_minute(pauses) <= PAUSE_SHARE * WINDOW_S + pause_s


def test_what_the_pauses_of_a_minute_may_take_is_not_taken_twice() -> None:
    cadence = Cadence()
    cadence.paused(NOW, BURST_S + 1)  # in place, where no fork can be had
    rate = (1 - BURST) * PAUSE_SHARE
    assert cadence.due_at(Changed(NOW, NOW), NOW, awaited=False) == pytest.approx(NOW + 1 / rate)


def test_a_long_pause_is_not_repeated_within_seconds_while_somebody_waits() -> None:
    cadence = Cadence()
    cadence.paused(NOW, 2.0)
    assert cadence.due_at(Changed(NOW, NOW), NOW, awaited=True) == NOW + 40


def test_a_burst_of_background_work_is_free() -> None:
    cadence = Cadence()
    cadence.spent(NOW, BURST * CPU_SHARE * WINDOW_S - 1)
    assert cadence.due_at(Changed(NOW, NOW), NOW, awaited=True) <= NOW


@pytest.mark.parametrize("cpu_s", [0.05, 0.4, 1.0])
def test_no_minute_has_more_background_work_than_half_a_core(cpu_s: float) -> None:
    cadence, now, spent = Cadence(), NOW, []
    while now < NOW + 200:
        now = max(now, cadence.due_at(Changed(now, now), now, awaited=False)) + cpu_s
        spent.append((now, cpu_s))
        cadence.spent(now, cpu_s)
    assert most_in_a_minute(spent) <= CPU_SHARE * WINDOW_S + cpu_s


def test_the_last_state_waits_no_longer_than_3_s_for_the_background_budget() -> None:
    cadence = Cadence()
    cadence.spent(NOW, 1000.0)
    assert cadence.due_at(Changed(NOW, NOW), NOW, awaited=False) == NOW + LAST_STATE_S
    assert cadence.due_at(Changed(NOW - 9, NOW - 5), NOW, awaited=False) <= NOW


def test_while_changes_go_on_the_budget_holds_and_one_state_is_saved_in_the_end() -> None:
    cadence = Cadence()
    cadence.spent(NOW, 1000.0)
    typing = Changed(NOW - 10, NOW)
    assert cadence.due_at(typing, NOW, awaited=False) == NOW + LAST_STATE_S
    assert cadence.due_at(Changed(NOW - LONGEST_S, NOW), NOW, awaited=False) <= NOW


@pytest.mark.parametrize("cpu_s", [0.4, 1.0, 4.0])
def test_somebody_who_types_all_the_time_costs_half_a_core_in_any_minute(cpu_s: float) -> None:
    cadence, now, since, spent = Cadence(), NOW, NOW, []
    while now < NOW + 300:
        now += 0.3
        if cadence.due_at(Changed(since, now), now, awaited=False) <= now:
            spent.append((now, cpu_s))
            cadence.spent(now, cpu_s)
            since = now
    assert most_in_a_minute(spent) <= CPU_SHARE * WINDOW_S + cpu_s
