"""The command as users meet it: below `jupyter`, in a pipe, from a wheel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from checkpoint_kernel import contract

ROOT = Path(__file__).parents[2]


def run(*command: str, data: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env={**os.environ, "JUPYTER_DATA_DIR": str(data)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_it_is_a_subcommand_of_jupyter(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("jupyter")
    if not script.exists():
        pytest.skip("there is no `jupyter` beside this Python")
    done = run(str(script), "checkpoint", "list", "--json", data=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_a_mistake_is_one_line_without_a_traceback(tmp_path: Path) -> None:
    done = run(sys.executable, "-m", "checkpoint_provisioner.cli", "show", "x", data=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("jupyter checkpoint: ")
    assert done.stderr.count("\n") == 1


def test_a_reader_that_closes_the_pipe_gets_no_traceback(tmp_path: Path) -> None:
    for number in range(2000):  # more than a pipe holds
        directory = tmp_path / contract.STORE_DIRECTORY / f"notebook-{number}"
        (directory / contract.DEATHS).mkdir(parents=True)
    command = f"{sys.executable} -m checkpoint_provisioner.cli list --json | head -n 1"
    done = run("sh", "-c", command, data=tmp_path)
    assert done.stdout == "[\n"
    assert done.stderr == ""


def test_the_wheel_ships_the_template_and_no_kernelspec(tmp_path: Path) -> None:
    program = f"from hatchling.build import build_wheel; print(build_wheel({str(tmp_path)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    names = zipfile.ZipFile(tmp_path / done.stdout.split()[-1]).namelist()
    assert not [name for name in names if "share/jupyter" in name]
    for file in ("kernel.json", "logo-32x32.png", "logo-64x64.png", "logo-svg.svg"):
        assert f"checkpoint_provisioner/kernelspecs/{file}" in names
