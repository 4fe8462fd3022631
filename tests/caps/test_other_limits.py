"""`cpu_limit`, `pids_limit` and `nice`, for real, on whatever backend this machine has."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from test_real_caps import capped

from checkpoint_kernel import session
from checkpoint_provisioner.caps import group, policy

# As in test_real_caps, for limits other than memory's.
EXPECTED = os.environ.get("CHECKPOINT_TEST_OTHERS")


def limited(monkeypatch: pytest.MonkeyPatch, memory: str, *what: str, **limits: float) -> Any:
    """What the program saw; skips with the stated reason where nothing can be enforced."""
    monkeypatch.setenv("LIMITS", json.dumps(limits))
    seen = capped(memory, *what)
    for key in limits:
        stated = seen["limits"][key]
        if not stated["enforced"] and EXPECTED in (None, "none"):
            pytest.skip(f"no {key} can be enforced here: {stated['detail']}")
        assert stated["enforced"], stated["detail"]
        assert key == "nice" or EXPECTED in (None, stated["backend"]), stated
    return seen


def test_a_fork_over_pids_limit_fails_is_counted_and_nothing_dies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = limited(monkeypatch, "none", "forks", "200", pids_limit=40)
    assert seen["status"] == 39  # and itself
    assert seen["before"]["forks_refused"] == 0
    assert seen["after"]["forks_refused"] >= 1
    assert seen["after"]["pids_limit"] == 40
    assert seen["closed"] is None
    assert seen["left_groups"] == []
    assert seen["after_close"]["forks_refused"] == seen["after"]["forks_refused"]


def test_a_spinning_child_gets_no_more_than_cpu_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = limited(monkeypatch, "none", "spins", "2", cpu_limit=0.3)
    assert seen["status"] <= 45  # of a core; on a busy machine less
    assert seen["left_groups"] == []


def test_all_limits_stand_together_and_memory_still_has_its_counters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = {"cpu_limit": 1.5, "pids_limit": 50, "nice": 7}
    seen = limited(monkeypatch, "96M", "eat", "300", **limits)
    if not seen["cap"]["enforced"]:
        pytest.skip(f"no memory cap can be enforced here: {seen['cap']['detail']}")
    assert seen["status"] == -9
    assert seen["after"]["oom_kill"] >= 1
    assert seen["after"]["forks_refused"] == 0
    assert seen["limits"]["cpu_limit"]["configured"] == 1.5
    assert "1.5 cores" in seen["limits"]["cpu_limit"]["detail"]
    assert seen["gone"]
    assert seen["left_groups"] == []


def test_nice_is_set_in_the_child_and_the_supervisor_stays_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    assert limited(monkeypatch, "none", "nothing", nice=before + 3)["status"] == before + 3
    assert limited(monkeypatch, "none", "nothing", nice=0)["status"] == before
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


def test_a_limit_that_nothing_enforces_is_said_with_every_reason_and_raises_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from checkpoint_provisioner.caps import hierarchy

    monkeypatch.setattr(hierarchy, "unified", lambda: None)
    monkeypatch.setattr(hierarchy, "v1", lambda controller, proc=None: None)
    handle = policy.prepare(None, "85%", "x", cpu_limit=1.0, pids_limit=40)
    assert [limit.enforced for limit in handle.limits] == [False, False]
    for limit in handle.limits:
        for backend in ("systemd scope", "cgroup v2", "cgroup v1"):
            assert f"{backend}: " in limit.detail
    assert handle.pids() == []
    assert handle.close() is None


def test_what_a_killed_supervisor_left_under_limits_is_killed_and_removed(tmp_path: Path) -> None:
    handle = policy.prepare(None, "85%", "stale", pids_limit=40)
    limit = handle.limits[0]
    if limit.cgroup is None:
        pytest.skip(f"no pids_limit can be enforced here: {limit.detail}")
    if limit.backend == "systemd scope":
        handle.close()
        pytest.skip("in a scope this test itself would have been moved")
    child = os.fork()
    if child == 0:
        group.enter(Path(limit.cgroup))
        os.execvp("sleep", ["sleep", "100"])
    while handle.pids() != [child]:
        pass
    began = session.Session(
        *("id", "id", 0.0, "kernel", None, "", "", 0, "boot", session.Settings()),
        session.Plan("clean", ""),
        limits=handle.limits,
    )
    policy.remove_stale(began)  # perhaps busy yet: we have not reaped the child
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -9
    assert policy.remove_stale(began) == []
    assert not Path(limit.cgroup).exists()
