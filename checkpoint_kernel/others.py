"""Is anything of the user's at work beside the cell? Threads that only wait do not count.

Not seen: tasks of the event loop, and threads that are no Python threads.
"""

from __future__ import annotations

import sys
import threading
from pathlib import PurePath
from typing import Final

# Where a thread stands that waits for work, or for the network.
_WAITING: Final = frozenset(
    {"threading.py", "queue.py", "thread.py", "selectors.py", "socket.py", "ssl.py",
     "subprocess.py", "connection.py", "zmqstream.py", "asyncio.py", "base_events.py"}
)  # fmt: skip


def now() -> frozenset[int]:
    """The threads that live now: those of the kernel itself, when it starts."""
    return frozenset(sys._current_frames())


def at_work(known: frozenset[int]) -> bool:
    """Whether a thread that is not `known`, nor this one, is running something."""
    kernels = {t.ident for t in threading.enumerate() if t.name.startswith("checkpoint-kernel")}
    return any(
        ident not in known
        and ident not in kernels
        and PurePath(frame.f_code.co_filename).name not in _WAITING
        for ident, frame in sys._current_frames().items()
        if ident != threading.get_ident()
    )
