"""A kernel under the provisioner, and what its death leaves on disk."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
from jupyter_client.manager import KernelManager

from checkpoint_kernel import contract, session
from checkpoint_kernel.session import ExitMarker, Plan, Session

# Multiplies every wait: an emulated machine is 15 times slower than this one.
SLOW = float(os.environ.get("CHECKPOINT_KERNEL_SLOW", "1"))
OURS = ["python", "-m", "checkpoint_kernel", "-f", "{connection_file}"]
RECORD_SCHEMA = Path(__file__).parents[2] / "docs" / "death-record.schema.json"
FOREIGN = ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]


class Victim:
    """One kernel manager with a kernel of its own kernelspec; `env` is a frontend's."""

    def __init__(
        self,
        root: Path,
        argv: list[str] | None = None,
        config: dict[str, Any] | None = None,
        env: dict[str, str] | None = None,
        ready: bool = True,
        provisioned: bool = True,
        name: str | None = None,
        started: bool = True,
    ) -> None:
        name = name or f"victim{len(list(root.glob('data/kernels/*')))}"
        directory = root / "data" / "kernels" / name
        directory.mkdir(parents=True)
        stanza = {"provisioner_name": contract.PROVISIONER_NAME, "config": config or {}}
        spec = {
            "argv": argv or OURS,
            "display_name": name,
            "language": "python",
            "metadata": {"kernel_provisioner": stanza},
            "env": {contract.ENV_SPEC_DIR: str(directory)},
        }
        if not provisioned:  # as VS Code: argv is started, kernel_provisioner is not looked at
            stanza["provisioner_name"] = "local-provisioner"
            stanza["config"] = {}
        (directory / "kernel.json").write_text(json.dumps(spec))
        self.manager = KernelManager(kernel_name=name)
        self.client: Any = None
        self._root = root
        if started:
            self.start(env, ready)

    def start(self, env: dict[str, str] | None = None, ready: bool = True) -> None:
        """Start the first kernel, unless that was done."""
        passed = {} if env is None else {"env": {**os.environ, **env}}
        self.manager.start_kernel(cwd=str(self._root), **passed)
        if ready:
            self.connect()

    def connect(self) -> None:
        """Wait until the kernel answers."""
        if self.client is not None:
            self.client.stop_channels()
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=30 * SLOW)

    @property
    def provisioner(self) -> Any:
        """Of the kernel manager."""
        return self.manager.provisioner

    @property
    def directory(self) -> Path:
        """Of the newest session."""
        found: Path = self.provisioner.session_directory
        return found

    @property
    def kernel_pid(self) -> int:
        """The kernel itself, not its supervisor."""
        pid: int = self.provisioner.pid
        return pid

    @property
    def supervisor_pid(self) -> int:
        """The process that the provisioner holds."""
        pid: int = self.provisioner.process.pid
        return pid

    def run(self, code: str) -> Any:
        """Run a cell that ends, and return the reply."""
        return self.client.execute_interactive(code, timeout=30 * SLOW, output_hook=lambda _: None)

    def begin(self, code: str) -> None:
        """Start a cell that may not end."""
        self.client.execute(code)

    def begin_and_wait(self, code: str, sign: Path) -> None:
        """Start a cell, and wait until it has made the file `sign`."""
        self.begin(code)
        until(sign.exists, f"{sign.name} of the cell")

    def wait_for_death(self, seconds: float = 20) -> int:
        """Wait as the restarter does; the status that the provisioner reports."""
        until(lambda: not self.manager.is_alive(), "the kernel's end", seconds)
        status: int = self.provisioner.process.returncode
        return status

    def dies(self, code: str) -> dict[str, Any]:
        """Run a cell that kills the kernel; the record of its death."""
        self.begin(code)
        self.wait_for_death()
        return self.death()

    def death(self) -> dict[str, Any]:
        """The record of the newest session's death."""
        marker = self.marker()
        assert marker.death is not None, f"no death on record: {marker}"
        path = self.directory.parent.parent / contract.DEATHS / marker.death
        record: dict[str, Any] = json.loads(path.read_bytes())
        jsonschema.validate(record, json.loads(RECORD_SCHEMA.read_bytes()))
        return record

    def deaths(self) -> list[Path]:
        """All records of this notebook."""
        return sorted((self.directory.parent.parent / contract.DEATHS).glob("*.json"))

    def marker(self) -> ExitMarker:
        """The newest session's exit marker."""
        found = session.load_exit(self.directory)
        assert found is not None, f"no exit marker in {self.directory}"
        return found

    def session(self) -> Session:
        """The newest session's record."""
        found = session.load_session(self.directory)
        assert found is not None
        return found

    def restart(self, now: bool = False) -> Plan:
        """As the frontend's button or the restarter; what the new kernel restores."""
        self.manager.restart_kernel(now=now)
        self.connect()
        return self.session().plan

    def close(self) -> None:
        """Shut down, if it still lives."""
        if self.client is not None:
            self.client.stop_channels()
        if self.manager.has_kernel:
            self.manager.shutdown_kernel(now=True)


def until(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    """Poll until `condition()` holds; the error says what was waited for."""
    seconds *= SLOW
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s in vain for {what}")
        time.sleep(0.02)


def state_of(pid: int | str) -> str:
    """The state letter of proc(5); empty where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def alive(pid: int) -> bool:
    """Whether a process runs; zombies do not."""
    return state_of(pid) not in ("", "Z", "X")
