"""Who has the memory, as a user asks for it and as JupyterLab shows it; one kernel for all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness.notebook import Notebook
from harness.records import sessions
from harness.server import JupyterServer

MB = 1 << 20


@pytest.fixture(scope="module")
def capped(server: JupyterServer) -> Iterator[Notebook]:
    """A notebook under a cap of 500 MB; skipped, and counted, where nothing can enforce one."""
    name = server.environment.kernelspec("resilient-500m", memory_limit="500M", soft_limit="100%")
    notebook = server.open("memory_display.ipynb", name)
    _, newest = sessions(notebook)[-1]
    assert newest.cap is not None
    if not newest.cap.enforced:
        notebook.close()
        pytest.skip(f"no memory cap can be enforced here: {newest.cap.detail}")
    yield notebook
    notebook.close()


GROW = """\
import subprocess, sys, time
hoard = b'1' * 100_000_000
also = hoard
program = "x = bytearray(60_000_000); print(flush=True); input()"
child = subprocess.Popen([sys.executable, "-c", program], stdin=-1, stdout=-1)
_ = child.stdout.readline()"""


def test_variables_children_and_the_growth_of_cells_are_told(capped: Notebook) -> None:
    grew = capped.run(GROW).ok().execution_count
    text = capped.run("%checkpoint memory").ok().text
    lines = text.splitlines()
    assert max(map(len, lines)) <= 88
    assert " of 500M used (" in lines[0]
    assert "enforced (" in lines[0]
    variable = next(line for line in lines if line.startswith("hoard, also "))
    assert "95.4 MB" in variable
    assert variable.endswith(f"In[{grew}]")
    assert "python" in text
    assert "-c x = bytearray(60_000_000)" in text
    (cell,) = [line for line in lines if line.startswith(f"In[{grew}] ")]
    assert cell.endswith("<- most")
    assert "`del hoard, also`" in text
    capped.run("child.communicate(b'\\n'); del hoard, also").ok()
    assert "95.4 MB" not in capped.run("%checkpoint memory").ok().text.split("cell ")[0]


def test_a_display_is_answered_with_the_cap_while_a_cell_runs(capped: Notebook) -> None:
    cell = capped.start("print('now', flush=True); import time\nwhile True: time.sleep(0.01)")
    capped.wait_shown(cell, "now")
    usage = capped.usage()
    shown = usage["host_virtual_memory"]
    assert shown["total"] == 500 * MB
    assert shown["used"] + shown["available"] == 500 * MB
    assert usage["kernel_memory"] == shown["used"] > 20 * MB
    assert usage["memory_limit"]["configured"] == "500M"
    assert usage["machine_virtual_memory"]["total"] > 500 * MB
    capped.interrupt()
    assert capped.finish(cell).status == "error"


def test_use_is_plotted_with_the_cells(capped: Notebook) -> None:
    result = capped.run("%checkpoint memory --plot").ok()
    pictures = [output for output in result.outputs if "image/png" in output.get("data", {})]
    assert pictures or ("In[" in result.text and "┤" in result.text)
    assert capped.eval("'matplotlib.pyplot' in __import__('sys').modules") is False


def test_locals_that_an_error_keeps_are_told_and_let_go(capped: Notebook) -> None:
    failed = capped.run("def f():\n    big = b'2' * 80_000_000\n    raise MemoryError('x')\nf()")
    assert failed.status == "error"
    text = capped.run("%checkpoint memory").ok().text
    assert "(locals of f, line 3" in text
    freed = capped.run("%checkpoint memory --forget-error").ok().text
    assert freed.strip() == "76.3 MB freed."
    assert "locals of f" not in capped.run("%checkpoint memory").ok().text


def test_it_still_answers_when_hardly_any_memory_is_left(capped: Notebook) -> None:
    used = capped.usage()["kernel_memory"]
    capped.run(f"last = b'3' * ({485 * MB} - {used})").ok()
    text = capped.run("%checkpoint memory").ok().text
    assert "last " in text
    capped.run("%checkpoint memory --plot").ok()
    capped.run("del last").ok()
    assert capped.usage()["host_virtual_memory"]["percent"] < 50


def test_an_unknown_option_is_refused_in_words(capped: Notebook) -> None:
    assert "there is no option --graph" in capped.run("%checkpoint memory --graph").text
