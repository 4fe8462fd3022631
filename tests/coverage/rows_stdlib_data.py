"""Rows of the standard library that hold data: collections, enums, numbers, times, texts, trees."""

from __future__ import annotations

from row import Row


def _row(title: str, make: str, check: str) -> Row:
    return Row(title, "stdlib: data", make, check)


ROWS = (
    _row("collections.deque with maxlen", "import collections\nNAME = collections.deque([1, 2, 3], maxlen=3)",
         "NAME.append(4); assert list(NAME) == [2, 3, 4] and NAME.maxlen == 3"),
    _row("collections.Counter", "import collections\nNAME = collections.Counter('abca')",
         "NAME.update('a'); assert NAME.most_common(1) == [('a', 3)]"),
    _row("collections.OrderedDict", "import collections\nNAME = collections.OrderedDict(a=1, b=2)",
         "NAME.move_to_end('a'); assert list(NAME) == ['b', 'a']"),
    _row("collections.defaultdict of a lambda", "import collections\nNAME = collections.defaultdict(lambda: [0], a=1)",
         "NAME['b'].append(1); assert NAME == {'a': 1, 'b': [0, 1]}"),
    _row("collections.defaultdict, recursive", "import collections\ndef NAME_tree(): return collections.defaultdict(NAME_tree)\n"
         "NAME = NAME_tree(); NAME['a']['b'] = 1", "NAME['a']['c']['d'] = 2; assert NAME['a']['b'] == 1"),
    _row("collections.ChainMap", "import collections\nNAME_low = {'x': 1}; NAME = collections.ChainMap({}, NAME_low)",
         "NAME_low['y'] = 2; NAME['x'] = 3; assert NAME['y'] == 2 and NAME_low['x'] == 1 and NAME['x'] == 3"),
    _row("collections.namedtuple", "import collections\nNAME_P = collections.namedtuple('NAME_P', 'x y', defaults=[0])\nNAME = NAME_P(1)",
         "assert NAME.x == 1 and NAME.y == 0 and NAME._replace(y=2) == NAME_P(1, 2) and isinstance(NAME, NAME_P)"),
    _row("namedtuple whose name differs from its variable", "import collections\nNAME_Q = collections.namedtuple('Other', 'x')\nNAME = NAME_Q(1)",
         "assert isinstance(NAME, NAME_Q) and type(NAME) is NAME_Q"),
    _row("collections.UserDict, UserList, UserString", "import collections\n"
         "NAME = [collections.UserDict(a=1), collections.UserList([1]), collections.UserString('x')]",
         "assert NAME[0]['a'] == 1 and NAME[1] + [2] == [1, 2] and NAME[2].upper() == 'X'"),
    _row("enum.Enum with methods", "import enum\nclass NAME_E(enum.Enum):\n    A = 1\n    B = 'b'\n    def low(self): return self.name.lower()\n"
         "NAME = {NAME_E.A: [NAME_E.B]}", "assert NAME[NAME_E.A][0] is NAME_E.B and NAME_E('b').low() == 'b'"),
    _row("enum.Flag", "import enum\nclass NAME_F(enum.Flag):\n    R = enum.auto()\n    W = enum.auto()\nNAME = NAME_F.R | NAME_F.W",
         "assert NAME_F.R in NAME and NAME & NAME_F.W is NAME_F.W and NAME ^ NAME_F.R is NAME_F.W"),
    _row("enum.IntFlag", "import enum\nclass NAME_F(enum.IntFlag):\n    A = 1\n    B = 2\nNAME = NAME_F.A | NAME_F.B",
         "assert NAME == 3 and isinstance(NAME, NAME_F) and NAME_F.B in NAME"),
    _row("enum.IntEnum and StrEnum", "import enum\nclass NAME_I(enum.IntEnum):\n    A = 1\nclass NAME_S(enum.StrEnum):\n    X = 'x'\n"
         "NAME = (NAME_I.A, NAME_S.X)", "assert NAME[0] is NAME_I.A and NAME[0] + 1 == 2 and NAME[1] is NAME_S.X and NAME[1] == 'x'"),
    _row("enum by the functional API", "import enum\nNAME_E = enum.Enum('NAME_E', 'A B'); NAME = NAME_E.B",
         "assert NAME is NAME_E.B and NAME_E(2) is NAME and list(NAME_E) == [NAME_E.A, NAME_E.B]"),
    _row("enum with aliases and __new__", "import enum\nclass NAME_E(enum.Enum):\n    A = (1, 'one')\n    ALIAS = A\n"
         "    def __new__(cls, value, text):\n        one = object.__new__(cls); one._value_ = value; one.text = text; return one\n"
         "NAME = NAME_E.ALIAS", "assert NAME is NAME_E.A and NAME.text == 'one' and NAME_E(1) is NAME"),
    _row("dataclass", "import dataclasses\n@dataclasses.dataclass\nclass NAME_D:\n    x: int\n    tags: list = dataclasses.field(default_factory=list)\n"
         "NAME = NAME_D(1); NAME.tags.append('a')",
         "assert NAME == NAME_D(1, ['a']) and NAME_D(2).tags == [] and dataclasses.replace(NAME, x=3).x == 3"),
    _row("dataclass, frozen with slots", "import dataclasses\n@dataclasses.dataclass(frozen=True, slots=True)\nclass NAME_D:\n    x: int\nNAME = {NAME_D(1): 'one'}",
         "assert NAME[NAME_D(1)] == 'one'\ntry: next(iter(NAME)).x = 2\nexcept dataclasses.FrozenInstanceError: pass\nelse: raise AssertionError"),
    _row("dataclass with InitVar, ClassVar, KW_ONLY and __post_init__", "import dataclasses, typing\n@dataclasses.dataclass(order=True)\nclass NAME_D:\n"
         "    x: int\n    by: dataclasses.InitVar[int]\n    made: typing.ClassVar[int] = 0\n    _: dataclasses.KW_ONLY\n    y: int = 0\n"
         "    def __post_init__(self, by): self.y = self.x * by; NAME_D.made += 1\nNAME = NAME_D(2, 10)",
         "assert NAME.y == 20 and NAME_D(3, 1).y == 3 and NAME_D.made == 2 and NAME < NAME_D(3, 1)\n"
         "assert [f.name for f in dataclasses.fields(NAME)] == ['x', 'y']"),
    _row("dataclass by make_dataclass, and its fields", "import dataclasses\nNAME_D = dataclasses.make_dataclass('NAME_D', ['x', ('y', int, 5)])\n"
         "NAME = [NAME_D(1), dataclasses.fields(NAME_D)]",
         "assert dataclasses.asdict(NAME[0]) == {'x': 1, 'y': 5} and NAME[1][1].default == 5\n"
         "assert NAME[1][0].default is dataclasses.MISSING"),
    _row("typing.NamedTuple", "import typing\nclass NAME_N(typing.NamedTuple):\n    x: int\n    y: int = 2\n    def total(self): return self.x + self.y\nNAME = NAME_N(1)",
         "assert NAME.total() == 3 and NAME == (1, 2) and isinstance(NAME, NAME_N)"),
    _row("typing.TypedDict", "import typing\nclass NAME_T(typing.TypedDict, total=False):\n    x: int\nNAME: NAME_T = NAME_T(x=1)",
         "assert NAME == {'x': 1} and NAME_T.__optional_keys__ == {'x'}"),
    _row("typing.TypeVar and a generic class", "import typing\nNAME_T = typing.TypeVar('NAME_T', bound=int)\nclass NAME_G(typing.Generic[NAME_T]):\n"
         "    def __init__(self, x): self.x = x\nNAME = NAME_G[int](3)",
         "assert NAME.x == 3 and isinstance(NAME, NAME_G) and NAME_G.__parameters__ == (NAME_T,) and NAME_G[bool]"),
    _row("typing.TypeVar whose name differs from its variable", "import typing\nNAME = typing.TypeVar('Other', int, str)",
         "assert NAME.__constraints__ == (int, str) and NAME.__name__ == 'Other'"),
    _row("typing.ParamSpec and TypeVarTuple", "import typing\nNAME_P = typing.ParamSpec('NAME_P'); NAME_V = typing.TypeVarTuple('NAME_V')\n"
         "NAME = typing.Callable[NAME_P, int]", "assert typing.get_args(NAME) == (NAME_P, int) and NAME_V.__name__.endswith('_V')"),
    _row("typing aliases: Optional, Union, Callable, Literal, Annotated", "import typing\n"
         "NAME = [typing.Optional[int], typing.Callable[[int], str], typing.Literal['a', 1], typing.Annotated[int, 'm'], typing.ClassVar[int]]",
         "assert NAME[0] == typing.Optional[int] and typing.get_args(NAME[3]) == (int, 'm') and NAME[2] == typing.Literal['a', 1]"),
    _row("list[int], int | str", "NAME = [list[int], dict[str, list[int]], int | str | None]",
         "import types\nassert NAME[0].__args__ == (int,) and isinstance(3, NAME[2]) and type(NAME[2]) in (types.UnionType, type(NAME[2]))"),
    _row("typing.NewType", "import typing\nNAME = typing.NewType('NAME', int)", "assert NAME(3) == 3 and NAME.__supertype__ is int"),
    _row("typing.Protocol, runtime-checkable", "import typing\n@typing.runtime_checkable\nclass NAME(typing.Protocol):\n    def close(self): ...",
         "class NAME_C:\n    def close(self): pass\nassert isinstance(NAME_C(), NAME) and not isinstance(3, NAME)"),
    _row("typing.ForwardRef and get_type_hints", "import typing\nclass NAME_C:\n    other: 'NAME_C'\n    n: 'int' = 0\nNAME = NAME_C",
         "assert typing.get_type_hints(NAME) == {'other': NAME_C, 'n': int}"),
    _row("types.SimpleNamespace", "import types\nNAME = types.SimpleNamespace(x=[1])", "NAME.x.append(2); NAME.y = 3; assert NAME == types.SimpleNamespace(x=[1, 2], y=3)"),
    _row("decimal.Decimal", "import decimal\nNAME = [decimal.Decimal('0.1'), decimal.Decimal('NaN'), decimal.Decimal('-Infinity')]",
         "assert NAME[0] * 3 == decimal.Decimal('0.3') and NAME[1].is_nan() and NAME[2] < 0"),
    _row("decimal.Context", "import decimal\nNAME = decimal.Context(prec=5, rounding=decimal.ROUND_DOWN, traps=[decimal.DivisionByZero])",
         "assert str(NAME.divide(2, 3)) == '0.66666' and NAME.traps[decimal.DivisionByZero]"),
    _row("fractions.Fraction", "import fractions\nNAME = fractions.Fraction(3, 4)", "assert NAME + 1 == fractions.Fraction(7, 4)"),
    _row("datetime: naive, aware, fold", "import datetime\nNAME = [datetime.datetime(2024, 2, 29, 12, fold=1), datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),\n"
         "        datetime.date(2024, 1, 1), datetime.time(12, 30), datetime.timedelta(days=1, microseconds=1)]",
         "assert NAME[0].fold == 1 and NAME[1].isoformat() == '2024-01-01T00:00:00+00:00' and NAME[2] + NAME[4] == datetime.date(2024, 1, 2)"),
    _row("datetime.timezone and a tzinfo of the notebook", "import datetime\nclass NAME_Z(datetime.tzinfo):\n    def utcoffset(self, dt): return datetime.timedelta(hours=5)\n"
         "    def dst(self, dt): return None\nNAME = [datetime.datetime(2024, 1, 1, tzinfo=NAME_Z()), datetime.timezone(datetime.timedelta(hours=-3), 'X')]",
         "assert NAME[0].astimezone(datetime.UTC).hour == 19 and NAME[1].tzname(None) == 'X'"),
    _row("zoneinfo.ZoneInfo", "import datetime, zoneinfo\nNAME = datetime.datetime(2024, 7, 1, tzinfo=zoneinfo.ZoneInfo('UTC'))",
         "assert NAME.tzinfo is zoneinfo.ZoneInfo('UTC') and NAME.utcoffset() == datetime.timedelta(0)"),
    _row("time.struct_time", "import time\nNAME = time.gmtime(0)", "assert NAME.tm_year == 1970 and time.strftime('%d', NAME) == '01'"),
    _row("calendar.TextCalendar", "import calendar\nNAME = calendar.TextCalendar(firstweekday=6)", "assert NAME.firstweekday == 6 and 'February' in NAME.formatmonth(2024, 2)"),
    _row("uuid.UUID", "import uuid\nNAME = uuid.UUID(int=5)", "assert NAME == uuid.UUID(int=5) and NAME.hex[-1] == '5'"),
    _row("ipaddress network and address", "import ipaddress\nNAME = [ipaddress.ip_network('10.0.0.0/30'), ipaddress.ip_address('::1')]",
         "assert len(list(NAME[0].hosts())) == 2 and NAME[1].is_loopback and ipaddress.ip_address('10.0.0.1') in NAME[0]"),
    _row("pathlib paths", "import pathlib\nNAME = [pathlib.Path('/tmp/a.txt'), pathlib.PureWindowsPath('c:/x')]", "assert NAME[0].with_suffix('.md').name == 'a.md' and NAME[1].drive == 'c:'"),
    _row("array.array", "import array\nNAME = array.array('d', [1.5, 2.5])", "NAME.append(3.5); assert sum(NAME) == 7.5 and NAME.typecode == 'd'"),
    _row("ctypes structure", "import ctypes\nclass NAME_S(ctypes.Structure):\n    _fields_ = [('x', ctypes.c_int), ('y', ctypes.c_double)]\nNAME = NAME_S(1, 2.5)",
         "NAME.x += 1; assert NAME.x == 2 and NAME.y == 2.5 and ctypes.sizeof(NAME_S) == 16 and isinstance(NAME, NAME_S)"),
    _row("ctypes array and number", "import ctypes\nNAME = [(ctypes.c_int * 3)(1, 2, 3), ctypes.c_double(2.5)]", "NAME[0][1] = 7; assert list(NAME[0]) == [1, 7, 3] and NAME[1].value == 2.5"),
    Row("ctypes pointer", "stdlib: data", "import ctypes\nNAME = ctypes.pointer(ctypes.c_int(3))", "assert NAME.contents.value == 3; NAME[0] = 4; assert NAME[0] == 4 and type(NAME) is ctypes.POINTER(ctypes.c_int)"),
    Row("ctypes library and function", "stdlib: data", "import ctypes\nNAME = ctypes.CDLL(None)", "assert NAME.abs(-3) == 3"),
    _row("heapq's list of tuples", "import heapq\nNAME = []\nfor n in (5, 1, 3): heapq.heappush(NAME, (n, str(n)))", "assert heapq.heappop(NAME) == (1, '1')"),
    _row("bisect on a sorted list of instances", "import bisect, functools\n@functools.total_ordering\nclass NAME_C:\n    def __init__(self, k): self.k = k\n"
         "    def __eq__(self, o): return self.k == o.k\n    def __lt__(self, o): return self.k < o.k\nNAME = [NAME_C(1), NAME_C(3)]",
         "bisect.insort(NAME, NAME_C(2)); assert [c.k for c in NAME] == [1, 2, 3] and NAME[2] >= NAME[1]"),
    _row("random.Random goes on where it was", "import random\nNAME = random.Random(7); NAME.random(); NAME_copy = random.Random(); NAME_copy.setstate(NAME.getstate()); NAME_next = [NAME_copy.random() for _ in range(3)]",
         "assert [NAME.random() for _ in range(3)] == NAME_next"),
    _row("random.SystemRandom", "import random\nNAME = random.SystemRandom()", "assert 0 <= NAME.random() < 1 and type(NAME) is random.SystemRandom"),
    _row("secrets' generator, and a choice of it", "import secrets, random\nNAME = [secrets.SystemRandom(), secrets.choice]", "assert NAME[1]('a') == 'a' and NAME[0].randint(1, 1) == 1"),
    _row("statistics.NormalDist", "import statistics\nNAME = statistics.NormalDist(10, 2)", "assert NAME.cdf(10) == 0.5 and (NAME + 1).mean == 11"),
    _row("struct.Struct", "import struct\nNAME = struct.Struct('<ih')", "assert NAME.pack(1, 2) == b'\\1\\0\\0\\0\\2\\0' and NAME.size == 6"),
    _row("re.Pattern", "import re\nNAME = re.compile(r'(?P<y>\\d+)-(\\w)', re.I)", "assert NAME.match('12-A')['y'] == '12' and NAME.flags & re.I"),
    _row("re.Match", "import re\nNAME = re.search(r'(?P<y>\\d+)-(\\w)?', 'in 2024-x')",
         "assert NAME['y'] == '2024' and NAME.span(2) == (8, 9) and NAME.re.groups == 2 and NAME.expand(r'\\2') == 'x'"),
    _row("re.Match of finditer, and of fullmatch with limits", "import re\nNAME = [*re.finditer(r'(a)|(b)', 'xaxb'), re.compile('b+').fullmatch('abbc', 1, 3)]",
         "assert [m.span() for m in NAME] == [(1, 2), (3, 4), (1, 3)] and NAME[1].lastindex == 2 and NAME[2].endpos == 3"),
    _row("hashlib's result, not the hash object", "import hashlib\nNAME = hashlib.sha256(b'a').digest()", "assert NAME == hashlib.sha256(b'a').digest()"),
    Row("hashlib hash, half fed", "stdlib: data", "import hashlib\nNAME = hashlib.sha256(b'abc')", "NAME.update(b'd')", expect="named", why_not="HASH"),
    Row("hmac, half fed", "stdlib: data", "import hmac\nNAME = hmac.new(b'k', b'abc', 'sha256')", "NAME.update(b'd')", expect="named"),
    Row("zlib compressor, half fed", "stdlib: data", "import zlib\nNAME = zlib.compressobj(); NAME.compress(b'abc')", "NAME.flush()", expect="named", why_not="zlib.Compress"),
    _row("ast tree", "import ast\nNAME = ast.parse('x = 1 + 2')", "assert ast.unparse(NAME) == 'x = 1 + 2'\nexec(compile(NAME, '<ast>', 'exec'), NAME_space := {}); assert NAME_space['x'] == 3"),
    _row("ast.NodeVisitor of the notebook", "import ast\nclass NAME_V(ast.NodeVisitor):\n    def __init__(self): self.names = []\n    def visit_Name(self, node): self.names.append(node.id)\n"
         "NAME = NAME_V(); NAME.visit(ast.parse('a + b'))", "NAME.visit(ast.parse('c')); assert NAME.names == ['a', 'b', 'c']"),
    _row("xml.etree tree", "import xml.etree.ElementTree as ET\nNAME = ET.ElementTree(ET.fromstring('<a k=\"1\"><b>t</b></a>'))",
         "ET.SubElement(NAME.getroot(), 'c'); assert NAME.find('b').text == 't' and len(NAME.getroot()) == 2 and NAME.getroot().get('k') == '1'"),
    _row("xml.dom.minidom document", "import xml.dom.minidom\nNAME = xml.dom.minidom.parseString('<a><b>t</b></a>')",
         "assert NAME.documentElement.firstChild.toxml() == '<b>t</b>' and NAME.getElementsByTagName('b')[0].parentNode is NAME.documentElement"),
    _row("string.Template and Formatter", "import string\nNAME = [string.Template('$a!'), string.Formatter()]", "assert NAME[0].substitute(a=1) == '1!' and NAME[1].format('{0:>3}', 7) == '  7'"),
    _row("textwrap.TextWrapper", "import textwrap\nNAME = textwrap.TextWrapper(width=5)", "assert NAME.wrap('aaa bbb') == ['aaa', 'bbb']"),
    _row("json encoder and decoder", "import json\nclass NAME_E(json.JSONEncoder):\n    def default(self, o): return repr(o)\nNAME = [NAME_E(indent=None), json.JSONDecoder(object_hook=lambda d: [*d])]",
         "assert NAME[0].encode([1j]) == '[\"1j\"]' and NAME[1].decode('{\"a\": 1}') == ['a']"),
    _row("graphlib.TopologicalSorter", "import graphlib\nNAME = graphlib.TopologicalSorter({'b': ['a'], 'c': ['b']})", "NAME.add('a', 'z'); assert [*NAME.static_order()] == ['z', 'a', 'b', 'c']"),
    _row("difflib.SequenceMatcher", "import difflib\nNAME = difflib.SequenceMatcher(None, 'abcd', 'bcde')", "assert NAME.ratio() == 0.75"),
    _row("email.message.EmailMessage", "import email.message\nNAME = email.message.EmailMessage(); NAME['To'] = 'a@b.c'; NAME.set_content('hi')",
         "NAME.add_attachment(b'x', maintype='a', subtype='b'); assert NAME['To'] == 'a@b.c' and NAME.is_multipart() and 'hi' in NAME.as_string()"),
    _row("http.cookies.SimpleCookie", "import http.cookies\nNAME = http.cookies.SimpleCookie('a=1'); NAME['a']['path'] = '/'", "NAME['b'] = '2'; assert NAME['a'].value == '1' and 'Path=/' in NAME.output()"),
    _row("http.cookiejar.CookieJar", "import http.cookiejar\nNAME = http.cookiejar.CookieJar()", "NAME.clear(); assert len(NAME) == 0 and NAME._cookies_lock.acquire(blocking=False)"),
    _row("urllib.request.Request", "import urllib.request\nNAME = urllib.request.Request('http://a.b/c?d=1', headers={'X': 'y'}, method='PUT')", "assert NAME.get_method() == 'PUT' and NAME.host == 'a.b' and NAME.get_header('X') == 'y'"),
    _row("urllib opener", "import urllib.request\nNAME = urllib.request.OpenerDirector(); NAME.add_handler(urllib.request.DataHandler())",
         "assert NAME.open('data:,hi').read() == b'hi'"),
    _row("urllib.parse results", "import urllib.parse\nNAME = urllib.parse.urlsplit('http://u@h:8/p?q#f')", "assert NAME.port == 8 and NAME._replace(path='/x').geturl() == 'http://u@h:8/x?q#f'"),
    _row("configparser.ConfigParser", "import configparser\nNAME = configparser.ConfigParser(); NAME.read_string('[a]\\nx = 1')", "NAME['a']['y'] = '2'; assert NAME.getint('a', 'x') == 1 and NAME.get('a', 'y') == '2'"),
    _row("argparse.ArgumentParser", "import argparse\nNAME = argparse.ArgumentParser(prog='p'); NAME.add_argument('--n', type=int, default=1); NAME.add_subparsers().add_parser('go').add_argument('what')",
         "assert NAME.parse_args(['--n', '3', 'go', 'x']) == argparse.Namespace(n=3, what='x') and NAME.parse_args([]).n == 1"),
    _row("inspect.Signature", "import inspect\nNAME = inspect.signature(lambda a, *, b=2: 0)", "assert NAME.bind(1).args == (1,) and NAME.parameters['b'].default == 2"),
    _row("exception with __cause__, __context__ and notes", "class NAME_E(Exception):\n    def __init__(self, a, b): super().__init__(f'{a}-{b}'); self.b = b\n"
         "try:\n    try: 1 / 0\n    except ZeroDivisionError as NAME_z: raise NAME_E(1, b=2) from NAME_z\nexcept NAME_E as NAME_x: NAME = NAME_x; NAME.add_note('n')",
         "assert isinstance(NAME, NAME_E) and NAME.b == 2 and str(NAME) == '1-2' and NAME.__notes__ == ['n']\n"
         "assert isinstance(NAME.__cause__, ZeroDivisionError) and NAME.__suppress_context__"),
    _row("exception with its traceback", "def NAME_f(): raise KeyError('gone')\ntry: NAME_f()\nexcept KeyError as NAME_x: NAME = NAME_x",
         "import traceback\nNAME_text = ''.join(traceback.format_exception(NAME))\n"
         "assert 'in NAME_f' in NAME_text and \"raise KeyError('gone')\" in NAME_text, NAME_text\n"
         "try: raise NAME\nexcept KeyError as NAME_again: assert NAME_again is NAME"),
    _row("OSError and UnicodeDecodeError", "NAME = []\ntry: open('/nowhere/x')\nexcept OSError as e: NAME.append(e)\ntry: b'\\xff'.decode()\nexcept ValueError as e: NAME.append(e)",
         "assert NAME[0].errno == 2 and NAME[0].filename == '/nowhere/x' and NAME[1].start == 0 and isinstance(NAME[0], FileNotFoundError)"),
    _row("ExceptionGroup", "NAME = ExceptionGroup('g', [ValueError(1), KeyError('k')])", "assert NAME.subgroup(ValueError).exceptions[0].args == (1,) and len(NAME.exceptions) == 2"),
    _row("traceback.TracebackException", "import traceback\ntry: 1 / 0\nexcept ZeroDivisionError as e: NAME = traceback.TracebackException.from_exception(e)", "assert 'ZeroDivisionError' in ''.join(NAME.format())"),
    _row("traceback", "def NAME_f(): raise KeyError\ntry: NAME_f()\nexcept KeyError as e: NAME = e.__traceback__",
         "import traceback\nassert [f.name for f in traceback.extract_tb(NAME)][-1] == 'NAME_f' and NAME.tb_next.tb_lineno == 1"),
    _row("warning, and the record of one", "import warnings\nwith warnings.catch_warnings(record=True) as NAME:\n    warnings.simplefilter('always'); warnings.warn('w', UserWarning)",
         "assert NAME[0].category is UserWarning and str(NAME[0].message) == 'w'"),
    _row("os.stat_result, os.environ copy", "import os\nNAME = [os.stat('/'), dict(os.environ)]", "assert NAME[0].st_mode & 0o040000 and 'PATH' in NAME[1]"),
    _row("platform and sys facts", "import platform, sys\nNAME = [platform.uname(), sys.version_info]", "assert NAME[0].system == 'Linux' and NAME[1].major == 3"),
    _row("doctest example and test", "import doctest\ndef NAME_f():\n    '''\n    >>> 1 + 1\n    2\n    '''\nNAME = doctest.DocTestFinder().find(NAME_f, 'NAME_f', module=False)",
         "assert doctest.DocTestRunner(verbose=False).run(NAME[0]) == doctest.TestResults(0, 1)"),
    _row("unittest.TestCase of the notebook", "import unittest\nclass NAME_T(unittest.TestCase):\n    def test_one(self): self.assertEqual(1, 1)\nNAME = unittest.TestSuite([NAME_T('test_one')])",
         "NAME_r = unittest.TestResult(); NAME.run(NAME_r); assert NAME_r.testsRun == 1 and NAME_r.wasSuccessful()"),
    _row("unittest.mock.Mock and MagicMock", "from unittest import mock\nNAME = mock.MagicMock(name='m'); NAME.f.return_value = 3; NAME.f(1)",
         "assert NAME.f(2) == 3 and NAME.f.call_count == 2 and NAME.f.call_args_list[0] == mock.call(1) and len(NAME) == 0"),
    _row("module made by hand", "import types\nNAME = types.ModuleType('made_by_hand', 'doc'); NAME.x = [1]",
         "NAME.x.append(2); assert NAME.x == [1, 2] and NAME.__doc__ == 'doc' and type(NAME) is types.ModuleType"),
    _row("selectors, signal and http enums", "import http, signal, socket\nNAME = [http.HTTPStatus.OK, signal.SIGINT, socket.AF_INET]", "assert NAME[0] is http.HTTPStatus.OK and NAME[0] == 200 and NAME[1] is signal.SIGINT"),
    _row("pprint, reprlib and locale helpers", "import pprint, reprlib\nNAME = [pprint.PrettyPrinter(width=20), reprlib.Repr()]", "assert NAME[0].pformat([1]) == '[1]' and NAME[1].repr('x' * 99).startswith(\"'xx\")"),
    _row("codecs: encoder, decoder, CodecInfo", "import codecs\nNAME = [codecs.lookup('utf-8'), codecs.getincrementaldecoder('utf-8')()]; NAME[1].decode(b'\\xc3')",
         "assert NAME[0].encode('a')[0] == b'a' and NAME[1].decode(b'\\xbc') == 'ü'"),
    _row("shlex.shlex over a text", "import shlex\nNAME = shlex.shlex('a b c'); NAME.get_token()", "assert list(NAME) == ['b', 'c']"),
    _row("cmd.Cmd and code.InteractiveInterpreter of their own", "import code\nNAME = code.InteractiveInterpreter({'x': 1})", "NAME.runsource('y = x + 1'); assert NAME.locals['y'] == 2"),
)  # fmt: skip
