"""Rows of classes that a notebook defines, and of their instances."""

from __future__ import annotations

from row import Row


def _row(title: str, make: str, check: str) -> Row:
    return Row(title, "notebook classes", make, check)


ROWS = (
    _row("class with attributes and methods", "class NAME_C:\n    made = 1\n    def f(self): return self.x + NAME_g\nNAME_g = 1; NAME = NAME_C(); NAME.x = 3",
         "assert isinstance(NAME, NAME_C) and NAME.f() == 4; NAME_g = 10; assert NAME.f() == 13"),
    _row("class redefined in its methods after the restore", "class NAME_C:\n    def f(self): return 1\nNAME = NAME_C()",
         "NAME_C.f = lambda self: 2; assert NAME.f() == 2 and NAME_C().f() == 2"),
    _row("metaclass", "class NAME_M(type):\n    known = []\n    def __init__(cls, name, bases, ns): super().__init__(name, bases, ns); NAME_M.known.append(name)\n    def __len__(cls): return 7\n"
         "class NAME_C(metaclass=NAME_M): pass\nNAME = NAME_C()",
         "assert len(NAME_C) == 7 and type(NAME_C) is NAME_M and isinstance(NAME, NAME_C) and len(NAME_M.known) == 1\nclass NAME_D(NAME_C): pass\nassert len(NAME_M.known) == 2"),
    _row("metaclass with __prepare__ and keywords", "class NAME_M(type):\n    def __prepare__(name, bases, **kw): return {'made': True}\n    def __new__(mcs, name, bases, ns, tag=None):\n        cls = super().__new__(mcs, name, bases, ns); cls.tag = tag; return cls\n"
         "    def __init__(cls, name, bases, ns, tag=None): super().__init__(name, bases, ns)\nclass NAME_C(metaclass=NAME_M, tag='t'): pass\nNAME = NAME_C()", "assert NAME.tag == 't' and NAME.made"),
    _row("__slots__", "class NAME_C:\n    __slots__ = ('x', 'y')\nNAME = NAME_C(); NAME.x = [1]",
         "assert NAME.x == [1] and not hasattr(NAME, 'y') and not hasattr(NAME, '__dict__'); NAME.y = 2; assert NAME.y == 2"),
    _row("__slots__ in a parent, a dict in the child", "class NAME_A:\n    __slots__ = ('x', '__weakref__')\nclass NAME_B(NAME_A): pass\nNAME = NAME_B(); NAME.x = 1; NAME.z = 2",
         "assert (NAME.x, NAME.z) == (1, 2) and vars(NAME) == {'z': 2}\nimport weakref; assert weakref.ref(NAME)() is NAME"),
    _row("abstract base class", "import abc\nclass NAME_A(abc.ABC):\n    @abc.abstractmethod\n    def f(self): ...\n    @property\n    @abc.abstractmethod\n    def p(self): ...\nclass NAME_B(NAME_A):\n    def f(self): return 1\n    p = 2\n"
         "@NAME_A.register\nclass NAME_V: pass\nNAME = NAME_B()",
         "assert isinstance(NAME, NAME_A) and isinstance(NAME_V(), NAME_A) and NAME.f() == 1\ntry: NAME_A()\nexcept TypeError: pass\nelse: raise AssertionError"),
    _row("collections.abc subclass", "import collections.abc\nclass NAME_C(collections.abc.Mapping):\n    def __init__(self, d): self.d = d\n    def __getitem__(self, k): return self.d[k]\n    def __iter__(self): return iter(self.d)\n    def __len__(self): return len(self.d)\nNAME = NAME_C({'a': 1})",
         "assert NAME['a'] == 1 and dict(NAME) == {'a': 1} and 'a' in NAME and isinstance(NAME, collections.abc.Mapping)"),
    _row("generic class with two parameters", "import typing\nNAME_K, NAME_V = typing.TypeVar('NAME_K'), typing.TypeVar('NAME_V')\nclass NAME_C(typing.Generic[NAME_K, NAME_V]):\n    def __init__(self): self.d = {}\nclass NAME_D(NAME_C[str, NAME_V]): pass\nNAME = NAME_D[int]()",
         "assert NAME_D.__parameters__ == (NAME_V,) and isinstance(NAME, NAME_C) and NAME_C[int, str].__args__ == (int, str)"),
    _row("Enum with __init__ and attributes of members", "import enum\nclass NAME_E(enum.Enum):\n    EARTH = (5.97, 6.37)\n    MARS = (0.64, 3.39)\n    def __init__(self, mass, radius): self.mass = mass; self.radius = radius\n    @property\n    def density(self): return self.mass / self.radius\nNAME = NAME_E.MARS",
         "assert NAME is NAME_E.MARS and NAME.mass == 0.64 and NAME_E.EARTH.density > 0.9 and NAME_E((5.97, 6.37)) is NAME_E.EARTH"),
    _row("Flag with named combinations, and Enum aliases", "import enum\nclass NAME_F(enum.Flag):\n    R = 1\n    W = 2\n    RW = R | W\nclass NAME_E(enum.Enum):\n    A = 1\n    ALSO = 1\nNAME = [NAME_F.RW, NAME_E.ALSO]",
         "assert NAME[0] is NAME_F.RW and NAME_F['RW'] is NAME_F.R | NAME_F.W and NAME[1] is NAME_E.A is NAME_E.ALSO and [*NAME_E.__members__] == ['A', 'ALSO']"),
    _row("Enum with _missing_ and a mixin", "import enum\nclass NAME_E(str, enum.Enum):\n    A = 'a'\n    @classmethod\n    def _missing_(cls, value): return cls.A\nNAME = NAME_E.A", "assert NAME == 'a' and NAME_E('zzz') is NAME_E.A and isinstance(NAME, str)"),
    _row("dataclass with inheritance and defaults", "import dataclasses\n@dataclasses.dataclass\nclass NAME_A:\n    x: int = 1\n    y: list = dataclasses.field(default_factory=list, repr=False, compare=False)\n@dataclasses.dataclass\nclass NAME_B(NAME_A):\n    z: int = 3\nNAME = NAME_B(5)",
         "assert NAME == NAME_B(5) and repr(NAME).endswith('(x=5, z=3)')\n@dataclasses.dataclass\nclass NAME_C(NAME_A):\n    w: int = 4\nassert NAME_C().w == 4 and dataclasses.asdict(NAME_C())['y'] == []"),
    _row("nested class", "class NAME_O:\n    class Inner:\n        def who(self): return type(self).__qualname__\nNAME = NAME_O.Inner()", "assert type(NAME) is NAME_O.Inner and NAME.who() == 'NAME_O.Inner' and NAME_O.Inner().who() == NAME.who()"),
    _row("local class of a function", "def NAME_make(k):\n    class Local:\n        def f(self): return k\n    return Local\nNAME_L = NAME_make(3); NAME = NAME_L(); NAME_two = NAME_make(4)()",
         "assert type(NAME) is NAME_L and NAME.f() == 3 and NAME_two.f() == 4 and type(NAME_two) is not NAME_L"),
    _row("class made by type()", "NAME_C = type('Made', (list,), {'twice': lambda self: [*self, *self]}); NAME = NAME_C([1])", "assert NAME.twice() == [1, 1] and type(NAME) is NAME_C and type(NAME).__name__ == 'Made'"),
    _row("multiple inheritance with super()", "class NAME_A:\n    def f(self): return ['A']\nclass NAME_B(NAME_A):\n    def f(self): return ['B', *super().f()]\nclass NAME_C(NAME_A):\n    def f(self): return ['C', *super().f()]\nclass NAME_D(NAME_B, NAME_C):\n    def f(self): return ['D', *super().f()]\nNAME = NAME_D()",
         "assert NAME.f() == ['D', 'B', 'C', 'A'] and NAME_D.__mro__[1:3] == (NAME_B, NAME_C)"),
    _row("property with setter, and cached_property", "import functools\nclass NAME_C:\n    runs = 0\n    @property\n    def p(self): return self._p\n    @p.setter\n    def p(self, v): self._p = v * 2\n    @functools.cached_property\n    def c(self): type(self).runs += 1; return [self.runs]\nNAME = NAME_C(); NAME.p = 2; NAME.c",
         "NAME.p = 5; assert NAME.p == 10 and NAME.c == [1] and NAME_C.runs == 1 and NAME_C().c == [2]"),
    _row("descriptor with __set_name__", "class NAME_D:\n    def __set_name__(self, owner, name): self.name = '_' + name\n    def __get__(self, obj, owner=None): return self if obj is None else getattr(obj, self.name, 0)\n    def __set__(self, obj, value): setattr(obj, self.name, value + 1)\n"
         "class NAME_C:\n    x = NAME_D()\nNAME = NAME_C(); NAME.x = 1", "assert NAME.x == 2; NAME.x = 5; assert NAME.x == 6 and NAME_C.x.name == '_x'"),
    _row("__getattr__ and __setattr__ of its own", "class NAME_C:\n    def __init__(self): self.__dict__['d'] = {}\n    def __getattr__(self, n):\n        try: return self.d[n]\n        except KeyError: raise AttributeError(n) from None\n    def __setattr__(self, n, v): self.d[n] = v\nNAME = NAME_C(); NAME.x = 1",
         "assert NAME.x == 1 and not hasattr(NAME, 'q'); NAME.y = 2; assert NAME.d == {'x': 1, 'y': 2}"),
    _row("__getattr__ that never fails", "class NAME_C:\n    def __getattr__(self, n): return n\nNAME = NAME_C(); NAME.x = 1", "assert NAME.x == 1 and NAME.other == 'other' and isinstance(NAME, NAME_C)"),
    _row("__init_subclass__ with a registry", "class NAME_B:\n    kinds = {}\n    def __init_subclass__(cls, key, **kw): super().__init_subclass__(**kw); cls.kinds[key] = cls\nclass NAME_C(NAME_B, key='c'): pass\nNAME = NAME_C()",
         "assert NAME_B.kinds == {'c': NAME_C}\nclass NAME_D(NAME_B, key='d'): pass\nassert NAME_B.kinds['d'] is NAME_D"),
    _row("__class_getitem__ and __call__", "class NAME_C:\n    def __class_getitem__(cls, k): return (cls, k)\n    def __call__(self, x): return x + 1\nNAME = NAME_C()", "assert NAME_C[3] == (NAME_C, 3) and NAME(1) == 2"),
    _row("class that registers its instances in a list", "class NAME_C:\n    all = []\n    def __init__(self): self.all.append(self)\nNAME = NAME_C(); NAME_two = NAME_C()", "assert NAME_C.all[0] is NAME and NAME_C.all[1] is NAME_two; NAME_C(); assert len(NAME.all) == 3"),
    _row("singleton by __new__", "class NAME_C:\n    only = None\n    def __new__(cls):\n        if cls.only is None: cls.only = super().__new__(cls)\n        return cls.only\nNAME = NAME_C(); NAME.x = 1", "assert NAME_C() is NAME and NAME.x == 1"),
    _row("__reduce__ of its own", "class NAME_C:\n    def __init__(self, a): self.a = a\n    def __reduce__(self): return (NAME_C, (self.a + 1,))\nNAME = NAME_C(1)", "assert NAME.a == 2 and type(NAME) is NAME_C"),
    _row("__getstate__ and __setstate__ of its own", "class NAME_C:\n    def __init__(self): self.a, self.gen = 1, (i for i in [])\n    def __getstate__(self): return {'a': self.a}\n    def __setstate__(self, s): self.a = s['a'] * 10; self.gen = None\nNAME = NAME_C()", "assert NAME.a == 10 and NAME.gen is None"),
    _row("__getnewargs__ and a __new__ with arguments", "class NAME_C(tuple):\n    def __new__(cls, a, b): return super().__new__(cls, (a, b))\n    def __getnewargs__(self): return tuple(self)\nNAME = NAME_C(1, 2)", "assert NAME == (1, 2) and type(NAME) is NAME_C"),
    _row("__deepcopy__, __eq__, __hash__, __lt__", "import copy\nclass NAME_C:\n    def __init__(self, k): self.k = k\n    def __eq__(self, o): return self.k == o.k\n    def __hash__(self): return hash(self.k)\n    def __lt__(self, o): return self.k < o.k\n    def __deepcopy__(self, memo): return NAME_C(self.k + 1)\nNAME = {NAME_C(2): 'b', NAME_C(1): 'a'}",
         "assert NAME[NAME_C(1)] == 'a' and [c.k for c in sorted(NAME)] == [1, 2] and copy.deepcopy(NAME_C(1)).k == 2"),
    _row("instances in a cycle with their container", "class NAME_C: pass\nNAME = NAME_C(); NAME.me = NAME; NAME.others = [NAME_C()]; NAME.others[0].back = NAME", "assert NAME.me is NAME and NAME.others[0].back is NAME and type(NAME.others[0]) is NAME_C"),
    _row("two variables that share an instance", "class NAME_C: pass\nNAME_s = NAME_C(); NAME_s.n = 1; NAME = [NAME_s]; NAME_d = {'k': NAME_s}", "NAME_s.n = 5; assert NAME[0].n == 5 and NAME_d['k'] is NAME[0]"),
    _row("class redefined: old instances keep the old class", "class NAME_C:\n    def f(self): return 'old'\nNAME = NAME_C(); NAME_two = NAME_C()\nclass NAME_C:\n    def f(self): return 'new'\nNAME_new = NAME_C()",
         "assert NAME.f() == 'old' and NAME_new.f() == 'new' and type(NAME) is type(NAME_two) and not isinstance(NAME, NAME_C) and isinstance(NAME_new, NAME_C)"),
    _row("class bound to another name", "class NAME_C:\n    def f(self): return 1\nNAME = NAME_C(); NAME_D = NAME_C; del NAME_C", "assert type(NAME) is NAME_D and NAME_D().f() == 1"),
    _row("class with a lock inside", "import threading\nclass NAME_C:\n    def __init__(self): self.lock = threading.Lock(); self.n = 0\n    def add(self):\n        with self.lock: self.n += 1\nNAME = NAME_C(); NAME.add()", "NAME.add(); assert NAME.n == 2"),
    _row("class with a lock as class attribute", "import threading\nclass NAME_C:\n    lock = threading.RLock()\n    n = 0\n    def add(self):\n        with self.lock: type(self).n += 1\nNAME = NAME_C(); NAME.add()", "NAME.add(); assert NAME_C.n == 2"),
    _row("class with an open file inside", "import os, tempfile\nclass NAME_C:\n    def __init__(self, p): self.f = open(p, 'w'); self.n = 0\n    def put(self, s): self.f.write(s); self.f.flush(); self.n += 1\nNAME_p = tempfile.mkstemp()[1]; NAME = NAME_C(NAME_p); NAME.put('a')",
         "NAME.put('b'); NAME.f.close(); assert NAME.n == 2 and open(NAME_p).read() == 'ab'; os.unlink(NAME_p)"),
    _row("class with a running thread inside, which is not back", "import threading\nclass NAME_C: pass\nNAME = NAME_C(); NAME.n = 1; NAME_stop = threading.Event(); NAME.t = threading.Thread(target=NAME_stop.wait, daemon=True); NAME.t.start()",
         "assert NAME.n == 1 and isinstance(NAME, NAME_C)\nimport checkpoint_kernel.stub as NAME_stub\ntry: NAME.t.join()\nexcept NAME_stub.NotBackError as NAME_why: assert 'hread' in str(NAME_why)\nelse: raise AssertionError"),
    _row("class with a logger inside", "import logging\nclass NAME_C:\n    log = logging.getLogger('coverage.NAME')\n    def f(self): self.log.debug('x'); return 1\nNAME = NAME_C()", "assert NAME.f() == 1 and NAME.log.name == 'coverage.NAME'"),
    _row("context manager class, half used", "class NAME_C:\n    def __enter__(self): self.open = True; return self\n    def __exit__(self, *e): self.open = False\nNAME = NAME_C(); NAME.__enter__()", "assert NAME.open\nwith NAME: pass\nassert not NAME.open"),
    _row("class with __del__", "class NAME_C:\n    gone = []\n    def __del__(self): self.gone.append(1)\nNAME = NAME_C()", "import gc\ndel NAME; gc.collect(); assert NAME_C.gone == [1], NAME_C.gone"),
    _row("exception classes in a family", "class NAME_E(Exception): pass\nclass NAME_F(NAME_E):\n    def __init__(self, code): super().__init__(f'code {code}'); self.code = code\nNAME = NAME_F(3)", "try: raise NAME\nexcept NAME_E as NAME_x: assert NAME_x.code == 3 and str(NAME_x) == 'code 3'"),
    _row("class decorated to another", "def NAME_deco(cls):\n    cls.tag = 'x'\n    return cls\n@NAME_deco\nclass NAME_C: pass\nNAME = NAME_C()", "assert NAME.tag == 'x' and type(NAME) is NAME_C"),
    _row("class whose method uses __class__ and a private name", "class NAME_C:\n    def __init__(self): self.__x = 1\n    def f(self): return (__class__, self.__x)\nNAME = NAME_C()", "assert NAME.f() == (NAME_C, 1)"),
    _row("class attribute that is a mutable of another variable", "NAME_shared = []\nclass NAME_C:\n    items = NAME_shared\nNAME = NAME_C()", "NAME_shared.append(1); assert NAME_C.items is NAME_shared and NAME.items == [1]"),
    _row("subclass of a library's class", "import threading, json\nclass NAME_E(json.JSONEncoder):\n    def default(self, o): return 'd'\nclass NAME_D(dict):\n    __slots__ = ('tag',)\nNAME = [NAME_E(), NAME_D(a=1)]; NAME[1].tag = 5", "assert NAME[0].encode(1j) == '\"d\"' and NAME[1] == {'a': 1} and NAME[1].tag == 5"),
    _row("iterator protocol, operators and formatting", "class NAME_V:\n    def __init__(self, *x): self.x = x\n    def __add__(self, o): return NAME_V(*(a + b for a, b in zip(self.x, o.x)))\n    def __iter__(self): return iter(self.x)\n    def __format__(self, s): return format(sum(self.x), s)\n    def __matmul__(self, o): return sum(a * b for a, b in zip(self, o))\nNAME = NAME_V(1, 2)",
         "assert [*(NAME + NAME)] == [2, 4] and NAME @ NAME == 5 and f'{NAME:>3}' == '  3'"),
)  # fmt: skip
