"""The server dies by SIGKILL: opening the notebook again has the state."""

from __future__ import annotations

from pathlib import Path

from harness.environment import Environment
from harness.records import flight, wait_for_checkpoint
from harness.server import running, wait_until_gone


def test_after_the_servers_death_opening_the_notebook_brings_the_state(
    jupyter_env: Environment, tmp_path: Path
) -> None:
    with running(jupyter_env, tmp_path / "notebooks") as server:
        notebook = server.open("analysis.ipynb")
        result = notebook.run("x = 41").ok()
        wait_for_checkpoint(notebook, result.execution_count)
        kernel_pid = flight(notebook).pid
        server.kill()
        wait_until_gone(kernel_pid)
    with running(jupyter_env, tmp_path / "notebooks") as server:
        notebook = server.open("analysis.ipynb")
        first = notebook.run("print('opened again')").ok()
        assert "server" in first.text
        if "restored" not in first.text:
            assert "%checkpoint restore" in first.prose
            notebook.run("%checkpoint restore").ok()
        assert notebook.run("x").ok().value == "41"


def test_after_an_orderly_shutdown_opening_the_notebook_is_clean_and_offers_the_state(
    jupyter_env: Environment, tmp_path: Path
) -> None:
    with running(jupyter_env, tmp_path / "notebooks") as server:
        notebook = server.open("analysis.ipynb")
        result = notebook.run("x = 41").ok()
        wait_for_checkpoint(notebook, result.execution_count)
        kernel_pid = flight(notebook).pid
        notebook.close()
        wait_until_gone(kernel_pid)
        notebook = server.open("analysis.ipynb")
        first = notebook.run("x")
        assert first.error == "NameError: name 'x' is not defined"
        assert "%checkpoint restore" in first.prose
        notebook.run("%checkpoint restore").ok()
        assert notebook.run("x").ok().value == "41"


def test_a_notebook_that_was_never_saved_shows_no_notice(
    jupyter_env: Environment, tmp_path: Path
) -> None:
    with running(jupyter_env, tmp_path / "notebooks") as server:
        assert server.open("new.ipynb").run("print(1)").ok().text == "1\n"
