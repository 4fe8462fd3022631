"""Random cells, and checkpoints at random moments: what is carried over unlooked at is what a dump
of everything would have held, whoever changed what."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import outside
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from incremental import Forked, Incremental, Interrupted, Taken, assert_same, shape

from checkpoint_kernel import dirty_pages, restore, snapshot, unchanged
from checkpoint_kernel.touched import Touched

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(
        "CHECKPOINT_KERNEL_SOAK" not in os.environ, reason="minutes of random cells: make soak"
    ),
]

NAMES = [f"v{number}" for number in range(9)]
names = st.sampled_from(NAMES)

PROLOGUE = """
import collections, dataclasses, enum, functools, weakref
import numpy as np
import outside

class Node:
    registry = []
    def __init__(self, *parts): self.parts = list(parts)
    def register(self): self.registry.append(self)
    def grow(self): self.parts.append(len(self.parts))
    def __iter__(self): return iter(self.parts)

class Slotted:
    __slots__ = ("x",)
    def __init__(self, x): self.x = x
    def append(self, y): self.x.append(y)

class Rows(list): pass

@dataclasses.dataclass
class Point:
    x: object = None

Pair = collections.namedtuple("Pair", "left right")
class Colour(enum.Enum):
    RED = 1

def counter(held):
    def increase():
        held.append(len(held))
        return held
    return increase
