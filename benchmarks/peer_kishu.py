"""kishu (VLDB 2025), in a virtual environment beside ours that shares all that both need.

It installs back-ports named `typing` and `dataclasses`, which nobody wants beside his own
packages. Its defects are told in shared/bench/peers.md; here it is only driven.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path

from harness.environment import Environment
from kernels import Kernel, Start
from peers import HERE, STOCK, Peer

VERSION = "0.3.4"
_PLACE = HERE / ".venv-kishu"
_NOTEBOOK = {
    "cells": [
        {
            "cell_type": "code",
            "execution_count": None,
            "id": "a",
            "metadata": {},
            "outputs": [],
            "source": "x = 1",
        }
    ],
    "metadata": {},
    "nbformat": 4,
    "nbformat_minor": 5,
}


def install() -> str | None:
    """Install it unless it is there; why it cannot be had, or None."""
    if _python().exists():
        probe = [str(_python()), "-c", "import kishu, ipykernel"]
        if _shared_is_ours() and subprocess.run(probe, capture_output=True).returncode == 0:
            return None
    venv = [sys.executable, "-m", "venv", "--clear", "--without-pip", str(_PLACE)]
    made = subprocess.run(venv, capture_output=True, text=True)
    if made.returncode != 0:
        return f"no virtual environment for kishu: {_last_line(made.stdout + made.stderr)}"
    _shared().write_text(_ours())
    pip = [sys.executable, "-m", "pip", "--python", str(_python()), "install", "-q"]
    done = subprocess.run([*pip, f"kishu=={VERSION}"], capture_output=True, text=True)
    if done.returncode != 0:
        return f"pip cannot install kishu: {_last_line(done.stderr)}"
    return None


def _python() -> Path:
    return _PLACE / "bin" / "python"


def _shared() -> Path:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return _PLACE / "lib" / version / "site-packages" / "shared.pth"


def _ours() -> str:
    return sysconfig.get_path("purelib") + "\n"


def _shared_is_ours() -> bool:
    return _shared().exists() and _shared().read_text() == _ours()


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1]


class Kishu(Peer):
    """`init_kishu` in the notebook, default settings; `checkout` of the last commit."""

    name = "kishu"
    saves = True

    def __init__(self, environment: Environment, directory: Path) -> None:
        super().__init__(environment, directory)
        self._notebook = directory / "store" / "nb.ipynb"
        self._notebook.parent.mkdir(parents=True)
        self._notebook.write_text(json.dumps(_NOTEBOOK))
        (directory / ".kishu").mkdir()

    def variables(self) -> Mapping[str, str]:
        # The test mode only leaves out the waits for a browser that saves the notebook.
        own = {"KISHU_PATH_ROOT": str(self.directory), "ENV_KISHU_TEST_MODE": "1"}
        return {**super().variables(), **own}

    def stock(self) -> Start:
        return Start(STOCK, self.environment.variables, python=str(_python()))

    def start(self) -> Start:
        return Start(STOCK, self.variables(), python=str(_python()))

    def attach(self, kernel: Kernel) -> None:
        kernel.hidden(f"from kishu import init_kishu; init_kishu({str(self._notebook)!r})")

    def bring_back(self, kernel: Kernel) -> None:
        self.attach(kernel)
        kernel.hidden(f"_kishu.checkout({self._last_commit()!r})")

    def files(self) -> Iterable[Path]:
        return self._notebook.parent.glob("*kishudb*")

    def _last_commit(self) -> str:
        connection = sqlite3.connect(self._notebook.with_name("nb.kishudb"))
        try:
            rows = connection.execute("select name from sqlite_master where type = 'table'")
            table = next(
                name
                for (name,) in rows
                if name.startswith("commit") and "graph" not in name and "variable" not in name
            )
            found = connection.execute(
                f"select commit_id from {table} order by rowid desc limit 1"
            ).fetchone()
            return str(found[0])
        finally:
            connection.close()
