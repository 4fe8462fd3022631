"""What has changed in a user's module is found, saved with what it shares, and set again."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from checkpoint_kernel import namespace, own_baselines, own_modules, own_modules_back
from checkpoint_kernel.own_baselines import Empty, Literal, Unknown
from checkpoint_kernel.own_modules import Found, Tracker
from checkpoint_kernel.secrets_rules import Rules

Write = Callable[[str, str], ModuleType]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a module and import it."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    made = []

    def write(name: str, source: str) -> ModuleType:
        (tmp_path / f"{name}.py").write_text(source)
        made.append(name)
        return again(name)

    yield write
    for name in made:
        sys.modules.pop(name, None)


def again(name: str) -> ModuleType:
    """As in a new kernel."""
    sys.modules.pop(name, None)
    importlib.invalidate_caches()
    return importlib.import_module(name)


@pytest.fixture
def tracker() -> Tracker:
    return Tracker(frozenset(sys.modules))


def look(tracker: Tracker, **variables: Any) -> Found:
    found = own_modules.look(tracker.known(), variables, (), lambda names: None)
    tracker.settle(found.report)
    return found


def put_back(found: dict[str, Any], *shared: str) -> dict[str, str]:
    return own_modules_back.put_back(found, frozenset(shared))


SOURCE = """\
import os, time
from math import pi
counter = 0
cache = {}
CONFIG = {"level": 1, "names": ["a"]}
START = time.time()
limits: tuple[int, ...] = (1, 2)
def count():
    global counter
    counter += 1
class Thing:
    made = 0
    label = "x"
    def __init__(self):
        Thing.made += 1
if os.name == "posix":
    where = "here"
