"""Keeps every test out of the user's HOME, and lends a server and notebooks to those that ask."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.environment import Environment, jupyter_directories, processes_of
from harness.notebook import Notebook
from harness.server import JupyterServer, running

_ROOT = pytest.StashKey[Path]()
_BEFORE = pytest.StashKey[dict[str, str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Point Jupyter's directories at a temporary place before any test module is imported."""
    root = Path(tempfile.mkdtemp(prefix="checkpoint-kernel-tests-"))
    config.stash[_ROOT] = root
    config.stash[_BEFORE] = dict(os.environ)
    os.environ.update(jupyter_directories(root))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Put the environment back and leave nothing behind."""
    os.environ.clear()
    os.environ.update(config.stash[_BEFORE])
    shutil.rmtree(config.stash[_ROOT], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test's marker is the directory it lies in."""
    here = Path(__file__).parent
    for item in items:
        directory = item.path.relative_to(here).parts[0]
        if directory in ("unit", "crash", "deaths", "e2e"):
            item.add_marker(directory)


@pytest.fixture(scope="session")
def jupyter_env(pytestconfig: pytest.Config) -> Iterator[Environment]:
    """A Jupyter installation with the kernelspec, installed by its own command.

    When all tests are over, no process that belongs to it may be left.
    """
    environment = Environment(pytestconfig.stash[_ROOT])
    environment.install()
    yield environment
    deadline = time.monotonic() + 5
    while (left := processes_of(environment)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left, f"processes that outlived their kernels: {left}"


@pytest.fixture(scope="session")
def server(
    jupyter_env: Environment, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[JupyterServer]:
    """One server for many tests; each opens a notebook of its own."""
    with running(jupyter_env, tmp_path_factory.mktemp("notebooks")) as one:
        yield one


@pytest.fixture
def notebook_path(request: pytest.FixtureRequest) -> str:
    """A notebook's name of this test alone."""
    return re.sub(r"\W+", "_", request.node.name) + ".ipynb"


@pytest.fixture
def notebook(server: JupyterServer, notebook_path: str) -> Iterator[Notebook]:
    """A notebook open on the kernel "Python 3.x (resilient)"; its kernel is shut down after."""
    one = server.open(notebook_path)
    yield one
    one.close()
