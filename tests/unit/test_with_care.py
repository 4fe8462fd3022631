"""What kills or hangs whoever loads it: found in a forked process, left out, and released once it
does no harm."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import interactive
import pytest

from checkpoint_kernel import quarantine, restore, snapshot, trial
from checkpoint_kernel.contract import ENV_LOAD_PATIENCE, FLIGHT_FILE
from checkpoint_kernel.flight_recorder import FlightRecorder
from checkpoint_kernel.manifest import Manifest, Unit
from checkpoint_kernel.session import Plan, Session, Settings
from checkpoint_kernel.stand_ins import checkpoint_of
from checkpoint_kernel.store import Store
from checkpoint_kernel.stub import NotBackError

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(snapshot.available() is not None, reason=f"{snapshot.available()}"),
]

# Only where there is a file of that name is it harmful.
CELL = """\
class Hostile:
    def __init__(self, code): self.code = f"__import__('os').path.exists({MARK!r}) and {code}"
    def __reduce__(self): return (eval, (self.code,))
faults = Hostile("__import__('ctypes').string_at(0)")
leaves = [Hostile("__import__('os')._exit(0)")]
class Killer:
    here = Hostile("__import__('os').abort()")
killer = [Killer()]
numbers, text, mixed = [1, 2], "x", {"a": (1, {2})}
def f(): return numbers
"""
HARMFUL = ("Killer", "faults", "leaves")


@pytest.fixture(autouse=True)
def own_main(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    monkeypatch.setenv(ENV_LOAD_PATIENCE, "1")


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    path = tmp_path / "harmful"
    path.touch()
    return path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return interactive.new_store(tmp_path)


@pytest.fixture
def saved(store: Store, mark: Path) -> Manifest:
    shell = interactive.new_shell()
    interactive.run(shell, CELL.replace("{MARK!r}", repr(str(mark))))
    return interactive.save(shell, store)


@pytest.fixture
def start(store: Store, tmp_path: Path) -> Callable[..., tuple[Any, dict[str, str]]]:
    """A new kernel's restore: its shell, and the reasons of what is not back."""

    def at_start(checkpoint: Manifest, **plan: Any) -> tuple[Any, dict[str, str]]:
        record = Session(
            id="s", line="line", started=0.0, kernel_id="k", notebook=None,
            notebook_directory=str(store.directory), key_file="", supervisor_pid=1, boot_id="",
            settings=Settings(), plan=Plan("restore", "", checkpoint=checkpoint.id, **plan),
        )  # fmt: skip
        shell = interactive.new_shell()
        recorder = FlightRecorder(tmp_path / FLIGHT_FILE)
        report = restore.at_start(shell, record, store, tmp_path, recorder, lambda mapped: None)
        return shell, {entry.name: entry.reason for entry in report.not_restored}

    return at_start


def test_after_a_death_while_restoring_all_that_would_end_it_are_found_in_one_start(
    store: Store, saved: Manifest, start: Callable[..., Any]
) -> None:
    shell, reasons = start(saved, step=1, care="trial")
    assert {name: why.partition(" on 2")[0] for name, why in reasons.items()} == {
        "Killer": "loading it ended a process that tried it (SIGABRT)",
        "killer": "it needs Killer: loading it ended a process that tried it (SIGABRT)",
        "faults": "loading it ended a process that tried it (SIGSEGV)",
        "leaves": "loading it ended a process that tried it (exit code 0)",
    }
    assert shell.user_ns["f"]() == [1, 2]
    assert shell.user_ns["mixed"] == {"a": (1, {2})}
    names = {name for entry in quarantine.read(store.directory).values() for name in entry.names}
    assert names == set(HARMFUL)


