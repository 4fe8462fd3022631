"""After SIGKILL: what was set beside the variables is set again, and what is not is named.

One kernel has everything set and is killed; each test asks one question, the last one after
another death.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness.notebook import Notebook
from harness.records import wait_for_checkpoint
from harness.server import JupyterServer

MINE = """\
counter = 0
cache = {}
CONFIG = {"level": 1, "names": ["a"]}
class Thing:
    made = 0
def count():
    global counter
    counter += 1
"""
PYTHON = """\
import decimal, logging, os, random, signal, sys, warnings
sys.path.insert(0, {library!r})
os.chdir({work!r})
sys.setrecursionlimit(4321)
decimal.getcontext().prec = 50
logging.basicConfig(level="INFO", format="%(levelname)s!%(message)s", stream=sys.stdout)
logging.getLogger("mine").setLevel(10)
warnings.filterwarnings("ignore", message="of no concern")
os.environ["MY_VARIABLE"] = "its value"
signal.signal(signal.SIGUSR1, lambda number, frame: None)
import mine
mine.count(); mine.CONFIG["names"].append("b"); mine.Thing.made = 3; mine.added = "by hand"
cache = mine.cache
cache["key"] = [1]

"""
LIBRARIES = """\
import numpy as np
import pandas as pd
pd.set_option("display.max_rows", 7, "display.float_format", "{:.1f}".format)
np.set_printoptions(precision=2)
before = np.seterr(divide="raise")
random.seed(7); np.random.seed(7); drawn = random.random(), np.random.rand()
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
    """A notebook whose kernel was killed, and what it said before and after."""

    notebook: Notebook
    status: str
    told: str
    work: Path


@pytest.fixture(scope="module")
def killed(server: JupyterServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killed]:
    directory = tmp_path_factory.mktemp("state")
    work, library = directory / "work", directory / "library"
    work.mkdir()
    library.mkdir()
    (library / "mine.py").write_text(MINE)
    notebook = server.open("interactive_state.ipynb")
    notebook.run(PYTHON.format(library=str(library), work=str(work))).ok()
    notebook.run(LIBRARIES).ok()
    last = notebook.run(IPYTHON).ok()
    wait_for_checkpoint(notebook, last.execution_count)
    status = notebook.run("%checkpoint").ok().prose
    last = notebook.run("following = random.Random(7), np.random.RandomState(7)").ok()
    wait_for_checkpoint(notebook, last.execution_count)
    notebook.kill_kernel()
    told = notebook.run("cells_before = cells").ok().prose
    yield Killed(notebook, status, told, work)
    notebook.close()


BACK = {
    "sys.path[0].rpartition('/')[2]": "library",
    "sys.getrecursionlimit()": 4321,
    "decimal.getcontext().prec": 50,
    "[f[0] for f in warnings.filters if 'of no concern' in str(f[1])]": ["ignore"],
    "logging.root.level, logging.getLogger('mine').level": (20, 10),
    "pd.get_option('display.max_rows'), pd.get_option('display.float_format')(0.123)": (7, "0.1"),
    "np.get_printoptions()['precision'], np.geterr()['divide']": (3, "raise"),
    "get_ipython().ast_node_interactivity": "last_expr_or_assign",
    "get_ipython().InteractiveTB.mode": "Minimal",
    "get_ipython().run_line_magic('shout', 'abc')": "ABC!",
    "get_ipython().alias_manager.is_alias('greet')": True,
    "get_ipython().find_line_magic('autoreload').__self__._reloader.check_all": True,
    "mine.counter, mine.CONFIG, mine.added": (1, {"level": 1, "names": ["a", "b"]}, "by hand"),
    "mine.Thing.made, mine.cache is cache, cache": (3, True, {"key": [1]}),
}


@pytest.mark.parametrize("expression", BACK)
def test_it_is_set_again(killed: Killed, expression: str) -> None:
    assert killed.notebook.eval(f"({expression})") == BACK[expression]


def test_the_working_directory_is_the_same(killed: Killed) -> None:
    assert killed.notebook.eval("os.getcwd()") == str(killed.work)


def test_random_numbers_go_on_where_they_were(killed: Killed) -> None:
    following = "[(r.random(), s.rand()) for r, s in [following] for _ in range(2)][1]"
    assert killed.notebook.eval("(random.random(), np.random.rand())") == killed.notebook.eval(
        following
    )


def test_hooks_of_the_notebook_are_called_and_handlers_log(killed: Killed) -> None:
    shown = killed.notebook.run("logging.info('heard'); cells > cells_before").ok()
    assert "INFO!heard" in shown.stdout
    assert shown.value == "True"


def test_the_status_and_the_notice_list_it(killed: Killed) -> None:
    for text in (killed.status, killed.told):
        told = text.partition("interactive state: ")[2]
        for words in (
            "sys.path (1 added)", "working directory (", "extensions (autoreload)",
            "warnings filters", "pandas options (2)", "magics (%shout)", "aliases (greet)",
            "seed of random", "seed of numpy",
        ):  # fmt: skip
            assert words in told, told
        assert "mine.counter" in text


def test_what_is_not_back_is_named_and_no_value_of_the_environment_is_told(killed: Killed) -> None:
    for text in (killed.status, killed.told):
        assert "os.environ['MY_VARIABLE'] (environment variable): it may be a secret" in text
        assert "signal.getsignal(SIGUSR1)" in text
        assert "its value" not in text


def test_asked_for_with_names_only_these_are_back_and_without_all_is(killed: Killed) -> None:
    notebook = killed.notebook
    last = notebook.run("mine.counter = 41").ok()
    saved = wait_for_checkpoint(notebook, last.execution_count)
    notebook.run("mine.counter = 0; os.chdir('/'); pd.reset_option('display.max_rows')").ok()
    notebook.run(f"%checkpoint restore {saved.id} mine.counter").ok()
    assert notebook.eval("(mine.counter, os.getcwd())") == (41, "/")
    notebook.run(f"%checkpoint restore {saved.id}").ok()
    assert notebook.eval("(pd.get_option('display.max_rows'), os.getcwd())") == (
        7,
        str(killed.work),
    )
    notebook.run("mine.counter = 1").ok()


def test_it_is_still_there_after_another_death(killed: Killed) -> None:
    notebook = killed.notebook
    last = notebook.run("mine.count()").ok()
    wait_for_checkpoint(notebook, last.execution_count)
    notebook.kill_kernel()
    told = notebook.run("pass").ok().prose
    assert "interactive state: sys.path (1 added)" in told
    assert notebook.eval("(mine.counter, mine.Thing.made, mine.cache is cache)") == (2, 3, True)
    assert notebook.eval("pd.get_option('display.max_rows')") == 7
