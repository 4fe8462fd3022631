"""What the kernel writes to descriptor 2 passes through here, so that its last words survive.

Fatal messages of C libraries die with a kernel that reads its own descriptor 2, as
ipykernel does. Always drains and never blocks: whoever does not read loses text, and the
kernel loses no time.

Two pipes, for our kernel only (others keep the descriptor 2 that they inherit):

    kernel's start, its log  -> log pipe    -> tail, stderr.txt, our own stderr
    kernel's descriptor 2    -> stderr pipe -> tail, stderr.txt, echo pipe -> kernel publishes
"""

from __future__ import annotations

import os
import select
from pathlib import Path

KEPT_BYTES = 64 * 1024
_FILE_BYTES = 4 * KEPT_BYTES  # at most this long before it is cut to the tail again
_PIPE_BUF = 4096


class StderrRelay:
    """The supervisor's ends of the pipes, and the tail of what passed."""

    def __init__(self, path: Path) -> None:
        self.log_read_fd, self.log_write_fd = os.pipe()
        self.stderr_read_fd, self.stderr_write_fd = os.pipe()
        self.echo_read_fd, self.echo_write_fd = os.pipe()
        for fd in (self.log_read_fd, self.stderr_read_fd, self.echo_write_fd):
            os.set_blocking(fd, False)
        self._echoing = True
        self._tail = bytearray()
        self._path = path
        self._file_bytes = 0
        self.problem: str | None = None  # why stderr.txt is not written

    @property
    def tail(self) -> bytes:
        """The last 64 KB, both pipes in the order in which they were read."""
        return bytes(self._tail)

    @property
    def read_fds(self) -> tuple[int, int]:
        """What to wait on."""
        return self.log_read_fd, self.stderr_read_fd

    def kernel_has_its_ends(self) -> None:
        """After the fork: close what is the kernel's, so that its exit is an end of file."""
        for fd in (self.log_write_fd, self.stderr_write_fd, self.echo_read_fd):
            os.close(fd)

    def drain(self, fd: int) -> bool:
        """Pass on what waits in one of `read_fds`; False at its end."""
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            return True
        if not data:
            return False
        self._keep(data)
        if fd == self.log_read_fd:
            _write_if_ready(2, data)
        else:
            self._echo(data)
        return True

    def drain_all(self) -> None:
        """After the exit: everything that is still in the pipes, without waiting for more."""
        for fd in self.read_fds:
            for _ in range(64):  # a surviving child may go on writing for ever
                ready, _, _ = select.select([fd], [], [], 0)
                if not ready or not self.drain(fd):
                    break

    def _keep(self, data: bytes) -> None:
        self._tail += data
        del self._tail[:-KEPT_BYTES]
        fresh = self._file_bytes + len(data) > _FILE_BYTES
        try:
            with open(self._path, "wb" if fresh else "ab") as file:
                file.write(self._tail if fresh else data)
        except OSError as why:  # a full disk: the tail is still in memory
            self.problem = f"stderr.txt could not be written: {why}"
        self._file_bytes = len(self._tail) if fresh else self._file_bytes + len(data)

    def _echo(self, data: bytes) -> None:
        if not self._echoing:
            return
        try:
            os.write(self.echo_write_fd, data)
        except BlockingIOError:  # the kernel does not read now: it loses this text on screen only
            pass
        except OSError:
            self._echoing = False


def _write_if_ready(fd: int, data: bytes) -> None:
    """Write to a descriptor that we share with others and may not make non-blocking."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    for start in range(0, len(data), _PIPE_BUF):
        events = poll.poll(0)
        if not events or not events[0][1] & select.POLLOUT:
            return
        try:
            os.write(fd, data[start : start + _PIPE_BUF])
        except OSError:
            return
