"""Rows of the standard library that stand for something outside: threads, files, processes."""

from __future__ import annotations

from row import Row


def _row(title: str, make: str, check: str) -> Row:
    return Row(title, "stdlib: system", make, check)


def _named(title: str, make: str, why_not: str = "") -> Row:
    return Row(
        title, "stdlib: system", make, "raise AssertionError('it came back')",
        expect="named", why_not=why_not,
    )  # fmt: skip


def _file(title: str, content: str, make: str, check: str) -> Row:
    """`NAME_path` is a file that outlives the kernel."""
    write = (
        "import os, tempfile\nNAME_path = tempfile.mkstemp(prefix='coverage-')[1]\n"
        f"with open(NAME_path, 'wb') as NAME_out: NAME_out.write({content})\ndel NAME_out\n"
    )
    return Row(title, "stdlib: system", write + make, check + "\nos.unlink(NAME_path)")


LOCKS = (
    _row("threading.Lock", "import threading\nNAME = threading.Lock()", "assert not NAME.locked()\nwith NAME: assert NAME.locked()"),
    _row("threading.Lock, held when the kernel died", "import threading\nNAME = threading.Lock(); NAME.acquire()", "assert NAME.acquire(timeout=1); NAME.release()"),
    _row("threading.RLock", "import threading\nNAME = threading.RLock(); NAME.acquire()",
         "NAME_got = []\nNAME_t = threading.Thread(target=lambda: NAME_got.append(NAME.acquire(timeout=1))); NAME_t.start(); NAME_t.join()\nassert NAME_got == [True]"),
    _row("a lock that two objects share", "import threading\nclass NAME_C: pass\nNAME = NAME_C(); NAME.lock = threading.Lock(); NAME_other = NAME_C(); NAME_other.lock = NAME.lock",
         "assert NAME.lock is NAME_other.lock\nwith NAME.lock: assert NAME_other.lock.locked()"),
    _row("threading.Condition", "import threading\nNAME = threading.Condition()", "with NAME: NAME.notify_all(); assert NAME.wait(0.01) is False"),
    _row("threading.Event, set", "import threading\nNAME = threading.Event(); NAME.set()", "assert NAME.is_set() and NAME.wait(1); NAME.clear(); assert not NAME.wait(0.01)"),
    _row("threading.Semaphore", "import threading\nNAME = threading.Semaphore(2)", "assert NAME.acquire(timeout=1) and NAME.acquire(timeout=1) and not NAME.acquire(blocking=False)"),
    _row("threading.BoundedSemaphore", "import threading\nNAME = threading.BoundedSemaphore(1)", "with NAME: pass\ntry: NAME.release()\nexcept ValueError: pass\nelse: raise AssertionError"),
    _row("threading.Barrier", "import threading\nNAME = threading.Barrier(1)", "assert NAME.wait(1) == 0 and NAME.parties == 1"),
    _row("threading.local", "import threading\nNAME = threading.local(); NAME.x = 1",
         "assert NAME.x == 1\nNAME_seen = []\nNAME_t = threading.Thread(target=lambda: NAME_seen.append(hasattr(NAME, 'x'))); NAME_t.start(); NAME_t.join(); assert NAME_seen == [False]"),
    _named("threading.Thread, running", "import threading, time\nNAME = threading.Thread(target=time.sleep, args=(600,), daemon=True); NAME.start()", "ends with its process"),
    _row("threading.Thread, not begun", "import threading\nNAME_ran = []; NAME = threading.Thread(target=NAME_ran.append, args=(1,), name='n')", "NAME.start(); NAME.join(5); assert NAME_ran == [1] and NAME.name == 'n'"),
    _row("threading.Thread, ended", "import threading\nNAME = threading.Thread(target=len, args=('',)); NAME.start(); NAME.join()", "assert not NAME.is_alive(); NAME.join(1)"),
    _named("threading.Timer", "import threading\nNAME = threading.Timer(600, print); NAME.daemon = True; NAME.start()", "running process or thread"),
    _row("queue.Queue with items", "import queue\nNAME = queue.Queue(maxsize=3); NAME.put(1); NAME.put([2])", "assert NAME.get(timeout=1) == 1 and NAME.qsize() == 1 and NAME.maxsize == 3; NAME.put(3, timeout=1); assert NAME.get() == [2]"),
    _row("queue.PriorityQueue and LifoQueue", "import queue\nNAME = [queue.PriorityQueue(), queue.LifoQueue()]\nfor q in NAME: q.put(2), q.put(1), q.put(3)", "assert [q.get(timeout=1) for q in NAME] == [1, 3]; NAME[1].task_done()"),
    _row("queue.SimpleQueue", "import queue\nNAME = queue.SimpleQueue(); NAME.put(1); NAME.put(2)", "assert NAME.get(timeout=1) == 1 and NAME.qsize() == 1; NAME.put(3); assert NAME.get() == 2"),
    _row("sched.scheduler", "import sched, time\nNAME = sched.scheduler(time.monotonic, time.sleep); NAME_ran = []; NAME.enter(0, 1, NAME_ran.append, (1,))", "NAME.run(); assert NAME_ran == [1]"),
)  # fmt: skip

