"""`jupyter checkpoint env`: finds the session that is meant, and writes what it ran with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from checkpoint_kernel import contract, manifest
from checkpoint_kernel.environment import Environment

from . import environment_formats, environment_history, listing
from .listing import NotFound

FORMATS = {
    "requirements.txt": environment_formats.requirements_txt,
    "environment.yml": environment_formats.environment_yml,
}


def find(roots: Sequence[Path], wanted: str) -> Environment:
    """What a session ran with: by its ID, by that of a checkpoint of it, or by its notebook.

    IDs may be cut off at the end; of a notebook the newest session that left its environment
    counts. NotFound if there is none, if several are meant, or if its kernel left nothing.
    """
    notebooks = listing.notebooks(roots)
    exact: set[tuple[Path, str]] = set()
    begins: set[tuple[Path, str]] = set()
    for notebook in notebooks:
        for identity, session in _ids(notebook.directory):
            if identity == wanted:
                exact.add((notebook.directory, session))
            if identity.startswith(wanted):
                begins.add((notebook.directory, session))
    chosen = exact or begins
    if len(chosen) == 1:
        directory, session = chosen.pop()
        return _load(directory, session)
    if chosen:
        ids = ", ".join(sorted(session for _, session in chosen)[:5])
        raise NotFound(f"{wanted} is the beginning of what {len(chosen)} sessions made: {ids}, ...")
    try:
        named = listing.notebooks(roots, wanted)
    except NotFound:
        raise NotFound(
            f"there is no session, checkpoint or notebook {wanted} under {listing.places(roots)}; "
            "`jupyter checkpoint list` shows notebooks and checkpoints, a record of a death "
            "(`deaths --json`) names its session"
        ) from None
    if len(named) > 1:
        titles = "".join(f"\n  {notebook.title}" for notebook in named)
        raise NotFound(f"{len(named)} notebooks are called {wanted}:{titles}")
    for session in sorted(_sessions(named[0].directory), reverse=True):
        found = environment_history.of_session(named[0].directory, session)
        if found is not None:
            return found
    raise NotFound(f"no session of {named[0].title} has left what it ran with")


def _ids(directory: Path) -> list[tuple[str, str]]:
    """(ID, the session that it belongs to) of all sessions and usable checkpoints."""
    ids = [(session, session) for session in _sessions(directory)]
    key = listing.read_key()
    if key is not None:
        good, _ = manifest.read_all(directory, key)
        ids += [(one.id, one.session) for one in good]
    return ids


def _sessions(directory: Path) -> list[str]:
    there = [path.name for path in (directory / contract.SESSIONS).glob("*")]
    kept = [path.stem for path in (directory / contract.ENVIRONMENTS).glob("*.json")]
    return [*there, *kept]


def _load(directory: Path, session: str) -> Environment:
    path = directory / contract.SESSIONS / session
    try:
        found = environment_history.of_session(directory, session)
    except (ValueError, TypeError, KeyError) as why:
        raise NotFound(f"what session {session} ran with cannot be read: {why!r}") from why
    if found is None:
        raise NotFound(
            f"session {session} has not left what it ran with: its kernel ended before it could, "
            f"or is none of ours ({path})"
        )
    return found
