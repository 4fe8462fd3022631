"""What is set beside the variables: saved where it differs, put back, and named where it is not."""

from __future__ import annotations

import decimal
import gc
import logging
import logging.handlers
import os
import random
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import interactive
import pytest

from checkpoint_kernel import interactive_state, state_libraries, state_python, units
from checkpoint_kernel.interactive_state import Drafted, PuttingBack, Watch
from checkpoint_kernel.state_item import Item


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A shell; what tests set beside it is as before afterwards. Other tests load libraries."""
    without = tuple(item for item in interactive_state.ITEMS if item.library is None)
    monkeypatch.setattr(interactive_state, "ITEMS", without)
    directory, path, limit = Path.cwd(), list(sys.path), sys.getrecursionlimit()
    context, state, environment = decimal.getcontext().copy(), random.getstate(), dict(os.environ)
    with warnings.catch_warnings():
        yield interactive.new_shell()
    os.chdir(directory)
    sys.path[:] = path
    sys.setrecursionlimit(limit)
    decimal.setcontext(context)
    random.setstate(state)
    gc.enable()
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]


def draft(shell: Any, watch: Watch, *, inside_cell: bool = False) -> Drafted:
    partition = units.partition({}, shell.user_ns, {}, lambda names: None)
    return interactive_state.draft(shell, watch.seen(inside_cell), partition.definitions)


class NoDefinitions:
    def definition(self, key: str) -> Any:
        raise KeyError(key)


def packed_by(drafted: Drafted) -> dict[str, Any]:
    packed: dict[str, Any] = drafted.units[0].root[interactive_state.KIND]
    return {name: (codec, _bytes(stream)) for name, (codec, stream) in packed.items()}


def _bytes(stream: Any) -> bytes:
    return stream if isinstance(stream, bytes) else bytes(stream.raw())


def put_back(shell: Any, packed: dict[str, Any]) -> PuttingBack:
    putting = PuttingBack(shell, packed, NoDefinitions())
    putting.begin()
    putting.finish()
    return putting


class TestWhatIsSaved:
    def test_nothing_where_all_is_as_at_the_start(self, shell: Any) -> None:
        assert draft(shell, Watch(shell)) == Drafted()

    def test_what_was_set_is_back(self, shell: Any, tmp_path: Path) -> None:
        watch = Watch(shell)
        before = Path.cwd()
        os.chdir(tmp_path)
        sys.path.append("/added")
        decimal.getcontext().prec = 77
        warnings.filterwarnings("ignore", "nothing", DeprecationWarning)
        gc.disable()
        random.seed(5)
        expected = random.Random(5).random()
        shell.alias_manager.define_alias("greet", "echo hello")
        drafted = draft(shell, watch)
        random.seed(6)
        sys.path.remove("/added")
        os.chdir(before)
        decimal.getcontext().prec = 28
        warnings.resetwarnings()
        gc.enable()
        shell.alias_manager.undefine_alias("greet")

        putting = put_back(shell, packed_by(drafted))
        assert putting.failed == []
        assert tuple(putting.back) == drafted.words
        assert random.random() == expected
        assert sys.path[-1] == "/added"
        assert Path.cwd() == tmp_path
        assert decimal.getcontext().prec == 77
        first = warnings.filters[0]
        assert (first[0], first[2]) == ("ignore", DeprecationWarning)
        assert isinstance(first[1], re.Pattern)
        assert not gc.isenabled()
        assert shell.alias_manager.is_alias("greet")

    def test_equal_states_are_equal_bytes(self, shell: Any) -> None:
        watch = Watch(shell)
        random.seed(5)
        assert packed_by(draft(shell, watch)) == packed_by(draft(shell, watch))

    def test_an_item_that_fails_costs_itself(
        self, shell: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(_shell: Any) -> Any:
            raise OSError("gone")

        broken = Item("broken", fails, lambda seen, start: seen, lambda shell, value: None)
        monkeypatch.setattr(interactive_state, "ITEMS", (broken, state_python.SEED))
        watch = Watch(shell)
        random.seed(5)
        drafted = draft(shell, watch)
        assert drafted.words == ("seed of random",)
        assert [(s.name, s.reason) for s in drafted.skipped] == [
            ("broken", "saving it failed: LookupError: OSError: gone")
        ]

    def test_variables_of_the_environment_are_named_without_their_values(
        self, shell: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        watch = Watch(shell)
        monkeypatch.setenv("MINE", "hidden value")
        monkeypatch.setenv("KMP_INIT_AT_FORK", "set by a library")
        (skipped,) = draft(shell, watch).skipped
        assert skipped.name == "os.environ['MINE']"
        assert "hidden" not in repr(skipped)


class TestInsideACell:
    def test_what_a_with_block_may_have_set_is_as_before_the_cell_and_said(
        self, shell: Any
    ) -> None:
        watch = Watch(shell)
        decimal.getcontext().prec = 40
        watch.cell_begins()
        with decimal.localcontext() as context:
            context.prec = 5
            drafted = draft(shell, watch, inside_cell=True)
        assert "decimal context (prec)" in drafted.words
        (said,) = drafted.skipped
        assert (said.name, "as it was before that cell" in said.reason) == ("decimal context", True)
        decimal.getcontext().prec = 28
        put_back(shell, packed_by(drafted))
        assert decimal.getcontext().prec == 40

    def test_what_the_cell_itself_has_set_is_saved_where_that_can_be_told(self, shell: Any) -> None:
        watch = Watch(shell)
        watch.cell_begins()
        decimal.getcontext().prec = 40
        warnings.simplefilter("ignore")
        drafted = draft(shell, watch, inside_cell=True)
        assert drafted.words == ("warnings filters", "decimal context (prec)")
        assert drafted.skipped == []

    def test_what_no_block_sets_is_as_it_is(self, shell: Any) -> None:
        watch = Watch(shell)
        watch.cell_begins()
        sys.path.append("/inside")
        drafted = draft(shell, watch, inside_cell=True)
        assert (drafted.words, drafted.skipped) == (("sys.path (1 added)",), [])


class TestPuttingBack:
    def test_a_directory_that_is_gone_is_named_and_the_rest_is_back(
        self, shell: Any, tmp_path: Path
    ) -> None:
        watch = Watch(shell)
        gone = tmp_path / "gone"
        gone.mkdir()
        before = Path.cwd()
        os.chdir(gone)
        sys.path.append("/added")
        drafted = draft(shell, watch)
        os.chdir(before)
        gone.rmdir()
        putting = put_back(shell, packed_by(drafted))
        assert putting.back == ["sys.path (1 added)"]
        (failed,) = putting.failed
        assert failed.name == "working directory"
        assert f"{gone}: No such file" in failed.reason

    def test_an_item_of_a_library_that_is_not_loaded_is_named_and_imports_nothing(
        self, shell: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        absent = Item(
            "options of absent", lambda shell: 1, lambda seen, start: seen,
            lambda shell, value: pytest.fail("it is not there"), library="absent",
        )  # fmt: skip
        monkeypatch.setattr(interactive_state, "ITEMS", (absent,))
        putting = put_back(shell, packed_by(draft(shell, Watch(shell))))
        assert [(f.name, f.reason) for f in putting.failed] == [
            ("options of absent", "absent has not been loaded")
        ]

    def test_what_a_later_version_has_saved_is_named(self, shell: Any) -> None:
        (failed,) = put_back(shell, {"of the future": ("pickle", b"")}).failed
        assert failed.name == "of the future"


class TestPaths:
    def test_what_was_added_and_removed_is_relative_to_a_fresh_kernel(self) -> None:
        start, now = ["/old", "/lib", "/site"], ["/mine", "/lib", "/last"]
        assert state_python.merged(start, now, start) == now
        fresh = ["/new", "/lib", "/site", "/more"]
        assert state_python.merged(start, now, fresh) == ["/new", "/mine", "/lib", "/more", "/last"]


class TestLogging:
    def test_handlers_of_ones_own_loggers_are_made_again(self, shell: Any, tmp_path: Path) -> None:
        watch = Watch(shell)
        logger = logging.getLogger("state_test")
        handler = logging.FileHandler(tmp_path / "log.txt")
        handler.setFormatter(logging.Formatter("{message}!", style="{"))
        logger.addHandler(handler)
        logger.setLevel("INFO")
        drafted = draft(shell, watch)
        handler.close()
        logger.handlers.clear()
        logger.setLevel("NOTSET")
        assert put_back(shell, packed_by(drafted)).failed == []
        logger.info("heard")
        assert (tmp_path / "log.txt").read_text() == "heard!\n"
        logger.handlers[0].close()
        logger.handlers.clear()

    def test_a_handler_that_is_not_known_is_named_with_its_logger(self, shell: Any) -> None:
        watch = Watch(shell)
        logger = logging.getLogger("state_test_other")
        logger.addHandler(logging.handlers.MemoryHandler(1))
        (failed,) = put_back(shell, packed_by(draft(shell, watch))).failed
        assert "state_test_other" in failed.reason
        assert "MemoryHandler" in failed.reason
        logger.handlers.clear()


class TestLibraries:
    def test_only_pandas_options_that_differ_are_saved(self) -> None:
        pandas = pytest.importorskip("pandas")
        with pandas.option_context("display.max_rows", 7):
            seen = state_libraries._pandas(None)
        assert state_libraries._pandas_changed(seen, None) == {"display.max_rows": 7}

    def test_defaults_of_numpy_are_no_change(self) -> None:
        numpy = pytest.importorskip("numpy")
        with numpy.errstate(all="warn", under="ignore"):
            assert state_libraries._numpy_changed(state_libraries._numpy(None), None) is None
