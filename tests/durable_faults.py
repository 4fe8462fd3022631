"""Faults at durable operations: count them, fail the n-th, die at it, lose power at it.

Wraps the primitives of `checkpoint_kernel.durable`, through which everything durable goes.
"""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from checkpoint_kernel import durable

PRIMITIVES = ("create", "write_all", "fsync", "rename", "unlink")
_REAL: dict[str, Callable[..., Any]] = {name: getattr(durable, name) for name in PRIMITIVES}

Hook = Callable[[str, tuple[Any, ...]], None]


@contextmanager
def watched(before: Hook, after: Hook | None = None) -> Iterator[None]:
    """Call `before` (and `after`) around every durable operation, with its name and arguments."""

    def wrap(name: str) -> Callable[..., Any]:
        def operation(*arguments: Any) -> Any:
            before(name, arguments)
            result = _REAL[name](*arguments)
            if after:
                after(name, arguments)
            return result

        return operation

    for name in PRIMITIVES:
        setattr(durable, name, wrap(name))
    try:
        yield
    finally:
        for name in PRIMITIVES:
            setattr(durable, name, _REAL[name])


def operations_of(work: Callable[[], object]) -> list[str]:
    """The names of the durable operations that `work` performs."""
    names: list[str] = []
    with watched(lambda name, _arguments: names.append(name)):
        work()
    return names


def failing_at(number: int, error: int) -> Any:
    """The operation of that number raises OSError; a write first does half of its work.

    Unlinks are exempt: they are how a failed writer cleans up, and a disk that is full
    does not fail them.
    """
    counter = itertools.count()

    def before(name: str, arguments: tuple[Any, ...]) -> None:
        if next(counter) == number and name != "unlink":
            _half_of(name, arguments)
            raise OSError(error, os.strerror(error))

    return watched(before)


def dies_at(number: int, work: Callable[[], object], halfway: bool) -> bool:
    """Run `work` in a child that dies at that operation; False if it got to its end.

    `halfway`: if the operation is a write, half of it is done.
    """

    def child() -> None:
        counter = itertools.count()

        def before(name: str, arguments: tuple[Any, ...]) -> None:
            if next(counter) == number:
                if halfway:
                    _half_of(name, arguments)
                os._exit(_DIED)

        with watched(before):
            work()

    return _in_child(child) == _DIED


def loses_power_at(
    number: int, work: Callable[[], object], lost: frozenset[str], lose_data: bool
) -> bool:
    """As `dies_at`, but what was not synced is gone too, as far as the disk pleases.

    `lost`: names of directories whose renames, creations and unlinks since their last
    fsync are undone. `lose_data`: files with unsynced writes are empty. False if `work`
    got to its end; the power then fails right after it.
    """

    def child() -> None:
        counter = itertools.count()
        cache = _Cache()

        def before(name: str, arguments: tuple[Any, ...]) -> None:
            if next(counter) == number:
                cache.lose(lost, lose_data)
                os._exit(_DIED)
            cache.before(name, arguments)

        with watched(before, cache.after):
            work()
        cache.lose(lost, lose_data)

    return _in_child(child) == _DIED


_DIED = 99


def _in_child(work: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException as why:
            os.write(2, f"the child failed: {why!r}\n".encode())
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, _DIED), f"the child failed with {code}"
    return code


def _half_of(name: str, arguments: tuple[Any, ...]) -> None:
    if name == "write_all":
        fd, data = arguments
        view = memoryview(data).cast("B")
        _REAL["write_all"](fd, view[: len(view) // 2])


class _Cache:
    """What a disk may still lose: writes without fsync, names without fsync of the directory."""

    def __init__(self) -> None:
        self._dirty: dict[int, Path] = {}  # inode -> path
        self._undo: list[tuple[str, Callable[[], object]]] = []  # directory's name, how

    def before(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name == "rename":
            source, target = arguments
            replaced = target.read_bytes() if target.exists() else None
            inode = source.stat().st_ino
            if inode in self._dirty:
                self._dirty[inode] = target
            self._undo.append((target.parent.name, lambda: _restore(target, replaced)))
        elif name == "unlink":
            (path,) = arguments
            if path.exists():
                content = path.read_bytes()
                self._undo.append((path.parent.name, lambda: _restore(path, content)))

    def after(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name == "write_all":
            fd = arguments[0]
            self._dirty[os.fstat(fd).st_ino] = Path(f"/proc/self/fd/{fd}").readlink()
        elif name == "create":
            path = arguments[0]
            self._undo.append((path.parent.name, lambda: path.unlink(missing_ok=True)))
        elif name == "fsync":
            (fd,) = arguments
            status = os.fstat(fd)
            if stat.S_ISDIR(status.st_mode):
                synced = Path(f"/proc/self/fd/{fd}").readlink().name
                self._undo = [entry for entry in self._undo if entry[0] != synced]
            else:
                self._dirty.pop(status.st_ino, None)

    def lose(self, lost: frozenset[str], lose_data: bool) -> None:
        if lose_data:
            for path in self._dirty.values():
                if path.exists():
                    path.chmod(0o600)
                    os.truncate(path, 0)
        for directory, undo in reversed(self._undo):
            if directory in lost:
                undo()


def _restore(path: Path, content: bytes | None) -> None:
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)
