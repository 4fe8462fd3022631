"""Which units nothing outside can reach, and which references from outside open one."""

from __future__ import annotations

import enum
import gc
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import interactive
import pytest
from notebook_namespace import Notebook

from checkpoint_kernel import closed, countable, restore

pytestmark = pytest.mark.unit

IMPORTS = """
import abc, array, collections, ctypes, dataclasses, datetime, enum, fractions, functools, gc
import decimal, io, itertools, logging, mmap, operator, pathlib, pickle, re, sys, threading
import traceback, types, typing, uuid, weakref
import numpy as np
import outside
"""

DEFINITIONS = """
class Node:
    def __init__(self, *parts): self.parts = list(parts)
    def step(self): return self

class Slotted:
    __slots__ = ("x", "__weakref__")
    def __init__(self, x): self.x = x

class Both(Slotted):
    __slots__ = ("y", "__dict__")

class Abstract(abc.ABC):
    @abc.abstractmethod
    def go(self): ...

class Concrete(Abstract):
    def __init__(self, x): self.x = x
    def go(self): ...

class Box(typing.Generic[typing.TypeVar("T")]):
    def __init__(self, x): self.x = x

@dataclasses.dataclass
class Point:
    x: object = 0
    y: list = dataclasses.field(default_factory=list)

@dataclasses.dataclass(frozen=True)
class Frozen:
    x: object

@dataclasses.dataclass(slots=True)
class SlottedPoint:
    x: object

@dataclasses.dataclass(frozen=True, slots=True)
class FrozenSlotted:
    x: object
    y: object = None

class Colour(enum.Enum):
    RED = 1

class Level(enum.IntEnum):
    LOW = 1

class Bits(enum.Flag):
    A = 1
    B = 2

class Mutable(enum.Enum):
    ROWS = [1]

class Typed(typing.NamedTuple):
    left: object
    right: object = None

Pair = collections.namedtuple("Pair", "left right")

class SubPair(Pair):
    pass

class Rows(list):
    pass

class Table(dict):
    pass

class Odd:
    def __reduce__(self): return (Odd, ())

class Strange(list):
    def __iter__(self): return iter([list(x) for x in list.__iter__(self)])
"""


@pytest.fixture(autouse=True)
def outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """A library that holds what it is given, out of the notebook's sight."""
    module = types.ModuleType("outside")
    module.held = []  # type: ignore[attr-defined]
    module.hold = module.held.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "outside", module)
    yield module
    module.held.clear()  # type: ignore[attr-defined]


def verdicts(notebook: Notebook) -> dict[str, bool]:
    """Whether the unit of each variable is closed."""
    partition = notebook.partition()
    assert not partition.skipped
    return {name: draft.closed for draft in partition.units for name in draft.root}


def after(cell: str) -> Notebook:
    """A notebook after a cell, and the definitions that the cell needs."""
    notebook = Notebook()
    needed: list[str] = []
    for definition in reversed(DEFINITIONS.strip().split("\n\n")):
        [name] = re.findall(r"^(?:class )?(\w+)", definition, re.MULTILINE)[-1:]
        if re.search(rf"\b{name}\b", " ".join([cell, *needed])):
            needed.insert(0, definition)
    for text in (IMPORTS, *needed, cell):
        notebook.run(text)
    return notebook


def test_references_can_be_counted_here() -> None:
    """On CPython 3.11 to 3.13 with its lock; on any other nothing is ever closed."""
    if sys.implementation.name == "cpython" and sys.version_info < (3, 14):
        assert closed.CAN_COUNT


def test_where_references_cannot_be_counted_nothing_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(closed, "CAN_COUNT", False)
    assert not verdicts(after("x = [1]"))["x"]


