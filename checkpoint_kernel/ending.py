"""A kernel that is asked to go saves its state and goes, wherever its main thread is.

Two things ask a kernel to go. A shutdown_request takes effect when the running cell has ended;
SIGTERM has a handler that saves. But the handler runs in the main thread between two bytecodes,
so inside one long call of C code neither has any effect, and SIGKILL follows.

    shutdown_request -> the cell was interrupted; it has `OBEY_S` to end -> SIGTERM to ourselves
    SIGTERM          -> its handler has `HANDLER_S` to begin -> save from here, die of SIGTERM

Covers calls that let other threads run; one that keeps the interpreter to itself cannot be
helped from within the process.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import threading
import time
import warnings
from collections.abc import Callable
from typing import Final

from . import last_words

# Jupyter itself sends SIGTERM so long after a shutdown request, unless told otherwise.
OBEY_S: Final = 2.5
# A bytecode that takes longer than this is a call of C code.
HANDLER_S: Final = 1.0


class Ending(threading.Thread):
    """Waits for both; `save` is called, in this thread, when the main thread cannot."""

    def __init__(self, is_ours: Callable[[], bool], save: Callable[[str], None]) -> None:
        """`is_ours()`: the handler of SIGTERM is the kernel's and not one of the user's."""
        super().__init__(name="checkpoint-kernel-ending", daemon=True)
        self._is_ours = is_ours
        self._save = save
        self._read_fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._obey_by: float | None = None  # monotonic
        self._in_hand = threading.Event()
        warnings.filterwarnings("ignore", "It looks like Trio's signal handling", RuntimeWarning)

    # --- told by the main thread ---

    def listen(self) -> None:
        """Have Python's C handler tell us of signals at once (signal.set_wakeup_fd).

        asyncio's signal handlers use the same channel, and take it over. So does Trio, which
        would warn the user of us.
        """
        other = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        if other not in (-1, self._write_fd):
            signal.set_wakeup_fd(other)

    def in_forked_child(self) -> None:
        """The signals of a child are not ours."""
        other = signal.set_wakeup_fd(-1)
        if other not in (-1, self._write_fd):
            signal.set_wakeup_fd(other)

    def in_hand(self) -> None:
        """The main thread saves, and goes."""
        self._in_hand.set()

    # --- told by any thread ---

    def shutdown_requested(self) -> None:
        """A shutdown_request has come; perhaps a cell is running."""
        self._obey_by = time.monotonic() + OBEY_S
        os.write(self._write_fd, b"\0")

    # --- the thread ---

    def run(self) -> None:
        poll = select.poll()
        poll.register(self._read_fd, select.POLLIN)
        while True:
            wait_s = None if self._obey_by is None else self._obey_by - time.monotonic()
            poll.poll(None if wait_s is None else max(wait_s, 0) * 1000)
            if signal.SIGTERM in self._signals():
                self._terminated()
            elif self._obey_by is not None and time.monotonic() >= self._obey_by:
                self._obey_by = None
                self._disobeyed()

    def _signals(self) -> bytes:
        try:
            return os.read(self._read_fd, 4096)
        except BlockingIOError:
            return b""

    def _disobeyed(self) -> None:
        """The cell did not end when it was interrupted."""
        if self._in_hand.is_set():
            return
        if self._ours():
            last_words.quiet_kill(os.getpid(), signal.SIGTERM)
        else:
            self._save("shutdown")  # SIGKILL comes, whatever the user's handler does

    def _terminated(self) -> None:
        if not self._ours() or self._in_hand.wait(HANDLER_S):
            return
        self._save("SIGTERM")
        if not self._in_hand.is_set():  # else the call has ended meanwhile
            # signal.signal() is for the main thread only.
            ctypes.CDLL(None).signal(int(signal.SIGTERM), None)
            last_words.quiet_kill(os.getpid(), signal.SIGTERM)

    def _ours(self) -> bool:
        """Asked twice: handlers are replaced for milliseconds while a snapshot is forked."""
        if self._is_ours():
            return True
        time.sleep(0.05)
        return self._is_ours()
