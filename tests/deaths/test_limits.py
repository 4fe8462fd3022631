"""A kernel under `cpu_limit`, `pids_limit` and `nice`, and what its record says of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from victim import Victim, until

from checkpoint_kernel import session

Start = Callable[..., Victim]
# Set by tests/in_vm.sh: what the machine is known to enforce memory by, "none" too.
BACKEND = os.environ.get("CHECKPOINT_TEST_BACKEND")

THREADS = """
import threading, time
stop = threading.Event()
had = []
try:
    for _ in range(200):
        had.append(threading.Thread(target=stop.wait, daemon=True))
        had[-1].start()
except RuntimeError as why:
    said = str(why)
stop.set()  # IPython itself starts a thread for a cell
"""


@pytest.mark.vm
def test_a_kernel_that_may_start_nothing_more_lives_and_its_record_says_why(start: Start) -> None:
    victim = start(config={"cpu_limit": 1.5, "pids_limit": 60, "nice": 3})
    limits = {limit.key: limit for limit in victim.session().limits}
    for limit in limits.values():
        if not limit.enforced:
            pytest.skip(f"no {limit.key} can be enforced here: {limit.detail}")
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, victim.kernel_pid) == max(ours, 3)
    assert os.getpriority(os.PRIO_PROCESS, victim.supervisor_pid) == ours
    session_too = Path(f"/proc/{victim.kernel_pid}/autogroup")
    assert not session_too.exists() or ours > 3 or session_too.read_text().endswith("nice 3\n")

    assert victim.run(THREADS)["content"]["status"] == "ok"
    assert victim.run("assert 'start new thread' in said")["content"]["status"] == "ok"
    until(lambda: session.read_events(victim.directory) != [], "the event")
    event = session.read_events(victim.directory)[0]
    assert event.kind == "fork-refused"
    assert "pids_limit allows 60" in event.said

    os.kill(victim.kernel_pid, signal.SIGKILL)
    victim.wait_for_death()
    pids = victim.death()["evidence"]["pids"]
    assert pids["limit"] == 60
    assert pids["forks_refused"] >= 1
    assert not any(Path(limit.cgroup).exists() for limit in limits.values() if limit.cgroup)


@pytest.mark.vm_unenforced
@pytest.mark.skipif(BACKEND != "none", reason="this machine may enforce a memory_limit")
def test_a_limit_that_is_not_enforced_is_said_by_the_session_and_the_record(start: Start) -> None:
    victim = start(config={"memory_limit": "300M", "soft_limit": "100%"})
    began = victim.session()
    assert began.cap is not None
    assert not began.cap.enforced
    assert any("memory_limit 300M is not enforced here" in said for said in began.warnings)
    assert victim.run("x = b'x' * 400_000_000")["content"]["status"] == "ok"
    os.kill(victim.kernel_pid, signal.SIGKILL)
    victim.wait_for_death()
    record = victim.death()
    assert record["cause"] == "killed"
    assert record["cap"]["enforced"] is False
