"""Puts the snapshot process right after code of the user's has run in it.

Working directory, collector, recursion limit, signal handlers, loaded modules, the notebook's
names, and what the modules that save are made of. Descriptors and other objects are not covered.
"""

from __future__ import annotations

import contextlib
import gc
import operator
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

_USED: Final = frozenset(
    {"os", "posix", "posixpath", "pickle", "_pickle", "copyreg", "io", "_io", "json",
     "json.encoder",
     "struct", "signal", "time", "hashlib", "_hashlib", "hmac", "errno", "select", "types",
     "builtins", "functools", "itertools", "operator", "dataclasses", "contextlib", "ctypes",
     "mmap", "resource", "linecache", "platform", "pathlib", "secrets", "fcntl", "shutil",
     "datetime", "fnmatch", "re", "weakref", "gc", "cloudpickle.cloudpickle", "dill._dill",
     "importlib", "sys", "_thread", "threading", "random", "stat", "collections"}
)  # fmt: skip
_SIGNALS: Final = (
    signal.SIGALRM, signal.SIGTERM, signal.SIGCHLD, signal.SIGINT, signal.SIGPIPE, signal.SIGHUP,
)  # fmt: skip
# Of `sys`, and other than the rest: these change by themselves.
_PASSING: Final = frozenset({"last_type", "last_value", "last_traceback", "last_exc"})


@dataclass(frozen=True)
class Order:
    """How things are while nobody has meddled with them."""

    directory: str | None
    recursion_limit: int
    handlers: tuple[Any, ...]
    loaded: dict[str, ModuleType]
    contents: list[tuple[dict[str, Any], dict[str, Any]]]  # of modules, and what it was

    def restore(self) -> None:
        """For the snapshot process only: there the garbage collector is off."""
        # First: what follows makes use of it.
        for now, content in self.contents:
            if not (
                len(now) == len(content) and all(map(operator.is_, now.values(), content.values()))
            ):
                _put_back(now, content)
        if sys.modules is not self.loaded:
            for name, module in self.loaded.items():
                sys.modules.setdefault(name, module)
        if gc.isenabled():
            gc.disable()
        if sys.getrecursionlimit() != self.recursion_limit:
            sys.setrecursionlimit(self.recursion_limit)
        for number, handler in zip(_SIGNALS, self.handlers, strict=True):
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        if self.directory is not None:
            with contextlib.suppress(OSError):  # it is gone
                os.chdir(self.directory)


def _put_back(now: dict[str, Any], content: dict[str, Any]) -> None:
    for name in now.keys() - content.keys() - _PASSING:
        # A submodule that was imported meanwhile stays.
        if not (name.startswith("__") or type(now[name]) is ModuleType):
            del now[name]
    for name, value in content.items():
        if now.get(name, content) is not value:
            now[name] = value


def order(main: dict[str, Any]) -> Order:
    """As things are now. `main`: the notebook's namespace."""
    try:
        directory = str(Path.cwd())
    except OSError:  # somebody has removed it
        directory = None
    loaded = dict(sys.modules)
    ours = (__package__ or "") + "."
    watched = [
        vars(module)
        for name, module in loaded.items()
        if type(module) is ModuleType and (name in _USED or name.startswith(ours))
    ]
    return Order(
        directory,
        sys.getrecursionlimit(),
        tuple(map(signal.getsignal, _SIGNALS)),
        loaded,
        [(content, dict(content)) for content in [main, *watched]],
    )
