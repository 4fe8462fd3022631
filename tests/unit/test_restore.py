"""Restores into real IPython shells: whole, in part, and with something missing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import interactive
import pytest

from checkpoint_kernel import flight_recorder, restore, safe_point
from checkpoint_kernel.contract import FLIGHT_FILE
from checkpoint_kernel.flight_recorder import FlightRecorder
from checkpoint_kernel.manifest import Manifest, Skipped
from checkpoint_kernel.session import Plan, Session, Settings, load_restore
from checkpoint_kernel.store import Store

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def own_main(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return interactive.new_store(tmp_path)


@pytest.fixture
def shell() -> Any:
    return interactive.new_shell()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "session"
    path.mkdir()
    return path


@pytest.fixture
def start(store: Store, directory: Path) -> Callable[..., Any]:
    """A new kernel's restore of a checkpoint: `(shell, report)`."""

    def at_start(checkpoint: str, **plan: Any) -> tuple[Any, Any]:
        record = Session(
            id="s", line="line", started=0.0, kernel_id="k", notebook=None,
            notebook_directory=str(store.directory), key_file="", supervisor_pid=1, boot_id="",
            settings=Settings(), plan=Plan("restore", "", checkpoint=checkpoint, **plan),
        )  # fmt: skip
        shell = interactive.new_shell()
        recorder = FlightRecorder(directory / FLIGHT_FILE)
        return shell, restore.at_start(shell, record, store, directory, recorder)

    return at_start


def reasons(report: Any) -> dict[str, str]:
    return {entry.name: entry.reason for entry in report.not_restored}


def without_segment_of(store: Store, checkpoint: Manifest, unit_id: str) -> Manifest:
    """The same checkpoint, one of whose units names a payload that is not there."""
    units = tuple(
        replace(unit, payload="00" * 32) if unit.id == unit_id else unit
        for unit in checkpoint.units
    )
    return replace(checkpoint, units=units)


def published(store: Store, checkpoint: Manifest) -> Manifest:
    """A manifest put into the store as a damaged disk would leave it: nothing is checked."""
    from checkpoint_kernel import durable, manifest

    durable.publish(
        manifest.path_of(store.directory, checkpoint), manifest.encode(checkpoint, store.key)
    )
    return checkpoint


def test_everything_comes_back_with_history_and_outputs(
    shell: Any, store: Store, start: Callable[..., Any]
) -> None:
    interactive.run(
        shell,
        "rate = 2\ndef scaled(x): return x * rate",
        "class Point:\n    def __init__(self, x): self.x = x",
        "points = [Point(scaled(1))]; first = points[0]",
        "points[0].x",
    )
    saved = interactive.save(shell, store)
    reborn, report = start(saved.id)
    names = reborn.user_ns
    assert report.state == "done"
    assert report.not_restored == ()
    assert report.restored == ("Out[4]", "Point", "first", "points", "rate", "scaled")
    assert names["points"][0] is names["first"]
    assert type(names["first"]) is names["Point"]
    names["rate"] = 10
    assert names["scaled"](2) == 20
    assert names["_"] == 2
    assert reborn.execution_count == 5


def test_the_record_says_which_unit_is_being_loaded_and_that_the_restore_is_done(
    shell: Any, store: Store, start: Callable[..., Any], directory: Path
) -> None:
    interactive.run(
        shell,
        "class Spy:\n"
        "    def __init__(self): self.x = 1\n"
        "    def __setstate__(self, state):\n"
        "        from checkpoint_kernel import flight_recorder\n"
        "        from pathlib import Path\n"
        f"        path = Path({str(directory / FLIGHT_FILE)!r})\n"
        "        self.flight = flight_recorder.read(path)\n"
        "spy = Spy()",
    )
    saved = interactive.save(shell, store)
    reborn, _ = start(saved.id)
    seen = reborn.user_ns["spy"].flight
    assert (seen.state, seen.restoring_unit, seen.restore_done) == ("restoring", "data:spy", False)
    after = flight_recorder.read(directory / FLIGHT_FILE)
    assert after is not None
    assert (after.restoring_unit, after.restore_done) == (None, True)
    progress = load_restore(directory)
    assert progress is not None
    assert progress.state == "done"


