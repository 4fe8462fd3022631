"""Opens the directory of a notebook for one live kernel: makes it, tightens it, locks it.

What cannot be had becomes a warning for the user and a lesser place, never an error: a
kernel must start on a full disk too. Standard library only.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import stat
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from checkpoint_kernel import contract, durable

# A kernel whose server is gone saves and leaves; its supervisor kills it after 10 s.
LEAVING_GRACE_S = 13.0


class Unusable(Exception):
    """A store that we must not or cannot use; the message is for the user."""


@dataclass(frozen=True)
class Holder:
    """Who holds the lock, as written into it for whoever meets it."""

    kernel_id: str
    supervisor_pid: int
    server_pid: int
    independent: bool


@dataclass(frozen=True)
class Home:
    """Where this start of the kernel keeps its records."""

    directory: Path
    lock_fd: int | None
    saving: bool  # False: `directory` is private and temporary, checkpointing is off
    warnings: tuple[str, ...]


def open_home(
    wanted: Path, holder: Holder, notebook: str | None, fallback: Path | None = None
) -> Home:
    """The notebook's directory if it is free and ours; a sibling if another kernel holds it.

    Where the store cannot be used, a private temporary directory (`fallback` if it was made
    by an earlier start), so that the flight recorder and the record of a death still work.
    """
    try:
        return _open_store(wanted, holder, notebook)
    except (OSError, Unusable) as why:
        reason = str(why) if isinstance(why, Unusable) else _reason(why, wanted)
    return temporary_home(reason, fallback)


def temporary_home(reason: str, fallback: Path | None = None) -> Home:
    """A private directory for one kernel whose store cannot be used. OSError if /tmp neither."""
    directory = _private_directory(fallback)
    _make_inside(directory)
    warning = (
        f"Checkpointing is off: {reason} "
        "The kernel works as usual, but its variables are not saved."
    )
    return Home(directory, lock_fd=None, saving=False, warnings=(warning,))


def sibling(wanted: Path, kernel_id: str) -> Path:
    """Where a second kernel of the same notebook keeps its own."""
    return wanted.with_name(f"{wanted.name}.{kernel_id[:8]}")


def _open_store(wanted: Path, holder: Holder, notebook: str | None) -> Home:
    warnings: list[str] = []
    _make_private(wanted.parent, warnings)
    _make_private(wanted, warnings)
    lock_fd = _lock(wanted, holder)
    directory = wanted
    if lock_fd is None:
        directory = sibling(wanted, holder.kernel_id)
        _make_private(directory, warnings)
        lock_fd = _lock(directory, holder)
        if lock_fd is None:
            raise Unusable(f"another kernel is using {directory}.")
        warnings.append(
            "Another kernel is running this notebook, so this one keeps its checkpoints apart: "
            f"they are in {directory}."
        )
    try:
        _make_inside(directory)
        about = {"notebook": notebook, "kernel_id": holder.kernel_id}
        durable.publish(directory / contract.NOTEBOOK_FILE, json.dumps(about).encode())
    except OSError:
        os.close(lock_fd)
        raise
    return Home(directory, lock_fd, saving=True, warnings=tuple(warnings))


def _make_private(path: Path, warnings: list[str]) -> None:
    """A directory that only we can enter. Unusable if it is somebody else's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        pass
    found = path.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise Unusable(f"{path} is not a directory.")
    if found.st_uid != os.geteuid():
        raise Unusable(
            f"{path} belongs to user {found.st_uid}, and we are user {os.geteuid()}: restoring "
            "runs what is saved there, so we use only our own."
        )
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        # Kubernetes' fsGroup opens it again at every mount.
        path.chmod(0o700)
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise Unusable(f"{path} is open to others (mode {mode:o}) and cannot be closed.")
        warnings.append(f"{path} was open to others (mode {mode:o}); it is now 700.")


def _make_inside(directory: Path) -> None:
    for name in (contract.SESSIONS, contract.DEATHS, contract.MANIFESTS, contract.SEGMENTS):
        (directory / name).mkdir(mode=0o700, exist_ok=True)


def _lock(directory: Path, holder: Holder) -> int | None:
    """The lock that a live kernel holds, or None if another one does. Not inherited.

    Waits for one whose server is gone: it is saving its state and about to leave.
    """
    fd = os.open(directory / contract.LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + LEAVING_GRACE_S
        while not _try_lock(fd):
            if time.monotonic() > deadline or not _leaving(fd, holder):
                os.close(fd)
                return None
            time.sleep(0.02)
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps(dataclasses.asdict(holder)).encode(), 0)
    except OSError:
        os.close(fd)
        raise
    return fd


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _leaving(fd: int, newcomer: Holder) -> bool:
    """Whether the holder is about to go: its server is gone, or it is this very kernel."""
    try:
        held = Holder(**json.loads(os.pread(fd, 4096, 0)))
    except (ValueError, TypeError):
        return True  # taken, and not yet written down
    if held.kernel_id == newcomer.kernel_id:
        return True
    if held.independent:
        return False
    try:
        text = Path(f"/proc/{held.supervisor_pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return True
    parent = int(text.rpartition(")")[2].split()[1])
    return parent != held.server_pid


def _private_directory(known: Path | None) -> Path:
    """`known` if it is still ours alone, else a new one."""
    if known is not None:
        try:
            found = known.lstat()
        except OSError:
            pass
        else:
            ours = found.st_uid == os.geteuid() and not found.st_mode & 0o077
            if ours and stat.S_ISDIR(found.st_mode):
                return known
    return Path(tempfile.mkdtemp(prefix="checkpoint-kernel-"))


def _reason(why: OSError, wanted: Path) -> str:
    return f"{why.filename or wanted} cannot be used ({why.strerror or why})."
