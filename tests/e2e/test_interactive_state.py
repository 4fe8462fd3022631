"""After SIGKILL: what a notebook has set beside its variables is set again, and what is not is named.

One kernel has everything set, is killed once, and each test asks one question.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness.notebook import Notebook
from harness.records import wait_for_checkpoint
from harness.server import JupyterServer

PYTHON = """\
import decimal, logging, os, random, signal, sys, warnings
sys.path.insert(0, {library!r})
os.chdir({work!r})
sys.setrecursionlimit(4321)
decimal.getcontext().prec = 50
logging.basicConfig(level="INFO", format="%(levelname)s!%(message)s", stream=sys.stdout)
logging.getLogger("mine").setLevel(10)
warnings.filterwarnings("ignore", message="of no concern")
os.environ["MY_VARIABLE"] = "value"
signal.signal(signal.SIGUSR1, lambda number, frame: None)

"""
LIBRARIES = """\
import numpy as np
import pandas as pd
pd.set_option("display.max_rows", 7, "display.float_format", "{:.1f}".format)
np.set_printoptions(precision=2)
errors = np.seterr(divide="raise")
"""
IPYTHON = """\
%load_ext autoreload
%autoreload 2
%alias greet echo hello
%precision 3
%xmode Minimal
get_ipython().ast_node_interactivity = "last_expr_or_assign"
from IPython.core.magic import register_line_magic
@register_line_magic
def shout(line):
    return line.upper() + mark
del shout
mark = "!"
def count_cell(*_):
    global cells
    cells += 1
cells = 0
get_ipython().events.register("post_run_cell", count_cell)
"""


@dataclass
class Killed:
    """A notebook whose kernel was killed, and what was to be seen before and after."""

    notebook: Notebook
    status: str
    told: str
    draws: str  # what random numbers came next, before


@pytest.fixture(scope="module")
def killed(
    server: JupyterServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Killed]:
    directory = tmp_path_factory.mktemp("state")
    (directory / "work").mkdir()
    library = directory / "library"
    library.mkdir()
    notebook = server.open(f"{directory.name}.ipynb", server.environment.kernelspec("resilient-state"))
    notebook.run(PYTHON.format(library=str(library), work=str(directory / "work"))).ok()
    notebook.run(LIBRARIES).ok()
    notebook.run(IPYTHON).ok()
    notebook.run("random.seed(7); np.random.seed(7); drawn = random.random(), np.random.rand()")
    last = notebook.run("state = random.getstate(), np.random.get_state()").ok()
    wait_for_checkpoint(notebook, last.execution_count)
    status = notebook.run("%checkpoint").ok().prose
    draws = notebook.run("next_ones = random.random(), np.random.rand(); repr(next_ones)").ok().value
    again = notebook.run("random.setstate(state[0]); np.random.set_state(state[1])").ok()
    wait_for_checkpoint(notebook, again.execution_count)
    notebook.kill_kernel()
    told = notebook.run("1").ok().prose
    yield Killed(notebook, status, told, draws)
    notebook.close()


def test_x(killed: Killed) -> None:
    print(killed.status); print(killed.told); print(killed.draws)
    print(killed.notebook.run("repr((random.random(), np.random.rand()))").ok().value)
    print(killed.notebook.run("import os; print(sys.path[:3], os.getcwd(), sys.getrecursionlimit(), decimal.getcontext().prec, warnings.filters[:2], logging.root.level, logging.root.handlers)").ok().text)
    print(killed.notebook.run("logging.info('x'); print(logging.getLogger('mine').level, signal.getsignal(10))").ok().text)
    print(killed.notebook.run("print(pd.get_option('display.max_rows'), pd.get_option('display.float_format'), np.get_printoptions()['precision'], np.geterr())").ok().text)
    print(killed.notebook.run("%shout abc").ok().text)
    print(killed.notebook.run("%greet").ok().text)
    print(killed.notebook.run("print(get_ipython().ast_node_interactivity, get_ipython().InteractiveTB.mode, cells, )").text)
    print(killed.notebook.run("3.14159265").text)
    assert 0