CLOSED = {
    "a number": "x = 1",
    "a text": "x = 'text'",
    "nothing": "x = None",
    "a constant tuple": "x = (1, ('a', None))",
    "a list": "x = [1, [2], 'a']",
    "an empty list": "x = []",
    "a dict": "x = {'a': {'b': []}, (1, 2): {}}",
    "a set": "x = {1, frozenset([2, (3,)])}",
    "a tuple": "x = ([1], ([2], {}))",
    "a bytearray": "x = [bytearray(5)]",
    "a list in itself": "x = []; x.append(x)",
    "one list twice": "y = [1]; x = [y, y, {'y': y}]; del y",
    "dicts as of a JSON file": "x = [{'id': i, 'tags': ['a'], 'at': {'k': i}} for i in range(50)]",
    "an instance": "x = Node(Node(), [1])",
    "an instance without attributes": "x = Concrete(1); del x.x",
    "instances in a cycle": "x = Node(); x.parts.append(Node(x))",
    "instances of an abstract class": "x = Concrete([1])",
    "a generic instance": "x = Box([1])",
    "a namespace": "x = types.SimpleNamespace(a=[1], b=types.SimpleNamespace())",
    "a dataclass": "x = [Point(), Point([1], [2])]",
    "a frozen dataclass": "x = {Frozen((1,)): Frozen([1])}",
    "a dataclass with slots": "x = SlottedPoint([1])",
    "a frozen dataclass with slots": "x = FrozenSlotted([1], {'k': []})",
    "slots": "x = Slotted([1, Slotted(None)])",
    "slots and attributes": "x = Both([1]); x.z = [2]",
    "an empty slot": "x = Both([1])",
    "enum members": "x = {Colour.RED: [Colour.RED, Level.LOW, Bits.A | Bits.B]}",
    "a library's enum": "x = [re.RegexFlag.I, __import__('http').HTTPStatus.OK]",
    "a named tuple": "x = [Pair(1, [2]), Pair([], Pair({}, ()))]",
    "a typed named tuple": "x = Typed([1])",
    "a named tuple with attributes": "x = SubPair(1, [2]); x.z = [3]",
    "a constant named tuple": "x = Pair(1, 'a')",
    "moments": "x = [datetime.datetime.now(), datetime.date(2020, 1, 1), datetime.timedelta(1)]",
    "moments in time zones": "x = [datetime.datetime.now(datetime.timezone.utc)]",
    "paths": "x = {'p': pathlib.Path('a'), 'q': [pathlib.Path('/b/c')]}",
    "numbers of the library": "x = [decimal.Decimal(1), fractions.Fraction(1, 3), uuid.uuid4()]",
    "patterns": "x = [re.compile('a')]",
    "classes and functions of libraries": "x = [len, dict, functools.wraps, np.float64]",
    "definitions of the notebook": "def f(): pass\nx = {'f': f, 'c': Node}",
    "a defaultdict": "x = collections.defaultdict(list); x['a'].append([1])",
    "a defaultdict of defaultdicts by a function": (
        "def f(): return collections.defaultdict(int)\n"
        "x = collections.defaultdict(f); x['a']['b'] += 1"
    ),
    "a counter": "x = collections.Counter('abca'); x[(1, 'a')] += 1; x[Frozen(1)] += 2",
    "an OrderedDict": "x = collections.OrderedDict(a=[1], b={}); x[Frozen(1)] = 1",
    "a deque": "x = collections.deque([[1], {}], maxlen=3)",
    "a UserDict": "x = collections.UserDict(a=[1])",
    "a subclass of list": "x = Rows([[1], [2]]); x.z = [3]",
    "a subclass of dict": "x = Table(a=[1]); x.z = [3]",
    "an array": "x = np.arange(10)",
    "a large array": "x = np.arange(20_000.0)",
    "a strided array": "x = np.ones((200, 200))[::2, ::3].copy(order='F')",
    "texts in an array": "x = np.array(['a', 'b'])",
    "times in an array": "x = np.array(['2020-01-01'], dtype='M8[D]')",
    "numbers of numpy": "x = [np.float64(1), np.int8(2), np.bool_(True)]",
    "a dtype": "x = {'t': np.dtype('f4')}",
    "a view without its base": "x = np.arange(20_000.0)[10:]",
    "arrays in a dict": "x = {'w': np.ones((300, 300)), 'b': [np.zeros(10)]}",
    "a view and its base": "x = np.arange(20_000.0); y = x[3:9]; z = x.reshape(2, -1).T",
    "two variables of one object": "x = y = [1]",
    "two variables that share an object": "x = [[1]]; y = {'inner': x[0]}; z = (y,)",
}


