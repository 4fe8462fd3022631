"""After SIGKILL: a namespace full of what people make comes back, and works.

One kernel is filled, killed once and restarted by the server; each test asks one question.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from harness.notebook import Notebook, Result
from harness.records import wait_for_checkpoint
from harness.server import JupyterServer

IMPORTS = """\
import collections, enum, functools, inspect, os, socket, sqlite3, sys, threading
import json as js
from dataclasses import dataclass
from math import hypot
import os.path
import numpy as np
import pandas as pd
"""

FUNCTIONS = '''\
scale = 2

def scaled(x):
    """Multiply by the global scale."""
    return helper(x) * scale

def helper(x):
    return x

def factorial(n):
    return 1 if n < 2 else n * factorial(n - 1)

def failing():
    raise RuntimeError("on purpose")  # this line is shown by the traceback

double = lambda x: 2 * x
halved = functools.partial(lambda x, by: x / by, by=2)

@functools.wraps(scaled)
def wrapper(*args):
    return ("wrapped", scaled(*args))

def with_defaults(x, *, seen={"calls": 0}):
    seen["calls"] += 1
    return seen["calls"]
with_defaults(0); with_defaults(0)
'''

CLASSES = """\
class Point:
    made = 0
    def __init__(self, x, y):
        type(self).made += 1
        self.x, self.y = x, y
    def length(self):
        return hypot(self.x, self.y) * scale
    @classmethod
    def origin(cls):
        return cls(0, 0)

class Named(Point):
    def __init__(self, x, y, name):
        super().__init__(x, y)
        self.name = name

@dataclass(frozen=True)
class Row:
    key: int

class Colour(enum.Enum):
    RED = 1

points = [Point(3, 4), Named(3, 4, "n")]
row, red = Row(7), Colour.RED
bound = points[0].length
"""

CLOSURES = """\
def counter():
    n = 0
    def bump():
        nonlocal n
        n += 1
        return n
    return bump

def account():
    balance = 0
    def deposit(amount):
        nonlocal balance
        balance += amount
    def read():
        return balance
    return deposit, read

bump = counter(); bump(); bump()
deposit, read = account(); deposit(100)
"""

DATA = """\
small = np.arange(10); small_view = small[2:5]
large = np.arange(3_000_000.0); large_view = large[1000:2000]; backwards = large[::-1]
table = large[:9].reshape(3, 3)
frame = pd.DataFrame({"a": [1, 2, 3], "b": ["x", "y", None]})
shared = [1]; alias = shared; holder = {"it": shared}
ring = [1]; ring.append(ring)
class Node: pass
left, right = Node(), Node(); left.other, right.other = right, left
iterator = iter([10, 20, 30]); next(iterator)
text, none, big, ellipsis = "grüße", None, 10**100, ...
"""

CANNOT = """\
def reading():
    yield 1
    yield 2
