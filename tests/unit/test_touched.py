"""What a cell's text tells about the variables it may touch."""

from __future__ import annotations

import pytest

from checkpoint_kernel.touched import by_code, by_text

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "text",
    [
        "rows.append(1)",
        "x = f'{rows.pop()}'",
        "exec('rows.clear()')",
        "df.query('a > @rows')",
        "%%time\nrows.append(1)",
        "%timeit rows.append(1)",
        "names = !echo {rows.pop()}",
        "for rows in range(3): pass",
        "import rows",
        "del rows",
        "await rows.load()",
        "𝐫ows.append(1)",  # Python reads it as `rows`  # noqa: RUF001
    ],
)
def test_a_name_is_found_wherever_it_stands(text: str) -> None:
    assert "rows" in by_text(text).names


@pytest.mark.parametrize(
    "text",
    [
        "def f(): rows.append(1)",
        "f = lambda: rows",
        "g = (r for r in rows)",
        "class A:\n    def go(self): rows.append(1)",
        "def f():\n    global rows\n    rows = 1",
        "def f():\n    import rows",
        "%%time\ndef f(): rows.append(1)",
        "%time t = Thread(target=lambda: rows.pop())",
    ],
)
def test_what_a_function_names_may_be_touched_later(text: str) -> None:
    assert "rows" in by_text(text).later


@pytest.mark.parametrize("text", ["rows.append(1)", "[r for r in rows]", "for r in rows: print(r)"])
def test_what_only_the_cell_itself_names_is_not_touched_later(text: str) -> None:
    touched = by_text(text)
    assert "rows" not in touched.later
    assert touched.blind is None


@pytest.mark.parametrize(
    "text",
    [
        "globals()['a' + 'b'] = 1",
        "exec(open('x.py').read())",
        "from helpers import *",
        "import __main__ as m",
        "import sys as s",
        "import sys\nsys.modules['__main__']",
        "from sys import modules",
        "m = importlib.import_module(name)",
        "get_ipython().user_ns.clear()",
        "import ctypes",
        "gc.get_objects()",
        "dill.load_module('x')",
    ],
)
def test_a_way_to_unnamed_variables_makes_one_cell_blind(text: str) -> None:
    touched = by_text(text)
    assert touched.blind is not None
    assert not touched.lasting
    assert touched.afterwards().blind is None


@pytest.mark.parametrize(
    "text",
    [
        "def f(k): globals()[k] = 1",
        "f = lambda code: exec(code)",
        "%run other.py",
        "%load_ext mine",
        "run other.py",
        "%timeit exec(text)",
        "!echo {globals()['rows'].pop()}",
        "class A:\n    def go(self):\n        import ctypes",
    ],
)
def test_code_that_may_run_unseen_later_makes_all_cells_blind(text: str) -> None:
    touched = by_text(text)
    assert touched.lasting
    assert touched.afterwards().blind is not None


@pytest.mark.parametrize(
    "text",
    [
        "model.eval()",
        "re.compile('x')",
        "np.stack([a, b])",
        "for m in model.modules(): pass",
        "!pip install dill",
        "%matplotlib inline\nx = 1",
        "%%bash\nif [ -e x ]; then rm x; fi",
        "len?",
        "y = (a\n     %b)",
    ],
)
def test_everyday_words_do_not_blind(text: str) -> None:
    assert by_text(text).blind is None


def test_a_function_without_its_text_is_read_by_its_code() -> None:
    space: dict[str, object] = {}
    exec("def f():\n    rows.append('names')\n    return [lambda: other]", space)
    exec("def g(k):\n    globals()[k] = 1", space)
    exec("def h(m):\n    return m.eval()", space)
    f, g, h = (space[name].__code__ for name in "fgh")  # type: ignore[attr-defined]
    assert {"rows", "other", "names"} <= by_code([f]).later
    assert by_code([g]).lasting
    assert not by_code([h]).lasting
