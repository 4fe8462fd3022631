"""Server and kernel in two environments, each with its own half; a missing half is told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from harness.environment import Environment
from harness.records import wait_for_checkpoint
from harness.server import JupyterServer

ROOT = Path(__file__).parents[2]


def make_venv(path: Path, *arguments: str) -> Path:
    """A new virtual environment of this Python; the path of its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", *arguments, str(path)], check=True)
    return path / "bin" / "python"


def pip_install(python: Path, *what: str) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", *what]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def kernel_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment for kernels: ours and its dependencies, but no Jupyter server."""
    python = make_venv(tmp_path_factory.mktemp("kernel-env") / "venv")
    pip_install(python, "--editable", str(ROOT))
    return python


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with nothing in it."""
    return make_venv(tmp_path_factory.mktemp("bare-env") / "venv", "--without-pip")


@pytest.fixture
def kernel_name(jupyter_env: Environment, kernel_python: Path) -> str:
    jupyter_env.install("--name", "resilient-elsewhere", "--python", str(kernel_python))
    return "resilient-elsewhere"


def test_a_kernel_of_another_environment_comes_back_after_a_kill(
    server: JupyterServer, notebook_path: str, kernel_name: str, kernel_python: Path
) -> None:
    notebook = server.open(notebook_path, kernel_name)
    assert notebook.eval("__import__('sys').prefix") == str(kernel_python.parents[1])
    result = notebook.run("x = 41\ndef f(): return x").ok()
    wait_for_checkpoint(notebook, result.execution_count)
    notebook.kill_kernel()
    first = notebook.run("x = 42\nf()").ok()
    assert first.value == "42"
    assert "restored" in first.text
    notebook.close()


def test_the_installed_kernelspec_names_that_environments_python(
    jupyter_env: Environment, kernel_name: str, kernel_python: Path
) -> None:
    path = jupyter_env.prefix / "share" / "jupyter" / "kernels" / kernel_name / "kernel.json"
    assert json.loads(path.read_text())["argv"][0] == str(kernel_python)


def test_a_missing_kernel_half_is_told_in_the_start_error(
    server: JupyterServer, notebook_path: str, jupyter_env: Environment, bare_python: Path
) -> None:
    # Installed while that environment was whole; emptied since, as environments are.
    name = jupyter_env.kernelspec("resilient-emptied")
    path = jupyter_env.prefix / "share" / "jupyter" / "kernels" / name / "kernel.json"
    spec = json.loads(path.read_text())
    spec["argv"][0] = str(bare_python)
    path.write_text(json.dumps(spec))
    with pytest.raises(requests.HTTPError) as refused:
        server.create_session(notebook_path, name)
    said = str(refused.value)
    assert "checkpoint" in said
    assert str(bare_python) in said
    assert "pip install" in said


def test_install_refuses_a_python_without_the_kernel_half(
    jupyter_env: Environment, bare_python: Path
) -> None:
    done = jupyter_env.checkpoint(
        "install",
        *("--prefix", str(jupyter_env.prefix), "--name", "resilient-bare"),
        *("--python", str(bare_python)),
        check=False,
    )
    assert done.returncode != 0
    assert str(bare_python) in done.stderr
    assert "pip install" in done.stderr
    assert "Traceback" not in done.stderr
