"""Reducers that users and libraries register: what is found, what wins, what comes back."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import GeneratorType, ModuleType

import interactive
import pytest
from notebook_namespace import Notebook

import checkpoint_kernel
from checkpoint_kernel import entry_points, kinds, registry, restore

pytestmark = pytest.mark.unit


class Sensor:
    """Cannot be pickled by itself."""

    def __init__(self, port: int) -> None:
        self.port = port

    def __reduce__(self) -> str:
        raise TypeError("a sensor is a device")


class Thermometer(Sensor):
    """A sensor too."""


def port_of(sensor: Sensor) -> int:
    return sensor.port


@pytest.fixture(autouse=True)
def nothing_registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    yield
    registry._by_users.clear()
    registry._by_libraries.clear()
    registry.forget()


@pytest.fixture
def notebook() -> Notebook:
    made = Notebook()
    made.main.update(s=Sensor(3), t=Thermometer(4), both=[Sensor(5)])
    made.main["both"].append(made.main["both"][0])
    return made


def reasons(notebook: Notebook) -> dict[str, str]:
    return {skipped.name: skipped.reason for skipped in notebook.partition().skipped}


def test_importing_the_package_imports_no_registry() -> None:
    program = (
        "import sys, checkpoint_kernel as c; print('checkpoint_kernel.registry' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_a_registered_type_comes_back_and_its_subclass_does_not(notebook: Notebook) -> None:
    assert "a sensor is a device" in reasons(notebook)["s"]
    checkpoint_kernel.register(Sensor, port_of, Sensor)
    assert reasons(notebook).keys() == {"t"}
    again = notebook.reborn().main
    assert again["s"].port == 3
    assert again["both"][0] is again["both"][1]


def test_subclasses_come_back_when_asked_for(notebook: Notebook) -> None:
    checkpoint_kernel.register(Sensor, lambda s: (type(s), s.port), lambda t: t[0](t[1]),
                               subclasses=True)  # fmt: skip
    again = notebook.reborn().main
    assert (type(again["t"]), again["t"].port) == (Thermometer, 4)


def test_the_nearest_registration_wins_and_the_type_itself_before_its_parents(
    notebook: Notebook,
) -> None:
    registry.register(Sensor, port_of, lambda port: Sensor(-1), subclasses=True)
    registry.register(Thermometer, port_of, lambda port: Thermometer(-2))
    again = notebook.reborn().main
    assert [again["s"].port, again["t"].port] == [-1, -2]


def test_a_users_reducer_wins_over_our_refusal_and_over_a_type_that_was_seen_before() -> None:
    notebook = Notebook()
    notebook.run("import fractions\nbad = (i for i in range(3)); next(bad)")
    notebook.run("third = fractions.Fraction(1, 3)")
    assert reasons(notebook).keys() == {"bad"}
    assert kinds.known[Fraction] == kinds.ATOMIC
    registry.register(GeneratorType, lambda g: g.__name__, lambda name: [name])
    registry.register(Fraction, lambda f: 7, lambda state: Fraction(state))
    again = notebook.reborn().main
    assert again["bad"] == ["<genexpr>"]
    assert again["third"] == 7


def test_a_users_reducer_wins_over_a_librarys_whichever_came_last(notebook: Notebook) -> None:
    registry.register(Sensor, port_of, lambda port: Sensor(1))
    registry.call_entry_point(lambda: registry.register(Sensor, port_of, lambda port: Sensor(2)))
    assert notebook.reborn().main["s"].port == 1
    registry.unregister(Sensor)
    assert notebook.reborn().main["s"].port == 2


def test_ours_are_found_by_name_once_the_module_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "_ours", {})
    registry.named("sensors_of_old", "Sensor", port_of, Sensor)
    assert registry.find(Sensor) is None
    module = ModuleType("sensors_of_old")
    module.Sensor = Sensor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sensors_of_old", module)
    assert registry.find(Sensor) is not None
    assert registry.find(Thermometer) is None


def test_a_save_that_raises_costs_the_variable_and_is_named(notebook: Notebook) -> None:
    def save_sensor(sensor: Sensor) -> int:
        raise ValueError("no such port")

    registry.register(Sensor, save_sensor, Sensor)
    notebook.main["good"] = [1]
    found = reasons(notebook)
    assert found.keys() == {"s", "t", "both"}
    assert "save_sensor failed: ValueError: no such port" in found["s"]
    assert found["both"].startswith("it holds a ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((3, str, str), "3 is not a type"),
        ((list, list, list), "written by pickle itself"),
        ((Sensor, None, Sensor), "save must be callable"),
        ((Sensor, port_of, 4), "load must be callable"),
    ],
)
def test_what_cannot_be_registered_is_refused_at_once(arguments: tuple, said: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(TypeError, match=said):
        registry.register(*arguments)


def test_functions_of_the_notebook_serve_as_save_and_load() -> None:
    notebook = Notebook()
    notebook.run(
        "class Box:\n"
        "    def __init__(self, x): self.x = x\n"
        "    def __reduce__(self): raise TypeError('no')\n"
        "def opened(box): return box.x\n"
        "def closed(x): return Box(x + 1)\n"
        "b = Box(1)"
    )
    registry.register(notebook.main["Box"], notebook.main["opened"], notebook.main["closed"])
    again = notebook.reborn().main
    assert again["b"].x == 2
    assert type(again["b"]) is again["Box"]


def test_what_a_cell_registers_is_registered_again_by_a_restore(tmp_path: Path) -> None:
    store = interactive.new_store(tmp_path)
    before = interactive.new_shell()
    interactive.run(
        before,
        "import checkpoint_kernel\nclass Box:\n"
        "    def __init__(self, x): self.x = x\n"
        "    def __reduce__(self): raise TypeError('no')",
        "checkpoint_kernel.register(Box, lambda box: box.x, lambda x: Box(x + 1))",
        "b = Box(1)",
    )
    saved = interactive.save(before, store)
    assert saved.skipped == ()
    assert "b" in saved.names
    registry._by_users.clear()
    registry.forget()
    after = interactive.new_shell()
    report = restore.on_request(after, store, saved)
    assert report.not_restored == ()
    assert after.user_ns["b"].x == 2
    interactive.run(after, "c = Box(5)")
    again = interactive.save(after, store, seq=2)
    assert again.skipped == ()
    assert "c" in again.names


def test_a_registration_that_cannot_be_saved_is_named(tmp_path: Path) -> None:
    shell = interactive.new_shell()
    interactive.run(
        shell,
        "import checkpoint_kernel, datetime\n"
        "class Odd:\n"
        "    def __reduce__(self): raise TypeError('odd')\n"
        "    def __call__(self, obj): return 1\n"
        "checkpoint_kernel.register(datetime.date, str, Odd())",
    )
    saved = interactive.save(shell, interactive.new_store(tmp_path))
    assert [(s.name, s.type) for s in saved.skipped] == [
        ("checkpoint_kernel.register(date)", "registration")
    ]


class TestEntryPoints:
    def called(self, *entries: importlib.metadata.EntryPoint) -> list[str]:
        self.patched.setattr(entry_points, "entry_points", lambda group: entries)
        self.found = entry_points.EntryPoints()
        self.found.begin()
        return self.found.call_due()

    @pytest.fixture(autouse=True)
    def no_calls(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.patched = monkeypatch
        calls.clear()

    def entry(self, name: str, value: str) -> importlib.metadata.EntryPoint:
        return importlib.metadata.EntryPoint(name, value, entry_points.GROUP)

    def test_one_of_a_module_that_is_not_imported_waits_for_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delitem(sys.modules, "this", raising=False)
        assert self.called(self.entry("this", "test_registry:note_call")) == []
        assert calls == []
        monkeypatch.setitem(sys.modules, "this", ModuleType("this"))
        assert self.found.call_due() == []
        assert self.found.call_due() == []
        assert calls == ["called"]

    def test_one_that_fails_is_said_once_and_the_others_are_called(
        self,
    ) -> None:
        news = self.called(
            self.entry("of no module", "test_registry:no_such_thing"),
            self.entry("json", "test_registry:fail"),
            self.entry("of-another", "test_registry:note_call"),
        )
        assert len(news) == 2
        assert "no_such_thing" in news[0]
        assert "SystemExit: not today" in news[1]
        assert calls == ["called"]
        assert self.found.call_due() == []


calls: list[str] = []


def note_call() -> None:
    calls.append("called")


def fail() -> None:
    raise SystemExit("not today")
