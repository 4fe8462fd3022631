"""The notebook's directory: private, locked, and a kernel that starts without it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from checkpoint_kernel import contract
from checkpoint_provisioner import home
from checkpoint_provisioner.home import Holder, open_home


@pytest.fixture(autouse=True)
def _temporary_directories_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def holder(kernel_id: str = "kernel-one", server_pid: int | None = None) -> Holder:
    return Holder(kernel_id, os.getpid(), server_pid or os.getppid(), independent=False)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_new_home_is_private_and_locked(tmp_path: Path) -> None:
    found = open_home(tmp_path / "store" / "n", holder(), "/n.ipynb")
    assert (mode(tmp_path / "store"), mode(found.directory)) == (0o700, 0o700)
    assert found.lock_fd is not None
    assert not os.get_inheritable(found.lock_fd)
    assert (found.saving, found.warnings) == (True, ())
    os.close(found.lock_fd)


def test_a_second_kernel_gets_a_sibling_and_is_told(tmp_path: Path) -> None:
    first = open_home(tmp_path / "n", holder("one"), None)
    second = open_home(tmp_path / "n", holder("two-and-more"), None)
    assert second.directory == tmp_path / "n.two-and-"
    assert "Another kernel" in second.warnings[0]
    for one in (first, second):
        assert one.lock_fd is not None
        os.close(one.lock_fd)


def test_a_holder_whose_server_is_gone_is_waited_for(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path\n"
        "from checkpoint_provisioner.home import Holder, open_home\n"
        # Its server's pid is not its parent's: the server is gone.
        "old = Holder('old', os.getpid(), 1, False)\n"
        f"h = open_home(Path({str(tmp_path / 'n')!r}), old, None)\n"
        "print('held', flush=True); time.sleep(0.7)"
    )
    old = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert old.stdout is not None
    assert old.stdout.readline() == "held\n"
    found = open_home(tmp_path / "n", holder("new"), None)
    assert found.directory == tmp_path / "n"
    assert old.wait() == 0
    assert found.lock_fd is not None
    os.close(found.lock_fd)


@pytest.mark.parametrize("open_mode", [0o775, 0o2777])
def test_an_open_directory_of_ours_is_closed_and_said(tmp_path: Path, open_mode: int) -> None:
    directory = tmp_path / "n"
    directory.mkdir()
    directory.chmod(open_mode)
    found = open_home(directory, holder(), None)
    assert mode(directory) == 0o700
    assert f"{open_mode:o}" in found.warnings[0]
    assert found.saving
    assert found.lock_fd is not None
    os.close(found.lock_fd)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    directory = tmp_path / "n"
    directory.mkdir(mode=0o700)
    os.chown(directory, 12345, -1)
    found = open_home(directory, holder(), None)
    assert not found.saving
    assert "12345" in found.warnings[0]
    assert list(directory.iterdir()) == []


def test_a_file_in_the_way_turns_checkpointing_off_and_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = open_home(tmp_path / "file" / "n", holder(), None)
    assert (found.saving, found.lock_fd) == (False, None)
    assert str(tmp_path / "file") in found.warnings[0]
    assert mode(found.directory) == 0o700
    again = open_home(tmp_path / "file" / "n", holder(), None, fallback=found.directory)
    assert again.directory == found.directory


def test_a_fallback_that_others_can_enter_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    planted = tmp_path / "planted"
    planted.mkdir()
    planted.chmod(0o777)
    found = open_home(tmp_path / "file" / "n", holder(), None, fallback=planted)
    assert found.directory != planted


def test_a_full_disk_turns_checkpointing_off_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(home.durable, "publish", full)
    found = open_home(tmp_path / "n", holder(), None)
    assert not found.saving
    assert "No space left" in found.warnings[0]
    monkeypatch.undo()
    free = open_home(tmp_path / "n", holder("other"), None)  # and the lock was let go
    assert free.directory == tmp_path / "n"
    assert (free.directory / contract.NOTEBOOK_FILE).exists()
    assert free.lock_fd is not None
    os.close(free.lock_fd)
