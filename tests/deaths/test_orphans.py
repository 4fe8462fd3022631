"""What a dead kernel leaves running: its snapshot process, children and daemons."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from victim import Victim, alive, until

from checkpoint_kernel import contract, flight_recorder, manifest, session
from checkpoint_provisioner import history, proc

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


@pytest.mark.vm
def test_a_checkpoint_that_is_nearly_done_when_the_kernel_dies_is_committed(start: Start) -> None:
    victim, _ = killed_while_saving(start, seconds=0.5)  # its code runs twice
    assert "slow" in names(victim)
    plan = victim.restart(now=True)
    assert plan.kind == "restore"
    assert victim.run("assert slow.seconds == 0.5")["content"]["status"] == "ok"


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


# Three ways to be forgotten: a session of its own, a daemon that was forked twice, and one that
# forks on and on, each copy ending when the next one lives.
DAEMONS = """
import os, subprocess, sys, time
from pathlib import Path
subprocess.Popen(["sleep", "300"], start_new_session=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 256)
        os.execvp("sleep", ["sleep", "301"])
    os._exit(0)
flees = '''
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.setsid()
end = time.time() + 20  # should it escape, the machine is not left with it
while time.time() < end:
    if os.fork():
        os._exit(0)
    time.sleep(0.01)
'''
with subprocess.Popen([sys.executable, "-S", "-c", flees]):
    pass  # its first copy has ended: the next one lives
"""


@pytest.mark.vm
@pytest.mark.vm_unenforced
def test_no_daemon_of_a_dead_kernel_survives_it_and_the_record_names_them(start: Start) -> None:
    victim = start()
    victim.run(DAEMONS)
    os.kill(victim.kernel_pid, signal.SIGKILL)
    victim.wait_for_death()
    record = victim.death()
    left = {one["name"]: one for one in record["evidence"]["left_running"]}
    assert left["sleep"]["own_session"]
    # One look, which the one that forks on and on may slip through; none slips through the end.
    assert sum(one["name"] == "sleep" for one in record["evidence"]["left_running"]) == 2
    assert [pid for pid, _ in started_by(victim)] == []
    victim.restart(now=True)


def test_after_a_restart_that_was_asked_for_a_program_in_its_own_session_lives_on(
    start: Start, tmp_path: Path
) -> None:
    victim = start()
    sign = tmp_path / "child"
    victim.run(RUNS_AWAY.format(sign=str(sign)))
    child = int(sign.read_text())
    try:
        victim.restart()
        assert alive(child)
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.vm
def test_under_a_limit_it_ends_with_the_kernel_because_the_cgroup_must_go(
    start: Start, tmp_path: Path
) -> None:
    victim = start(config={"pids_limit": 200})
    limit = victim.session().limits[0]
    if not limit.enforced:
        pytest.skip(f"no limit can be enforced here: {limit.detail}")
    sign = tmp_path / "child"
    victim.run(RUNS_AWAY.format(sign=str(sign)))
    victim.restart()
    assert not alive(int(sign.read_text()))
    assert limit.cgroup is not None
    assert not Path(limit.cgroup).exists()


def test_what_a_kernel_left_is_ended_too_where_its_supervisor_was_killed(start: Start) -> None:
    victim = start()
    victim.run(DAEMONS)
    assert len(started_by(victim)) >= 3
    os.kill(victim.supervisor_pid, signal.SIGKILL)
    # Polled again: the snapshot process, which may be about to commit, is waited for.
    until(lambda: not victim.manager.is_alive() and started_by(victim) == [], "their end")


def test_the_next_start_ends_what_an_unsupervised_kernel_left(tmp_path: Path) -> None:
    directory = tmp_path / "sessions" / "20260101-000000-aaaaaa"
    directory.mkdir(parents=True)
    (tmp_path / "deaths").mkdir()
    began = session.Session(
        *(directory.name, "line", time.time(), "kernel", None, str(tmp_path), "", 0),
        *(proc.boot_id(), session.Settings(), session.Plan("clean", "")),
    )
    session.save(directory, began)
    env = {**os.environ, contract.ENV_STARTED_BY: directory.name}
    left = subprocess.Popen(["sleep", "300"], env=env, start_new_session=True)
    other = subprocess.Popen(["sleep", "300"], start_new_session=True)
    try:
        past = history.read(tmp_path, key=None).sessions
        assert past[0].exit.cause == "server-gone"
        assert left.wait(timeout=10) == -signal.SIGKILL
        assert other.poll() is None
    finally:
        for process in (left, other):
            process.kill()
            process.wait()


def started_by(victim: Victim, directory: Path | None = None) -> list[tuple[int, str]]:
    """(pid, name) of living processes that the session's kernel has started."""
    mark = f"{contract.ENV_STARTED_BY}={(directory or victim.directory).name}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0") and alive(int(entry.name)):
                found.append((int(entry.name), (entry / "comm").read_text().strip()))
        except OSError:
            continue
    return found


def killed_with_a_child(victim: Victim, code: str, sign: Path) -> int:
    """The child's pid, after the kernel's end."""
    victim.run(code.format(sign=str(sign)))
    until(lambda: sign.exists() and sign.read_text() != "", "the child")
    os.kill(victim.kernel_pid, signal.SIGKILL)
    victim.wait_for_death()
    return int(sign.read_text())
