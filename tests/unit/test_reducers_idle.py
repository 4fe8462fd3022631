"""Generators, loops, processes, pointers, contexts: back if they have not begun, named if so."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from typing import Any

import pytest
from test_reducers_standard import again, skipped

pytestmark = pytest.mark.unit


class TestCodeThatHasNotBegun:
    def test_a_generator_has_its_arguments_of_every_kind(self) -> None:
        back = again(
            "def g(a, b=2, /, *c, d, **e):\n    def inner(): return a\n"
            "    yield a, b, c, d, e, inner()\nx = g([1], d=3, z=4); y = x"
        )
        assert back["y"] is back["x"]
        assert next(back["x"]) == ([1], 2, (), 3, {"z": 4}, [1])

    def test_it_shares_its_closure_and_its_source(self) -> None:
        back = again(
            "def f():\n    rows = [1]\n    def g(): yield rows\n    return g(), rows\n"
            "x, rows = f(); source = [1]; y = (2 * n for n in source)"
        )
        assert next(back["x"]) is back["rows"]
        back["source"].append(5)
        assert list(back["y"]) == [2, 10]

    def test_a_coroutine_and_an_asynchronous_generator(self) -> None:
        back = again(
            "import warnings; warnings.simplefilter('ignore')\n"
            "async def c(a): return a\nasync def g(a):\n    yield a\nx, y = c(5), g(6)"
        )

        async def both() -> Any:
            return await back["x"], [one async for one in back["y"]]

        assert asyncio.run(both()) == (5, [6])

    @pytest.mark.parametrize(
        "cell",
        [
            "def g():\n    yield 1\nx = g(); next(x)",
            "def g():\n    yield 1\nx = g(); list(x)",
            "async def g():\n    yield 1\nx = g()\n"
            "try: x.asend(None).send(None)\nexcept StopIteration: pass",
            "async def c(): pass\nx = c(); x.close()",
            "import asyncio\nx = asyncio.new_event_loop(); x.call_soon(print)",
        ],
    )
    def test_what_has_begun_is_named(self, cell: str) -> None:
        (one,) = skipped(cell).values()
        assert "its position is inside running code" in one.reason


class TestMultiprocessing:
    def test_locks_are_free_and_semaphores_keep_their_value(self) -> None:
        back = again(
            "import multiprocessing as m\nlock = m.Lock(); lock.acquire(); same = lock\n"
            "s = m.BoundedSemaphore(3); s.acquire(); e = m.Event(); e.set()\n"
            "spawned = m.get_context('spawn').Semaphore(2)"
        )
        assert back["same"] is back["lock"]
        assert back["lock"].acquire(timeout=1)
        assert (back["s"].get_value(), back["e"].is_set()) == (2, True)
        back["s"].release()
        with pytest.raises(ValueError, match="semaphore"):
            back["s"].release()
        assert back["spawned"]._semlock.name is not None

    def test_a_value_and_an_array_are_shared_under_their_lock(self) -> None:
        back = again(
            "import multiprocessing as m\nlock = m.RLock(); v = m.Value('i', 3, lock=lock)\n"
            "a = m.Array('d', [1, 2])"
        )
        assert back["v"].get_lock() is back["lock"]
        back["v"].value += 1
        back["a"][1] = 7
        assert (back["v"].value, list(back["a"])) == (4, [1, 7])

    def test_an_empty_queue_is_new_and_one_with_items_is_named(self) -> None:
        back = again("import multiprocessing as m\nx = m.Queue(4)")
        assert back["x"]._maxsize == 4
        (one,) = skipped("import multiprocessing as m\nx = m.Queue(); x.put(1)").values()
        assert "on their way to processes" in one.reason

    def test_a_process_that_has_not_begun(self) -> None:
        back = again(
            "import multiprocessing as m\nx = m.Process(target=len, args=('a',), name='n')"
        )
        assert (back["x"].name, back["x"].is_alive(), back["x"]._args) == ("n", False, ("a",))


class TestPlaces:
    def test_a_pointer_leads_to_its_object_or_nowhere(self) -> None:
        back = again(
            "import ctypes\nt = ctypes.c_int(9); p = ctypes.pointer(t)\n"
            "n = ctypes.POINTER(ctypes.c_int)()"
        )
        back["p"].contents.value = 8
        assert (back["t"].value, bool(back["n"])) == (8, False)

    def test_a_pointer_that_was_cast_is_named(self) -> None:
        cell = "import ctypes\nx = ctypes.cast((ctypes.c_int * 3)(), ctypes.POINTER(ctypes.c_int))"
        assert "cannot be told" in skipped(cell)["x"].reason

    def test_a_context_has_values_that_its_variables_do_not(self) -> None:
        back = again(
            "import contextvars\nv = contextvars.ContextVar('v'); w = contextvars.ContextVar('w')\n"
            "c = contextvars.Context(); c.run(v.set, [3])"
        )
        assert back["c"].run(back["v"].get) == [3]
        assert back["w"] not in back["c"]

    def test_a_variable_that_a_library_has_stays_that_one(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        library = type(sys)("library_with_a_variable")
        monkeypatch.setitem(sys.modules, library.__name__, library)
        vars(library)["variable"] = contextvars.ContextVar("variable")
        back = again("import library_with_a_variable\nx = library_with_a_variable.variable")
        assert back["x"] is vars(library)["variable"]

    def test_an_entry_of_a_directory(self, tmp_path: Any) -> None:
        (tmp_path / "a.txt").write_text("abc")
        back = again(f"import os\nx = next(os.scandir({str(tmp_path)!r}))")
        assert (back["x"].name, back["x"].stat().st_size) == ("a.txt", 3)
