"""Payloads whose loading killed or hung a kernel: remembered, so that none is loaded unasked again.

One file for each notebook, quarantine.json. An entry is of a payload, not of a name: a value that
is made anew is none of it. Who is to blame is `restore`'s and `trial`'s to find. Standard library
only.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from . import durable
from .contract import QUARANTINE_FILE
from .manifest import Unit

# With a larger limit, what was being loaded is back.
FOR_MEMORY: Final = ("oom-killed-by-cap", "oom-killed-by-system")
# Whoever sent SIGKILL, it was perhaps not what was being loaded.
_NOT_PROVED: Final = (*FOR_MEMORY, "killed")


@dataclass(frozen=True)
class Entry:
    """A payload that is not loaded unless the user asks for it by name."""

    payload: str  # digest of the recipe
    names: tuple[str, ...]
    time: float  # when it killed or hung, seconds since the epoch
    did: str  # what loading it did, as a clause: "killed the kernel (segmentation fault)"

    @property
    def reason(self) -> str:
        """For notice and status."""
        moment = datetime.fromtimestamp(self.time)
        return f"loading it {self.did} on {moment:%Y-%m-%d at %H:%M}, so it was left out"


def read(directory: Path) -> dict[str, Entry]:
    """The entries of a notebook, by payload. One that cannot be read is none: it is found again."""
    try:
        raw = json.loads((directory / QUARANTINE_FILE).read_bytes())
        return {one["payload"]: _entry(one) for one in raw["entries"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _entry(raw: dict[str, Any]) -> Entry:
    names = tuple(str(name) for name in raw["names"])
    return Entry(str(raw["payload"]), names, float(raw["time"]), str(raw["did"]))


def put(directory: Path, entries: Iterable[Entry], stored: Iterable[str]) -> None:
    """Add entries, and forget those whose payload is none of `stored`. OSError on a full disk."""
    before = read(directory)
    kept = set(stored)
    found = {payload: one for payload, one in before.items() if payload in kept}
    for one in entries:
        found.setdefault(one.payload, one)
    _write(directory, before, found)


def release(directory: Path, payloads: Iterable[str]) -> None:
    """These have been loaded. OSError on a full disk."""
    before, gone = read(directory), set(payloads)
    _write(directory, before, {p: one for p, one in before.items() if p not in gone})


def _write(directory: Path, before: dict[str, Entry], after: dict[str, Entry]) -> None:
    if before != after:
        body = {"entries": [dataclasses.asdict(one) for one in after.values()]}
        durable.publish(directory / QUARANTINE_FILE, json.dumps(body, indent=1).encode())


def of_death(units: Iterable[Unit], cause: str | None, moment: float | None) -> list[Entry]:
    """Entries for units that were being loaded when a kernel died of `cause`; none without proof.

    Such a unit is left out of the next start, and of no other.
    """
    if cause in _NOT_PROVED:
        return []
    words = f" ({cause.replace('-', ' ')})" if cause and cause != "unknown" else ""
    did = f"killed the kernel{words}" if cause != "hung" else "hung the kernel"
    at = time.time() if moment is None else moment
    return [Entry(unit.payload, unit.names, at, did) for unit in units]
