"""Checkpoints are not noticed: no cell runs again, nothing is printed, nothing live changes."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness.environment import Environment
from harness.notebook import Notebook
from harness.records import checkpoints, wait_for_checkpoint
from harness.server import JupyterServer


def test_no_cell_is_run_again_by_a_restore(notebook: Notebook, tmp_path: Path) -> None:
    witness = tmp_path / "runs"
    result = notebook.run(f"x = open({str(witness)!r}, 'a').write('once;')").ok()
    wait_for_checkpoint(notebook, result.execution_count)
    notebook.kill_kernel()
    assert notebook.run("x").ok().value == "5"
    assert witness.read_text() == "once;"


def test_a_cell_that_was_killed_is_not_run_again(notebook: Notebook, tmp_path: Path) -> None:
    witness = tmp_path / "runs"
    notebook.run_to_death(
        f"open({str(witness)!r}, 'a').write('once;')\nimport os, signal\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    notebook.run("1").ok()
    assert witness.read_text() == "once;"


def test_globals_is_the_plain_dict_before_and_after_a_restore(notebook: Notebook) -> None:
    plain = "type(globals()) is dict and globals() is get_ipython().user_ns"
    in_main = "__import__('sys').modules['__main__'].__dict__ is globals()"
    result = notebook.run("x = 1").ok()
    assert notebook.eval(plain)
    assert notebook.eval(in_main)
    wait_for_checkpoint(notebook, result.execution_count)
    notebook.kill_kernel()
    assert notebook.eval(plain)
    assert notebook.eval(in_main)


def test_saving_changes_nothing_in_the_live_objects(notebook: Notebook, tmp_path: Path) -> None:
    path = tmp_path / "data.txt"
    path.write_text("line 1\nline 2\nline 3\n")
    notebook.run(
        "import itertools, random, threading, collections\nimport numpy as np\n"
        f"file = open({str(path)!r}); file.readline()\n"
        "iterator = iter([1, 2, 3]); next(iterator)\n"
        "count = itertools.count(5); next(count)\n"
        "chain = itertools.chain([1, 2], [3]); next(chain)\n"
        "random.seed(1); rng = np.random.default_rng(1)\n"
        "array = np.arange(2_000_000); view = array[5:]\n"
        "frozen = np.ones(3); frozen.flags.writeable = False\n"
        "lock = threading.Lock(); lock.acquire()\n"
        "queue = collections.deque([1, 2], maxlen=2)\n"
        "def f(): pass\n"
        "f.mark = 1\n"
        "class C: level = 0\n"
        "c = C(); bag = [c, array, f]; bag.append(bag)"
    ).ok()
    look = (
        "(file.tell(), file.closed, random.getstate()[1][-1], lock.locked(), array.flags.writeable,"
        " frozen.flags.writeable, array.ctypes.data, view.base is array, f.__module__, f.mark,"
        " C.__module__, sorted(C.__dict__), vars(c), [id(v) for v in bag],"
        " [id(globals()[n]) for n in 'file iterator count rng lock queue f C'.split()],"
        " sorted(n for n in globals() if n[0] != '_'))"
    )
    before = notebook.eval(look)
    for number in range(3):
        result = notebook.run(f"array[{number}] = -1").ok()
        wait_for_checkpoint(notebook, result.execution_count)
    saved = notebook.run("%checkpoint save").ok()
    assert saved.status == "ok"
    assert notebook.eval(look) == before
    assert notebook.eval("(next(iterator), next(count), next(chain), file.readline())") == (
        2,
        6,
        2,
        "line 2\n",
    )
    assert notebook.eval("rng.random() == __import__('numpy').random.default_rng(1).random()")


NOISY = """\
import sys, warnings, logging
class Noisy:
    def __reduce__(self):
        print("noise on stdout"); print("noise on stderr", file=sys.stderr)
        warnings.warn("noise by warning"); logging.getLogger().error("noise by logging")
        import os; os.write(1, b"noise on fd 1\\n"); os.write(2, b"noise on fd 2\\n")
        return (int, ())
noisy = Noisy(); noises = [Noisy()]
"""


def test_saving_prints_nothing_into_a_cell_even_where_the_object_itself_would(
    notebook: Notebook,
) -> None:
    shown = notebook.run(NOISY).ok().text
    for number in range(3):
        result = notebook.run(f"noises.append({number})").ok()
        shown += result.text
        wait_for_checkpoint(notebook, result.execution_count)
    later = notebook.run("import time; time.sleep(0.5)").ok()
    assert "noise" not in shown + later.text
    assert "noise" not in "".join(str(o) for o in later.outputs)


HOSTILE = {
    "raises": "def __reduce__(self): raise ValueError('no')",
    "raises SystemExit": "def __reduce__(self): raise SystemExit(3)",
    "raises KeyboardInterrupt": "def __reduce__(self): raise KeyboardInterrupt",
    "returns nonsense": "def __reduce__(self): return 5",
    "recurses": "def __reduce__(self): return self.__reduce__()",
    "has a wild __getattr__": "def __getattr__(self, name): raise RuntimeError(name)",
    "has a wild __eq__": "def __eq__(self, other): raise RuntimeError('eq')\n    __hash__ = None",
    "has a wild __repr__": "def __repr__(self): raise RuntimeError('repr')",
    "lies about its class": "@property\n    def __class__(self): raise RuntimeError('class')",
}


@pytest.mark.parametrize("behaviour", HOSTILE.values(), ids=HOSTILE.keys())
def test_an_object_that_resists_saving_fails_no_cell_and_costs_nothing_else(
    server: JupyterServer, notebook_path: str, behaviour: str
) -> None:
    notebook = server.open(notebook_path)
    made = notebook.run(f"class Hostile:\n    {behaviour}\nhostile = Hostile(); good = [1, 2]")
    assert made.ok().text == ""
    after = notebook.run("good.append(3)").ok()
    assert after.text == ""
    wait_for_checkpoint(notebook, after.execution_count)
    notebook.kill_kernel()
    assert notebook.run("good").ok().value == "[1, 2, 3]"
    notebook.close()


def test_a_failed_cell_still_shows_its_own_error_and_is_checkpointed(notebook: Notebook) -> None:
    result = notebook.run("x = 5\n1/0")
    assert result.error == "ZeroDivisionError: division by zero"
    wait_for_checkpoint(notebook, result.execution_count)
    notebook.kill_kernel()
    assert notebook.run("x").ok().value == "5"


def test_a_deleted_variable_stays_deleted(notebook: Notebook) -> None:
    result = notebook.run("x, y = 1, 2").ok()
    wait_for_checkpoint(notebook, result.execution_count)
    result = notebook.run("del x").ok()
    wait_for_checkpoint(notebook, result.execution_count)
    notebook.kill_kernel()
    assert notebook.run("y").ok().value == "2"
    assert notebook.run("x").error == "NameError: name 'x' is not defined"


def test_the_command_line_lists_what_the_notebook_has_saved(
    notebook: Notebook, notebook_path: str, jupyter_env: Environment
) -> None:
    result = notebook.run("x = 1").ok()
    wait_for_checkpoint(notebook, result.execution_count)
    newest = checkpoints(notebook)[-1]
    assert newest.id in jupyter_env.checkpoint("list").stdout
