"""The matrix of deaths: every cause that we know, produced for real, and what must be said.

Not here, because it would endanger the machine: the system's own OOM killer; its evidence is
judged in tests/unit/test_judge.py. `hung` and exits that somebody asked for: test_intent.py.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import sys
from pathlib import Path
from typing import Any

import cells
import scenes
from matrix import Case
from victim import FOREIGN

from checkpoint_provisioner import proc
from checkpoint_provisioner.caps import hierarchy, policy

# --- what the machine must offer ---


def enforced_cap() -> str | None:
    handle = policy.prepare("250M", "100%", "test")
    handle.close()
    return None if handle.cap and handle.cap.enforced else "nothing enforces a cap here"


def groups_to_nest() -> str | None:
    place = hierarchy.memory_v1()
    if place is None or not os.access(place.directory, os.W_OK):
        return "needs cgroup v1 as root, to put a group around the server"
    return None


def enforced_cap_and_kernel_log() -> str | None:
    if proc.kernel_log(os.getpid(), 1) is None:
        return "the kernel log cannot be read here"
    return enforced_cap()


def x86_64() -> str | None:
    return None if platform.machine() == "x86_64" else "machine code for x86-64"


def x86_64_before_3_12() -> str | None:
    if sys.version_info >= (3, 12):
        return "Python 3.12 and later end such a recursion with a RecursionError"
    return x86_64()


def root() -> str | None:
    return None if os.geteuid() == 0 else "needs root, to mount a file system"


def libstdcxx() -> str | None:
    try:
        ctypes.CDLL("libstdc++.so.6")
    except OSError as why:
        return f"needs libstdc++: {why}"
    return None


def capped(_: Path) -> dict[str, Any]:
    # Without the guard, which would interrupt the cell instead.
    return {"config": {"memory_limit": "250M", "soft_limit": "100%"}}


def generous(_: Path) -> dict[str, Any]:
    return {"config": {"memory_limit": "1G", "soft_limit": "100%"}}


def foreign(_: Path) -> dict[str, Any]:
    return {"argv": FOREIGN}


def capped_foreign(where: Path) -> dict[str, Any]:
    return {**foreign(where), **capped(where)}


def wrapped_foreign(_: Path) -> dict[str, Any]:
    script = '"$0" -m ipykernel_launcher -f "$1"; exit $?'
    return {"argv": ["sh", "-c", script, sys.executable, "{connection_file}"]}


def leaves_at_once(_: Path) -> dict[str, Any]:
    return {"argv": ["python", "-c", "import sys; sys.exit('no such thing')"]}


def nonsense_argument(_: Path) -> dict[str, Any]:
    argv = ["python", "-m", "checkpoint_kernel", "-f", "/nowhere/kernel.json", "--ip=nonsense"]
    return {"argv": argv}


ME = str(os.getpid())
KILL, SEGV, ABRT = -signal.SIGKILL, -signal.SIGSEGV, -signal.SIGABRT

MEMORY = (
    Case(
        "own-cap-one-call",
        "its own cap, in one call of C code",
        "oom-killed-by-cap",
        ("oom_kill of its cgroup rose by", "250M"),
        status=KILL,
        cell=cells.ONE_CALL,
        line=2,
        given=capped,
        needs=enforced_cap,
    ),
    Case(
        "own-cap-growth",
        "its own cap, object by object",
        "oom-killed-by-cap",
        ("oom_kill of its cgroup rose by", "250M"),
        status=KILL,
        cell=cells.GROWTH,
        given=capped,
        needs=enforced_cap,
    ),
    Case(
        "outer-cap",
        "the limit of a cgroup around server, supervisor and kernel",
        "oom-killed-by-system",
        ("oom_kill of its cgroup rose by", "one above it", "test-container"),
        scene=scenes.a_container_is_too_small,
        line=2,
        given=generous,
        needs=groups_to_nest,
    ),
    Case(
        "own-cap-of-a-foreign-kernel",
        "its own cap; stock ipykernel, not ours",
        "oom-killed-by-cap",
        ("oom_kill of its cgroup rose by",),
        status=KILL,
        cell=cells.ONE_CALL,
        given=capped_foreign,
        needs=enforced_cap,
    ),
    Case(
        "sigkill-after-a-childs-oom-kill",
        "SIGKILL by somebody, a while after a child was OOM-killed",
        "killed",
        ("no OOM counter moved",),
        status=KILL,
        first=(cells.CHILD_OVER_THE_CAP,),
        outside=scenes.signal_to_kernel(signal.SIGKILL, after_s=1.5),
        given=capped,
        needs=enforced_cap,
    ),
    Case(
        "sigkill-at-a-childs-oom-kill",
        "SIGKILL by somebody, at the moment of a child's OOM kill",
        "killed",
        ("does not name the kernel", "somebody sent SIGKILL"),
        "likely",
        status=KILL,
        first=(f"{cells.CHILD_OVER_THE_CAP}\nimport os; os.getpid()",),
        outside=scenes.signal_to_kernel(signal.SIGKILL),
        given=capped,
        needs=enforced_cap_and_kernel_log,
    ),
)

KILLS = (
    Case(
        "sigkill-by-somebody-while-idle",
        "SIGKILL by somebody, between cells",
        "killed",
        ("none of ours", "no OOM counter moved"),
        status=KILL,
        first=(cells.A_CHILD_IS_KILLED, cells.A_CHILD_CRASHES, cells.A_THREAD_LEAVES),
        outside=scenes.signal_to_kernel(signal.SIGKILL),
    ),
    Case(
        "sigkill-by-somebody-in-a-cell",
        "SIGKILL by somebody, in a cell",
        "killed",
        ("none of ours", "no OOM counter moved"),
        status=KILL,
        cell="import time\ntime.sleep(60)",
        line=2,
        outside=scenes.signal_to_kernel(signal.SIGKILL, after_s=1.5),
    ),
    Case(
        "sigkill-by-its-own-code",
        "SIGKILL that a cell sends to its own kernel",
        "killed",
        ("code in the kernel sent SIGKILL",),
        status=KILL,
        cell=cells.KILLS_ITSELF,
        line=2,
    ),
    Case(
        "sigkill-while-restoring",
        "SIGKILL by somebody, while variables are restored",
        "killed",
        ("none of ours",),
        scene=scenes.killed_while_restoring,
    ),
    Case(
        "sigkill-behind-a-wrapper",
        "SIGKILL to a foreign kernel that a shell script runs (code 137)",
        "killed",
        ("137", "SIGKILL"),
        "likely",
        status=137,
        outside=scenes.sigkill_behind_a_wrapper,
        given=wrapped_foreign,
    ),
)

CRASHES = (
    Case(
        "null-read",
        "a null pointer read (SIGSEGV)",
        "segmentation-fault",
        ("SIGSEGV", "string_at"),
        siginfo=("address 0x0, a null pointer",),
        status=SEGV,
        cell=cells.NULL_READ,
        line=2,
    ),
    Case(
        "null-write",
        "a write behind a null pointer (SIGSEGV)",
        "segmentation-fault",
        ("SIGSEGV",),
        siginfo=("address 0x8, a null pointer",),
        status=SEGV,
        cell=cells.NULL_WRITE,
        line=3,
    ),
    Case(
        "null-read-in-a-function",
        "the same, inside a function of the cell",
        "segmentation-fault",
        ("string_at",),
        status=SEGV,
        cell=cells.IN_A_FUNCTION,
        line=3,
    ),
    Case(
        "null-read-in-a-thread",
        "the same, in a thread that is not the main one",
        "segmentation-fault",
        ("SIGSEGV",),
        siginfo=("address 0x0",),
        status=SEGV,
        cell=cells.IN_A_THREAD,
        line=2,
    ),
    Case(
        "crash-without-a-python-frame",
        "a jump to nowhere in a thread that Python does not know (SIGSEGV)",
        "segmentation-fault",
        ("SIGSEGV",),
        siginfo=("address 0xbad0",),
        status=SEGV,
        cell=cells.WITHOUT_PYTHON,
        line=4,
    ),
    Case(
        "null-read-deep-in-a-recursion",
        "a null pointer read at the bottom of a recursion that is no overflow",
        "segmentation-fault",
        ("address 0x0",),
        status=SEGV,
        cell=cells.AT_THE_BOTTOM_OF_A_RECURSION,
        line=3,
        needs=x86_64,
    ),
    Case(
        "null-read-of-a-foreign-kernel",
        "a null pointer read; stock ipykernel, not ours",
        "segmentation-fault",
        ("SIGSEGV",),
        status=SEGV,
        cell=cells.NULL_READ,
        given=foreign,
    ),
    Case(
        "sigsegv-by-somebody",
        "SIGSEGV that another process sends",
        "segmentation-fault",
        (f"process {ME}", "sent SIGSEGV: nothing in it had failed"),
        status=SEGV,
        outside=scenes.signal_to_kernel(signal.SIGSEGV),
        needs=x86_64,
    ),
    Case(
        "truncated-map",
        "a mapped file that was truncated (SIGBUS)",
        "bus-error",
        ("SIGBUS",),
        siginfo=("behind the end of a mapped file",),
        status=-signal.SIGBUS,
        cell=cells.TRUNCATED_MAP,
        line=6,
    ),
    Case(
        "full-shared-memory",
        "a mapped file on a full tmpfs, as a small /dev/shm (SIGBUS)",
        "bus-error",
        ("SIGBUS",),
        siginfo=("no room left",),
        status=-signal.SIGBUS,
        cell=cells.FULL_FILE_SYSTEM,
        line=10,
        needs=root,
    ),
    Case(
        "sigbus-by-its-own-code",
        "SIGBUS that a cell sends to its own kernel",
        "bus-error",
        ("code in the kernel sent SIGBUS",),
        status=-signal.SIGBUS,
        cell=cells.SENDS_ITSELF_SIGBUS,
        line=2,
    ),
    Case(
        "undefined-instruction",
        "an instruction that the processor does not have (SIGILL)",
        "illegal-instruction",
        ("SIGILL",),
        status=-signal.SIGILL,
        cell=cells.machine_code(cells.UD2),
        line=5,
        needs=x86_64,
    ),
    Case(
        "integer-division-by-zero",
        "a division of integers by zero in native code (SIGFPE)",
        "floating-point-exception",
        ("SIGFPE", "division of an integer by zero"),
        status=-signal.SIGFPE,
        cell=cells.machine_code(cells.DIVIDE_BY_ZERO),
        line=5,
        needs=x86_64,
    ),
    Case(
        "sigfpe-raised-in-c",
        "SIGFPE that C code raises by raise()",
        "floating-point-exception",
        ("compiled code in the kernel raised SIGFPE",),
        status=-signal.SIGFPE,
        cell=cells.C_RAISES_SIGFPE,
        line=2,
        needs=x86_64,
    ),
    Case(
        "recursion-of-python-through-c",
        "recursion without end, of Python through C code",
        "stack-overflow",
        ("stack pointer", "one frame stands over 60 times"),
        status=SEGV,
        cell=cells.REPR_OF_ITSELF,
        line=5,
        needs=x86_64_before_3_12,
    ),
    Case(
        "recursion-in-native-code",
        "recursion without end in native code",
        "stack-overflow",
        ("stack pointer",),
        status=SEGV,
        cell=cells.machine_code(cells.CALL_ITSELF),
        line=5,
        needs=x86_64,
    ),
    Case(
        "recursion-in-native-code-in-a-thread",
        "the same in another thread, where no handler of a signal has a stack to run on",
        "segmentation-fault",
        ("faulthandler could write nothing",),
        status=SEGV,
        cell=cells.machine_code(cells.CALL_ITSELF, in_a_thread=True),
        line=5,
        needs=x86_64,
    ),
)

ABORTS = (
    Case(
        "double-free",
        "double free",
        "aborted",
        ("double free",),
        status=ABRT,
        cell=cells.DOUBLE_FREE,
        line=7,
    ),
    Case(
        "heap-corruption",
        "a write past the end of a block of the heap",
        "aborted",
        ("heap corruption",),
        status=ABRT,
        cell=cells.OVERRUN,
    ),
    Case(
        "invalid-pointer",
        "free() of what malloc() did not give",
        "aborted",
        ("free(): invalid pointer",),
        status=ABRT,
        cell=cells.INVALID_POINTER,
        line=6,
    ),
    Case(
        "stack-smashed",
        "a buffer on the stack that was overrun (stack protector)",
        "aborted",
        ("stack smashing detected",),
        status=ABRT,
        cell=cells.STACK_SMASHED,
        line=2,
    ),
    Case(
        "bad-alloc",
        "std::bad_alloc that no C++ code catches",
        "aborted",
        ("std::bad_alloc",),
        status=ABRT,
        cell=cells.BAD_ALLOC,
        line=4,
        needs=libstdcxx,
    ),
    Case(
        "assertion",
        "an assertion in C",
        "aborted",
        ("assertion", "x > 0"),
        status=ABRT,
        cell=cells.ASSERTION,
        line=2,
    ),
    Case(
        "abort-in-c",
        "abort() in C, without a word",
        "aborted",
        ("SIGABRT, abort()",),
        status=ABRT,
        cell=cells.C_ABORT,
        line=2,
    ),
    Case(
        "os-abort",
        "os.abort() in a cell",
        "aborted",
        ("code in the kernel sent SIGABRT",),
        status=ABRT,
        cell=cells.OS_ABORT,
        line=2,
    ),
    Case(
        "python-fatal-error",
        "Py_FatalError of the interpreter or an extension",
        "aborted",
        ("Python fatal error", "made for a test"),
        status=ABRT,
        cell=cells.FATAL_ERROR,
        line=2,
    ),
    Case(
        "sigabrt-by-somebody",
        "SIGABRT that another process sends, as a watchdog does",
        "aborted",
        (f"process {ME}", "sent SIGABRT"),
        status=ABRT,
        outside=scenes.signal_to_kernel(signal.SIGABRT),
        needs=x86_64,
    ),
)

SIGNALS = (
    Case(
        "sigterm-to-the-kernel",
        "SIGTERM to the kernel",
        "terminated",
        ("SIGTERM came to the kernel directly",),
        outside=scenes.signal_to_kernel(signal.SIGTERM),
    ),
    Case(
        "sigterm-to-the-supervisor",
        "SIGTERM to the process that Jupyter started",
        "terminated",
        (f"process {ME}", "sent SIGTERM"),
        outside=scenes.signal_to_supervisor(signal.SIGTERM),
    ),
    Case(
        "sighup-to-the-kernel",
        "SIGHUP to the kernel",
        "hung-up",
        ("SIGHUP came to the kernel directly",),
        outside=scenes.signal_to_kernel(signal.SIGHUP),
    ),
    Case(
        "sighup-to-the-supervisor",
        "SIGHUP to the process that Jupyter started, as from a closed terminal",
        "hung-up",
        (f"process {ME}", "sent SIGHUP"),
        outside=scenes.signal_to_supervisor(signal.SIGHUP),
    ),
    Case(
        "sigquit-to-the-kernel",
        "SIGQUIT to the kernel",
        "terminated",
        ("somebody sent SIGQUIT",),
        status=-signal.SIGQUIT,
        outside=scenes.signal_to_kernel(signal.SIGQUIT),
    ),
    Case(
        "sigusr1-to-the-supervisor",
        "SIGUSR1 to the process that Jupyter started",
        "terminated",
        (f"process {ME}", "sent SIGUSR1"),
        status=-signal.SIGUSR1,
        outside=scenes.signal_to_supervisor(signal.SIGUSR1),
    ),
    Case(
        "alarm",
        "signal.alarm() without a handler (SIGALRM)",
        "terminated",
        ("SIGALRM", "a timer of its own"),
        "likely",
        status=-signal.SIGALRM,
        cell=cells.ALARM,
        line=2,
    ),
    Case(
        "broken-pipe",
        "a write to a closed pipe, SIGPIPE at its default",
        "terminated",
        ("SIGPIPE", "nobody reads"),
        "likely",
        status=-signal.SIGPIPE,
        cell=cells.BROKEN_PIPE,
    ),
    Case(
        "soft-cpu-limit",
        "the soft limit of CPU time (SIGXCPU)",
        "cpu-limit",
        ("SIGXCPU", "RLIMIT_CPU"),
        status=-signal.SIGXCPU,
        cell=cells.SOFT_CPU_LIMIT,
        line=5,
    ),
    Case(
        "hard-cpu-limit",
        "the limit of CPU time as `ulimit -t` sets it (SIGKILL)",
        "cpu-limit",
        ("SIGKILL", "RLIMIT_CPU"),
        status=KILL,
        cell=cells.HARD_CPU_LIMIT,
        line=5,
    ),
    Case(
        "file-size-limit",
        "the limit of file sizes (SIGXFSZ)",
        "file-size-limit",
        ("SIGXFSZ", "1048576 bytes"),
        status=-signal.SIGXFSZ,
        cell=cells.FILE_SIZE_LIMIT,
    ),
    Case(
        "forbidden-system-call",
        "a system call that a seccomp filter forbids (SIGSYS)",
        "terminated",
        ("SIGSYS", "seccomp"),
        "likely",
        status=-signal.SIGSYS,
        cell=cells.FORBIDDEN_CALL,
        needs=x86_64,
    ),
)

EXITS = (
    Case(
        "os-exit",
        "os._exit(3) in a cell",
        "exited",
        ("code 3", "os._exit(3)"),
        status=3,
        cell=cells.OS_EXIT,
        line=2,
    ),
    Case(
        "c-exit",
        "exit(5) in C",
        "exited",
        ("code 5", "C's exit()"),
        status=5,
        cell=cells.C_EXIT,
        needs=x86_64,
    ),
    Case(
        "c-underscore-exit",
        "_exit(4) in C",
        "exited",
        ("code 4", "without a word", "_exit()"),
        status=4,
        cell=cells.C_UNDERSCORE_EXIT,
        needs=x86_64,
    ),
    Case(
        "c-underscore-exit-zero",
        "_exit(0) in C: success that nobody asked for",
        "exited",
        ("code 0", "without a word"),
        status=0,
        cell=cells.C_UNDERSCORE_EXIT_ZERO,
    ),
)

SERVERS = (
    Case(
        "server-killed",
        "the server is killed (SIGKILL)",
        "server-gone",
        ("the server's process ended",),
        scene=scenes.the_server_is_killed,
    ),
    Case(
        "all-killed-at-once",
        "server, supervisor and kernel are killed at once, as a container is",
        "server-gone",
        ("killed together",),
        "likely",
        scene=scenes.all_are_killed_at_once,
    ),
    Case(
        "supervisor-killed",
        "the supervisor alone is killed",
        "unknown",
        ("its supervisor ended without a word", "the server lives on"),
        "unknown",
        scene=scenes.the_supervisor_is_killed,
        given=generous,
    ),
)

STARTS = (
    Case(
        "leaves-at-once",
        "argv that leaves at once",
        "start-failed",
        ("code 1", "before it was ready"),
        status=1,
        given=leaves_at_once,
    ),
    Case(
        "bad-argument",
        "an argument that the kernel does not take",
        "start-failed",
        ("before it was ready",),
        given=nonsense_argument,
    ),
    Case(
        "broken-module",
        "a package of the kernel's that cannot be imported",
        "start-failed",
        ("No module named 'not_installed_anywhere'",),
        status=1,
        given=scenes.broken_module,
    ),
    Case(
        "missing-shared-library",
        "a shared library that is not there",
        "start-failed",
        ("libsodium.so.999", "No such file"),
        status=1,
        given=scenes.missing_library,
    ),
    Case(
        "ports-taken",
        "ports that somebody else listens on",
        "start-failed",
        ("Address already in use",),
        status=1,
        given=scenes.taken_ports,
    ),
)

CASES = (*MEMORY, *KILLS, *CRASHES, *ABORTS, *SIGNALS, *EXITS, *SERVERS, *STARTS)
