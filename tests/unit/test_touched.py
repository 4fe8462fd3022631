"""What a cell's text tells about the variables it may touch."""

from __future__ import annotations

import dis
import sys
import threading
import types
import warnings
from typing import Any

import pytest

from checkpoint_kernel.code_names import parts_of, used_by
from checkpoint_kernel.touched import Touched, by_code, by_python, by_text, by_words

pytestmark = pytest.mark.unit


def codes(text: str) -> dict[str, types.CodeType]:
    """Of the functions that a text defines."""
    space: dict[str, Any] = {}
    exec(compile(text, "<cell>", "exec"), space)
    return {name: f.__code__ for name, f in space.items() if isinstance(f, types.FunctionType)}


class TestNames:
    @pytest.mark.parametrize(
        "text",
        [
            "rows.append(1)",
            "x = f'{rows.pop()}'",
            "exec('rows.clear()')",
            "exec('ro\\x77s.clear()')",
            "exec(b'ro\\x77s.clear()')",
            "globals()['ro\\x77s'].clear()",
            "df.query('a > @rows')",
            "%%time\nrows.append(1)",
            "%timeit rows.append(1)",
            "%timeit -n 1 rows.append(1)",
            "names = !echo {rows.pop()}",
            "!echo $rows",
            "%cd {rows.pop()}",
            "  rows.append(1)",
            ">>> rows.append(1)",
            "rows?",
            "for rows in range(3): pass",
            "import rows",
            "del rows",
            "await rows.load()",
            "x = 1; global x; rows.pop()",
            "\N{MATHEMATICAL BOLD SMALL R}ows.append(1)",  # Python reads it as `rows`
            "%%capture out\n%time rows.append(1)",
            "get_ipython().run_line_magic('time', 'rows.append(1)')",
        ],
    )
    def test_a_name_is_found_wherever_it_stands(self, text: str) -> None:
        assert "rows" in by_text(text).names

    def test_letters_that_are_none_to_a_regular_expression_belong_to_a_name(self) -> None:
        assert "l·l" in by_text("l·l.append(1)").names
        assert "℘" in by_text("℘.append(1)").names
        assert "rows" in by_text("df.query(“x”, '“@rows”')").names

    def test_a_private_name_in_a_class_is_a_global_with_the_class_before_it(self) -> None:
        touched = by_text("class _A:\n    def go(self): __rows.append(1)")
        assert "_A__rows" in touched.later

    def test_an_interrupted_word_is_another_name(self) -> None:
        assert "rows" not in by_text("rows2 = 1; my_rows = 2").names


class TestLater:
    @pytest.mark.parametrize(
        "text",
        [
            "def f(): rows.append(1)",
            "async def f(): await rows.load()",
            "f = lambda: rows",
            "g = (rows for r in other)",
            "[lambda: rows for r in other]",
            "class A:\n    def go(self): rows.append(1)",
            "def f():\n    global rows\n    rows = 1",
            "def f():\n    global rows\n    import rows",
            "def f(): globals()['rows'].append(1)",
            "def f(): return df.query('x > @rows')",
            "def f(): pandas.eval('rows.append(1)')",
            "x = 1; global x\ndef f(): rows.append(1)",
            "%%time\ndef f(): rows.append(1)",
            "%time t = Thread(target=lambda: rows.pop())",
            "exec('def f(): rows.append(1)')",
            "exec('rows.append(1)')",  # the text may have been compiled to be run later
        ],
    )
    def test_the_globals_of_a_function_may_be_touched_at_any_time(self, text: str) -> None:
        assert "rows" in by_text(text).later
        assert "rows" in by_text(text).afterwards().names

    @pytest.mark.parametrize(
        "text",
        [
            "rows.append(1)",
            "[r for r in rows]",
            "{r: rows for r in rows}",
            "for r in rows: print(r)",
            "def f(rows): return [r for r in rows]",
            "def f():\n    rows = []\n    return rows",
            "class A:\n    def go(self): self.rows.append(1)",
            "def f():\n    'The rows of a table.'",
            "def f(): print('reading rows')",
            "def f(batch): return batch['rows']",
            "f = lambda rows=rows: rows",  # its default is a reference, and counted
        ],
    )
    def test_locals_attributes_and_talk_are_no_globals(self, text: str) -> None:
        touched = by_text(text)
        assert "rows" not in touched.later
        assert touched.blind is None


