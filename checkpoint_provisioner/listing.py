"""What is in the store, as values: notebooks, their checkpoints, one checkpoint, deaths.

Reads manifests and death records only, never a payload, and changes nothing. Showing them
is `cli`'s.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_data_dir

from checkpoint_kernel import contract, manifest
from checkpoint_kernel.manifest import BESIDE, Manifest, ManifestError

from .repeated import survived


class NotFound(Exception):
    """No such notebook or checkpoint; the message says what there is."""


@dataclass(frozen=True)
class Notebook:
    """One notebook's directory."""

    directory: Path
    path: str | None  # the notebook's own path; None where nobody told the kernel
    kernel_id: str | None

    @property
    def title(self) -> str:
        """For people."""
        return self.path or f"(no notebook known, kernel {self.kernel_id or self.directory.name})"


@dataclass(frozen=True)
class Shelf:
    """A notebook and what can be read of its checkpoints."""

    notebook: Notebook
    checkpoints: tuple[Manifest, ...]  # oldest first
    unusable: tuple[tuple[Path, str], ...]  # manifests that cannot be read, and why
    deaths: int
    disk_bytes: int
    in_use: bool  # a kernel runs on it


def default_root() -> Path:
    """Where the notebooks' directories are, unless the config says otherwise."""
    return Path(jupyter_data_dir()) / contract.STORE_DIRECTORY


def places(roots: Sequence[Path]) -> str:
    """For people."""
    return " and ".join(str(root) for root in roots)


def key_path() -> Path:
    """The user's signing key."""
    return Path(jupyter_data_dir()) / contract.KEY_FILE


def read_key() -> bytes | None:
    """The key, or None before the first kernel has made one. ManifestError if it is unusable."""
    path = key_path()
    return manifest.load_key(path) if path.exists() else None


def notebooks(roots: Sequence[Path], wanted: str | None = None) -> list[Notebook]:
    """All notebooks under `roots`, or those that `wanted` names: a path, its end, or a key.

    NotFound if nothing matches; OSError if a root cannot be read.
    """
    found = [_notebook(entry) for root in roots for entry in _directories(root)]
    if wanted is None:
        return found
    matching = [notebook for notebook in found if _matches(notebook, wanted)]
    if matching:
        return matching
    known = "".join(f"\n  {notebook.title}" for notebook in found)
    raise NotFound(
        f"there is nothing of {wanted} under {places(roots)}, but of{known}"
        if known
        else f"there are no notebooks under {places(roots)}"
    )


def shelves(roots: Sequence[Path], wanted: str | None = None) -> list[Shelf]:
    """Notebooks with their checkpoints, in the order of their names."""
    chosen = notebooks(roots, wanted)
    key = read_key()
    return [_shelf(notebook, key) for notebook in chosen]


def checkpoint(roots: Sequence[Path], wanted: str) -> tuple[Shelf, Manifest]:
    """The one checkpoint whose ID begins with `wanted`. NotFound if none does, or several do."""
    everything = shelves(roots)
    found = [(s, m) for s in everything for m in s.checkpoints if m.id.startswith(wanted)]
    exact = [pair for pair in found if pair[1].id == wanted]
    if len(exact or found) == 1:
        return (exact or found)[0]
    if found:
        ids = ", ".join(m.id for _, m in found[:5])
        raise NotFound(f"{wanted} is the beginning of {len(found)} checkpoints: {ids}, ...")
    for shelf in everything:
        for path, why in shelf.unusable:
            if wanted in path.name:
                raise NotFound(f"checkpoint {wanted} cannot be used: {why}")
    raise NotFound(
        f"there is no checkpoint {wanted} under {places(roots)}; "
        "`jupyter checkpoint list` shows all"
    )


def deaths(
    roots: Sequence[Path], wanted: str | None = None
) -> tuple[list[dict[str, Any]], list[tuple[Path, str]]]:
    """Death records as they were written, oldest first, and files that are none, with reasons."""
    records: list[dict[str, Any]] = []
    bad: list[tuple[Path, str]] = []
    for notebook in notebooks(roots, wanted):
        good, unreadable = _records(notebook.directory)
        records += good
        bad += unreadable
    return sorted(records, key=lambda record: str(record["time"])), bad


