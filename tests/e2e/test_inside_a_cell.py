"""Checkpoints inside a long cell: that is where the work of the day is."""

from __future__ import annotations

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
