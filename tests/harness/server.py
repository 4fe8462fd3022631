"""A real `jupyter server` in a process of its own, driven over REST.

Covers starting, stopping, killing, sessions and kernels. Running code is `notebook`'s.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

from .environment import KERNEL_NAME, Environment
from .notebook import Notebook


class JupyterServer:
    """Started by `start`, ended by `stop` or `kill`; `url` and `token` are for other clients."""

    def __init__(
        self,
        environment: Environment,
        notebooks: Path,
        *,
        seconds_to_notice_death: float = 0.5,
        options: tuple[str, ...] = (),
    ) -> None:
        """`seconds_to_notice_death` is the restarter's polling interval; Jupyter's own is 3."""
        self.environment = environment
        self.notebooks = notebooks
        self.token = secrets.token_hex(16)
        self._seconds_to_notice_death = seconds_to_notice_death
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._log = notebooks / f".server-{secrets.token_hex(3)}.log"
        self._http = requests.Session()
        self._http.trust_env = False  # a proxy from the environment has no business here
        self._http.headers["Authorization"] = f"token {self.token}"
        self._open: list[Notebook] = []
        self.url = ""

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._process is not None, "the server has not been started"
        return self._process.pid

    @property
    def log(self) -> str:
        """What the server has printed."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def start(self) -> JupyterServer:
        """Start the process and wait until it answers."""
        self.notebooks.mkdir(parents=True, exist_ok=True)
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [
            self.environment.python,
            "-m",
            "jupyter_server",
            "--no-browser",
            "--allow-root",
            "--ServerApp.ip=127.0.0.1",
            f"--ServerApp.port={port}",
            "--ServerApp.port_retries=0",
            f"--IdentityProvider.token={self.token}",
            f"--ServerApp.root_dir={self.notebooks}",
            "--ServerApp.terminals_enabled=False",
            f"--KernelRestarter.time_to_dead={self._seconds_to_notice_death}",
            *self._options,
        ]
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                command,
                env=self.environment.variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.notebooks,
            )
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(requests.ConnectionError):
                self.request("GET", "/api/status")
                return self
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"jupyter server did not start:\n{self.log}")
            time.sleep(0.1)

    def request(self, method: str, path: str, **arguments: Any) -> Any:
        """One REST call; the decoded answer. Raises requests.HTTPError with the server's words."""
        answer = self._http.request(method, self.url + path, timeout=90, **arguments)
        if not answer.ok:
            raise requests.HTTPError(f"{answer.status_code}: {answer.text}", response=answer)
        return answer.json() if answer.content else None

    def open(self, path: str, kernel_name: str = KERNEL_NAME) -> Notebook:
        """Open a notebook as a frontend does: POST a session, then connect to the kernel."""
        session = self.create_session(path, kernel_name)
        notebook = Notebook(self, session)
        self._open.append(notebook)
        notebook.connect()
        return notebook

    def create_session(self, path: str, kernel_name: str = KERNEL_NAME) -> dict[str, Any]:
        """POST /api/sessions, which starts the kernel, or finds the one that runs."""
        body: dict[str, Any] = {"path": path, "name": Path(path).name, "type": "notebook"}
        body["kernel"] = {"name": kernel_name}
        answer: dict[str, Any] = self.request("POST", "/api/sessions", json=body)
        return answer

    def kill(self) -> None:
        """SIGKILL, as the OOM killer or a crash of the machine's session would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._forget()

    def stop(self) -> None:
        """Shut down in order: all kernels are told to go."""
        if self._process is None or self._process.poll() is not None:
            return
        with contextlib.suppress(requests.RequestException):
            for session in self.request("GET", "/api/sessions"):
                self.request("DELETE", f"/api/sessions/{session['id']}")
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._forget()

    def _forget(self) -> None:
        for notebook in self._open:
            notebook.disconnect()
        self._open.clear()


@contextlib.contextmanager
def running(environment: Environment, notebooks: Path, **options: Any) -> Iterator[JupyterServer]:
    """A server for the length of a `with` block."""
    server = JupyterServer(environment, notebooks, **options).start()
    try:
        yield server
    finally:
        server.stop()


def wait_until_gone(pid: int, seconds: float = 15) -> None:
    """Wait until no live process has this pid (a zombie counts as gone)."""
    deadline = time.monotonic() + seconds
    while is_alive(pid):
        if time.monotonic() > deadline:
            raise AssertionError(f"process {pid} is still there after {seconds} s")
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether the process runs: it exists and is no zombie."""
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
