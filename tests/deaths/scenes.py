"""Deaths that take more than one process of ours: servers, supervisors, cgroups, restores."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from victim import Victim, alive, until

from checkpoint_kernel import contract, flight_recorder, manifest, session
from checkpoint_provisioner.caps import cgroup_v1, hierarchy

# A server in a process of its own: enters a cgroup, starts a kernel, runs a cell.
SERVER = """
import os, sys, time
from jupyter_client.manager import KernelManager
name, notebook, cgroup, code = sys.argv[1:]
if cgroup:
    with open(cgroup + "/cgroup.procs", "w") as file:
        file.write("0")
km = KernelManager(kernel_name=name)
km.start_kernel(env={**os.environ, "JPY_SESSION_NAME": notebook})
kc = km.blocking_client(); kc.start_channels(); kc.wait_for_ready(timeout=30)
kc.execute_interactive("x = 1", timeout=30)
print(km.provisioner.pid, km.provisioner.process.pid, km.provisioner.session_directory, flush=True)
if code:
    kc.execute(code)
deadline = time.monotonic() + 60
while km.is_alive() and time.monotonic() < deadline:
    time.sleep(0.05)
print("lives" if km.is_alive() else "dead", flush=True)
time.sleep(1000)
"""


@contextmanager
def server(
    victim: Victim, notebook: Path, cgroup: str = "", code: str = ""
) -> Iterator[tuple[subprocess.Popen[str], int, int, Path]]:
    """A server, its kernel, its supervisor and the session's directory."""
    arguments = [victim.manager.kernel_name, str(notebook), cgroup, code]
    process, said = _server(arguments)
    if not said:  # servers do not know of each other's ports: two can draw the same one
        process, said = _server(arguments)
    try:
        kernel, supervisor, directory = said.split(" ", 2)
        yield process, int(kernel), int(supervisor), Path(directory)
    finally:
        process.kill()
        process.wait()


