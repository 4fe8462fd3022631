"""Clears directories of kernels that no start can come back to: those without a notebook
(nbclient, consoles), and the second kernel of a notebook that was open twice.

They go by a kernel_id, which a server gives once. Without this every run of nbclient would
leave a state behind, until they fill the quota. Notebooks' own directories are kept.
A few directories per start, so that none waits. Standard library only.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import time
from pathlib import Path

from checkpoint_kernel import contract

DAY_S = 24 * 3600.0
# Long enough for a person to look for the state of a run of last week.
STATE_KEPT_S = 14 * DAY_S
DEATHS_KEPT_S = 90 * DAY_S
AT_ONCE = 20

# What such a name looks like; a notebook's own may look so too, so notebook.json decides.
_PERHAPS = re.compile(r"kernel-.+|.+\..{1,8}")


def clear(root: Path, now: float | None = None) -> list[str]:
    """Remove what is old enough; one sentence for each thing that went wrong. Never raises."""
    now = time.time() if now is None else now
    failed = []
    try:
        old = _old_ones(root, now)
    except OSError as why:
        return [f"{root} was not searched for old checkpoints: {why}"]
    for directory in old[:AT_ONCE]:
        try:
            _clear_one(directory, now)
        except OSError as why:
            failed.append(f"old checkpoints in {directory} could not be removed: {why}")
    return failed


def _old_ones(root: Path, now: float) -> list[Path]:
    found = []
    with os.scandir(root) as entries:
        for entry in entries:
            if _PERHAPS.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                directory = Path(entry.path)
                limit_s = STATE_KEPT_S if _has_state(directory) else DEATHS_KEPT_S
                if now - _last_start(directory) > limit_s and _of_one_kernel(directory):
                    found.append(directory)
    return sorted(found)


def _of_one_kernel(directory: Path) -> bool:
    """Whether its key is of a kernel_id (see `notebook` and `home.sibling`)."""
    try:
        about = json.loads((directory / contract.NOTEBOOK_FILE).read_bytes())
        alone = about["notebook"] is None
        return alone or directory.name.endswith(f".{about['kernel_id'][:8]}")
    except (OSError, ValueError, KeyError, TypeError):
        return False  # whose it is cannot be known: it is left alone


def _clear_one(directory: Path, now: float) -> None:
    fd = os.open(directory / contract.LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        told = any((directory / contract.DEATHS).glob("*.json"))
        if told and now - _last_start(directory) <= DEATHS_KEPT_S:
            # Manifests first: one whose segments are gone would be damage.
            shutil.rmtree(directory / contract.MANIFESTS)
            shutil.rmtree(directory / contract.SEGMENTS)
        else:
            shutil.rmtree(directory)
    except BlockingIOError:
        return  # a kernel runs on it
    finally:
        os.close(fd)


def _has_state(directory: Path) -> bool:
    return (directory / contract.MANIFESTS).exists() or (directory / contract.SEGMENTS).exists()


def _last_start(directory: Path) -> float:
    """When the newest session was made, in seconds since the epoch."""
    try:
        return (directory / contract.SESSIONS).stat().st_mtime
    except OSError:
        pass
    try:
        return directory.stat().st_mtime  # half removed by an earlier attempt, or not whole yet
    except OSError:
        return float("inf")  # another supervisor has removed it
