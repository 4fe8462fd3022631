"""Functions by which Python code ends its own process, with a word to the recorder first.

A SIGKILL that a cell sends to its own kernel looks, from outside, like one from anybody.
Covers os._exit, os.abort and signals to oneself sent from Python; what C code does is not
seen here.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable
from typing import Any, Final

# For the kernel's own ends, which have their word in the record already.
quiet_exit: Final = os._exit
quiet_kill: Final = os.kill


def install(note: Callable[..., None]) -> None:
    """Wrap the functions; `note(exiting=...)` or `note(sent_itself=...)` is called before.

    Children that the user forks are left alone.
    """
    kernel_pid = os.getpid()

    def here() -> bool:
        return os.getpid() == kernel_pid

    def leaving(status: int) -> None:
        if here():
            note(exiting=f"os._exit({status})")

    def signalling(pid: int, number: int) -> None:
        mine = pid in (kernel_pid, 0) or (pid < 0 and -pid == os.getpgid(0))
        if here() and mine and number != 0 and _kills(number):
            note(sent_itself=_name(number))

    def raising(number: int) -> None:
        signalling(kernel_pid, number)

    def aborting() -> None:
        raising(signal.SIGABRT)

    def signalling_group(group: int, number: int) -> None:
        signalling(-group, number)

    _wrap(os, "_exit", leaving)
    _wrap(os, "abort", aborting)
    _wrap(os, "kill", signalling)
    _wrap(os, "killpg", signalling_group)
    _wrap(signal, "raise_signal", raising)


def _name(number: int) -> str:
    known = number in signal.Signals.__members__.values()
    return signal.Signals(number).name if known else f"signal {number}"


def _kills(number: int) -> bool:
    """Nobody handles it in Python."""
    if number == signal.SIGKILL:
        return True
    ignored_by_default = (signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH)
    return signal.getsignal(number) == signal.SIG_DFL and number not in ignored_by_default


def _wrap(module: Any, name: str, before: Callable[..., None]) -> None:
    original = getattr(module, name)

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            before(*args, **kwargs)
        except Exception:
            # Wrong arguments: the original says so better.
            return original(*args, **kwargs)
        return original(*args, **kwargs)

    # `from os import kill` in a notebook is saved by this name, and not as a function of ours.
    wrapper.__module__ = module.__name__
    setattr(module, name, wrapper)
