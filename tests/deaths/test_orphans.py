"""What a dead kernel leaves running: its snapshot process, and children that it forked."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from victim import Victim, alive, until

from checkpoint_kernel import contract, flight_recorder, manifest

Start = Callable[..., Victim]

# Pickling takes as long as it says: the snapshot process is in the middle of its work.
SLOW = """
import time
class Slow:
    def __init__(self, seconds):
        self.seconds = seconds
    def __getstate__(self):
        time.sleep(self.seconds)
        return {{'seconds': self.seconds}}
slow = Slow({seconds})
"""


def snapshot_pid(victim: Victim) -> int:
    found: list[int] = []

    def there() -> bool:
        flight = flight_recorder.read(victim.directory / contract.FLIGHT_FILE)
        if flight is not None and flight.snapshot_pid:
            found[:] = [flight.snapshot_pid]
        return bool(found) and alive(found[0])

    until(there, "a snapshot process")
    return found[0]


def names(victim: Victim) -> set[str]:
    began = victim.session()
    key = manifest.load_key(Path(began.key_file))
    good, bad = manifest.read_all(Path(began.notebook_directory), key)
    assert not bad
    return {name for one in good for name in one.names}


def killed_while_saving(start: Start, seconds: float, **given: Any) -> tuple[Victim, float]:
    victim = start(**given)
    victim.run(SLOW.format(seconds=seconds))
    pid = snapshot_pid(victim)
    began = time.monotonic()
    os.kill(victim.kernel_pid, signal.SIGKILL)
    victim.wait_for_death()
    took_s = time.monotonic() - began
    assert not alive(pid)
    return victim, took_s


def test_a_checkpoint_that_is_nearly_done_when_the_kernel_dies_is_committed(start: Start) -> None:
    victim, _ = killed_while_saving(start, seconds=1.0)
    assert "slow" in names(victim)
    plan = victim.restart(now=True)
    assert plan.kind == "restore"
    assert victim.run("assert slow.seconds == 1.0")["content"]["status"] == "ok"


def test_a_snapshot_process_that_takes_too_long_is_ended_after_its_grace(start: Start) -> None:
    victim, took_s = killed_while_saving(start, seconds=60.0)
    assert "slow" not in names(victim)
    assert contract.ORPHAN_GRACE_S <= took_s < contract.ORPHAN_GRACE_S + 1.5


def test_a_restart_that_was_asked_for_does_not_wait_for_a_snapshot_process(start: Start) -> None:
    victim = start()
    victim.run(SLOW.format(seconds=60.0))
    pid, kernel, process = snapshot_pid(victim), victim.kernel_pid, victim.provisioner.process
    victim.manager.request_shutdown(restart=True)
    until(lambda: not alive(kernel), "the kernel's end")
    ended = time.monotonic()
    until(lambda: process.poll() is not None, "the supervisor's end")
    assert time.monotonic() - ended < 0.5
    assert not alive(pid)


FORKS_AWAY = """
import os, time
from pathlib import Path
if os.fork() == 0:
    os.setsid()
    Path({sign!r}).write_text(str(os.getpid()))
    time.sleep(300)
    os._exit(0)
"""
RUNS_AWAY = """
import subprocess
from pathlib import Path
away = subprocess.Popen(["sleep", "300"], start_new_session=True, close_fds=False)
Path({sign!r}).write_text(str(away.pid))
"""


def test_a_forked_child_that_keeps_the_ports_does_not_outlive_the_kernel(
    start: Start, tmp_path: Path
) -> None:
    victim = start()
    child = killed_with_a_child(victim, FORKS_AWAY, tmp_path / "child")
    assert not alive(child)
    victim.restart(now=True)  # to the same ports


def test_a_program_that_a_cell_started_in_its_own_session_outlives_the_kernel(
    start: Start, tmp_path: Path
) -> None:
    victim = start()
    child = killed_with_a_child(victim, RUNS_AWAY, tmp_path / "child")
    try:
        assert alive(child)
        victim.restart(now=True)
    finally:
        os.kill(child, signal.SIGKILL)


def killed_with_a_child(victim: Victim, code: str, sign: Path) -> int:
    """The child's pid, after the kernel's end."""
    victim.run(code.format(sign=str(sign)))
    until(lambda: sign.exists() and sign.read_text() != "", "the child")
    os.kill(victim.kernel_pid, signal.SIGKILL)
    victim.wait_for_death()
    return int(sign.read_text())
