"""Each example notebook runs as a reader would run it, to its crash and beyond."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from harness.environment import KERNEL_NAME, Environment
from harness.ipynb import Cell, code_cells
from harness.notebook import Notebook, Result
from harness.records import flight, sessions, wait_for_checkpoint
from harness.server import JupyterServer

EXAMPLES = Path(__file__).parents[2] / "examples"


def cells_of(name: str) -> dict[str, Cell]:
    return {cell.id: cell for cell in code_cells(EXAMPLES / f"{name}.ipynb")}


def run_to_the_crash(notebook: Notebook, cells: dict[str, Cell]) -> Result:
    """Run all cells in order; returns what the cell after the killing one showed."""
    last = Result("ok", None)
    crashed = False
    for cell in cells.values():
        if "kills-the-kernel" in cell.tags:
            wait_for_checkpoint(notebook, last.execution_count)
            assert notebook.run_to_death(cell.source, 120).status == "died"
            crashed = True
            continue
        result = notebook.run(cell.source, 120).ok()
        if crashed:
            return result
        last = result
    raise AssertionError("no cell of this notebook kills the kernel")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.stem)
def test_an_example_is_a_valid_clean_notebook_for_this_kernel(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == KERNEL_NAME
    assert all(not c.outputs for c in notebook.cells if c.cell_type == "code")
    assert notebook.cells[0].cell_type == "markdown"


class TestTrainingLoop:
    """Killed at epoch 80 of 100, inside one long cell."""

    @pytest.fixture
    def notebook(self, server: JupyterServer) -> Iterator[Notebook]:
        name = server.environment.kernelspec("resilient-training", checkpoint_interval=1)
        one = server.open("training_loop.ipynb", name)
        yield one
        one.close()

    def test_killed_at_epoch_80_nearly_all_epochs_are_back_and_training_goes_on(
        self, notebook: Notebook
    ) -> None:
        cells = cells_of("training_loop")
        notebook.run(cells["data"].source).ok()
        notebook.run(cells["model"].source).ok()
        pid = flight(notebook).pid
        deaths = notebook.deaths_seen
        training = notebook.start(cells["training"].source)
        notebook.wait_shown(training, "epoch  80", 120)
        os.kill(pid, signal.SIGKILL)
        notebook.wait_autorestart(deaths)
        shown = notebook.run(cells["state"].source).ok().text
        assert "killed" in shown
        assert "restored" in shown
        epochs = int(shown.splitlines()[-1].split()[0])
        assert 40 <= epochs <= 90
        # The very same cell goes on where the state ends.
        again = notebook.run(cells["training"].source, 120).ok().text
        assert again.startswith(f"epoch {epochs + 1:3d}")
        assert notebook.run("len(history), len({id(e) for e in history})").value == "(100, 100)"


def test_dataframe_over_the_cap_is_killed_by_the_cap_and_both_frames_are_back(
    server: JupyterServer, jupyter_env: Environment
) -> None:
    name = jupyter_env.kernelspec("resilient-1g", memory_limit="1G", soft_limit="100%")
    notebook = server.open("dataframe_over_the_cap.ipynb", name)
    cap = sessions(notebook)[-1][1].cap
    assert cap is not None
    if not cap.enforced:
        notebook.close()
        pytest.skip(f"no memory cap can be enforced here: {cap.detail}")
    cells = cells_of("dataframe_over_the_cap")
    shown = run_to_the_crash(notebook, cells).text
    assert "1G" in shown
    assert "restored" in shown
    assert shown.endswith("100,000 orders, 100 customers\n")
    assert "1G" in notebook.run(cells["why"].source).ok().text
    notebook.close()


def test_segfault_in_c_extension_names_cell_and_line(
    notebook: Notebook, jupyter_env: Environment
) -> None:
    cells = cells_of("segfault_in_c_extension")
    shown = run_to_the_crash(notebook, cells).text
    assert "segmentation fault" in shown.lower()
    assert shown.splitlines()[-1].endswith("the copy is equal: True")
    death = jupyter_env.checkpoint_json("deaths")[-1]
    assert death["cause"] == "segmentation-fault"
    assert death["cell"] == 3
    assert death["line"] == 3
    assert death["source"] == cells["crash"].source.splitlines()[2]


def test_what_cannot_be_saved_is_named_and_everything_else_is_back(notebook: Notebook) -> None:
    cells = cells_of("what_cannot_be_saved")
    shown = run_to_the_crash(notebook, cells).text
    for name in ("readings", "listener", "digest"):
        assert f"not back: {name}" in shown
    assert "['Zugspitze', 'Brocken']" in shown.splitlines()[-1]
    notebook.run(cells["rebuild"].source + "\nlen(list(readings))").ok()


def test_the_status_names_what_cannot_be_saved_before_anything_happens(notebook: Notebook) -> None:
    cells = cells_of("what_cannot_be_saved")
    notebook.run(cells["good"].source).ok()
    result = notebook.run(cells["bad"].source).ok()
    wait_for_checkpoint(notebook, result.execution_count)
    status = notebook.run(cells["status"].source).ok().text
    for name in ("readings", "listener", "digest"):
        assert f"not saved: {name}" in status
