"""Native stacks of a process or of a core file, by a tool that is installed: in bounded time.

Which tool and how is pure; `of_process` and `of_core` run it. A tool holds the process for as long
as it reads: with pandas and scikit-learn loaded eu-stack (elfutils) takes 0.03 s, py-spy, which
pip installs, 0.1 to 0.2 s, gdb 1.5 to 3.8 s. No core file is ever asked for from here: see core(5)
for who does.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from . import ask_stacks

ASKED_LIMIT_S: Final = 5.0  # a person waits
ENDING_LIMIT_S: Final = 3.0  # a restart waits, but see `last_look`
CORE_LIMIT_S: Final = 5.0  # so does one after a crash, where cores are written
# What gdb may take for the symbols of a big process; it says so and ends where it needs more.
_TOOL_MEMORY_BYTES: Final = 2 << 30
_TEXT_LIMIT: Final = 64 * 1024  # characters
_FRAMES: Final = 64  # of each thread
_LET_GO_S: Final = 0.1
_SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PYTHON_DIRECTORY: Final = Path(sys.executable).parent
_INSTALL: Final = "install elfutils (eu-stack) or gdb, or `pip install py-spy`"


@dataclass(frozen=True)
class NativeStack:
    """The text of a tool; where there is none, `why_not` says why."""

    text: str | None
    tool: str | None
    why_not: str | None = None


@dataclass(frozen=True)
class Tool:
    """One way to get the stacks."""

    name: str
    argv: tuple[str, ...]


_GDB: Final = (
    "-batch", "-nx",
    # Neither scripts of the process's libraries nor symbols from the network.
    "-iex", "set auto-load off",
    "-iex", "set debuginfod enabled off",
    "-iex", "set print frame-arguments none",
    "-iex", "set print entry-values no",
)  # fmt: skip
_GDB_STACKS: Final = ("-ex", f"thread apply all -ascending bt {_FRAMES}")  # the main one first


def tools_for_process(pid: int, installed: Iterable[str]) -> list[Tool]:
    """What may show the native stacks of a process, best first. Pure."""
    eu_stack = ("eu-stack", "-n", str(_FRAMES), "-p", str(pid))
    every = [
        Tool("eu-stack", eu_stack),
        Tool("py-spy", ("py-spy", "dump", "--native", "--pid", str(pid))),
        Tool("gdb", ("gdb", *_GDB, "-p", str(pid), *_GDB_STACKS)),
    ]
    return [tool for tool in every if tool.name in set(installed)]


def tools_for_core(executable: str, core: str, installed: Iterable[str]) -> list[Tool]:
    """The same for a core file. Pure."""
    eu_stack = ("eu-stack", "-n", str(_FRAMES), f"--executable={executable}", f"--core={core}")
    every = [
        Tool("eu-stack", eu_stack),
        Tool("gdb", ("gdb", *_GDB, executable, core, *_GDB_STACKS)),
    ]
    return [tool for tool in every if tool.name in set(installed)]


def core_name(pattern: str, uses_pid: bool, pid: int) -> str | None:
    """Where /proc/sys/kernel/core_pattern puts a core, as a glob; None for a pipe. Pure.

    core(5). What is not known of a process that has ended becomes a `*`.
    """
    if pattern.startswith("|") or not pattern:
        return None
    known = {"%p": str(pid), "%u": str(os.getuid()), "%%": "%"}
    name = re.sub(r"%(.)", lambda match: known.get(match[0], "*"), pattern)
    return f"{name}.{pid}" if uses_pid and "%p" not in pattern else name


def cleaned(text: str) -> str:
    """Without what a tool says before the first thread. Pure."""
    started = re.search(r"^(?:Thread \d+ \(|#0 |TID \d+:|Thread \d+ )", text, re.MULTILINE)
    return text[started.start() :][:_TEXT_LIMIT].strip() if started else ""


def of_process(pid: int, limit_s: float) -> NativeStack:
    """The native stacks of a living process, by the first tool that can; within `limit_s`."""
    tools = tools_for_process(pid, _installed(("eu-stack", "py-spy", "gdb")))
    if not tools:
        return NativeStack(None, None, f"no tool for native stacks is installed: {_INSTALL}")
    before = ask_stacks.state_of(pid)
    try:
        found = _first(tools, limit_s)
    finally:
        if before not in ("T", "t"):
            _let_go_on(pid)
    if found.why_not is not None and "not permitted" in found.why_not:
        yama = "only root or its parents may trace it (kernel.yama.ptrace_scope, or no SYS_PTRACE)"
        return NativeStack(None, None, f"{found.why_not}; {yama}")
    return found


def _let_go_on(pid: int) -> None:
    """A debugger that is killed while it attaches leaves its SIGSTOP behind, perhaps to come."""
    deadline = time.monotonic() + _LET_GO_S
    while time.monotonic() < deadline:
        if ask_stacks.state_of(pid) == "T":
            try:
                os.kill(pid, signal.SIGCONT)
            except OSError:  # gone meanwhile
                return
        time.sleep(0.01)


def of_core(
    pid: int, executable: str, directory: Path, since: float, limit_s: float
) -> NativeStack:
    """The native stacks of a process of ours that has dumped its core, started at `since`.

    `directory` is where it ran; a core of somebody else's, or an older one, is not read. OSError
    if there is no /proc.
    """
    pattern = Path("/proc/sys/kernel/core_pattern").read_text("utf-8", "replace").strip()
    if pattern.startswith("|"):
        if "systemd-coredump" in pattern and find("coredumpctl"):
            return _of_coredumpctl(pid, limit_s)
        program = pattern[1:].split()[:1]
        return NativeStack(None, None, f"the core went to {' '.join(program)}, which keeps it")
    uses_pid = Path("/proc/sys/kernel/core_uses_pid").read_text("ascii").strip() == "1"
    name = core_name(pattern, uses_pid, pid)
    core = _newest(directory, name, since) if name else None
    if core is None:
        return NativeStack(None, None, f"no core file {name} of this process in {directory}")
    tools = tools_for_core(executable, str(core), _installed(("gdb", "eu-stack")))
    if not tools:
        return NativeStack(None, None, f"{core}: nothing reads it here: {_INSTALL}")
    return _first(tools, limit_s)


def _of_coredumpctl(pid: int, limit_s: float) -> NativeStack:
    """systemd-coredump writes it down after the process has gone: ask until it has."""
    deadline = time.monotonic() + limit_s
    found = NativeStack(None, "coredumpctl", "systemd-coredump does not have it yet")
    while found.text is None and (left_s := deadline - time.monotonic()) > 0:
        argv = ("coredumpctl", "info", "--no-pager", str(pid))
        found = _run(Tool("coredumpctl", argv), left_s, r"^\s*Stack trace of thread")
        time.sleep(0.2)
    return found


def _newest(directory: Path, pattern: str, since: float) -> Path | None:
    """Among the files that match, the newest that this user's process can have written."""
    place = Path(pattern)
    where = place.parent if place.is_absolute() else directory / place.parent
    best: tuple[float, Path] | None = None
    for path in where.glob(place.name):
        found = path.lstat()
        ours = found.st_uid == os.getuid() and found.st_mtime >= since
        if ours and (best is None or found.st_mtime > best[0]):
            best = (found.st_mtime, path)
    return best[1] if best else None


