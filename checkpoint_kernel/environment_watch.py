"""Keeps on record what this kernel runs with, in a thread that holds nobody up.

It looks once when the kernel starts, and again after a cell if a directory of packages has changed
(`%pip install`). What is read and how is `environment_reader`'s.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import sys
import threading
import time
from pathlib import Path
from typing import Final

from . import environment, environment_reader
from .environment import Environment, Python

# A cell of the user's waits at most for one step, and a look takes a tenth of one processor.
_STEP_S: Final = 0.001
_REST_PER_STEP: Final = 9
# While cells follow one another, directories are not asked more often.
_LOOK_EVERY_S: Final = 3.0


class EnvironmentWatch(threading.Thread):
    """Writes environment.json into a session's directory; `trouble` says why it could not."""

    def __init__(self, directory: Path, session: str, notebook: str | None) -> None:
        super().__init__(name="checkpoint-kernel-environment", daemon=True)
        self._directory = directory
        self._session = session
        self._notebook = notebook
        self._written: Environment | None = None
        self._path: list[str] = []  # sys.path at the last look
        self._wake = threading.Event()
        self._stepped = 0.0  # this thread's processor time at its last rest
        self.trouble: str | None = None

    def cell_ended(self) -> None:
        """Something may have been installed. Main thread; costs nothing."""
        self._wake.set()

    def run(self) -> None:
        while True:
            try:
                if self._changed():
                    self._renew()
                self.trouble = None
            except Exception as why:  # the next cell's end tries again
                self.trouble = f"{type(why).__name__}: {why}"
            time.sleep(_LOOK_EVERY_S if self._written is not None else 0)
            self._wake.wait()
            self._wake.clear()

    def _changed(self) -> bool:
        if self._written is None:
            return True
        watched = self._written.watched
        return sys.path != self._path or environment_reader.modified(watched) != watched

    def _renew(self) -> None:
        self._path = list(sys.path)
        self._stepped = time.thread_time()
        prefix = Path(sys.prefix)
        found = environment_reader.look(None, prefix, self._step)
        before = self._written
        same = before is not None and found.state.same_as(before.now)
        renewed = Environment(
            session=self._session,
            notebook=self._notebook,
            python=_python(),
            now=found.state,
            at_start=before.started_with if before is not None and not same else None,
            origins=found.origins,
            by_conda=found.by_conda,
            watched=found.watched,
            notes=found.notes,
        )
        if before is not None and same:
            renewed = dataclasses.replace(renewed, now=before.now, at_start=before.at_start)
        # Written for a new date of a directory too: a post-mortem goes by it.
        environment.save(self._directory, renewed)
        self._written = renewed

    def _step(self) -> None:
        """Rest when enough has been done. What waits for a disk holds nobody up: not counted."""
        worked_s = time.thread_time() - self._stepped
        if worked_s >= _STEP_S:
            time.sleep(worked_s * _REST_PER_STEP)
            self._stepped = time.thread_time()


def _python() -> Python:
    return Python(
        version=platform.python_version(),
        prefix=sys.prefix,
        implementation=platform.python_implementation(),
        platform=_platform(),
    )


def _platform() -> str:
    """As platform.platform() says it, which may start a process to ask for more than that."""
    machine = os.uname()
    try:
        library = os.confstr("CS_GNU_LIBC_VERSION") or ""  # "glibc 2.36"
    except (ValueError, OSError):
        library = ""
    said = f"{machine.sysname}-{machine.release}-{machine.machine}"
    return f"{said}-with-{library.replace(' ', '')}" if library else said
