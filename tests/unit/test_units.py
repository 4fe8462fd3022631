"""Which variables form a unit, and what holds again once they are loaded."""

from __future__ import annotations

import pickle
import sys
import types

import numpy as np
import pytest
from notebook_namespace import Notebook, load, names_of_units

from checkpoint_kernel import rebuild, units

pytestmark = pytest.mark.unit


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


class TestUnits:
    def test_variables_that_share_nothing_are_units_of_their_own(self, notebook: Notebook) -> None:
        notebook.run("a = [1]; b = [1]; c = 'text'")
        assert names_of_units(notebook.partition()) == {
            frozenset("a"),
            frozenset("b"),
            frozenset("c"),
        }

    def test_variables_that_reach_one_list_are_one_unit(self, notebook: Notebook) -> None:
        notebook.run("shared = [1]; a = {'x': shared}; b = (shared,); apart = [1]")
        assert frozenset({"shared", "a", "b"}) in names_of_units(notebook.partition())

    def test_two_names_for_one_object_are_one_unit(self, notebook: Notebook) -> None:
        notebook.run("a = [1]; b = a")
        again = notebook.reborn().main
        assert again["a"] is again["b"]

    def test_arrays_without_common_memory_stay_apart(self, notebook: Notebook) -> None:
        # kishu makes all arrays one unit, because it counts numpy's helpers as shared data.
        notebook.run("import numpy as np\na = np.zeros(20_000); b = np.zeros(20_000)")
        assert {frozenset("a"), frozenset("b")} <= names_of_units(notebook.partition())

    def test_equal_constants_of_one_cell_do_not_tie_functions_together(
        self, notebook: Notebook
    ) -> None:
        notebook.run("def f(x=(1, 2)): return x\ndef g(x=(1, 2)): return x")
        assert {frozenset("f"), frozenset("g")} <= names_of_units(notebook.partition())

    def test_instances_of_one_class_stay_apart(self, notebook: Notebook) -> None:
        notebook.run("class Point: pass\np = Point(); q = Point()")
        assert {frozenset("p"), frozenset("q"), frozenset({"Point"})} <= names_of_units(
            notebook.partition()
        )

    def test_instances_of_a_class_without_a_name_stay_apart(self, notebook: Notebook) -> None:
        notebook.run("class Point: pass\np = Point(); q = Point()\ndel Point")
        assert {frozenset("p"), frozenset("q")} <= names_of_units(notebook.partition())
        again = notebook.reborn().main
        assert type(again["p"]) is type(again["q"])

    def test_closures_over_one_cell_are_one_unit(self, notebook: Notebook) -> None:
        notebook.run(
            "def counter():\n"
            "    count = 0\n"
            "    def increase():\n"
            "        nonlocal count\n"
            "        count += 1\n"
            "    def read(): return count\n"
            "    return increase, read\n"
            "increase, read = counter()\nincrease()"
        )
        again = notebook.reborn().main
        again["increase"]()
        assert again["read"]() == 2

    def test_definitions_that_need_each_other_are_loaded_together(self, notebook: Notebook) -> None:
        notebook.run(
            "class Node: pass\ndef make(default=Node()): return default\nNode.factory = make"
        )
        again = notebook.reborn().main
        assert again["Node"].factory is again["make"]
        assert isinstance(again["make"](), again["Node"])

    def test_a_unit_that_a_running_call_was_given_is_marked(self, notebook: Notebook) -> None:
        notebook.run("rows = [[1]]; other = [2]")
        partition = notebook.partition(in_call=(notebook.main["rows"],))
        marked = {frozenset(d.root): d.reached_by_call for d in partition.units}
        assert marked == {frozenset({"rows"}): True, frozenset({"other"}): False}


