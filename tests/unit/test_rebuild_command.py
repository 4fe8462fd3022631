"""What `%checkpoint rebuild` is asked, and what it reads before it asks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from IPython.core.error import UsageError

from checkpoint_kernel import provenance, rebuild_command
from checkpoint_kernel.contract import DEATHS
from checkpoint_kernel.stub import Stub

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("line", "awaited"),
    [
        ("get_ipython().run_line_magic('checkpoint', 'rebuild gen')\n",
         "await get_ipython().run_line_magic('checkpoint', 'rebuild --awaited gen')\n"),
        ("get_ipython().run_line_magic('checkpoint', 'rebuild')\n",
         "await get_ipython().run_line_magic('checkpoint', 'rebuild --awaited')\n"),
        ("get_ipython().run_line_magic('checkpoint', 'restore gen')\n", None),
        ("    get_ipython().run_line_magic('checkpoint', 'rebuild gen')\n", None),
        ("x = get_ipython().run_line_magic('checkpoint', 'rebuild gen')\n", None),
        ("x = 1\n", None),
    ],
)  # fmt: skip
def test_the_command_is_awaited_at_the_top_level_of_a_cell(line: str, awaited: str | None) -> None:
    assert rebuild_command.awaited([line]) == [awaited or line]


@pytest.mark.parametrize(
    ("arguments", "names", "yes"),
    [
        (["a", "b", "a"], ["a", "b"], False),
        (["a", "--yes"], ["a"], True),
        (["--yes", "Out[3]"], ["Out[3]"], True),
        (["a", "--yes", "3", "7"], ["a"], frozenset({3, 7})),
        ([], [], False),
    ],
)
def test_arguments_are_names_and_whether_to_ask(
    arguments: list[str], names: list[str], yes: frozenset[int] | bool
) -> None:
    assert rebuild_command.parsed(arguments) == (names, yes)


@pytest.mark.parametrize("argument", ["--no", "a.b", "3", "a,b"])
def test_what_is_no_variable_is_refused(argument: str) -> None:
    with pytest.raises(UsageError, match="is no variable"):
        rebuild_command.parsed([argument])


def test_deaths_are_known_by_the_text_of_the_cell(tmp_path: Path) -> None:
    (tmp_path / DEATHS).mkdir()
    died = {
        "cell_source": "boom()\n", "cell_running": True, "cause": "killed",
        "time": "2026-01-31T12:00:00+00:00",
    }  # fmt: skip
    records = {
        "1": died,
        "2": {**died, "cell_source": "fine()", "survived": True},
        "3": {**died, "cell_source": "done()", "cell_running": False},
        "4": {**died, "cell_source": None},
        "5": {**died, "cell_source": "x" * 9000, "cause": None, "time": "then"},
    }
    for name, record in records.items():
        (tmp_path / DEATHS / f"{name}.json").write_text(json.dumps(record))
    (tmp_path / DEATHS / "6.json").write_text("{")
    found = rebuild_command.deaths_by_text(tmp_path)
    assert list(found) == ["boom()", provenance.text_of("x" * 9000)]
    assert found["boom()"].startswith("killed, 2026-01-3")
    assert found[provenance.text_of("\n" + "x" * 9000)] == "unknown"


def test_what_is_there_is_said_before_it_is_made_anew() -> None:
    live = {"a": 1, "b": 2, "s": Stub("thing", "it is gone")}
    assert rebuild_command._there(live, ["s", "gone"]) == ""
    assert rebuild_command._there(live, ["a", "s"]) == "a is there: this would make it anew.\n"
    both = rebuild_command._there(live, ["b", "a"])
    assert both == "a, b are there: this would make them anew.\n"
