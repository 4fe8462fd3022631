"""What code may have touched since the newest checkpoint, whatever goes wrong while it is read;
and which units are carried over because of it, however many there are."""

from __future__ import annotations

import functools
import sys
import threading
import time
import types
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from incremental import Incremental

from checkpoint_kernel import namespace, snapshot, unchanged
from checkpoint_kernel.manifest import Unit
from checkpoint_kernel.safe_point import IDLE
from checkpoint_kernel.touched import Touched, by_python, by_text
from checkpoint_kernel.unchanged import Known, Newest, Touches

pytestmark = pytest.mark.unit


@pytest.fixture
def touches() -> Touches:
    """After a cell."""
    touches = Touches()
    touches.begin("rows.append(1)")
    touches.becomes("rows.append(1)", "rows.append(1)\n")
    touches.end()
    return touches


def fail_once(monkeypatch: pytest.MonkeyPatch, why: BaseException) -> None:
    """Reading a text with `rows` in it raises, the first time."""
    failures = [why]

    def failing(read: Any) -> Any:
        def reading(text: str) -> Touched:
            if "rows" in text and failures:
                raise failures.pop()
            return read(text)

        return reading

    monkeypatch.setattr(unchanged, "by_text", failing(by_text))
    monkeypatch.setattr(unchanged, "by_python", failing(by_python))