def _server(arguments: list[str]) -> tuple[subprocess.Popen[str], str]:
    """The process and its first line; an empty one, of a dead process, if its kernel died."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    said = process.stdout.readline().strip()
    if not said:
        process.kill()
        process.wait()
    return process, said


def record_of(directory: Path) -> dict[str, Any]:
    """The record of the death of the session in `directory`."""
    ended = session.load_exit(directory)
    assert ended is not None, f"no exit marker in {directory}"
    assert ended.death is not None, ended
    record: dict[str, Any] = json.loads(
        (directory.parent.parent / contract.DEATHS / ended.death).read_bytes()
    )
    return record


def judged_by_the_next_start(victim: Victim, notebook: Path, before: Path) -> dict[str, Any]:
    """What the next start of the same notebook says of a session."""
    victim.start({"JPY_SESSION_NAME": str(notebook)})
    assert victim.directory.parent == before.parent
    return record_of(before)


def the_server_is_killed(victim: Victim) -> dict[str, Any]:
    notebook = Path(victim.manager.kernel_name + ".ipynb").absolute()
    with server(victim, notebook) as (process, kernel, _, before):
        process.kill()
        process.wait()
        # At once, while the old kernel may still be saving: its directory is waited for.
        record = judged_by_the_next_start(victim, notebook, before)
        assert not alive(kernel)
        return record


def all_are_killed_at_once(victim: Victim) -> dict[str, Any]:
    notebook = Path(victim.manager.kernel_name + ".ipynb").absolute()
    with server(victim, notebook) as (process, kernel, supervisor, before):
        for pid in (supervisor, process.pid, kernel):
            os.kill(pid, signal.SIGSTOP)
        for pid in (supervisor, process.pid, kernel):
            os.kill(pid, signal.SIGKILL)
        process.wait()
        return judged_by_the_next_start(victim, notebook, before)


def the_supervisor_is_killed(victim: Victim) -> dict[str, Any]:
    victim.start()
    victim.run("x = 1")
    kernel, before = victim.kernel_pid, victim.directory
    os.kill(victim.supervisor_pid, signal.SIGKILL)
    victim.wait_for_death()
    assert not alive(kernel)
    victim.restart(now=True)
    return record_of(before)


def a_container_is_too_small(victim: Victim) -> dict[str, Any]:
    """The cap is generous, and a group around server, supervisor and kernel is not."""
    place = hierarchy.memory_v1()
    assert place is not None
    around = cgroup_v1.create(place, f"test-container-{os.getpid()}")
    notebook = Path(victim.manager.kernel_name + ".ipynb").absolute()
    try:
        around.limit(350 << 20)
        code = "import time\ntime.sleep(1); x = b'x' * 600_000_000"
        with server(victim, notebook, str(around.directory), code) as (process, _, _, before):
            assert process.stdout is not None
            assert process.stdout.readline() == "dead\n"
            return record_of(before)
    finally:
        assert around.close() is None


def killed_while_restoring(victim: Victim) -> dict[str, Any]:
    victim.start()
    victim.run(
        "class Slow:\n"
        "    def __setstate__(self, state):\n"
        "        import time\n"
        "        time.sleep(60)\n"
        "slow = Slow(); slow.x = 1"
    )
    began = victim.session()
    key = manifest.load_key(Path(began.key_file))

    def saved() -> bool:
        good, _ = manifest.read_all(Path(began.notebook_directory), key)
        return any("slow" in one.names for one in good)

    until(saved, "a checkpoint")
    os.kill(victim.kernel_pid, signal.SIGKILL)
    victim.wait_for_death()
    victim.manager.restart_kernel(now=True)

    def restoring() -> bool:
        flight = flight_recorder.read(victim.directory / contract.FLIGHT_FILE)
        return flight is not None and flight.restoring_unit is not None

    until(restoring, "the restore")
    os.kill(victim.kernel_pid, signal.SIGKILL)
    victim.wait_for_death()
    return victim.death()


# --- from outside ---


def signal_to_kernel(number: int, after_s: float = 0.0) -> Any:
    """Send it to the kernel itself, from this process."""

    def send(victim: Victim) -> None:
        time.sleep(after_s)
        os.kill(victim.kernel_pid, number)

    return send


def signal_to_supervisor(number: int) -> Any:
    """As whoever looks for the process that Jupyter started does."""
    return lambda victim: os.kill(victim.supervisor_pid, number)


def sigkill_behind_a_wrapper(victim: Victim) -> None:
    """The kernel, and not the shell that runs it."""
    child = psutil.Process(victim.kernel_pid).children()[0]
    child.kill()


# --- starts that fail ---


def broken_module(root: Path) -> dict[str, Any]:
    """A zmq that cannot be imported stands in the way."""
    directory = root / "broken"
    directory.mkdir(exist_ok=True)
    (directory / "zmq.py").write_text("import not_installed_anywhere\n")
    return {"env": {"PYTHONPATH": str(directory)}}


def missing_library(root: Path) -> dict[str, Any]:
    """A zmq whose shared library is not there."""
    directory = root / "unlinked"
    directory.mkdir(exist_ok=True)
    (directory / "zmq.py").write_text("import ctypes\nctypes.CDLL('libsodium.so.999')\n")
    return {"env": {"PYTHONPATH": str(directory)}}


_taken: list[socket.socket] = []  # held until the tests are over


def taken_ports(root: Path) -> dict[str, Any]:
    """A connection file whose ports somebody listens on."""
    ports = {}
    for name in ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port"):
        holder = socket.socket()
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        _taken.append(holder)
        ports[name] = holder.getsockname()[1]
    path = root / "taken.json"
    rest = {"ip": "127.0.0.1", "transport": "tcp", "key": "k", "signature_scheme": "hmac-sha256"}
    path.write_text(json.dumps({**ports, **rest}))
    return {"argv": ["python", "-m", "checkpoint_kernel", "-f", str(path)]}
