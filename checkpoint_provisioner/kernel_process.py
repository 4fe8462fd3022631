"""The kernel as the provisioner sees it: a process that is not its child, under a supervisor."""

from __future__ import annotations

import os
import select
import signal


class KernelProcess:
    """Signals to the kernel's group, and whether the kernel has gone, by pidfd_open(2).

    A pid may be another's by now; a pidfd stays what it was opened for.
    """

    def __init__(self, pid: int, pgid: int) -> None:
        self._pgid = pgid
        try:
            self._fd: int | None = os.pidfd_open(pid)
        except OSError:  # gone already; the supervisor says how
            self._fd = None

    @property
    def gone(self) -> bool:
        """Whether it has exited, reaped or not: its ports are free."""
        if self._fd is None:
            return True
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(0))

    def signal(self, number: int) -> None:
        """To the whole group, unless the kernel is gone."""
        if self.gone:
            return
        try:
            os.killpg(self._pgid, number)
        except ProcessLookupError:
            pass

    def kill(self) -> None:
        """SIGKILL to the group."""
        self.signal(signal.SIGKILL)

    def close(self) -> None:
        """Let go of it; it counts as gone from now on."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