class TestClosed:
    """Otherwise nothing is gained."""

    @pytest.mark.parametrize("what", CLOSED)
    def test_what_only_the_namespace_holds(self, what: str) -> None:
        notebook = after(CLOSED[what])
        assert verdicts(notebook)["x"]

    # Restored classes have lost their slots: cloudpickle makes them without.
    @pytest.mark.parametrize("what", CLOSED.keys() - {"a frozen dataclass with slots"})
    def test_what_was_restored(self, what: str) -> None:
        notebook = after(CLOSED[what]).reborn().reborn()
        assert verdicts(notebook)["x"]

    def test_an_output_that_was_shown(self) -> None:
        notebook = after("x = [[1]]; _oh = {7: x, 8: [2]}; _7 = _ = x; _8 = __ = _oh[8]")
        roots = {**notebook.variables, "Out[7]": notebook.main["x"], "Out[8]": notebook.main["_8"]}
        for name in ("_oh", "_7", "_8", "_"):
            roots.pop(name, None)
        found = closed_names(notebook, roots)
        assert {"x", "Out[7]", "Out[8]"} <= found

    @pytest.mark.parametrize("number", [1000, 1_000_000], ids=["copied", "own"])
    def test_arrays_that_a_restore_made(self, tmp_path: Path, number: int) -> None:
        assert "x" in restored(tmp_path, f"x = np.arange({number}.0); y = x[5:]", mapped=False)

    def test_arrays_that_a_restore_mapped(self, tmp_path: Path) -> None:
        assert "x" in restored(tmp_path, "x = np.arange(1_000_000.0); y = x[5:]", mapped=True)

    def test_units_that_were_one_from_the_start(self) -> None:
        notebook = after("x = [[1]]; y = {'inner': x[0]}")
        together = [("x", "y")]
        assert closed_names(notebook, notebook.variables, together) >= {"x", "y"}

    def test_units_again_when_an_earlier_partition_is_gone(self) -> None:
        notebook = after("x = [[1]]; y = {'inner': x[0]}; z = np.ones(20_000)")
        gc.disable()
        try:
            for _ in range(3):
                assert closed_names(notebook, notebook.variables) >= {"x", "y", "z"}
        finally:
            gc.enable()


def closed_names(notebook: Notebook, roots: dict[str, Any], together: Any = ()) -> set[str]:
    from checkpoint_kernel import units

    partition = units.partition(roots, notebook.main, {}, lambda _: None, (), together)
    assert not partition.skipped
    return {name for draft in partition.units if draft.closed for name in draft.root}


def restored(directory: Path, cell: str, *, mapped: bool) -> set[str]:
    """Names whose units are closed in a namespace that comes from a store."""
    store = interactive.new_store(directory)
    shell = interactive.new_shell()
    interactive.run(shell, f"import numpy as np\n{cell}")
    saved = interactive.save(shell, store)
    main: dict[str, Any] = {"__name__": "__main__"}
    copy_bytes = 0 if mapped else 1 << 30
    outcome = restore.load(main, store, saved, copy_bytes=copy_bytes, mapping=mapped)
    assert not outcome.failed
    main.update(outcome.values)
    notebook = Notebook()
    notebook.main.update(main)
    del outcome, main
    return closed_names(notebook, notebook.variables)


