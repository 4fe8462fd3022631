"""`jupyter checkpoint check` and `prune`: the commands that open payloads, not only manifests.

On their own, so that the other commands work where blake3 is missing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from checkpoint_kernel import check as checking
from checkpoint_kernel import prune as pruning
from checkpoint_kernel.store import Store, StoreError

from . import listing


def check(roots: Sequence[Path], wanted: str | None) -> list[dict[str, Any]]:
    """All damage in the chosen notebooks' stores, as values for JSON."""
    key = listing.read_key()
    chosen = listing.notebooks(roots, wanted)
    if key is None:
        return [_finding("key-missing", path, why) for path, why in _unverifiable(roots, wanted)]
    found: list[dict[str, Any]] = []
    for notebook in chosen:
        try:
            findings = checking.check(Store.open(notebook.directory, key))
        except StoreError as why:
            found.append(_finding("store-refused", notebook.directory, str(why)))
            continue
        for each in findings:
            one = _finding(each.kind, each.path, each.message)
            found.append(
                {**one, "checkpoints": list(each.checkpoints), "variables": list(each.variables)}
            )
    return found


def prune(roots: Sequence[Path], wanted: str | None, keep: int) -> list[dict[str, Any]]:
    """Remove all but the last `keep` checkpoints per notebook; what was done to each.

    The last checkpoint before a clean start stays for its 14 days, as does what a restore could
    not load: see `prune.pinned`.
    """
    key = listing.read_key()
    done = []
    for notebook in listing.notebooks(roots, wanted):
        in_use = listing.is_in_use(notebook.directory)
        removed: tuple[str, ...] = ()
        freed_bytes = 0
        if key is None:
            because: str | None = f"there is no signing key {listing.key_path()}: nothing removed"
        elif in_use:
            because = "a kernel is running on it and prunes by itself: nothing removed"
        else:
            try:
                store = Store.open(notebook.directory, key)
                _, drop = pruning.choose(store.manifests(), keep, None, time.time())
                report = pruning.prune(store, drop)
                removed, freed_bytes = report.removed_manifests, report.freed_bytes
                because = report.kept_because
            except StoreError as why:
                because = str(why)
        done.append(
            {
                "notebook": notebook.title,
                "directory": str(notebook.directory),
                "in_use": in_use,
                "removed": list(removed),
                "freed_bytes": freed_bytes,
                "kept_because": because,
            }
        )
    return done


def _unverifiable(roots: Sequence[Path], wanted: str | None) -> list[tuple[Path, str]]:
    return [pair for shelf in listing.shelves(roots, wanted) for pair in shelf.unusable]


def _finding(kind: str, path: Path, message: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "path": str(path),
        "message": message,
        "checkpoints": [],
        "variables": [],
    }
