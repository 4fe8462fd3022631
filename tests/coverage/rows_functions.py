"""Rows of functions, decorators and closures."""

from __future__ import annotations

import sys

from row import Row


def _row(title: str, make: str, check: str) -> Row:
    return Row(title, "functions", make, check)


ROWS = (
    _row("function that uses a global", "NAME_k = 2\ndef NAME(x): return x * NAME_k", "NAME_k = 10; assert NAME(3) == 30 and NAME.__globals__ is globals()"),
    _row("function that calls another, redefined later", "def NAME_h(x): return x\ndef NAME(x): return NAME_h(x) + 1", "def NAME_h(x): return 100\nassert NAME(1) == 101"),
    _row("functions that call each other", "def NAME(n): return n == 0 or NAME_odd(n - 1)\ndef NAME_odd(n): return n != 0 and NAME(n - 1)", "assert NAME(10) and not NAME(7)"),
    _row("function that changes a global", "NAME_n = 0\ndef NAME():\n    global NAME_n\n    NAME_n += 1\n    return NAME_n\nNAME()", "assert NAME() == 2 and NAME_n == 2"),
    _row("defaults, keyword defaults, annotations, attributes, doc", "def NAME(a: int, b: 'str' = 'x', /, *, c: list = [1]) -> None:\n    'doc'\n    c.append(len(c)); return a, b, c\nNAME.tag = {'t': 1}; NAME(0)",
         "import inspect\nassert NAME(1) == (1, 'x', [1, 1, 2]) and NAME.tag == {'t': 1} and NAME.__doc__ == 'doc' and NAME.__annotations__['a'] is int\nassert str(inspect.signature(NAME)).startswith('(a: int,')"),
    _row("getsource and the traceback of a function", "def NAME():\n    raise KeyError('here')  # told", "import inspect, traceback\nassert '# told' in inspect.getsource(NAME)\ntry: NAME()\nexcept KeyError: assert '# told' in traceback.format_exc()"),
    _row("lambda, and lambdas in a dict", "NAME_k = 3\nNAME = {'a': lambda x: x + NAME_k, 'b': lambda x, y=5: x * y}", "NAME_k = 7; assert NAME['a'](1) == 8 and NAME['b'](2) == 10"),
    _row("lambdas of a loop, late and early bound", "NAME = [[lambda: i for i in range(3)], [lambda i=i: i for i in range(3)]]", "assert [f() for f in NAME[0]] == [2, 2, 2] and [f() for f in NAME[1]] == [0, 1, 2]"),
    _row("closure with state", "def NAME_make():\n    n = 0\n    def bump():\n        nonlocal n\n        n += 1\n        return n\n    return bump\nNAME = NAME_make(); NAME(); NAME()", "assert NAME() == 3 and NAME() == 4 and NAME_make()() == 1"),
    _row("nonlocal shared by two closures", "def NAME_make():\n    n = 0\n    def put(x):\n        nonlocal n\n        n = x\n    return put, lambda: n\nNAME, NAME_get = NAME_make(); NAME(5)", "assert NAME_get() == 5; NAME(7); assert NAME_get() == 7"),
    _row("recursive closure", "def NAME_make():\n    def fact(n): return 1 if n < 2 else n * fact(n - 1)\n    return fact\nNAME = NAME_make()", "assert NAME(5) == 120"),
    _row("closure over an empty cell", "def NAME_make():\n    def f(): return later\n    if False: later = 1\n    return f\nNAME = NAME_make()", "try: NAME()\nexcept NameError: pass\nelse: raise AssertionError"),
    _row("closures three deep", "def NAME_a(x):\n    def b(y):\n        def c(z): return x, y, z\n        return c\n    return b\nNAME = NAME_a(1)(2)", "assert NAME(3) == (1, 2, 3)"),
    _row("closure over a variable of the notebook", "NAME_list = []\ndef NAME_make(target): return lambda x: target.append(x)\nNAME = NAME_make(NAME_list); NAME(1)", "NAME(2); assert NAME_list == [1, 2]"),
    _row("functools.partial of a notebook function", "import functools\ndef NAME_f(a, b, c=0): return a + b * NAME_k + c\nNAME_k = 10\nNAME = functools.partial(NAME_f, 1, c=5)", "NAME_k = 100; assert NAME(2) == 206 and NAME.func is NAME_f and NAME.keywords == {'c': 5}"),
    _row("functools.partialmethod", "import functools\nclass NAME_C:\n    def f(self, a, b): return a - b\n    g = functools.partialmethod(f, 10)\nNAME = NAME_C()", "assert NAME.g(3) == 7"),
    _row("functools.wraps decorator", "import functools\ndef NAME_deco(f):\n    @functools.wraps(f)\n    def inner(*a): inner.calls += 1; return f(*a)\n    inner.calls = 0\n    return inner\n@NAME_deco\ndef NAME(x):\n    'doc'\n    return x + 1\nNAME(1)",
         "assert NAME(1) == 2 and NAME.calls == 2 and NAME.__doc__ == 'doc' and NAME.__wrapped__(5) == 6"),
    _row("decorator with arguments, stacked", "def NAME_times(n):\n    def deco(f): return lambda x: n * f(x)\n    return deco\n@NAME_times(2)\n@NAME_times(5)\ndef NAME(x): return x", "assert NAME(3) == 30"),
    _row("class as decorator", "class NAME_D:\n    def __init__(self, f): self.f, self.n = f, 0\n    def __call__(self, *a): self.n += 1; return self.f(*a)\n@NAME_D\ndef NAME(x): return x\nNAME(0)", "assert NAME(4) == 4 and NAME.n == 2 and isinstance(NAME, NAME_D)"),
    _row("decorated methods", "import functools\ndef NAME_deco(f):\n    @functools.wraps(f)\n    def inner(self): return [f(self)]\n    return inner\nclass NAME_C:\n    @NAME_deco\n    def f(self): return 1\n    @staticmethod\n    @NAME_deco\n    def s(x): return x\nNAME = NAME_C()", "assert NAME.f() == [1] and NAME.s(2) == [2]"),
    _row("functools.lru_cache", "import functools\nNAME_runs = []\n@functools.lru_cache(maxsize=2)\ndef NAME(x): NAME_runs.append(x); return x\nNAME(1)", "NAME(5); NAME(5); assert NAME_runs.count(5) == 1 and NAME.cache_parameters()['maxsize'] == 2 and NAME.cache_info().hits == 1"),
    _row("functools.cache on a method", "import functools\nclass NAME_C:\n    runs = 0\n    @functools.cache\n    def f(self, x): NAME_C.runs += 1; return x\nNAME = NAME_C(); NAME.f(1)", "NAME_before = NAME_C.runs; NAME.f(2); NAME.f(2); assert NAME_C.runs == NAME_before + 1"),
    _row("functools.cached_property of the notebook", "import functools\nclass NAME_C:\n    @functools.cached_property\n    def c(self): return [1]\nNAME = NAME_C()", "NAME.c.append(2); assert NAME.c == [1, 2] and 'c' in vars(NAME)"),
    _row("functools.singledispatch", "import functools\nclass NAME_C: pass\n@functools.singledispatch\ndef NAME(x): return 'any'\n@NAME.register\ndef NAME_i(x: int): return 'int'\n@NAME.register(NAME_C)\ndef NAME_c(x): return 'C'\nNAME(1)",
         "assert [NAME('a'), NAME(1), NAME(NAME_C())] == ['any', 'int', 'C']\nNAME.register(str, lambda x: 'str'); assert NAME('a') == 'str' and int in NAME.registry"),
    _row("functools.singledispatchmethod", "import functools\nclass NAME_C:\n    @functools.singledispatchmethod\n    def f(self, x): return 'any'\n    @f.register\n    def _(self, x: int): return 'int'\nNAME = NAME_C(); NAME.f(1)", "assert NAME.f(1) == 'int' and NAME.f('a') == 'any'"),
    _row("functools.total_ordering and cmp_to_key", "import functools\n@functools.total_ordering\nclass NAME_C:\n    def __init__(self, k): self.k = k\n    def __eq__(self, o): return self.k == o.k\n    def __lt__(self, o): return self.k < o.k\nNAME = [NAME_C(2), functools.cmp_to_key(lambda a, b: b - a)]", "assert NAME[0] >= NAME_C(1) and sorted([1, 3, 2], key=NAME[1]) == [3, 2, 1]"),
    _row("operator.itemgetter, attrgetter, methodcaller", "import operator\nNAME = [operator.itemgetter(1, 0), operator.attrgetter('real'), operator.methodcaller('split', ',')]", "assert NAME[0]('ab') == ('b', 'a') and NAME[1](3j) == 0 and NAME[2]('a,b') == ['a', 'b']"),
    _row("function with a mutable default that is a variable", "NAME_d = {}\ndef NAME(k, d=NAME_d): d[k] = len(d); return d", "NAME('a'); assert NAME_d == {'a': 0}; assert NAME('b') is NAME_d"),
    _row("function under two names, and renamed", "def NAME_f(): return 1\nNAME = NAME_f; NAME.__name__ = 'other'", "assert NAME is NAME_f and NAME.__name__ == 'other' and NAME() == 1"),
    _row("function made by exec, and by types.FunctionType", "import types\nexec('def NAME(x): return x + 1')\nNAME_made = types.FunctionType(NAME.__code__, globals(), 'made')", "assert NAME(1) == 2 and NAME_made(2) == 3"),
    _row("function whose globals are a dict of its own", "NAME_space = {'k': 5}\nexec('def f(): return k', NAME_space); NAME = NAME_space['f']", "assert NAME() == 5; NAME_space['k'] = 6; assert NAME() == 6"),
    _row("asynchronous function and generator function", "import asyncio\nasync def NAME(x): await asyncio.sleep(0); return x + NAME_k\nasync def NAME_gen(n):\n    for i in range(n): yield i\nNAME_k = 1",
         "import threading\nasync def NAME_all(): return [await NAME(1), [i async for i in NAME_gen(3)]]\nNAME_got = []\nNAME_t = threading.Thread(target=lambda: NAME_got.append(asyncio.run(NAME_all()))); NAME_t.start(); NAME_t.join(5); assert NAME_got == [[2, [0, 1, 2]]]"),
    _row("global counter kept by a function attribute", "def NAME():\n    NAME.n += 1\n    return NAME.n\nNAME.n = 0; NAME()", "assert NAME() == 2"),
    _row("callbacks in a registry of the notebook", "NAME = {}\ndef NAME_on(event): return lambda f: NAME.setdefault(event, []).append(f) or f\n@NAME_on('x')\ndef NAME_h(): return 'handled'", "assert [f() for f in NAME['x']] == ['handled'] and NAME['x'][0] is NAME_h"),
    _row("bound methods in a list, of one object", "class NAME_C:\n    def __init__(self): self.n = 0\n    def up(self): self.n += 1\n    def get(self): return self.n\nNAME_o = NAME_C(); NAME = [NAME_o.up, NAME_o.get]", "NAME[0](); assert NAME[1]() == 1 == NAME_o.n"),
    _row("library function under another name, and a patched one", "import math, json\nNAME = [math.hypot, json.dumps]", "assert NAME[0](3, 4) == 5 and NAME[1] is json.dumps"),
    _row("function with match, walrus, star and comprehension", "def NAME(x):\n    match x:\n        case [a, *rest] if (n := len(rest)): return a, n, [r for r in rest if r]\n        case {'k': v}: return v\n    return None", "assert NAME([1, 0, 2]) == (1, 2, [2]) and NAME({'k': 3}) == 3 and NAME(5) is None"),
    _row("doctest and typing.overload", "import typing\n@typing.overload\ndef NAME(x: int) -> int: ...\n@typing.overload\ndef NAME(x: str) -> str: ...\ndef NAME(x): return x", "assert NAME('a') == 'a'"),
    _row("contextlib.contextmanager and ExitStack in use", "import contextlib\nNAME_log = []\n@contextlib.contextmanager\ndef NAME():\n    NAME_log.append('in')\n    try: yield\n    finally: NAME_log.append('out')", "with NAME(): pass\nassert NAME_log == ['in', 'out']"),
    *([_row("type parameters of 3.12", "def NAME[T](x: T) -> T: return x\nclass NAME_C[T]:\n    def f(self, x: T) -> T: return x\ntype NAME_A = list[int]\nNAME_i = NAME_C[int]()", "assert NAME(1) == 1 and NAME_i.f(2) == 2 and NAME.__type_params__[0].__name__ == 'T' and NAME_A.__value__ == list[int]")]
      if sys.version_info >= (3, 12) else []),
)  # fmt: skip