OPEN = {
    "a library holds it": "x = [1]; outside.hold(x)",
    "a library holds a part of it": "x = [[1]]; outside.hold(x[0])",
    "a library holds a part of an instance": "x = Node([1]); outside.hold(x.parts)",
    "a library holds the attributes of an instance": "x = Node(); outside.hold(x.__dict__)",
    "a library holds what a slot holds": "x = Slotted([1]); outside.hold(x.x)",
    "a library holds what a frozen slot holds": "x = FrozenSlotted([1]); outside.hold(x.x)",
    "a library holds a part of a named tuple": "x = Pair([1], 2); outside.hold(x.left)",
    "a library holds a value of an OrderedDict": (
        "x = collections.OrderedDict(a=[1]); outside.hold(x['a'])"
    ),
    "a library holds a key of an OrderedDict": (
        "k = Node(); x = collections.OrderedDict({k: 1}); outside.hold(k); del k"
    ),
    "a library holds a key of a counter": (
        "k = Node(); x = collections.Counter({k: 1}); outside.hold(k); del k"
    ),
    "a library holds a part of a deque": "x = collections.deque([[1]]); outside.hold(x[0])",
    "a library holds a part of a defaultdict": (
        "x = collections.defaultdict(list); outside.hold(x['a'])"
    ),
    "a library holds a part of a list's subclass": "x = Rows([[1]]); outside.hold(x[0])",
    "a library holds a part of a dict's subclass": "x = Table(a=[1]); outside.hold(x['a'])",
    "a library holds a part of a namespace": (
        "x = types.SimpleNamespace(a=[1]); outside.hold(x.a)"
    ),
    "a library holds a tuple of it": "x = ([1], 2); outside.hold(x)",
    "a library holds a set of it": "x = [{1}]; outside.hold(x[0])",
    "a thread works on it": (
        "x = [1]\n"
        "done = outside.done = threading.Event(); outside.go = go = threading.Event()\n"
        "t = threading.Thread(target=lambda y: (done.set(), go.wait(5)), args=(x,), daemon=True)\n"
        "t.start(); done.wait(5); outside.hold(t); del t, done, go"
    ),
    "a thread's target is its method": (
        "x = [1]; t = threading.Thread(target=x.append, args=(2,)); outside.hold(t); del t"
    ),
    "a closure has it": "x = [1]\ndef make(y): return lambda: y\noutside.hold(make(x))",
    "a closure is a variable": "x = [1]\ndef make(y): return lambda: y\nf = make(x)",
    "a default argument is it": "x = [1]\ndef f(y=x): return y",
    "a keyword's default is it": "x = [1]\ndef f(*, y=x): return y",
    "a function's attribute is it": "x = [1]\ndef f(): pass\nf.y = x",
    "a class attribute is it": "x = [1]\nclass A: y = x",
    "a base class has it": "x = [1]\nclass A: y = x\nclass B(A): pass\nz = B()\ndel A",
    "a module's attribute is it": "x = [1]; outside.x = x",
    "a module without a name has it": (
        "x = [1]; m = types.ModuleType('m'); m.x = x; outside.hold(m); del m"
    ),
    "a suspended generator has it": (
        "x = [1]\ndef g(y):\n    yield 1\n    yield y\nz = g(x); next(z); outside.hold(z); del z"
    ),
    "a coroutine has it": ("x = [1]\nasync def g(y): return y\nz = g(x); outside.hold(z); del z"),
    "a traceback's frame has it": (
        "x = [1]\ndef f(y): 1 / 0\ntry: f(x)\nexcept ZeroDivisionError as why: outside.hold(why)"
    ),
    "a frame has it": "x = [1]\ndef f(y): return sys._getframe()\noutside.hold(f(x))",
    "it is held weakly": "x = Node(); outside.hold(weakref.ref(x))",
    "a proxy is of it": "x = Node(); outside.hold(weakref.proxy(x))",
    "a finalizer waits for it": "x = Node(); weakref.finalize(x, print)",
    "a finalizer is given it": "x = [1]; y = Node(); outside.hold(weakref.finalize(y, print, x))",
    "a weak set has it": "x = Node(); outside.hold(weakref.WeakSet([x]))",
    "a weak dictionary has it": (
        "x = [Node()]; d = weakref.WeakValueDictionary(k=x[0]); outside.hold(d); del d"
    ),
    "a set is held weakly": "x = {1}; outside.hold(weakref.ref(x))",
    "a deque is held weakly": "x = collections.deque(); outside.hold(weakref.ref(x))",
    "an OrderedDict is held weakly": "x = collections.OrderedDict(); outside.hold(weakref.ref(x))",
    "an array is held weakly": "x = np.ones(9); outside.hold(weakref.ref(x))",
    "a slotted instance is held weakly": "x = Slotted(1); outside.hold(weakref.ref(x))",
    "a list iterator is over it": "x = [1]; outside.hold(iter(x))",
    "a dict iterator is over it": "x = {1: 2}; outside.hold(iter(x.items()))",
    "a dict view is of it": "x = {1: 2}; outside.hold(x.values())",
    "a view proxy is of it": "x = {1: 2}; outside.hold(types.MappingProxyType(x))",
    "a reversed iterator is over it": "x = [1]; outside.hold(reversed(x))",
    "map is over it": "x = [1]; outside.hold(map(str, x))",
    "zip is over it": "x = [1]; outside.hold(zip(x))",
    "itertools has it": "x = [1]; outside.hold(itertools.cycle([x]))",
    "tee has it": "x = [1]; outside.hold(itertools.tee(x))",
    "a bound method is of it": "x = [1]; outside.hold(x.append)",
    "a bound method of a class is of it": "x = Node(); outside.hold(x.step)",
    "a method is a variable": "x = Node(); m = x.step",
    "a method of a list is a variable": "x = [1]; m = x.append",
    "a slot wrapper is of it": "x = [1]; outside.hold(x.__setitem__)",
    "partial has it": "x = [1]; outside.hold(functools.partial(print, x))",
    "partial is a variable": "x = [1]; p = functools.partial(print, x)",
    "itemgetter has its index": "x = Frozen(1); outside.hold(operator.itemgetter(x))",
    "methodcaller has it": "x = [1]; outside.hold(operator.methodcaller('f', x))",
    "super is of it": "x = Node(); outside.hold(super(Node, x))",
    "a cache has it": "@functools.lru_cache\ndef f(): return [1]\nx = f()",
    "a cache has it as a key": "@functools.lru_cache\ndef f(y): return 1\nx = Node(); f(x)",
    "a cached method has it": (
        "class A:\n    @functools.lru_cache\n    def f(self): return 1\nx = A(); x.f()"
    ),
    "a singledispatch registry has it": (
        "x = [1]\nf = functools.singledispatch(print)\nf.register(int, x.append)\n"
        "outside.hold(f); del f"
    ),
    "a logger has it": (
        "x = [1]\nclass H(logging.Handler):\n    def emit(self, r): self.rows.append(r)\n"
        "h = H(); h.rows = x; outside.hold(h); del h, H"
    ),
    "a context variable has it": (
        "import contextvars\nx = [1]; v = contextvars.ContextVar('v'); v.set(x); outside.hold(v)\n"
        "del v"
    ),
    "a thread's local has it": "x = [1]; y = threading.local(); y.x = x; outside.hold(y); del y",
    "a cell has it": "x = [1]; outside.hold(types.CellType(x))",
    "a slice has it": "x = [1]; outside.hold(slice(x))",
    "garbage has it that nobody has collected": (
        "gc.disable()\nx = [1]; y = [x]; y.append(y); del y"
    ),
    "a memoryview is of it": "x = bytearray(5); outside.hold(memoryview(x))",
    "ctypes is over it": "x = bytearray(5); outside.hold((ctypes.c_char * 5).from_buffer(x))",
    "ctypes was given an array": "x = np.ones(9); outside.hold(x.ctypes.data_as(ctypes.c_void_p))",
    "ctypes was given an object": "x = [1]; outside.hold(ctypes.py_object(x))",
    "a buffer is of it": "x = bytearray(5); outside.hold(pickle.PickleBuffer(x))",
    "an array is over it": "x = bytearray(80); outside.hold(np.frombuffer(x))",
    "a view of an array is held": "x = np.ones(9); outside.hold(x[3:])",
    "a view of a view is held": "x = np.ones(9)[1:]; outside.hold(x[3:])",
    "the base of a view is held": "y = np.ones(9); x = y[1:]; outside.hold(y); del y",
    "a view of a large array is held": "x = np.ones(20_000); outside.hold(x[3:])",
    "an array's memory is viewed": "x = np.ones(20_000); outside.hold(x.data)",
    "as_strided is over an array": (
        "x = np.ones(9); outside.hold(np.lib.stride_tricks.as_strided(x, (2,), (8,)))"
    ),
    "an array's iterator is held": "x = np.ones(9); outside.hold(x.flat)",
    "an ndarray is over an array": "x = np.ones(9); outside.hold(np.ndarray(9, buffer=x))",
    "a capsule is of an array": "x = np.ones(9); outside.hold(x.__array_struct__)",
    "dlpack has an array": "x = np.ones(9); outside.hold(x.__dlpack__())",
    "shared memory is under an array": (
        "m = mmap.mmap(-1, 800); x = np.frombuffer(m); outside.hold(m); del m"
    ),
    "shared memory is only under an array": "x = np.frombuffer(mmap.mmap(-1, 800))",
    "a private map of the user's is under an array": (
        "x = np.frombuffer(mmap.mmap(-1, 800, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))"
    ),
    "ctypes' memory is under an array": "x = np.ctypeslib.as_array((ctypes.c_double * 9)())",
    "bytes are under an array": "x = np.frombuffer(bytes(80))",
    "an array of the library is under an array": "x = np.frombuffer(array.array('d', [1.0]))",
    # These are pickled as copies: what is under them does not pass.
    "a view with gaps is under an array": (
        "y = bytearray(100); x = np.asarray(memoryview(y)[::2]); outside.hold(y); del y"
    ),
    "an array with neither order is under an array": (
        "y = np.ones((2, 3, 4)).transpose(1, 0, 2).copy(order='K'); x = y[1:]; outside.hold(y); "
        "del y"
    ),
}
# What pickle follows is not all that these hold, or not what they hold.
UNCOUNTED = {
    "a class with a reduction of its own": "x = Odd()",
    "an instance with a reduction of its own": (
        "def f(): return {'a': 1}\nx = Node(); x.__getstate__ = f"
    ),
    "a class that shows other parts than it has": "x = Strange([[1]])",
    "a reduction that somebody registered": (
        "import copyreg\nclass C: pass\ndef f(c): return (C, ())\ncopyreg.pickle(C, f); x = C()"
    ),
    "a class of another metaclass": "class M(type): pass\nclass A(metaclass=M): pass\nx = A()",
    "an exception": "x = ValueError([1])",
    "a lambda in a dict": "x = {'f': lambda: 1}",
    "a lambda that makes defaults": "x = collections.defaultdict(lambda: 0)",
    "an object array": "x = np.array([[1], None], dtype=object)",
    "a structured array": "x = np.zeros(3, dtype=[('a', 'i4')])",
    "a matrix": "x = np.matrix([[1]])",
    "a masked array": "x = np.ma.array([1], mask=[0])",
    "a random generator": "x = np.random.default_rng(1)",
    "an enum with a mutable value": "x = {'m': Mutable.ROWS}",
    "a time zone of the user's": (
        "class Z(datetime.tzinfo):\n    def utcoffset(self, d): return datetime.timedelta(0)\n"
        "x = [datetime.datetime(2020, 1, 1, tzinfo=Z())]"
    ),
    "a buffer of the user's": "y = bytearray(5); x = pickle.PickleBuffer(y); del y",
    "a StringIO": "x = io.StringIO('a')",
    "an array of the library": "x = array.array('d', [1.0])",
    "the namespace": "x = [sys.modules[__name__].__dict__] if 0 else globals()",
}