class TestGates:
    """What reaches variables without their names."""

    @pytest.mark.parametrize(
        "text",
        [
            "globals()['a' + 'b'] = 1",
            "globals()[f'df_{i}'] = df",
            "get_ipython().user_ns[k].append(1)",
            "vars()[k].append(1)",
            "globals().update(saved)",
            "for k, v in list(globals().items()): print(k)",
            "[k for k in globals().keys()]",
            "from helpers import *",
            "A.__reduce__ = f",
            "setattr(A, '__getstate__', f)",
            "%run other.py",
            "run other.py",
            "%run other.py -n 3",
            "%reset -f",
            "%whos",
            "%store -r",
        ],
    )
    def test_one_that_leaves_nothing_behind_makes_one_cell_blind(self, text: str) -> None:
        touched = by_text(text)
        assert touched.blind is not None
        assert not touched.lasting
        assert touched.afterwards().blind is None

    @pytest.mark.parametrize(
        "text",
        [
            "exec(open('x.py').read())",
            "run = exec",
            "Timer(5, exec, ['rows.clear()'])",
            "g = globals()",
            "f(**globals())",
            "import __main__ as m",
            "import sys as s",
            "import sys\nsys.modules['__main__']",
            "import sys\nd = sys.modules",
            "getattr(sys, a + b)",
            "from sys import modules",
            "from inspect import *",
            "m = importlib.import_module(name)",
            "m = importlib.import_module('__main__')",
            "getattr(f, '__globals__')",
            "f.__globals__['rows'].clear()",
            "print.__self__.exec(text)",
            "builtins.exec(text)",
            "import builtins as b",
            "ip = get_ipython()",
            "get_ipython().user_ns.clear()",
            "get_ipython().ex(text)",
            "ip.ex(text)",
            "IPython.get_ipython().push(d)",
            "InteractiveShell.instance()",
            "import ctypes",
            "a.ctypes.data_as(p)",
            "ffi.from_buffer(a)",
            "a.__array_interface__['data']",
            "gc.get_objects()",
            "from gc import get_objects",
            "inspect.stack()[1].frame",
            "sys._getframe()",
            "tb.tb_frame",
            "dill.load_module('x')",
            "import dill as pickle",
            "import copyreg",
            "breakpoint()",
            "import pdb; pdb.set_trace()",
            "cProfile.run(text)",
            "def f(k): globals()[k] = 1",
            "f = lambda code: exec(code)",
            "def f(): A.__reduce__ = g",
            "class A:\n    def go(self):\n        import ctypes",
            "eval('exec(text)')",
            "%run -i other.py",
            "%run -ni other.py",
            "%run -d other.py",
            "%load_ext mine",
            "%debug",
            "debug",
            "%pdb on",
            "%sql select 1",
            "%%R -i rows\nx",
            "%timeit exec(text)",
            "%timeit -n 1 exec(text)",
            "%%time\nexec(text)",
            "!echo {globals()['rows'].pop()}",
            "get_ipython().run_line_magic(name, text)",
            "print 'an unknown magic, perhaps'",
        ],
    )
    def test_one_that_may_be_used_again_makes_all_cells_blind(self, text: str) -> None:
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
            "vars(args)",
            "self.__dict__.update(more)",
            "def f(): return locals()",
            "class A:\n    x = 1\n    y = vars()",
            "if 'df' not in globals(): df = 1",
            "globals()['df'] = 1",
            "globals().get('df')",
            "'torch' in sys.modules",
            "del sys.modules['helpers']",
            "sys.path.append('x')",
            "if __name__ == '__main__': main()",
            "import importlib; importlib.import_module('numpy')",
            "importlib.reload(helpers)",
            "gc.collect()",
            "inspect.signature(f)",
            "import dill; dill.dump(x, file)",
            "builtins.print(x)",
            "get_ipython().__class__.__name__",
            "get_ipython().kernel.banner",
            "'df' in get_ipython().user_ns",
            "get_ipython().user_ns['df'] = 1",
            "eval('1', globals())",
            "IPython.get_ipython() is None",
            "from IPython import get_ipython",
            "get_ipython().run_line_magic('matplotlib', 'inline')",
            "get_ipython().system('pip install dill')",
            "InteractiveShell.ast_node_interactivity = 'all'",
            "def f():\n    'Not like globals() of __main__ in user_ns.'",
            "class A:\n    def __getstate__(self): return {}",
            "eval('1 + 1')",
            "!pip install dill",
            "!pip install ctypes",
            "%matplotlib inline\nx = 1",
            "%config InlineBackend.figure_format = 'retina'",
            "%load_ext autoreload\n%autoreload 2",
            "%%bash\nif [ -e x ]; then rm x; fi",
            "%%writefile x.py\nexec(text)",
            "%time f(x)",
            "cd ..",
            "pip install dill",
            "len?",
            "%%time?",
            "y = (a\n     %b)",
            "    x = 1\n    y = 2",
            ">>> x = 1",
        ],
    )
    def test_everyday_words_are_none(self, text: str) -> None:
        assert by_text(text).blind is None

    def test_a_reason_that_lasts_is_told_before_one_that_does_not(self) -> None:
        once, lasting = by_text("globals()[k] = 1"), by_text("g = globals()")
        assert (once | lasting).blind == (lasting | once).blind == lasting.blind
        assert (once | lasting).lasting


