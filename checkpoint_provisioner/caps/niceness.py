"""The verb of `nice`: a kernel that lets others go first. For the forked child, before exec.

Where the scheduler groups processes by session (sched(7), "The autogroup feature"), a
process's niceness counts only among those of its own session, and the kernel is alone in
one: the session's own niceness is set too. No limit, so nothing here refuses.
"""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

_AUTOGROUP = Path("/proc/self/autogroup")
_TRIES = 5
_BETWEEN_TRIES_S = 0.11  # a plain user may set one every tenth of a second, else EAGAIN


def let_others_first(niceness: int) -> int:
    """Raise this process's niceness to at least `niceness`; what it is then. OSError.

    Not lowered: a server that was started nice has its reasons, and a user may not.
    """
    before = os.getpriority(os.PRIO_PROCESS, 0)
    if niceness > before:
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
        _session_too(niceness)
    return os.getpriority(os.PRIO_PROCESS, 0)


def _session_too(niceness: int) -> None:
    """A kernel without the feature has no such file, and then there is nothing to set."""
    for _ in range(_TRIES):
        try:
            fd = os.open(_AUTOGROUP, os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            return
        try:
            os.write(fd, str(niceness).encode())
            return
        except OSError as why:
            if why.errno != errno.EAGAIN:
                return
        finally:
            os.close(fd)
        time.sleep(_BETWEEN_TRIES_S)
