"""Reads what earlier starts of a notebook left behind, and closes what nobody closed.

Deciding is `plan`'s. What cannot be read becomes a warning. Standard library only.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from checkpoint_kernel import contract, flight_recorder, manifest, session

from . import descendants, post_mortem, proc
from .caps import policy
from .evidence import gather_leftovers
from .plan import Past
from .proc import belongs_to_session

SESSIONS_KEPT = 40
DEATHS_KEPT = 200
WARNINGS_SHOWN = 5
# A kernel whose supervisor was killed notices within a second, saves and leaves.
STRAGGLER_GRACE_S = 5.0


@dataclass(frozen=True)
class History:
    """The past of one notebook, as far as it can be read."""

    sessions: tuple[Past, ...]  # ended ones, oldest first
    manifests: tuple[manifest.Manifest, ...]  # that verify, by seq
    warnings: tuple[str, ...]

    @property
    def next_number(self) -> int:
        """Of the start that comes after these."""
        return max((past.session.number for past in self.sessions), default=0) + 1


class StillAlive(Exception):
    """A kernel of an earlier start still runs, without its supervisor."""


def read(directory: Path, key: bytes | None) -> History:
    """The notebook's past. Call under its lock: sessions without exit marker are then over.

    Raises StillAlive if a kernel of one of them is not.
    """
    warnings: list[str] = []
    sessions = _sessions(directory, warnings)
    good: list[manifest.Manifest] = []
    if key is not None:
        good, bad = manifest.read_all(directory, key)
        lines = [f"A checkpoint was passed over: {why}." for _, why in bad]
        warnings += lines[:WARNINGS_SHOWN]
        if len(lines) > WARNINGS_SHOWN:
            warnings.append(f"{len(lines) - WARNINGS_SHOWN} more checkpoints were passed over.")
    return History(tuple(sessions), tuple(sorted(good, key=lambda m: m.seq)), tuple(warnings))


def _sessions(directory: Path, warnings: list[str]) -> list[Past]:
    sessions: list[Past] = []
    for path in sorted((directory / contract.SESSIONS).iterdir()):
        try:
            started = session.load_session(path)
            if started is None:
                continue  # the supervisor died before it had a kernel
            ended = session.load_exit(path)
            if ended is None:
                _wait_for_straggler(path)
                ended = _close(path, started, warnings)
                _sweep(path, started, ended)
        except (OSError, StillAlive):
            raise
        except Exception as why:  # whatever a record holds, it must not keep a kernel from starting
            warnings.append(f"The record of an earlier start was passed over: {path}: {why!r}.")
            continue
        sessions.append(Past(started, ended))
    return sorted(sessions, key=lambda past: (past.session.number, past.session.started))


def _close(path: Path, started: session.Session, warnings: list[str]) -> session.ExitMarker:
    """Judge a session that nobody saw the end of; where that cannot be written, say so."""
    try:
        return post_mortem.server_and_supervisor_gone(path, started)
    except OSError as why:
        warnings.append(f"How the kernel ended could not be written down: {why}.")
        return post_mortem.unwritten(gather_leftovers(path, started))


def _wait_for_straggler(directory: Path) -> None:
    flight = flight_recorder.read(directory / contract.FLIGHT_FILE)
    if flight is None:
        return
    deadline = time.monotonic() + STRAGGLER_GRACE_S
    while belongs_to_session(flight.pid, directory):
        if time.monotonic() > deadline:
            raise StillAlive(
                f"An earlier kernel of this notebook still runs without supervision "
                f"(process {flight.pid})."
            )
        time.sleep(0.05)


def _sweep(directory: Path, started: session.Session, ended: session.ExitMarker) -> None:
    """See to what a kernel left running whose supervisor was killed, as that would have done."""
    if started.boot_id != proc.boot_id():
        return
    deadline = time.monotonic() + contract.ORPHAN_GRACE_S
    while descendants.is_saving(directory) and time.monotonic() < deadline:
        time.sleep(0.05)
    for one in descendants.end_session(directory.name) if ended.kind == "death" else []:
        said = f"process {one.pid} ({one.name}), left by a kernel that died unsupervised: killed"
        print(f"checkpoint-kernel: {said}", file=sys.stderr)
    for still_there in policy.remove_stale(started):
        print(f"checkpoint-kernel: {still_there}", file=sys.stderr)


def prune(
    directory: Path,
    sessions: Sequence[Past],
    current: str,
    saved: AbstractSet[str] | None = None,
) -> None:
    """Drop the oldest sessions and death records beyond what is kept.

    `sessions`: those that could be read, oldest first; others are no use and go first.
    `current`: the id of the one that begins now. `saved`: the sessions that checkpoints are of,
    None where that cannot be known. What a session ran with is kept in environments/ for as long
    as a checkpoint or a record of a death is of it.
    """
    named = {past.exit.death for past in sessions[-SESSIONS_KEPT:]}
    records = sorted((directory / contract.DEATHS).glob("*.json"))
    for path in records[:-DEATHS_KEPT]:
        if path.name not in named:
            path.unlink(missing_ok=True)
    order = [*(past.session.id for past in sessions), current]
    found = {path.name: path for path in sorted((directory / contract.SESSIONS).iterdir())}
    strangers = [name for name in found if name not in order]
    wanted = None if saved is None else saved | _died(directory)
    for name in [*strangers, *(id for id in order if id in found)][:-SESSIONS_KEPT]:
        if wanted is None or name in wanted:
            try:
                _keep_environment(directory, found[name])
            except OSError:
                continue  # a full disk: the session stays whole until a later start
        shutil.rmtree(found[name], ignore_errors=True)
    if wanted is not None:
        for path in (directory / contract.ENVIRONMENTS).glob("*.json"):
            if path.stem not in wanted:
                path.unlink(missing_ok=True)


def _died(directory: Path) -> set[str]:
    """The sessions that records of deaths are of: <date>-<time>-<session id>.json."""
    names = [path.stem for path in (directory / contract.DEATHS).glob("*-*-*.json")]
    return {name.split("-", 2)[2] for name in names}


def _keep_environment(directory: Path, session_directory: Path) -> None:
    environment = session_directory / contract.ENVIRONMENT_FILE
    if environment.exists():
        kept = directory / contract.ENVIRONMENTS
        kept.mkdir(mode=0o700, exist_ok=True)
        environment.replace(kept / f"{session_directory.name}.json")
