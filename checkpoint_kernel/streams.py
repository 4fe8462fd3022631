"""Standard error by way of the supervisor, so that a kernel's last words outlive it.

ipykernel puts a pipe of its own behind descriptor 2; what C code writes there in its last
moment dies in that pipe. Here the supervisor holds the pipe: it keeps the tail and passes
the bytes on to the kernel, which publishes them as ipykernel would.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import ClassVar

from ipykernel.iostream import OutStream


class SupervisedOutStream(OutStream):  # type: ignore[misc]
    """ipykernel's stream; its stderr goes out through the supervisor's pipes if there are any."""

    pipes: ClassVar[tuple[int, int] | None] = None  # (write end for fd 2, read end for us)

    def _setup_stream_redirects(self, name: str) -> None:
        if name != "stderr" or self.pipes is None:
            super()._setup_stream_redirects(name)
            return
        write_fd, self._fid = self.pipes
        stream_fd = self._original_stdstream_fd = sys.stderr.fileno()
        self._original_stdstream_copy = os.dup(stream_fd)
        os.dup2(write_fd, stream_fd)
        os.close(write_fd)
        self._exc = None
        self.watch_fd_thread = threading.Thread(target=self._watch_pipe_fd, daemon=True)
        self.watch_fd_thread.start()
