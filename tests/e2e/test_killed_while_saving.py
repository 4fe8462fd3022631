"""Killed in the middle of a checkpoint: the one before it is whole and is used."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from harness.notebook import Notebook
from harness.records import checkpoints, flight, wait_for_checkpoint, wait_until
from harness.server import is_alive

from checkpoint_kernel.flight_recorder import Flight

# Both variables are made together; a mixture of two generations would be a torn checkpoint.
MAKE = (
    "import numpy as np\ngeneration = {0}\narray = np.random.default_rng({0}).random(40_000_000)\n"
)
WHOLE = "array[-1] == np.random.default_rng(generation).random(40_000_000)[-1]"


def test_killing_kernel_and_snapshot_process_while_it_writes_leaves_the_state_before(
    notebook: Notebook,
) -> None:
    result = notebook.run(MAKE.format(1)).ok()
    wait_for_checkpoint(notebook, result.execution_count, seconds=60)
    pid = flight(notebook).pid
    notebook.start(MAKE.format(2))
    seen: list[Flight] = []

    def is_writing_what_the_second_cell_made() -> bool:
        seen[:] = [flight(notebook)]
        now = seen[0]
        return now.state == "idle" and now.execution_count == 2 and now.snapshot_pid is not None

    wait_until(is_writing_what_the_second_cell_made, "the second cell's snapshot process")
    snapshot_pid = seen[0].snapshot_pid
    assert snapshot_pid is not None
    deaths = notebook.deaths_seen
    os.kill(snapshot_pid, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    committed = [c.execution_count for c in checkpoints(notebook)]
    notebook.wait_autorestart(deaths)
    generation = notebook.run("print(generation)").ok().text.splitlines()[-1]
    assert generation == ("2" if 2 in committed else "1")
    assert notebook.run(f"bool({WHOLE})").ok().value == "True"


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_a_random_moment_a_whole_generation_comes_back_and_later_cells_are_named(
    notebook: Notebook, seed: int
) -> None:
    result = notebook.run("generation = 0\nimport numpy as np\narray = np.zeros(5_000_000)").ok()
    wait_for_checkpoint(notebook, result.execution_count)
    pid = flight(notebook).pid
    chance = random.Random(seed)
    cells = [
        notebook.run(f"generation = {number}; array[:] = {number}").ok().execution_count
        for number in range(1, 6)
    ]
    time.sleep(chance.uniform(0, 0.3))
    notebook.kill_kernel(pid)
    shown = notebook.run("print(generation, array.min() == array.max() == generation)").ok()
    generation, whole = shown.text.splitlines()[-1].split()
    assert whole == "True"
    later = ", ".join(f"In[{cell}]" for cell in cells[int(generation) :])
    assert (f"not in it: {later}, which finished later" in shown.prose) == bool(later)


def test_no_process_outlives_the_kernel_it_belonged_to(notebook: Notebook) -> None:
    notebook.run(MAKE.format(1)).ok()
    wait_until(lambda: flight(notebook).snapshot_pid is not None, "a snapshot process")
    record = flight(notebook)
    assert record.snapshot_pid is not None
    notebook.kill_kernel(record.pid)
    assert not is_alive(record.snapshot_pid)
    assert notebook.run("1").ok().value == "1"


def held(notebook: Notebook) -> list[str]:
    """What the newest checkpoint holds."""
    return [name for newest in checkpoints(notebook)[-1:] for name in newest.names]


def test_a_variable_whose_saving_was_killed_is_named_in_the_notice_and_tried_again(
    notebook: Notebook, tmp_path: Path
) -> None:
    notebook.run(
        "from checkpoint_kernel import blame; blame._AGAIN_AFTER_S = 2; del blame\n"
        "import os, pathlib, signal\n"
        f"full = pathlib.Path({str(tmp_path / 'full')!r}); full.touch()\n"
        "class Big:\n    def __reduce__(self):\n"
        "        if full.exists(): os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return (list, ())\n"
    ).ok()
    notebook.run("big = Big(); small = [1]").ok()
    wait_until(lambda: "small" in held(notebook), "a checkpoint without big", 30)
    said = "big is not saved at present: the process that tried to save it was killed"
    # The manifest is there a moment before the kernel knows.
    wait_until(lambda: said in notebook.run("1").ok().prose, "a word of it", 10)
    time.sleep(5)  # meanwhile it is tried again, in vain
    assert said not in notebook.run("2").ok().prose
    (tmp_path / "full").unlink()
    # Nobody runs a cell: it is saved all the same.
    wait_until(lambda: "big" in held(notebook), "a checkpoint with big", 30)
    wait_until(lambda: "big is saved again." in notebook.run("3").ok().prose, "a word of it", 10)
