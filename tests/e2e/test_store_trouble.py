"""A store that cannot be used costs the checkpoints, never the kernel, and is said once."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.environment import Environment
from harness.notebook import Notebook
from harness.server import JupyterServer, running

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting and chown need root")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", str(mount)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs here: {done.stderr.strip()}")
    yield mount
    subprocess.run(["umount", "--lazy", str(mount)], check=True)


def open_with_store(server: JupyterServer, path: str, store: Path) -> Notebook:
    name = "resilient-store-" + path.removesuffix(".ipynb").lower()[:60]
    return server.open(path, server.environment.kernelspec(name, store=str(store)))


def assert_works_and_says_once(notebook: Notebook, *words: str) -> None:
    """Cells run as ever; in all of them together, one notice says that checkpointing is off."""
    shown = []
    for number in range(6):
        result = notebook.run(f"x{number} = bytes(500_000)\nprint('ran {number}')").ok()
        assert result.text.endswith(f"ran {number}\n")
        shown.append(result.text.removesuffix(f"ran {number}\n"))
        notebook.run("import time; time.sleep(0.2)").ok()
    told = [text for text in shown if text]
    assert len(told) == 1, shown
    assert "checkpoint" in told[0].lower()
    for word in words:
        assert word in told[0]


@needs_root
def test_on_a_full_disk_the_kernel_works_and_says_once_that_checkpointing_is_off(
    server: JupyterServer, notebook_path: str, small_disk: Path
) -> None:
    (small_disk / "ballast").write_bytes(bytes(1_900_000))
    notebook = open_with_store(server, notebook_path, small_disk / "store")
    code = "import numpy as np\nx = np.random.default_rng(0).random(1_000_000)"
    texts = [notebook.run(code).ok().text]
    for _ in range(5):
        texts.append(
            notebook.run("import time; time.sleep(0.3); x[0] += 1; print('ran')").ok().text
        )
    told = [t.removesuffix("ran\n") for t in texts if t not in ("", "ran\n")]
    assert len(told) == 1, texts
    assert "No space left" in told[0] or "full" in told[0]
    notebook.close()


@needs_root
def test_on_a_read_only_store_the_kernel_works_and_says_once_that_checkpointing_is_off(
    server: JupyterServer, notebook_path: str, small_disk: Path
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    notebook = open_with_store(server, notebook_path, small_disk / "store")
    assert_works_and_says_once(notebook, str(small_disk))
    notebook.close()


def test_where_the_store_is_a_file_the_kernel_works_and_says_once_that_checkpointing_is_off(
    server: JupyterServer, notebook_path: str, tmp_path: Path
) -> None:
    (tmp_path / "store").write_text("in the way")
    notebook = open_with_store(server, notebook_path, tmp_path / "store")
    assert_works_and_says_once(notebook, str(tmp_path / "store"))
    notebook.close()


def test_a_store_of_ours_that_is_too_open_is_tightened_and_that_is_said_once(
    server: JupyterServer, notebook_path: str, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    store.chmod(0o777)
    notebook = open_with_store(server, notebook_path, store)
    assert_works_and_says_once(notebook, str(store), "700")
    assert store.stat().st_mode & 0o777 == 0o700
    notebook.close()


@needs_root
def test_a_store_of_another_user_is_refused_and_the_kernel_works(
    server: JupyterServer, notebook_path: str, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    store.mkdir(mode=0o777)
    os.chown(store, 12345, 12345)
    notebook = open_with_store(server, notebook_path, store)
    assert_works_and_says_once(notebook, str(store))
    assert not list(store.rglob("*.seg"))
    notebook.close()


def test_the_store_is_closed_to_others_and_so_is_the_key(
    jupyter_env: Environment, tmp_path: Path
) -> None:
    with running(jupyter_env, tmp_path / "notebooks") as server:
        server.open("a.ipynb").run("x = 1").ok()
    assert jupyter_env.store.stat().st_mode & 0o777 == 0o700
    for directory in jupyter_env.store.iterdir():
        if directory.is_dir():
            assert directory.stat().st_mode & 0o077 == 0, directory
    assert (jupyter_env.data / "checkpoint_key").stat().st_mode & 0o777 == 0o600
    assert not list(jupyter_env.store.rglob("checkpoint_key"))
