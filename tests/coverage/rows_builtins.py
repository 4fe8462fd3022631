"""Rows of built-in objects: numbers, texts, containers and their views, methods."""

from __future__ import annotations

from row import Row


def _row(title: str, make: str, check: str) -> Row:
    return Row(title, "builtins", make, check)


ROWS = (
    _row(
        "int, bool, None, complex",
        "NAME = (0, -1, True, None, 3 - 4j)",
        "assert NAME == (0, -1, True, None, 3 - 4j) and NAME[2] is True and abs(NAME[4]) == 5",
    ),
    _row("int of 10,000 digits", "NAME = 7 ** 12_000", "assert NAME % 7 ** 11_999 == 0"),
    _row(
        "float nan, inf, -0.0",
        "import math\nNAME = [float('nan'), float('inf'), -0.0]",
        "assert NAME[0] != NAME[0] and NAME[1] > 1e308 and math.copysign(1, NAME[2]) == -1",
    ),
    _row("str with surrogates", "NAME = 'grüße \\ud800 \\U0001f600'", "assert len(NAME) == 9"),
    _row("bytes", "NAME = bytes(range(256))", "assert NAME[255] == 255 and NAME.hex()[:4] == '0001'"),
    _row(
        "bytearray under two names",
        "NAME = bytearray(b'abc'); NAME_too = NAME",
        "NAME.append(100); assert NAME_too == b'abcd' and NAME_too is NAME",
    ),
    _row(
        "memoryview of a bytearray",
        "NAME_memory = bytearray(b'abcdef'); NAME = memoryview(NAME_memory)",
        "NAME[0] = 122; assert NAME_memory == b'zbcdef' and NAME.tobytes() == b'zbcdef'",
    ),
    _row(
        "memoryview, sliced and cast",
        "import array\nNAME = memoryview(array.array('i', range(6)))[2:5]",
        "assert NAME.tolist() == [2, 3, 4] and NAME.format == 'i'",
    ),
    _row("range", "NAME = range(10, 0, -3)", "assert list(NAME) == [10, 7, 4, 1] and 7 in NAME"),
    _row("slice", "NAME = slice(1, None, 2)", "assert [0, 1, 2, 3][NAME] == [1, 3]"),
    _row("Ellipsis", "NAME = ...", "assert NAME is Ellipsis"),
    _row("NotImplemented", "NAME = NotImplemented", "assert NAME is NotImplemented"),
    _row(
        "list in itself",
        "NAME = [1]; NAME.append(NAME)",
        "assert NAME[1] is NAME; NAME.append(2); assert NAME[1][2] == 2",
    ),
    _row(
        "tuple in a cycle",
        "NAME = ([],); NAME[0].append(NAME)",
        "assert NAME[0][0] is NAME",
    ),
    _row(
        "list nested 300 deep",
        "NAME = []\nfor _ in range(300): NAME = [NAME]",
        "NAME_depth, NAME_inner = 0, NAME\n"
        "while NAME_inner: NAME_depth, NAME_inner = NAME_depth + 1, NAME_inner[0]\n"
        "assert NAME_depth == 300",
    ),
    _row(
        "dict with keys of many types",
        "NAME = {1: 'a', 'b': 2, (1, 2): 3, None: 4, 2.5: 5, frozenset({1}): 6}",
        "assert NAME[1, 2] == 3 and NAME[None] == 4 and NAME[frozenset({1})] == 6",
    ),
    _row("dict keeps its order", "NAME = {'z': 1, 'a': 2}", "assert [*NAME] == ['z', 'a']"),
    _row(
        "dict subclass with __missing__",
        "class NAME_D(dict):\n    def __missing__(self, key): return key * 2\nNAME = NAME_D(a=1)",
        "assert NAME['a'] == 1 and NAME['b'] == 'bb' and type(NAME) is NAME_D",
    ),
    _row(
        "list subclass with attributes",
        "class NAME_L(list): pass\nNAME = NAME_L([1]); NAME.tag = 'x'",
        "assert NAME == [1] and NAME.tag == 'x' and isinstance(NAME, NAME_L)",
    ),
    _row(
        "str and int subclasses",
        "class NAME_S(str): pass\nclass NAME_I(int): pass\n"
        "NAME = (NAME_S('a'), NAME_I(5)); NAME[0].tag = 1",
        "assert NAME[0].tag == 1 and NAME[0].upper() == 'A' and NAME[1] + 1 == 6\n"
        "assert type(NAME[1]) is NAME_I",
    ),
    _row("set and frozenset", "NAME = ({1, 2}, frozenset({3}))",
         "NAME[0].add(3); assert NAME[0] > NAME[1] and hash(NAME[1]) == hash(frozenset({3}))"),
    _row(
        "set of instances with a hash of their own",
        "class NAME_K:\n    def __init__(self, k): self.k = k\n"
        "    def __hash__(self): return hash(self.k)\n"
        "    def __eq__(self, other): return self.k == other.k\nNAME = {NAME_K('x'), NAME_K('y')}",
        "assert NAME_K('x') in NAME and NAME_K('z') not in NAME and len(NAME) == 2",
    ),
    _row(
        "dict_keys follows its dict",
        "NAME_d = {'a': 1}; NAME = NAME_d.keys()",
        "NAME_d['b'] = 2; assert list(NAME) == ['a', 'b'] and NAME & {'b'} == {'b'}\n"
        "assert type(NAME) is type({}.keys())",
    ),
    _row(
        "dict_values follows its dict",
        "NAME_d = {'a': [1]}; NAME = NAME_d.values()",
        "NAME_d['b'] = 2; assert list(NAME) == [[1], 2]",
    ),
    _row(
        "dict_items follows its dict",
        "NAME_d = {'a': 1}; NAME = NAME_d.items()",
        "NAME_d['b'] = 2; assert ('b', 2) in NAME and len(NAME) == 2",
    ),
    _row(
        "views of an OrderedDict",
        "import collections\nNAME_d = collections.OrderedDict(a=1, b=2)\n"
        "NAME = (NAME_d.keys(), NAME_d.values(), NAME_d.items())",
        "NAME_d.move_to_end('a'); assert [*map(list, NAME)] == "
        "[['b', 'a'], [2, 1], [('b', 2), ('a', 1)]]",
    ),
    _row(
        "mappingproxy of a dict",
        "import types\nNAME_d = {'a': 1}; NAME = types.MappingProxyType(NAME_d)",
        "NAME_d['b'] = 2; assert NAME['b'] == 2 and type(NAME) is types.MappingProxyType\n"
        "try: NAME['c'] = 3\nexcept TypeError: pass\nelse: raise AssertionError",
    ),
    _row(
        "vars() of a class",
        "class NAME_C:\n    x = 1\nNAME = vars(NAME_C)",
        "NAME_C.y = 2; assert NAME['x'] == 1 and NAME['y'] == 2",
    ),
    _row(
        "vars() of an instance",
        "class NAME_C: pass\nNAME_i = NAME_C(); NAME = vars(NAME_i); NAME_i.x = 1",
        "NAME['y'] = 2; assert NAME_i.y == 2 and NAME['x'] == 1",
    ),
    _row("built-in functions", "NAME = [len, sorted, print]", "assert NAME[0]('ab') == 2 and NAME[1] is sorted"),
    _row("types and exceptions as values", "NAME = {int: ValueError}", "assert NAME[int] is ValueError"),
    _row(
        "bound method of a list",
        "NAME_list = [1]; NAME = NAME_list.append",
        "NAME(2); assert NAME_list == [1, 2] and NAME.__self__ is NAME_list",
    ),
    _row(
        "bound method of an instance",
        "class NAME_C:\n    def add(self, n): self.total = getattr(self, 'total', 0) + n\n"
        "NAME_i = NAME_C(); NAME = NAME_i.add; NAME(2)",
        "NAME(3); assert NAME_i.total == 5 and NAME.__self__ is NAME_i",
    ),
    _row(
        "class method and static method, taken from a class",
        "class NAME_C:\n    @classmethod\n    def make(cls): return cls()\n"
        "    @staticmethod\n    def twice(x): return 2 * x\nNAME = (NAME_C.make, NAME_C.twice)",
        "assert type(NAME[0]()) is NAME_C and NAME[1](4) == 8",
    ),
    _row(
        "method-wrapper",
        "NAME_list = [1, 2]; NAME = (NAME_list.__len__, (5).__add__)",
        "NAME_list.append(3); assert NAME[0]() == 3 and NAME[1](2) == 7",
    ),
    _row(
        "slot wrapper and method descriptor",
        "NAME = (str.upper, int.__add__, dict.fromkeys)",
        "assert NAME[0]('a') == 'A' and NAME[1](2, 3) == 5 and NAME[2]('a') == {'a': None}",
    ),
    _row(
        "getset descriptor of a built-in type",
        "NAME = (complex.real, type.__dict__['__name__'])",
        "assert NAME[0].__get__(3j) == 0 and NAME[1].__get__(int) == 'int'",
    ),
    _row(
        "property, classmethod and staticmethod objects",
        "NAME = (property(lambda self: 7), classmethod(lambda cls: cls), staticmethod(lambda: 8))",
        "class NAME_C: p, c, s = NAME\nassert NAME_C().p == 7 and NAME_C.c() is NAME_C and NAME_C.s() == 8",
    ),
    _row("super object", "class NAME_A:\n    def f(self): return 'A'\n"
         "class NAME_B(NAME_A):\n    def f(self): return 'B'\n    def up(self): return super()\n"
         "NAME = NAME_B().up()", "assert NAME.f() == 'A'"),
    _row("bare object() as a sentinel", "NAME = object(); NAME_holder = {'missing': NAME}",
         "assert NAME_holder['missing'] is NAME"),
    _row(
        "code object",
        "NAME = compile('a + 1', '<made>', 'eval')",
        "assert eval(NAME, {'a': 2}) == 3 and NAME.co_filename == '<made>'",
    ),
    _row(
        "module, and module attribute",
        "import os.path\nNAME = [os, os.path]",
        "import sys\nassert NAME[0] is sys.modules['os'] and NAME[1].join('a', 'b') == 'a/b'",
    ),
    _row("globals()", "NAME = globals(); NAME_x = 5", "assert NAME is globals() and NAME['NAME_x'] == 5"),
    _row("one million of ints in a list", "NAME = list(range(1_000_000))", "assert sum(NAME) == 499999500000"),
)  # fmt: skip
