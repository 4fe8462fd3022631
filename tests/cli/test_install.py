"""`jupyter checkpoint install`, run as users run it, seen by the real KernelSpecManager."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

from checkpoint_kernel.contract import ENV_SPEC_DIR
from checkpoint_provisioner import config

ROOT = Path(__file__).parents[2]
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
NAME = "python3-resilient"

# What Jupyter sees in this environment, asked in a process of its own.
_LOOK = """
import json, sys
from jupyter_client.kernelspec import KernelSpecManager
spec = KernelSpecManager().get_kernel_spec(sys.argv[1])
print(json.dumps([spec.resource_dir, spec.to_dict()]))
"""


class Machine:
    """A user with a home, Jupyter directories and a PATH of their own."""

    def __init__(self, directory: Path) -> None:
        self.home = directory / "home"
        self.data = directory / "data"
        self.bin = directory / "bin"
        self.prefix = directory / "prefix"
        for each in (self.home, self.data, self.bin):
            each.mkdir()
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "CONDA"))}
        self.env = {
            **kept,
            "HOME": str(self.home),
            "JUPYTER_DATA_DIR": str(self.data),
            "JUPYTER_PATH": str(self.prefix / "share/jupyter"),
            "PATH": f"{self.bin}{os.pathsep}/usr/bin{os.pathsep}/bin",
            "PYTHONNOUSERSITE": "1",
        }

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "checkpoint_provisioner.cli", *words],
            env={**self.env, **env},
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def look_up(self, name: str = NAME) -> tuple[Path, dict[str, Any]]:
        done = subprocess.run(
            [sys.executable, "-c", _LOOK, name],
            env=self.env,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        where, spec = json.loads(done.stdout)
        return Path(where), spec

    def server(self, python: str | Path, command: str = "jupyter-lab") -> Path:
        script = self.bin / command
        script.write_text(f"#!{python}\nprint('never run')\n")
        script.chmod(0o755)
        return script


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with neither half, and no Jupyter."""
    directory = tmp_path_factory.mktemp("bare") / "env"
    venv.create(directory, with_pip=False, symlinks=True)
    return directory / "bin" / "python"


def test_the_installed_kernelspec_is_what_the_frontend_finds(machine: Machine) -> None:
    machine.server(sys.executable)
    limits = ("--memory-limit", "8G", "--cpu-limit", "1.5", "--pids-limit", "500", "--nice", "4")
    done = machine.run("install", "--user", *limits)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    where, spec = machine.look_up()
    assert where == machine.data / "kernels" / NAME
    assert str(where) in done.stdout
    assert spec["argv"] == [sys.executable, "-m", "checkpoint_kernel", "-f", "{connection_file}"]
    assert spec["display_name"] == f"Python {VERSION} (resilient)"
    assert spec["language"] == "python"
    assert spec["interrupt_mode"] == "signal"
    assert spec["env"] == {ENV_SPEC_DIR: str(where)}
    assert spec["metadata"]["debugger"] is True
    assert spec["metadata"]["kernel_provisioner"] == {
        "provisioner_name": "checkpoint-provisioner",
        "config": {"memory_limit": "8G", "cpu_limit": 1.5, "pids_limit": 500, "nice": 4},
    }
    assert config.parse(spec["metadata"]["kernel_provisioner"]["config"]).memory_limit == "8G"
    assert {p.name for p in where.iterdir()} == {
        "kernel.json",
        "logo-32x32.png",
        "logo-64x64.png",
        "logo-svg.svg",
    }


def test_it_says_of_the_kernel_what_its_ipykernel_says_of_itself(machine: Machine) -> None:
    from ipykernel.kernelspec import get_kernel_dict

    assert machine.run("install", "--user").returncode == 0
    _, spec = machine.look_up()
    theirs = get_kernel_dict()
    assert spec["kernel_protocol_version"] == theirs["kernel_protocol_version"]
    for key, value in theirs["metadata"].items():
        assert spec["metadata"][key] == value


def test_no_limit_asked_for_leaves_every_key_to_the_operator(machine: Machine) -> None:
    assert machine.run("install", "--user").returncode == 0
    _, spec = machine.look_up()
    assert spec["metadata"]["kernel_provisioner"]["config"] == {}


def test_a_prefix_a_name_and_a_display_name_are_taken(machine: Machine) -> None:
    done = machine.run(
        *("install", "--prefix", str(machine.prefix), "--name", "Lab", "--display-name", "Ours é")
    )
    assert done.returncode == 0, done.stderr
    where, spec = machine.look_up("lab")
    assert where == machine.prefix / "share/jupyter/kernels/lab"
    assert spec["display_name"] == "Ours é"


def test_without_a_scope_it_goes_to_the_environment_and_without_one_to_the_user(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from checkpoint_provisioner import kernelspec

    expected = Path(sys.prefix) / "share/jupyter/kernels"
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(machine.data))
    monkeypatch.setattr(sys, "base_prefix", "/elsewhere")
    assert kernelspec._kernels_directory(kernelspec.Request()) == expected
    monkeypatch.setattr(sys, "base_prefix", sys.prefix)
    monkeypatch.setattr(sys, "prefix", str(machine.prefix))
    monkeypatch.setattr(sys, "base_prefix", str(machine.prefix))
    assert kernelspec._kernels_directory(kernelspec.Request()) == machine.data / "kernels"
    (machine.prefix / "conda-meta").mkdir(parents=True)
    assert kernelspec.in_environment()