"""


class TestWhatTheSourceTells:
    def test_literals_and_empty_containers_are_known_and_what_is_computed_is_not(self) -> None:
        source = own_baselines.read(SOURCE, "")
        assert source.of("counter") == Literal(0)
        assert source.of("cache") == Literal({})
        assert source.of("START") == Unknown()
        assert source.of("Thing.made") == Literal(0)
        assert source.of("where") == Unknown()
        assert source.of("added") is None
        assert own_baselines.read("from collections import *\na = deque()", "").of("a") == Empty()

    def test_after_a_star_import_any_name_may_be_the_sources(self) -> None:
        assert own_baselines.read("from math import *", "").of("tau") == Unknown()

    def test_true_is_not_one(self) -> None:
        assert not own_baselines.is_initial(True, Literal(1))
        assert not own_baselines.is_initial({"a": [1]}, Literal({"a": [True]}))


class TestWhatHasChanged:
    def test_nothing_has_in_a_module_that_was_only_imported(
        self, write: Write, tracker: Tracker
    ) -> None:
        write("mine_fresh", SOURCE)
        assert look(tracker).roots == look(tracker).roots == {}

    def test_a_change_in_the_cell_of_the_import_is_seen_by_the_source(
        self, write: Write, tracker: Tracker
    ) -> None:
        mine = write("mine_same_cell", SOURCE)
        mine.count()
        mine.cache["a"] = 1
        mine.CONFIG["names"].append("b")
        mine.Thing()
        mine.added = 7
        assert look(tracker).roots == {
            "mine_same_cell.counter": 1,
            "mine_same_cell.cache": {"a": 1},
            "mine_same_cell.CONFIG": {"level": 1, "names": ["a", "b"]},
            "mine_same_cell.Thing.made": 1,
            "mine_same_cell.added": 7,
        }

    def test_a_later_change_of_a_computed_value_is_seen_and_it_stays_a_root(
        self, write: Write, tracker: Tracker
    ) -> None:
        mine = write("mine_later", SOURCE)
        assert look(tracker).roots == {}
        before, mine.START = mine.START, -1.0
        assert look(tracker).roots == {"mine_later.START": -1.0}
        mine.START = before
        assert look(tracker).roots == {"mine_later.START": before}

    def test_a_reload_is_a_first_sight(self, write: Write, tracker: Tracker) -> None:
        mine = write("mine_reloaded", "limit = 5\n")
        look(tracker)
        Path(mine.__file__ or "").write_text("limit = 10\n")
        importlib.reload(mine)
        assert look(tracker).roots == {}

    def test_a_name_imported_from_another_module_of_the_users_is_that_ones(
        self, write: Write, tracker: Tracker
    ) -> None:
        settings = write("mine_settings", "OPTIONS = {}\n")
        user = write("mine_user", "from mine_settings import OPTIONS\n")
        settings.OPTIONS["deep"] = 1
        assert look(tracker).roots == {"mine_settings.OPTIONS": {"deep": 1}}
        user.OPTIONS = {"other": 2}
        assert look(tracker).roots == {
            "mine_settings.OPTIONS": {"deep": 1},
            "mine_user.OPTIONS": {"other": 2},
        }

    def test_what_a_variable_stands_for_too_is_a_root_unchanged_or_not(
        self, write: Write, tracker: Tracker
    ) -> None:
        mine = write("mine_held", SOURCE)
        roots = look(tracker, CONFIG=mine.CONFIG, counter=mine.counter).roots
        assert roots == {"mine_held.CONFIG": mine.CONFIG}

    def test_what_was_restored_stays_a_root(self, write: Write, tracker: Tracker) -> None:
        write("mine_restored", SOURCE).START = 1.0
        tracker.restored(["mine_restored.START", "variable"])
        assert look(tracker).roots == {"mine_restored.START": 1.0}

    def test_what_is_too_large_is_named(
        self, write: Write, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(own_modules, "_STREAM_LIMIT_BYTES", 1000)
        write("mine_large", "rows = list(range(10_000))\n")
        (skipped,) = look(tracker).skipped
        assert (skipped.name, skipped.type) == ("mine_large.rows", "list")
        assert "too large" in skipped.reason

    def test_locks_and_loggers_and_installed_modules_are_left_alone(
        self, write: Write, tracker: Tracker
    ) -> None:
        write("mine_others", "import threading, logging\nlock = threading.Lock()\n"
              "log = logging.getLogger(__name__)\nhelp = lambda: 1\n")  # fmt: skip
        assert look(tracker).roots == look(tracker).roots == {}
        assert look(tracker).skipped == []


def test_an_object_that_exits_when_it_is_pickled_costs_itself(
    write: Write, tracker: Tracker
) -> None:
    exits = "class Exits:\n    def __reduce__(self): raise SystemExit\n"
    write("mine_exits", f"{exits}it = Exits()\n")
    again("mine_exits")
    assert look(tracker).roots == look(tracker).roots == {}


def test_what_looks_like_a_secret_or_is_excluded_is_named_and_not_saved() -> None:
    roots = {"mine.api_key": "sk", "mine.big": 1, "mine.x": 2, "mine.token": 3}
    selected = namespace.of_modules(roots, Rules(exclude=("mine.b*",)))
    assert selected.roots == {"mine.x": 2, "mine.token": 3}
    assert [skipped.name for skipped in selected.skipped] == ["mine.api_key", "mine.big"]


class TestPuttingBack:
    def test_what_was_imported_from_there_elsewhere_is_the_same_object(self, write: Write) -> None:
        write("mine_config", "OPTIONS = {}\n")
        write("mine_using", "from mine_config import OPTIONS\ndef get(o=OPTIONS): return o\n")
        again("mine_config")
        using = again("mine_using")
        assert put_back({"mine_config.OPTIONS": {"a": 1}}) == {}
        config = sys.modules["mine_config"]
        assert using.OPTIONS is config.OPTIONS is using.get() == {"a": 1}

    def test_what_variables_share_is_their_object(self, write: Write) -> None:
        write("mine_sharing", "cache = {}\nclass Uses:\n    pass\n")
        cache = {"a": 1}
        assert put_back({"mine_sharing.cache": cache}, "mine_sharing.cache", "cache") == {}
        assert sys.modules["mine_sharing"].cache is cache

    def test_objects_of_ordinary_classes_are_filled_and_classes_set(self, write: Write) -> None:
        mine = write("mine_objects", "class State:\n    n = 0\nstate = State()\nheld = [state]\n")
        other = mine.State()
        other.x = 5
        assert put_back({"mine_objects.state": other, "mine_objects.State.n": 9}) == {}
        assert (mine.state.x, mine.held[0] is mine.state, mine.State.n) == (5, True, 9)

    def test_what_is_not_there_any_more_is_said(self) -> None:
        failed = put_back({"no_such_module_of_mine.x": 1})
        assert "no_such_module_of_mine" in failed["no_such_module_of_mine.x"]
