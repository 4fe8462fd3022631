"""How `jupyter checkpoint stacks` shows a kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from test_judge import evidence

from checkpoint_kernel.flight_recorder import Flight
from checkpoint_provisioner import cli_stacks, stack_dump
from checkpoint_provisioner.listing import Notebook
from checkpoint_provisioner.live import LiveKernel
from checkpoint_provisioner.native_stack import NativeStack

NOW = 1_000_000.0
BUSY = Flight(
    pid=7, state="busy", execution_count=7, cell_source="x = 1\nfit(x)", line=1,
    cell_file="/tmp/ipykernel_7/1.py", cell_started=NOW - 312, sampled=NOW - 0.1, moved=NOW - 40,
)  # fmt: skip
DUMP = """Current thread 0x7f [MainThread] (most recent call first):
  File "/site-packages/sklearn/base.py", line 12 in fit
  File "/tmp/ipykernel_7/0.py", line 3 in fit
  File "/tmp/ipykernel_7/1.py", line 2 in <module>
    fit(x)
  File "/site-packages/ipykernel/kernelbase.py", line 1 in dispatch

Thread 0x7e [IOPub] (most recent call first):
  File "/site-packages/ipykernel/iostream.py", line 168 in _thread_main
"""


def seen(flight: Flight | None = BUSY, **fields: Any) -> cli_stacks.Seen:
    kernel = LiveKernel(
        Notebook(Path("/store/key"), "/home/ann/work.ipynb", "k"), Path("/s"), evidence(9).session,
        7, flight,
    )  # fmt: skip
    values: dict[str, Any] = {
        "kernel": kernel, "time": NOW, "threads": stack_dump.parse(DUMP), "why_not": None,
        "without_lock": False, "as_text": None, "native": None, "rss_bytes": 3 << 30,
    }  # fmt: skip
    return cli_stacks.Seen(**{**values, **fields})


def test_a_busy_kernel_is_shown_from_its_cell_on() -> None:
    assert cli_stacks.as_text(seen(), everything=False) == (
        "/home/ann/work.ipynb: kernel 7, In[7] line 2 (`fit(x)`), running for 5 min, 3.0 GB\n"
        "  At the same place for 40 s.\n"
        "\n"
        "Main thread (most recent call last):\n"
        "> In[7], line 2, in <module>\n"
        "      fit(x)\n"
        "> in a cell, line 3, in fit\n"
        '  File "/site-packages/sklearn/base.py", line 12, in fit\n'
        "\n"
        "1 thread of the kernel itself is not shown (--all)."
    )


def test_all_shows_what_runs_the_cell_too() -> None:
    told = cli_stacks.as_text(seen(), everything=True)
    assert "in dispatch" in told
    assert "Thread IOPub" in told


def test_a_call_that_keeps_the_interpreter_to_itself_is_said() -> None:
    late = Flight(**{**vars(BUSY), "sampled": NOW - 60})
    told = cli_stacks.as_text(seen(late, without_lock=True), everything=False)
    assert "One call of compiled code has kept the interpreter to itself for 60 s" in told


def test_an_idle_kernel_has_nothing_to_show_and_one_that_tells_nothing_says_why() -> None:
    idle = Flight(state="idle", execution_count=7, sampled=NOW)
    told = cli_stacks.as_text(seen(idle, threads=()), everything=False)
    assert told == "/home/ann/work.ipynb: kernel 7, idle (the last cell was In[7]), 3.0 GB"
    silent = seen(None, threads=(), why_not="another user's", native=NativeStack(None, None, "no"))
    told = cli_stacks.as_text(silent, everything=False)
    assert "a kernel that is not ours" in told
    assert "  No stacks: another user's." in told
    assert "No native stacks: no." in told


def test_json_has_the_same_as_values() -> None:
    told = cli_stacks.as_json(seen())
    assert (told["cell"], told["line"], told["source"]) == (7, 2, "fit(x)")
    assert (told["running_s"], told["at_this_place_s"]) == (312.0, 40.0)
    main = told["threads"][0]
    assert [frame["cell"] for frame in main["frames"]] == [False, True, True, False]
