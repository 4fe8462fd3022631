"""Checkpoints while the cell is inside calls, signals included: clean moments or honest marks."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator

import pytest
from harness.notebook import Notebook, Result
from harness.records import checkpoints, flight, wait_for_checkpoint, wait_until
from harness.server import JupyterServer

Opener = Callable[[float], Notebook]


@pytest.fixture
def every(server: JupyterServer, notebook_path: str) -> Iterator[Opener]:
    """Opens the notebook with a checkpoint every so many seconds inside cells."""
    opened: list[Notebook] = []

    def one(seconds: float) -> Notebook:
        name = f"resilient-every-{str(seconds).replace('.', '-')}-s"
        server.environment.kernelspec(name, checkpoint_interval=seconds)
        opened.append(server.open(notebook_path, name))
        return opened[-1]

    yield one
    for notebook in opened:
        notebook.close()


def inside(notebook: Notebook, count: int = 1) -> None:
    """Wait for checkpoints inside the running cell."""
    wait_until(
        lambda: sum(c.inside_cell for c in checkpoints(notebook)) >= count,
        f"{count} checkpoints inside the cell",
    )


def test_a_list_made_and_sorted_in_one_cell_never_comes_back_empty(every: Opener) -> None:
    notebook = every(1)
    cell = notebook.start(
        "import time\nkept = 'kept'\nrows = [3, 1, 2] * 100\n"
        "def slow(x):\n    time.sleep(0.1)\n    return x\n"
        "rows.sort(key=slow)"
    )
    inside(notebook)
    assert checkpoints(notebook)[-1].inside_call
    notebook.kill_kernel(flight(notebook).pid)
    notebook.finish(cell)
    first = notebook.run("print(kept, type(rows).__name__)").ok()
    assert first.text.endswith("kept Stub\n")
    assert "not back: rows (list): a call was changing it when it was saved" in first.prose
    # Who wants it all the same gets it by name, as the notice says.
    newest = next(c for c in reversed(checkpoints(notebook)) if c.inside_cell)
    asked = notebook.run(f"%checkpoint restore {newest.id} rows").ok()
    assert "restored: 1 variable" in asked.text
    assert notebook.run("rows").ok().value == "[]"


def test_a_training_loop_in_a_function_is_checkpointed_at_clean_moments(every: Opener) -> None:
    notebook = every(1)
    notebook.run(
        "import numpy as np\nrng = np.random.default_rng(0)\n"
        "class Model:\n"
        "    def __init__(self): self.weights = rng.random((300, 300)); self.steps = 0\n"
        "    def step(self, batch):\n"
        "        self.weights = np.tanh(batch @ self.weights); self.steps += 1\n"
        "        return float(np.linalg.norm(self.weights))\n"
        "model = Model()\n"
        "def train(model, epochs):\n"
        "    losses = []\n"
        "    for epoch in range(epochs):\n"
        "        for batch in np.split(rng.random((3000, 300)), 10):\n"
        "            loss = model.step(batch)\n"
        "        losses.append(loss)\n"
        "    return losses"
    ).ok()
    cell = notebook.start("train(model, 1_000_000)")
    inside(notebook, 4)
    notebook.kill_kernel(flight(notebook).pid)
    notebook.finish(cell)
    taken = [c for c in checkpoints(notebook) if c.inside_cell]
    assert [c.inside_call for c in taken] == [False] * len(taken)
    assert all(c.line_number == 1 for c in taken)
    notebook.run("frames = %checkpoint locals").ok()
    look = (
        "(sorted(frames), frames['0:train']['epoch'] == len(frames['0:train']['losses']),"
        " model.steps > 0, 'losses' in globals())"
    )
    names, consistent, trained, injected = notebook.eval(look)
    assert names[0] == "0:train"
    assert (consistent, trained, injected) == (True, True, False)


def test_a_long_c_call_is_checkpointed_after_the_grace_period_and_marked(every: Opener) -> None:
    notebook = every(1)
    result = notebook.run("import ctypes; libc = ctypes.CDLL(None); before = 1; del libc").ok()
    wait_for_checkpoint(notebook, result.execution_count)
    cell = notebook.start("inside = 'made in the cell'\nctypes.CDLL(None).sleep(12)\nafter = 2")
    began = time.monotonic()
    inside(notebook)
    assert time.monotonic() - began < 11
    taken = [c for c in checkpoints(notebook) if c.inside_cell]
    assert taken[0].inside_call
    assert taken[0].line_number == 2
    assert {"before", "inside"} <= set(taken[0].names)
    notebook.finish(cell).ok()
    assert notebook.run("after").ok().value == "2"


LOOP = (
    "import json\n"
    "def work(n):\n    total = 0\n    for i in range(n): total += len(json.dumps([i] * 50))\n"
    "    return total\n"
    "while True: work(300)"
)


def only_a_keyboard_interrupt(result: Result) -> None:
    assert result.error == "KeyboardInterrupt: "
    assert [o["output_type"] for o in result.outputs] == ["error"], result.text


def test_an_interrupt_reaches_the_cell_every_time_however_often_it_is_checkpointed(
    every: Opener,
) -> None:
    notebook = every(0.2)
    notebook.run("table = {i: str(i) for i in range(100_000)}").ok()
    moments = random.Random(20)
    for _ in range(20):
        cell = notebook.start(LOOP)
        time.sleep(0.1 + moments.random())
        notebook.interrupt()
        only_a_keyboard_interrupt(notebook.finish(cell, seconds=10))
        assert notebook.run("1 + 1").ok().text == "2\n"
    assert sum(c.inside_cell for c in checkpoints(notebook)) >= 5
    assert "failed" not in notebook.run("%checkpoint").ok().text


def test_an_interrupt_that_comes_while_our_hook_runs_stops_the_cell_that_follows(
    notebook: Notebook,
) -> None:
    notebook.run(
        "import os, signal, time\nclock = get_ipython().kernel.clockwork\n"
        "began = clock.cell_began\n"
        "def interrupted():\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(0.01)\n"
        "    began()\n"
        "clock.cell_began = interrupted"
    ).ok()
    for _ in range(3):
        only_a_keyboard_interrupt(notebook.run("while True: sum(range(1000))", seconds=10))


def test_a_timeout_by_signal_is_raised_in_the_users_code_and_nowhere_else(every: Opener) -> None:
    notebook = every(0.2)
    result = notebook.run(
        "import signal\n"
        "class Late(Exception): pass\n"
        "def late(*_): raise Late\n"
        "signal.signal(signal.SIGALRM, late)\n"
        "caught = 0\n"
        "def spin():\n    while True: str(list(range(100)))\n"
        "for i in range(40):\n"
        "    signal.setitimer(signal.ITIMER_REAL, 0.05 + i / 400)\n"
        "    try: spin()\n"
        "    except Late: caught += 1\n"
        "print(caught)"
    )
    assert result.ok().text == "40\n"
    assert sum(c.inside_cell for c in checkpoints(notebook)) >= 5


def test_workers_of_the_user_die_of_sigterm_at_once_and_save_nothing(notebook: Notebook) -> None:
    result = notebook.run(
        "import multiprocessing, os, signal, time\n"
        "x = 'the kernel'\n"
        "def worker():\n    global x\n    x = 'a worker'\n    time.sleep(600)\n"
        "context = multiprocessing.get_context('fork')\n"
        "workers = [context.Process(target=worker) for _ in range(3)]\n"
        "for w in workers: w.start()\n"
        "time.sleep(0.5)\n"
        "began = time.monotonic()\n"
        "for w in workers: w.terminate()\n"
        "for w in workers: w.join()\n"
        "print(time.monotonic() - began < 1, {w.exitcode for w in workers})\n"
        "del workers, w"
    )
    assert result.ok().stdout == "True {-15}\n"
    wait_for_checkpoint(notebook, result.execution_count)
    assert not [c for c in checkpoints(notebook) if c.reason == "SIGTERM"]
    assert flight(notebook).exiting is None
    notebook.kill_kernel(flight(notebook).pid)
    assert notebook.run("x").ok().value == "'the kernel'"


def test_a_child_that_outlives_the_end_of_its_cell_is_not_taken_for_the_kernel(
    notebook: Notebook,
) -> None:
    result = notebook.run(
        "import os, signal, threading, time\nmine = os.getpid(); x = 1\n"
        "def end(): time.sleep(1.5); os.kill(os.getpid(), signal.SIGKILL)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    x = 'of the child'\n"
        "    threading.Thread(target=end).start()\n"
        "    get_ipython().events.trigger('post_run_cell', None)\n"
        "    time.sleep(60)\n"
    )
    result.ok()
    reaped = notebook.run("os.waitpid(child, 0)[1]").ok()
    assert reaped.value == "9"
    wait_for_checkpoint(notebook, reaped.execution_count)
    notebook.kill_kernel(flight(notebook).pid)
    assert notebook.run("x").ok().value == "1"
