"""Restores into real IPython shells: whole, in part, and with something missing."""

from __future__ import annotations

import gc
import mmap
import os
import sys
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import interactive
import pytest

from checkpoint_kernel import flight_recorder, mapped_memory, notice, restore, safe_point
from checkpoint_kernel.contract import FLIGHT_FILE
from checkpoint_kernel.flight_recorder import FlightRecorder
from checkpoint_kernel.manifest import Manifest, Skipped
from checkpoint_kernel.session import Plan, Session, Settings, load_restore
from checkpoint_kernel.stand_ins import checkpoint_of
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
        return shell, restore.at_start(
            shell, record, store, directory, recorder, lambda mapped: None
        )

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


def test_the_unit_that_is_noted_is_the_one_being_loaded_also_where_loading_one_pulls_in_another(
    shell: Any, store: Store, start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    interactive.run(
        shell,
        "class Outer:\n    def __init__(self): self.x = 1\n"
        "    def __setstate__(self, state): self.x = inner[0]\n"
        "outer, inner = Outer(), [2, 'x' * 1000]",
    )
    saved = interactive.save(shell, store)
    noted: list[str | None] = []
    update = FlightRecorder.update

    def noting(recorder: FlightRecorder, **fields: Any) -> None:
        noted.extend([fields["restoring_unit"]] if "restoring_unit" in fields else [])
        update(recorder, **fields)

    monkeypatch.setattr(FlightRecorder, "update", noting)
    reborn, _ = start(saved.id)
    assert reborn.user_ns["outer"].x == 2
    outer = ["data:outer", "data:inner", "data:outer", "data:outer"]  # the last: once more
    assert noted == [None, "class:Outer", *outer, "state:state", None]


def test_a_unit_that_killed_an_earlier_restore_is_left_out_and_named(
    shell: Any, store: Store, start: Callable[..., Any]
) -> None:
    interactive.run(shell, "bad, good = [1], [2]")
    saved = interactive.save(shell, store)
    reborn, report = start(saved.id, leave_out=("data:bad",))
    assert checkpoint_of(reborn.user_ns["bad"]) == saved.id
    assert reborn.user_ns["good"] == [2]
    assert reasons(report) == {
        "bad": "the kernel died while it was being loaded, so it was left out"
    }


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
    assert reasons(report)["c"].startswith("it needs C: chunk 0000")
    assert "C" not in reborn.user_ns  # it is lost, while `c` waits for another C
    assert checkpoint_of(reborn.user_ns["c"]) == "broken"
    interactive.run(reborn, "class C: pass")
    restore.on_request(reborn, store, store.manifest("broken"), ["c"])
    assert type(reborn.user_ns["c"]) is reborn.user_ns["C"]


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


def test_variables_whose_device_is_not_there_are_named(
    shell: Any, store: Store, start: Callable[..., Any]
) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.device_count() > 7:
        pytest.skip("cuda:7 is there")
    interactive.run(
        shell,
        "from checkpoint_kernel import rebuild\n"
        "class OnDevice:\n"
        "    def __reduce__(self): return rebuild.storage, (b'abc', 'cuda:7')\n"
        "weights = OnDevice(); other = [1]",
    )
    saved = interactive.save(shell, store)
    reborn, report = start(saved.id)
    assert reborn.user_ns["weights"].tolist() == list(b"abc")
    [said] = report.on_cpu
    assert said.startswith("weights: cuda:7 (there ")


class TestLoadingCodeUsesGlobals:
    """`__setstate__`, `__hash__` and what `__reduce__` names look up names of the notebook."""

    def test_modules_functions_and_data_that_it_names_are_there(
        self, shell: Any, store: Store, start: Callable[..., Any]
    ) -> None:
        interactive.run(
            shell,
            "import math\n"
            "def lowered(text): return text.lower()\n"
            "class Key:\n"
            "    def __init__(self, text): self.text = text\n"
            "    def __hash__(self): return hash(lowered(self.text))\n"
            "    def __eq__(self, other): return lowered(self.text) == lowered(other.text)\n"
            "class Scaled:\n"
            "    def __init__(self, value): self.value = value\n"
            "    def __reduce__(self): return make, (self.value / SCALES['it'],)\n"
            "def make(value): return Scaled(math.trunc(value * SCALES['it']))\n"
            "SCALES = {'it': 2, 'unused': list(range(1000))}",
            "table, scaled = {Key('A'): 1}, Scaled(8)",
        )
        reborn, report = start(interactive.save(shell, store).id)
        names = reborn.user_ns
        assert report.not_restored == ()
        assert names["table"][names["Key"]("a")] == 1
        assert (type(names["scaled"]), names["scaled"].value) == (names["Scaled"], 8)

    def test_one_that_uses_another_that_uses_a_third_comes_back(
        self, shell: Any, store: Store, start: Callable[..., Any]
    ) -> None:
        interactive.run(
            shell,
            "class Uses:\n"
            "    def __init__(self, name, size): self.name, self.rows = name, [0] * size\n"
            "    def __setstate__(self, state):\n"
            "        self.__dict__.update(state); self.found = globals_of(self.name)\n"
            "def globals_of(name): return eval(name)",
            "a, b, c = Uses('b', 1), Uses('c', 10), Uses('Uses', 100)",
        )
        reborn, report = start(interactive.save(shell, store).id)
        names = reborn.user_ns
        assert report.not_restored == ()
        assert (names["a"].found, names["b"].found) == (names["b"], names["c"])
        assert names["c"].found is names["Uses"]

    NEEDY = (
        "class Needy:\n    def __init__(self): self.x = 1\n"
        "    def __setstate__(self, state): self.x = REQUIRED\n"
        "needy, other = Needy(), [1]"
    )

    @pytest.mark.parametrize(
        ("required", "reason"),
        [
            (
                "REQUIRED = (n for n in 'ab'); next(REQUIRED)",
                "loading it failed: NameError: name 'REQUIRED'",
            ),
            ("REQUIRED = needy.rest = []", "loading it uses REQUIRED: it needs itself"),
        ],
        ids=["not in the checkpoint", "one with it"],
    )
    def test_what_uses_one_that_is_not_there_is_not_bound_and_named(
        self, shell: Any, store: Store, start: Callable[..., Any], required: str, reason: str
    ) -> None:
        interactive.run(shell, self.NEEDY, required)
        reborn, report = start(interactive.save(shell, store).id)
        assert checkpoint_of(reborn.user_ns["needy"]) is not None
        assert reborn.user_ns["other"] == [1]
        assert reasons(report)["needy"].startswith(reason)

    def test_globals_that_it_sets_are_as_they_were_saved(
        self, shell: Any, store: Store, start: Callable[..., Any]
    ) -> None:
        interactive.run(
            shell,
            "class Counted:\n    def __init__(self): self.x = 1\n"
            "    def __setstate__(self, state):\n        global count\n        count += 1\n"
            "count, counted = 5, Counted()",
        )
        reborn, report = start(interactive.save(shell, store).id)
        assert report.not_restored == ()
        assert reborn.user_ns["count"] == 5

    def test_on_request_live_globals_are_used_and_only_those_that_are_gone_come_with_it(
        self, shell: Any, store: Store
    ) -> None:
        interactive.run(
            shell,
            "import math\nSCALE = 2\nclass Scaled:\n    def __init__(self): self.x = 1\n"
            "    def __setstate__(self, state): self.x = math.trunc(SCALE)\n"
            "scaled = Scaled()",
        )
        saved = interactive.save(shell, store)
        interactive.run(shell, "SCALE = 3; del math, scaled")
        report = restore.on_request(shell, store, saved, ["scaled"])
        assert report.restored == ("math", "scaled")
        assert (shell.user_ns["scaled"].x, shell.user_ns["SCALE"]) == (3, 3)

    def test_on_request_for_everything_the_saved_ones_are_used(
        self, shell: Any, store: Store
    ) -> None:
        interactive.run(
            shell,
            "class Made:\n    def __init__(self): self.x = SCALE\n"
            "    def __reduce__(self): return make, ()\n"
            "def make(): return Made()\nSCALE = 2; made = Made()",
        )
        saved = interactive.save(shell, store)
        interactive.run(shell, "class Made: pass", "SCALE = made = 3")
        restore.on_request(shell, store, saved)
        assert type(shell.user_ns["made"]) is shell.user_ns["Made"]
        assert shell.user_ns["made"].x == 2

    def test_on_request_what_cannot_be_loaded_keeps_its_live_value(
        self, shell: Any, store: Store
    ) -> None:
        interactive.run(shell, self.NEEDY)
        saved = interactive.save(shell, store)
        interactive.run(shell, "needy = other = 'live'")
        report = restore.on_request(shell, store, saved)
        assert list(reasons(report)) == ["needy"]
        assert (shell.user_ns["needy"], shell.user_ns["other"]) == ("live", [1])

    def test_on_request_a_ctrl_c_in_loading_code_breaks_it_off(
        self, shell: Any, store: Store
    ) -> None:
        interactive.run(
            shell,
            "class Slow:\n"
            "    def __setstate__(self, state):\n"
            "        if stop: raise KeyboardInterrupt\n"
            "a, slow, stop, gone = [1], Slow(), False, [3]\nslow.x = 1",
        )
        saved = interactive.save(shell, store)
        interactive.run(shell, "a = 'live'; stop = True; del gone")
        with pytest.raises(KeyboardInterrupt):
            restore.on_request(shell, store, saved, ["a", "slow", "gone"])
        assert shell.user_ns["a"] == "live"
        assert "gone" not in shell.user_ns

    def test_on_request_a_restore_that_is_broken_off_leaves_the_live_values(
        self, shell: Any, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        interactive.run(shell, "a, b, gone = [1], [2] * 99, [3]")
        saved = interactive.save(shell, store)
        interactive.run(shell, "a = b = 'live'; del gone")
        bind = restore.namespace.bind

        def interrupted(main: dict[str, Any], name: str, value: Any) -> None:
            if name == "b":
                raise KeyboardInterrupt
            bind(main, name, value)

        monkeypatch.setattr(restore.namespace, "bind", interrupted)
        with pytest.raises(KeyboardInterrupt):
            restore.on_request(shell, store, saved)
        assert (shell.user_ns["a"], shell.user_ns["b"]) == ("live", "live")
        assert "gone" not in shell.user_ns


def test_what_kills_while_its_class_was_loaded_in_between_is_blamed_itself(
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
        "spy = Spy(); del Spy",
    )
    reborn, _ = start(interactive.save(shell, store).id)
    assert reborn.user_ns["spy"].flight.restoring_unit == "data:spy"


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
        assert checkpoint_of(reborn.user_ns["rows"]) == saved.id
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
        "def train(epochs):\n    losses = [0.5]\n    bad = (n for n in losses)\n"
        "    next(bad)\n    look()",
        "train(3)",
    )
    frames = restore.load_locals(shell.user_ns, store, taken[0])
    assert frames == {"0:train": {"epochs": 3, "losses": [0.5]}}
    assert "losses" not in shell.user_ns
    assert [s.name for s in taken[0].skipped] == ["0:train.bad"]


class TestLargeArrays:
    """They are mapped; what is wrong with them is found while the user works on."""

    @pytest.fixture(autouse=True)
    def any_filesystem(self, monkeypatch: pytest.MonkeyPatch) -> None:
        if sys.platform != "linux" or mmap.PAGESIZE != 4096:
            pytest.skip("only pages of 4 KB are mapped")
        monkeypatch.setattr(mapped_memory, "is_local", lambda fd: True)
        monkeypatch.setattr(mapped_memory, "ALWAYS_FROM_BYTES", 8 << 20)

    CELL = "import numpy as np; big = np.random.default_rng(1).random(1_200_000); tail = big[-9:]"

    @staticmethod
    def mapped(store: Store) -> int:
        return Path("/proc/self/maps").read_text().count(f"{store.directory}/segments/")

    @staticmethod
    def damage(store: Store, array: Any) -> None:
        content = array[300_000:300_010].tobytes()
        for path in (store.directory / "segments").iterdir():
            if content in (whole := path.read_bytes()):
                path.chmod(0o600)
                path.write_bytes(whole.replace(content, bytes(len(content))))

    def test_they_come_back_writable_shared_with_their_views_and_are_saved_again(
        self, shell: Any, store: Store, start: Callable[..., Any]
    ) -> None:
        interactive.run(shell, self.CELL)
        expected = shell.user_ns["big"].copy()
        reborn, report = start(interactive.save(shell, store).id)
        assert {"big", "tail"} <= set(report.restored)
        assert self.mapped(store) == 1
        assert (reborn.user_ns["big"] == expected).all()
        interactive.run(reborn, "tail[:] = 7.0; big[0] = 8.0")
        expected[-9:], expected[0] = 7.0, 8.0
        again, _ = start(interactive.save(reborn, store, seq=2).id)
        assert (again.user_ns["big"] == expected).all()
        assert (reborn.user_ns["big"] == expected).all()

    def test_no_thread_that_read_is_left(
        self, shell: Any, store: Store, start: Callable[..., Any]
    ) -> None:
        interactive.run(shell, self.CELL)
        start(interactive.save(shell, store).id)
        assert not [t for t in threading.enumerate() if "reader" in t.name]

    def test_damage_is_said_before_the_next_cell_with_the_way_back(
        self, shell: Any, store: Store, start: Callable[..., Any]
    ) -> None:
        interactive.run(shell, self.CELL)
        first = interactive.save(shell, store)
        interactive.run(shell, "big[300_000:300_010] = 1.5")
        second = interactive.save(shell, store, seq=2)
        self.damage(store, shell.user_ns["big"])
        reborn, report = start(second.id)
        assert report.not_restored == ()
        assert (reborn.user_ns["big"][300_000:300_010] == 0).all()
        # `start` opened no second store, as a kernel does: this is the one that it used.
        assert store.verification.finish(30)
        found = store.verification.announcements()
        assert [(d.names, d.damaged_bytes, whole) for d, whole in found] == [
            (("big", "tail"), 1 << 20, first)
        ]
        text = " ".join(notice.damaged(found))
        assert "big, tail: 1.0 MB of what was restored is damaged in the store" in text
        assert f"%checkpoint restore {first.id} big tail" in text
        restore.on_request(reborn, store, first, ["big", "tail"])
        assert not (reborn.user_ns["big"][300_000:300_010] == 0).any()

    def test_after_a_bus_error_they_are_read_and_damage_is_a_reason(
        self, shell: Any, store: Store, start: Callable[..., Any]
    ) -> None:
        interactive.run(shell, self.CELL, "small = 1")
        saved = interactive.save(shell, store)
        self.damage(store, shell.user_ns["big"])
        deaths = store.directory / "deaths"
        deaths.mkdir()
        (deaths / "d.json").write_text('{"cause": "bus-error"}')
        reborn, report = start(saved.id, death="d.json")
        assert self.mapped(store) == 0
        assert reborn.user_ns["small"] == 1
        assert set(reasons(report)) == {"big", "tail"}
        assert "digest differs" in reasons(report)["big"]

    def test_locals_of_functions_are_mapped_and_verified_too(
        self, shell: Any, store: Store
    ) -> None:
        interactive.run(shell, self.CELL)
        saved = interactive.save(shell, store)
        units = tuple(
            replace(unit, kind="locals") if "big" in unit.names else unit for unit in saved.units
        )
        frames = restore.load_locals({}, store, replace(saved, units=units))
        assert (frames["big"] == shell.user_ns["big"]).all()
        assert self.mapped(store) == 1
        assert store.verification.finish(30)
        assert store.verification.damages() == []


def test_restored_objects_are_old_for_the_collector_and_can_still_be_collected(
    shell: Any, store: Store, start: Callable[..., Any]
) -> None:
    interactive.run(shell, "class C: pass", "ring = [C()]; ring.append(ring)")
    saved = interactive.save(shell, store)
    reborn, _ = start(saved.id)
    ring = reborn.user_ns["ring"]
    assert gc.get_freeze_count() == 0
    assert any(ring is obj for obj in gc.get_objects(generation=2))
    gone = weakref.ref(ring[0])
    del ring
    reborn.user_ns.clear()
    gc.collect()
    assert gone() is None


def test_what_the_user_has_frozen_stays_frozen(shell: Any, store: Store) -> None:
    interactive.run(shell, "x = [1]")
    saved = interactive.save(shell, store)
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        restore.on_request(shell, store, saved)
        assert gc.get_freeze_count() == pytest.approx(frozen, abs=1000)
    finally:
        gc.unfreeze()


def test_a_trial_leaves_the_users_files_alone(shell: Any, store: Store) -> None:
    made = "kept = tempfile.NamedTemporaryFile(); kept.write(b'x'); kept.flush()"
    interactive.run(shell, "import tempfile", made)
    path = Path(shell.user_ns["kept"].name)
    saved = interactive.save(shell, store)
    unit = next(unit for unit in saved.units if "kept" in unit.names)
    reborn = interactive.new_shell()
    pid = os.fork()
    if pid == 0:
        load = restore._on_trial(reborn.user_ns, store, saved)(set(), lambda unit: None)
        load(unit)
        gc.collect()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert path.exists()