class TestOneBadVariableCostsItself:
    @pytest.mark.parametrize(
        ("cell", "reason"),
        [
            ("bad = (i for i in range(3)); next(bad)", "position is inside running code"),
            ("import socket; bad = socket.socket()", "network connection"),
            ("import os; bad = open(os.pipe()[0])", "it leads to a pipe"),
            (
                "bad = {'deep': map(str, (i for i in 'a'))}; next(bad['deep'])",
                "it holds a generator",
            ),
            ("class B:\n def __reduce__(self): raise ValueError('no')\nbad = B()", "no"),
            ("class B:\n def __reduce__(self): raise SystemExit\nbad = B()", "SystemExit"),
            ("class B:\n def __reduce__(self): return 3\nbad = B()", "saving it failed"),
            ("bad = []\nfor _ in range(100_000): bad = [bad]", "nested too deeply"),
        ],
    )
    def test_it_is_named_with_a_reason_and_the_rest_is_there(
        self, notebook: Notebook, cell: str, reason: str
    ) -> None:
        notebook.run(f"good = [1]\n{cell}")
        partition = notebook.partition()
        bad = {skipped.name: skipped.reason for skipped in partition.skipped}
        assert reason in bad["bad"]
        assert frozenset({"good"}) in names_of_units(partition)
        notebook.main["bad"] = None  # frees the deep list without recursion

    def test_two_that_share_with_the_bad_one_still_share_with_each_other(
        self, notebook: Notebook
    ) -> None:
        notebook.run("shared = []\nbad = [shared, map(str, (i for i in 'a'))]; next(bad[1])")
        notebook.run("a = [shared]; b = [shared]; del shared")
        again = notebook.reborn().main
        assert again["a"][0] is again["b"][0]

    def test_what_needs_an_unsavable_class_is_not_saved_either(self, notebook: Notebook) -> None:
        notebook.run("class C:\n    rows = map(str, (i for i in 'a')); next(rows)\nc = C()")
        reasons = {skipped.name: skipped.reason for skipped in notebook.partition().skipped}
        assert "generator" in reasons["C"]
        assert reasons["c"] == "it needs C, which could not be saved"

    def test_a_lie_about_the_class_of_an_object_is_not_believed(self, notebook: Notebook) -> None:
        notebook.run(
            "class Liar:\n    @property\n    def __class__(self): raise RuntimeError\n"
            "liar = Liar(); good = [1]"
        )
        assert frozenset({"good"}) in names_of_units(notebook.partition())

    def test_a_class_without_a_hash_is_no_obstacle(self, notebook: Notebook) -> None:
        notebook.run(
            "class Meta(type):\n    __hash__ = None\nclass C(metaclass=Meta): pass\n"
            "c = C(); good = [1]"
        )
        assert frozenset({"good"}) in names_of_units(notebook.partition())


class TestArrays:
    """Three generations: what was restored must be saved as well as what was made."""

    def third(self, cell: str) -> dict[str, np.ndarray]:
        notebook = Notebook()
        notebook.run(f"import numpy as np\n{cell}")
        return notebook.reborn().reborn().reborn().main

    @pytest.mark.parametrize("size", [100, 100_000])
    @pytest.mark.parametrize(
        "view",
        ["a[10:20]", "a[::2]", "a[::-1]", "a.reshape(-1, 10).T", "a.view('u1')", "a[:, None]"],
    )
    def test_views_share_memory_with_their_base(self, size: int, view: str) -> None:
        again = self.third(f"a = np.arange({size}, dtype='f8'); v = {view}")
        assert np.shares_memory(again["a"], again["v"])
        again["a"][:] = 0
        assert not again["v"].any()

    def test_views_whose_base_has_no_name_share_memory(self) -> None:
        again = self.third("a = np.arange(100_000); v = a[:10]; w = a[5:15]; del a")
        again["v"][5] = -1
        assert again["w"][0] == -1

    def test_arrays_on_one_bytearray_share_it(self) -> None:
        again = self.third("raw = bytearray(200_000); a = np.frombuffer(raw, 'u1')")
        again["raw"][7] = 9
        assert again["a"][7] == 9

    def test_object_arrays_keep_their_views(self) -> None:
        again = self.third("a = np.array([1, 'x', None], dtype=object); v = a[1:]")
        again["v"][0] = "y"
        assert again["a"][1] == "y"

    @pytest.mark.parametrize(
        "expression",
        [
            "np.zeros(0)", "np.array(3.0)", "np.asfortranarray(np.ones((300, 400)))",
            "np.arange(50_000).astype('M8[s]')",
            "np.zeros(9_000, dtype=[('a', 'f8'), ('b', 'i4')])",
            "np.broadcast_to(np.arange(3), (4, 3))", "np.array(['a', 'bc'])",
            "np.ma.masked_array([1, 2, 3], [0, 1, 0])", "np.arange(20_000)[::3]",
        ],
    )  # fmt: skip
    def test_values_layout_and_flags_come_back(self, expression: str) -> None:
        notebook = Notebook()
        notebook.run(f"import numpy as np\na = {expression}")
        before, after = notebook.main["a"], notebook.reborn().reborn().main["a"]
        assert type(after) is type(before)
        assert after.dtype == before.dtype
        assert after.shape == before.shape
        assert after.flags.writeable == before.flags.writeable
        assert np.array_equal(after, before)

    def test_frames_that_pandas_shares_on_write_do_not_write_into_each_other(self) -> None:
        notebook = Notebook()
        notebook.run(
            "import pandas as pd, numpy as np\n"
            "df = pd.DataFrame({'x': np.arange(50_000.0), 'y': 1.0}); s = df['x']; d = df[['y']]"
        )
        again = notebook.reborn().main
        again["s"].iloc[0] = 99.0
        assert again["df"]["x"].iloc[0] == 0.0
        again["df"].iloc[0, 1] = 99.0
        assert again["d"]["y"].iloc[0] == 1.0


