"""What the thread that sees to a kernel's end does to signals, and what it leaves alone."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.unit

# In a process of its own, because it ends. The main thread sits in C code that lets other
# threads run; `ours` stands for the handler of the kernel.
PROGRAM = """\
import ctypes, hashlib, os, signal, sys, threading, time
from checkpoint_kernel import ending
ending.OBEY_S, ending.HANDLER_S = 0.2, 0.3
def ours(*_):
    one.in_hand()
    os.write(1, b"handled ")
    os._exit(0)
def save(reason):
    os.write(1, f"saved:{reason} ".encode())
one = ending.Ending(lambda: signal.getsignal(signal.SIGTERM) is ours, save)
one.listen()
signal.signal(signal.SIGTERM, ours)
one.start()
def in_c():
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
def in_python():
    while True: time.sleep(0.01)
"""


def run(program: str, signalled: bool = False) -> tuple[str, int]:
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM + 'os.write(1, b"ready ")\n' + program],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    said = ""
    while "ready " not in said:
        said += child.stdout.read(1)
    if signalled:
        time.sleep(0.3)  # to get into the call
        child.terminate()
    said = child.stdout.read()
    return said.strip(), child.wait(30)


def test_sigterm_inside_a_c_call_saves_and_ends_by_sigterm() -> None:
    assert run("in_c()", signalled=True) == ("saved:SIGTERM", -signal.SIGTERM)


def test_sigterm_in_python_code_is_left_to_its_handler() -> None:
    assert run("in_python()", signalled=True) == ("handled", 0)


def test_a_shutdown_that_is_not_obeyed_becomes_sigterm() -> None:
    assert run("one.shutdown_requested(); in_python()") == ("handled", 0)
    assert run("one.shutdown_requested(); in_c()") == ("saved:SIGTERM", -signal.SIGTERM)


def test_a_shutdown_that_is_obeyed_is_left_alone() -> None:
    program = "one.shutdown_requested(); one.in_hand(); time.sleep(0.6); os._exit(3)"
    assert run(program) == ("", 3)


def test_with_a_handler_of_the_users_a_shutdown_saves_and_ends_nothing() -> None:
    program = (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "one.shutdown_requested(); time.sleep(1); os._exit(3)"
    )
    assert run(program) == ("saved:shutdown", 3)


def test_a_forked_child_tells_us_of_no_signals() -> None:
    program = (
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    one.in_forked_child()\n"
        "    signal.signal(signal.SIGTERM, lambda *_: os._exit(4))\n"
        "    in_python()\n"
        "time.sleep(0.3); os.kill(pid, signal.SIGTERM)\n"
        "status = os.waitpid(pid, 0)[1]\n"
        "time.sleep(1); os._exit(os.waitstatus_to_exitcode(status))"
    )
    assert run(program) == ("", 4)


def test_who_listens_to_signals_already_keeps_listening() -> None:
    program = (
        "import asyncio\n"
        "loop = asyncio.new_event_loop()\n"
        "loop.add_signal_handler(signal.SIGUSR1, loop.stop)\n"
        "one.listen()\n"
        "loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)\n"
        "loop.run_forever(); os._exit(5)"
    )
    assert run(program) == ("", 5)
