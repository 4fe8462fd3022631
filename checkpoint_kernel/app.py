"""The application: ipykernel's, with our kernel class, streams and parent watch."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

from ipykernel.kernelapp import IPKernelApp

from . import last_words
from .flight_recorder import FlightRecorder
from .kernel import CheckpointKernel
from .session import Session
from .streams import SupervisedOutStream

_PARENT_POLL_S = 0.5


class CheckpointKernelApp(IPKernelApp):  # type: ignore[misc]
    """`session_record`, `session_directory` and `recorder` are set before `initialize`."""

    name = "checkpoint-kernel"

    session_record: Session
    session_directory: Path
    recorder: FlightRecorder

    def init_io(self) -> None:
        """Give the streams the supervisor's pipes before they are made."""
        record = self.session_record
        if record.stderr_write_fd is not None and record.stderr_read_fd is not None:
            for fd in (record.stderr_write_fd, record.stderr_read_fd):
                os.set_inheritable(fd, False)
            SupervisedOutStream.pipes = (record.stderr_write_fd, record.stderr_read_fd)
        self.outstream_class = "checkpoint_kernel.streams.SupervisedOutStream"
        super().init_io()

    def init_kernel(self) -> None:
        """The kernel class reads its session from class attributes: traitlets makes it."""
        CheckpointKernel.session_record = self.session_record
        CheckpointKernel.session_directory = self.session_directory
        CheckpointKernel.recorder = self.recorder
        self.kernel_class = CheckpointKernel
        super().init_kernel()

    def init_poller(self) -> None:
        """ipykernel's poller ends the process without a word; ours saves first."""
        if self.parent_handle and self.parent_handle != 1:
            self.poller = _ParentWatch(self)

    def start(self) -> None:
        """Serve until the loop ends, then save what the last checkpoint lacks."""
        super().start()
        if isinstance(self.kernel, CheckpointKernel):
            self.kernel.leave()


class _ParentWatch(threading.Thread):
    """Ends the kernel when its supervisor is gone: nobody could reach it any more."""

    def __init__(self, app: CheckpointKernelApp) -> None:
        super().__init__(name="checkpoint-kernel-parent", daemon=True)
        self._app = app
        self._parent = app.session_record.supervisor_pid  # and not getppid(): it may be gone

    def run(self) -> None:
        while os.getppid() == self._parent:
            time.sleep(_PARENT_POLL_S)
        kernel: Any = self._app.kernel
        if isinstance(kernel, CheckpointKernel):
            kernel.parent_gone()
        last_words.quiet_exit(1)
