"""Looks at what is installed: packages by importlib.metadata, and what conda noted of itself.

importlib.metadata parses each package's whole METADATA, 1 ms of the interpreter; the head of it
says the same in a tenth. `between` is called after each file, so that the kernel can take the work
in small steps, and the supervisor can give up. Standard library only; changes nothing.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .environment import CondaPackage, State

if TYPE_CHECKING:
    from importlib.metadata import Distribution

CONDA_META = "conda-meta"
HEAD_BYTES = 16 * 1024  # of a record of conda's, in which its channel stands

_FIELD = re.compile(r"^(Name|Version):[ \t]*(\S.*?)[ \t\r]*$", re.MULTILINE | re.IGNORECASE)
_CHANNEL = re.compile(rb'"channel"\s*:\s*"([^"]*)"')
_PACKAGE_DIRECTORIES = ("site-packages", "dist-packages")
# user:password@ or token@ in an address, and a token in the path of a channel of anaconda.org's
_CREDENTIALS = re.compile(r"(?<=//)[^/@\s]+@|/t/[^/]+(?=/)")
_HARMLESS_USERS = re.compile(r"(git|hg|svn)@|(\$\{\w+\}:?)+@")  # PEP 610 allows these to stay


@dataclass(frozen=True)
class Found:
    """What is installed, and whence."""

    state: State
    origins: dict[str, dict[str, Any]]  # as Environment.origins
    by_conda: tuple[str, ...]
    watched: dict[str, int]
    notes: tuple[str, ...]


def canonical(name: str) -> str:
    """The one spelling of a package's name under which all are the same (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def look(
    paths: Sequence[str] | None, prefix: Path, between: Callable[[], None] = lambda: None
) -> Found:
    """What is installed in `paths` (None: on sys.path) and by conda in `prefix`.

    What `between` raises ends the look and comes through.
    """
    notes: list[str] = []
    now = time.time()
    places = [str(Path(path).absolute()) for path in (sys.path if paths is None else paths)]
    before = modified([*places, str(prefix / CONDA_META)])
    conda, owned = _conda(prefix, between, notes)
    packages, origins, by_conda, directories = _packages(paths, owned, between, notes)
    watched = {
        path: mtime_ns
        for path, mtime_ns in before.items()
        if path in directories or Path(path).name in (*_PACKAGE_DIRECTORIES, CONDA_META)
    }
    revision = conda_revision(prefix, notes)
    state = State(now, packages, conda, revision)
    return Found(state, origins, tuple(sorted(by_conda)), watched, tuple(notes))


def modified(directories: Iterable[str]) -> dict[str, int]:
    """When each directory was last modified, in ns; those that are not there are left out."""
    found = {}
    for path in dict.fromkeys(directories):
        try:
            found[path] = Path(path).stat().st_mtime_ns
        except OSError:
            continue
    return found


# --- packages of Python's ---


def _packages(
    paths: Sequence[str] | None,
    owned: set[str],
    between: Callable[[], None],
    notes: list[str],
) -> tuple[dict[str, str], dict[str, dict[str, Any]], list[str], set[str]]:
    """Packages, origins, which of them are conda's, and the directories that hold them."""
    from importlib import metadata  # 2 MB that a supervisor should not have from its start

    everything = (
        metadata.distributions() if paths is None else metadata.distributions(path=list(paths))
    )
    packages: dict[str, str] = {}
    origins: dict[str, dict[str, Any]] = {}
    by_conda: list[str] = []
    directories: set[str] = set()
    seen: set[str] = set()
    for one in everything:
        between()
        place = getattr(one, "_path", None)  # there is no public name for it
        label = Path(str(place)).name if place is not None else ""
        if label.startswith("~"):
            notes.append(f"an interrupted pip left {place}")
            continue
        name, version = name_and_version(one)
        if name is None or version is None:
            notes.append(f"{place or 'a package'} has no name or no version")
            continue
        if place is not None:
            directories.add(str(Path(str(place)).parent.absolute()))
        if canonical(name) in seen:
            continue  # farther back on the path: an import finds the first
        seen.add(canonical(name))
        packages[name] = version
        if label in owned:
            by_conda.append(name)
        elif origin := _origin(one, notes):
            origins[name] = origin
    return packages, origins, by_conda, directories


def name_and_version(one: Distribution) -> tuple[str | None, str | None]:
    """What `one.metadata` says of both, without parsing all of it where the head is as usual."""
    text = one.read_text("METADATA") or one.read_text("PKG-INFO") or one.read_text("") or ""
    fields: dict[str, str] = {}
    for field, value in _FIELD.findall(text.partition("\n\n")[0]):
        fields.setdefault(field.title(), value)
    if len(fields) == 2:
        return fields["Name"], fields["Version"]
    try:
        parsed = one.metadata
        return parsed["Name"], parsed["Version"]
    except Exception:  # later versions of Python raise where there is none: the caller says so
        return None, None


def _origin(one: Distribution, notes: list[str]) -> dict[str, Any] | None:
    """direct_url.json (PEP 610), without credentials; None for what came from an index."""
    text = one.read_text("direct_url.json")
    if text is None:
        return None
    try:
        origin = json.loads(text)
        return {**origin, "url": without_credentials(str(origin["url"]))}
    except (ValueError, KeyError, TypeError) as why:
        notes.append(f"direct_url.json of {one.name} cannot be read: {why!r}")
        return None


def without_credentials(address: str) -> str:
    """An address as it may be written down."""

    def kept(match: re.Match[str]) -> str:
        return match[0] if _HARMLESS_USERS.fullmatch(match[0]) else ""

    return _CREDENTIALS.sub(kept, address)


# --- conda ---


def conda_revision(prefix: Path, notes: list[str]) -> int | None:
    """The number of the last revision, as `conda list --revisions` counts: from 0.

    conda-meta/history holds a line `==> date <==` for each (conda/history.py).
    """
    try:
        history = (prefix / CONDA_META / "history").read_bytes()
    except FileNotFoundError:
        return None
    except OSError as why:
        notes.append(f"conda's history cannot be read: {why}")
        return None
    return sum(line.startswith(b"==>") for line in history.splitlines()) - 1


def _conda(
    prefix: Path, between: Callable[[], None], notes: list[str]
) -> tuple[tuple[CondaPackage, ...], set[str]]:
    """conda's packages by name, and the names of the *.dist-info that are theirs.

    conda-meta/<name>-<version>-<build>.json lists all files of a package, up to some MB: it is
    searched and not parsed.
    """
    packages: list[CondaPackage] = []
    owned: set[str] = set()
    for path in sorted((prefix / CONDA_META).glob("*-*-*.json")):
        between()
        name, version, build = path.stem.rsplit("-", 2)
        try:
            record = path.read_bytes()
        except OSError as why:
            notes.append(f"{path} cannot be read: {why}")
            continue
        found = _CHANNEL.search(record[:HEAD_BYTES]) or _CHANNEL.search(record[-HEAD_BYTES:])
        channel = without_credentials(found[1].decode("utf-8", "replace")) if found else None
        packages.append(CondaPackage(name, version, build, channel))
        owned |= _metadata_in(record)
    return tuple(packages), owned


def _metadata_in(record: bytes) -> set[str]:
    """The *.dist-info and *.egg-info among the files of a package of conda's."""
    found = set()
    for suffix in (b".dist-info", b".egg-info"):
        end = record.find(suffix)
        while end >= 0:
            start = max(record.rfind(b"/", 0, end), record.rfind(b'"', 0, end)) + 1
            end += len(suffix)
            found.add(record[start:end].decode("utf-8", "replace"))
            end = record.find(suffix, end)
    return found