"""

# Something of each kind to begin with.
FIRST = """
v0 = [[1], {'k': [2]}]
v1 = Node([1])
v2 = np.arange(30.0)
v3 = np.arange(20_000.0)
v4 = {'a': [1], 'b': {}}
v5 = {1, (2, 3)}
v6 = Slotted([1])
v7 = collections.deque([[1]])
v8 = Pair([1], bytearray(9))
"""

# What does not fit fails in Python and changes nothing, as a user's cell would.
MAKING = [
    "{a} = 1.5",
    "{a} = [1, 'x', None]",
    "{a} = [[1], {{'k': [2]}}]",
    "{a} = {{'k': {b}}}",
    "{a} = ({b}, {b})",
    "{a} = {b}",
    "{a} = [{b}, {b}]",
    "{a} = {{1, (2, 3)}}",
    "{a} = bytearray(20)",
    "{a} = memoryview({b})",
    "{a} = {b}[1:]",
    "{a} = Node({b})",
    "{a} = Slotted([{b}])",
    "{a} = Rows([{b}])",
    "{a} = Point({b})",
    "{a} = Pair({b}, [1])",
    "{a} = {{Colour.RED: {b}}}",
    "{a} = collections.OrderedDict(k={b})",
    "{a} = collections.defaultdict(list); {a}['x'].append({b})",
    "{a} = collections.deque([{b}])",
    "{a} = collections.Counter('aab')",
    "{a} = np.arange(30.0)",
    "{a} = np.arange(20_000.0)",
    "{a} = {b}[::2]",
    "{a} = {b}[3:9]",
    "{a} = {b}.reshape(2, -1)",
    "{a} = np.frombuffer({b}, 'u1')",
    "{a} = np.lib.stride_tricks.as_strided({b}, (min(2, len({b})),), {b}.strides[:1])",
    "{a} = counter({b})",
    "{a} = {b}.append",
    "{a} = {b}.parts",
    "{a} = lambda x={b}: x",
    "{a} = iter({b})",
    "{a} = weakref.ref({b})",
    "{a} = [{b} for _ in range(2)]",
    "for _ in {b}: pass",
    "del {a}",
    "{a}",
    "class {a}: held = {b}",
]
CHANGING = [
    "{a}.append({b})",
    "{a}.append(7)",
    "{a}[0] = 7",
    "{a}['more'] = {b}",
    "{a}.clear()",
    "{a}.grow()",
    "{a}.register()",
    "{a}.parts.append({b})",
    "{a}.x = {b}",
    "{a}()",
    "{a}.held.append(1)",
    "outside.change({a})",
    "for {b} in {a}: outside.change({b})",
]
# First one cell, then, when that is saved, another one that changes `a` without naming it.
HIDDEN = [
    ("def {f}(): outside.change({a})", "{f}()"),
    ("{f} = lambda: outside.change({a})", "{f}()"),
    ("class {f}:\n    def __call__(self): outside.change({a})\n{f} = {f}()", "{f}()"),
    ("class {f}:\n    @property\n    def x(self): outside.change({a})\n{f} = {f}()", "{f}.x"),
    ("class {f}:\n    def __del__(self): outside.change({a})\n{f} = {f}()", "del {f}"),
    ("class {f}:\n    held = {a}", "outside.change({f}.held)"),
    ("{f} = (outside.change({a}) for _ in range(9))", "next({f})"),
    ("def {f}(held={a}): outside.change(held)", "{f}()"),
    ("def {f}():\n    for _ in range(9): yield outside.change({a})\n{f} = {f}()", "next({f})"),
    ("async def {f}(): outside.change({a})", "await {f}()"),
    ("{f} = counter({a})", "{f}()"),
    ("{f} = functools.partial(outside.change, {a})", "{f}()"),
    ("{f} = [{a}]", "outside.change({f}[0])"),
    ("{f} = {a}", "outside.change({f})"),
    ("{f} = {a}[0]", "outside.change({f})"),
    ("{f} = {a}[1:]", "outside.change({f})"),
    ("{f} = memoryview({a})", "outside.change({f})"),
    ("{f} = iter({a})", "outside.change({f}.__reduce__()[1][0])"),
    ("outside.later(outside.change, {a})", "outside.fire()"),
    ("outside.later({a}.append, 1)", "outside.fire()"),
    ("outside.later(lambda: outside.change({a}))", "outside.fire()"),
    ("def {f}(): outside.change({a})\noutside.later({f})\ndel {f}", "outside.fire()"),
    ("{a}.register()", "Node.registry[-1].grow()"),
    ("Node.last = {a}", "outside.change(Node.last)"),
    ("{a} = Node()", "class Node(Node): pass"),
    ("{a} = Node()\ndef state(self): return {{'parts': 'other'}}", "Node.__getstate__ = state"),
    ("{a}", "outside.change(_)"),
    ("{a}", "outside.change(_{count})"),
    ("{a}", "outside.change(list(Out.values())[-1])"),
    ("{a}", "outside.change(Out[max(Out)])"),
    ("{a}[0]", "1;\noutside.change(_)"),
    ("for _ in {a}: pass", "outside.change(_)"),
    ("__secret__ = {a}", "outside.change(__secret__)"),
    ("__secret__ = {a}[0]", "outside.change(__secret__)"),
    ("tmp_1 = {a}", "outside.change(tmp_1)"),
    ("tmp_1 = {a}[0]", "outside.change(tmp_1)"),
    ("_9 = {a}", "outside.change(_9)"),
    ("_9 = {a}[0]", "outside.change(_9)"),
    ("pass", "globals()['v' + '{n}'].append(8)"),
    ("pass", "globals()['v' + '{n}'] = [{n}]"),
    ("pass", "%time outside.change({a})"),
    ("%%time\ndef {f}(): outside.change({a})", "{f}()"),
    ("def {f}(): exec('outside.change({a})')", "{f}()"),
    ("exec('def {f}(): outside.change({a})')", "{f}()"),
    ("def {f}():\n    global {a}\n    {a} = [5]", "{f}()"),
    ("raise KeyError({a})", "pass"),
]
# After one of these nothing is carried over any more.
LASTING = [
    ("pass", "exec('outside.change(v' + '{n})')"),
    ("{f} = globals()", "outside.change({f}['v' + '{n}'])"),
    ("outside.later(exec, 'outside.change(v' + '{n})', globals())", "outside.fire()"),
    ("outside.later(exec, 'outside.change({a})', globals())", "outside.fire()"),
    ("def {f}(): outside.change(globals()['v' + '{n}'])", "{f}()"),
    ("{f} = get_ipython()", "{f}.ex('outside.change(v' + '{n})')"),
    ("{f} = exec", "{f}('outside.change(v' + '{n})')"),
    (
        "{a}.append('mark {n}')\nfrom gc import get_objects as {f}",
        "[o.append(2) for o in {f}() if type(o) is list and o and type(o[-1]) is str"
        " and o[-1] == 'mark {n}']",
    ),
    ("outside.held = {a}.ctypes.data", "outside.poke_at(outside.held)"),
]
# What these ways need has no first element that could be kept.
_WHOLE = (
    "array",
    "strided",
    "memory",
    "base",
    "pointer",
    "from_buffer",
    "attributes",
    "weak",
    "view",
)
HOLDING = [
    (f"outside.hold({way!r}, {what})", f"outside.poke({way!r})")
    for way in sorted(outside.WAYS)
    for what in ("{a}", "{a}[0]")
    if what == "{a}" or not any(word in way for word in _WHOLE)
]


@st.composite
def _filled(draw: st.DrawFn, texts: list[Any]) -> Any:
    text = draw(st.sampled_from(texts))
    words = {
        "a": draw(names),
        "b": draw(names),
        "f": draw(st.sampled_from(["f0", "f1", "f2"])),
        "n": draw(st.integers(0, len(NAMES) - 1)),
        "count": "{count}",
    }
    if isinstance(text, tuple):
        return tuple(one.format(**words) for one in text)
    return text.format(**words)


making, changing = _filled(MAKING), _filled(CHANGING)
hidden, holding = _filled(HIDDEN), _filled(HOLDING)
any_cell = st.one_of(making, changing, hidden.map(lambda pair: pair[0]))

carried_units = 0
proved_buffers = 0
checkpoints = 0


class Notebook(RuleBasedStateMachine):
    """One notebook's life."""

    kernel_class = Incremental
    first = FIRST

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="unchanged-", dir=_SCRATCH))
        self.kernel = self.kernel_class(self.directory, exclude=("tmp_*",))
        self.committed: Taken | None = None
        self.inside: list[Taken] = []
        outside.checkpoint = self._inside_a_cell
        outside.release_all()

    def teardown(self) -> None:
        global carried_units, proved_buffers
        outside.release_all()
        outside.checkpoint = lambda: None
        carried_units += self.kernel.carried_units
        proved_buffers += self.kernel.proved_buffers
        shutil.rmtree(self.directory)

    def _run(self, *cells: str) -> None:
        for cell in cells:
            with _quiet():
                self.kernel.run(cell)

    def _inside_a_cell(self) -> None:
        self.inside.append(self.kernel.take(in_frame=sys._getframe(1)))

    def _committed(self, taken: Taken) -> None:
        global checkpoints
        checkpoints += 1
        assert_same(self.kernel, taken)
        self.committed = taken

    @initialize(cells=st.lists(making, max_size=4))
    def begins(self, cells: list[str]) -> None:
        self._run(PROLOGUE, self.first, *cells)
        self._save()

    def _save(self) -> None:
        self._committed(self.kernel.take())

    @rule(cells=st.lists(any_cell, min_size=1, max_size=3))
    def runs_cells(self, cells: list[str]) -> None:
        self._run(*cells)

    @rule()
    def saves(self) -> None:
        self._save()

    def _prepares_and_acts(self, pair: tuple[str, str]) -> None:
        prepare, act = pair
        count = self.kernel.shell.execution_count
        self._run(prepare)
        self._save()
        self._run("pass")
        self._save()
        self._run(act.replace("{count}", str(count)))
        self._save()

    @rule(pair=holding)
    def changes_through_a_library(self, pair: tuple[str, str]) -> None:
        self._prepares_and_acts(pair)

    @rule(pair=hidden)
    def changes_without_a_name(self, pair: tuple[str, str]) -> None:
        self._prepares_and_acts(pair)

    @rule(at=st.sampled_from(["begin", "commit"]), before=changing, after=any_cell)
    def fails_to_save(self, at: str, before: str, after: str) -> None:
        self._save()
        self._run(before)
        with contextlib.suppress(Interrupted):
            self.kernel.take(fail_at=at)
        self._run(after)
        self._save()

    @rule(before=any_cell, after=changing, function=st.booleans())
    def saves_inside_a_cell(self, before: str, after: str, function: bool) -> None:
        if "%" in before + after:
            return
        lines = [*before.splitlines(), "outside.checkpoint()", *after.splitlines()]
        cell = "\n".join(lines)
        if function:
            indented = "\n".join(f"    {line}" for line in lines)
            cell = f"def inside():\n    global {', '.join(NAMES)}\n{indented}\ninside()"
        self._save()
        self._run(cell)
        for taken in self.inside:
            self._committed(taken)
        self.inside.clear()
        self._run("pass")
        self._save()

    @rule(cell=changing)
    def is_asked_beside_a_cell(self, cell: str) -> None:
        """A user expression of a frontend's."""
        self._save()
        touches = self.kernel.checkpointer.carry_over.touches
        touches.begin(cell)
        with contextlib.suppress(Exception), _quiet():
            eval(compile(cell, "<expression>", "single"), self.kernel.shell.user_ns)
        touches.end()
        self._save()

    @precondition(lambda self: self.committed is not None)
    @rule(cells=st.lists(any_cell, max_size=2))
    def dies(self, cells: list[str]) -> None:
        self._run(*cells)
        outside.release_all()
        assert self.committed is not None
        self.kernel.die_and_restore(self.committed)
        self._run("import outside")
        self._committed(self.kernel.take())

    @precondition(lambda self: self.committed is not None)
    @rule(some=st.sets(names))
    def restores_by_hand(self, some: set[str]) -> None:
        kernel = self.kernel
        assert self.committed is not None
        kernel.checkpointer.carry_over.touches.add(Touched(blind="a restore by hand"))
        restore.on_request(kernel.shell, kernel.store, self.committed.manifest, some)
        kernel.checkpointer.changed()

    @rule()
    def collects_garbage(self) -> None:
        gc.collect()