def test_a_unit_that_killed_an_earlier_restore_is_left_out_and_named(
    shell: Any, store: Store, start: Callable[..., Any]
) -> None:
    interactive.run(shell, "bad, good = [1], [2]")
    saved = interactive.save(shell, store)
    reborn, report = start(saved.id, leave_out=("data:bad",))
    assert "bad" not in reborn.user_ns
    assert reborn.user_ns["good"] == [2]
    assert reasons(report) == {"bad": "loading it killed the kernel, so it was left out"}


@pytest.mark.parametrize("raised", ["ValueError('no')", "SystemExit(1)", "KeyboardInterrupt"])
def test_what_raises_while_it_is_loaded_costs_only_itself(
    shell: Any, store: Store, start: Callable[..., Any], raised: str
) -> None:
    interactive.run(
        shell,
        "class Bad:\n    def __init__(self): self.x = 1\n"
        f"    def __setstate__(self, state): raise {raised}\n"
        "bad, good = Bad(), [1]",
    )
    reborn, report = start(interactive.save(shell, store).id)
    assert reborn.user_ns["good"] == [1]
    assert list(reasons(report)) == ["bad"]
    assert reasons(report)["bad"].startswith("loading it failed: ")


def test_instances_of_a_class_that_cannot_be_loaded_are_named_with_that_reason(
    shell: Any, store: Store, start: Callable[..., Any]
) -> None:
    interactive.run(shell, "class C: pass\nc = C(); other = 1")
    broken = without_segment_of(store, interactive.save(shell, store), "class:C")
    reborn, report = start(published(store, replace(broken, id="broken", seq=2)).id)
    assert reborn.user_ns["other"] == 1
    assert set(reasons(report)) == {"C", "c"}
    assert reasons(report)["c"].startswith("it needs something else: ")


