"""What a client is told of a cell that runs: where it is, and whether it moves; never a guess."""

from __future__ import annotations

import sys
import threading
import traceback

from checkpoint_kernel import doing, stacks
from checkpoint_kernel.flight_recorder import Flight
from checkpoint_kernel.kernel import _as_numbered
from checkpoint_kernel.progress import Progress

NOW = 1_000_000.0
BUSY = Flight(
    state="busy", execution_count=7, cell_source="x = 1\nfit(x)", cell_started=NOW - 312,
    line=2, moved=NOW - 100,
)  # fmt: skip


def words(flight: Flight = BUSY, cpu_s: float = 0.0) -> str:
    return doing.in_words(flight, [], NOW, 3 << 30, cpu_s, "8G")


def test_cell_line_and_memory_are_told() -> None:
    assert "In[7] has been running for 5 min, since " in words()
    assert "it is at line 2 (`fit(x)`)" in words()
    assert "Memory: 3.0 GB of the limit 8G." in words()


def test_working_and_waiting_are_told_apart_by_processor_time() -> None:
    assert "at the same place for 100 s, with 0.0 s of processor time: it waits" in words()
    assert "it works, in one long call or in a short loop" in words(cpu_s=99)
    assert "it works now and then" in words(cpu_s=20)
    assert "It is not ended for that" in words()


def test_a_cell_that_moves_is_said_to_move_and_one_just_begun_is_not_known() -> None:
    assert "It moves" in words(Flight(**{**vars(BUSY), "moved": NOW - 0.3}))
    assert "not known yet" in words(Flight(**{**vars(BUSY), "moved": None}))


def test_an_idle_kernel_is_idle() -> None:
    idle = words(Flight(state="idle", execution_count=7))
    assert idle.startswith("No cell is running (the last was In[7]).")


def test_the_stack_begins_with_the_cell() -> None:
    found = doing.cell_stack(sys._getframe(), __file__)
    assert found[0].name == "test_the_stack_begins_with_the_cell"
    assert doing.cell_stack(sys._getframe(), "/no/such/cell") == []
    told = doing.in_words(BUSY, traceback.extract_stack(limit=1), NOW, 1, 0, None)
    assert "(most recent call last):\n  File" in told


def test_a_stack_that_is_met_elsewhere_has_moved() -> None:
    progress = Progress()
    progress.begin()
    generator = (n for n in range(2))
    for now, moved in ((1.0, 1.0), (2.0, 1.0)):
        progress.seen(generator.gi_frame, now)  # where it stands, twice
        assert progress.moved == moved
    next(generator)
    progress.seen(generator.gi_frame, 3.0)
    assert progress.moved == 3.0
    assert progress.cpu_s_since() >= 0


def test_lines_are_counted_as_ipython_counts_them() -> None:
    assert _as_numbered("\n  \nx = 1\n\ny = 2") == "x = 1\n\ny = 2"
    assert _as_numbered("x = 1") == "x = 1"
    assert _as_numbered("  \n") == "  \n"


def test_a_dump_names_threads_shows_the_main_one_first_and_is_bounded() -> None:
    told: list[str] = []

    def deep(n: int) -> None:
        if n:
            deep(n - 1)
            return
        asker = threading.Thread(target=lambda: told.append(stacks.describe()), name="asker")
        asker.start()
        asker.join()

    deep(300)
    assert told[0].startswith("Current thread 0x")
    assert "[MainThread] (most recent call first):" in told[0].splitlines()[0]
    assert "[asker]" not in told[0]
    main = told[0].split("\n\n")[0]
    assert main.count("\n  File") == stacks.INNERMOST + stacks.OUTERMOST
    assert "\n  ...\n" in main