ASYNC = (
    _row("asyncio.Lock, Event and Semaphore", "import asyncio\nNAME = [asyncio.Lock(), asyncio.Event(), asyncio.Semaphore(2)]; NAME[1].set()",
         "async def NAME_f():\n    async with NAME[0], NAME[2]: return NAME[0].locked() and await NAME[1].wait()\n"
         "import threading\nNAME_got = []\nNAME_t = threading.Thread(target=lambda: NAME_got.append(asyncio.run(NAME_f()))); NAME_t.start(); NAME_t.join(5); assert NAME_got == [True]"),
    _row("asyncio.Queue with items", "import asyncio\nNAME = asyncio.Queue(); NAME.put_nowait(1); NAME.put_nowait(2)", "NAME.put_nowait(3); assert [NAME.get_nowait() for _ in range(3)] == [1, 2, 3]"),
    _named("asyncio.Future, undone", "import asyncio\nNAME_loop = asyncio.new_event_loop(); NAME = NAME_loop.create_future(); del NAME_loop", "complete it"),
    _named("asyncio.Task", "import asyncio\nNAME = asyncio.get_event_loop().create_task(asyncio.sleep(600))"),
    _row("asyncio event loop, idle", "import asyncio\nNAME = asyncio.new_event_loop(); NAME.set_debug(True)",
         "import threading\nasync def NAME_f(): return await asyncio.sleep(0.01, 7)\n"
         "NAME_got = []; NAME_t = threading.Thread(target=lambda: NAME_got.append(NAME.run_until_complete(NAME_f()))); NAME_t.start(); NAME_t.join(5)\n"
         "assert NAME_got == [7] and NAME.get_debug(); NAME.close()"),
    _named("asyncio event loop, running", "import asyncio\nNAME = asyncio.get_running_loop()", "running code"),
    _row("contextvars.ContextVar with a default", "import contextvars\nNAME = contextvars.ContextVar('v', default=[1])",
         "assert NAME.get() == [1] and NAME.name == 'v'; NAME_token = NAME.set(2); assert NAME.get() == 2; NAME.reset(NAME_token); assert NAME.get() == [1]"),
    _row("contextvars.ContextVar, set", "import contextvars\nNAME = contextvars.ContextVar('w'); NAME.set(5)", "assert NAME.get() == 5"),
    _row("contextvars.Context", "import contextvars, decimal\nNAME_v = contextvars.ContextVar('v'); NAME_w = contextvars.ContextVar('w')\nNAME = contextvars.Context(); NAME.run(NAME_v.set, [3]); NAME.run(decimal.setcontext, decimal.Context(prec=50))",
         "assert NAME[NAME_v] == [3] and NAME.run(NAME_v.get) is NAME[NAME_v] and NAME_w not in NAME and NAME.run(decimal.getcontext).prec == 50"),
    _row("contextvars.copy_context() in a cell", "import contextvars\nNAME_v = contextvars.ContextVar('v'); NAME_v.set(5); NAME = contextvars.copy_context(); NAME_v.set(6)",
         "assert NAME.run(NAME_v.get) == 5 and NAME_v.get() == 6; NAME.run(print, 'x')"),
    _named("contextvars.Token", "import contextvars\nNAME_v = contextvars.ContextVar('v'); NAME = NAME_v.set(1)"),
    _row("concurrent.futures.Future, done", "import concurrent.futures as NAME_cf\nNAME = NAME_cf.Future(); NAME.set_result([7])", "assert NAME.result(timeout=1) == [7] and NAME.done()"),
    _row("concurrent.futures.Future, failed", "import concurrent.futures as NAME_cf\nNAME = NAME_cf.Future(); NAME.set_exception(ValueError(3))", "assert NAME.exception(timeout=1).args == (3,)"),
    _named("concurrent.futures.Future, undone", "import concurrent.futures as NAME_cf\nNAME = NAME_cf.Future()", "complete it"),
    _row("concurrent.futures.ThreadPoolExecutor, idle", "import concurrent.futures as NAME_cf\nNAME = NAME_cf.ThreadPoolExecutor(1); NAME.submit(len, '').result()", "assert NAME.submit(len, 'ab').result(timeout=5) == 2; NAME.shutdown()"),
    _named("concurrent.futures.ThreadPoolExecutor, at work", "import concurrent.futures as NAME_cf, threading\nNAME_go = threading.Event()\nNAME = NAME_cf.ThreadPoolExecutor(1); NAME.submit(NAME_go.wait)"),
    _row("concurrent.futures.ProcessPoolExecutor, idle", "import concurrent.futures as NAME_cf\nNAME = NAME_cf.ProcessPoolExecutor(1)", "assert NAME._max_workers == 1; NAME.shutdown()"),
)  # fmt: skip

