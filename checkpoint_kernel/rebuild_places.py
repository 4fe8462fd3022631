"""What pickles of `reducers_places` call when they are loaded.

The names of these functions, and their parameters, stand in checkpoints: add, never rename.
"""

from __future__ import annotations

import contextvars
import os
from pathlib import Path
from typing import Any

from . import rebuild


def pointer(cls: Any, target: Any) -> Any:
    """A pointer of ctypes to an object, or to nothing."""
    return cls() if target is None else cls(target)


def entry(directory: str, absolute: str, name: str, inode: int) -> os.DirEntry[str]:
    """An entry of a directory; NotThere if another file has that name now.

    `absolute` is what `directory` was, as the current one may be another.
    """
    if str(Path(directory).absolute()) != absolute:
        raise rebuild.NotThere(f"{directory} is another directory now than {absolute}")
    try:
        with os.scandir(directory) as entries:
            found = next((one for one in entries if one.name == name), None)
    except OSError as why:
        raise rebuild.NotThere(f"{directory} cannot be read: {why.strerror}") from why
    if found is None or found.inode() != inode:
        raise rebuild.NotThere(f"there is no such file any more: {directory}{name}")
    return found


def context() -> contextvars.Context:
    """A context without variables."""
    return contextvars.Context()


def set_context(
    made: contextvars.Context,
    values: tuple[list[tuple[contextvars.ContextVar[Any], Any]], list[Any]],
) -> None:
    """The values of variables, and of decimal's own."""
    variables, decimals = values
    for variable, value in variables:
        made.run(variable.set, value)
    for value in decimals:
        import decimal

        made.run(decimal.setcontext, value)


def library_variable(module: str, name: str) -> Any:
    """A variable that a library has."""
    import importlib

    return getattr(importlib.import_module(module), name)
