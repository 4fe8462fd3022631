"""When the supervisor ends a restore that does not go on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from checkpoint_kernel.contract import FLIGHT_FILE
from checkpoint_kernel.flight_recorder import FlightRecorder
from checkpoint_provisioner import restore_watch
from checkpoint_provisioner.restore_watch import LOOK_S, RestoreWatch

pytestmark = pytest.mark.unit


@pytest.fixture
def recorder(tmp_path: Path) -> FlightRecorder:
    one = FlightRecorder(tmp_path / FLIGHT_FILE)
    one.update(state="restoring", restoring_unit="data:bad", restoring_until=100.0)
    return one


@pytest.mark.usefixtures("recorder")
def test_stacks_are_taken_first_and_then_it_is_ended_with_the_reason(tmp_path: Path) -> None:
    watch = RestoreWatch(os.getpid(), tmp_path)
    assert watch.look(99.0) == ""
    assert watch.look(101.0) == "look"
    assert watch.look(101.5) == ""
    assert watch.hung is None
    assert watch.look(101.0 + LOOK_S) == "kill"
    assert watch.hung is not None
    assert "`bad` was being loaded for longer" in watch.hung
    assert watch.look(200.0) == ""  # once


def test_one_that_goes_on_is_let_be(tmp_path: Path, recorder: FlightRecorder) -> None:
    watch = RestoreWatch(os.getpid(), tmp_path)
    assert watch.look(101.0) == "look"
    recorder.update(restoring_unit="data:next", restoring_until=150.0)
    assert watch.look(110.0) == ""
    assert watch.look(151.0) == "look"
    recorder.update(restoring_unit=None, restore_done=True, state="idle")
    assert watch.look(999.0) == ""


@pytest.mark.usefixtures("recorder")
def test_one_that_was_stopped_does_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore_watch, "state_of", lambda pid: "T")
    assert RestoreWatch(os.getpid(), tmp_path).look(999.0) == ""


def test_a_kernel_without_a_flight_recorder_is_not_watched(tmp_path: Path) -> None:
    assert RestoreWatch(os.getpid(), tmp_path).look(999.0) == ""
