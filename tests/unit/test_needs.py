"""What a unit needs that is not here: said by package and version, with what installs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from checkpoint_kernel import environment, needs
from checkpoint_kernel.contract import ENVIRONMENTS, SESSIONS
from checkpoint_kernel.environment import Environment, Python, State
from checkpoint_kernel.needs import MissingName, SavedWith, saved_with

pytestmark = pytest.mark.unit

PYTEST = needs.installed("pytest")
SAVED = SavedWith(
    {
        "polars": ("polars", "1.39.0"),
        "scikit-learn": ("scikit-learn", "1.0.1"),
        "pytest": ("pytest", "0.1"),
        "iniconfig": ("iniconfig", needs.installed("iniconfig") or ""),
    }
)


def test_a_missing_package_is_named_with_its_version_and_what_installs_it() -> None:
    assert needs.absent(ModuleNotFoundError(name="polars"), SAVED) == (
        "the package polars is not installed (it was saved with polars 1.39.0)",
        "pip install polars==1.39.0",
    )
    assert needs.absent(ModuleNotFoundError(name="nowhere"), SAVED) == (
        "the package nowhere is not installed",
        None,
    )


def test_a_module_that_a_package_has_lost_is_told_apart_from_a_missing_package() -> None:
    reason, remedy = needs.absent(ModuleNotFoundError(name="pytest.gone"), SAVED)
    assert reason == f"pytest {PYTEST} has no module pytest.gone: it was saved with pytest 0.1"
    assert remedy == "pip install pytest==0.1"


def test_a_name_that_is_gone_and_any_other_failure_name_the_versions_that_differ() -> None:
    reason, remedy = needs.other(MissingName("pytest.x", "Thing"), ["pytest.x"], SAVED)
    assert reason == f"pytest.x has no Thing here: it was saved with pytest 0.1, here is {PYTEST}"
    assert remedy == "pip install pytest==0.1"
    reason, remedy = needs.other(ValueError("no"), ["pytest.x", "iniconfig", "os"], SAVED)
    assert reason == (
        f"loading it failed: ValueError: no (it was saved with pytest 0.1, here {PYTEST})"
    )
    assert needs.other(ValueError("no"), ["iniconfig"], SAVED) == (
        "loading it failed: ValueError: no",
        None,
    )


def test_packages_are_found_by_the_modules_that_they_bring() -> None:
    found = SAVED.version_of("sklearn.linear_model")
    assert found is not None
    assert (found.package, found.saved) == ("scikit-learn", "1.0.1")
    assert SAVED.uses("scikit-learn", ["sklearn.svm"])
    assert not SAVED.uses("scikit-learn", ["os"])
    assert SAVED.version_of("nowhere.to.be.found") is None


def test_only_what_differs_is_listed_once_and_never_the_standard_library() -> None:
    modules = ["pytest.a", "pytest.b", "os.path", "json", "__main__", "iniconfig"]
    assert [version.said for version in SAVED.others(modules)] == [f"pytest 0.1, here {PYTEST}"]


@pytest.mark.parametrize("pruned", [False, True])
def test_what_a_session_ran_with_is_read_also_when_the_session_is_pruned(
    tmp_path: Path, pruned: bool
) -> None:
    directory = tmp_path / SESSIONS / "s1"
    directory.mkdir(parents=True)
    packages = {"Flask_Thing": "1.0"}
    environment.save(directory, Environment("s1", None, Python("3.11", "/"), State(1.0, packages)))
    if pruned:
        (tmp_path / ENVIRONMENTS).mkdir()
        (directory / "environment.json").rename(tmp_path / ENVIRONMENTS / "s1.json")
    assert saved_with(tmp_path, "s1").packages == {"flask-thing": ("Flask_Thing", "1.0")}
    assert saved_with(tmp_path, "s2").packages == {}


def test_a_record_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    (tmp_path / ENVIRONMENTS).mkdir()
    (tmp_path / ENVIRONMENTS / "s1.json").write_text("{}")
    assert saved_with(tmp_path, "s1").packages == {}
