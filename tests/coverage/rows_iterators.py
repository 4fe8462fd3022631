"""Rows of iterators, half consumed, and of what stands inside running code."""

from __future__ import annotations

import sys

from row import Row


def _row(title: str, make: str, check: str) -> Row:
    return Row(title, "iterators", make, check)


def _running(title: str, make: str) -> Row:
    return Row(
        title, "iterators", make, "raise AssertionError('it came back')",
        expect="named", why_not="running code",
    )  # fmt: skip


def _itertools(call: str, rest: str, consumed: int = 1) -> Row:
    """Python 3.14 has taken pickling and copying from itertools."""
    return Row(
        f"itertools.{call.partition('(')[0]}",
        "iterators",
        f"import itertools, operator\nNAME = itertools.{call}\n"
        f"for _ in range({consumed}): next(NAME)",
        f"assert list(itertools.islice(NAME, 3)) == {rest}",
        expect="back" if sys.version_info < (3, 14) else "named",
        why_not="" if sys.version_info < (3, 14) else "cannot pickle",
    )


ROWS = (
    _row(
        "list iterator goes on, and sees its list",
        "NAME_list = [1, 2, 3]; NAME = iter(NAME_list); next(NAME)",
        "NAME_list.append(4); assert list(NAME) == [2, 3, 4]",
    ),
    _row("tuple iterator", "NAME = iter((1, 2, 3)); next(NAME)", "assert list(NAME) == [2, 3]"),
    _row("str iterator", "NAME = iter('añb'); next(NAME)", "assert list(NAME) == ['ñ', 'b']"),
    _row("bytes iterator", "NAME = iter(b'abc'); next(NAME)", "assert list(NAME) == [98, 99]"),
    _row("bytearray iterator", "NAME = iter(bytearray(b'abc')); next(NAME)", "assert list(NAME) == [98, 99]"),
    _row("dict iterators", "NAME = [iter({1: 2, 3: 4}), iter({1: 2, 3: 4}.values()), iter({1: 2, 3: 4}.items())]\n"
         "for NAME_one in NAME: next(NAME_one)",
         "assert [*map(list, NAME)] == [[3], [4], [(3, 4)]]"),
    _row("set iterator", "NAME = iter({1, 2, 3}); NAME_first = next(NAME)",
         "assert {NAME_first, *NAME} == {1, 2, 3} and list(NAME) == []"),
    _row("range iterator", "NAME = iter(range(3, 30, 9)); next(NAME)", "assert list(NAME) == [12, 21]"),
    _row("exhausted iterators", "NAME = [iter([]), iter({}), zip()]\nfor _ in map(list, NAME): pass",
         "assert [*map(list, NAME)] == [[], [], []]"),
    _row("reversed list", "NAME = reversed([1, 2, 3]); next(NAME)", "assert list(NAME) == [2, 1]"),
    _row("reversed dict", "NAME = reversed({1: 2, 3: 4, 5: 6}); next(NAME)", "assert list(NAME) == [3, 1]"),
    _row("iter(callable, sentinel)", "NAME_left = [3, 2, 1, 0]; NAME = iter(NAME_left.pop, 3); next(NAME)",
         "assert list(NAME) == [1, 2]"),
    _row("iterator by __getitem__", "class NAME_C:\n    def __getitem__(self, i):\n"
         "        if i > 3: raise IndexError\n        return i * i\nNAME = iter(NAME_C()); next(NAME)",
         "assert list(NAME) == [1, 4, 9]"),
    _row("enumerate", "NAME = enumerate('abc', 5); next(NAME)", "assert list(NAME) == [(6, 'b'), (7, 'c')]"),
    _row("zip", "NAME = zip([1, 2], 'ab'); next(NAME)", "assert list(NAME) == [(2, 'b')]"),
    _row("zip(strict=True)", "NAME = zip([1, 2], 'abc', strict=True); next(NAME)",
         "try: list(NAME)\nexcept ValueError: pass\nelse: raise AssertionError"),
    _row("map of a notebook function", "def NAME_f(x): return x * NAME_by\nNAME_by = 10\n"
         "NAME = map(NAME_f, [1, 2, 3]); next(NAME)", "NAME_by = 100; assert list(NAME) == [200, 300]"),
    _row("filter of a lambda", "NAME = filter(lambda x: x % 2, range(6)); next(NAME)",
         "assert list(NAME) == [3, 5]"),
    _row("iterators that share a source", "NAME_source = iter(range(6)); NAME = zip(NAME_source, NAME_source)\nnext(NAME)",
         "assert next(NAME_source) == 2 and next(NAME) == (3, 4)"),
    _row("iterator class of the notebook", "class NAME_C:\n    def __init__(self): self.n = 0\n"
         "    def __iter__(self): return self\n    def __next__(self): self.n += 1; return self.n\n"
         "NAME = NAME_C(); next(NAME)", "assert next(NAME) == 2 and iter(NAME) is NAME"),
    _row("csv.reader's source, a list iterator", "import csv\nNAME = iter(['a,b', '1,2', '3,4']); next(csv.reader(NAME))",
         "assert list(csv.reader(NAME)) == [['1', '2'], ['3', '4']]"),
    _itertools("count(5, 2)", "[7, 9, 11]"),
    _itertools("cycle('ab')", "['b', 'a', 'b']"),
    _itertools("repeat(7, 3)", "[7, 7]"),
    _itertools("chain([1, 2], [3])", "[2, 3]"),
    _itertools("islice(range(10), 2, 9, 3)", "[5, 8]"),
    _itertools("accumulate([1, 2, 3, 4], operator.mul)", "[2, 6, 24]"),
    _itertools("product('ab', repeat=2)", "[('a', 'b'), ('b', 'a'), ('b', 'b')]"),
    _itertools("permutations([1, 2, 3], 2)", "[(1, 3), (2, 1), (2, 3)]"),
    _itertools("combinations([1, 2, 3, 4], 3)", "[(1, 2, 4), (1, 3, 4), (2, 3, 4)]"),
    _itertools("combinations_with_replacement('ab', 2)", "[('a', 'b'), ('b', 'b')]"),
    _itertools("zip_longest([1, 2], [3], fillvalue=0)", "[(2, 0)]"),
    _itertools("starmap(pow, [(2, 1), (2, 2), (2, 3)])", "[4, 8]"),
    _itertools("takewhile(lambda x: x < 3, range(9))", "[1, 2]"),
    _itertools("dropwhile(lambda x: x < 3, range(9))", "[4, 5, 6]"),
    _itertools("compress('abcd', [1, 0, 1, 1])", "['c', 'd']"),
    _itertools("filterfalse(lambda x: x % 2, range(6))", "[2, 4]"),
    Row("itertools.groupby", "iterators", "import itertools\n"
        "NAME = itertools.groupby([1, 1, 2, 3, 3]); next(NAME)",
        "assert [(k, list(g)) for k, g in NAME] == [(2, [2]), (3, [3, 3])]",
        expect="back" if sys.version_info < (3, 14) else "named"),
    Row("itertools.tee", "iterators", "import itertools\n"
        "NAME, NAME_other = itertools.tee(iter([1, 2, 3])); next(NAME)",
        "assert list(NAME) == [2, 3] and list(NAME_other) == [1, 2, 3]",
        expect="back" if sys.version_info < (3, 14) else "named"),
    _row("functools.reduce's result, a callable sum", "import functools, operator\n"
         "NAME = functools.reduce(lambda f, g: lambda x: g(f(x)), [abs, float, str])", "assert NAME(-2) == '2.0'"),
    _running("generator, begun", "def NAME_g():\n    yield 1\n    yield 2\nNAME = NAME_g(); next(NAME)"),
    _row("generator not begun", "NAME_k = [1]\ndef NAME_g(a, /, *rest, b=2, **more):\n    yield a, rest, b, more\n    yield NAME_k\nNAME = NAME_g([0], 1, x=5)",
         "assert next(NAME) == ([0], (1,), 2, {'x': 5}) and next(NAME) is NAME_k"),
    _row("generator expression not begun", "NAME_l = [1, 2]; NAME = (i * 2 for i in NAME_l)", "NAME_l.append(3); assert list(NAME) == [2, 4, 6]"),
    _row("asynchronous generator not begun", "async def NAME_g(x):\n    yield x\nNAME = NAME_g([1])", "try: NAME.asend(None).send(None)\nexcept StopIteration as NAME_end: assert NAME_end.value == [1]"),
    _running("asynchronous generator, begun", "async def NAME_g():\n    yield 1\n    yield 2\nNAME = NAME_g()\ntry: NAME.asend(None).send(None)\nexcept StopIteration: pass"),
    _row("coroutine not awaited", "async def NAME_c(x): return x + 1\nNAME = NAME_c(1)", "try: NAME.send(None)\nexcept StopIteration as NAME_end: assert NAME_end.value == 2"),
    _running("frame", "import sys\nNAME = sys._getframe()"),
    Row("generator inside an object, which is back", "iterators",
        "class NAME_C: pass\nNAME = NAME_C(); NAME.rows = (i for i in range(3)); next(NAME.rows); NAME.n = 5",
        "assert NAME.n == 5 and isinstance(NAME, NAME_C)\n"
        "import checkpoint_kernel.stub as NAME_stub\n"
        "try: next(NAME.rows)\nexcept NAME_stub.NotBackError as NAME_why: assert 'running code' in str(NAME_why)\n"
        "else: raise AssertionError"),
    _row("generator function", "def NAME(n):\n    for i in range(n): yield i", "assert list(NAME(3)) == [0, 1, 2]"),
    _row("coroutine function", "async def NAME(x): return x + 1",
         "try: NAME(1).send(None)\nexcept StopIteration as NAME_end: assert NAME_end.value == 2"),
)  # fmt: skip
