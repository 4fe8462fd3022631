"""What the kernel and its supervisor have left on disk for one notebook.

Reads through the shared contract modules only, never through the store's own code: a test
that waits for a checkpoint must not depend on what it tests.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from checkpoint_kernel import contract, flight_recorder, manifest, session
from checkpoint_kernel.flight_recorder import Flight
from checkpoint_kernel.manifest import Manifest
from checkpoint_kernel.session import Session

from .notebook import Notebook


def sessions(notebook: Notebook, store: Path | None = None) -> list[tuple[Path, Session]]:
    """The starts of this notebook's kernel, oldest first, each with its directory."""
    root = notebook.server.environment.store if store is None else store
    found = []
    for directory in root.glob(f"*/{contract.SESSIONS}/*"):
        one = session.load_session(directory)
        if one is not None and one.kernel_id == notebook.kernel_id:
            found.append((directory, one))
    return sorted(found, key=lambda pair: pair[1].started)


def flight(notebook: Notebook) -> Flight:
    """The flight recorder of the newest start."""
    directory, _ = sessions(notebook)[-1]
    record = flight_recorder.read(directory / contract.FLIGHT_FILE)
    assert record is not None, f"no flight record in {directory}"
    return record


def checkpoints(notebook: Notebook) -> list[Manifest]:
    """All committed checkpoints of this notebook, oldest first; none of them damaged."""
    _, newest = sessions(notebook)[-1]
    key = manifest.load_key(Path(newest.key_file))
    good, bad = manifest.read_all(Path(newest.notebook_directory), key)
    assert not bad, bad
    return good


def wait_for_checkpoint(
    notebook: Notebook,
    execution_count: int | None,
    *,
    inside_cell: bool = False,
    at_all: bool = False,
    seconds: float = 30,
) -> Manifest:
    """Wait until the state after a cell (or one inside it) is committed, with nothing pending.

    `at_all`: a checkpoint from within that cell or a later one will do.
    """
    assert execution_count is not None, "that cell has no number: it did not run"

    def wanted(one: Manifest) -> bool:
        count = -1 if one.execution_count is None else one.execution_count
        right_kind = at_all or one.inside_cell == inside_cell
        return count >= execution_count and right_kind and not one.pending

    found: list[Manifest] = []

    def there() -> bool:
        found[:] = [one for one in checkpoints(notebook) if wanted(one)]
        return bool(found)

    wait_until(there, f"a checkpoint of In[{execution_count}]", seconds)
    return found[-1]


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Poll until `condition()` holds; the error says what was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s in vain for {what}")
        time.sleep(0.02)
