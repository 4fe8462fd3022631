"""Functions that another Python saved: compiled anew from their source, or refused by name."""

from __future__ import annotations

import asyncio
import inspect
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

import interactive
import pytest

from checkpoint_kernel import foreign_code, restore
from checkpoint_kernel.store import Store

pytestmark = pytest.mark.unit

GOLDEN = Path(__file__).parents[1] / "golden"
# What no Python but its own can have: no text, two on one line, and bare bytecode.
REFUSED = {"code", "sourceless", "twins"}


OWN = ".".join(platform.python_version_tuple()[:2])


@pytest.fixture(params=[version for version in ("3.11", "3.12", "3.13") if version != OWN])
def restored(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, Any]:
    """A shell into which the store of another Python has been restored, and the report."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    shutil.copytree(GOLDEN / f"python-{request.param}", tmp_path / "notebook")
    store = Store.open(tmp_path / "notebook", interactive.KEY)
    shell = interactive.new_shell()
    [saved] = store.manifests()
    return shell, restore.on_request(shell, store, saved)


def test_functions_work_and_what_cannot_be_had_is_a_stub_that_names_both_versions(
    restored: tuple[Any, Any],
) -> None:
    shell, report = restored
    names = shell.user_ns
    assert {entry.name for entry in report.not_restored} == REFUSED
    for entry in report.not_restored:
        assert entry.reason.startswith("it was saved under Python 3.1"), entry
        assert f"this is {OWN}" in entry.reason
    [said] = report.other_versions
    assert said.startswith("Python 3.1")
    names["rate"] = 10
    assert names["plain"](1, 2, 3) == 32
    assert (names["square"](3), names["cube"](3)) == (9, 27)
    assert names["inner"](2) == [10, 11]
    assert names["outer"](5)(1) == [5]
    assert (names["decorated"](4), names["decorated"].calls) == ({4: 4}, 1)
    assert list(names["numbers"](3)) == [0, 1, 2]
    assert asyncio.run(names["waits"]()) == 5
    assert (names["child"].double(), names["child"].twice, names["Child"].one()) == (9, 8, 1)
    assert type(names["child"]) is names["Child"]
    assert names["holder"][0] is names["plain"]
    assert names["data"]["a"] == [1, 2.5, "text", (3, None)]
    assert "scale=3" in inspect.getsource(names["plain"])
    with pytest.raises(Exception, match="saved under Python"):
        names["sourceless"](1)


def test_what_was_compiled_anew_is_saved_as_this_pythons(
    restored: tuple[Any, Any], tmp_path: Path
) -> None:
    shell, _ = restored
    store = interactive.new_store(tmp_path / "again")
    saved = interactive.save(shell, store)
    assert {entry.name for entry in saved.skipped} == REFUSED
    again = interactive.new_shell()
    report = restore.on_request(again, store, saved)
    assert again.user_ns["child"].double() == 9
    assert {entry.name for entry in report.not_restored} == REFUSED


def test_only_another_minor_version_is_another_python() -> None:
    major, minor, _ = platform.python_version_tuple()
    assert not foreign_code.is_foreign(f"{major}.{minor}.99")
    assert not foreign_code.is_foreign("")
    assert foreign_code.is_foreign(f"{major}.{int(minor) + 1}.0")
    assert foreign_code.is_foreign(f"{major}.{minor}0.1")


def test_under_its_own_python_code_is_taken_as_it_is() -> None:
    with foreign_code.saved_under(platform.python_version()):
        assert not foreign_code.active()
