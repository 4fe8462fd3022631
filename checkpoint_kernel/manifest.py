"""A manifest: the signed, immutable list of what forms one checkpoint.

Publishing it by rename is the commit. The file holds two lines: the HMAC-SHA256 of the
second line under the user's key (as Jupyter signs notebooks), and the manifest as JSON.
Standard library only, so that the supervisor can read it; payloads are `store`'s.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import hmac
import json
import os
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import durable
from .contract import MANIFESTS

FORMAT = 1

# Kinds of units that hold no variables: they stand beside them.
BESIDE = ("locals", "session", "state")


class ManifestError(Exception):
    """A manifest that cannot be used; the message names the file and the reason."""


class DamagedManifest(ManifestError):
    """The file is not what was written: signature, JSON or fields are wrong."""


class UnknownFormat(ManifestError):
    """Written by a newer version."""


@dataclass(frozen=True)
class Unit:
    """Variables that are saved and restored together, and where their payload is."""

    id: str  # stable over the checkpoints of a line: "var:df", "def:train", "hidden:..."
    kind: str  # data, function, class, module, or one of BESIDE
    names: tuple[str, ...]  # variables that it binds; () for a hidden one
    codec: str  # "pickle" or "dill"
    payload: str  # digest of the recipe, see `store`
    size_bytes: int  # stream and buffers, before deduplication
    types: dict[str, str] = field(default_factory=dict)  # name -> type, for people
    hidden: tuple[str, ...] = ()  # keys of definitions in it that have no name of their own
    needs: tuple[str, ...] = ()  # ids of units that it refers to
    reached_by_call: bool = False  # a running C call could have been changing it


@dataclass(frozen=True)
class Skipped:
    """A variable that is not in the checkpoint, and why."""

    name: str
    type: str
    reason: str
    remedy: str | None = None
    checkpoint: str | None = None  # the one that holds it: a Stub stands for it
    stub: bool = False  # a restore binds a stub to the name, which says this when it is used
    made_in: int | None = None  # number of the cell that bound it last
    made_by: str | None = None  # the line of that cell, cut; never a secret's


@dataclass(frozen=True)
class LeftBehind:
    """Variables that a restore could not load, and the checkpoint that has them."""

    checkpoint: str
    names: tuple[str, ...]
    since: float  # when that restore was


@dataclass(frozen=True)
class Manifest:
    """One checkpoint. Times are seconds since the epoch (UTC)."""

    id: str
    seq: int  # rises by one over the whole store; names the order
    line: str  # id of the session that began this line
    session: str
    parent: str | None  # id of the checkpoint before it in this line
    time: float  # when the state was taken (the fork), not when it was committed
    reason: str  # cell, mid-cell, save, status, shutdown, SIGTERM, parent-gone, memory
    execution_count: int | None  # of the cell that ran or had just ended
    inside_cell: bool  # taken before that cell had finished
    inside_call: bool  # no safe point could be had
    cell_source: str | None
    line_number: int | None  # in the cell, from 1, when inside
    units: tuple[Unit, ...]
    skipped: tuple[Skipped, ...]
    pending: tuple[str, ...] = ()  # names that follow in the next checkpoint
    left_behind: tuple[LeftBehind, ...] = ()  # by restores before it, and not saved since
    # Variables that are saved with a stub in the place of a part; type, reason and remedy are its.
    partly: tuple[Skipped, ...] = ()
    interactive: tuple[str, ...] = ()  # what its unit of the kind "state" holds, in words
    failed_cells: tuple[int, ...] = ()  # of the history: they raised an error
    python: str = ""
    format: int = FORMAT

    @property
    def names(self) -> list[str]:
        """The variables that this checkpoint holds, sorted. What is beside them is not."""
        return sorted(name for unit in self.units if unit.kind not in BESIDE for name in unit.names)

    @property
    def size_bytes(self) -> int:
        """What the namespace weighs when loaded, before deduplication."""
        return sum(unit.size_bytes for unit in self.units)

    @property
    def utc(self) -> str:
        """`time` as ISO 8601."""
        return datetime.fromtimestamp(self.time, UTC).isoformat(timespec="milliseconds")


def new_id(now: float | None = None) -> str:
    """A short id for a checkpoint or a session that sorts by time: `20261123-093015-1f44f2`.

    The last six digits are the milliseconds, in three, and chance.
    """
    stamp = datetime.fromtimestamp(time.time() if now is None else now, UTC)
    milliseconds = stamp.microsecond // 1000
    return f"{stamp:%Y%m%d-%H%M%S}-{milliseconds:03x}{secrets.randbelow(4096):03x}"


def path_of(notebook_directory: Path, manifest: Manifest) -> Path:
    """Where a manifest lies; the name sorts by `seq`."""
    return notebook_directory / MANIFESTS / f"{manifest.seq:08d}-{manifest.id}.json"


def encode(manifest: Manifest, key: bytes) -> bytes:
    """The bytes of the file."""
    # `vars` of the nested records: dataclasses.asdict copies every string, ten times slower.
    body = json.dumps(vars(manifest), default=vars, separators=(",", ":")).encode()
    return sign(body, key).encode() + b"\n" + body + b"\n"


def sign(body: bytes, key: bytes) -> str:
    """HMAC-SHA256, hexadecimal."""
    return hmac.new(key, body, hashlib.sha256).hexdigest()


def decode(data: bytes, key: bytes, where: str) -> Manifest:
    """Read a manifest back, or raise DamagedManifest or UnknownFormat naming `where`."""
    signature, _, body = data.partition(b"\n")
    body = body.removesuffix(b"\n")
    if not hmac.compare_digest(signature, sign(body, key).encode()):
        raise DamagedManifest(
            f"manifest {where}: the signature does not match: damaged, or not written by this user"
        )
    try:
        raw: dict[str, Any] = json.loads(body)
        if raw["format"] > FORMAT:
            raise UnknownFormat(
                f"manifest {where} has format {raw['format']}, this version reads up to "
                f"{FORMAT}: update checkpoint-kernel"
            )
        units = tuple(Unit(**_known(Unit, unit)) for unit in raw.pop("units"))
        skipped = tuple(Skipped(**_known(Skipped, entry)) for entry in raw.pop("skipped"))
        partly = tuple(Skipped(**_known(Skipped, entry)) for entry in raw.pop("partly", ()))
        left = tuple(LeftBehind(**_known(LeftBehind, e)) for e in raw.pop("left_behind", ()))
        fields = _known(Manifest, raw)
        return Manifest(**fields, units=units, skipped=skipped, left_behind=left, partly=partly)
    except (ValueError, KeyError, TypeError, AttributeError) as why:
        raise DamagedManifest(f"manifest {where}: signed by us, but malformed: {why!r}") from why


def _known(cls: type, raw: dict[str, Any]) -> dict[str, Any]:
    """Only the fields that this version knows, lists as tuples: fields may be added in a format."""
    names = _field_names(cls)
    return {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items() if k in names}


@functools.cache
def _field_names(cls: type) -> frozenset[str]:
    return frozenset(f.name for f in dataclasses.fields(cls))


def read(path: Path, key: bytes) -> Manifest:
    """Read and verify one manifest file."""
    return decode(path.read_bytes(), key, str(path))


# What has been read and verified: path -> (what `stat` said of the file, its content).
Cache = dict[Path, tuple[tuple[int, int, int], Manifest]]


def read_all(
    notebook_directory: Path, key: bytes, cache: Cache | None = None
) -> tuple[list[Manifest], list[tuple[Path, ManifestError]]]:
    """All manifests, oldest first, and those that cannot be used, each with its reason.

    A `cache` that is handed in again spares reading files that have not changed.
    """
    known = {} if cache is None else cache
    good: list[Manifest] = []
    bad: list[tuple[Path, ManifestError]] = []
    directory = notebook_directory / MANIFESTS
    if not directory.is_dir():
        return good, bad
    paths = sorted(directory.glob("[0-9]*.json"))
    for path in paths:
        try:
            status = path.stat()
            identity = (status.st_ino, status.st_mtime_ns, status.st_size)
            if path not in known or known[path][0] != identity:
                known[path] = (identity, read(path, key))
            good.append(known[path][1])
        except ManifestError as why:
            bad.append((path, why))
        except FileNotFoundError:
            continue  # pruned between the listing and the read
        except OSError as why:
            bad.append((path, DamagedManifest(f"manifest {path} cannot be read: {why}")))
    for gone in known.keys() - set(paths):
        del known[gone]
    return good, bad


def load_key(path: Path) -> bytes:
    """The user's signing key; made on first use, 0600, 32 random bytes in hexadecimal.

    Raises ManifestError if another user owns the file or it is malformed.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _make_key(path)
    text = path.read_text("ascii", errors="replace").strip()
    stat = path.stat()
    if stat.st_uid != os.geteuid():
        raise ManifestError(f"the signing key {path} belongs to user {stat.st_uid}, not to us")
    if stat.st_mode & 0o077:
        path.chmod(0o600)
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) < 16:
        raise ManifestError(f"the signing key {path} is malformed: remove it to make a new one")
    return key


def _make_key(path: Path) -> None:
    """Publish a new key, unless another process is faster. Without it no checkpoint can be
    trusted any more, so it is durable before anything is signed with it."""
    temporary = durable.temporary_name(path.parent)
    fd = durable.create(temporary)
    try:
        try:
            durable.write_all(fd, secrets.token_hex(32).encode())
            durable.fsync(fd)
        finally:
            os.close(fd)
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass  # the other's key is the key
        except OSError:  # a filesystem without hard links
            durable.rename(temporary, path)
    finally:
        durable.unlink(temporary)
    durable.fsync_directory(path.parent)
