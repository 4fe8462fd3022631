"""The doctor's checks of what a death could be explained by: stacks, the kernel log, core files.

None of it is needed: without it a verdict has less detail, or is weaker. So nothing here is a
warning; a remedy is what would show more.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path

from . import native_stack
from .doctor_machine import Check

TOOLS = ("eu-stack", "gdb", "py-spy")
_YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")
_CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")
_KERNEL_LOG = Path("/dev/kmsg")


def evidence(attaching_refused: str) -> list[Check]:
    """What can be observed here beyond status, counters and the kernel's own words.

    `attaching_refused`: empty, or why a debugger may not look at a kernel.
    """
    return [_native_stacks(attaching_refused), _kernel_log(), _core_files()]


def _native_stacks(refused: str) -> Check:
    name = "native stacks"
    found = [tool for tool in TOOLS if native_stack.find(tool) is not None]
    if not found:
        remedy = "install elfutils (eu-stack) or gdb, or pip install py-spy"
        return Check(name, "ok", "Python's only: no tool for those of compiled code", remedy)
    if not refused:
        return Check(name, "ok", f"by {', '.join(found)}")
    said = f"{', '.join(found)} may not look at a kernel ({refused}{_yama()})"
    return Check(name, "ok", said, _ptrace_remedy())


def _yama() -> str:
    try:
        return f"; kernel.yama.ptrace_scope is {_YAMA.read_text('ascii').strip()}"
    except OSError:
        return ""


def _ptrace_remedy() -> str:
    if _yama():
        return "sudo sysctl kernel.yama.ptrace_scope=1"
    return "give the container SYS_PTRACE (--cap-add=SYS_PTRACE)"


def _kernel_log() -> Check:
    try:
        os.close(os.open(_KERNEL_LOG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as why:
        said = f"not readable ({why.strerror}): OOM kills are told by counters alone"
        remedy = "sudo sysctl kernel.dmesg_restrict=0"
        return Check("kernel log", "ok", said, None if _root() else remedy)
    return Check("kernel log", "ok", "readable: an OOM kill is proved by its own line")


def _core_files() -> Check:
    try:
        pattern = _CORE_PATTERN.read_text("utf-8", "replace").strip()
    except OSError as why:
        return Check("core files", "ok", f"{_CORE_PATTERN} cannot be read: {why.strerror}")
    soft, _ = resource.getrlimit(resource.RLIMIT_CORE)
    if pattern.startswith("|"):  # the limit does not matter then, see core(5)
        return Check("core files", "ok", f"go to {pattern[1:].split()[0]} (core_pattern)")
    if soft == 0:
        said = f"none are written: RLIMIT_CORE is 0 (core_pattern is {pattern!r})"
        return Check("core files", "ok", said, "ulimit -c unlimited, where the server is started")
    return Check("core files", "ok", f"are written as {pattern!r} where the kernel runs")


def _root() -> bool:
    return os.geteuid() == 0
