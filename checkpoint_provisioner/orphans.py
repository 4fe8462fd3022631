"""Frees the ports of a kernel that has ended: a child that it forked may hold them still.

A child that was forked and never executed anything has copies of the kernel's listening
sockets; one in a session of its own (setsid) survives the kernel's group, and every restart
would fail with "Address already in use". Children that leave these sockets alone are left
alone. Snapshot processes are `watch`'s. Formats: proc_net(5), unix sockets by their path.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import time
from pathlib import Path

from . import process
from .proc import belongs_to_session, process_name

_LISTENS_TCP = "0A"  # TCP_LISTEN, in hexadecimal
_ACCEPTS = 1 << 16  # __SO_ACCEPTCON in the flags of /proc/net/unix
_CONNECTION_FILE = re.compile(r"(?:--?f=)?(.*\.json)")
_PORTS = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")
GONE_WITHIN_S = 2.0


def free_ports(argv: list[str], session_directory: Path) -> list[str]:
    """Kill what keeps the ended kernel's ports. One sentence for each, also for a failure."""
    held = _listening(_endpoints(argv))
    if not held:
        return []
    said = []
    for pid in _forked_from(session_directory):
        if not held & _sockets(pid):
            continue
        name = process_name(pid)
        process.send(pid, signal.SIGKILL)
        said.append(f"process {pid} ({name}), forked by the kernel, kept its ports: killed")
    deadline = time.monotonic() + GONE_WITHIN_S
    while said and held & _listening(_endpoints(argv)):
        if time.monotonic() > deadline:
            said.append("the kernel's ports are still taken: its restart will fail")
            break
        process.reap_others(0)
        time.sleep(0.01)
    return said


def _endpoints(argv: list[str]) -> set[int | str]:
    """TCP ports, or paths of unix sockets, from the connection file in argv."""
    for word in argv:
        match = _CONNECTION_FILE.fullmatch(word)
        if match is None:
            continue
        try:
            about = json.loads(Path(match[1]).read_bytes())
            numbers = [int(about[name]) for name in _PORTS]
            if about.get("transport") == "ipc":
                return {f"{about['ip']}-{number}" for number in numbers}
        except (OSError, ValueError, TypeError, KeyError) as why:
            # Removed where no restart will follow; then nobody asks for these ports again.
            if not isinstance(why, FileNotFoundError):
                print(f"checkpoint-kernel: {match[1]} cannot be read: {why!r}", file=sys.stderr)
            return set()
        return set(numbers)
    return set()


def _listening(endpoints: set[int | str]) -> set[str]:
    """Inodes of the sockets that listen there."""
    found = set()
    for line in _lines("/proc/net/tcp") + _lines("/proc/net/tcp6"):
        words = line.split()
        if words[3] == _LISTENS_TCP and int(words[1].rpartition(":")[2], 16) in endpoints:
            found.add(words[9])
    for line in _lines("/proc/net/unix"):
        words = line.split(maxsplit=7)
        if len(words) == 8 and int(words[3], 16) & _ACCEPTS and words[7] in endpoints:
            found.add(words[6])
    return found


def _lines(path: str) -> list[str]:
    """Without the heading; none where this kernel lacks the protocol."""
    try:
        return Path(path).read_text("utf-8", "replace").splitlines()[1:]
    except OSError:
        return []


def _forked_from(session_directory: Path) -> list[int]:
    """Living copies of the kernel: what was executed afterwards has another environment."""
    pids = [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]
    return [pid for pid in pids if belongs_to_session(pid, session_directory)]


def _sockets(pid: int) -> set[str]:
    """Inodes of the sockets that a process has open."""
    directory = f"/proc/{pid}/fd"
    found = set()
    with contextlib.suppress(OSError):  # the process is gone
        for entry in os.listdir(directory):  # noqa: PTH208 - numbers, no paths
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                target = os.readlink(f"{directory}/{entry}")  # noqa: PTH115 - "socket:[42]"
                if target.startswith("socket:["):
                    found.add(target[8:-1])
    return found