class TestWhatIsRunInstead:
    """IPython's transformed cell is what is run."""

    @pytest.mark.parametrize(
        "text", ["pritn x", "def f(:\n", "x = (", "get_ipython().run_line_magic('time', 'x=1')"]
    )
    def test_a_typing_error_touches_nothing(self, text: str) -> None:
        assert by_python(text).blind is None
        assert by_python(text).later == frozenset()

    def test_a_magic_without_its_sign_is_known_by_what_it_becomes(self) -> None:
        assert by_python("get_ipython().run_line_magic('debug', '')").lasting
        assert by_python("get_ipython().run_line_magic('sql', 'select')").lasting
        assert by_python("get_ipython().run_cell_magic('time', '', 'rows.pop()')").names >= {"rows"}


@pytest.mark.parametrize("action", ["always", "error", "default"])
def test_reading_a_text_warns_of_nothing(action: Any) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter(action)
        before = list(warnings.filters)
        touched = by_text.__wrapped__("x = '\\d'\ny = 1 is 2\ndef f(): return '\\d(rows)'")
        assert warnings.filters == before
    assert touched.blind is None
    assert not seen


@pytest.mark.parametrize("action", ["always", "error"])
def test_reading_goes_well_beside_threads_that_change_filters(
    action: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Numpy and others do, and put back lists of filters that do not have ours."""
    done = threading.Event()

    def library() -> None:
        while not done.is_set():
            with warnings.catch_warnings():
                warnings.simplefilter(action)

    before = list(warnings.filters)
    interval = sys.getswitchinterval()
    thread = threading.Thread(target=library)
    thread.start()
    sys.setswitchinterval(1e-6)
    try:
        for number in range(1500):
            text = f"x = '\\d'\ny = {number} is 2\ndef f(): return rows"
            assert "rows" in by_python.__wrapped__(text).later
    finally:
        sys.setswitchinterval(interval)
        done.set()
        thread.join()
    assert capsys.readouterr().err == ""
    assert warnings.filters == before


HUGE = f"0x{'f' * 5000}"  # str() refuses it


class TestNoTextRaises:
    @pytest.mark.parametrize(
        "text",
        [
            f"globals().get({HUGE}); rows",
            f"globals()[{HUGE}] = rows",
            f"setattr(rows, {HUGE}, 1)",
            f"def f(): return globals().get({HUGE}), rows",
            f"def f(): return globals()[{HUGE}, 1], rows",
        ],
    )
    def test_with_a_number_that_has_no_text(self, text: str) -> None:
        assert "rows" in by_python(text).names
        if text.startswith("def"):
            assert "rows" in by_code([codes(text)["f"]]).later

    def test_that_reached_the_limit_of_recursion_only_here(self) -> None:
        """It is no typing error, which touches nothing."""
        deep = "rows" + ".x" * 20_000
        with pytest.raises((RecursionError, MemoryError)):
            by_python(deep)
        code = codes(f"def f(): return '{deep}()'")["f"]
        assert "rows" in by_code([code]).later


def test_a_text_that_is_only_looked_at_touches_its_words() -> None:
    assert by_words("rows.app").names == {"rows", "app"}
    assert by_words("rows.app") == Touched(frozenset({"rows", "app"}))
    assert by_words("globals()['a'].").blind is not None


class TestCodeWithoutText:
    def test_its_globals_are_found(self) -> None:
        f = codes("def f(x):\n    rows.append(x.total)\n    return [lambda: other]")["f"]
        assert by_code([f]).later == {"rows", "other"}

    @pytest.mark.parametrize(
        "text",
        [
            "def f(k): globals()[k] = 1",
            "def f(): return globals()",
            "def f(k): exec(k)",
            "def f(): import ctypes",
            "def f(): from sys import modules",
            "def f(): return sys.modules['__main__']",
            "def f(): return sys.modules",
            "def f(g): return g.__globals__",
            "f = lambda g: getattr(g, '__globals__')",
            "def f(): return get_ipython()",
            "def f(a): return a.ctypes.data",
            "def f(): A.__reduce__ = None",
            "def f(): return lambda: exec(k)",
        ],
    )
    def test_a_gate_in_it_is_lasting(self, text: str) -> None:
        assert by_code([codes(text)["f"]]).lasting

    @pytest.mark.parametrize(
        "text",
        [
            "def f(m): return m.eval()",
            "def f(): return locals(), vars(g)",
            "def f(): return 'df' in globals()",
            "def f(): return globals()['df'], globals().get('df')",
            "def f(): return 'torch' in sys.modules",
            "def f(): return sys.modules['numpy'], sys.path",
            "def f(): return get_ipython().__class__.__name__",
            "def f():\n    'As globals() of __main__ in user_ns.'",
            "def f(): return __name__ == '__main__'",
            "def f(): return builtins.print",
        ],
    )
    def test_everyday_code_has_none(self, text: str) -> None:
        assert by_code([codes(text)["f"]]).blind is None

    def test_what_is_decoded_is_what_dis_shows(self) -> None:
        """Of many functions of the standard library, with arguments beyond one byte too."""
        import argparse
        import decimal
        import tarfile
        import typing

        many = "def f():\n" + "".join(f"    g{n}(h{n}.a{n})\n" for n in range(400))
        found = [codes(many)["f"]]
        for module in (argparse, decimal, tarfile, typing, dis):
            for value in vars(module).values():
                members = vars(value).values() if isinstance(value, type) else [value]
                found += [f.__code__ for f in members if isinstance(f, types.FunctionType)]
        parts = [part for code in found for part in parts_of(code)]
        assert len(parts) > 300
        naming = ("_GLOBAL", "_NAME", "_GLOBALS")
        for part in parts:
            shown = {
                step.argval
                for step in dis.get_instructions(part)
                if step.opname.endswith(naming) and not step.opname.startswith("IMPORT")
            }
            assert used_by(part).names == shown
