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


def test_deaths_in_a_store_that_an_installed_kernelspec_configures_are_found_oldest_first(
    tmp_path: Path,
) -> None:
    data, elsewhere = tmp_path / "data", tmp_path / "a disk"
    config = {"store": str(elsewhere)}
    stanza = {"provisioner_name": contract.PROVISIONER_NAME, "config": config}
    spec = data / "kernels" / "mine" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": [], "metadata": {"kernel_provisioner": stanza}}))
    for root, times in ((elsewhere, (1, 3)), (data / contract.STORE_DIRECTORY, (2,))):
        deaths = root / "notebook" / contract.DEATHS
        deaths.mkdir(parents=True)
        for second in times:
            record = {"time": f"2026-01-01T00:00:0{second}.000+00:00", "cause": "killed"}
            (deaths / f"{second}.json").write_text(json.dumps(record))
    done = run(sys.executable, "-m", "checkpoint_provisioner.cli", "deaths", "--json", data=data)
    assert done.returncode == 0, done.stderr
    assert [record["time"][18] for record in json.loads(done.stdout)] == ["1", "2", "3"]


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