def test_what_is_in_quarantine_is_not_loaded_unasked_and_released_once_it_does_no_harm(
    store: Store, saved: Manifest, mark: Path, start: Callable[..., Any]
) -> None:
    start(saved, step=1, care="trial")
    shell, reasons = start(saved)  # as if nothing had been: loading any of them would end us
    assert set(reasons) == {*HARMFUL, "killer"}
    with pytest.raises(NotBackError, match="%checkpoint restore faults"):
        shell.user_ns["faults"].anything()

    everything = restore.on_request(shell, store, saved)
    assert {entry.name for entry in everything.not_restored} == {*HARMFUL, "killer"}
    tried = restore.on_request(shell, store, saved, ["faults", "numbers"])
    [entry] = tried.not_restored
    assert "tried again just now, it ended a process that tried it (SIGSEGV)" in entry.reason
    assert tried.restored == ("numbers",)

    mark.unlink()
    report = restore.on_request(shell, store, saved, ["faults", "Killer", "killer"])
    assert report.restored == ("Killer", "faults", "killer")
    assert shell.user_ns["faults"] is False
    names = {name for entry in quarantine.read(store.directory).values() for name in entry.names}
    assert names == {"leaves"}


def test_a_hang_in_python_code_costs_only_itself_and_is_remembered(
    store: Store, start: Callable[..., Any], mark: Path
) -> None:
    shell = interactive.new_shell()
    interactive.run(
        shell,
        CELL.partition("faults")[0].replace("{MARK!r}", repr(str(mark)))
        + "sleeps = Hostile(\"__import__('time').sleep(99)\"); other = [1]",
    )
    saved = interactive.save(shell, store)
    _, reasons = start(saved, step=1, care="trial")
    assert reasons["sleeps"].startswith("loading it took longer than 1 s on 2")
    quarantine.release(store.directory, list(quarantine.read(store.directory)))
    shell, reasons = start(saved)
    assert shell.user_ns["other"] == [1]
    assert reasons == {"sleeps": "loading it took longer than 1 s, and was stopped"}
    mark.unlink()
    _, reasons = start(saved)  # it is not even tried
    assert reasons["sleeps"].startswith("loading it took longer than 1 s, and was stopped on 2")


def test_with_the_greatest_care_only_what_runs_no_code_is_loaded(
    saved: Manifest, mark: Path, start: Callable[..., Any]
) -> None:
    mark.unlink()
    shell, reasons = start(saved, step=2, care="plain")
    assert set(reasons) == {"faults", "killer", "leaves"}
    assert shell.user_ns["mixed"] == {"a": (1, {2})}
    assert shell.user_ns["f"]() == [1, 2]


def test_stubs_are_not_saved_and_stand_again_after_the_next_restore(
    store: Store, saved: Manifest, start: Callable[..., Any]
) -> None:
    shell, _ = start(saved, step=1, care="trial")
    shell.user_ns["numbers"] = [shell.user_ns["faults"]]  # but one inside a value is
    later = interactive.save(shell, store, seq=2)
    held = {entry.name: entry for entry in later.skipped}
    assert set(held) == {*HARMFUL, "killer"}
    assert held["faults"].checkpoint == saved.id
    assert held["faults"].reason.startswith("loading it ended a process that tried it (SIGSEGV)")
    again, reasons = start(later)
    assert set(reasons) == {*HARMFUL, "killer"}
    assert checkpoint_of(again.user_ns["faults"]) == saved.id
    assert checkpoint_of(again.user_ns["numbers"][0]) == saved.id


def test_a_user_who_has_given_the_name_away_keeps_what_he_has(
    store: Store, saved: Manifest, start: Callable[..., Any]
) -> None:
    shell, _ = start(saved, step=1, care="trial")
    shell.user_ns["faults"] = "mine"
    del shell.user_ns["leaves"]
    restore.on_request(shell, store, saved)
    assert shell.user_ns["faults"] == "mine"
    assert checkpoint_of(shell.user_ns["leaves"]) == saved.id


@pytest.mark.parametrize(
    ("kind", "types", "suspect"),
    [
        ("data", {"a": "int", "b": "numpy.ndarray"}, False),
        ("data", {"a": "list"}, True),
        ("function", {"f": "function"}, False),
        ("class", {"C": "type"}, True),
        ("module", {"np": "module"}, True),
        ("session", {}, False),
    ],
)
def test_only_what_may_run_code_is_tried(kind: str, types: dict[str, str], suspect: bool) -> None:
    unit = Unit("x", kind, tuple(types), "pickle", "aa", 10, types)
    assert trial.is_suspect(unit) is suspect
