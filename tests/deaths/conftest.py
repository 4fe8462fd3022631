"""Kernels to kill: real ones, started by jupyter_client through the provisioner."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from victim import Victim


def pytest_addoption(parser: pytest.Parser) -> None:
    """Only heard where this directory is named on the command line."""
    parser.addoption("--matrix", metavar="FILE", help="write the verdicts as a table")


@pytest.fixture(scope="session", autouse=True)
def signals_that_end() -> None:
    """Under nohup, or in the background of a script, some are ignored, and kernels inherit that."""
    for number in (signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def private_directories(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """Jupyter's directories below `root`; no notebook of an outer server."""
    for variable, name in (
        ("JUPYTER_DATA_DIR", "data"),
        ("JUPYTER_RUNTIME_DIR", "runtime"),
        ("IPYTHONDIR", "ipython"),
        ("TMPDIR", "."),
    ):
        monkeypatch.setenv(variable, str(root / name))
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Victim]]:
    """Starts a kernel in directories of this test alone; it is gone when the test ends."""
    private_directories(monkeypatch, tmp_path)
    victims: list[Victim] = []

    def one(**given: Any) -> Victim:
        victims.append(Victim(tmp_path, **given))
        return victims[-1]

    yield one
    for victim in victims:
        victim.close()