def test_installing_again_replaces_and_leaves_nothing_else_behind(machine: Machine) -> None:
    assert machine.run("install", "--user", "--memory-limit", "2G").returncode == 0
    (machine.data / "kernels" / NAME / "stale").touch()
    done = machine.run("install", "--user", "--memory-limit", "3G")
    assert done.returncode == 0
    assert done.stdout.startswith("Replaced")
    where, spec = machine.look_up()
    assert spec["metadata"]["kernel_provisioner"]["config"] == {"memory_limit": "3G"}
    assert not (where / "stale").exists()
    assert [p.name for p in where.parent.iterdir()] == [NAME]


def test_a_kernelspec_that_would_hide_it_is_an_error_naming_path_and_flag(
    machine: Machine,
) -> None:
    assert machine.run("install", "--prefix", str(machine.prefix)).returncode == 0
    done = machine.run("install", "--user")
    assert done.returncode == 1
    hiding = machine.prefix / "share/jupyter/kernels" / NAME
    assert str(hiding) in done.stderr
    assert f"--prefix {machine.prefix}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (machine.data / "kernels" / NAME).exists()


def test_the_users_kernelspec_hides_that_of_a_prefix_after_it(machine: Machine) -> None:
    machine.env["JUPYTER_PATH"] = ""
    machine.env["JUPYTER_PREFER_ENV_PATH"] = "0"
    assert machine.run("install", "--user").returncode == 0
    done = machine.run("install", "--sys-prefix")
    assert done.returncode == 1
    assert str(machine.data / "kernels" / NAME) in done.stderr
    assert "with --user" in done.stderr
    assert not (Path(sys.prefix) / "share/jupyter/kernels" / NAME).exists()


def test_a_prefix_reached_by_a_link_is_still_seen_to_be_hidden(
    machine: Machine, tmp_path: Path
) -> None:
    late = tmp_path / "late"
    late.mkdir()
    (tmp_path / "link").symlink_to(late)
    machine.env["JUPYTER_PATH"] = f"{machine.prefix}/share/jupyter:{late}/share/jupyter"
    assert machine.run("install", "--prefix", str(machine.prefix)).returncode == 0
    done = machine.run("install", "--prefix", str(tmp_path / "link"))
    assert done.returncode == 1
    assert f"--prefix {machine.prefix}" in done.stderr


def test_a_directory_that_jupyter_does_not_look_in_is_a_warning(
    machine: Machine, tmp_path: Path
) -> None:
    done = machine.run("install", "--prefix", str(tmp_path / "image"))
    assert done.returncode == 0
    assert f"JUPYTER_PATH={tmp_path}/image/share/jupyter" in done.stderr


def test_a_missing_kernel_half_is_an_error_with_the_pip_command(
    machine: Machine, bare_python: Path
) -> None:
    done = machine.run("install", "--user", "--python", str(bare_python))
    assert done.returncode == 1
    assert f"{bare_python} -m pip install checkpoint-kernel" in done.stderr
    assert "checkpoint_kernel, ipykernel, dill" in done.stderr
    assert not (machine.data / "kernels").exists()


def test_a_missing_server_half_is_a_warning_naming_environment_and_pip_command(
    machine: Machine, bare_python: Path
) -> None:
    script = machine.server(bare_python)
    done = machine.run("install", "--user")
    assert done.returncode == 0
    assert str(script) in done.stderr
    assert str(bare_python.parents[1]) in done.stderr
    assert f"{bare_python} -m pip install checkpoint-kernel" in done.stderr


def test_a_directory_on_path_that_cannot_be_looked_into_hides_no_other(machine: Machine) -> None:
    machine.server(sys.executable)
    machine.env["PATH"] = f"{'x' * 300}:{machine.env['PATH']}"  # ENAMETOOLONG, as EACCES for root
    done = machine.run("install", "--user")
    assert (done.returncode, done.stderr) == (0, "")


def test_without_any_server_on_path_it_says_so(machine: Machine) -> None:
    done = machine.run("install", "--user")
    assert done.returncode == 0
    assert "no Jupyter server was found on PATH" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--python", "/no/such/python"], "--python: /no/such/python is no executable file"),
        (["--python", "/bin/true"], "--python: /bin/true is no usable Python"),
        (["--memory-limit", "8GB"], '--memory-limit: "8GB" is not allowed'),
        (["--pids-limit", "5"], "--pids-limit: 5 is not allowed"),
        (["--name", "a b"], "--name 'a b'"),
    ],
)
def test_a_mistake_is_one_sentence_and_nothing_is_written(
    machine: Machine, words: list[str], said: str
) -> None:
    done = machine.run("install", "--user", *words)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (machine.data / "kernels").exists()


def test_two_scopes_are_a_usage_error(machine: Machine) -> None:
    assert machine.run("install", "--user", "--sys-prefix").returncode == 2


def test_a_place_that_cannot_be_written_to_is_named(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = machine.run("install", "--prefix", str(tmp_path / "file"))
    assert done.returncode == 1
    assert f"cannot write {tmp_path}/file/share/jupyter/kernels/{NAME}" in done.stderr
    assert "Traceback" not in done.stderr
