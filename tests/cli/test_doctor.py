"""`jupyter checkpoint doctor` on this machine, and on homes where one thing is wrong."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

from checkpoint_kernel import contract
from checkpoint_provisioner import doctor_machine, doctor_probes


class Patient:
    """A user with a data directory of their own, and what the doctor says of it."""

    def __init__(self, directory: Path) -> None:
        self.data = directory / "data"
        self.data.mkdir()
        self.path = str(Path(sys.executable).parent)

    def examine(self, *words: str, status: int = 0) -> dict[str, list[dict[str, Any]]]:
        done = self.run("--json", *words)
        assert done.returncode == status, done.stdout + done.stderr
        found: dict[str, list[dict[str, Any]]] = {}
        for check in json.loads(done.stdout):
            found.setdefault(check["name"], []).append(check)
        return found

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "checkpoint_provisioner.cli", "doctor", *words],
            env={
                **os.environ,
                "JUPYTER_DATA_DIR": str(self.data),
                "PATH": f"{self.path}:/usr/bin:/bin",
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def kernelspec(self, **changes: Any) -> Path:
        directory = self.data / "kernels" / contract.KERNELSPEC_NAME
        directory.mkdir(parents=True)
        spec = {
            "argv": [sys.executable, "-m", "checkpoint_kernel", "-f", "{connection_file}"],
            "display_name": "x",
            "language": "python",
            "metadata": {
                "kernel_provisioner": {"provisioner_name": contract.PROVISIONER_NAME, "config": {}}
            },
        }
        (directory / "kernel.json").write_text(json.dumps({**spec, **changes}))
        return directory


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    return Patient(tmp_path)


def configured(**config: Any) -> dict[str, Any]:
    provisioner = {"provisioner_name": contract.PROVISIONER_NAME, "config": config}
    return {"kernel_provisioner": provisioner}


def test_a_sound_installation_passes_and_every_finding_has_a_remedy(patient: Patient) -> None:
    where = patient.kernelspec()
    found = patient.examine()
    assert found["platform"][0]["level"] == "ok"
    assert found["python"][0]["said"].startswith(platform.python_version())
    assert found["kernelspec"] == [
        {
            "name": "kernelspec",
            "level": "ok",
            "said": f"{where} starts {sys.executable}",
            "remedy": None,
        }
    ]
    for checks in found.values():
        for check in checks:
            assert check["level"] in ("ok", "warn")
            assert check["said"]
            assert check["level"] == "ok" or check["remedy"], check
    for name in ("glibc", "server half", "store", "store is writable", "disk space", "filesystem"):
        assert name in found
    for name in ("signing key", "memory cap", "memory.oom.group", "swap", "cpu limit"):
        assert name in found
    for name in ("pids limit", "memory guard", "oom_score_adj", "native stacks", "kernel log"):
        assert name in found
    assert "core files" in found


def test_the_memory_cap_is_really_tried_and_its_backend_named(patient: Patient) -> None:
    (check,) = patient.examine()["memory cap"]
    if check["level"] == "ok":
        assert "enforced by " in check["said"]
    else:
        assert "not enforced" in check["said"]
        assert check["remedy"]


def test_what_the_doctor_tries_leaves_nothing_behind_and_says_what_does_not_work() -> None:
    tried = doctor_probes.run()
    assert tried.left is None
    for limit in (tried.cap, *tried.limits.values()):
        assert limit["enforced"] or "nothing enforces it: " in limit["detail"]
        assert limit["cgroup"] is None or not Path(limit["cgroup"]).exists()
    # Linux enforces RLIMIT_DATA on private memory since 4.7.
    assert "were given in spite of it" not in tried.guard


def test_without_a_kernelspec_it_says_how_to_install_one(patient: Patient) -> None:
    found = patient.examine()
    ours = [c for c in found["kernelspec"] if c["remedy"] == "jupyter checkpoint install"]
    assert ours or all(str(patient.data) not in c["said"] for c in found["kernelspec"])


def test_a_server_without_our_half_fails_with_the_pip_command(
    patient: Patient, tmp_path: Path
) -> None:
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    python = tmp_path / "bare/bin/python"
    server = tmp_path / "bin/jupyter-lab"
    server.parent.mkdir()
    # As pip writes it where the path is too long for a shebang.
    quotes = "'" * 3
    server.write_text(f'#!/bin/sh\n{quotes}exec\' "{python}" "$0" "$@"\n\' {quotes}\n')
    server.chmod(0o755)
    patient.path = str(server.parent)
    found = patient.examine(status=1)
    (check,) = [c for c in found["server half"] if c["level"] == "fail"]
    assert str(server) in check["said"]
    assert check["remedy"] == f"{python} -m pip install checkpoint-kernel"


def test_a_kernelspec_with_a_bad_value_fails_naming_key_and_value(patient: Patient) -> None:
    where = patient.kernelspec(metadata=configured(checkpoint_interval="30"))
    found = patient.examine(status=1)
    (check,) = [c for c in found["kernelspec"] if c["level"] == "fail"]
    assert 'checkpoint_interval: "30" is not allowed' in check["said"]
    assert str(where / "kernel.json") in check["remedy"]


def test_a_kernelspec_whose_python_is_gone_fails(patient: Patient) -> None:
    patient.kernelspec(argv=["/no/such/python", "-m", "checkpoint_kernel"])
    found = patient.examine(status=1)
    (check,) = [c for c in found["kernelspec"] if c["level"] == "fail"]
    assert "/no/such/python" in check["said"]
    assert "--python" in check["remedy"]


def test_a_hidden_kernelspec_is_named_with_the_one_that_hides_it(
    patient: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = patient.kernelspec()
    first = tmp_path / "first/kernels" / contract.KERNELSPEC_NAME
    first.mkdir(parents=True)
    (first / "kernel.json").write_text('{"argv": ["x"], "display_name": "x", "language": "x"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "first"))
    (check,) = [c for c in patient.examine()["kernelspec"] if "hidden" in c["said"]]
    assert check["level"] == "warn"
    assert check["said"].startswith(f"{hidden} is hidden by {first}")


def test_a_store_and_a_key_that_others_can_read_are_found(patient: Patient) -> None:
    (patient.data / contract.STORE_DIRECTORY).mkdir(mode=0o755)
    key = patient.data / contract.KEY_FILE
    key.write_text("00" * 32)
    key.chmod(0o644)
    found = patient.examine(status=1)
    assert found["store"][0]["level"] == "warn"
    assert found["store"][0]["remedy"].startswith("chmod 700")
    assert found["signing key"][0]["level"] == "fail"
    assert found["signing key"][0]["remedy"] == f"chmod 600 {key}"


def test_the_store_that_a_kernelspec_configures_is_examined_too(
    patient: Patient, tmp_path: Path
) -> None:
    patient.kernelspec(metadata=configured(store=str(tmp_path / "elsewhere")))
    said = [c["said"] for c in patient.examine()["store"]]
    assert any(str(tmp_path / "elsewhere") in sentence for sentence in said)


def test_people_get_one_line_per_check_and_the_remedy_below_it(patient: Patient) -> None:
    (patient.data / contract.STORE_DIRECTORY).mkdir(mode=0o755)
    done = patient.run()
    assert done.returncode == 0
    assert f"-> chmod 700 {patient.data}/checkpoints" in " ".join(done.stdout.split())
    assert "0 failed" in done.stdout
    for heading in ("Installation", "Checkpoints", "Limits", "Evidence of a death"):
        assert heading in done.stdout.splitlines()


@pytest.mark.unit
def test_the_innermost_mount_decides_the_filesystem(tmp_path: Path) -> None:
    mountinfo = tmp_path / "mountinfo"
    (tmp_path / "a b").mkdir()
    point = str(tmp_path / "a b").replace(" ", "\\040")
    mountinfo.write_text(
        f"1 0 0:1 / / rw - ext4 /dev/a rw\n2 1 0:2 / {tmp_path} rw - xfs /dev/b rw\n"
        f"3 2 0:3 / {point} rw shared:1 - nfs4 host:/x rw\n"
    )
    assert doctor_machine.filesystem_of(tmp_path / "a b", mountinfo) == "nfs4"
    assert doctor_machine.filesystem_of(tmp_path, mountinfo) == "xfs"
    assert doctor_machine.filesystem_of(Path("/"), mountinfo) == "ext4"
