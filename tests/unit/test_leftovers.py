"""What no start can come back to is cleared in time; everything else is left alone."""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path

import pytest

from checkpoint_kernel import contract
from checkpoint_provisioner import leftovers
from checkpoint_provisioner.leftovers import DAY_S, clear

KERNEL_ID = "0c9a1f5e-1d2c-4d6e-9a53-cc2f5b1f1f10"
OF_KERNEL = f"kernel-{KERNEL_ID}"
SIBLING = f"work-0123456789ab.{KERNEL_ID[:8]}"


def shelf(root: Path, name: str, age_s: float, notebook: str | None = None) -> Path:
    directory = root / name
    for inside in (contract.SESSIONS, contract.DEATHS, contract.MANIFESTS, contract.SEGMENTS):
        (directory / inside).mkdir(parents=True)
    (directory / contract.MANIFESTS / "00000001-a.json").touch()
    about = {"notebook": notebook, "kernel_id": KERNEL_ID}
    (directory / contract.NOTEBOOK_FILE).write_text(json.dumps(about))
    then = time.time() - age_s
    os.utime(directory / contract.SESSIONS, (then, then))
    return directory


@pytest.mark.parametrize(
    ("name", "notebook"), [(OF_KERNEL, None), (SIBLING, "/work.ipynb")], ids=["alone", "sibling"]
)
def test_the_state_of_a_single_kernel_goes_after_two_weeks(
    tmp_path: Path, name: str, notebook: str | None
) -> None:
    directory = shelf(tmp_path, name, 13 * DAY_S, notebook)
    assert clear(tmp_path) == []
    assert directory.exists()
    clear(tmp_path, now=time.time() + 2 * DAY_S)
    assert not directory.exists()


def test_its_deaths_are_kept_for_three_months(tmp_path: Path) -> None:
    directory = shelf(tmp_path, OF_KERNEL, 15 * DAY_S)
    (directory / contract.DEATHS / "a.json").write_text("{}")
    clear(tmp_path)
    assert not (directory / contract.MANIFESTS).exists()
    assert not (directory / contract.SEGMENTS).exists()
    assert (directory / contract.DEATHS / "a.json").exists()
    clear(tmp_path, now=time.time() + 80 * DAY_S)
    assert not directory.exists()


@pytest.mark.parametrize("name", ["work-0123456789ab", "kernel-study-0123456789ab", "old.notes"])
def test_a_notebooks_directory_is_kept_however_old(tmp_path: Path, name: str) -> None:
    directory = shelf(tmp_path, name, 400 * DAY_S, "/work.ipynb")
    clear(tmp_path)
    assert (directory / contract.MANIFESTS).exists()


def test_a_directory_that_does_not_say_whose_it_is_is_kept(tmp_path: Path) -> None:
    directory = shelf(tmp_path, OF_KERNEL, 400 * DAY_S)
    (directory / contract.NOTEBOOK_FILE).write_text("{")
    clear(tmp_path)
    assert directory.exists()


def test_the_directory_of_a_living_kernel_is_kept(tmp_path: Path) -> None:
    directory = shelf(tmp_path, OF_KERNEL, 400 * DAY_S)
    with open(directory / contract.LOCK_FILE, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert clear(tmp_path) == []
        assert (directory / contract.MANIFESTS).exists()


def test_one_that_cannot_be_removed_is_named_and_the_others_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, other = shelf(tmp_path, "kernel-a", 99 * DAY_S), shelf(tmp_path, OF_KERNEL, 99 * DAY_S)
    remove = leftovers.shutil.rmtree

    def refuses(path: Path) -> None:
        if path == stuck:
            raise PermissionError(13, "Permission denied", str(path))
        remove(path)

    monkeypatch.setattr(leftovers.shutil, "rmtree", refuses)
    said = clear(tmp_path)
    assert len(said) == 1
    assert str(stuck) in said[0]
    assert not other.exists()