class TestOpen:
    """Otherwise changes are lost."""

    @pytest.mark.parametrize("what", OPEN)
    def test_what_something_outside_can_reach(self, what: str, outside: Any) -> None:
        try:
            notebook = after(OPEN[what])
            partition = notebook.partition()
            [draft] = [draft for draft in partition.units if "x" in draft.root]
            assert not draft.closed
        finally:
            gc.enable()
            for event in ("go",):
                if hasattr(outside, event):
                    getattr(outside, event).set()

    @pytest.mark.parametrize("what", UNCOUNTED)
    def test_what_cannot_be_counted(self, what: str) -> None:
        notebook = after(UNCOUNTED[what])
        drafts = notebook.partition().units
        assert not [draft for draft in drafts if "x" in draft.root and draft.closed]

    @pytest.mark.parametrize(
        "cell",
        [
            "outside.hold(x.base)",
            "outside.hold(x.base.base)",
            "outside.hold(memoryview(x.base.base))",
            "outside.hold(x.base.base[4:])",
            "outside.hold(x.base.base.obj)",
            "outside.hold(weakref.ref(x.base.base))",
            "outside.hold(np.frombuffer(x.base.base))",
            "outside.hold(pickle.PickleBuffer(x.base.base))",
            "outside.hold(memoryview(x.base.base.obj))",
            "outside.hold(x[1:])",
        ],
    )
    @pytest.mark.parametrize("number", [1000, 20_000, 1_000_000])
    def test_the_memory_of_a_restored_array(self, cell: str, number: int) -> None:
        notebook = after(f"x = np.arange({number}.0)").reborn()
        assert notebook.main["x"].base.base.obj is not None
        assert verdicts(notebook)["x"]
        notebook.run(f"import numpy as np, pickle, weakref, outside\n{cell}")
        assert not verdicts(notebook)["x"]

    @pytest.mark.parametrize(
        "cell",
        [
            "v = memoryview(x)",
            "v = memoryview(x); w = v[:]",
            "v = memoryview(x); w = v[2:]; u = w.toreadonly()",
            "v = [memoryview(x), memoryview(x)]",
            "v = memoryview(x); w = np.frombuffer(v, 'u1')",
        ],
    )
    def test_memoryviews_hide_no_reference_to_what_they_are_of(self, cell: str) -> None:
        notebook = after(f"x = bytearray(10); {cell}; outside.hold(x)")
        assert not verdicts(notebook)["x"]

    @pytest.mark.parametrize(
        "cell", ["__x__ = x", "_ = x", "_5 = x[0]", "__ = x[0]", "_oh = {5: 1}; _5 = x[0]"]
    )
    def test_a_name_that_is_not_the_units(self, cell: str) -> None:
        notebook = after(f"x = [[1]]; {cell}")
        assert "x" not in closed_names(notebook, {"x": notebook.main["x"]})

    def test_a_name_that_is_excluded(self) -> None:
        notebook = after("x = [[1]]; tmp = x[0]")
        assert "x" not in closed_names(notebook, {"x": notebook.main["x"]})

    def test_a_name_that_killed_a_snapshot(self) -> None:
        from checkpoint_kernel.manifest import Skipped

        notebook = after("x = [[1]]; bad = x[0]")
        partition = notebook.partition(bad=Skipped("bad", "list", "it killed the kernel"))
        [draft] = [draft for draft in partition.units if "x" in draft.root]
        assert not draft.closed

    def test_torch_has_its_memory(self) -> None:
        torch = pytest.importorskip("torch")
        notebook = after("x = np.ones(9)")
        tensor = torch.from_numpy(notebook.main["x"])
        assert not verdicts(notebook)["x"]
        del tensor
        assert verdicts(notebook)["x"]

    def test_it_is_a_memmap(self, tmp_path: Path) -> None:
        notebook = after(
            f"m = np.memmap({str(tmp_path / 'file')!r}, 'f8', 'w+', shape=9); x = np.asarray(m); "
            "y = x[2:]; del m, x; x = y"
        )
        assert not verdicts(notebook)["x"]

    def test_shared_memory_of_processes_is_under_it(self) -> None:
        from multiprocessing import shared_memory

        block = shared_memory.SharedMemory(create=True, size=800)
        try:
            notebook = after("")
            notebook.main["block"] = block.buf
            notebook.run("x = np.ndarray(100, buffer=block); del block")
            assert not verdicts(notebook)["x"]
            notebook.main.clear()
        finally:
            block.close()
            block.unlink()


class TestCountable:
    """Types by themselves."""

    def test_structs_of_c_are_not(self) -> None:
        import functools
        import io

        compiled = [re.Pattern, functools.partial, io.BytesIO, type({}.keys()), enum.Enum]
        compiled += [types.FunctionType, types.CellType, type, Exception, int, types.MethodType]
        assert {countable.countability(cls) for cls in compiled} == {countable.OPEN}

    def test_a_metaclass_that_raises_opens_the_unit_and_does_not_cost_it(self) -> None:
        notebook = after(
            "class M(type):\n    def __getattribute__(cls, name):\n"
            "        if name == '__reduce_ex__': raise OSError(name)\n"
            "        return super().__getattribute__(name)\n"
            "class A(metaclass=M): pass\nx = A()"
        )
        partition = notebook.partition()
        assert not [draft for draft in partition.units if "x" in draft.root and draft.closed]