class TestCode:
    def test_functions_are_bound_to_the_live_namespace(self, notebook: Notebook) -> None:
        notebook.run("factor = 2\ndef double(x): return x * factor")
        again = notebook.reborn()
        assert again.main["double"].__globals__ is again.main
        again.run("factor = 5")
        assert again.main["double"](2) == 10

    def test_functions_keep_all_that_belongs_to_them(self, notebook: Notebook) -> None:
        notebook.run(
            "def f(a: int, b=[1], *, c='k') -> str:\n    'doc'\n    return a, b, c\nf.note = 'x'"
        )
        f, again = notebook.main["f"], notebook.reborn().main["f"]
        assert again(1) == (1, [1], "k")
        assert (again.__doc__, again.note, again.__qualname__) == ("doc", "x", "f")
        assert again.__annotations__ == f.__annotations__

    def test_recursive_closures_survive(self, notebook: Notebook) -> None:
        notebook.run(
            "def outer():\n"
            "    def fact(n): return 1 if n < 2 else n * fact(n - 1)\n"
            "    return fact\n"
            "fact = outer()"
        )
        assert notebook.reborn().main["fact"](5) == 120

    def test_a_cached_function_works_and_is_empty(self, notebook: Notebook) -> None:
        notebook.run("from functools import lru_cache\n@lru_cache\ndef f(x): return x + 1\nf(1)")
        again = notebook.reborn().main["f"]
        assert again(1) == 2
        assert again.cache_info().misses == 1

    @pytest.mark.parametrize(
        "cell",
        [
            "class C:\n    def name(self): return super().__repr__()\n"
            "c = C()\ncheck = lambda: c.name()",
            "class C:\n    __slots__ = ('x',)\nc = C(); c.x = 1\ncheck = lambda: c.x == 1",
            "class M(type): pass\nclass C(metaclass=M): pass\n"
            "c = C()\ncheck = lambda: type(C) is M",
            "import enum\nclass C(enum.Enum):\n    A = 1\nc = C.A\ncheck = lambda: c is C.A",
            "import dataclasses\n@dataclasses.dataclass\nclass C:\n    x: int = 3\nc = C()\n"
            "check = lambda: c == C()",
            "import abc\nclass B(abc.ABC):\n    @abc.abstractmethod\n    def f(self): ...\n"
            "class C(B):\n    def f(self): return 1\nc = C()\ncheck = lambda: isinstance(c, B)",
            "from typing import NamedTuple\nclass C(NamedTuple):\n    x: int\nc = C(1)\n"
            "check = lambda: c.x == 1",
            "class C:\n    items = []\nc = C(); items = C.items\n"
            "check = lambda: items is C.items is c.items",
            "class C:\n    class D: pass\nc = C.D()\ncheck = lambda: isinstance(c, C.D)",
        ],
        ids=["super", "slots", "metaclass", "enum", "dataclass", "abc", "namedtuple",
             "shared attribute", "nested"],
    )  # fmt: skip
    def test_classes_and_instances_belong_together(self, notebook: Notebook, cell: str) -> None:
        notebook.run(cell)
        again = notebook.reborn().reborn()
        assert again.main["check"]()
        again.run("fresh = isinstance(c, (C, getattr(C, 'D', C)))")
        assert again.main["fresh"]

    @pytest.mark.parametrize(
        "cell",
        [
            "class Base:\n    def __init_subclass__(cls): seen.append(cls.__name__)\n"
            "class C(Base): pass\nclass D(C): pass",
            "class Base:\n    seen = []\n"
            "    def __init_subclass__(cls): cls.seen.append(cls.__name__)\n"
            "class C(Base): pass\nclass D(C): pass\nseen = Base.seen",
            "class Base:\n"
            "    def __init_subclass__(cls, tag): seen.append(cls.__name__); cls.tag = tag\n"
            "class C(Base, tag=1): pass\nclass D(Base, tag=2): pass",
            "class Meta(type):\n"
            "    def __init__(cls, *parts):\n"
            "        super().__init__(*parts); seen.append(cls.__name__) if parts[1] else None\n"
            "class Base(metaclass=Meta): pass\nclass C(Base): pass\nclass D(Base): pass",
            "import abc\nclass Meta(abc.ABCMeta):\n"
            "    def __new__(mcls, name, bases, body, tag=None):\n"
            "        cls = super().__new__(mcls, name, bases, body)\n"
            "        seen.append(name) if bases else None\n        return cls\n"
            "class Base(metaclass=Meta):\n    @abc.abstractmethod\n    def f(self): ...\n"
            "class C(Base): pass\nclass D(Base): pass\nBase.register(int)",
            "import typing\nT = typing.TypeVar('T')\nclass Base(typing.Generic[T]):\n"
            "    def __init_subclass__(cls):\n"
            "        super().__init_subclass__(); seen.append(cls.__name__)\n"
            "class C(Base[int]): pass\nclass D(Base[T]): pass",
            "import enum\nclass Base(enum.Enum):\n"
            "    def __init_subclass__(cls): seen.append(cls.__name__)\n"
            "class C(Base):\n    A = 1\nclass D(Base):\n    A = 2",
        ],
        ids=["global registry", "registry on the base", "keywords", "metaclass", "abstract",
             "generic", "enum"],
    )  # fmt: skip
    def test_a_class_that_registers_itself_is_registered_once_and_goes_on(
        self, notebook: Notebook, cell: str
    ) -> None:
        notebook.run(f"seen = []\n{cell}")
        again = notebook.reborn().reborn()
        assert again.main["seen"] == ["C", "D"]
        base = again.main["Base"]
        keywords = {"tag": 3} if "tag" in cell else {}
        types.new_class("New", (base,), keywords)
        assert again.main["seen"] == ["C", "D", "New"]
        assert issubclass(again.main["D"], base)

    def test_hooks_of_libraries_see_a_class_that_comes_back(
        self, notebook: Notebook, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        library = types.ModuleType("library")
        body = (
            "seen = []\nclass Base:\n    def __init_subclass__(cls):\n"
            "        seen.append(cls.__name__)"
        )
        exec(body, vars(library))
        monkeypatch.setitem(sys.modules, "library", library)
        notebook.run(
            "import library\nclass Own(library.Base):\n    def __init_subclass__(cls):\n"
            "        super().__init_subclass__(); told.append(cls.__name__)\n"
            "told = []\nclass C(Own): pass"
        )
        library.seen.clear()  # as in a new process
        again = notebook.reborn()
        assert library.seen == ["Own", "C"]
        assert again.main["told"] == ["C"]

    def test_saving_twice_gives_the_same_bytes(self, notebook: Notebook) -> None:
        notebook.run("class C:\n    x = 1\nc = C()\ndef f(): return c\nd = {'k': [1, 2]}")
        streams = [
            {d.id: d.pickled.stream for d in notebook.partition().units if d.pickled}
            for _ in range(2)
        ]
        assert streams[0] == streams[1]

    def test_cycles_survive(self, notebook: Notebook) -> None:
        notebook.run("a = [1]; a.append(a)\nclass N: pass\nn = N(); n.me = n")
        again = notebook.reborn().main
        assert again["a"][1] is again["a"]
        assert again["n"].me is again["n"]

    def test_saving_does_not_change_live_objects(self, notebook: Notebook) -> None:
        notebook.run("class C: pass\nc = C(); c.x = [1]\ndef f(y=[]): return y")
        main = notebook.main
        before = dict(main["C"].__dict__), dict(main["c"].__dict__)
        notebook.partition()
        # What the snapshot process leaves on a class is copyreg's cache, in its own memory.
        after = {k: v for k, v in main["C"].__dict__.items() if k != "__slotnames__"}
        assert (after, main["c"].__dict__) == before


class TestTogether:
    def partition(self, notebook: Notebook, *together: tuple[str, ...]) -> units.Partition:
        return units.partition(
            notebook.variables, notebook.main, {}, lambda _: None, together=together
        )

    def test_names_that_were_one_unit_are_pickled_as_one(self, notebook: Notebook) -> None:
        notebook.run("a = [1]; b = [a]; c = [2]")
        partition = self.partition(notebook, ("a", "b"))
        assert names_of_units(partition) == {frozenset("ab"), frozenset("c")}
        again = load(partition).main
        assert again["b"][0] is again["a"]

    def test_one_that_cannot_be_saved_any_more_costs_only_itself(self, notebook: Notebook) -> None:
        notebook.run("a = [1]; b = (i for i in a); next(b)")
        partition = self.partition(notebook, ("a", "b"))
        assert [skipped.name for skipped in partition.skipped] == ["b"]
        assert load(partition).main["a"] == [1]

    def test_names_that_are_gone_or_something_else_now_do_no_harm(self, notebook: Notebook) -> None:
        notebook.run("a = [1]\ndef b(): return a")
        partition = self.partition(notebook, ("a", "b", "gone"), ("a", "other"))
        assert load(partition).main["a"] == [1]


class TestObjectArrays:
    @pytest.mark.parametrize(
        "make",
        [
            "np.array([f'text {k}' for k in range(5000)], dtype=object)",
            "np.array([None, 1, 2.5, 'x', b'y', True] * 2000, dtype=object)",
            "np.asfortranarray(np.array([f'{k}' for k in range(6000)], object).reshape(3, -1))",
            "np.array([f'{k}' for k in range(9000)], dtype=object)[::3]",
        ],
    )
    def test_texts_and_numbers_come_back(self, notebook: Notebook, make: str) -> None:
        notebook.run(f"import numpy as np\na = {make}")
        again = notebook.reborn().reborn().main["a"]
        live = notebook.main["a"]
        assert again.dtype == live.dtype
        assert again.tolist() == live.tolist()
        assert again.flags.f_contiguous == live.flags.f_contiguous
        assert [type(v) for v in again.flat] == [type(v) for v in live.flat]

    def test_a_column_that_did_not_change_gives_the_same_bytes(self, notebook: Notebook) -> None:
        notebook.run(
            "import numpy as np\na = np.array([f'{k}' for k in range(9000)], dtype=object)"
        )
        first, second = (notebook.partition().units[-1].pickled for _ in range(2))
        assert first is not None
        assert second is not None
        assert [bytes(b.raw()) for b in first.buffers] == [bytes(b.raw()) for b in second.buffers]

    def test_objects_with_parts_keep_their_identity(self, notebook: Notebook) -> None:
        notebook.run("import numpy as np\nx = [1]\na = np.array([x, 'y'] * 3000, dtype=object)")
        again = notebook.reborn().main
        assert again["a"][0] is again["x"]

    def test_a_stream_in_a_buffer_cannot_run_code(self) -> None:
        with pytest.raises(pickle.UnpicklingError, match="neither text nor a number"):
            rebuild.plain_objects(pickle.dumps([print]), (1,), False, True)


def test_an_object_that_is_made_by_a_method_of_its_class_comes_back(notebook: Notebook) -> None:
    notebook.run(
        "class User:\n    def __init__(self, name): self.name = name\n"
        "    def __reduce__(self): return (User.make, ('u:' + self.name,))\n"
        "    @staticmethod\n    def make(text): return User(text[2:])\n"
        "user = User('ann'); make = User.make; plain = User.__init__"
    )
    partition = notebook.partition()
    back = load(partition).main
    assert back["user"].name == "ann"
    assert type(back["user"]) is back["User"]
    assert back["make"] is back["User"].make


def test_a_class_that_became_one_with_a_variable_is_found_for_a_trial(notebook: Notebook) -> None:
    notebook.run(
        "import socket\nreg = []\nclass A:\n    registry = reg\n"
        "    def __init__(self): self.sock, self.n = socket.socket(), 1\n"
        "    def __getstate__(self): return dict(vars(self))\na = A()"
    )
    partition = notebook.partition()
    assert partition.skipped == []
    assert [one.name for one in partition.partly] == ["a"]
