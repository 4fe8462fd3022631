"""Shut down, culled or sent SIGTERM: the last state is saved, wherever the cell is."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.environment import Environment
from harness.notebook import Notebook
from harness.records import checkpoints, sessions
from harness.server import JupyterServer, running, wait_until_gone

from checkpoint_kernel import session

# Cells that do not end when they are interrupted, as shutting down begins with.
STUBBORN = (
    "import time\n"
    "while True:\n"
    "    try:\n"
    "        n += 1; time.sleep(0.01)\n"
    "        if n % 50 == 0: print(n, flush=True)\n"
    "    except KeyboardInterrupt:\n"
    "        pass"
)
# A call of C code that lets other threads run, but no signal handler.
IN_C = (
    "import hashlib\nn = 50\nprint(n, flush=True)\nhashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"
)


@pytest.fixture
def reopened(server: JupyterServer, notebook_path: str) -> Iterator[list[Notebook]]:
    """Notebooks to be closed at the end, should the test not do it."""
    opened: list[Notebook] = []
    yield opened
    for notebook in opened:
        notebook.close()


def begin(notebook: Notebook, cell: str) -> int:
    """Run a cell that does not end, until it has printed; returns the kernel's pid."""
    notebook.run("n = 0").ok()
    pid = notebook.kernel_pid
    notebook.wait_shown(notebook.start(cell), "50\n")
    assert not [one for one in checkpoints(notebook) if one.inside_cell]
    return pid


def assert_offered(server: JupyterServer, path: str, least: int) -> None:
    """A new kernel for that notebook is clean, and `%checkpoint restore` brings n back."""
    notebook = server.open(path)
    first = notebook.run("n")
    assert first.error == "NameError: name 'n' is not defined"
    assert "%checkpoint restore" in first.prose
    notebook.run("%checkpoint restore").ok()
    assert notebook.eval("n") >= least
    notebook.close()


@pytest.mark.parametrize("cell", [STUBBORN, IN_C], ids=["python", "c"])
def test_a_kernel_that_is_deleted_while_a_cell_runs_has_saved_what_the_cell_had(
    server: JupyterServer, notebook_path: str, cell: str
) -> None:
    notebook = server.open(notebook_path)
    pid = begin(notebook, cell)
    directory, _ = sessions(notebook)[-1]
    notebook.close()
    wait_until_gone(pid)
    ended = session.load_exit(directory)
    assert ended is not None
    assert ended.kind == "shutdown"
    assert_offered(server, notebook_path, 50)


@pytest.mark.parametrize("cell", [STUBBORN, IN_C], ids=["python", "c"])
def test_sigterm_from_a_batch_system_saves_what_the_cell_had(
    server: JupyterServer, notebook_path: str, cell: str
) -> None:
    notebook = server.open(notebook_path)
    pid = begin(notebook, cell)
    deaths = notebook.deaths_seen
    os.kill(pid, signal.SIGTERM)
    wait_until_gone(pid)
    notebook.wait_autorestart(deaths)
    first = notebook.run("print(n)").ok()
    assert "SIGTERM" in first.prose
    assert int(first.text.splitlines()[-1]) >= 50
    notebook.close()


def test_a_last_checkpoint_that_takes_longer_than_jupyter_waits_is_waited_for(
    server: JupyterServer, notebook_path: str
) -> None:
    notebook = server.open(notebook_path)
    notebook.run(
        "import time\n"
        "class Slow:\n"
        "    def __reduce__(self):\n"
        "        time.sleep(6)\n"  # Jupyter's own patience ends after 5
        "        return (int, (50,))"
    ).ok()
    pid = notebook.kernel_pid
    notebook.run("n = Slow()").ok()
    notebook.close()
    wait_until_gone(pid)
    assert_offered(server, notebook_path, 50)


def test_a_server_that_is_stopped_has_all_kernels_save_first(
    jupyter_env: Environment, tmp_path: Path
) -> None:
    with running(jupyter_env, tmp_path) as server:
        pids = []
        for path, cell in (("a.ipynb", STUBBORN), ("b.ipynb", IN_C)):
            pids.append(begin(server.open(path), cell))
        idle = server.open("c.ipynb")
        idle.run("import numpy as np\nn = 50\nbig = np.ones(30_000_000)").ok()
        pids.append(idle.kernel_pid)
        os.kill(server.pid, signal.SIGTERM)
        for pid in pids:
            wait_until_gone(pid, 30)
    with running(jupyter_env, tmp_path) as server:
        for path in ("a.ipynb", "b.ipynb", "c.ipynb"):
            assert_offered(server, path, 50)


def test_a_kernel_that_is_culled_has_saved_its_last_state(
    jupyter_env: Environment, tmp_path: Path
) -> None:
    # Long enough that none is culled while it starts, on a busy machine.
    options = ("--MappingKernelManager.cull_idle_timeout=6",)
    options += ("--MappingKernelManager.cull_interval=1", "--MappingKernelManager.cull_busy=True")
    with running(jupyter_env, tmp_path, options=options) as server:
        pids = []
        for path, cell in (("a.ipynb", "n = 50"), ("b.ipynb", IN_C)):
            notebook = server.open(path)
            pids.append(notebook.kernel_pid)
            notebook.start(cell)
        time.sleep(0.5)
        for notebook in list(server._open):
            notebook.disconnect()
        for pid in pids:
            wait_until_gone(pid, 30)
    with running(jupyter_env, tmp_path) as server:
        for path in ("a.ipynb", "b.ipynb"):
            assert_offered(server, path, 50)


def test_a_kernel_that_is_restarted_while_a_cell_runs_does_not_wait_for_a_checkpoint(
    notebook: Notebook,
) -> None:
    begin(notebook, IN_C)
    notebook.restart()
    reasons = [one.reason for one in checkpoints(notebook)]
    assert not {"SIGTERM", "shutdown"} & set(reasons)


def test_the_handler_of_a_user_is_left_alone(server: JupyterServer, notebook_path: str) -> None:
    notebook = server.open(notebook_path)
    pid = begin(
        notebook,
        "import signal, time, pathlib\n"
        "signal.signal(signal.SIGTERM, lambda *_: pathlib.Path('handled').touch())\n" + STUBBORN,
    )
    notebook.close()
    wait_until_gone(pid)
    assert (server.notebooks / "handled").exists()
    assert_offered(server, notebook_path, 50)
