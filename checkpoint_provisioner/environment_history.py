"""Which environments the sessions of a notebook had, and what changed before a death.

Reads what kernels left in their sessions' directories and, where a kernel could not say itself what
it runs with, the directories of its packages. Comparing is `environment_diff`'s.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from checkpoint_kernel import contract, environment, environment_reader, session
from checkpoint_kernel.environment import Environment, Python, State

from . import environment_diff

# A restart waits for it: reading 300 packages takes 0.03 s, from a slow disk some seconds.
LOOK_LIMIT_S = 2.0
# Deaths that came from outside.
_NOT_ITS_FAULT = ("server-gone", "terminated", "hung-up")
_UNREADABLE = (OSError, ValueError, TypeError, KeyError)


def changes(
    directory: Path, started: session.Session, argv: Sequence[str], notes: list[str]
) -> dict[str, Any] | None:
    """What changed in the environment of a session before its end: see `environment_diff`.

    Compared is what the session in `directory` has at its end with what the notebook's last healthy
    session *began* with. That one worked with what it had imported, mostly at its beginning: what
    was installed while it ran ("you may need to restart the kernel") is a suspect and no proof.
    That is the newest earlier one that ran at least one cell to its end, that ended because
    somebody asked for it (restart, shutdown, exit() in a cell; no hang) or because its
    surroundings did (the server, a SIGTERM, a closed terminal), and that left its environment.

    Without one, a session that installed something itself is compared with its own beginning. None
    where there is nothing to compare; `notes` gains what could not be read, and why. `argv` is the
    kernel's command, or nothing where the time for looking at its directories is over.
    """
    before = last_healthy(directory.parent, started, notes)
    own = _load(directory / contract.ENVIRONMENT_FILE, notes)
    python, now = _at_its_end(own, before, argv, notes)
    if now is None:
        return None
    if before is not None:
        return environment_diff.changes(
            before.started_with, now, before.python.version, python.version
        )
    if own is not None:
        of_its_own = environment_diff.changes(own.started_with, now)
        return None if environment_diff.is_empty(of_its_own) else of_its_own
    return None


def last_healthy(
    sessions: Path, before: session.Session, notes: list[str] | None = None
) -> Environment | None:
    """The environment of the last healthy session of those in `sessions`, before another one."""
    earlier: list[tuple[session.Session, Path]] = []
    for path in sessions.iterdir():
        try:
            one = session.load_session(path)
        except _UNREADABLE:
            continue  # `history` warns of it
        if one is not None and _order(one) < _order(before):
            earlier.append((one, path))
    for _, path in sorted(earlier, key=lambda pair: _order(pair[0]), reverse=True):
        try:
            ended = session.load_exit(path)
        except _UNREADABLE:
            continue
        if ended is not None and is_healthy(ended):
            found = _load(path / contract.ENVIRONMENT_FILE, [] if notes is None else notes)
            if found is not None:
                return found
    return None


def is_healthy(ended: session.ExitMarker) -> bool:
    """Whether nothing in a session's end speaks against its environment, and a cell ran in it.

    A cell that ran when it ended has left its digest; those before it had come to their ends.
    """
    cells_ended = ended.cells_started - (ended.cell_sha256 is not None)
    asked = ended.kind in ("restart", "shutdown", "quit")
    return cells_ended > 0 and (asked or ended.cause in _NOT_ITS_FAULT)


def of_session(notebook_directory: Path, identity: str) -> Environment | None:
    """What a session ran with, also if its directory has been pruned (see `history.prune`).

    None where its kernel left nothing. Raises OSError, ValueError, TypeError or KeyError if the
    file cannot be read.
    """
    return environment.load(
        notebook_directory / contract.SESSIONS / identity / contract.ENVIRONMENT_FILE
    ) or environment.load(notebook_directory / contract.ENVIRONMENTS / f"{identity}.json")


def _order(one: session.Session) -> tuple[int, float]:
    return one.number, one.started


def _load(path: Path, notes: list[str]) -> Environment | None:
    try:
        return environment.load(path)
    except _UNREADABLE as why:
        notes.append(f"{path} cannot be read: {why!r}")
        return None


# --- where the kernel has not said it, or not the last of it ---


def _at_its_end(
    own: Environment | None, before: Environment | None, argv: Sequence[str], notes: list[str]
) -> tuple[Python, State | None]:
    if own is not None:
        if not argv or environment_reader.modified(own.watched) == own.watched:
            return own.python, own.now
        # Something was installed in the last moments.
        return own.python, _look(_package_directories(own), own.python.prefix, notes) or own.now
    prefix = prefix_of(argv)
    if before is None or prefix is None:
        return Python(None, ""), None
    notes.append(f"the kernel did not say what it runs with: {prefix} was read instead")
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if os.path.realpath(prefix) == os.path.realpath(before.python.prefix):
        paths += _package_directories(before)
    else:
        paths += map(str, sorted(prefix.glob("lib*/python3*/*-packages")))
    return Python(python_in(prefix), str(prefix)), _look(paths, str(prefix), notes)


def _package_directories(of: Environment) -> list[str]:
    return [path for path in of.watched if Path(path).name != environment_reader.CONDA_META]


def _look(paths: list[str], prefix: str, notes: list[str]) -> State | None:
    deadline = time.monotonic() + LOOK_LIMIT_S

    def between() -> None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"it took over {LOOK_LIMIT_S:g} s")

    try:
        found = environment_reader.look(paths, Path(prefix), between)
    except Exception as why:  # a package may hold anything; the death is judged without it
        notes.append(f"the packages in {prefix} could not be read: {why!r}")
        return None
    notes.extend(found.notes)
    return found.state


def prefix_of(argv: Sequence[str]) -> Path | None:
    """The environment of the interpreter that a kernel's command names, None if it cannot be told.

    A virtual environment's python is a link to another's: the link's place counts.
    """
    python = shutil.which(argv[0]) if argv else None
    if python is None or Path(python).parent.name not in ("bin", "Scripts"):
        return None
    return Path(python).absolute().parent.parent


def python_in(prefix: Path) -> str | None:
    """The version of Python that an environment says it has: pyvenv.cfg (PEP 405), or conda."""
    try:
        text = (prefix / "pyvenv.cfg").read_text("utf-8", "replace")
    except OSError:
        text = ""
    found = re.search(r"^version(?:_info)?\s*=\s*(\d+\.\d+\.\d+)", text, re.MULTILINE)
    if found:
        return found[1]
    for path in (prefix / environment_reader.CONDA_META).glob("python-3.*-*.json"):
        return path.stem.split("-")[1]
    return None
