"""Locks, queues, pools, databases, connections and parts of objects: what comes back, and how."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from notebook_namespace import Notebook, load

from checkpoint_kernel import pickling, units
from checkpoint_kernel.stub import NotBackError, Stub

pytestmark = pytest.mark.unit


def made(cell: str) -> Notebook:
    notebook = Notebook()
    notebook.run(cell)
    return notebook


def again(cell: str) -> dict[str, Any]:
    """The namespace after a cell, saved and loaded twice."""
    partition = made(cell).partition()
    assert partition.skipped == []
    assert partition.partly == []
    second = load(partition).partition()
    assert second.skipped == []
    return load(second).main


def skipped(cell: str) -> dict[str, Any]:
    return {one.name: one for one in made(cell).partition().skipped}


class TestThreads:
    @pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "BoundedSemaphore"])
    def test_a_lock_comes_back_unlocked(self, kind: str) -> None:
        back = again(f"import threading\nx = threading.{kind}()\ny = [x, x]")
        assert back["x"].acquire(timeout=1)
        back["x"].release()
        assert back["y"][0] is back["x"]

    def test_a_lock_that_is_held_comes_back_unlocked(self) -> None:
        back = again("import threading\nx = threading.Lock(); x.acquire()")
        assert not back["x"].locked()

    def test_a_semaphore_keeps_its_value(self) -> None:
        back = again("import threading\nx = threading.Semaphore(2); x.acquire()")
        assert [back["x"].acquire(timeout=0.01) for _ in range(2)] == [True, False]

    def test_a_condition_keeps_the_lock_that_others_have(self) -> None:
        back = again(
            "import threading\nlock = threading.Lock()\n"
            "class Mine(threading.Condition): pass\n"
            "conditions = [threading.Condition(lock), Mine(lock), threading.Condition()]\n"
            "conditions[1].note = 'kept'"
        )
        first, mine, own = back["conditions"]
        with first:
            assert back["lock"].locked()
            first.notify_all()
        assert type(mine) is back["Mine"]
        assert (mine.note, mine._lock) == ("kept", back["lock"])
        with own, own:
            assert own.wait(0.01) is False

    def test_an_event_keeps_its_flag(self) -> None:
        back = again("import threading\nx = threading.Event(); x.set(); y = threading.Event()")
        assert (back["x"].wait(1), back["y"].is_set()) == (True, False)

    def test_a_barrier_can_be_passed(self) -> None:
        back = again("import threading\nx = threading.Barrier(1)")
        assert back["x"].wait(1) == 0

    def test_a_local_keeps_this_threads_values(self) -> None:
        back = again("import threading\nx = threading.local(); x.a = [1]")
        assert back["x"].a == [1]

    @pytest.mark.parametrize("kind", ["Queue", "LifoQueue", "PriorityQueue", "SimpleQueue"])
    def test_a_queue_keeps_its_items(self, kind: str) -> None:
        back = again(f"import queue\nx = queue.{kind}()\nfor i in (2, 1, 3): x.put([i])")
        order = {"LifoQueue": [3, 1, 2], "PriorityQueue": [1, 2, 3]}.get(kind, [2, 1, 3])
        assert [back["x"].get(timeout=1)[0] for _ in range(3)] == order
        assert back["x"].empty()

    def test_saving_a_queue_leaves_its_items_there(self) -> None:
        notebook = made("import queue\nx = queue.SimpleQueue(); x.put(1); x.put(2)")
        notebook.partition()
        assert [notebook.main["x"].get() for _ in range(2)] == [1, 2]

    def test_a_thread_that_has_not_begun_can_be_started(self) -> None:
        back = again(
            "import threading\nfound = []\n"
            "x = threading.Thread(target=found.append, args=(1,), name='n', daemon=True)"
        )
        back["x"].start()
        back["x"].join(5)
        assert (back["found"], back["x"].name, back["x"].daemon) == ([1], "n", True)

    def test_a_thread_that_is_over_is_over(self) -> None:
        back = again("import threading\nx = threading.Thread(name='n'); x.start(); x.join()")
        back["x"].join(1)
        assert (back["x"].is_alive(), back["x"].name, back["x"].ident is None) == (
            False, "n", False,
        )  # fmt: skip

    def test_a_thread_that_runs_is_named(self) -> None:
        notebook = made(
            "import threading\nend = threading.Event()\n"
            "x = threading.Thread(target=end.wait, name='worker'); x.start()"
        )
        try:
            reasons = {one.name: one.reason for one in notebook.partition().skipped}
            assert "thread 'worker' ends with its process" in reasons["x"]
        finally:
            notebook.main["end"].set()
            notebook.main["x"].join()


class TestAsyncio:
    def test_its_primitives_come_back_without_waiters(self) -> None:
        back = again(
            "import asyncio\n"
            "async def use():\n"
            "    lock, event, queue = asyncio.Lock(), asyncio.Event(), asyncio.Queue()\n"
            "    await lock.acquire(); event.set(); queue.put_nowait('item')\n"
            "    condition, semaphore = asyncio.Condition(), asyncio.Semaphore(2)\n"
            "    waiting = asyncio.ensure_future(lock.acquire())\n"
            "    getting = asyncio.ensure_future(asyncio.Queue().get())\n"
            "    await asyncio.sleep(0); waiting.cancel(); getting.cancel()\n"
            "    return [lock, event, queue, condition, semaphore]\n"
            "found = asyncio.run(use())"
        )
        import asyncio

        async def use() -> list[Any]:
            lock, event, queue, condition, semaphore = back["found"]
            async with lock, semaphore, condition:
                condition.notify_all()
                return [await queue.get(), event.is_set()]

        assert asyncio.run(asyncio.wait_for(use(), 5)) == ["item", True]


class TestWork:
    def test_a_future_that_is_done_has_its_result(self) -> None:
        back = again(
            "from concurrent.futures import Future, ThreadPoolExecutor\n"
            "with ThreadPoolExecutor(2) as pool: x = pool.submit(sum, [1, 2]); x.result()\n"
            "y = Future(); y.set_exception(ValueError('no'))"
        )
        assert back["x"].result(timeout=1) == 3
        assert isinstance(back["y"].exception(timeout=1), ValueError)

    def test_a_future_that_is_not_done_is_named_and_no_trap(self) -> None:
        notebook = made("from concurrent.futures import Future\nx = Future(); y = {'f': x}")
        partition = notebook.partition()
        assert [one.name for one in partition.skipped] == ["x"]
        assert [(one.name, one.type) for one in partition.partly] == [("y", "concurrent.Future")]
        with pytest.raises(NotBackError, match="whoever would complete it"):
            load(partition).main["y"]["f"].result()

    def test_pools_without_work_come_back_new(self) -> None:
        back = again(
            "from concurrent.futures import ThreadPoolExecutor, ProcessPoolExecutor\n"
            "x = ThreadPoolExecutor(3, 'mine'); x.submit(int).result()\n"
            "y = ThreadPoolExecutor(1); y.shutdown()\nz = ProcessPoolExecutor(2)\n"
            "import time\n"
            "while x._idle_semaphore._value < len(x._threads): time.sleep(0.01)"
        )
        assert back["x"].submit(sum, [1, 2]).result(timeout=5) == 3
        assert (back["x"]._max_workers, back["z"]._max_workers) == (3, 2)
        with pytest.raises(RuntimeError, match="after shutdown"):
            back["y"].submit(int)
        back["x"].shutdown()

    def test_a_pool_at_work_is_named(self) -> None:
        notebook = made(
            "import threading\nfrom concurrent.futures import ThreadPoolExecutor\n"
            "end = threading.Event(); x = ThreadPoolExecutor(1); f = x.submit(end.wait)"
        )
        try:
            reasons = {one.name: one.reason for one in notebook.partition().skipped}
            assert "it has work that ends with the process" in reasons["x"]
        finally:
            notebook.main["end"].set()
            notebook.main["x"].shutdown()

    def test_a_process_that_has_ended_keeps_what_it_said(self) -> None:
        back = again(
            "import subprocess, sys\n"
            "x = subprocess.Popen([sys.executable, '-c', 'exit(3)']); x.wait()\n"
            "y = subprocess.run(['echo', 'hi'], capture_output=True, text=True)"
        )
        assert (back["x"].returncode, back["x"].poll(), back["x"].args[0]) == (3, 3, sys.executable)
        assert back["y"].stdout == "hi\n"

    def test_a_process_that_runs_is_a_stub_that_tells_how_to_start_it(self) -> None:
        notebook = made("import subprocess\nx = subprocess.Popen(['sleep', '60'])")
        running: subprocess.Popen[bytes] = notebook.main["x"]
        try:
            (one,) = notebook.partition().skipped
            assert f"process {running.pid}" in one.reason
            assert one.remedy == "start it again: subprocess.Popen(['sleep', '60'])"
            assert one.stub
        finally:
            running.kill()
            running.wait()


class TestSqlite:
    def test_a_database_in_memory_comes_back_with_its_content_and_settings(self) -> None:
        back = again(
            "import sqlite3, datetime\n"
            "sqlite3.register_converter('flag', lambda raw: raw == b'1')\n"
            "x = sqlite3.connect(':memory:', detect_types=sqlite3.PARSE_DECLTYPES)\n"
            "x.executescript('create table t (a, b flag); insert into t values (1, 1)')\n"
            "x.row_factory = sqlite3.Row; x.isolation_level = None\n"
            "x.execute('attach \\':memory:\\' as other'); x.execute('create table other.u (c)')\n"
            "rows = x.execute('select * from t').fetchall()\n"
            "app = {'db': x}; cursor = x.cursor(); cursor.execute('insert into u values (5)')"
        )
        assert dict(back["rows"][0]) == {"a": 1, "b": True}
        row = back["x"].execute("select * from t").fetchone()
        assert (row["a"], row["b"]) == (1, True)
        assert back["app"]["db"] is back["x"]
        assert back["x"].isolation_level is None
        assert back["cursor"].execute("select c from u").fetchone()[0] == 5

    def test_a_function_that_was_registered_is_named(self) -> None:
        notebook = made(
            "import sqlite3\nx = sqlite3.connect(':memory:')\n"
            "x.create_function('twice', 1, lambda v: 2 * v)\nx.execute('create table t (a)')"
        )
        partition = notebook.partition()
        (one,) = partition.partly
        assert (one.name, one.type) == ("x", "SQL function")
        assert one.reason.startswith("twice cannot be read")
        assert load(partition).main["x"].execute("select * from t").fetchall() == []

    def test_a_database_on_disk_is_a_stub_that_tells_how_to_connect(self, tmp_path: Any) -> None:
        path = str(tmp_path / "app.db")
        notebook = made(f"import sqlite3\nx = sqlite3.connect({path!r})\napp = [x, 1]")
        partition = notebook.partition()
        (one,) = partition.skipped
        assert (one.stub, one.remedy) == (True, f"sqlite3.connect({path!r})")
        app = load(partition).main["app"]
        with pytest.raises(NotBackError, match=r"sqlite3.connect\('/"):
            app[0].execute("select 1")
        assert app[1] == 1

    def test_a_closed_connection_is_closed(self) -> None:
        back = again("import sqlite3\nx = sqlite3.connect(':memory:'); x.close()")
        with pytest.raises(Exception, match="closed database"):
            back["x"].execute("select 1")


class TestConnections:
    def test_a_socket_is_a_stub_that_tells_its_peer(self) -> None:
        notebook = made(
            "import socket\nserver = socket.create_server(('127.0.0.1', 0))\n"
            "x = socket.create_connection(server.getsockname())"
        )
        found = {one.name: one for one in notebook.partition().skipped}
        port = notebook.main["server"].getsockname()[1]
        assert found["x"].stub
        assert found["x"].remedy == (
            f"connect again: socket.create_connection(('127.0.0.1', {port}))"
        )
        assert f"at ('127.0.0.1', {port})" in found["server"].reason
        notebook.main["x"].close()
        notebook.main["server"].close()

    def test_a_drivers_connection_is_known_by_its_methods(self) -> None:
        driver = (
            "import sys, types\nmodule = types.ModuleType('driver')\n"
            "exec('class Connection:\\n'\n"
            "     '    def cursor(self): ...\\n'\n"
            "     '    commit = rollback = close = cursor', module.__dict__)\n"
            "sys.modules['driver'] = module\nx = module.Connection()\ndel module"
        )
        try:
            (one,) = skipped(driver).values()
            assert (one.stub, one.type, one.remedy) == (
                True, "driver.Connection", "connect again"
            )  # fmt: skip
        finally:
            del sys.modules["driver"]

    def test_an_http_connection_connects_by_itself(self) -> None:
        back = again("import http.client\nx = http.client.HTTPConnection('localhost', 81)")
        assert (back["x"].host, back["x"].port, back["x"].sock) == ("localhost", 81, None)

    def test_a_digest_is_named_with_what_to_do(self) -> None:
        (one,) = skipped("import hashlib\nx = hashlib.sha256(b'a')").values()
        assert (one.remedy, one.stub) == ("hash the data again", False)


class TestPartsOfObjects:
    def test_a_part_that_cannot_be_saved_is_a_stub_and_the_variable_is_named(self) -> None:
        notebook = made(
            "class Trainer:\n    pass\n"
            "trainer = Trainer(); trainer.epoch = 3; trainer.rows = (i for i in range(3))\n"
            "next(trainer.rows); trainer.same = trainer.rows"
        )
        partition = notebook.partition()
        assert partition.skipped == []
        (one,) = partition.partly
        assert (one.name, one.type) == ("trainer", "generator")
        assert "position is inside running code" in one.reason
        trainer = load(partition).main["trainer"]
        assert trainer.epoch == 3
        assert trainer.rows is trainer.same
        with pytest.raises(NotBackError, match="this was a generator"):
            next(trainer.rows)

    def test_it_is_named_again_when_it_is_saved_again(self) -> None:
        first = made(
            "x = [i for i in range(2)]; y = {'g': (i for i in x)}; next(y['g'])"
        ).partition()
        second = load(first).partition()
        assert second.partly == first.partly
        assert isinstance(load(second).main["y"]["g"], Stub)

    def test_a_variable_that_is_a_stub_stays_one(self) -> None:
        notebook = Notebook()
        notebook.main["x"] = Stub("sqlite3.Connection", "it ends", "sqlite3.connect('a')")
        (one,) = notebook.partition().skipped
        assert (one.name, one.type, one.reason, one.remedy, one.stub) == (
            "x", "sqlite3.Connection", "it ends", "sqlite3.connect('a')", True,
        )  # fmt: skip

    def test_a_stub_of_what_a_checkpoint_still_has_is_named_as_a_part(self) -> None:
        notebook = Notebook()
        notebook.main["w"] = [Stub("vanish.V", "it is gone", "try again", "20260101-1")]
        partition = notebook.partition()
        assert partition.skipped == []
        (one,) = partition.partly
        assert (one.name, one.type, one.reason, one.remedy) == (
            "w", "vanish.V", "it is gone", "try again",
        )  # fmt: skip
        again = load(partition)
        assert again.main["w"][0]._stub_checkpoint == "20260101-1"
        assert again.partition().partly == partition.partly

    def test_a_closure_and_a_default_may_hold_a_stub(self) -> None:
        notebook = made(
            "def outer():\n    g = (i for i in range(3)); next(g)\n    return lambda: next(g)\n"
            "f = outer()\ng = (i for i in range(3)); next(g)\n"
            "def h(g=g, x=1): return x\ndel g"
        )
        partition = notebook.partition()
        assert sorted(one.name for one in partition.partly) == ["f", "h"]
        back = load(partition).main
        assert back["h"]() == 1
        with pytest.raises(NotBackError):
            back["f"]()

    def test_a_class_may_have_a_lock_and_hold_a_stub(self) -> None:
        notebook = made(
            "import threading\nclass C:\n    lock = threading.Lock()\n"
            "    ticks = (i for i in range(3)); next(ticks)\nc = C()"
        )
        partition = notebook.partition()
        assert [one.name for one in partition.partly] == ["C"]
        back = load(partition).main
        with back["C"].lock:
            assert type(back["c"]) is back["C"]

    def test_of_variables_that_share_only_the_one_with_the_part_is_named(self) -> None:
        notebook = made("shared = []\na = [shared]\nb = [shared, (i for i in a)]; next(b[1])")
        for together in ((), [("a", "b", "shared")]):
            partition = units.partition(
                notebook.variables, notebook.main, {}, lambda _: None, together=together
            )
            assert [one.name for one in partition.partly] == ["b"]
            back = load(partition).main
            assert back["b"][0] is back["a"][0]

    def test_what_uses_its_part_at_once_is_not_saved_and_named(self) -> None:
        found = skipped("x = {'rows': map(str, (i for i in range(3)))}; next(x['rows']); good = 1")
        assert found.keys() == {"x"}
        assert found["x"].reason.startswith("it holds a generator, which cannot be saved")

    def test_a_large_one_is_tried_once_and_not_while_the_user_waits(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(units, "_TRIED_BYTES", 0)
        tried: list[bool] = []
        monkeypatch.setattr(pickling, "try_to_load", lambda *_: tried.append(True))
        notebook = made("x = [(i for i in [1])]; next(x[0])")

        def partition(**how: Any) -> units.Partition:
            return units.partition(notebook.variables, notebook.main, {}, lambda _: None, **how)

        first = partition()
        assert (tried, first.skipped) == ([True], [])
        known = {(one.name, one.type) for one in first.partly}
        assert partition(tried=known).partly == first.partly
        assert tried == [True]
        waiting = partition(interruptible=True)
        assert [one.reason.split(",")[0] for one in waiting.skipped] == ["it holds a generator"]
        assert tried == [True]

    def test_an_object_of_a_c_type_that_cannot_be_pickled_costs_itself_only(self) -> None:
        notebook = made("import zlib\nx = {'z': zlib.compressobj(), 'n': 1}; z = x['z']")
        partition = notebook.partition()
        assert [(s.name, s.type) for s in partition.skipped] == [("z", "zlib.Compress")]
        assert "a state that pickle cannot reach" in partition.skipped[0].reason
        assert [one.name for one in partition.partly] == ["x"]
        assert load(partition).main["x"]["n"] == 1

    def test_a_unit_with_a_lock_or_a_stub_is_always_looked_at(self) -> None:
        notebook = made("import threading\na = [threading.Lock()]; b = [(i for i in [])]; c = [1]")
        closed = {name: d.closed for d in notebook.partition().units for name in d.root}
        assert (closed["a"], closed["b"], closed["c"]) == (False, False, True)
