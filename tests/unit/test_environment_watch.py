"""What is installed while a session runs is noticed after a cell, and its beginning is kept."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from checkpoint_kernel import contract, environment, environment_watch
from checkpoint_kernel.environment import Environment
from checkpoint_kernel.environment_watch import EnvironmentWatch

pytestmark = pytest.mark.unit


def install(site: Path, name: str, version: str) -> Path:
    place = site / f"{name}-{version}.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
    return place


def wait_for(path: Path, wanted: Callable[[Environment], bool]) -> Environment:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = environment.load(path)
        if found is not None and wanted(found):
            return found
        time.sleep(0.01)
    raise AssertionError(f"{path} does not say it: {environment.load(path)}")


def test_a_package_that_a_cell_installs_is_on_record_beside_what_the_session_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    old = install(site, "suspect", "1.0")
    monkeypatch.setattr(environment_watch, "_LOOK_EVERY_S", 0.01)
    monkeypatch.syspath_prepend(str(site))
    watch = EnvironmentWatch(tmp_path, "s", "/n.ipynb")
    watch.start()
    path = tmp_path / contract.ENVIRONMENT_FILE
    first = wait_for(path, lambda found: True)
    assert first.now.packages["suspect"] == "1.0"
    assert first.at_start is None
    assert (first.python.prefix, first.notebook) == (sys.prefix, "/n.ipynb")
    (old / "METADATA").unlink()
    old.rmdir()
    install(site, "suspect", "2.0")
    watch.cell_ended()
    second = wait_for(path, lambda found: found.now.packages["suspect"] == "2.0")
    assert second.at_start == first.now
    (site / "data").touch()  # a new date, and nothing new of packages
    watch.cell_ended()
    third = wait_for(path, lambda found: found.watched != second.watched)
    assert (third.now, third.at_start) == (second.now, first.now)
    assert watch.trouble is None


def test_a_disk_that_takes_nothing_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment_watch, "_LOOK_EVERY_S", 0.01)
    directory = tmp_path / "not there"
    watch = EnvironmentWatch(directory, "s", None)
    watch.start()
    deadline = time.monotonic() + 20
    while watch.trouble is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "FileNotFoundError" in str(watch.trouble)
    directory.mkdir()
    watch.cell_ended()
    wait_for(directory / contract.ENVIRONMENT_FILE, lambda found: True)
