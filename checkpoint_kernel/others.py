"""Has anything of the user's run since the last look, with no cell around it?

A thread, a task or a callback of the event loop, a library's own thread: whoever it is, it needs
processor time, and that is counted. Left out are the kernel's own threads, and what the main thread
does to take a checkpoint. Linux; elsewhere something always has run.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Final, NamedTuple

OURS: Final = "checkpoint-kernel"  # how the names of our threads begin
# Reading all the clocks takes some time itself.
_NOTHING_NS: Final = 50_000
# The event loop wakes up now and then for nothing that concerns a variable.
_NOTHING_OF_MAIN_NS: Final = 300_000


class _Worked(NamedTuple):
    """Processor time so far, in ns: of the main thread, and of all but it and the kernel's own."""

    main_ns: int
    others_ns: int


class Others:
    """Made when the kernel starts: the threads that there are then are the kernel's own."""

    def __init__(self) -> None:
        self._main = threading.main_thread().native_id or 0
        self._own = _threads() - {self._main}
        self._seen = self._worked()

    def have_run(self) -> bool:
        """Whether there was anything that no checkpoint has seen. Any thread."""
        if sys.platform != "linux":
            return True
        worked, seen = self._worked(), self._seen
        return (
            worked.main_ns - seen.main_ns > _NOTHING_OF_MAIN_NS
            or worked.others_ns - seen.others_ns > _NOTHING_NS
        )

    def look(self) -> None:
        """A checkpoint is about to be taken: it will see what was done until now."""
        self._seen = self._worked()

    def looked(self) -> None:
        """The main thread has taken it, and nothing else."""
        self._seen = self._seen._replace(main_ns=processor_ns(self._main))

    def _worked(self) -> _Worked:
        own = {t.native_id for t in threading.enumerate() if t.name.startswith(OURS)}
        all_ns = time.process_time_ns()  # first: what this thread does meanwhile is no other's
        main_ns = processor_ns(self._main)
        own_ns = sum(processor_ns(thread or 0) for thread in self._own | own)
        return _Worked(main_ns, all_ns - main_ns - own_ns)


def _threads() -> set[int]:
    tasks = Path("/proc/self/task")
    return {int(entry.name) for entry in tasks.iterdir()} if tasks.exists() else set()


def processor_ns(thread: int) -> int:
    """Of a thread of this process, by its id; 0 for one that has ended.

    The number of its clock is that of clock_getcpuclockid(3), for threads
    (include/linux/posix-timers.h: MAKE_THREAD_CPUCLOCK).
    """
    try:
        return time.clock_gettime_ns(~thread << 3 | 6)
    except OSError:
        return 0
