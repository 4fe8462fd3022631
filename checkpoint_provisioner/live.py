"""Which kernels run right now, and as which process: by the sessions in the store and by /proc.

Reads only. What they are doing is said by their flight recorders; asking them is `ask_stacks`'.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from checkpoint_kernel import contract, flight_recorder, process_tree, session
from checkpoint_kernel.flight_recorder import Flight
from checkpoint_kernel.session import Session

from . import listing, proc
from .listing import Notebook


@dataclass(frozen=True)
class LiveKernel:
    """A kernel that runs."""

    notebook: Notebook
    directory: Path  # of its session
    session: Session
    pid: int
    flight: Flight | None  # None: a kernel that is not ours keeps none


def kernels(roots: Sequence[Path], wanted: str | None = None) -> list[LiveKernel]:
    """The kernels that run, of all notebooks or of those that `wanted` names, oldest first.

    `listing.NotFound` if it names none. Of one notebook there may be several.
    """
    found = [
        kernel
        for notebook in listing.notebooks(roots, wanted)
        for directory in sorted((notebook.directory / contract.SESSIONS).glob("*"))
        if (kernel := _alive(notebook, directory)) is not None
    ]
    return sorted(found, key=lambda kernel: kernel.session.started)


def _alive(notebook: Notebook, directory: Path) -> LiveKernel | None:
    try:
        if (directory / contract.EXIT_FILE).exists():
            return None
        began = session.load_session(directory)
        flight = flight_recorder.read(directory / contract.FLIGHT_FILE)
    except (OSError, ValueError, TypeError):  # half written, or of another version: none of ours
        return None
    if began is None or began.boot_id != proc.boot_id():  # of another machine, or of an earlier day
        return None
    candidates = [flight.pid] if flight else process_tree.children(began.supervisor_pid)
    for pid in candidates:
        if proc.belongs_to_session(pid, directory) and _leads_a_session(pid):
            return LiveKernel(notebook, directory, began, pid, flight)
    return None


def _leads_a_session(pid: int) -> bool:
    """As the supervisor makes its kernel do; children that the kernel left behind do not."""
    try:
        return os.getsid(pid) == pid
    except OSError:
        return False


def rss_bytes(pid: int) -> int | None:
    """Resident memory of a process (statm, proc(5))."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
