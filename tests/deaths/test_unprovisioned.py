"""A frontend that starts argv itself, as VS Code does, gets a supervised kernel all the same."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from victim import Victim, alive, until

from checkpoint_kernel import contract, session

Start = Callable[..., Victim]


@pytest.fixture
def unprovisioned(start: Start, tmp_path: Path) -> Victim:
    return start(provisioned=False, env={"JPY_SESSION_NAME": str(tmp_path / "work.ipynb")})


def session_directories(root: Path) -> list[Path]:
    return sorted((root / "data" / contract.STORE_DIRECTORY).glob("work-*/sessions/*"))


def deaths(root: Path) -> list[dict[str, Any]]:
    paths = sorted((root / "data" / contract.STORE_DIRECTORY).glob("work-*/deaths/*.json"))
    return [json.loads(path.read_bytes()) for path in paths]


def kernel_of(supervisor_pid: int) -> int:
    path = Path(f"/proc/{supervisor_pid}/task/{supervisor_pid}/children")
    return int(path.read_text().split()[0])


def test_the_death_is_on_record_and_the_frontend_sees_the_kernels_status(
    unprovisioned: Victim, tmp_path: Path
) -> None:
    unprovisioned.run("x = 1")
    supervisor = unprovisioned.supervisor_pid
    os.kill(kernel_of(supervisor), signal.SIGKILL)
    assert unprovisioned.wait_for_death() == -signal.SIGKILL
    assert [record["cause"] for record in deaths(tmp_path)] == ["killed"]
    unprovisioned.manager.restart_kernel(now=True)
    unprovisioned.connect()
    began = session.load_session(session_directories(tmp_path)[-1])
    assert began is not None
    assert began.notebook == str(tmp_path / "work.ipynb")
    assert "killed" in began.plan.because


def test_interrupting_the_process_that_the_frontend_knows_interrupts_the_cell(
    unprovisioned: Victim, tmp_path: Path
) -> None:
    sign = tmp_path / "sign"
    unprovisioned.begin_and_wait(
        f"import time\nfrom pathlib import Path\nPath({str(sign)!r}).touch()\ntime.sleep(1000)",
        sign,
    )
    unprovisioned.manager.interrupt_kernel()

    def answers() -> bool:  # what is queued behind an interrupted cell is aborted
        return bool(unprovisioned.run("y = 2")["content"]["status"] == "ok")

    until(answers, "the next cell", 10)


def test_killing_the_process_that_the_frontend_knows_ends_the_kernel(
    unprovisioned: Victim, tmp_path: Path
) -> None:
    kernel = kernel_of(unprovisioned.supervisor_pid)
    unprovisioned.manager.shutdown_kernel(now=True)
    until(lambda: not alive(kernel), "the kernel's end", 5)


def test_a_shutdown_is_no_death(unprovisioned: Victim, tmp_path: Path) -> None:
    unprovisioned.manager.shutdown_kernel()
    ended = session.load_exit(session_directories(tmp_path)[-1])
    assert ended is not None
    assert ended.kind == "shutdown"
    assert deaths(tmp_path) == []
