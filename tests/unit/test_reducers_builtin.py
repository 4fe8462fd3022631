"""Reductions of built-in objects, where the coverage table does not look: dead references, sharing
of units, classes that pickle itself must go on saving, what is loaded twice."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from notebook_namespace import Notebook, names_of_units

from checkpoint_kernel import rebuild_builtin, reducers_builtin
from checkpoint_kernel.stub import Stub

pytestmark = pytest.mark.unit


def after(*cells: str) -> Notebook:
    notebook = Notebook()
    for cell in cells:
        notebook.run(cell)
    return notebook


def unit_of(notebook: Notebook, name: str) -> frozenset[str]:
    return next(names for names in names_of_units(notebook.partition()) if name in names)


@pytest.mark.parametrize(
    "make",
    [
        "b = {'x': 1}; a = b.keys()",
        "import types; b = {'x': 1}; a = types.MappingProxyType(b)",
        "import weakref\nclass C: pass\nb = C(); a = weakref.ref(b)",
        "import weakref\nclass C: pass\nb = C(); a = weakref.proxy(b)",
        "import weakref\nclass C: pass\nb = C(); a = weakref.WeakSet([b])",
        "b = bytearray(100); a = memoryview(b)[10:20]",
        "class C: pass\nb = C(); b.x = 1; a = vars(b)",
    ],
)
def test_a_view_shares_a_unit_with_what_it_is_of(make: str) -> None:
    assert unit_of(after(make), "a") == {"a", "b"}


def test_dataclasses_and_loggers_to_the_same_place_stay_apart() -> None:
    notebook = after(
        "import dataclasses\n@dataclasses.dataclass\nclass A:\n    x: int = 1\n"
        "@dataclasses.dataclass\nclass B:\n    y: list = dataclasses.field(default_factory=list)\n"
        "a, b = A(), B()"
    )
    assert unit_of(notebook, "A") == {"A"}
    assert unit_of(notebook, "B") == {"B"}


def test_a_weak_reference_keeps_nothing_alive_after_the_restore() -> None:
    reborn = after(
        "import weakref\nclass C: pass\nkept = C(); kept.child = C()\n"
        "strong = C(); holder = [strong]; a = weakref.ref(kept.child); b = weakref.ref(strong)"
    ).reborn()
    assert reborn.main["a"]() is reborn.main["kept"].child
    reborn.run("del kept, strong, holder")
    gc.collect()
    assert reborn.main["a"]() is None
    assert reborn.main["b"]() is None


def test_what_only_weak_references_held_is_gone() -> None:
    notebook = after("import weakref\nclass C: pass\nd = weakref.WeakValueDictionary(); o = C()")
    notebook.run("d['x'] = o; a = weakref.ref(o); hidden = [o]")
    hidden = notebook.main.pop("hidden"), notebook.main.pop("o")
    reborn = notebook.reborn()
    gc.collect()
    assert reborn.main["a"]() is None
    assert dict(reborn.main["d"]) == {}
    assert hidden


def test_a_weak_set_whose_members_refer_to_it_comes_back() -> None:
    reborn = after(
        "import weakref\nclass C:\n"
        "    def __init__(self, group): self.group = group; group.add(self)\n"
        "group = weakref.WeakSet(); a, b = C(group), C(group)"
    ).reborn()
    assert set(reborn.main["group"]) == {reborn.main["a"], reborn.main["b"]}
    assert reborn.main["a"].group is reborn.main["group"]


def test_a_stub_takes_the_place_of_a_weak_reference_to_it() -> None:
    stub = Stub("thing", "it is gone")
    assert rebuild_builtin.weak_reference(stub, None) is stub
    assert rebuild_builtin.weak_proxy(stub) is stub
    assert rebuild_builtin.weak_method(stub, len) is stub
    group: Any = weakref.WeakSet()
    rebuild_builtin.fill_weakly(group, [stub])
    assert len(group) == 0


def test_an_exception_that_names_itself_as_context_comes_back() -> None:
    reborn = after(
        "class E(Exception):\n    def __init__(self, *, code): super().__init__(code, 'x')\n"
        "try:\n    try: raise E(code=1)\n    except E as first: raise E(code=2) from first\n"
        "except E as second: a = second\na.back = a"
    ).reborn()
    error = reborn.main["a"]
    assert error.args == (2, "x")
    assert error.back is error
    assert error.__cause__.args == (1, "x")
    assert type(error.__cause__) is reborn.main["E"]


def test_an_exceptions_own_reduce_is_respected() -> None:
    reborn = after(
        "class E(Exception):\n    def __init__(self, a): self.a = a\n"
        "    def __reduce__(self): return (E, (self.a + 1,))\na = E(1)"
    ).reborn()
    assert reborn.main["a"].a == 2


def test_a_traceback_is_saved_again_after_it_was_loaded() -> None:
    notebook = after("def f(): raise KeyError('k')\ntry: f()\nexcept KeyError as e: a = e")
    lines = [entry.tb_lineno for entry in _entries(notebook.main["a"].__traceback__)]
    twice = notebook.reborn().reborn()
    found = list(_entries(twice.main["a"].__traceback__))
    assert [entry.tb_lineno for entry in found] == lines
    assert [entry.tb_frame.f_code.co_name for entry in found][-1] == "f"


def test_a_restored_traceback_does_not_keep_the_restore_alive() -> None:
    reborn = after("try: 1 / 0\nexcept ZeroDivisionError as e: a = e").reborn()
    frame, callers = reborn.main["a"].__traceback__.tb_frame, set()
    while frame is not None:
        callers.add(frame.f_code.co_name)
        frame = frame.f_back
    assert "load" not in callers


def _entries(traceback: Any) -> Any:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def test_a_class_whose_metaclass_answers_every_attribute_is_still_a_class() -> None:
    reborn = after(
        "class M(type):\n    def __getattr__(cls, name): return name\n"
        "class C(metaclass=M):\n    x = 1\na = C()"
    ).reborn()
    assert type(reborn.main["C"]) is reborn.main["M"]
    assert type(reborn.main["a"]) is reborn.main["C"]
    assert reborn.main["C"].other == "other"


@pytest.mark.parametrize(
    "slots", ["('x', '__private')", "'x'", "{'x': 'doc'}", "('x', '__dict__', '__weakref__')"]
)
def test_slots_of_every_form_are_slots_again(slots: str) -> None:
    notebook = after(
        f"class A:\n    __slots__ = {slots}\n    def set(self):\n        self.__private = 5\n"
        "        return self.__private\nclass B(A):\n    __slots__ = ()\na = B(); a.x = 1"
    )
    before = hasattr(notebook.main["a"], "__dict__")
    reborn = notebook.reborn().reborn()
    assert reborn.main["a"].x == 1
    assert hasattr(reborn.main["a"], "__dict__") == before
    if "private" in slots:
        assert reborn.main["a"].set() == 5


def test_the_defaults_of_a_dataclass_are_still_told_from_missing_ones() -> None:
    reborn = after(
        "import dataclasses\n@dataclasses.dataclass(kw_only=True)\nclass A:\n    x: int\n"
        "    y: int = 2\n    z: list = dataclasses.field(default_factory=list)"
    ).reborn()
    reborn.run("@dataclasses.dataclass\nclass B(A):\n    w: int\nb = B(1, x=3)")
    assert vars(reborn.main["b"]) == {"x": 3, "y": 2, "z": [], "w": 1}


def test_members_of_enums_come_back_twice() -> None:
    reborn = after(
        "import enum\nclass E(enum.Enum):\n    A = (1, 2)\n    ALSO = (1, 2)\n"
        "    def __init__(self, x, y): self.sum = x + y\n"
        "class F(enum.Flag):\n    R = 1\n    W = 2\n    RW = 3\na, f = E.ALSO, F.RW"
    )
    for _ in range(2):
        reborn = reborn.reborn()
        main = reborn.main
        assert main["a"] is main["E"].A is main["E"].ALSO
        assert main["a"].sum == 3
        assert main["f"] is main["F"].RW
        assert main["F"].RW.name == "RW"
        assert list(main["E"]) == [main["a"]]


@pytest.mark.parametrize(
    ("view", "shown"),
    [
        ("memoryview(array.array('i', range(6)))[4:0:-2]", [4, 2]),
        ("memoryview(bytearray(range(8))).cast('H', [2, 2])", [[256, 770], [1284, 1798]]),
        ("memoryview(b'abcdef')[1:3].cast('c')", [b"b", b"c"]),
        ("memoryview(b'')", []),
    ],
)
def test_memoryviews_of_every_layout_show_the_same(view: str, shown: list[Any]) -> None:
    reborn = after(f"import array\na = {view}").reborn().reborn()
    assert type(reborn.main["a"]) is memoryview
    assert reborn.main["a"].tolist() == shown


def test_a_match_that_no_call_can_find_again_is_refused() -> None:
    notebook = after(
        "import re\ntext = bytearray(b'abc'); a = re.search(b'b', text); text[:] = b'xyz'"
    )
    partition = notebook.partition()
    assert [skipped.name for skipped in partition.skipped] == ["a"]
    assert "does not match any more" in partition.skipped[0].reason


def test_a_parser_that_was_loaded_suppresses_as_before() -> None:
    reborn = after(
        "import argparse\na = argparse.ArgumentParser(argument_default=argparse.SUPPRESS)\n"
        "a.add_argument('--x')"
    ).reborn()
    assert vars(reborn.main["a"].parse_args([])) == {}


def test_types_are_looked_up_once() -> None:
    class Plain:
        pass

    reducers_builtin.find(Plain)
    assert reducers_builtin.known[Plain] is None