class TestReading:
    def test_a_ctrl_c_loses_no_text(
        self, touches: Touches, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fail_once(monkeypatch, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            touches.taken()
        touches.add("z = 1")
        assert touches.taken().names >= {"rows", "z"}

    @pytest.mark.parametrize("why", [ValueError("x"), RecursionError(), MemoryError()])
    def test_a_text_that_cannot_be_read_may_have_touched_everything_and_is_read_again(
        self, touches: Touches, monkeypatch: pytest.MonkeyPatch, why: Exception
    ) -> None:
        fail_once(monkeypatch, why)
        touches.add("z = 1")
        taken = touches.taken()
        assert taken.blind is not None
        assert not taken.lasting
        assert "z" in taken.names
        touches.committed()
        assert touches.taken().names == {"rows", "append"}
        touches.committed()
        assert touches.taken() == Touched()

    def test_a_text_that_never_can_be_read_may_touch_everything_for_ever(
        self, touches: Touches, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        touches.add("deep" + ".x" * 20_000)
        for _ in range(3):
            assert touches.taken().blind is not None
            touches.committed()

    def test_a_cell_counts_before_and_after_a_fork_in_it(self) -> None:
        touches = Touches()
        touches.begin("rows")
        assert "rows" in touches.taken().names
        touches.committed()
        touches.end()
        assert "rows" in touches.taken().names
        touches.committed()
        assert "rows" not in touches.taken().names

    def test_what_failed_to_be_saved_is_still_touched(self, touches: Touches) -> None:
        assert "rows" in touches.taken().names
        assert "rows" in touches.taken().names

    def test_a_ctrl_c_while_a_cell_is_transformed_loses_no_text(self) -> None:
        """The hook that tells of it swallows Ctrl-C, and the cell begins."""

        class Interrupting(list[Any]):
            def append(self, one: Any) -> None:
                raise KeyboardInterrupt

        touches = Touches()
        touches.begin("rows.append(1)")
        touches._since = Interrupting(touches._since)
        with pytest.raises(KeyboardInterrupt):
            touches.becomes("rows.append(1)", "rows.append(1)\n")
        touches.end()
        assert "rows" in touches.taken().names


# --- which units are carried over ---------------------------------------------------------

VALUES = [object() for _ in range(3)]
NAMES = ["a", "b", "c", "_1", "Out[1]", "Out[2]", "Out[True]", "Out[-1]", "#d-1"]
IDENTITIES = st.sampled_from([id(value) for value in (*VALUES, None)])


def known_unit(closed: bool, identities: dict[str, int], needs: dict[str, int]) -> Known:
    names = tuple(sorted(identities))
    unit = Unit(id=f"var:{names}", kind="data", names=names, codec="", payload="", size_bytes=0)
    return Known(unit, closed, identities, needs, ())


def bindings(most: int) -> st.SearchStrategy[dict[str, int]]:
    return st.dictionaries(st.sampled_from(NAMES), IDENTITIES, max_size=most)


def one_by_one(
    everything: list[Known], touched: Touched, identity: Callable[[str], int | None]
) -> list[Known]:
    """What `Newest.unchanged` is to find, in plain words."""
    words = touched.names | touched.later
    outputs = not words.isdisjoint(["_", "__", "___", "Out", "_oh"])

    def is_touched(name: str) -> bool:
        if name.startswith("Out["):
            return outputs or f"_{name[4:-1]}" in words
        return name in words

    return [
        known
        for known in everything
        if touched.blind is None
        and known.closed
        and not any(map(is_touched, known.identities))
        and all(identity(name) == oid for name, oid in known.identities.items())
        and all(identity(k) == oid and not k.startswith("#") for k, oid in known.needs.items())
    ]


class TestCarriedOver:
    @given(
        everything=st.lists(st.builds(known_unit, st.booleans(), bindings(3), bindings(2))),
        variables=st.dictionaries(
            st.sampled_from(["a", "b", "c", "_1"]), st.sampled_from([*VALUES, None])
        ),
        outputs=st.one_of(
            st.none(),
            st.just("no dict"),
            st.dictionaries(st.sampled_from([1, 2, -1]), st.sampled_from([*VALUES, None])),
        ),
        words=st.sets(st.sampled_from(["a", "c", "Out", "_", "_1", "_2", "other"])),
        later=st.sets(st.sampled_from(["b", "_2"])),
        blind=st.sampled_from([None, None, None, "a reason"]),
    )
    def test_is_what_looking_at_each_would_find(
        self, everything: list[Known], variables: dict[str, Any], outputs: Any,
        words: set[str], later: set[str], blind: str | None,
    ) -> None:  # fmt: skip
        live = variables if outputs is None else {**variables, "_oh": outputs}
        touched = Touched(frozenset(words), frozenset(later), blind)
        look_up = functools.partial(namespace.identities, live)
        plain = live if isinstance(outputs, dict) else variables
        expected = one_by_one(everything, touched, lambda n: namespace.identity(plain, n))
        assert Newest(everything).unchanged(touched, look_up) == expected

    def test_a_variable_that_was_none_and_is_gone_is_not(self) -> None:
        newest = Newest([known_unit(True, {"a": id(None)}, {})])
        assert newest.unchanged(Touched(), lambda *_: [id(None)])
        assert not newest.unchanged(Touched(), functools.partial(namespace.identities, {}))


class TestManyVariables:
    """While it is decided what is carried over, the user waits."""

    def kernel(self, tmp_path: Path, number: int) -> Incremental:
        kernel = Incremental(tmp_path / str(number))
        kernel.run(f"for i in range({number}): globals()['v' + str(i)] = [i]\nx = [1]; 'shown'")
        kernel.take()
        kernel.run("x.append(2)")
        assert len(kernel.carried(kernel.take())) > number
        kernel.run("x.append(3)")
        return kernel

    def test_no_line_of_python_runs_for_each(self, tmp_path: Path) -> None:
        def lines_of_one_look(number: int) -> int:
            checkpointer = self.kernel(tmp_path, number).checkpointer
            live = checkpointer._shell.user_ns
            lines = 0

            def count(_frame: types.FrameType, event: str, _arg: Any) -> Any:
                nonlocal lines
                lines += event == "line"
                return count

            before = sys.gettrace()
            sys.settrace(count)
            try:
                proved = checkpointer.carry_over.proved(live)
            finally:
                sys.settrace(before)
            assert len(proved.units) > number
            return lines

        assert lines_of_one_look(500) < lines_of_one_look(20) + 100

    @pytest.mark.skipif(snapshot.available() is not None, reason="no snapshot process")
    def test_those_carried_over_are_not_freed_at_the_next_fork(self, tmp_path: Path) -> None:
        checkpointer = self.kernel(tmp_path, 20).checkpointer
        assert checkpointer.take("cell", IDLE)
        assert checkpointer.finish(time.monotonic() + 30)
        carried = checkpointer.settled.carried_units
        assert carried is not None
        assert carried > 20
        assert checkpointer._facts is not None
        assert checkpointer._facts.proved.units == ()


@pytest.mark.skipif(snapshot.available() is not None, reason="no snapshot process")
def test_what_running_functions_hold_is_not_kept_when_they_end(tmp_path: Path) -> None:
    class Large:
        pass

    kernel = Incremental(tmp_path)
    checkpointer = kernel.checkpointer

    def takes() -> None:
        assert checkpointer.take("mid-cell", replace(IDLE, frames=(sys._getframe(1),)))

    def function() -> weakref.ref[Large]:
        large = Large()
        takes()
        return weakref.ref(large)

    gone = function()
    assert gone() is None, "while the snapshot process is at work"
    assert checkpointer.finish(time.monotonic() + 30)


def test_a_cell_does_not_wait_while_another_thread_settles(tmp_path: Path) -> None:
    kernel = Incremental(tmp_path)
    kernel.run("x = 1")
    checkpointer = kernel.checkpointer
    settling, over = threading.Event(), threading.Event()

    def settles() -> None:
        with checkpointer._lock:
            settling.set()
            over.wait(30)

    thread = threading.Thread(target=settles)
    thread.start()
    settling.wait()
    assert not checkpointer.watch(waits=False)
    assert not checkpointer.take("cell", IDLE, waits=False)
    assert checkpointer.stale_since is not None, "it is taken later"
    over.set()
    thread.join()
    assert checkpointer.watch(waits=False)