WEAK = (
    _row("weakref.ref follows its object", "import weakref\nclass NAME_C: pass\nNAME_o = NAME_C(); NAME = weakref.ref(NAME_o)",
         "assert NAME() is NAME_o\ndel NAME_o\nimport gc; gc.collect(); assert NAME() is None"),
    _row("weakref.ref with a callback, and a dead one", "import weakref\nclass NAME_C: pass\nNAME_calls = []; NAME_o = NAME_C(); NAME_dead = weakref.ref(NAME_C())\n"
         "def NAME_f(r): NAME_calls.append(1)\nNAME = weakref.ref(NAME_o, NAME_f)",
         "assert NAME_dead() is None and NAME() is NAME_o\ndel NAME_o\nimport gc; gc.collect(); assert NAME_calls == [1]"),
    _row("weakref.ref of a function and of a class", "import weakref\ndef NAME_f(): return 1\nclass NAME_C: pass\nNAME = [weakref.ref(NAME_f), weakref.ref(NAME_C)]",
         "assert NAME[0]() is NAME_f and NAME[1]() is NAME_C"),
    _row("weakref.proxy", "import weakref\nclass NAME_C: x = 1\nNAME_o = NAME_C(); NAME = weakref.proxy(NAME_o)",
         "NAME.x = 5; assert NAME_o.x == 5\ndel NAME_o\nimport gc; gc.collect()\ntry: NAME.x\nexcept ReferenceError: pass\nelse: raise AssertionError"),
    _row("weakref.WeakMethod", "import weakref\nclass NAME_C:\n    def f(self): return 3\nNAME_o = NAME_C(); NAME = weakref.WeakMethod(NAME_o.f)",
         "assert NAME()() == 3\ndel NAME_o\nimport gc; gc.collect(); assert NAME() is None"),
    _row("weakref.WeakSet", "import weakref\nclass NAME_C: pass\nNAME_a, NAME_b = NAME_C(), NAME_C(); NAME = weakref.WeakSet([NAME_a, NAME_b])",
         "assert NAME_a in NAME and len(NAME) == 2\ndel NAME_b\nimport gc; gc.collect(); assert list(NAME) == [NAME_a]"),
    _row("weakref.WeakValueDictionary", "import weakref\nclass NAME_C: pass\nNAME_a, NAME_b = NAME_C(), NAME_C(); NAME = weakref.WeakValueDictionary(a=NAME_a, b=NAME_b)",
         "assert NAME['a'] is NAME_a\ndel NAME_b\nimport gc; gc.collect(); assert list(NAME) == ['a']"),
    _row("weakref.WeakKeyDictionary", "import weakref\nclass NAME_C: pass\nNAME_a, NAME_b = NAME_C(), NAME_C(); NAME = weakref.WeakKeyDictionary({NAME_a: 1, NAME_b: [2]})",
         "assert NAME[NAME_a] == 1 and NAME[NAME_b] == [2]\ndel NAME_b\nimport gc; gc.collect(); assert len(NAME) == 1"),
    _row("class that keeps its instances in a WeakSet", "import weakref\nclass NAME_C:\n    alive = weakref.WeakSet()\n    def __init__(self): self.alive.add(self)\nNAME = NAME_C(); NAME_two = NAME_C()",
         "assert set(NAME_C.alive) == {NAME, NAME_two} and isinstance(NAME, NAME_C)"),
    _row("tree with weak references to parents", "import weakref\nclass NAME_C:\n    def __init__(self, parent=None):\n        self.children = []; self.parent = parent and weakref.ref(parent)\n        if parent: parent.children.append(self)\n"
         "NAME = NAME_C(); NAME_C(NAME); NAME_C(NAME.children[0])", "assert NAME.children[0].children[0].parent().parent() is NAME"),
    _row("weakref.finalize", "import weakref\nclass NAME_C: pass\nNAME_o = NAME_C(); NAME_calls = []; NAME = weakref.finalize(NAME_o, NAME_calls.append, 3)",
         "assert NAME.alive and NAME.peek()[0] is NAME_o\ndel NAME_o\nimport gc; gc.collect(); assert NAME_calls == [3] and not NAME.alive"),
)  # fmt: skip

