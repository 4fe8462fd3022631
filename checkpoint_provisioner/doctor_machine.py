"""The doctor's checks of the machine: the store and its key.

Looks and tries, and leaves nothing behind. One function per check; each returns values.
"""

from __future__ import annotations

import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from checkpoint_kernel.words import size

from . import listing
from .caps import hierarchy

Level = Literal["ok", "warn", "fail"]
_LOW_DISK_BYTES = 1024**3
_NETWORK = ("nfs", "cifs", "smb", "9p", "ceph", "lustre", "gpfs", "beegfs", "glusterfs", "afs")


@dataclass(frozen=True)
class Check:
    """One finding: a level, a sentence, and what to do where it is not ok."""

    name: str
    level: Level
    said: str
    remedy: str | None = None


# --- the store ---


def store(root: Path) -> list[Check]:
    """One store: whose it is, and what it lies on."""
    there = root
    while not there.exists() and there != there.parent:
        there = there.parent
    checks = []
    mode = stat.S_IMODE(there.stat().st_mode)
    if there != root:
        checks.append(Check("store", "ok", f"{root} does not exist yet; the first kernel makes it"))
    elif there.stat().st_uid != os.geteuid():
        said = f"{root} belongs to user {there.stat().st_uid}: it is not used"
        checks.append(Check("store", "fail", said, "set `store` to a directory of your own"))
    elif mode & 0o077:
        said = f"{root} has mode {mode:o}; the next kernel will make it 700"
        checks.append(Check("store", "warn", said, f"chmod 700 {root}"))
    else:
        checks.append(Check("store", "ok", f"{root}, mode {mode:o}"))
    return [*checks, _writable(root, there), _disk(root, there), _filesystem(root, there)]


def _writable(root: Path, there: Path) -> Check:
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"x")
            file.flush()
    except OSError as why:
        said = f"{there} cannot be written to ({why.strerror}): checkpoints are off"
        return Check("store is writable", "fail", said, "free it, or set `store` to another place")
    return Check("store is writable", "ok", f"{root} can be written to")


def _disk(root: Path, there: Path) -> Check:
    disk = os.statvfs(there)
    free = disk.f_bavail * disk.f_frsize
    said = f"{size(free)} free for {root}"
    if free < _LOW_DISK_BYTES:
        return Check("disk space", "warn", said, "free some, or set `store` to another disk")
    return Check("disk space", "ok", said)


def _filesystem(root: Path, there: Path) -> Check:
    kind = filesystem_of(there)
    if kind.startswith(_NETWORK) or kind == "fuse.sshfs":
        said = f"{root} is on a network ({kind}): saving and restoring are only as fast as that"
        return Check("filesystem", "warn", said, "set `store` to a local disk")
    if kind in ("tmpfs", "ramfs"):
        said = f"{root} is in memory ({kind}): nothing there outlives a reboot"
        return Check("filesystem", "warn", said, "set `store` to a disk")
    return Check("filesystem", "ok", f"{root} is on a local {kind}")


def filesystem_of(path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> str:
    """The type of the filesystem under `path`, or "unknown"."""
    best, kind = "", "unknown"
    real = f"{path.resolve()}/"
    for line in mountinfo.read_text("utf-8", "surrogateescape").splitlines():
        left, _, right = line.partition(" - ")
        point = hierarchy.unescape(left.split()[4])
        if real.startswith(f"{point.rstrip('/')}/") and len(point) >= len(best):
            best, kind = point, right.split()[0]
    return kind


def key() -> Check:
    """The signing key: who can read it."""
    path = listing.key_path()
    try:
        found = path.stat()
    except FileNotFoundError:
        return Check("signing key", "ok", f"{path} does not exist yet; the first kernel makes it")
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid != os.geteuid():
        said = f"{path} belongs to user {found.st_uid}: checkpoints are off"
        return Check("signing key", "fail", said, f"remove {path}; a new one is made")
    if mode & 0o077:
        said = f"{path} has mode {mode:o}: others can read it and could forge checkpoints"
        return Check("signing key", "fail", said, f"chmod 600 {path}")
    return Check("signing key", "ok", f"{path}, mode {mode:o}")
