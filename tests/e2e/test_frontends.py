"""More than one way in: nbclient, a second server on the same notebook, several tabs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from harness.environment import KERNEL_NAME, Environment
from harness.records import sessions, wait_for_checkpoint
from harness.server import JupyterServer, is_alive, running
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError


def client(*sources: str) -> NotebookClient:
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    notebook = nbformat.v4.new_notebook(cells=cells)
    return NotebookClient(notebook, kernel_name=KERNEL_NAME, timeout=60)


def test_nbclient_runs_a_notebook_with_exactly_its_own_outputs(jupyter_env: Environment) -> None:
    runner = client("x = 41", "print('hello')", "x + 1")
    runner.execute()
    outputs = [cell.outputs for cell in runner.nb.cells]
    assert outputs[0] == []
    assert [o.text for o in outputs[1]] == ["hello\n"]
    assert [o.data["text/plain"] for o in outputs[2]] == ["42"]
    assert [cell.execution_count for cell in runner.nb.cells] == [1, 2, 3]


def test_a_death_under_nbclient_is_raised_there_and_on_record(jupyter_env: Environment) -> None:
    before = len(jupyter_env.checkpoint_json("deaths"))
    runner = client("x = 41", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(DeadKernelError):
        runner.execute()
    deaths = jupyter_env.checkpoint_json("deaths")
    assert len(deaths) == before + 1
    assert deaths[-1]["cause"] == "killed"
    assert deaths[-1]["cell"] == 2
    assert deaths[-1]["line"] == 2


def test_two_kernels_on_one_notebook_both_work_and_the_second_is_told(
    server: JupyterServer, jupyter_env: Environment, notebook_path: str
) -> None:
    one = server.open(notebook_path)
    result = one.run("who = 'first'").ok()
    wait_for_checkpoint(one, result.execution_count)
    with running(jupyter_env, server.notebooks) as second_server:
        two = second_server.open(notebook_path)
        first_cell = two.run("who = 'second'").ok()
        assert "another kernel" in first_cell.text.lower()
        two.run("who").ok()
        one.kill_kernel()
        assert one.run("who").ok().value == "'first'"
        assert two.run("who").ok().value == "'second'"
    one.close()


def test_a_second_tab_shares_the_kernel_and_sees_no_notice(
    server: JupyterServer, notebook_path: str
) -> None:
    one = server.open(notebook_path)
    one.run("x = 41").ok()
    two = server.open(notebook_path)
    assert two.kernel_id == one.kernel_id
    assert two.run("print(x)").ok().text == "41\n"
    one.close()


def test_closing_a_notebook_leaves_no_process(server: JupyterServer, notebook_path: str) -> None:
    notebook = server.open(notebook_path)
    notebook.run("x = 1").ok()
    pid = notebook.kernel_pid
    _, session = sessions(notebook)[-1]
    notebook.close()
    assert not is_alive(pid)
    assert not is_alive(session.supervisor_pid)


def test_the_kernel_is_offered_by_the_server_under_its_name(server: JupyterServer) -> None:
    specs = server.request("GET", "/api/kernelspecs")["kernelspecs"]
    spec = specs[KERNEL_NAME]
    assert spec["spec"]["display_name"].endswith("(resilient)")
    assert "logo-64x64" in spec["resources"] or "logo-svg" in spec["resources"]
    assert spec["spec"]["argv"][1:] == ["-m", "checkpoint_kernel", "-f", "{connection_file}"]


def test_interrupt_stops_a_cell_and_keeps_the_kernel(
    server: JupyterServer, notebook_path: str
) -> None:
    notebook = server.open(notebook_path)
    notebook.run("x = 41").ok()
    cell_id = notebook.start("import time\nprint('in', flush=True)\ntime.sleep(60)")
    notebook.wait_shown(cell_id, "in")
    notebook.interrupt()
    assert notebook.finish(cell_id, 20).error == "KeyboardInterrupt: "
    assert notebook.run("x").ok().value == "41"
    notebook.close()


def test_input_is_read_from_the_frontend_as_ever(jupyter_env: Environment, tmp_path: Path) -> None:
    # allow_stdin is False here, so ipykernel's own error must come through unchanged.
    with running(jupyter_env, tmp_path / "n") as server:
        assert "StdinNotImplementedError" in server.open("a.ipynb").run("input()").error