def _records(directory: Path) -> tuple[list[dict[str, Any]], list[tuple[Path, str]]]:
    """The death records of one notebook, and files that are none, with reasons."""
    records: list[dict[str, Any]] = []
    bad: list[tuple[Path, str]] = []
    for path in sorted((directory / contract.DEATHS).glob("*.json")):
        try:
            record = json.loads(path.read_bytes())
            datetime.fromisoformat(record["time"])
        except (OSError, ValueError) as why:
            bad.append((path, str(why)))
        except (TypeError, KeyError):
            bad.append((path, "it is no record of a death"))
        else:
            records.append(record)
    return records, bad


def is_in_use(directory: Path) -> bool:
    """Whether a supervisor holds this notebook's lock."""
    try:
        fd = os.open(directory / contract.LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def summary(m: Manifest, now: float | None = None) -> dict[str, Any]:
    """A checkpoint in one line, for `list --json`."""
    return {
        "id": m.id,
        "seq": m.seq,
        "line": m.line,
        "time": m.utc,
        "age_s": round((time.time() if now is None else now) - m.time, 1),
        "size_bytes": m.size_bytes,
        "reason": m.reason,
        "cell": m.execution_count,
        "inside_cell": m.inside_cell,
        "inside_call": m.inside_call,
        "variables": len(m.names),
        "skipped": len(m.skipped),
        "pending": len(m.pending),
    }


def variables(m: Manifest) -> list[dict[str, Any]]:
    """Every variable of a checkpoint: name, type, the size of its unit and who shares it."""
    rows = [
        {
            "name": name,
            "type": unit.types.get(name, unit.kind),
            "kind": unit.kind,
            "size_bytes": unit.size_bytes,
            "together_with": [other for other in unit.names if other != name],
        }
        for unit in m.units
        if unit.kind not in BESIDE
        for name in unit.names
    ]
    return sorted(rows, key=lambda row: str(row["name"]))


def _directories(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    signs = (contract.NOTEBOOK_FILE, contract.MANIFESTS, contract.DEATHS)
    return sorted(e for e in root.iterdir() if any((e / sign).exists() for sign in signs))


def _notebook(directory: Path) -> Notebook:
    try:
        about = json.loads((directory / contract.NOTEBOOK_FILE).read_bytes())
        return Notebook(directory, about.get("notebook"), about.get("kernel_id"))
    except (OSError, ValueError, AttributeError):  # its checkpoints count, not its label
        return Notebook(directory, None, None)


def _matches(notebook: Notebook, wanted: str) -> bool:
    if wanted in (notebook.directory.name, notebook.path, notebook.kernel_id):
        return True
    if notebook.path is None:
        return False
    real = str(Path(wanted).expanduser().resolve())
    return notebook.path == real or notebook.path.endswith(f"/{wanted.lstrip('./')}")


def _shelf(notebook: Notebook, key: bytes | None) -> Shelf:
    directory = notebook.directory
    good: list[Manifest] = []
    bad: list[tuple[Path, ManifestError]] = []
    if key is not None:
        good, bad = manifest.read_all(directory, key)
        unusable = [(path, str(why)) for path, why in bad]
    else:
        lost = f"the signing key {key_path()} is gone: it cannot be verified, so it is not used"
        paths = sorted((directory / contract.MANIFESTS).glob("[0-9]*.json"))
        unusable = [(path, f"manifest {path}: {lost}") for path in paths]
    return Shelf(
        notebook=notebook,
        checkpoints=tuple(sorted(good, key=lambda m: m.seq)),
        unusable=tuple(unusable),
        deaths=sum(not survived(record) for record in _records(directory)[0]),
        disk_bytes=_disk_bytes(directory),
        in_use=is_in_use(directory),
    )


def _disk_bytes(directory: Path) -> int:
    """What the directory takes on the disk, holes left out."""
    total = 0
    for parent, _, files in os.walk(directory):
        for name in files:
            try:
                total += (Path(parent) / name).lstat().st_blocks * 512
            except OSError:  # pruned while we walked
                continue
    return total
