"""Real caps with real victims, on whatever backend this machine has.

Here that is cgroup v1 as root; `tests/in_vm.sh` runs the same tests in a virtual machine as a
plain user: under a systemd scope, on cgroup v2 written directly, and where nothing enforces.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from checkpoint_provisioner.caps import policy

PROGRAM = Path(__file__).with_name("capped_program.py")
ROOT = PROGRAM.parents[2]
# Set by in_vm.sh, so that a run on a lesser backend than the one meant is a failure; "none"
# where nothing enforces, and saying that one does is.
EXPECTED = os.environ.get("CHECKPOINT_TEST_BACKEND")


def capped(limit: str, *what: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), limit, *what],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def enforced(limit: str, *what: str) -> dict[str, Any]:
    """As `capped`, but skips with the stated reason where nothing can be enforced."""
    seen = capped(limit, *what)
    assert seen["cap"] is not None
    if not seen["cap"]["enforced"] and EXPECTED in (None, "none"):
        pytest.skip(f"no cap can be enforced here: {seen['cap']['detail']}")
    assert seen["cap"]["enforced"], seen["cap"]["detail"]
    assert EXPECTED in (None, seen["cap"]["backend"]), seen["cap"]
    return seen


def test_a_child_over_the_cap_is_killed_and_the_counters_say_that_our_cap_did_it() -> None:
    seen = enforced("96M", "eat", "300")
    assert seen["status"] == -9
    assert seen["before"]["oom_kill"] == 0
    assert seen["after"]["oom_kill"] >= 1
    assert seen["after"]["failcnt"] > seen["before"]["failcnt"]
    assert seen["after"]["limit_bytes"] == 96 << 20
    if seen["after"]["peak_bytes"] is not None:  # cgroup v2 has it since Linux 5.19
        assert 0.9 * (96 << 20) < seen["after"]["peak_bytes"] <= 96 << 20
    if seen["cap"]["backend"] != "cgroup v1":
        assert seen["after"]["oom_local"] > seen["before"]["oom_local"]
    assert seen["after"]["oom_ancestors"] == seen["before"]["oom_ancestors"]


def test_a_child_under_the_cap_lives_and_no_counter_moves() -> None:
    seen = enforced("96M", "eat", "40")
    assert seen["status"] == 0
    assert seen["after"]["oom_kill"] == 0
    assert seen["after"]["oom_local"] in (0, None)


def test_a_worker_over_the_cap_is_killed_and_the_kernel_lives() -> None:
    seen = enforced("96M", "worker-eats", "300")
    assert seen["status"] == 17
    assert seen["after"]["oom_kill"] >= 1


def test_a_daemon_reload_does_not_drop_the_cap_inside_the_scope() -> None:
    cap = enforced("96M", "nothing")["cap"]
    if cap["backend"] != "systemd scope":
        pytest.skip(f"the backend here is {cap['backend']}, which systemd does not manage")
    seen = enforced("96M", "reload-eat", "300")
    assert seen["after"]["limit_bytes"] == 96 << 20
    assert seen["status"] == -9
    assert seen["after"]["oom_local"] > seen["before"]["oom_local"]


def test_closing_removes_the_group_twice_is_harmless_and_the_last_reading_stays() -> None:
    seen = enforced("96M", "eat", "300")
    assert seen["closed"] is None
    assert seen["closed_again"] is None
    assert seen["gone"]
    assert seen["after_close"]["oom_kill"] == seen["after"]["oom_kill"]


def test_kill_all_ends_every_process_under_the_cap() -> None:
    seen = enforced("96M", "flock")
    assert len(seen["pids"]) == 6
    assert seen["status"] == -9
    assert seen["left"] == []
    assert seen["closed"] is None


def test_the_record_repeats_the_limit_as_configured_and_the_soft_limit_in_bytes() -> None:
    cap = enforced("96M", "nothing")["cap"]
    assert cap["configured"] == "96M"
    assert cap["cap_bytes"] == 96 << 20
    assert cap["soft_bytes"] == 48 << 20
    assert cap["cgroup"] in cap["detail"]
    assert str(96 << 20) in cap["detail"]


def test_the_supervisor_stays_outside_the_cap() -> None:
    seen = enforced("96M", "nothing")
    inside = Path(seen["cap"]["cgroup"]).name
    assert inside not in [line.rpartition("/")[2] for line in seen["own"].splitlines()]


def test_without_a_limit_there_is_no_cap_but_the_enclosing_counters_are_read() -> None:
    seen = capped("none", "nothing")
    assert seen["cap"] is None
    assert seen["status"] == 0
    assert seen["pids"] == []
    assert seen["closed"] is None
    if seen["after"]["oom_kill"] is None:
        pytest.skip("no memory controller is visible here")
    assert seen["after"]["oom_ancestors"]


@pytest.mark.skipif(
    not Path("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists() or os.geteuid() != 0,
    reason="needs a cgroup v1 memory hierarchy and root",
)
def test_an_outer_limit_is_named_and_the_soft_limit_reckons_with_it() -> None:
    from checkpoint_provisioner.caps import group, hierarchy

    place = hierarchy.memory_v1()
    assert place is not None
    outer = place.directory / f"checkpoint-test-outer-{os.getpid()}"
    outer.mkdir()
    try:
        group.write(outer / "memory.limit_in_bytes", str(200 << 20))
        done = subprocess.run(
            [
                *("sh", "-c", f'echo $$ > {outer}/cgroup.procs && exec "$@"', "sh"),
                *(sys.executable, str(PROGRAM), "400M", "eat", "350"),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 0, done.stderr
        seen = json.loads(done.stdout)
        assert seen["cap"]["soft_bytes"] == 100 << 20
        assert f"{outer} allows only {200 << 20} bytes" in seen["cap"]["detail"]
        assert seen["after"]["outer_limits"] == {str(outer): 200 << 20}
        # And the evidence of who killed: the outer group met its limit, ours did not.
        assert seen["status"] == -9
        assert seen["after"]["oom_kill"] == 1
        assert seen["after"]["failcnt"] == 0
        assert seen["after"]["oom_ancestors"][str(outer)] > 0
    finally:
        assert group.remove(outer) is None


def test_a_percentage_is_of_the_machine_or_of_what_encloses_us() -> None:
    from checkpoint_provisioner.caps import limits

    cap = policy.prepare("50%", "80%", "half")
    try:
        assert cap.cap is not None
        assert abs(cap.cap.cap_bytes - limits.available_bytes() // 2) < 65536
        assert abs(cap.cap.soft_bytes - 0.8 * cap.cap.cap_bytes) < 65536
    finally:
        cap.close()
