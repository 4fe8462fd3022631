"""What the last moment of a real process leaves: siginfo, and whether C's exit() has run."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from checkpoint_kernel import fault_witness, last_fault
from checkpoint_kernel.last_fault import Fault, LastFault
from checkpoint_provisioner import faults

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="machine code for x86-64"),
]

PRELUDE = """
import ctypes, faulthandler, os, signal, sys
from pathlib import Path
from checkpoint_kernel import fault_witness
faulthandler.enable(file=open(sys.argv[1] + ".txt", "w"))
fault_witness.install(Path(sys.argv[1]))
libc = ctypes.CDLL(None)
"""


def ended(tmp_path: Path, code: str) -> tuple[int, LastFault, str]:
    """The status of a process that runs `code`, what it left, and faulthandler's text."""
    path = tmp_path / "fault"
    done = subprocess.run([sys.executable, "-c", PRELUDE + code, str(path)], timeout=20)
    return done.returncode, last_fault.read(path), (tmp_path / "fault.txt").read_text()


def witnessed(tmp_path: Path, code: str) -> Fault:
    status, left, said = ended(tmp_path, code)
    assert left.fault is not None
    assert (status, left.exit_status) == (-left.fault.signal, None)
    assert said.startswith("Fatal Python error"), "faulthandler had its turn"
    return left.fault


def test_the_address_of_a_fault_is_left_and_no_sender(tmp_path: Path) -> None:
    found = witnessed(tmp_path, "ctypes.memset(0x1234, 0, 1)")
    assert (found.signal, found.address, found.sender_pid) == (signal.SIGSEGV, 0x1234, None)
    assert not faults.at_stack_pointer(found)
    assert faults.far_from_stack(found)


def test_an_address_that_no_program_may_use_is_not_told_by_the_processor(tmp_path: Path) -> None:
    found = witnessed(tmp_path, "ctypes.memset(1 << 62, 0, 1)")
    assert found.address is None
    assert faults.words(found) == "at an address that no program may use"


def test_the_sender_of_a_signal_is_left_and_no_address(tmp_path: Path) -> None:
    sent = "import subprocess; subprocess.call(['kill', '-BUS', str(os.getpid())]); signal.pause()"
    found = witnessed(tmp_path, sent)
    assert (found.signal, found.address) == (signal.SIGBUS, None)
    assert found.sender_pid not in (None, os.getpid())
    assert found.sender_uid == os.getuid()
    assert faults.sent(found)


def test_an_overflow_of_the_stack_fails_at_the_stack_pointer(tmp_path: Path) -> None:
    # `call` of itself, in memory of its own.
    code = (
        "import mmap\npage = mmap.mmap(-1, 4096, prot=7); page.write(bytes.fromhex('e8fbffffff'))\n"
        "ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()"
    )
    assert faults.at_stack_pointer(witnessed(tmp_path, code))


def test_a_fault_in_the_handler_of_a_fault_leaves_both(tmp_path: Path) -> None:
    code = (
        # Where faulthandler stood stands abort().
        "libc.signal(signal.SIGFPE, ctypes.cast(libc.abort, ctypes.c_void_p))\n"
        "fault_witness.install(Path(sys.argv[1]))\n"
        "os.kill(os.getpid(), signal.SIGFPE)"
    )
    status, left, _ = ended(tmp_path, code)
    assert status == -signal.SIGABRT
    assert left.fault is not None
    assert left.later is not None
    assert (left.fault.signal, left.later.signal) == (signal.SIGFPE, signal.SIGABRT)


@pytest.mark.parametrize(
    ("code", "status", "exit_status"),
    [
        ("libc.exit(5)", 5, 5),
        ("libc._exit(5)", 5, None),
        ("os._exit(6)", 6, None),
        ("sys.exit(7)", 7, 7),
        ("os.kill(os.getpid(), signal.SIGKILL)", -9, None),
    ],
)
def test_only_cs_exit_leaves_a_word(
    tmp_path: Path, code: str, status: int, exit_status: int | None
) -> None:
    assert ended(tmp_path, code)[:2] == (status, LastFault(exit_status=exit_status))


@pytest.mark.parametrize("end", ["ctypes.string_at(0)", "os.abort()", "libc.exit(3)"])
def test_a_forked_child_leaves_nothing(tmp_path: Path, end: str) -> None:
    code = f"child = os.fork()\nif child == 0: {end}\nos.waitpid(child, 0); os._exit(0)"
    assert ended(tmp_path, code)[:2] == (0, LastFault())


def test_without_faulthandler_nothing_is_witnessed_and_the_end_is_the_same(tmp_path: Path) -> None:
    code = "faulthandler.disable()\nfault_witness.install(Path(sys.argv[1]))\nctypes.string_at(0)"
    assert ended(tmp_path, code)[:2] == (-signal.SIGSEGV, LastFault())


def test_where_there_can_be_no_witness_the_file_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    fault_witness.install(tmp_path / "fault")
    assert "riscv64" in (last_fault.read(tmp_path / "fault").absent or "")
    assert last_fault.read(tmp_path / "nothing") == LastFault()
