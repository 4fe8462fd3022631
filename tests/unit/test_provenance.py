"""Which cells make a variable again, and what else these would do."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from checkpoint_kernel import provenance, rebuild_plan
from checkpoint_kernel.cell_reader import effects, is_async
from checkpoint_kernel.manifest import Skipped
from checkpoint_kernel.rebuild_plan import Plan

pytestmark = pytest.mark.unit


def cells(*sources: str, failed: Collection[int] = ()) -> list[provenance.Cell]:
    parsed = [TransformerManager().transform_cell(source) for source in sources]
    return provenance.cells_of(["", *sources], ["", *parsed], failed)


def plan_of(
    name: str,
    *sources: str,
    live: str | Mapping[str, Collection[str]] = "",
    failed: Collection[int] = (),
    **known: Any,
) -> Plan:
    there = live if isinstance(live, Mapping) else dict.fromkeys(live.split(), ())
    return rebuild_plan.plan(name.split(), cells(*sources, failed=failed), there, **known)


def numbers(*args: Any, **known: Any) -> list[int]:
    return [step.cell.number for step in plan_of(*args, **known).steps]


# name, cells, live, numbers of the cells that would run
CHOICES: list[tuple[str, str, tuple[str, ...], str, list[int]]] = [
    ("the cell that made it", "g", ("x = 1", "g = (i for i in x)"), "x", [2]),
    ("what that needs and is not there", "g", ("x = 1", "y = 2", "g = iter(x)"), "", [1, 3]),
    ("needs of needs", "c", ("a = 1", "b = a", "z = 9", "c = b"), "", [1, 2, 4]),
    ("the newest text counts", "g", ("g = 1", "g = 2", "x = g"), "", [2]),
    ("the maker before the user, not after", "g", ("x = 1", "g = iter(x)", "x = 2"), "", [1, 2]),
    ("an earlier self", "df", ("df = load()", "df = df.dropna()"), "load", [1, 2]),
    ("imports", "g", ("import os", "import numpy as np", "g = np.x(os)"), "", [1, 2, 3]),
    ("from a package", "g", ("import a.b", "from m import f as h", "g = h(a)"), "", [1, 2, 3]),
    ("functions", "g", ("def f(): return 1", "g = f()"), "", [1, 2]),
    ("what functions look up", "g", ("k = 2", "def f(): return k", "g = f()"), "", [1, 2, 3]),
    ("also if it comes later", "g", ("def f(): return h()", "def h(): pass", "g = f()"), "",
     [1, 2, 3]),
    ("what a live function looks up", "g", ("lock = Lock()", "g = f()"),
     {"f": ("lock",), "Lock": ()}, [1, 2]),
    ("methods of a class", "o", ("k = 1", "class A:\n  n = 2\n  def m(self): return k, A.n",
     "o = A()"), "", [1, 2, 3]),
    ("nothing for names of a class's own", "A", ("n = 1", "class A:\n  n = 2\n  m = n"), "", [2]),
    ("nothing for arguments and locals", "f", ("a = b = 1", "def f(a):\n  b = a\n  return b"), "",
     [2]),
    ("defaults and decorators", "f", ("d = 1", "def w(f): return f", "@w\ndef f(a=d): pass"), "",
     [1, 2, 3]),
    ("nothing for a comprehension's own", "g", ("i = 1", "g = [i for i in range(3) if i]"), "",
     [2]),
    ("what a comprehension goes through", "g", ("r = 1", "k = 2", "g = (i * k for i in r)"), "",
     [1, 2, 3]),
    ("a walrus in a comprehension", "y", ("x = [(y := i) for i in range(3)]", "z = y"), "", [1]),
    ("a target of for", "i", ("i = 5", "for i in range(3): pass"), "", [2]),
    ("a target of with", "f", ("p = 'x'", "with open(p) as f: pass"), "", [1, 2]),
    ("nested targets", "b", ("a, (b, *c) = 1, (2, 3)", "b2 = b"), "", [1]),
    ("a branch may not be taken", "y", ("x = 1", "if c:\n  x = 2\ny = x"), "c", [1, 2]),
    ("unless both set it", "y", ("x = 1", "if c:\n  x = 2\nelse:\n  x = 3\ny = x"), "c", [2]),
    ("try with a fallback", "y", ("xp = 0", "try:\n  import cupy as xp\nexcept ImportError:\n  "
     "import numpy as xp\ny = xp.zeros(1)"), "", [2]),
    ("try with a handler that raises", "y", ("x = 0", "try:\n  x = 1\nexcept E as e:\n  raise\n"
     "y = x"), "E", [2]),
    ("match", "r", ("v = 1", "match v:\n  case {'k': k, **rest}: r = k\n  case [a, *b]: r = b\n"
     "  case _: r = 0"), "", [1, 2]),
    ("a global statement", "x", ("def f():\n  global x\n  x = 1", "f()"), "", [1, 2]),
    ("globals() with a key", "x", ("globals()['x'] = 1", "y = 1"), "", [1]),
    ("changes by a method", "r", ("r = []", "r.append(1)", "print(r)", "r.extend([2])"), "",
     [1, 2, 4]),
    ("changes of an item, and by +=", "d", ("d = {}", "d['a'] = 1", "d['a']", "d |= e"), "e",
     [1, 2, 4]),
    ("a column of a DataFrame", "df", ("df = load()", "df['x'] = 1", "df.head()", "df.x.plot()"),
     "load", [1, 2]),
    ("changes by del of a part", "d", ("d = {1: 2}", "del d[1]"), "", [1, 2]),
    ("training in an expression", "m", ("m = M()", "h = m.fit(X)", "p = m.predict(X)"), "M X",
     [1, 2]),
    ("what is passed to a function of the notebook's", "m", ("def train(n): n.w = 1", "m = M()",
     "train(m)"), "M", [1, 2, 3]),
    ("not what is passed to an imported one, or to a class", "m", ("from p import plot", "m = M()",
     "plot(m)", "Opt(m)"), "M", [2]),
    ("not what is passed to one that only reads it", "m", ("def show(n):\n  ax = new()\n"
     "  for w in n.weights: ax.plot(w)\n  print(n)", "m = M()", "show(m)"), "M new", [2]),
    ("but to one that changes a part of it", "m", ("def f(n):\n  for w in n.weights: w.reset()",
     "m = M()", "f(m)"), "M", [1, 2, 3]),
    ("changes by another name", "r", ("r = []", "q = r", "q.append(1)", "print(q)"), "q",
     [1, 2, 3]),
    ("changes by what holds it", "m", ("m = M()", "o = Adam(m.parameters(), lr=1)", "for x in X:\n"
     "  m(x).backward()\n  o.step()", "m(1)"), "M X Adam o", [1, 2, 3]),
    ("what it holds stays as it is", "m", ("n = 1", "m = M(n)", "n = 0"), "M n", [2]),
    ("not by what was made of it", "m", ("m = M()", "p = m.predict(X)", "p.sort()"), "M X", [1]),
    ("changes of what is needed, until then", "g", ("r = []", "r.append(1)", "g = iter(r)",
     "r.append(2)"), "", [1, 2, 3]),
    ("no changes of what is there", "g", ("r = []", "r.append(1)", "g = iter(r)"), "r", [3]),
    ("steps of an iterator", "g", ("g = f()", "next(g)", "g.gi_frame", "random.shuffle(g)"),
     "f random", [1, 2, 4]),
    ("methods of modules change nothing", "g", ("import numpy as np", "np.random.seed(1)",
     "g = np.f()"), "", [1, 3]),
    ("the body of a magic", "g", ("%%time\nx = 1", "g = iter(x)"), "", [1, 2]),
    ("a line that is timed", "g", ("%time g = f()", "h = g"), "f", [1]),
    ("not what is timed many times", "g", ("g = 1", "%timeit g = 2"), "", [1]),
    ("the output of a command", "n", ("n = !ls",), "", [1]),
    ("captured output", "out", ("%%capture out\nprint(1)",), "", [1]),
    ("text that is run", "x", ("exec('x = 1')", "y = x"), "", [1]),
    ("an output", "Out[2]", ("x = 1", "x + 1", "y = 2"), "x", [2]),
    ("of an output", "g", ("x = 1", "x + 1", "g = iter(_2)"), "", [1, 2, 3]),
    ("a star import", "g", ("from m import *", "g = f()"), "", [1, 2]),
    ("top-level await", "r", ("async def f(): return k", "k = 1", "r = await f()"), "", [1, 2, 3]),
    ("several at once", "a b", ("a = 1", "c = 2", "b = a"), "", [1, 3]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "sources", "live", "wanted"),
    [choice[1:] for choice in CHOICES],
    ids=[choice[0] for choice in CHOICES],
)
def test_the_cells_that_make_it_are(
    name: str, sources: tuple[str, ...], live: str, wanted: list[int]
) -> None:
    found = plan_of(name, *sources, live=live)
    assert [step.cell.number for step in found.steps] == wanted
    assert not found.unknown


def test_a_generator_was_moved_on_by_whoever_went_through_it() -> None:
    sources = ("g = f()", "for x in g: break", "h = list(g)")
    assert numbers("g", *sources, live="f", types={"g": "generator"}) == [1, 2, 3]
    assert numbers("g", *sources, live="f", types={"g": "list"}) == [1]


def test_what_was_seen_counts_more_than_what_a_text_says() -> None:
    sources = ("%run setup.py", "y = 1", "if never: x = 2")
    assert numbers("x", *sources, live="never") == [3]
    assert numbers("x", *sources, live="never", seen={"x": 1}) == [1]


def test_a_cell_that_failed_makes_something_only_if_no_other_does() -> None:
    assert numbers("x", "x = 1", "x = 1 / 0", failed={2}) == [1]
    found = plan_of("x", "x = 1; 1 / 0", failed={1})
    assert found.steps[0].warnings == ("it raised an error in its time",)


def test_a_change_that_failed_is_left_out_and_said() -> None:
    found = plan_of("r", "r = []", "r.append(1 / 0)", failed={2})
    assert [step.cell.number for step in found.steps] == [1]
    assert "In[2] may have changed r too (r.append()), but raised an error" in found.warnings[0]


def test_what_a_cell_sets_and_changes_besides_is_said() -> None:
    (step,) = plan_of("g", "g = 1; df = 2; rows.append(3); import os", live="df rows os").steps
    assert (step.sets, step.changes) == (("df",), ("rows",))


def test_a_variable_that_was_set_again_since_is_said() -> None:
    found = plan_of("g", "df = 1; g = iter(df)", "df = 2", live="df")
    assert found.warnings == ("df would be what In[1] makes it; In[2] has set it since.",)
    found = plan_of("g", "df = 1", "g = iter(df)", "df = 2", live="df")
    assert found.warnings == ("In[2] uses df as it is now: In[3] has set it since.",)


def test_a_live_variable_that_an_earlier_cell_sets_again_is_made_as_it_was() -> None:
    sources = ("df = 1; k = 2", "df = df + 1", "g = iter(df)", "h = (g, k)")
    assert numbers("h", *sources, live="df") == [1, 2, 3, 4]
    assert numbers("h", *sources, live="df k") == [3, 4]


def test_a_name_that_nobody_makes_is_said() -> None:
    found = plan_of("g", "g = iter(rows)")
    assert found.warnings == ("rows, which In[1] needs, is not there, and no cell makes it.",)
    found = plan_of("nowhere", "x = 1")
    assert (found.steps, found.unknown) == ((), ("nowhere",))


def test_what_python_itself_has_is_not_missing() -> None:
    live = {"f": ("sum", "range")}
    assert plan_of("h", "x = 1", "h = (f() for i in range(2))", live=live).warnings == ()
    own = plan_of("h", "def sum(x): return 0", "h = f()", live=live)
    assert [step.cell.number for step in own.steps] == [1, 2]


def test_only_names_that_are_made_are_promised() -> None:
    shown = rebuild_plan.shown(plan_of("a b", "a = 1"))
    assert "This cell makes a:" in shown
    assert "No cell is known that makes b." in shown


def test_a_name_that_was_deleted_is_said() -> None:
    found = plan_of("g", "g = 1", "del g")
    assert [step.cell.number for step in found.steps] == [1]
    assert found.warnings == ("g was deleted by In[2].",)


@pytest.mark.parametrize(
    ("source", "magics"),
    [("g = 1\n!rm x", "!"), ("%run a.py\ng = 1", "%run"), ("%%bash\nls", "%%bash")],
)
def test_magics_in_a_cell_are_said(source: str, magics: str) -> None:
    found = plan_of("Out[1]", source)
    assert found.steps[0].warnings == (f"it also runs {magics}, which may do anything",)


def test_a_cell_that_has_killed_the_kernel_is_said() -> None:
    killed = {provenance.text_of("g = crash()"): "segmentation-fault, yesterday"}
    history = provenance.cells_of(["", "\ng = crash()\n"], ["", "g = crash()\n"], (), killed)
    (step,) = rebuild_plan.plan(["g"], history, {"crash": ()}).steps
    assert step.warnings == ("this very cell has killed the kernel: segmentation-fault, yesterday",)


def test_a_chain_of_a_thousand_cells_is_followed() -> None:
    sources = ["df = 0", *["df = df + 1"] * 1000]
    assert numbers("df", *sources) == list(range(1, 1002))


def test_cells_that_are_no_python_make_nothing() -> None:
    assert numbers("x", "x = = 1", "x = 2", "x = (") == [2]


def test_the_plan_in_words_shows_every_cell_with_its_reason() -> None:
    text = rebuild_plan.shown(plan_of("g", "rows = [1]; df = 2", "g = iter(rows)", live="df"))
    assert text.splitlines() == [
        "These 2 cells, in this order, make g:",
        "",
        "In[1]  makes rows, which In[2] needs",
        "  also sets: df",
        "    rows = [1]; df = 2",
        "",
        "In[2]  makes g",
        "    g = iter(rows)",
    ]


def test_who_made_what_is_not_saved_is_found_with_the_line() -> None:
    history = cells("x = 1\ngen = (\n  i for i in x)", "%%time\nlock = Lock()", "5")
    entries = [Skipped(name, "t", "r") for name in ("gen", "lock", "Out[3]", "api_key", "other")]
    found = provenance.made_in(entries, history, {"api_key": 2}, {"gen", "lock", "Out[3]"}, 5.0)
    assert [(one.made_in, one.made_by) for one in found] == [
        (1, "gen = ("), (2, "lock = Lock()"), (3, "5"), (2, None), (None, None),
    ]  # fmt: skip


def test_awaiting_cells_are_told_from_others() -> None:
    assert is_async("x = await f()")
    assert is_async("async for i in f(): pass")
    assert not is_async("async def f():\n  await g()")


@pytest.mark.parametrize(
    ("source", "loads"),
    [
        ("x = 1; y = x", set()),
        ("y = x; x = 1", {"x"}),
        ("x += 1", {"x"}),
        ("with a as b: b.c", {"a"}),
        ("lambda q=w: q + z", {"w"}),
        ("try: pass\nexcept E as e: print(e)", {"E"}),
        ("x: T = v", {"T", "v"}),
        ("print(f'{a}{b!r:{c}}')", {"a", "b", "c"}),
        ("def f(a: T) -> R: pass", {"T", "R"}),
        ("del x", {"x"}),
        ("while a: b = 1\nb", {"a"}),
        ("a[i].b = c", {"a", "i", "c"}),
        ("match p:\n  case Q(r=s) if t: s", {"p", "Q", "t"}),
        ("!echo {name} $other", {"name", "other"}),
    ],
)
def test_what_a_cell_needs_is_what_it_looks_up_before_it_sets_it(
    source: str, loads: set[str]
) -> None:
    assert effects(TransformerManager().transform_cell(source)).loads == loads
