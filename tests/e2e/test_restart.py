"""A restart that somebody asked for is clean and offers the state; the config can say otherwise."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from harness.environment import Environment
from harness.notebook import Notebook
from harness.records import wait_for_checkpoint
from harness.server import JupyterServer


def open_with(server: JupyterServer, path: str, **config: object) -> Notebook:
    """A notebook on a kernelspec of its own with this config."""
    name = "resilient-" + "-".join(f"{key}-{value}" for key, value in config.items())
    return server.open(path, server.environment.kernelspec(name.replace("_", "-"), **config))


@pytest.fixture
def saved(notebook: Notebook) -> Notebook:
    """A notebook with `x = 41` checkpointed."""
    result = notebook.run("x = 41").ok()
    wait_for_checkpoint(notebook, result.execution_count)
    return notebook


def test_a_restart_by_the_user_gives_a_clean_namespace(saved: Notebook) -> None:
    saved.restart()
    assert saved.run("x").error == "NameError: name 'x' is not defined"


def test_a_restart_by_the_user_starts_numbering_at_one(saved: Notebook) -> None:
    saved.restart()
    assert saved.run("1").execution_count == 1


def test_after_a_restart_by_the_user_one_line_tells_how_to_bring_the_variables_back(
    saved: Notebook,
) -> None:
    saved.restart()
    shown = saved.run("print('own output')").ok().text.splitlines()
    assert shown[-1] == "own output"
    assert len(shown) == 2, shown
    assert "%checkpoint restore" in shown[0]
    assert saved.run("print('later')").ok().text == "later\n"


def test_restore_by_hand_brings_the_variables_back_after_a_restart(saved: Notebook) -> None:
    saved.restart()
    saved.run("%checkpoint restore").ok()
    assert saved.run("x").ok().value == "41"


def test_after_a_clean_restart_restore_means_the_state_from_before_it(
    server: JupyterServer, notebook_path: str
) -> None:
    # `keep` is small and the cells are many: they must not push the day's work out.
    notebook = open_with(server, notebook_path, keep=2)
    result = notebook.run("work = 'a day'").ok()
    wait_for_checkpoint(notebook, result.execution_count)
    notebook.restart()
    for number in range(5):
        result = notebook.run(f"work = 'scratch {number}'").ok()
        wait_for_checkpoint(notebook, result.execution_count)
    notebook.run("%checkpoint restore").ok()
    assert notebook.run("work").ok().value == "'a day'"
    notebook.close()


def test_restore_always_restores_after_a_restart_by_the_user_too(
    server: JupyterServer, notebook_path: str
) -> None:
    notebook = open_with(server, notebook_path, restore="always")
    result = notebook.run("x = 41").ok()
    wait_for_checkpoint(notebook, result.execution_count)
    notebook.restart()
    first = notebook.run("x").ok()
    assert first.value == "41"
    assert "restored" in first.text
    notebook.close()


def test_restore_never_starts_clean_after_a_death_and_offers_the_state(
    server: JupyterServer, notebook_path: str
) -> None:
    notebook = open_with(server, notebook_path, restore="never")
    result = notebook.run("x = 41").ok()
    wait_for_checkpoint(notebook, result.execution_count)
    notebook.kill_kernel()
    first = notebook.run("x")
    assert first.error == "NameError: name 'x' is not defined"
    assert "killed" in first.text
    assert "%checkpoint restore" in first.prose
    notebook.run("%checkpoint restore").ok()
    assert notebook.run("x").ok().value == "41"
    notebook.close()


@pytest.fixture(scope="module")
def hung(server: JupyterServer) -> Iterator[Notebook]:
    """A kernel that answered neither interrupt nor shutdown, restarted by the user."""
    notebook = server.open("hung.ipynb")
    result = notebook.run("x = 41").ok()
    wait_for_checkpoint(notebook, result.execution_count)
    # One C call of a day, which lets neither another thread nor a signal handler run.
    cell_id = notebook.start("import time\nprint('in')\ntime.sleep(1)\nsum(range(10**13))")
    notebook.wait_shown(cell_id, "in")
    time.sleep(1.5)
    notebook.restart(seconds=90)
    yield notebook
    notebook.close()


def test_a_hung_kernel_restarts_clean_and_offers_the_state(hung: Notebook) -> None:
    first = hung.run("x")
    assert first.error == "NameError: name 'x' is not defined"
    assert "%checkpoint restore" in first.prose


def test_a_hung_kernel_is_on_record_as_hung(hung: Notebook, jupyter_env: Environment) -> None:
    deaths = jupyter_env.checkpoint_json("deaths")
    assert [d["cause"] for d in deaths if str(d["notebook"]).endswith("hung.ipynb")] == ["hung"]


def test_restore_by_hand_works_after_a_hang(hung: Notebook) -> None:
    hung.run("%checkpoint restore").ok()
    assert hung.run("x").ok().value == "41"


def test_quitting_from_a_cell_is_told_and_not_called_a_crash(
    saved: Notebook, jupyter_env: Environment
) -> None:
    saved.run_to_death("exit()")
    first = saved.run("print('still here')").ok()
    assert first.stdout.endswith("still here\n")
    assert "killed" not in first.text