LOGGING = (
    _row("logging.Logger with its level", "import logging\nNAME = logging.getLogger('coverage.NAME'); NAME.setLevel('DEBUG')",
         "assert NAME is logging.getLogger('coverage.NAME') and NAME.isEnabledFor(logging.DEBUG)"),
    _row("logging.Logger with a handler and a filter", "import io, logging\nclass NAME_F(logging.Filter):\n    def filter(self, record): return 'no' not in record.getMessage()\n"
         "NAME = logging.getLogger('coverage.NAME'); NAME.propagate = False; NAME_out = io.StringIO(); NAME_h = logging.StreamHandler(NAME_out)\n"
         "NAME_h.setFormatter(logging.Formatter('%(levelname)s %(message)s')); NAME.addHandler(NAME_h); NAME.addFilter(NAME_F()); NAME.warning('a')",
         "NAME.warning('b'); NAME.warning('no'); assert NAME_out.getvalue() == 'WARNING a\\nWARNING b\\n' and NAME.handlers == [NAME_h]"),
    _row("logging.StreamHandler to the cell", "import logging\nNAME = logging.StreamHandler()", "import sys\nassert NAME.stream is sys.stderr; NAME.emit(logging.makeLogRecord({'msg': 'x'}))"),
    _row("logging.LoggerAdapter", "import logging\nNAME = logging.LoggerAdapter(logging.getLogger('coverage.NAME'), {'k': 1})", "assert NAME.process('m', {})[1] == {'extra': {'k': 1}} and NAME.logger is logging.getLogger('coverage.NAME')"),
    _row("logging.LogRecord and Formatter", "import logging\nNAME = [logging.LogRecord('n', 20, 'p', 1, 'm %s', ('x',), None), logging.Formatter('%(levelname)s: %(message)s')]", "assert NAME[1].format(NAME[0]) == 'INFO: m x'"),
    _row("a handler class of the notebook", "import logging\nclass NAME_H(logging.Handler):\n    def __init__(self): super().__init__(); self.seen = []\n    def emit(self, record): self.seen.append(record.getMessage())\nNAME = NAME_H()",
         "NAME.handle(logging.makeLogRecord({'msg': 'x'})); assert NAME.seen == ['x']"),
)  # fmt: skip

