"""Dumps of stacks as values: who runs for whom, where the cell is, and what people are shown."""

from __future__ import annotations

import dataclasses

import pytest
from test_judge import BUSY, evidence, intent

from checkpoint_provisioner import clues, report, stack_dump
from checkpoint_provisioner.verdict import judge

# As faulthandler's handler writes: most recent call first, the first thread that there was last.
BY_HANDLER = """Thread 0x00007f01 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 331 in wait
  File "/site-packages/joblib/parallel.py", line 12 in retrieve
  File "/usr/lib/python3.11/threading.py", line 982 in run
  File "/usr/lib/python3.11/threading.py", line 1002 in _bootstrap

Current thread 0x00007f02 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 331 in wait
  File "/site-packages/checkpoint_kernel/clockwork.py", line 125 in run
  File "/usr/lib/python3.11/threading.py", line 1002 in _bootstrap

Thread 0x00007f03 (most recent call first):
  File "/tmp/ipykernel_7/2.py", line 3 in f
  File "/tmp/ipykernel_7/1.py", line 5 in <module>
  File "/site-packages/IPython/core/interactiveshell.py", line 3697 in run_code
  File "<frozen runpy>", line 88 in _run_code
"""
BY_KERNEL = """Current thread 0x00007f03 [MainThread] (most recent call first):
  File "/tmp/ipykernel_7/2.py", line 3 in f
    time.sleep(9)
  File "/tmp/ipykernel_7/1.py", line 5 in <module>
    f()
  File "<frozen runpy>", line 88 in _run_code

Thread 0x00007f04 [asks why] (most recent call first):
  File "/tmp/ipykernel_7/3.py", line 1 in <module>
  ...
  File "/site-packages/ipykernel/thread.py", line 48 in run
  File "/usr/lib/python3.11/threading.py", line 1002 in _bootstrap

Thread 0x00007f05 [IOPub] (most recent call first):
  File "/usr/lib/python3.11/selectors.py", line 468 in select
  File "/site-packages/ipykernel/iostream.py", line 168 in _thread_main
  File "/usr/lib/python3.11/threading.py", line 982 in run
"""


def test_the_oldest_thread_is_the_main_one_where_no_names_are_known() -> None:
    threads = stack_dump.parse(BY_HANDLER)
    assert [(thread.ident, thread.role) for thread in threads] == [
        ("0x00007f03", "main"),
        ("0x00007f01", "user"),
        ("0x00007f02", "kernel"),
    ]


def test_the_most_recent_call_comes_last_with_its_source() -> None:
    main, *_ = stack_dump.parse(BY_KERNEL)
    assert main.name == "MainThread"
    assert main.frames[-1] == stack_dump.Frame("/tmp/ipykernel_7/2.py", 3, "f", "time.sleep(9)")


def test_a_thread_of_the_kernels_that_runs_a_cell_is_the_users() -> None:
    roles = {thread.name: thread.role for thread in stack_dump.parse(BY_KERNEL)}
    assert roles == {"MainThread": "main", "asks why": "user", "IOPub": "kernel"}


def test_the_line_is_that_of_the_running_cell_and_not_of_a_function_of_another() -> None:
    for text in (BY_HANDLER, BY_KERNEL):
        threads = stack_dump.parse(text)
        assert stack_dump.cell_line(threads, "/tmp/ipykernel_7/1.py") == 5
        assert stack_dump.cell_line(threads, "/tmp/ipykernel_7/9.py") is None


def test_what_runs_the_cell_is_left_out_for_people() -> None:
    told = stack_dump.telling(BY_KERNEL)
    assert "_run_code" not in told
    assert "IOPub" not in told
    assert told.index("time.sleep(9)") < told.index("    f()")


def test_text_that_is_no_dump_has_no_threads() -> None:
    assert stack_dump.parse("The stacks could not be read: MemoryError()\n") == ()
    assert stack_dump.telling("") == ""


# As Python 3.14 writes it, faulthandler.enable(c_stack=True) being its default.
CRASH_3_14 = """Fatal Python error: Segmentation fault

Current thread 0x00007f8dfd8d5b80 [python] (most recent call first):
  File "/tmp/ipykernel_7/1.py", line 2 in <module>

Current thread's C stack trace (most recent call first):
  Binary file "/usr/lib/libpython3.14.so", at _Py_DumpStack+0x48 [0x7f8dfdc0e2ab]
  Binary file "/lib/libc.so.6", at +0x3c050 [0x7f8dfd92f050]

Extension modules: numpy._core (total: 1)
"""


def test_the_native_stack_of_python_3_14_is_found_and_hides_no_python_frame() -> None:
    found = clues.c_stack(CRASH_3_14)
    assert found is not None
    assert found.splitlines()[0].endswith("_Py_DumpStack+0x48 [0x7f8dfdc0e2ab]")
    assert len(found.splitlines()) == 2
    assert clues.current_stack(CRASH_3_14) == [("/tmp/ipykernel_7/1.py", 2, "<module>")]
    assert clues.c_stack("Fatal Python error: Segmentation fault\n") is None


def test_a_record_of_a_hang_has_line_and_stack_from_the_last_look() -> None:
    stacks = (
        "Current thread 0x7f [MainThread] (most recent call first):\n"
        '  File "/tmp/ipykernel_7/1.py", line 2 in <module>\n    crash(x)\n'
    )
    found = evidence(
        9, intents=(intent("restart"), intent("kill")), stacks=stacks, native_stack="#0 sleep"
    )
    record = report.build(found, judge(found))
    assert (record["cause"], record["line"], record["source"]) == ("hung", 2, "crash(x)")
    assert record["stacks"] == stacks
    assert record["stack"].startswith("Main thread (most recent call first):")
    assert record["native_stack"] == "#0 sleep"


@pytest.mark.parametrize(
    ("sampled", "moved", "notes", "said"),
    [
        (999.9, 940.0, (), "It had been at the same place for 60 s."),
        (970.0, 969.0, (), "For 30 s no thread of Python's had run"),
        (970.0, 969.0, ("when it did not answer, the process is stopped",), "process is stopped."),
        (999.9, 999.5, (), "(SIGKILL)."),
    ],
)
def test_the_paragraph_of_a_hang_says_since_when_nothing_moved(
    sampled: float, moved: float, notes: tuple[str, ...], said: str
) -> None:
    flight = dataclasses.replace(BUSY, sampled=sampled, moved=moved)
    found = evidence(9, intents=(intent("restart"), intent("kill")), flight=flight, notes=notes)
    assert said in report.paragraph(found, judge(found))
