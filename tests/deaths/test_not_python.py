"""A kernel of another language, which keeps no checkpoints: bash_kernel. Capped and explained."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from victim import SLOW, Victim

from checkpoint_kernel.session import Plan

pytest.importorskip("bash_kernel", reason="bash_kernel is not installed")

Start = Callable[..., Victim]

BASH = ["python", "-m", "bash_kernel", "-f", "{connection_file}"]
# bash is a child of its kernel, so the kernel is made the one that an OOM killer prefers.
EATS = "echo 1000 >/proc/$PPID/oom_score_adj; x=$(head -c 400M /dev/zero | tr '\\0' x)"


def told(victim: Victim, command: str) -> Any:
    argv = [sys.executable, "-m", "checkpoint_provisioner.cli", command, "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env=os.environ)
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.mark.vm
def test_a_kernel_of_another_language_is_capped_and_explained_without_checkpoints(
    start: Start, tmp_path: Path
) -> None:
    victim = start(
        argv=BASH, config={"memory_limit": "200M", "soft_limit": "100%", "pids_limit": 100}
    )
    began = victim.session()
    assert began.cap is not None
    if not began.cap.enforced:
        pytest.skip(f"nothing enforces a cap here: {began.cap.detail}")
    assert began.warnings == ()
    assert victim.run("x=41")["content"]["status"] == "ok"

    # Interrupts reach it as from any provisioner.
    victim.begin_and_wait(f"touch {tmp_path}/sleeps; sleep 1000", tmp_path / "sleeps")
    time.sleep(0.3 * SLOW)  # between the two commands it would be lost on bash
    victim.manager.interrupt_kernel()
    assert victim.run(f"echo $x >{tmp_path}/x")["content"]["status"] == "ok"
    assert (tmp_path / "x").read_text() == "41\n"

    assert_clean(victim, victim.restart())
    assert victim.run("test -z $x")["content"]["status"] == "ok"
    assert victim.deaths() == []
    by_the_cap = victim.dies(EATS)
    assert (by_the_cap["cause"], by_the_cap["confidence"]) == ("oom-killed-by-cap", "proof")
    assert (by_the_cap["cell"], by_the_cap["checkpoint"]) == (None, None)
    assert "200M" in by_the_cap["paragraph"]
    assert "In[" not in by_the_cap["paragraph"]

    victim.manager.restart_kernel(now=True)
    assert_clean(victim, victim.session().plan)
    os.kill(victim.kernel_pid, signal.SIGKILL)
    assert victim.wait_for_death() == -signal.SIGKILL
    deaths = [(death["cause"], death["cell"]) for death in told(victim, "deaths")]
    assert deaths == [("oom-killed-by-cap", None), ("killed", None)]
    assert all(not notebook["checkpoints"] for notebook in told(victim, "list"))


def assert_clean(victim: Victim, plan: Plan) -> None:
    assert (plan.kind, plan.checkpoint) == ("clean", None)
    said = " ".join((plan.because, *victim.session().warnings, *plan.warnings)).lower()
    assert "checkpoint" not in said, said
    assert "restor" not in said, said