FILES = (
    _row("io.StringIO at its position", "import io\nNAME = io.StringIO('a\\nb\\n'); NAME.readline()", "assert NAME.readline() == 'b\\n'; NAME.write('c'); assert NAME.getvalue() == 'a\\nb\\nc'"),
    _row("io.BytesIO at its position", "import io\nNAME = io.BytesIO(b'abc'); NAME.read(1)", "assert NAME.read() == b'bc' and NAME.tell() == 3"),
    _row("io.TextIOWrapper over BytesIO", "import io\nNAME_raw = io.BytesIO(b'a\\nb\\n'); NAME = io.TextIOWrapper(NAME_raw, 'utf-8'); NAME.readline()", "assert NAME.readline() == 'b\\n' and NAME.encoding == 'utf-8'"),
    _file("file open for reading, in the middle", "b'one\\ntwo\\n'", "NAME = open(NAME_path, encoding='utf-8'); NAME.readline()", "assert NAME.readline() == 'two\\n' and NAME.name == NAME_path and NAME.mode == 'r'; NAME.close()"),
    _file("binary file open for reading", "b'abcdef'", "NAME = open(NAME_path, 'rb'); NAME.read(2)", "assert NAME.read(2) == b'cd' and NAME.seek(0) == 0; NAME.close()"),
    _file("file open for writing", "b''", "NAME = open(NAME_path, 'w'); NAME.write('one\\n'); NAME.flush()", "NAME.write('two\\n'); NAME.close(); assert open(NAME_path).read() == 'one\\ntwo\\n'"),
    _file("file open for appending", "b'old\\n'", "NAME = open(NAME_path, 'a'); NAME.write('one\\n'); NAME.flush()", "NAME.write('two\\n'); NAME.close(); assert open(NAME_path).read() == 'old\\none\\ntwo\\n'"),
    _file("binary file open for update", "b'abcdef'", "NAME = open(NAME_path, 'r+b'); NAME.seek(2)", "NAME.write(b'XY'); NAME.close(); assert open(NAME_path, 'rb').read() == b'abXYef'"),
    _row("file opened with 'x'", "import os, tempfile\nNAME_path = tempfile.mktemp(prefix='coverage-'); NAME = open(NAME_path, 'x'); NAME.write('one'); NAME.flush()",
         "NAME.write('two'); NAME.close(); assert open(NAME_path).read() == 'onetwo'; os.unlink(NAME_path)"),
    _row("closed file", "import os\nNAME = open(os.devnull); NAME.close()", "assert NAME.closed"),
    _named("file that is gone after the death", "import os, tempfile\nNAME_d = tempfile.mkdtemp(); NAME = open(os.path.join(NAME_d, 'x'), 'w'); os.unlink(NAME.name)"),
    _row("tempfile.NamedTemporaryFile", "import tempfile\nNAME = tempfile.NamedTemporaryFile('w+'); NAME.write('one\\n'); NAME.flush()", "NAME.write('two\\n'); NAME.seek(0); assert NAME.read() == 'one\\ntwo\\n'; NAME.close()"),
    _row("tempfile.TemporaryDirectory", "import tempfile\nNAME = tempfile.TemporaryDirectory()", "import os\nassert os.path.isdir(NAME.name); NAME.cleanup(); assert not os.path.exists(NAME.name)"),
    _row("tempfile.SpooledTemporaryFile", "import tempfile\nNAME = tempfile.SpooledTemporaryFile(max_size=100); NAME.write(b'abc'); NAME.seek(1)", "assert NAME.read() == b'bc'"),
    _file("zipfile.ZipFile", "b''", "import zipfile\nwith zipfile.ZipFile(NAME_path, 'w') as NAME_z: NAME_z.writestr('a', 'text')\ndel NAME_z\nNAME = zipfile.ZipFile(NAME_path)", "assert NAME.namelist() == ['a'] and NAME.read('a') == b'text'"),
    _file("tarfile.TarFile", "b''", "import io, tarfile\nwith tarfile.open(NAME_path, 'w') as NAME_t:\n    NAME_i = tarfile.TarInfo('a'); NAME_i.size = 4; NAME_t.addfile(NAME_i, io.BytesIO(b'text'))\ndel NAME_t\nNAME = tarfile.open(NAME_path)",
          "assert NAME.getnames() == ['a'] and NAME.extractfile('a').read() == b'text'"),
    _file("gzip.GzipFile", "b''", "import gzip\nwith gzip.open(NAME_path, 'wb') as NAME_g: NAME_g.write(b'abcdef')\ndel NAME_g\nNAME = gzip.open(NAME_path); NAME.read(2)", "assert NAME.read() == b'cdef'"),
    _row("csv.DictReader over a list", "import csv\nNAME = csv.DictReader(['a,b', '1,2', '3,4']); next(NAME)", "assert next(NAME) == {'a': '3', 'b': '4'} and NAME.fieldnames == ['a', 'b']"),
    _row("csv.reader over a list", "import csv\nNAME = csv.reader(['a;b', '1;2'], delimiter=';'); next(NAME)", "assert next(NAME) == ['1', '2']"),
    _row("csv.writer to a StringIO", "import csv, io\nNAME_out = io.StringIO(); NAME = csv.writer(NAME_out, delimiter=';'); NAME.writerow([1, 2])", "NAME.writerow([3, 4]); assert NAME_out.getvalue() == '1;2\\r\\n3;4\\r\\n'"),
    _row("os.scandir's entries, as paths", "import os, pathlib\nNAME = sorted(p.name for p in pathlib.Path('/').iterdir())", "assert 'tmp' in NAME"),
    _row("os.DirEntry", "import os, tempfile\nNAME_d = tempfile.mkdtemp()\nwith open(os.path.join(NAME_d, 'x'), 'w') as NAME_f: NAME_f.write('abc')\ndel NAME_f\nNAME = next(os.scandir(NAME_d))",
         "assert NAME.name == 'x' and NAME.is_file() and NAME.stat().st_size == 3 and open(NAME).read() == 'abc'"),
    _row("mmap of memory", "import mmap\nNAME = mmap.mmap(-1, 4096); NAME[:3] = b'abc'", "assert NAME[:3] == b'abc' and len(NAME) == 4096; NAME[0] = 122; assert NAME.read(1) == b'z'"),
    _file("mmap of a file", "b'abcdef'", "import mmap\nwith open(NAME_path, 'r+b') as NAME_f: NAME = mmap.mmap(NAME_f.fileno(), 0)\ndel NAME_f", "NAME[:2] = b'XY'; NAME.flush(); NAME.close(); assert open(NAME_path, 'rb').read() == b'XYcdef'"),
    _row("shelve over dbm.dumb", "import dbm.dumb, os, shelve, tempfile\nNAME = shelve.Shelf(dbm.dumb.open(os.path.join(tempfile.mkdtemp(), 's'))); NAME['a'] = [1]", "NAME['b'] = 2; assert NAME['a'] == [1] and NAME['b'] == 2; NAME.close()"),
    _named("pickle.Pickler to a file", "import io, pickle\nNAME = pickle.Pickler(io.BytesIO())", "Pickler"),
)  # fmt: skip

