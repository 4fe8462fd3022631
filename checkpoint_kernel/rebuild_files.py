"""What pickles of open files call when they are loaded: the file again, at its position.

Never truncates and never makes a file. The names of these functions, and of the facts that they
take, stand in checkpoints: add, never rename.
"""

from __future__ import annotations

import io
import os
import stat
import sys
import tempfile
from typing import Any

from . import rebuild


def file(facts: dict[str, Any]) -> Any:
    """A file object over the file at a path, if that is still the same file; else NotThere.

    `facts`: layer ("raw", "reader", "writer", "random", "text"), path, mode (of the raw file),
    name, offset (bytes), device, inode, size_bytes, pending (bytes to be written, at pending_at);
    of text: cookie (as `tell` gives), encoding, errors, newline, line_buffering, write_through,
    attributes.
    """
    path = facts["path"]
    number = _opened(facts)
    try:
        if facts["pending"] and not rebuild.trying:
            _write(number, facts)
    except BaseException:
        os.close(number)
        raise
    # For "w" it is `open` that would truncate.
    raw = io.FileIO(path, facts["mode"], opener=lambda *_: number)
    raw.name = path if isinstance(facts["name"], int) else facts["name"]
    raw.seek(facts["offset"])
    if facts["layer"] == "raw":
        return raw
    return _layered(raw, facts)


def _layered(raw: io.FileIO, facts: dict[str, Any]) -> Any:
    kinds: dict[str, Any] = {
        "reader": io.BufferedReader, "writer": io.BufferedWriter, "random": io.BufferedRandom,
    }  # fmt: skip
    buffered = kinds[facts["buffer"]](raw)
    if facts["layer"] != "text":
        return buffered
    made = text(buffered, facts)
    seek_text(made, facts["cookie"])
    return made


def text(buffer: Any, facts: dict[str, Any]) -> io.TextIOWrapper:
    """A text layer over `buffer`, without a position."""
    made = io.TextIOWrapper(
        buffer, facts["encoding"], facts["errors"], facts["newline"], facts["line_buffering"],
        facts["write_through"],
    )  # fmt: skip
    vars(made).update(facts["attributes"])
    return made


def seek_text(made: io.TextIOWrapper, cookie: int | None) -> None:
    """The position of a text layer."""
    if cookie is not None:
        made.seek(cookie)


def _opened(facts: dict[str, Any]) -> int:
    path = facts["path"]
    writable = os.O_RDWR if "+" in facts["mode"] else os.O_WRONLY
    flags = os.O_RDONLY if facts["mode"] == "rb" else writable
    if facts["mode"].startswith("a"):
        flags |= os.O_APPEND
    if rebuild.trying and flags != os.O_RDONLY:  # an archive writes when it is thrown away
        return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        number = os.open(path, flags | os.O_CLOEXEC)
    except OSError as why:
        raise rebuild.NotThere(f"{path} cannot be opened: {why.strerror}") from why
    status = os.fstat(number)
    wrong = None
    if stat.S_ISCHR(status.st_mode):
        return number  # /dev/null, in whichever container
    if (status.st_dev, status.st_ino) != (facts["device"], facts["inode"]):
        wrong = f"another file is at {path} now"
    elif status.st_size < min(facts["offset"], facts["size_bytes"]):
        wrong = f"{path} is shorter now than its position was"
    if wrong is not None:
        os.close(number)
        raise rebuild.NotThere(wrong)
    return number


def _write(number: int, facts: dict[str, Any]) -> None:
    """What the file object had not written when it was saved, unless it has done so since."""
    pending, start = facts["pending"], facts["pending_at"]
    if os.fstat(number).st_size > facts["size_bytes"]:
        with open(facts["path"], "rb") as there:
            there.seek(start)
            if there.read(len(pending)) == pending:
                return
        if not facts["mode"].startswith("a"):
            raise rebuild.NotThere(f"{facts['path']} has been written to since")
    os.lseek(number, start, os.SEEK_SET)
    os.write(number, pending)


def anonymous(facts: dict[str, Any], content: bytes) -> Any:
    """A file without a name, with the content that it had."""
    with tempfile.TemporaryFile("w+b", buffering=0) as made:
        made.write(content)
        made.seek(facts["pending_at"])
        made.write(facts["pending"])
        raw = io.FileIO(os.dup(made.fileno()), facts["mode"])
    raw.seek(facts["offset"])
    return raw if facts["layer"] == "raw" else _layered(raw, facts)


def closed(facts: dict[str, Any]) -> Any:
    """A file object that has been closed."""
    raw = io.FileIO(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC), facts["mode"])
    raw.name = facts["name"]
    made = raw if facts["layer"] == "raw" else _layered(raw, facts)
    made.close()
    return made


def stream(name: str) -> Any:
    """One of this process' own: `stdout`."""
    return getattr(sys, name)


def named_temporary(cls: Any, file: Any, name: str, delete: bool) -> Any:
    """What NamedTemporaryFile gives: it deletes its file in the end, as it would have."""
    return cls(file, name, delete and not rebuild.trying)
