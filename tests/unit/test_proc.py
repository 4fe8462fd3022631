"""What the system tells of real processes that have ended and are not reaped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from checkpoint_provisioner import faults, proc

pytestmark = pytest.mark.unit


@contextmanager
def dead(code: str) -> Iterator[int]:
    """The pid of a zombie that ran `code`."""
    child = subprocess.Popen([sys.executable, "-c", code])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    yield child.pid
    child.wait()


def test_the_limits_of_a_dead_process_can_still_be_read() -> None:
    code = (
        "import resource as r\n"
        "r.setrlimit(r.RLIMIT_CPU, (7, 9)); r.setrlimit(r.RLIMIT_FSIZE, (1 << 20, -1))\n"
        "while r.getrusage(r.RUSAGE_SELF).ru_utime < 0.1: pass"
    )
    with dead(code) as pid:
        found = proc.limits(pid)
    assert found is not None
    assert (found.cpu_soft_s, found.cpu_hard_s, found.file_bytes) == (7, 9, 1 << 20)
    assert found.cpu_used_s >= 0.09
    assert proc.limits(pid) is None  # reaped


def test_the_kernel_log_names_a_fault_that_nobody_handled_with_library_and_address() -> None:
    if proc.kernel_log(os.getpid(), 1) is None:
        pytest.skip("the kernel log cannot be read here")
    with dead("import ctypes; ctypes.string_at(0x1234)") as pid:
        found = proc.kernel_log(pid, 10)
    assert found is not None
    if found.said is None:
        pytest.skip("this machine does not log faults (/proc/sys/debug/exception-trace)")
    fault = faults.logged(found.said, signal.SIGSEGV)
    assert fault is not None
    assert fault.address == 0x1234
    assert faults.library(found.said)
    time.sleep(0.1)
    assert proc.kernel_log(pid, -5) == proc.KernelLog(None)  # an earlier one of that number


def test_a_killed_process_is_dying_before_it_has_exited() -> None:
    # Half a gigabyte takes a while to be given back.
    child = subprocess.Popen(
        [sys.executable, "-c", "x = b'x' * 500_000_000; print(1, flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    child.stdout.readline()
    assert not proc.dying(child.pid)
    child.kill()
    seen = [True]
    while os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        seen.append(proc.dying(child.pid))
    assert seen[-1]  # while its memory was given back
    assert proc.dying(child.pid)
    child.communicate()
    assert proc.dying(child.pid)


def test_a_process_lives_since_its_start_and_not_before() -> None:
    assert proc.lives_since(os.getpid(), time.time())
    assert not proc.lives_since(os.getpid(), time.time() - 30 * 24 * 3600)
    assert not proc.lives_since(None, time.time())
    with dead("") as pid:
        assert not proc.lives_since(pid, time.time())