OUTSIDE = (
    _row("sqlite3 connection to :memory:", "import sqlite3\nNAME = sqlite3.connect(':memory:'); NAME.execute('create table t (x)'); NAME.execute('insert into t values (5)'); NAME.commit()",
         "NAME.execute('insert into t values (6)'); assert NAME.execute('select x from t order by x').fetchall() == [(5,), (6,)]"),
    _named("sqlite3 connection to a file", "import os, sqlite3, tempfile\nNAME = sqlite3.connect(os.path.join(tempfile.mkdtemp(), 'db'))", "connection"),
    _row("sqlite3 cursor in the middle of its rows", "import sqlite3\nNAME_c = sqlite3.connect(':memory:'); NAME_c.row_factory = sqlite3.Row; NAME_c.execute('create table t (x, y)'); NAME_c.executemany('insert into t values (?, ?)', [(1, 'a'), (2, b'b'), (3, None)])\nNAME = NAME_c.execute('select x, y as \"a b\" from t order by x'); NAME.fetchone()",
         "assert [d[0] for d in NAME.description] == ['x', 'a b']; NAME_r = NAME.fetchone(); assert NAME_r['a b'] == b'b' and NAME_r['x'] == 2 and tuple(NAME.fetchone()) == (3, None) and NAME.fetchone() is None\nassert NAME.execute('select count(*) from t').fetchone()[0] == 3"),
    _row("sqlite3.Row", "import sqlite3\nNAME_c = sqlite3.connect(':memory:'); NAME_c.row_factory = sqlite3.Row\nNAME = NAME_c.execute('select 1 as a, 2 as \"b c\"').fetchone(); NAME_c.close(); del NAME_c",
         "assert NAME['a'] == 1 and NAME['b c'] == 2 and NAME.keys() == ['a', 'b c'] and tuple(NAME) == (1, 2)"),
    _named("subprocess.Popen", "import subprocess\nNAME = subprocess.Popen(['sleep', '60'])", "it stood for process"),
    _row("subprocess.Popen, ended", "import subprocess\nNAME = subprocess.Popen(['true']); NAME.wait()", "assert NAME.poll() == 0 and NAME.args == ['true']"),
    _row("subprocess.CompletedProcess", "import subprocess\nNAME = subprocess.run(['echo', 'hi'], capture_output=True, text=True)", "assert NAME.stdout == 'hi\\n' and NAME.check_returncode() is None"),
    _named("socket", "import socket\nNAME = socket.socket()", "network connection"),
    _named("ssl.SSLContext", "import ssl\nNAME = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)", "SSLContext"),
    _row("http.client.HTTPConnection, which connects again", "import http.client\nNAME = http.client.HTTPConnection('127.0.0.1', 9)", "assert NAME.host == '127.0.0.1'\ntry: NAME.request('GET', '/')\nexcept ConnectionError: pass"),
    _row("selectors.DefaultSelector that watches nothing", "import selectors\nNAME = selectors.DefaultSelector()",
         "import os\nNAME_r, NAME_w = os.pipe(); NAME.register(NAME_r, selectors.EVENT_READ, 'data'); os.write(NAME_w, b'x'); assert NAME.select(1)[0][0].data == 'data'; NAME.close()"),
    _row("multiprocessing.Value and Array", "import multiprocessing\nNAME = [multiprocessing.Value('i', 3), multiprocessing.Array('d', [1, 2])]",
         "def NAME_f(v, a):\n    with v.get_lock(): v.value += 1\n    a[1] = 7\nNAME_p = multiprocessing.get_context('fork').Process(target=NAME_f, args=NAME); NAME_p.start(); NAME_p.join(8); assert NAME[0].value == 4 and list(NAME[1]) == [1, 7]"),
    _row("multiprocessing.Queue, empty", "import multiprocessing\nNAME = multiprocessing.Queue(3); NAME.put(1); NAME.get()",
         "NAME.put([2]); assert NAME.get(timeout=5) == [2] and NAME.empty(); NAME.close()"),
    _named("multiprocessing.Queue with items on their way", "import multiprocessing\nNAME = multiprocessing.Queue(); NAME.put(1)", "on their way"),
    _row("multiprocessing.Lock and RLock", "import multiprocessing\nNAME = multiprocessing.Lock(); NAME.acquire(); NAME_r = multiprocessing.RLock()",
         "assert NAME.acquire(timeout=1); NAME.release(); assert NAME_r.acquire(timeout=1); NAME_r.release()"),
    _row("multiprocessing.Semaphore and BoundedSemaphore", "import multiprocessing\nNAME = multiprocessing.Semaphore(2); NAME.acquire(); NAME_b = multiprocessing.BoundedSemaphore(2)",
         "assert NAME.get_value() == 1 and NAME.acquire(timeout=1) and not NAME.acquire(timeout=0.01)\ntry: NAME_b.release(); assert False\nexcept ValueError: pass"),
    _row("multiprocessing.Event", "import multiprocessing\nNAME = multiprocessing.Event(); NAME.set()", "assert NAME.wait(1); NAME.clear(); assert not NAME.is_set()"),
    _named("multiprocessing.Pool", "import multiprocessing\nNAME = multiprocessing.get_context('spawn').Pool(1)", "process"),
    _row("multiprocessing.Process, not begun", "import multiprocessing\nNAME = multiprocessing.Process(target=len, args=('abc',), name='n')", "NAME.start(); NAME.join(8); assert NAME.exitcode == 0 and NAME.name == 'n'"),
    _named("multiprocessing.Process, running", "import multiprocessing, time\nNAME = multiprocessing.Process(target=time.sleep, args=(600,), daemon=True); NAME.start()", "process"),
    _named("multiprocessing.Pipe", "import multiprocessing\nNAME, NAME_other = multiprocessing.Pipe()"),
    _named("multiprocessing.shared_memory", "from multiprocessing import shared_memory\nNAME = shared_memory.SharedMemory(create=True, size=16)", "shared memory"),
    _row("contextlib.ExitStack with callbacks", "import contextlib\nNAME_ran = []; NAME = contextlib.ExitStack(); NAME.callback(NAME_ran.append, 1); NAME.push(lambda *e: NAME_ran.append(2))",
         "NAME.close(); assert NAME_ran == [2, 1]"),
    _row("contextlib.contextmanager's function", "import contextlib\n@contextlib.contextmanager\ndef NAME(x):\n    yield x + 1", "with NAME(1) as NAME_x: assert NAME_x == 2"),
    _named("contextlib.contextmanager, entered", "import contextlib\n@contextlib.contextmanager\ndef NAME_f(): yield 1\nNAME = NAME_f(); NAME.__enter__()", "entered"),
    _row("contextlib.suppress, nullcontext, closing", "import contextlib, io\nNAME = [contextlib.suppress(KeyError), contextlib.nullcontext(3), contextlib.closing(io.StringIO('x'))]",
         "with NAME[0]: {}['x']\nwith NAME[1] as NAME_x: assert NAME_x == 3\nwith NAME[2] as NAME_s: assert NAME_s.read() == 'x'\nassert NAME_s.closed"),
    _row("contextlib.redirect_stdout", "import contextlib, io\nNAME_out = io.StringIO(); NAME = contextlib.redirect_stdout(NAME_out)", "with NAME: print('hi')\nassert NAME_out.getvalue() == 'hi\\n'"),
    _row("sys.stdout as a value", "import sys\nNAME = {'out': sys.stdout, 'err': sys.stderr}", "assert NAME['out'] is sys.stdout and NAME['err'] is sys.stderr"),
    _row("signal handler function and exit registration", "import atexit, signal\ndef NAME(number, frame): return number", "assert NAME(3, None) == 3"),
)  # fmt: skip

ROWS = (*LOCKS, *ASYNC, *WEAK, *LOGGING, *FILES, *OUTSIDE)