def _installed(names: Sequence[str]) -> list[str]:
    return [name for name in names if find(name)]


def find(name: str) -> str | None:
    """A program on the path, or beside our Python, where pip puts it.

    Root's PATH may be a user's (sudo -E, a container's): as root, the system's directories, and
    those of our Python, whose code root runs already.
    """
    path = _SYSTEM_PATH if os.geteuid() == 0 else None  # None: PATH
    return shutil.which(name, path=path) or shutil.which(name, path=str(_PYTHON_DIRECTORY))


def _first(tools: Sequence[Tool], limit_s: float) -> NativeStack:
    """The first that answers; all together have `limit_s`."""
    deadline = time.monotonic() + limit_s
    failures = []
    for tool in tools:
        found = _run(tool, max(deadline - time.monotonic(), 0.1))
        if found.text is not None:
            return found
        failures.append(f"{tool.name}: {found.why_not}")
        if time.monotonic() > deadline:
            break
    return NativeStack(None, None, "; ".join(failures))


def _run(tool: Tool, limit_s: float, starts: str | None = None) -> NativeStack:
    program = find(tool.argv[0])
    if program is None:  # Popen would look on PATH
        return NativeStack(None, tool.name, "it is not installed")
    environment = {k: v for k, v in os.environ.items() if k != "DEBUGINFOD_URLS"}
    started = subprocess.Popen(
        [program, *tool.argv[1:]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**environment, "LC_ALL": "C.UTF-8"},
        preexec_fn=_bound_memory,
    )
    late = None
    try:
        out, err = started.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        late = f"it took longer than {limit_s:.1f} s"
        out, err = _stop(started)
    text = out.decode("utf-8", "replace")
    if starts is None:
        text = cleaned(text)
    elif begin := re.search(starts, text, re.MULTILINE):
        text = text[begin.start() :][:_TEXT_LIMIT]
    else:
        text = ""
    if text:
        return NativeStack(f"{text}\n({late})" if late else text, tool.name)
    said = err.decode("utf-8", "replace").strip().splitlines()
    return NativeStack(None, tool.name, late or (said[-1] if said else "it said nothing"))


def _stop(started: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """gdb lets go of the process on SIGTERM, if it listens."""
    started.terminate()
    try:
        return started.communicate(timeout=0.3)
    except subprocess.TimeoutExpired:
        started.kill()
        return started.communicate()


def _bound_memory() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (_TOOL_MEMORY_BYTES, _TOOL_MEMORY_BYTES))
