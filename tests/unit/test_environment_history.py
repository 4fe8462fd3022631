"""What a session ran with is kept while it is asked for, and compared with the right one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from checkpoint_kernel import contract, environment, session
from checkpoint_kernel.environment import Environment, Python, State
from checkpoint_kernel.environment_reader import modified
from checkpoint_kernel.session import ExitMarker, Plan, Session, Settings
from checkpoint_provisioner import environment_history, history
from checkpoint_provisioner.environment_history import changes, last_healthy

pytestmark = pytest.mark.unit

OLD, NEW = {"numpy": "1.26.4"}, {"numpy": "2.1.0"}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name in (contract.SESSIONS, contract.DEATHS, contract.MANIFESTS):
        (tmp_path / "notebook" / name).mkdir(parents=True)
    return tmp_path / "notebook"


def begin(
    directory: Path, number: int, packages: dict[str, str] | None = None, **fields: Any
) -> tuple[Path, Session]:
    """One start, and what its kernel left of its environment."""
    path = directory / contract.SESSIONS / f"20260101-00000{number}-aaaaaa"
    path.mkdir()
    started = Session(
        id=path.name,
        line=path.name,
        started=float(number),
        kernel_id="k",
        notebook="/n.ipynb",
        notebook_directory=str(directory),
        key_file="",
        supervisor_pid=1,
        boot_id="",
        settings=Settings(),
        plan=Plan("clean", ""),
        number=number,
    )
    session.save(path, started)
    if packages is not None:
        python = fields.pop("python", Python("3.11.7", sys.prefix))
        now = State(float(number), packages)
        environment.save(path, Environment(path.name, "/n.ipynb", python, now, **fields))
    return path, started


def end(path: Path, kind: Any = "restart", cells: int = 1, **fields: Any) -> None:
    session.save(path, ExitMarker(path.name, 1.0, kind, cells_started=cells, **fields))


def install(site: Path, name: str, version: str) -> None:
    place = site / f"{name}-{version}.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")


def test_a_death_is_compared_with_the_last_healthy_session(directory: Path) -> None:
    end(begin(directory, 1, {"numpy": "1.0"})[0])
    end(begin(directory, 2, OLD)[0], "shutdown")
    for number, why in enumerate(("crashed", "hung", "no cell", "first cell", "silent"), start=3):
        path, _ = begin(directory, number, None if why == "silent" else NEW)
        if why == "crashed":
            end(path, "death", 5, cause="segmentation-fault")
        elif why == "hung":
            end(path, "hung", 5, cause="hung")
        elif why == "no cell":
            end(path, cells=0)
        elif why == "first cell":
            end(path, cells=1, cell_sha256="0" * 64)  # it was running when it ended
        else:
            end(path, cells=5)
    begin(directory, 8, NEW)  # nobody has judged it
    path, started = begin(directory, 9, {**NEW, "torch": "2.4.0"})
    found = changes(path, started, (), notes := [])
    assert found is not None
    assert found["since"] == "1970-01-01T00:00:02.000+00:00"
    assert found["changed"] == {"numpy": ["1.26.4", "2.1.0"]}
    assert found["added"] == {"torch": "2.4.0"}
    assert found["python"] is None
    assert notes == []


@pytest.mark.parametrize(
    ("kind", "cause", "healthy"),
    [
        ("quit", None, True),
        ("death", "server-gone", True),  # the machine was switched off
        ("death", "terminated", True),
        ("death", "killed", False),
        ("death", "start-failed", False),
    ],
)
def test_an_end_from_outside_says_nothing_against_an_environment(
    directory: Path, kind: str, cause: str | None, healthy: bool
) -> None:
    end(begin(directory, 1, OLD)[0], kind, 3, cause=cause)
    _, started = begin(directory, 2)
    assert (last_healthy(directory / contract.SESSIONS, started) is not None) == healthy


def test_what_the_healthy_session_installed_while_it_ran_is_a_suspect(directory: Path) -> None:
    end(begin(directory, 1, NEW, at_start=State(0.5, OLD))[0])
    path, started = begin(directory, 2, NEW)
    found = changes(path, started, (), [])
    assert found is not None
    assert found["changed"] == {"numpy": ["1.26.4", "2.1.0"]}


def test_the_first_session_of_all_is_compared_with_its_own_beginning(directory: Path) -> None:
    path, started = begin(directory, 1, NEW, at_start=State(0.5, OLD))
    found = changes(path, started, (), [])
    assert found is not None
    assert found["changed"] == {"numpy": ["1.26.4", "2.1.0"]}
    path, started = begin(directory, 2, NEW)
    assert changes(path, started, (), []) is None  # nothing to compare with


def test_nothing_changed_is_another_answer_than_nothing_known(directory: Path) -> None:
    end(begin(directory, 1, NEW)[0])
    path, started = begin(directory, 2, NEW)
    found = changes(path, started, (), [])
    assert found is not None
    assert not any(found[part] for part in found if part != "since")


def test_what_was_installed_in_the_last_moment_is_seen(directory: Path, tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    install(site, "numpy", "1.26.4")
    watched = modified([str(site)])
    end(begin(directory, 1, OLD, watched=watched)[0])
    path, started = begin(directory, 2, OLD, watched=watched)
    install(site, "torch", "2.4.0")
    found = changes(path, started, [sys.executable], [])
    assert found is not None
    assert found["added"] == {"torch": "2.4.0"}
    later = changes(path, started, (), [])  # a start later: who knows what has happened since
    assert later is not None
    assert later["added"] == {}


@pytest.mark.parametrize("same", [True, False], ids=["same environment", "another environment"])
def test_a_kernel_that_could_not_start_is_judged_by_what_lies_in_its_environment(
    directory: Path, tmp_path: Path, same: bool
) -> None:
    prefix = tmp_path / "venv"
    site = prefix / "lib" / "python3.12" / "site-packages"
    install(site, "numpy", "2.1.0")
    (prefix / "bin").mkdir()
    python = prefix / "bin" / "python"
    python.symlink_to(sys.executable)
    (prefix / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.12.1\n")
    was = Python("3.11.7", str(prefix) if same else "/elsewhere")
    end(begin(directory, 1, OLD, python=was, watched=modified([str(site)] if same else []))[0])
    path, started = begin(directory, 2)
    found = changes(path, started, [str(python), "-m", "checkpoint_kernel"], notes := [])
    assert found is not None
    assert found["python"] == ["3.11.7", "3.12.1"]
    assert found["changed"] == {"numpy": ["1.26.4", "2.1.0"]}
    assert str(prefix) in notes[0]
    assert changes(path, started, ["/nowhere/python"], []) is None


def test_reading_a_slow_disk_is_given_up_with_a_note(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site-packages"
    install(site, "numpy", "2.1.0")
    end(begin(directory, 1, OLD, watched={str(site): 1})[0])
    path, started = begin(directory, 2)
    monkeypatch.setattr(environment_history, "LOOK_LIMIT_S", -1.0)
    assert changes(path, started, [sys.executable], notes := []) is None
    assert "it took over" in notes[-1]


def test_a_damaged_record_is_a_note(directory: Path) -> None:
    path, started = begin(directory, 1)
    (path / contract.ENVIRONMENT_FILE).write_text("{")
    assert changes(path, started, (), notes := []) is None
    assert str(path) in notes[0]


def test_the_environment_of_a_pruned_session_is_kept_for_its_checkpoint_and_its_death(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = []
    for number in range(1, 6):
        path, _ = begin(directory, number, {"a": str(number)})
        end(path, "death", death=f"d{number}.json")
        names.append(path.name)
    died, saved, neither, *_, current = names
    (directory / contract.DEATHS / f"20260101-000001-{died}.json").write_text("{}")
    monkeypatch.setattr(history, "SESSIONS_KEPT", 1)
    past = history.read(directory, bytes(32)).sessions[:-1]
    history.prune(directory, past, current, {saved})
    assert [path.name for path in (directory / contract.SESSIONS).iterdir()] == [current]
    kept = {name: environment_history.of_session(directory, name) for name in names}
    assert {name for name, found in kept.items() if found is not None} == {died, saved, current}
    assert not (directory / contract.ENVIRONMENTS / f"{neither}.json").exists()
    found = kept[died]
    assert found is not None
    assert found.now.packages == {"a": "1"}
    history.prune(directory, past, current, None)  # the key is lost: nothing is thrown away
    assert environment_history.of_session(directory, saved) is not None
    history.prune(directory, past, current, set())
    assert environment_history.of_session(directory, saved) is None
    assert environment_history.of_session(directory, died) is not None