def test_a_package_that_is_gone_is_named(
    shell: Any,
    store: Store,
    start: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "shortlived.py").write_text("class Thing: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    interactive.run(shell, "import shortlived; thing = shortlived.Thing(); other = 1")
    saved = interactive.save(shell, store)
    (tmp_path / "shortlived.py").unlink()
    monkeypatch.delitem(sys.modules, "shortlived")
    _, report = start(saved.id)
    assert reasons(report)["thing"] == "the package shortlived is not installed"
    assert "other" in report.restored


def test_a_history_that_is_lost_does_not_cost_the_variables(
    shell: Any, store: Store, start: Callable[..., Any]
) -> None:
    interactive.run(shell, "x = 1")
    saved = interactive.save(shell, store)
    session_unit = next(unit.id for unit in saved.units if unit.kind == "session")
    broken = without_segment_of(store, saved, session_unit)
    reborn, report = start(published(store, replace(broken, id="broken", seq=2)).id)
    assert report.state == "done"
    assert reborn.user_ns["x"] == 1
    assert reasons(report)["In"].startswith("the history of cells could not be loaded: ")


def test_a_checkpoint_that_is_gone_is_a_failed_restore_and_no_failed_start(
    store: Store, start: Callable[..., Any], directory: Path
) -> None:
    _, report = start("20200101-000000-abcdef")
    assert report.state == "failed"
    assert "no checkpoint begins with" in report.error
    assert flight_recorder.read(directory / FLIGHT_FILE).restore_done  # type: ignore[union-attr]


def test_a_progress_file_that_cannot_be_written_does_not_cost_the_restore(
    shell: Any, store: Store, start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    interactive.run(shell, "x = 1")
    saved = interactive.save(shell, store)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("checkpoint_kernel.session.save", full)
    reborn, report = start(saved.id)
    assert (report.state, reborn.user_ns["x"]) == ("done", 1)


class TestInsideACall:
    """`rows.sort(key=...)` empties the list while it runs."""

    def sorting(self, shell: Any, store: Store, seq: int) -> Manifest:
        taken: list[Manifest] = []

        def look(value: Any) -> Any:
            if not taken:
                frame = sys._getframe(1)
                file = frame.f_code.co_filename
                position = safe_point.examine(frame, shell.user_ns, file)
                assert not position.clean
                taken.append(interactive.save(shell, store, seq=seq, position=position))
            return value

        shell.user_ns_hidden["look"] = shell.user_ns["look"] = look
        interactive.run(shell, "rows.sort(key=lambda row: look(row))")
        return taken[0]

    def test_the_version_from_before_the_call_comes_back_and_is_named(
        self, shell: Any, store: Store, start: Callable[..., Any]
    ) -> None:
        interactive.run(shell, "rows = [3, 1, 2]; other = 1")
        before = interactive.save(shell, store, seq=1)
        interactive.run(shell, "other = 2")
        saved = self.sorting(shell, store, seq=2)
        reborn, report = start(saved.id)
        assert reborn.user_ns["rows"] == [3, 1, 2]
        assert reborn.user_ns["other"] == 2
        assert report.older == (f"rows ({saved.time - before.time:.1f} s older)",)

    def test_without_an_earlier_version_it_is_not_brought_back_empty(
        self, shell: Any, store: Store, start: Callable[..., Any]
    ) -> None:
        interactive.run(shell, "rows = [3, 1, 2]; other = 1")
        saved = self.sorting(shell, store, seq=1)
        reborn, report = start(saved.id)
        assert "rows" not in reborn.user_ns
        assert reborn.user_ns["other"] == 1
        assert f"%checkpoint restore {saved.id} rows" in reasons(report)["rows"]

    def test_it_is_brought_back_as_it_was_when_asked_for_by_name(
        self, shell: Any, store: Store
    ) -> None:
        interactive.run(shell, "rows = [3, 1, 2]")
        saved = self.sorting(shell, store, seq=1)
        report = restore.on_request(shell, store, saved, ["rows"])
        assert report.restored == ("rows",)
        assert shell.user_ns["rows"] == []


class TestOnRequest:
    def test_only_the_names_asked_for_are_bound(self, shell: Any, store: Store) -> None:
        interactive.run(shell, "a, b = [1], [2]; a.append(b)")
        saved = interactive.save(shell, store)
        interactive.run(shell, "a = b = 'changed'")
        report = restore.on_request(shell, store, saved, ["a"])
        assert report.restored == ("a",)
        assert (shell.user_ns["a"], shell.user_ns["b"]) == ([1, [2]], "changed")

    def test_restored_objects_are_instances_of_the_class_that_is_there(
        self, shell: Any, store: Store
    ) -> None:
        interactive.run(shell, "class C: pass\nc = C()")
        saved = interactive.save(shell, store)
        live = shell.user_ns["C"]
        interactive.run(shell, "del c")
        restore.on_request(shell, store, saved, ["c"])
        assert type(shell.user_ns["c"]) is live

    def test_a_name_that_is_not_in_the_checkpoint_is_reported(
        self, shell: Any, store: Store
    ) -> None:
        interactive.run(shell, "a = 1")
        saved = interactive.save(shell, store)
        report = restore.on_request(shell, store, saved, ["z"])
        assert report.restored == ()
        assert reasons(report) == {"z": f"checkpoint {saved.id} does not hold it"}

    def test_what_was_skipped_is_reported_with_its_reason(self, shell: Any, store: Store) -> None:
        interactive.run(shell, "a, b = [1], [2]")
        bad = {"b": Skipped("b", "list", "it crashed")}
        saved = interactive.save(shell, store, known_bad=bad)
        assert reasons(restore.on_request(shell, store, saved)) == {"b": "it crashed"}


def test_the_locals_of_running_functions_are_loaded_and_bound_nowhere(
    shell: Any, store: Store
) -> None:
    taken: list[Manifest] = []

    def look() -> None:
        frame = sys._getframe(1)
        cell = frame.f_back
        assert cell is not None
        position = safe_point.examine(frame, shell.user_ns, cell.f_code.co_filename)
        assert position.clean
        taken.append(interactive.save(shell, store, position=position))

    shell.user_ns_hidden["look"] = shell.user_ns["look"] = look
    interactive.run(
        shell,
        "def train(epochs):\n    losses = [0.5]\n    bad = (n for n in losses)\n    look()",
        "train(3)",
    )
    frames = restore.load_locals(shell.user_ns, store, taken[0])
    assert frames == {"0:train": {"epochs": 3, "losses": [0.5]}}
    assert "losses" not in shell.user_ns
    assert [s.name for s in taken[0].skipped] == ["0:train.bad"]
