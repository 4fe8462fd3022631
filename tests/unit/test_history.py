"""What earlier starts left behind is read, closed and pruned."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from checkpoint_kernel import contract, manifest, session
from checkpoint_kernel.flight_recorder import FlightRecorder
from checkpoint_kernel.session import ExitMarker, Plan, Session, Settings
from checkpoint_provisioner import history
from checkpoint_provisioner.proc import boot_id

KEY = bytes(32)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name in (contract.SESSIONS, contract.DEATHS, contract.MANIFESTS):
        (tmp_path / name).mkdir()
    return tmp_path


def begin(
    directory: Path, id: str, started: float = 1.0, boot: str | None = None, number: int = 0
) -> Path:
    path = directory / contract.SESSIONS / id
    path.mkdir()
    session.save(
        path,
        Session(
            id=id,
            line=id,
            started=started,
            kernel_id="k",
            notebook="/n.ipynb",
            notebook_directory=str(directory),
            key_file="",
            supervisor_pid=1,
            boot_id=boot_id() if boot is None else boot,
            settings=Settings(),
            plan=Plan("clean", ""),
            number=number,
        ),
    )
    return path


def test_sessions_are_read_in_the_order_in_which_they_began(directory: Path) -> None:
    for id, started in (("b", 1.0), ("a", 2.0)):
        path = begin(directory, id, started)
        session.save(path, ExitMarker(session=id, time=started, kind="restart"))
    found = history.read(directory, KEY)
    assert [past.session.id for past in found.sessions] == ["b", "a"]
    assert found.warnings == ()


def test_a_session_without_exit_marker_is_judged_from_its_leftovers_once(directory: Path) -> None:
    path = begin(directory, "a")
    FlightRecorder(path / contract.FLIGHT_FILE).update(
        pid=0, state="busy", execution_count=4, cell_source="train()", line=1, cells_started=2
    )
    ended = history.read(directory, KEY).sessions[0].exit
    assert (ended.kind, ended.cause, ended.cells_started) == ("death", "server-gone", 2)
    assert ended.cell_sha256 is not None
    record = json.loads((directory / contract.DEATHS / str(ended.death)).read_bytes())
    assert (record["cell"], record["source"], record["exit_code"]) == (4, "train()", None)
    assert history.read(directory, KEY).sessions[0].exit == ended
    assert len(list((directory / contract.DEATHS).iterdir())) == 1


def test_a_session_of_another_boot_is_blamed_on_the_machine(directory: Path) -> None:
    begin(directory, "a", boot="another")
    ended = history.read(directory, KEY).sessions[0].exit
    record = json.loads((directory / contract.DEATHS / str(ended.death)).read_bytes())
    assert "machine has restarted" in record["because"]


def test_an_intent_that_was_written_before_everybody_was_killed_counts(directory: Path) -> None:
    path = begin(directory, "a")
    session.append_intent(path, "shutdown")
    assert history.read(directory, KEY).sessions[0].exit.kind == "shutdown"


def test_a_session_that_never_had_a_kernel_is_passed_over(directory: Path) -> None:
    (directory / contract.SESSIONS / "empty").mkdir()
    assert history.read(directory, KEY).sessions == ()


def test_a_malformed_record_is_a_warning_and_hides_no_other(directory: Path) -> None:
    session.save(begin(directory, "a"), ExitMarker(session="a", time=1.0, kind="restart"))
    broken = begin(directory, "b")
    (broken / contract.SESSION_FILE).write_text("{")
    found = history.read(directory, KEY)
    assert [past.session.id for past in found.sessions] == ["a"]
    assert str(broken) in found.warnings[0]


def test_a_record_of_another_shape_keeps_no_kernel_from_starting(directory: Path) -> None:
    path = begin(directory, "a")
    (path / contract.EXIT_FILE).write_text("[]")
    found = history.read(directory, KEY)
    assert found.sessions == ()
    assert str(path) in found.warnings[0]


def test_a_checkpoint_with_a_wrong_signature_is_passed_over_by_name(directory: Path) -> None:
    path = directory / contract.MANIFESTS / "00000001-x.json"
    path.write_bytes(b"0" * 64 + b"\n{}\n")
    found = history.read(directory, KEY)
    assert found.manifests == ()
    assert str(path) in found.warnings[0]
    assert history.read(directory, None).warnings == ()


def test_a_kernel_that_outlived_its_supervisor_is_not_run_over(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = begin(directory, "a")
    environment = {**os.environ, contract.ENV_SESSION: str(path)}
    code = "print('up', flush=True); input()"
    kernel = subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert kernel.stdout is not None
    kernel.stdout.readline()
    FlightRecorder(path / contract.FLIGHT_FILE).update(pid=kernel.pid)
    monkeypatch.setattr(history, "STRAGGLER_GRACE_S", 0.2)
    with pytest.raises(history.StillAlive, match=str(kernel.pid)):
        history.read(directory, KEY)
    kernel.communicate("\n")
    assert history.read(directory, KEY).sessions[0].exit.kind == "death"


def test_a_reused_pid_is_not_taken_for_the_kernel(directory: Path) -> None:
    path = begin(directory, "a")
    FlightRecorder(path / contract.FLIGHT_FILE).update(pid=os.getpid())
    assert len(history.read(directory, KEY).sessions) == 1


def test_a_clock_that_was_set_back_does_not_change_the_order(directory: Path) -> None:
    for id, number, started in (("20261201", 1, 9.0), ("20261101", 2, 5.0)):
        path = begin(directory, id, started, number=number)
        session.save(path, ExitMarker(session=id, time=started, kind="restart"))
    found = history.read(directory, KEY)
    assert [past.session.id for past in found.sessions] == ["20261201", "20261101"]
    assert found.next_number == 3


def test_pruning_keeps_the_newest_sessions_and_the_one_that_begins(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, id in enumerate("zdcb", start=1):  # the clock went back after the first
        path = begin(directory, id, number=number)
        session.save(path, ExitMarker(session=id, time=1.0, kind="restart"))
    past = history.read(directory, KEY).sessions
    begin(directory, "a", number=5)
    (directory / contract.SESSIONS / "y").mkdir()  # of a supervisor that had no kernel
    monkeypatch.setattr(history, "SESSIONS_KEPT", 2)
    history.prune(directory, past, "a")
    assert sorted(p.name for p in (directory / contract.SESSIONS).iterdir()) == ["a", "b"]


def test_pruning_keeps_the_record_of_a_death_that_a_start_is_about(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.save(
        begin(directory, "s"),
        ExitMarker(session="s", time=1.0, kind="death", cause="killed", death="a.json"),
    )
    for name in ("a.json", "b.json", "c.json"):
        (directory / contract.DEATHS / name).write_text("{}")
    monkeypatch.setattr(history, "DEATHS_KEPT", 1)
    history.prune(directory, history.read(directory, KEY).sessions, "now")
    assert sorted(p.name for p in (directory / contract.DEATHS).iterdir()) == ["a.json", "c.json"]


def test_a_disk_that_takes_no_record_does_not_keep_the_past_from_being_read(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(directory, "a")

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(session.durable, "publish", full)
    found = history.read(directory, KEY)
    assert found.sessions[0].exit.kind == "death"
    assert "No space left" in found.warnings[0]


def test_manifests_come_by_seq(directory: Path) -> None:
    for seq in (2, 1):
        one = manifest.Manifest(
            id=f"c{seq}",
            seq=seq,
            line="a",
            session="a",
            parent=None,
            time=1.0,
            reason="cell",
            execution_count=1,
            inside_cell=False,
            inside_call=False,
            cell_source=None,
            line_number=None,
            units=(),
            skipped=(),
        )
        manifest.path_of(directory, one).write_bytes(manifest.encode(one, KEY))
    assert [m.seq for m in history.read(directory, KEY).manifests] == [1, 2]
    assert dataclasses.is_dataclass(history.read(directory, KEY))
