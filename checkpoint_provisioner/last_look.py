"""Takes the stacks of a kernel that does not answer a restart, before it is killed.

    provisioner: half the time is up -> SIGTERM to the kernel, STACKS_SIGNAL to the supervisor
    supervisor:  starts this as a process of its own, which may take its time, and may hang
    this:        Python's stacks -> last_look.json -> native stacks -> last_look.json, complete
    provisioner: all the time is up -> waits for the complete file, KILL_WAIT_S at most -> SIGKILL

By then the look is over as a rule: it begins with half of the waiting time to go. The supervisor
starts it because Yama lets the supervisor's children trace the kernel, and not the server's.
What the file says is evidence; the verdict is `verdict`'s.
"""

from __future__ import annotations

import dataclasses
import json
import os
import select
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from checkpoint_kernel import contract, durable, flight_recorder

from . import ask_stacks

# What a restart may take longer because of us, where nobody looked before.
KILL_WAIT_S: Final = 1.0
_PYTHON_WAIT_S: Final = 0.6


@dataclass(frozen=True)
class LastLook:
    """What was seen of a kernel before its end."""

    time: float
    state: str  # of its main thread: a letter, proc(5)
    state_words: str | None = None  # where the state explains why it did not answer
    waits_in: str | None = None  # a function of the operating system
    stacks: str = ""  # Python's, as faulthandler writes them
    stacks_missing: str | None = None  # why there are none
    native: str | None = None
    native_missing: str | None = None
    complete: bool = False


class Looker:
    """The supervisor's handle: starts the look once, and ends it with the kernel."""

    def __init__(self, pid: int, directory: Path) -> None:
        self._pid = pid
        self._directory = directory
        self._fd: int | None = None  # pidfd_open(2): its pid may be reaped at any time
        self._group = 0

    def begin(self) -> None:
        """Start it; asked again, it is not. OSError if there can be no process."""
        if self._fd is not None:
            return
        argv = [sys.executable, "-m", __name__, str(self._pid), str(self._directory)]
        self._group = os.posix_spawn(
            sys.executable, argv, os.environ, setsid=True, setsigmask=(), setsigdef=()
        )
        self._fd = os.pidfd_open(self._group)

    def end(self) -> None:
        """The kernel has ended: there is nothing more to see."""
        if self._fd is None:
            return
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        if not poll.poll(0):  # it lives, so its group is its own; its tool is in it too
            os.killpg(self._group, signal.SIGKILL)
        os.close(self._fd)
        self._fd = None


def load(directory: Path) -> LastLook | None:
    """What the last look at a session's kernel found; None if there was none.

    OSError or ValueError if it cannot be read.
    """
    try:
        raw = json.loads((directory / contract.LAST_LOOK_FILE).read_bytes())
    except FileNotFoundError:
        return None
    names = {field.name for field in dataclasses.fields(LastLook)}
    return LastLook(**{k: v for k, v in raw.items() if k in names})


def is_complete(directory: Path) -> bool:
    """Whether nothing more is to be waited for."""
    try:
        found = load(directory)
    except (OSError, ValueError, TypeError):
        return True
    return found is not None and found.complete


def take(pid: int, directory: Path) -> None:
    """Look, and write down what is seen as soon as it is there."""
    from . import native_stack  # not in the supervisor, which imports this module

    flight = flight_recorder.read(directory / contract.FLIGHT_FILE)
    state = ask_stacks.state_of(pid)
    seen = LastLook(
        time=time.time(),
        state=state,
        state_words=ask_stacks.in_words(state) if state in ("T", "t", "D") else None,
        waits_in=ask_stacks.waits_in(pid),
    )
    answer = ask_stacks.ask(pid, directory, flight, _PYTHON_WAIT_S)
    seen = dataclasses.replace(seen, stacks=answer.text, stacks_missing=answer.why_not)
    _save(directory, seen)
    native = native_stack.of_process(pid, native_stack.ENDING_LIMIT_S)
    _save(
        directory,
        dataclasses.replace(seen, native=native.text, native_missing=native.why_not, complete=True),
    )


def _save(directory: Path, seen: LastLook) -> None:
    durable.publish(
        directory / contract.LAST_LOOK_FILE, json.dumps(dataclasses.asdict(seen)).encode()
    )


if __name__ == "__main__":
    take(int(sys.argv[1]), Path(sys.argv[2]))
