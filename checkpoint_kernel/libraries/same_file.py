"""Which file an object reads, and whether it is still that file when the object comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from checkpoint_kernel import rebuild


def facts_of(path: str) -> dict[str, Any] | None:
    """What tells a file from another one; None if there is none at `path`."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    return {
        "path": str(Path(path).absolute()),
        "device": status.st_dev,
        "inode": status.st_ino,
        "size_bytes": status.st_size,
        "mtime_ns": status.st_mtime_ns,
    }


def check(facts: dict[str, Any], *, unwritten: bool) -> str:
    """The path, if the same file is there, and `unwritten` since or at least no shorter.

    Raises NotThere, which says what is there instead.
    """
    path: str = facts["path"]
    now = facts_of(path)
    if now is None:
        raise rebuild.NotThere(f"there is no file {path} any more")
    if (now["device"], now["inode"]) != (facts["device"], facts["inode"]):
        raise rebuild.NotThere(f"another file is at {path} now")
    if now["size_bytes"] < facts["size_bytes"]:
        raise rebuild.NotThere(f"{path} is shorter now than it was")
    if unwritten and (now["size_bytes"], now["mtime_ns"]) != (
        facts["size_bytes"],
        facts["mtime_ns"],
    ):
        raise rebuild.NotThere(f"{path} has been written to since")
    return path