generator = reading(); next(generator)
lock = threading.Lock()
listener = socket.socket()
lock.acquire()
connection = sqlite3.connect(":memory:"); connection.execute("create table t (a)")
"""
NAMED = {"generator", "listener"}
LOST = {"generator"}  # of the listener a stub is left, which says how to have it again

VISIBLE_NAMES = "sorted(k for k in list(globals()) if not k.startswith('_'))"


@dataclass(frozen=True)
class Revived:
    """A notebook whose kernel was killed, with what was known before."""

    notebook: Notebook
    names_before: set[str]
    last_count: int
    first: Result  # the first cell after the death


@pytest.fixture(scope="module")
def revived(server: JupyterServer) -> Iterator[Revived]:
    notebook = server.open("back_after_a_kill.ipynb")
    for code in (IMPORTS, FUNCTIONS, CLASSES, CLOSURES, DATA, CANNOT):
        last = notebook.run(code).ok()
    names = set(notebook.eval(VISIBLE_NAMES))
    wait_for_checkpoint(notebook, last.execution_count)
    notebook.kill_kernel()
    first = notebook.run("print('first cell')")
    assert last.execution_count is not None
    yield Revived(notebook, names, last.execution_count, first)
    notebook.close()


def test_the_notice_stands_above_the_next_cells_output_and_says_killed_and_restored(
    revived: Revived,
) -> None:
    first = revived.first.ok()
    assert first.text.rstrip().endswith("first cell")
    assert "killed" in first.text
    assert "restored" in first.text


def test_the_notice_appears_once(revived: Revived) -> None:
    assert revived.notebook.run("print('later')").ok().text == "later\n"


@pytest.mark.parametrize("name", sorted(NAMED))
def test_what_cannot_be_saved_is_named_in_the_notice_with_a_reason(
    revived: Revived, name: str
) -> None:
    lines = [line for line in revived.first.text.splitlines() if name in line]
    assert lines, f"{name} is not in the notice:\n{revived.first.text}"
    # A reason is more than the name and its type.
    assert any(len(line.split(name, 1)[1].split()) >= 3 for line in lines), lines


def test_every_other_variable_is_back(revived: Revived) -> None:
    names_now = set(revived.notebook.eval(VISIBLE_NAMES))
    assert revived.names_before - names_now == LOST
    assert names_now <= revived.names_before


def test_locks_and_databases_in_memory_can_be_used(revived: Revived) -> None:
    use = "(lock.acquire(timeout=1), connection.execute('select * from t').fetchall())"
    assert revived.notebook.eval(use) == (True, [])
    assert "connect again" in revived.notebook.run("listener.accept()").error


def test_a_function_sees_a_global_that_is_changed_afterwards(revived: Revived) -> None:
    result = revived.notebook.run("scale = 10\nprint(scaled(3), points[0].length())\nscale = 2")
    assert result.ok().stdout == "30 50.0\n"


def test_a_function_is_bound_to_the_live_namespace(revived: Revived) -> None:
    assert revived.notebook.eval("scaled.__globals__ is globals()")
    assert revived.notebook.eval("points[0].length.__globals__ is globals()")
    assert revived.notebook.eval("bump.__globals__ is globals()")
    assert revived.notebook.eval("double.__globals__ is globals()")


def test_redefining_a_helper_changes_the_functions_that_call_it(revived: Revived) -> None:
    code = (
        "saved_helper = helper\ndef helper(x): return -x\nprint(scaled(3))\nhelper = saved_helper"
    )
    assert revived.notebook.run(code + "\ndel saved_helper").ok().stdout == "-6\n"


def test_recursive_wrapped_partial_and_lambda_functions_work(revived: Revived) -> None:
    assert revived.notebook.eval("(factorial(5), double(4), halved(3), wrapper(1))") == (
        120,
        8,
        1.5,
        ("wrapped", 2),
    )


def test_a_mutable_default_keeps_its_state(revived: Revived) -> None:
    assert revived.notebook.eval("with_defaults(0)") == 3


def test_instances_keep_isinstance_and_class_identity(revived: Revived) -> None:
    assert revived.notebook.eval("type(points[0]) is Point and type(points[1]) is Named")
    assert revived.notebook.eval("isinstance(points[1], Point) and Named.__mro__[1] is Point")
    assert revived.notebook.eval("type(Point.origin()) is Point")
    assert revived.notebook.eval("row == Row(7) and type(row) is Row")
    assert revived.notebook.eval("red is Colour.RED and Colour(1) is red")


def test_class_attributes_and_bound_methods_keep_their_state(revived: Revived) -> None:
    assert revived.notebook.eval("Named.__dict__['made']") == 2
    assert revived.notebook.eval("bound.__self__ is points[0]")


def test_super_and_class_cells_work_in_restored_classes(revived: Revived) -> None:
    assert revived.notebook.eval("Named(6, 8, 'm').length()") == 20.0


def test_closures_keep_their_state(revived: Revived) -> None:
    assert revived.notebook.eval("bump()") == 3


def test_two_closures_still_share_their_variable(revived: Revived) -> None:
    assert revived.notebook.run("deposit(11)\nread()").ok().value == "111"


@pytest.mark.parametrize(
    ("view", "base"),
    [("small_view", "small"), ("large_view", "large"), ("backwards", "large"), ("table", "large")],
)
def test_a_view_shares_memory_with_its_base(revived: Revived, view: str, base: str) -> None:
    assert revived.notebook.eval(f"bool(np.shares_memory({view}, {base}))")


def test_writing_through_a_view_shows_in_its_base(revived: Revived) -> None:
    code = "large_view[0] = -1; small_view[0] = -2\nprint(large[1000], backwards[-1001], small[2])"
    assert revived.notebook.run(code).ok().stdout == "-1.0 -1.0 -2\n"


def test_arrays_and_frames_hold_their_values(revived: Revived) -> None:
    assert revived.notebook.eval("(float(large[-1]), table.shape)") == (2_999_999.0, (3, 3))
    assert revived.notebook.eval("frame['a'].tolist()") == [1, 2, 3]
    assert revived.notebook.eval("frame['b'].isna().tolist()") == [False, False, True]


def test_two_names_for_one_object_stay_one_object(revived: Revived) -> None:
    assert revived.notebook.eval("alias is shared and holder['it'] is shared")


def test_cycles_survive(revived: Revived) -> None:
    assert revived.notebook.eval("ring[1] is ring")
    assert revived.notebook.eval("left.other.other is left and right.other is left")


def test_a_half_consumed_list_iterator_goes_on(revived: Revived) -> None:
    assert revived.notebook.eval("next(iterator)") == 20


def test_imported_modules_are_back_under_their_names(revived: Revived) -> None:
    assert revived.notebook.eval("js.dumps({'a': 1})") == '{"a": 1}'
    assert revived.notebook.eval("hypot(3, 4)") == 5.0
    assert revived.notebook.eval("os.path is __import__('os').path")
    assert revived.notebook.eval("np is __import__('sys').modules['numpy']")


def test_cell_numbering_goes_on(revived: Revived) -> None:
    assert revived.first.execution_count == revived.last_count + 1


def test_the_history_of_cells_is_back(revived: Revived) -> None:
    assert revived.notebook.eval("In[1]") == IMPORTS.rstrip()
    assert revived.notebook.eval(f"In[{revived.last_count}]") == CANNOT.rstrip()


def test_getsource_finds_the_source_of_restored_functions_and_methods(revived: Revived) -> None:
    source = revived.notebook.eval("inspect.getsource(scaled)")
    assert source in FUNCTIONS
    assert source.startswith("def scaled(x):")
    method = revived.notebook.eval("inspect.getsource(Point.length)")
    assert method.strip().startswith("def length(self):")


def test_a_traceback_shows_the_line_of_a_restored_function(revived: Revived) -> None:
    result = revived.notebook.run("failing()")
    assert result.error == "RuntimeError: on purpose"
    assert "this line is shown by the traceback" in result.text
