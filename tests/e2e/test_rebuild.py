"""What cannot be saved is made again by the cells that made it, when the user says so.

One notebook is killed twice, and restarted once; each test asks for one thing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from harness.notebook import Notebook
from harness.records import wait_for_checkpoint
from harness.server import JupyterServer

CELLS = (
    """\
class Model:
    def __init__(self, size):
        self.size, self.weight = size, 0
    def fit(self, rows):
        self.weight += sum(rows)
    def __reduce__(self):
        raise TypeError("it holds a handle")""",  # In[1]
    "rows = [1, 2, 3]; fits = []",
    "import asyncio\nasync def load():\n    await asyncio.sleep(0)\n    return Model(len(rows))",
    "model = await load()",
    "model.fit(rows)\nfits.append(model.weight)",  # In[5]
    "gen = (10 * x for x in rows)",
    "next(gen)",
    "zero = 1",
    "base = Model(1 / zero)  # the line that fails",
    "top = Model(base)",  # In[10]
    "import time\ntime.sleep(0 if zero else 60)\nslow = Model(0)",
    "zero = 0; password = object()",
)


@pytest.fixture(scope="module")
def killed(server: JupyterServer) -> Iterator[Notebook]:
    notebook = server.open("rebuild.ipynb")
    for cell in CELLS:
        last = notebook.run(cell).ok()
    wait_for_checkpoint(notebook, last.execution_count)
    notebook.kill_kernel()
    between = notebook.run("pass").ok()  # what is not back is not in this checkpoint either
    wait_for_checkpoint(notebook, between.execution_count)
    notebook.kill_kernel()
    yield notebook
    notebook.close()


def test_the_notice_names_the_cell_and_the_command(killed: Notebook) -> None:
    told = killed.run("fits").ok().prose
    assert "made in In[6]: gen = (10 * x for x in rows) - %checkpoint rebuild gen" in told
    assert "made in In[4] (model), In[9] (base), In[10] (top), In[11] (slow) - %" in told
    status = killed.run("%checkpoint").ok().prose
    assert "made in In[6]: gen = (10 * x for x in rows) - %checkpoint rebuild gen" in status
    assert status.count("%checkpoint rebuild gen") == 1


def test_without_an_answer_nothing_runs(killed: Notebook) -> None:
    shown = killed.run("%checkpoint rebuild gen").ok().text
    assert "In[6]  makes gen" in shown
    assert "In[7]  changes gen (next(gen))" in shown
    assert "%checkpoint rebuild gen --yes" in shown
    refused = killed.start("%checkpoint rebuild gen", allow_stdin=True)
    assert killed.answer(refused, "") == "Run these 2 cells? [y/N, or the numbers of some] "
    assert "Nothing has been run." in killed.finish(refused).ok().text
    assert killed.run("gen").status == "error"


def test_a_generator_is_back_at_its_position_after_a_yes(killed: Notebook) -> None:
    asked = killed.start("%checkpoint rebuild gen", allow_stdin=True)
    killed.answer(asked, "y")
    assert "gen is there again: generator" in killed.finish(asked).ok().text
    ran = killed.run("next(gen), len(In)").ok()
    assert ran.value == f"(20, {(ran.execution_count or 0) + 1})", "the history has not grown twice"


def test_a_model_is_loaded_and_trained_again_also_by_a_cell_that_awaits(killed: Notebook) -> None:
    result = killed.run("%checkpoint rebuild model --yes\nprint(model.weight, fits)").ok()
    assert "In[4]  makes model" in result.text
    assert "may also change: fits" in result.text
    assert "6 [6, 6]" in result.text


def test_the_first_error_stops_and_says_what_is_left(killed: Notebook) -> None:
    result = killed.run("%checkpoint rebuild top --yes\nprint('went on')")
    assert result.status == "error"
    assert "In[9] uses zero as it is now: In[12] has set it since." in result.prose
    traceback = re.sub(r"\x1b\[[\d;]*m", "", result.text)
    assert "Cell In[9], line 1" in traceback
    assert "----> 1 base = Model(1 / zero)  # the line that fails" in traceback
    assert "stopped: In[9] raised ZeroDivisionError; not run: In[10]" in result.text
    assert "went on" not in result.text


def test_stop_ends_a_cell_that_runs_again(killed: Notebook) -> None:
    running = killed.start("%checkpoint rebuild slow --yes")
    killed.wait_shown(running, "In[11] runs again")
    killed.interrupt()
    assert "stopped: In[11] raised KeyboardInterrupt" in killed.finish(running).text


def test_after_a_clean_start_the_cells_of_before_are_known(killed: Notebook) -> None:
    killed.restart()
    result = killed.run("%checkpoint rebuild gen --yes\nprint(list(gen))").ok()
    assert "In[n] are cells of the session before" in result.text
    assert "In[2]  makes rows, which In[6] needs" in result.text
    assert "[30]" in result.text, "In[7], and the test above, have taken one each"
    assert killed.run("1 in Out, 19 in Out").ok().value == "(True, False)", "no number of before"
