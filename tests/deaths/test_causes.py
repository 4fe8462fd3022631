"""Kernels die of every cause, and each cause is named."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from victim import FOREIGN, Victim, state_of

Start = Callable[..., Victim]

DOUBLE_FREE = """
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
# Larger than the thread cache keeps, with a neighbour that stays.
p = libc.malloc(5000); q = libc.malloc(5000)
libc.free(p)
libc.free(p)
"""
OVERFLOW = """
import sys
sys.setrecursionlimit(10**9)
class Deep:
    def __repr__(self):
        return repr(self)
repr(Deep())
"""
FATAL = "import ctypes\nctypes.pythonapi.Py_FatalError(b'made for a test')"


@pytest.mark.parametrize(
    ("code", "cause", "status"),
    [
        (
            "import os, signal, time\ntime.sleep(1); os.kill(os.getpid(), signal.SIGKILL)",
            "killed",
            -signal.SIGKILL,
        ),
        pytest.param(
            "import ctypes\nctypes.string_at(0)",
            "segmentation-fault",
            -signal.SIGSEGV,
            marks=pytest.mark.vm,
        ),
        ("import os\nos.abort()", "aborted", -signal.SIGABRT),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGBUS)", "bus-error", -signal.SIGBUS),
        (
            "import os, signal\nos.kill(os.getpid(), signal.SIGFPE)",
            "floating-point-exception",
            -signal.SIGFPE,
        ),
        (
            "import os, signal\nos.kill(os.getpid(), signal.SIGILL)",
            "illegal-instruction",
            -signal.SIGILL,
        ),
        ("import os, time\ntime.sleep(1); os._exit(3)", "exited", 3),
    ],
)
def test_a_cell_that_kills_is_named_with_cell_line_and_status(
    start: Start, code: str, cause: str, status: int
) -> None:
    victim = start()
    victim.run("before = 1")
    record = victim.dies(code)
    assert record["cause"] == cause
    assert victim.provisioner.process.returncode == status
    assert (record["cell"], record["line"]) == (2, 2)
    assert record["source"] == code.splitlines()[1]
    assert record["signal"] == (signal.Signals(-status).name if status < 0 else None)
    assert record["exit_code"] == (status if status >= 0 else None)


@pytest.mark.vm
@pytest.mark.vm_unenforced
def test_sigkill_from_outside_is_killed_and_the_idle_kernel_has_no_line(start: Start) -> None:
    victim = start()
    victim.run("before = 1")
    os.kill(victim.kernel_pid, signal.SIGKILL)
    victim.wait_for_death()
    record = victim.death()
    assert (record["cause"], record["signal"]) == ("killed", "SIGKILL")
    assert (record["cell_running"], record["line"]) == (False, None)
    assert "killed" in record["paragraph"]


def test_sigterm_to_the_supervisor_reaches_the_kernel_once_and_its_sender_is_named(
    start: Start,
) -> None:
    victim = start()
    os.kill(victim.supervisor_pid, signal.SIGTERM)
    victim.wait_for_death()
    record = victim.death()
    assert record["cause"] == "terminated"
    assert str(os.getpid()) in record["because"]


def test_sigterm_to_the_kernel_is_terminated(start: Start) -> None:
    victim = start()
    os.kill(victim.kernel_pid, signal.SIGTERM)
    victim.wait_for_death()
    assert victim.death()["cause"] == "terminated"


def test_sighup_to_the_kernel_is_hung_up(start: Start) -> None:
    victim = start()
    os.kill(victim.kernel_pid, signal.SIGHUP)
    victim.wait_for_death()
    assert victim.death()["cause"] == "hung-up"


def test_a_real_double_free_is_aborted_in_glibcs_words(start: Start) -> None:
    record = start().dies(DOUBLE_FREE)
    assert record["cause"] == "aborted"
    assert "double free" in record["because"]


def test_a_python_fatal_error_is_aborted_in_its_words(start: Start) -> None:
    record = start().dies(FATAL)
    assert record["cause"] == "aborted"
    assert "made for a test" in record["because"]


def test_recursion_without_end_is_a_stack_overflow(start: Start) -> None:
    assert start().dies(OVERFLOW)["cause"] == "stack-overflow"


def test_a_traceback_of_faulthandler_is_on_record(start: Start) -> None:
    record = start().dies("def boom():\n    import ctypes\n    ctypes.string_at(0)\n\nboom()")
    assert "string_at" in record["stack"]
    assert (record["line"], record["source"]) == (3, "ctypes.string_at(0)")


def test_exit_in_a_cell_is_no_death_and_the_next_start_is_clean(start: Start) -> None:
    victim = start()
    victim.begin("exit()")
    assert victim.wait_for_death() == 0
    assert victim.marker().kind == "quit"
    assert victim.deaths() == []
    assert victim.restart(now=True).kind == "clean"


@pytest.mark.parametrize("argv", [["python", "-c", "import sys; sys.exit('no such thing')"]])
def test_a_kernel_that_leaves_at_once_has_failed_to_start(start: Start, argv: list[str]) -> None:
    victim = start(argv=argv, ready=False)
    assert victim.wait_for_death() == 1
    record = victim.death()
    assert (record["cause"], record["exit_code"]) == ("start-failed", 1)


def test_our_kernel_that_cannot_start_is_told_with_its_last_words(start: Start) -> None:
    argv = ["python", "-m", "checkpoint_kernel", "-f", "/nowhere/kernel.json", "--ip=nonsense"]
    victim = start(argv=argv, ready=False)
    assert victim.wait_for_death() != 0
    record = victim.death()
    assert record["cause"] == "start-failed"
    assert record["stderr_tail"]


def test_argv_that_cannot_be_executed_is_a_start_error_that_names_it(start: Start) -> None:
    with pytest.raises(RuntimeError, match="/no/such/python: No such file"):
        start(argv=["/no/such/python"], ready=False)
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert not any("supervisor" in Path(f"/proc/{pid}/cmdline").read_text() for pid in children)
    assert not any(state_of(pid) == "Z" for pid in children)


def test_a_bad_config_is_a_start_error_that_names_key_and_value(start: Start) -> None:
    with pytest.raises(ValueError, match=r"memory_limit: \"lots\""):
        start(config={"memory_limit": "lots"}, ready=False)
    with pytest.raises(ValueError, match="memory_limt: there is no such key"):
        start(config={"memory_limt": "8G"}, ready=False)


@pytest.mark.vm
def test_a_cell_over_the_cap_is_killed_by_it_and_the_cgroup_is_gone(start: Start) -> None:
    victim = start(config={"memory_limit": "250M", "soft_limit": "100%"})
    cap = victim.session().cap
    if cap is None or not cap.enforced:
        pytest.skip(f"nothing enforces a cap here: {cap}")
    record = victim.dies("import time\ntime.sleep(1); x = b'x' * 400_000_000")
    assert (record["cause"], record["confidence"]) == ("oom-killed-by-cap", "proof")
    assert (record["cell"], record["line"]) == (1, 2)
    assert "250M" in record["paragraph"]
    assert "killed" in record["paragraph"]
    assert cap.cgroup is not None
    assert not Path(cap.cgroup).exists()


@pytest.mark.vm
def test_a_worker_that_is_oom_killed_does_not_explain_a_later_sigkill(start: Start) -> None:
    victim = start(config={"memory_limit": "250M", "soft_limit": "100%"})
    cap = victim.session().cap
    if cap is None or not cap.enforced:
        pytest.skip(f"nothing enforces a cap here: {cap}")
    reply = victim.run(
        "import subprocess, sys, time\n"
        'big = \'open("/proc/self/oom_score_adj", "w").write("1000"); x = b"x" * 400_000_000\'\n'
        "status = subprocess.call([sys.executable, '-c', big])\n"
        "assert status == -9, status\n"
        "time.sleep(1.5)"
    )
    assert reply["content"]["status"] == "ok", reply["content"]
    os.kill(victim.kernel_pid, signal.SIGKILL)
    victim.wait_for_death()
    assert victim.death()["cause"] == "killed"


def test_a_kernel_that_is_not_ours_is_capped_and_explained_too(start: Start) -> None:
    victim = start(argv=FOREIGN, config={"memory_limit": "250M"})
    record = victim.dies("x = b'x' * 400_000_000")
    assert record["cause"] in ("oom-killed-by-cap", "killed")
    assert record["cell"] is None
    assert victim.restart(now=True).kind == "clean"