class Anything(Notebook):
    """Also cells after which everything is looked at."""

    @rule(pair=_filled(LASTING))
    def changes_by_what_lasts(self, pair: tuple[str, str]) -> None:
        self._prepares_and_acts(pair)


# Writes that a page table sees, however they come about.
_PAGES = [
    ("f0 = {a}[50_000:]", "f0[{n} * 9_000] = -1; {a}"),
    ("f0 = memoryview({a})", "f0[{n} * 18_000] = -1.0; {a}"),
    (
        "import io\ndef f0(): return io.BytesIO(bytes(80_000))",
        "f0().readinto({a}[{n} * 9_000:])",
    ),
    ("f0 = np.arange(9.0)", "{a}[{n} * 9_000:{n} * 9_000 + 9] += f0"),
    ("f0 = 0", "{a}.sort(); {a}[{n}] = {n}"),
    ("f0 = 0", "{a} = {a} + 1"),
]


class Paged(Notebook):
    """In snapshot processes, with arrays of several chunks of which single pages change."""

    kernel_class = Forked
    first = FIRST.replace("20_000.0", "100_000.0") + "v2 = np.arange(70_000.0)\n"

    @rule(a=names, places=st.lists(st.integers(0, 100_000), min_size=3, max_size=6), b=names)
    def writes_elements(self, a: str, places: list[int], b: str) -> None:
        """A page is clean at the third look at the earliest."""
        for n in places:
            self._run(f"if hash({b!r}) % 2: {b}[-1:]", f"{a}[{n} % len({a})] = -{n}")
            self._save()

    @rule(a=names)
    def reads_all_of_it(self, a: str) -> None:
        self._run(f"{a}[:].sum()")
        self._save()

    @rule(a=names, b=names)
    def frees_and_allocates(self, a: str, b: str) -> None:
        self._run(f"del {a}", f"{b} = np.full(100_000, 7.0); {a} = {b} * 2")
        self._save()

    @rule(pair=st.sampled_from(_PAGES), a=st.sampled_from(["v2", "v3"]))
    def writes_behind_a_view(self, pair: tuple[str, str], a: str) -> None:
        prepare, act = (text.replace("{a}", a) for text in pair)
        self._run(f"{a} = np.arange(100_000.0)", prepare)
        for n in range(5):
            self._save()
            self._run(act.replace("{n}", str(n)))
        self._save()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with open("/dev/null", "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


_SCRATCH = "/dev/shm" if Path("/dev/shm").is_dir() else None

QUICK = settings(
    max_examples=40, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(autouse=True)
def own_main(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


def test_what_is_carried_over_is_what_looking_would_have_found() -> None:
    run_state_machine_as_test(Notebook, settings=QUICK)
    assert carried_units > checkpoints / 2, "nothing is proved where nothing is carried over"


def test_nor_is_anything_missed_that_made_up_names_change() -> None:
    run_state_machine_as_test(Anything, settings=settings(QUICK, max_examples=15))


def test_nor_is_a_page_that_was_written_to_with_dirty_pages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if (reason := dirty_pages.available()) is not None:
        pytest.skip(reason)
    follow_all(monkeypatch)
    run_state_machine_as_test(Paged, settings=settings(QUICK, max_examples=20))
    assert proved_buffers > 100, "nothing is proved where no page is found clean"


def follow_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also smaller buffers; and leave nothing out of a fork, for the dump of everything."""
    monkeypatch.setattr(unchanged, "_FOLLOWED_FROM", 64 << 10)
    monkeypatch.setattr(snapshot, "_WORTH_ADVISING", 1 << 40)


# What a way or a cell needs, where a list of lists will not do.
KINDS = {
    "list": "[[1], {'k': [2]}]",
    "node": "Node([1])",
    "dict": "{'a': [1], 0: [2]}",
    "array": "np.arange(20_000.0)",
    "bytes": "bytearray(9)",
}
NEEDS = {
    "'weak": "node", "'attributes": "node", ".register": "node", "Node.last": "node",
    "Node()": "node", "'view of a dict": "dict", "array": "array", "'strided": "array",
    "'memory": "array", "'base": "array", "'pointer": "array", "another": "array",
    "'from_buffer": "bytes", ".ctypes": "array", "memoryview": "bytes", "[1:]": "array",
}  # fmt: skip


def _kind(pair: tuple[str, str]) -> str:
    inner = pair[0].startswith("outside.hold") and "[0]" in pair[0]
    found = next((kind for text, kind in NEEDS.items() if text in pair[0]), "list")
    return "list" if inner and found == "node" else found


def _parts_of(pairs: list[tuple[str, str]]) -> list[tuple[str, str, str, str]]:
    """For each pair: a variable of its own, what it is, the first cell and the second."""
    parts = []
    for number, pair in enumerate(pairs):
        words = {"a": f"w{number}", "b": "v0", "f": f"f{number}", "n": number, "count": "{count}"}
        prepare, act = (one.replace("'v' + '{n}'", f"'w' + '{number}'") for one in pair)
        act = act.replace("v' + '{n}", f"w' + '{number}")
        prepare = prepare.replace("v' + '{n}", f"w' + '{number}")
        texts = prepare.format(**words), act.format(**words)
        parts.append((words["a"], KINDS[_kind(pair)], *texts))
    return parts


@pytest.mark.parametrize(
    ("pairs", "restored"),
    [("HIDDEN", False), ("HOLDING", False), ("HOLDING", True), ("LASTING", False)],
)
def test_what_is_changed_without_its_name_is_looked_at(
    tmp_path: Path, pairs: str, restored: bool
) -> None:
    """Every way once, each on a variable of its own, which is saved before and after."""
    chosen = [p for p in globals()[pairs] if restored or "memory of the base" not in p[0]]
    parts = _parts_of(chosen)
    kernel = Incremental(tmp_path, exclude=("tmp_*",))
    assert kernel.run(PROLOGUE)
    assert kernel.run("\n".join(f"{name} = {value}" for name, value, _, _ in parts))
    if restored:
        kernel.die_and_restore(kernel.take())
        assert kernel.run("import outside")
    carried = 0
    for name, _, prepare, act in parts:
        count = kernel.shell.execution_count
        kernel.run(prepare)
        kernel.take()
        before = shape({name: kernel.shell.user_ns[name]})
        assert kernel.run(act.replace("{count}", str(count))), (prepare, act)
        assert act in _HARMLESS or shape({name: kernel.shell.user_ns[name]}) != before, (
            prepare,
            act,
        )
        del before
        carried += len(kernel.checkpoint().carried)
    assert pairs == "LASTING" or carried > len(parts)
    outside.release_all()


# What these change is not to be seen in a live object.
_HARMLESS = ("pass", "class Node(Node): pass", "Node.__getstate__ = state")


@pytest.mark.parametrize("restored", [False, True])
def test_what_nobody_touches_is_carried_over(tmp_path: Path, restored: bool) -> None:
    kernel = Incremental(tmp_path)
    assert kernel.run(PROLOGUE)
    assert kernel.run(FIRST)
    assert kernel.run("w0 = {Colour.RED: Pair([], 1)}; w1 = v3[5:]; w2 = [v4['a']]; w3 = Point([])")
    everything = {*NAMES, "w0", "w1", "w2", "w3"}
    taken = kernel.checkpoint()
    if restored:
        kernel.die_and_restore(taken)
        taken = kernel.checkpoint()
    for _ in range(4):
        assert kernel.run("i = 1")
        taken = kernel.checkpoint()
        assert kernel.carried(taken) >= everything
    assert kernel.run("w0[Colour.RED].left.append(1)")
    assert kernel.carried(kernel.checkpoint()) >= everything - {"w0"}
    assert kernel.run("def grow(x): x.grow()\ngrow(v1)")
    assert kernel.carried(kernel.checkpoint()) >= everything - {"v1"}
    assert kernel.run("pass")
    assert kernel.carried(kernel.checkpoint()) >= everything


def main(arguments: Any = None) -> None:
    """Many more examples than a test may take: `python tests/unit/test_unchanged_random.py N`."""
    number = int((arguments or sys.argv)[1])
    many = settings(QUICK, max_examples=number, stateful_step_count=20)
    run_state_machine_as_test(Notebook, settings=many)
    run_state_machine_as_test(Anything, settings=settings(many, max_examples=number // 4))
    with pytest.MonkeyPatch.context() as monkeypatch:
        follow_all(monkeypatch)
        run_state_machine_as_test(Paged, settings=settings(many, max_examples=number // 4))
    print(f"{proved_buffers} buffers with clean pages, ", end="")
    print(f"{number * 3 // 2} notebooks, {checkpoints} checkpoints, {carried_units} units carried")


if __name__ == "__main__":
    main()
