"""What a session ran with, as values and as the JSON file environment.json in its directory.

Looking at what is installed is `environment_reader`'s. Standard library only.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import durable
from .contract import ENVIRONMENT_FILE

SCHEMA = 1


@dataclass(frozen=True)
class Python:
    """The interpreter. `prefix` is `sys.prefix`: that of the virtual or conda environment."""

    version: str | None  # "3.11.7"; None where only the supervisor has looked, and found none
    prefix: str
    implementation: str = ""  # "CPython"
    platform: str = ""  # "Linux-6.18.0-x86_64-with-glibc2.36"


@dataclass(frozen=True)
class CondaPackage:
    """What conda installed; not every one is a package of Python's."""

    name: str
    version: str
    build: str
    channel: str | None  # an address or a name, without credentials


@dataclass(frozen=True)
class State:
    """What is installed at one moment. `time` is in seconds since the epoch."""

    time: float
    packages: dict[str, str]  # name as the package spells it -> version; what an import finds
    conda: tuple[CondaPackage, ...] = ()  # by name
    conda_revision: int | None = None  # the last of `conda list --revisions`; None: no conda

    def same_as(self, other: State) -> bool:
        """Whether both name the same packages, whenever that was."""
        return dataclasses.replace(other, time=self.time) == self


@dataclass(frozen=True)
class Environment:
    """What one session ran with."""

    session: str
    notebook: str | None
    python: Python
    now: State  # as of the last look
    at_start: State | None = None  # None: what is there now was there from the start
    # name -> direct_url.json (PEP 610) of a package that came from no index
    origins: dict[str, dict[str, Any]] = field(default_factory=dict)
    by_conda: tuple[str, ...] = ()  # those of now.packages that conda installed
    # directory in which packages are installed -> its modification time in ns, before the look
    watched: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # what could not be read, and why
    schema_version: int = SCHEMA

    @property
    def started_with(self) -> State:
        """What the session began with."""
        return self.at_start or self.now


def save(directory: Path, environment: Environment) -> None:
    """Publish the session's environment.json, durably. OSError if it cannot be written."""
    body = json.dumps(dataclasses.asdict(environment), indent=1).encode()
    durable.publish(directory / ENVIRONMENT_FILE, body)


def load(path: Path) -> Environment | None:
    """What such a file says, or None where there is none.

    Raises ValueError, TypeError or KeyError if it is malformed.
    """
    try:
        raw: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    raw["python"] = Python(**_known(Python, raw["python"]))
    raw["now"] = _state(raw["now"])
    raw["at_start"] = _state(raw["at_start"]) if raw.get("at_start") else None
    for name in ("by_conda", "notes"):
        raw[name] = tuple(raw[name])
    return Environment(**_known(Environment, raw))


def _state(raw: dict[str, Any]) -> State:
    conda = tuple(CondaPackage(**_known(CondaPackage, one)) for one in raw["conda"])
    return State(**{**_known(State, raw), "conda": conda})


def _known(cls: type, raw: dict[str, Any]) -> dict[str, Any]:
    """Only the fields that this version knows: later versions may add some."""
    names = {f.name for f in dataclasses.fields(cls)}
    return {k: v for k, v in raw.items() if k in names}
