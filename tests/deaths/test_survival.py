"""The survival matrix: what kills a capped kernel, the guard turns into an error of the cell."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from victim import FOREIGN, Victim, until
from workloads import WORKLOADS, Workload, missing

from checkpoint_kernel import contract, session

Start = Callable[..., Victim]
SURVIVED = "memory-cap-interrupt"


IN_VM = ("1 GB in one call", "growing by 20 MB")  # what `make cgroup2` repeats


def capped(start: Start, **given: Any) -> Victim:
    """A kernel under 500 MB; skipped, and counted, where nothing can enforce that."""
    victim = start(config={"memory_limit": "500M", **given.pop("config", {})}, **given)
    cap = victim.session().cap
    if cap is None or not cap.enforced:
        pytest.skip(f"nothing enforces a cap here: {cap}")
    return victim


def records(victim: Victim) -> list[dict[str, Any]]:
    return [json.loads(path.read_bytes()) for path in victim.deaths()]


def events(victim: Victim) -> list[str]:
    return [event.kind for event in session.read_events(victim.directory)]


@pytest.mark.parametrize(
    "workload",
    [
        pytest.param(w, marks=pytest.mark.vm) if w.name in IN_VM else w
        for w in WORKLOADS
        if w.survives
    ],
    ids=lambda w: w.name,
)
def test_the_cell_ends_with_words_and_the_kernel_and_its_namespace_live(
    start: Start, workload: Workload
) -> None:
    if why := missing(workload):
        pytest.skip(why)
    victim = capped(start)
    victim.run("keep = 41")
    pid = victim.kernel_pid
    said = victim.run(workload.code)["content"]
    assert (said["status"], said["ename"]) == ("error", "MemoryCapExceeded"), said
    assert "500M" in said["evalue"]
    assert any(f"line {line} " in said["evalue"] for line in workload.lines), said["evalue"]
    freed = victim.run(f"keep += 1\n{workload.frees}")["content"]
    assert freed["status"] == "ok", freed["evalue"]
    room = "from checkpoint_kernel.memory_guard import MemoryCapExceeded\nx = b'x' * 100_000_000"
    fits = victim.run(f"{room}\nassert keep == 42")["content"]
    assert fits["status"] == "ok", fits["evalue"]
    assert victim.kernel_pid == pid
    until(lambda: len(records(victim)) == 1, "the record of the interrupt")
    record = records(victim)[0]
    assert (record["cause"], record["survived"]) == (SURVIVED, True)
    assert (record["cell"], record["signal"], record["exit_code"]) == (2, None, None)
    assert record["line"] in workload.lines
    assert record["source"] == workload.code.splitlines()[record["line"] - 1].strip()
    assert "The kernel and its variables live." in record["paragraph"]


@pytest.mark.parametrize("workload", [w for w in WORKLOADS if not w.survives], ids=lambda w: w.name)
def test_where_nothing_can_refuse_the_memory_the_line_of_the_death_is_known(
    start: Start, workload: Workload
) -> None:
    victim = capped(start)
    record = victim.dies(workload.code)
    assert (record["cause"], record["confidence"]) == ("oom-killed-by-cap", "proof")
    assert record["line"] in workload.lines


def test_without_the_guard_the_same_cell_kills_the_kernel(start: Start) -> None:
    victim = capped(start, config={"soft_limit": "100%"})
    record = victim.dies(WORKLOADS[0].code)
    assert record["cause"] == "oom-killed-by-cap"


def test_a_cell_that_handles_the_error_and_frees_memory_goes_on(start: Start) -> None:
    victim = capped(start)
    said = victim.run(
        "import time\n"
        "def hoard():\n"
        "    found = []\n"
        "    while True:\n"
        "        found.append(b'x' * 5_000_000)\n"
        "seen = []\n"
        "for _ in range(2):\n"
        "    try:\n"
        "        hoard()\n"
        "    except MemoryError as why:\n"
        "        seen.append(type(why).__name__)\n"  # or MemoryError, where it grew faster
        "    time.sleep(1.5)\n"
        "assert len(seen) == 2 and set(seen) <= {'MemoryCapExceeded', 'MemoryError'}, seen"
    )
    assert said["content"]["status"] == "ok", said["content"]
    # The cell has handled them: no cell was ended.
    assert set(events(victim)) <= {"memory-cap-handled", "snapshot-stopped-by-guard"}
    own = victim.run("raise MemoryError('of my own')")["content"]
    assert (own["ename"], own["evalue"]) == ("MemoryError", "of my own")
    assert records(victim) == []


def test_events_that_cannot_be_written_cost_neither_the_cell_its_words_nor_the_kernel(
    start: Start,
) -> None:
    victim = capped(start)
    (victim.directory / contract.EVENTS_FILE).mkdir()  # as on a full disk
    pid = victim.kernel_pid
    said = victim.run(WORKLOADS[1].code)["content"]
    assert said["ename"] == "MemoryCapExceeded"
    time.sleep(2.5)  # the supervisor has looked
    assert victim.run("del hoard")["content"]["status"] == "ok"
    assert victim.kernel_pid == pid
    assert victim.manager.is_alive()


def test_a_namespace_above_the_soft_limit_can_still_be_worked_with(start: Start) -> None:
    victim = capped(start, config={"soft_limit": "200M"})
    said = victim.run("big = [b'x' * 5_000_000 for _ in range(22)]\nimport time; time.sleep(0.3)")
    assert said["content"]["status"] == "ok", said["content"]
    more = "more = []\nfor _ in range(100):\n    more.append(b'x' * 1_000_000); time.sleep(0.02)"
    assert victim.run(more)["content"]["ename"] == "MemoryCapExceeded"
    assert victim.run("time.sleep(0.5); n = len(big)")["content"]["status"] == "ok"
    assert victim.run("del big, more; time.sleep(0.5)")["content"]["status"] == "ok"


@pytest.mark.vm
def test_a_child_that_the_oom_killer_takes_is_an_event_and_no_death(start: Start) -> None:
    victim = capped(start, config={"soft_limit": "100%"})  # or the cell would be ended first
    shown: list[dict[str, Any]] = []
    said = victim.client.execute_interactive(
        "import subprocess, sys, time\n"
        "status = subprocess.call([sys.executable, '-c', 'x = bytearray(b\"x\") * 600_000_000'])\n"
        "assert status == -9, status\n"
        "time.sleep(4)",
        timeout=60,
        output_hook=lambda message: shown.append(message["content"]),
    )
    assert said["content"]["status"] == "ok", said["content"]
    told = "".join(content.get("text", "") for content in shown)
    assert "a child process was killed because memory ran out" in told
    assert "interrupt the cell" in told
    until(lambda: "child-oom-killed" in events(victim), "the event")
    assert records(victim) == []
    assert victim.run("1 + 1")["content"]["status"] == "ok"


def test_near_the_limit_what_fits_is_saved_in_place_and_the_rest_is_named(start: Start) -> None:
    victim = capped(start)
    victim.run("keep = 41")
    hoard = next(w for w in WORKLOADS if w.name == "millions of small objects")
    victim.run(hoard.code)
    victim.run("keep += 1")

    def saved() -> bool:
        reply = victim.client.execute_interactive(
            "%checkpoint", timeout=60, output_hook=lambda m: shown.append(m["content"])
        )
        return bool(reply)

    shown: list[dict[str, Any]] = []
    deadline = time.monotonic() + 20
    text = ""
    while "not saved: rows" not in text and time.monotonic() < deadline:
        shown.clear()
        saved()
        text = "".join(content.get("text", "") for content in shown)
        time.sleep(0.5)
    assert "saved: " in text
    assert "not saved: rows (list): saving it takes more memory than there is" in text
    victim.manager.restart_kernel(now=True)
    victim.connect()
    assert victim.run("%checkpoint restore\nassert keep == 42")["content"]["status"] == "ok"


def test_a_kernel_that_is_not_ours_is_refused_what_does_not_fit_and_lives(start: Start) -> None:
    victim = capped(start, argv=FOREIGN)
    said = victim.run("x = b'x' * 600_000_000")["content"]
    assert (said["status"], said["ename"]) == ("error", "MemoryError")
    assert victim.run("1 + 1")["content"]["status"] == "ok"
    assert records(victim) == []


def test_a_restore_of_more_than_is_left_is_not_refused(start: Start, tmp_path: Path) -> None:
    """Its maps are data at once, and memory only when they are touched."""
    victim = capped(start)
    victim.run("import numpy as np\nbig = np.ones(38_000_000)")  # 290 MB
    victim.run("%checkpoint save")
    assert victim.restart().kind == "clean"
    # All of it twice would not fit; a map of it does, beside what is used by now.
    said = victim.run("import numpy as np\nmine = np.ones(20_000_000)\n%checkpoint restore")
    assert said["content"]["status"] == "ok", said["content"]
    assert victim.run("assert big.sum() == 38_000_000")["content"]["status"] == "ok"
