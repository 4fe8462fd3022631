"""Checkpoints inside a long cell: that is where the work of the day is."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from harness.notebook import Notebook
from harness.records import checkpoints, flight, wait_for_checkpoint, wait_until
from harness.server import JupyterServer


@pytest.fixture
def hasty(server: JupyterServer, notebook_path: str) -> Iterator[Notebook]:
    """A notebook whose long cells are checkpointed every second."""
    name = server.environment.kernelspec("resilient-every-second", checkpoint_interval=1)
    notebook = server.open(notebook_path, name)
    yield notebook
    notebook.close()


LOOP = "import time\nfor step in range(10_000):\n    steps.append(step)\n    time.sleep(0.01)"


def test_a_death_inside_a_long_cell_loses_seconds_and_not_the_cell(hasty: Notebook) -> None:
    hasty.run("steps = []").ok()
    cell_id = hasty.start(LOOP)
    pid = flight(hasty).pid
    wait_until(lambda: sum(c.inside_cell for c in checkpoints(hasty)) >= 2, "two checkpoints")
    hasty.kill_kernel(pid)
    assert hasty.finish(cell_id).status == "died"
    first = hasty.run("print(len(steps), steps == list(range(len(steps))))").ok()
    count, whole = first.text.splitlines()[-1].split()
    assert int(count) > 50
    assert whole == "True"
    assert "did not finish" in first.prose


def test_the_notice_names_the_checkpoint_from_before_the_unfinished_cell(hasty: Notebook) -> None:
    result = hasty.run("steps = []").ok()
    before = wait_for_checkpoint(hasty, result.execution_count)
    cell_id = hasty.start(LOOP)
    pid = flight(hasty).pid
    wait_until(lambda: any(c.inside_cell for c in checkpoints(hasty)), "a checkpoint in the cell")
    hasty.kill_kernel(pid)
    hasty.finish(cell_id)
    first = hasty.run("print(len(steps) > 0)").ok()
    assert first.text.endswith("True\n")
    assert f"%checkpoint restore {before.id}" in first.prose
    hasty.run(f"%checkpoint restore {before.id}").ok()
    assert hasty.run("steps").ok().value == "[]"


def test_cells_are_as_fast_while_checkpoints_are_taken(hasty: Notebook) -> None:
    # Not a benchmark: an upper bound that only a blocking checkpoint would break.
    hasty.run("import numpy as np, time\nbig = np.random.default_rng(0).random(20_000_000)").ok()
    result = hasty.run(
        "began = time.perf_counter()\nworst = 0\n"
        "while time.perf_counter() - began < 4:\n"
        "    t = time.perf_counter(); big[0] += 1; worst = max(worst, time.perf_counter() - t)\n"
        "print(worst)"
    )
    assert float(result.ok().stdout) < 0.5


def test_a_cell_that_ended_while_its_forerunner_was_being_saved_is_saved_soon_after(
    notebook: Notebook,
) -> None:
    notebook.run("import numpy as np; big = np.random.default_rng(0).random(60_000_000)").ok()
    quick = notebook.run("small = 'made while big was being written'").ok()
    cell_id = notebook.start("import time\nfor _ in range(60_000): time.sleep(0.001)")
    wait_for_checkpoint(notebook, quick.execution_count, seconds=30, at_all=True)
    notebook.kill_kernel(flight(notebook).pid)
    notebook.finish(cell_id)
    assert notebook.run("small").ok().value == "'made while big was being written'"


def test_inside_one_long_c_call_a_checkpoint_comes_after_a_grace_period(hasty: Notebook) -> None:
    result = hasty.run("rows = list(range(1000)); note = 'kept'").ok()
    wait_for_checkpoint(hasty, result.execution_count)
    cell_id = hasty.start("note = 'changed in the cell'\nimport time\ntime.sleep(600)")
    wait_until(lambda: any(c.inside_call for c in checkpoints(hasty)), "one inside the call")
    hasty.kill_kernel(flight(hasty).pid)
    hasty.finish(cell_id)
    assert hasty.run("note, len(rows)").ok().value == "('changed in the cell', 1000)"


def test_a_list_that_is_being_sorted_comes_back_with_all_its_rows(hasty: Notebook) -> None:
    # CPython empties a list while it sorts it: a checkpoint then must not save it as empty.
    result = hasty.run("rows = [3, 1, 2] * 10").ok()
    wait_for_checkpoint(hasty, result.execution_count)
    cell_id = hasty.start(
        "import time\ndef slow(x):\n    for _ in range(40): time.sleep(0.02)\n    return x\n"
        "rows.sort(key=slow)"
    )
    wait_for_checkpoint(hasty, 2, inside_cell=True, seconds=25)
    hasty.kill_kernel(flight(hasty).pid)
    hasty.finish(cell_id)
    assert hasty.run("sorted(rows) == sorted([3, 1, 2] * 10)").ok().value == "True"


def test_the_locals_of_a_running_function_are_offered_after_the_death(hasty: Notebook) -> None:
    hasty.run(
        "import time\ndef train():\n    losses = []\n    for epoch in range(10_000):\n"
        "        losses.append(epoch); time.sleep(0.01)"
    ).ok()
    cell_id = hasty.start("train()")
    wait_until(lambda: sum(c.inside_cell for c in checkpoints(hasty)) >= 2, "two checkpoints")
    hasty.kill_kernel(flight(hasty).pid)
    hasty.finish(cell_id)
    first = hasty.run("frames = %checkpoint locals\nprint(len(str(frames)) > 100)").ok()
    assert "%checkpoint locals" in first.prose
    assert first.text.endswith("True\n")
    assert hasty.eval("'losses' in str(frames) and 'losses' not in globals()")


BESIDE = {
    "a thread": (
        "import threading\n"
        "def work():\n    while True: steps.append(sum(range(20_000)))\n"
        "threading.Thread(target=work, daemon=True).start()"
    ),
    "a thread that mostly waits for the network": (
        "import socket, threading, time\n"
        "ours, theirs = socket.socketpair()\n"
        "def work():\n    while True: steps.append(ours.recv(1))\n"
        "def send():\n    while True: theirs.send(b'x'); time.sleep(0.01)\n"
        "for f in (work, send): threading.Thread(target=f, daemon=True).start()"
    ),
    "a task of the event loop": (
        "import asyncio\n"
        "async def work():\n"
        "    while True: steps.append(1); await asyncio.sleep(0.01)\n"
        "task = asyncio.get_event_loop().create_task(work())"
    ),
    "a callback of the event loop": (
        "import tornado.ioloop\n"
        "tornado.ioloop.PeriodicCallback(lambda: steps.append(1), 10).start()"
    ),
}


@pytest.mark.parametrize("beside", BESIDE)
def test_what_works_on_with_no_cell_around_it_is_saved_every_interval(
    hasty: Notebook, beside: str
) -> None:
    hasty.run("steps = []").ok()
    result = hasty.run(BESIDE[beside]).ok()
    pid = flight(hasty).pid
    first = wait_for_checkpoint(hasty, result.execution_count)
    wait_until(lambda: checkpoints(hasty)[-1].seq >= first.seq + 2, "two more checkpoints")
    hasty.kill_kernel(pid)
    assert int(hasty.run("print(len(steps))").ok().text.split()[-1]) > 20


def test_what_a_thread_did_that_ended_between_two_looks_is_saved(hasty: Notebook) -> None:
    result = hasty.run(
        "import threading, time; done = []\n"
        "def work():\n    time.sleep(0.3); done.append(sum(range(200_000)))\n"
        "threading.Thread(target=work).start()"
    ).ok()
    first = wait_for_checkpoint(hasty, result.execution_count)
    wait_until(lambda: checkpoints(hasty)[-1].seq > first.seq, "the next checkpoint")
    hasty.kill_kernel(flight(hasty).pid)
    assert hasty.run("print(len(done))").ok().text.endswith("1\n")


def test_a_task_that_only_waits_and_a_cell_that_is_over_make_no_checkpoints(
    hasty: Notebook,
) -> None:
    result = hasty.run(
        "import asyncio\nasync def wait(): await asyncio.sleep(3600)\n"
        "task = asyncio.get_event_loop().create_task(wait())"
    ).ok()
    first = wait_for_checkpoint(hasty, result.execution_count)
    time.sleep(4)
    assert checkpoints(hasty)[-1] == first


def test_what_happened_beside_cells_is_saved_at_an_orderly_end(
    server: JupyterServer, notebook_path: str
) -> None:
    notebook = server.open(notebook_path)
    result = notebook.run(
        "steps = []\n" + BESIDE["a callback of the event loop"]  # checkpoints every 30 s
    ).ok()
    wait_for_checkpoint(notebook, result.execution_count)
    time.sleep(1)
    notebook.close()
    again = server.open(notebook_path)
    again.run("%checkpoint restore").ok()
    assert int(again.run("print(len(steps))").ok().text.split()[-1]) > 20
    again.close()
