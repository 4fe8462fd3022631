"""Removing old checkpoints: which (pure), and how, so that a crash at any moment costs nothing.

Manifests go first; then the segments that no remaining manifest needs; then what is left
of half-empty segments moves together. When to prune is the caller's business. Never
touches another notebook's checkpoints.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from . import durable, manifest
from .contract import MANIFESTS, SEGMENTS
from .manifest import Manifest, UnknownFormat
from .segment import PAGE, Entry, Segment, SegmentWriter, StoreError
from .store import Reader, Store
from .store_writer import remove_temporaries, writing

PINNED_S: Final = 14 * 24 * 3600.0
COMPACT_FROM_BYTES: Final = 1 << 20  # less dead weight than this, all together, is left
COMPACT_BELOW: Final = 0.5  # live share of a segment
SMALL_BYTES: Final = 1 << 20
SMALL_SEGMENTS: Final = 100  # more small ones than these are gathered, however full they are
MAXIMUM_LIMIT_BYTES: Final = 20 * 10**9
FREE_SHARE: Final = 0.2


@dataclass(frozen=True)
class PruneReport:
    """What a prune did. `kept_because` says why less went than should have."""

    removed_manifests: tuple[str, ...] = ()  # ids
    removed_segments: tuple[str, ...] = ()  # file names, compacted ones included
    freed_bytes: int = 0
    kept_because: str | None = None


@dataclass(frozen=True)
class QuotaReport:
    """Where the store stands against its quota."""

    used_bytes: int
    limit_bytes: int
    removed_manifests: tuple[str, ...]
    over: str | None  # one sentence with a remedy if it is still over


def choose(
    manifests: Sequence[Manifest], keep: int, current_line: str | None, now: float
) -> tuple[set[str], set[str]]:
    """Ids to keep and ids to drop.

    `keep` of the current line and of the one before it; of older lines the newest, for 14
    days. Where the newest were taken inside a cell or a C call, also the newest from before
    it: a restore may have to go back to that one. `current_line` None: that of the newest.
    """
    lines = _lines(manifests, current_line)
    kept = pinned(manifests, current_line, now)
    for position, everything in enumerate(lines):
        # One that was published without its large units is superseded by the next.
        line = [m for m in everything if not m.pending or m is everything[-1]]
        if position > 1:
            kept |= {m.id for m in line[-1:] if now - m.time < PINNED_S}
            continue
        kept |= {m.id for m in line[-max(keep, 0) :]} if keep > 0 else set()
        if line and line[-1].id in kept:
            kept |= {m.id for m in [m for m in line if not m.inside_cell][-1:]}
            kept |= {m.id for m in [m for m in line if not m.inside_call][-1:]}
    return kept, {m.id for m in manifests} - kept


def pinned(manifests: Sequence[Manifest], current_line: str | None, now: float) -> set[str]:
    """What no quota drops: the newest of all; for 14 days that of the line before, and those
    that hold what a restore has left behind."""
    lines = _lines(manifests, current_line)
    kept = {max(manifests, key=lambda m: m.seq).id} if manifests else set()
    if len(lines) > 1 and now - lines[1][-1].time < PINNED_S:
        kept.add(lines[1][-1].id)
    left = [each for line in lines for newest in line[-1:] for each in newest.left_behind]
    alone = {each.checkpoint for each in left if now - each.since < PINNED_S}
    return kept | (alone & {m.id for m in manifests})


def _lines(manifests: Sequence[Manifest], current_line: str | None) -> list[list[Manifest]]:
    """The current line first (it may be empty), then the others, newest first; each by seq."""
    ordered = sorted(manifests, key=lambda m: m.seq)
    if current_line is None and ordered:
        current_line = ordered[-1].line
    lines: dict[str | None, list[Manifest]] = {current_line: []}
    for m in ordered:
        lines.setdefault(m.line, []).append(m)
    current = lines.pop(current_line)
    return [current, *sorted(lines.values(), key=lambda line: line[-1].seq, reverse=True)]


def prune(
    store: Store,
    drop: Iterable[str],
    extra_keep: AbstractSet[str] = frozenset(),
    compact_from_bytes: int = COMPACT_FROM_BYTES,
    wait_s: float = 5.0,
) -> PruneReport:
    """Remove the checkpoints with these ids, and the segments that nothing needs any more.

    `extra_keep`: payload digests that the live kernel still refers to. Raises StoreBusy if
    a snapshot is being written, or OSError; the store is whole in any case.
    """
    with writing(store.directory, wait_s):
        remove_temporaries(store.directory)
        store.refresh()
        removed, kept = _remove_manifests(store, set(drop))
        with store.reader() as reader:
            try:
                payloads = _named_payloads(store, kept)
            except UnknownFormat as why:
                return PruneReport(removed, kept_because=f"no segment was removed: {why}")
            live, lost = _closure(payloads | extra_keep, reader, store)
            dead, sparse = _sort_segments(store, live, compact_from_bytes)
            if not lost:
                dead += [f.path for f in store.findings if f.kind != "unknown-format"]
            freed = _remove_segments(store, dead)
            kept_because = None
            if sparse:
                gained, kept_because = _compact(store, sparse, live, reader)
                freed += gained
                dead += [] if kept_because else [segment.path for segment in sparse]
        store.refresh()
        return PruneReport(removed, tuple(path.name for path in dead), freed, kept_because)


def _remove_manifests(store: Store, drop: set[str]) -> tuple[tuple[str, ...], list[Manifest]]:
    """The ids that went, and the checkpoints that stay."""
    everything = store.manifests()
    going = [m for m in everything if m.id in drop]
    for m in going:
        durable.unlink(manifest.path_of(store.directory, m))
    if going:
        durable.fsync_directory(store.directory / MANIFESTS)
    return tuple(m.id for m in going), [m for m in everything if m.id not in drop]


def _named_payloads(store: Store, kept: Iterable[Manifest]) -> set[str]:
    """What every manifest that is there names, also those that we cannot verify.

    A lost signing key must not cost the chunks. To keep a chunk needs no trust.
    """
    payloads = {unit.payload for m in kept for unit in m.units}
    for path, why in store.damaged:
        named = claimed_units(path)
        if named is None and isinstance(why, UnknownFormat):
            raise why
        payloads |= {payload for payload, _names in named or ()}
    return payloads


def claimed_units(path: Path) -> list[tuple[str, tuple[str, ...]]] | None:
    """(payload, names) of each unit that an unverified manifest claims; None if malformed.

    Raises OSError: what the disk does not give us now it may give later.
    """
    data = path.read_bytes()
    try:
        body = json.loads(data.partition(b"\n")[2])
        units = [(str(u["payload"]), tuple(map(str, u["names"]))) for u in body["units"]]
        for payload, _names in units:
            bytes.fromhex(payload)
    except (ValueError, KeyError, TypeError):
        return None
    return units


def _closure(payloads: set[str], reader: Reader, store: Store) -> tuple[set[bytes], bool]:
    """Every chunk that the payloads need, and whether any of them is missing or damaged.

    An error of the disk (OSError) is not damage: it goes to the caller, and nothing is removed.
    """
    live = set()
    lost = False
    for payload in payloads:
        digest = bytes.fromhex(payload)
        live.add(digest)
        try:
            chunks = set(reader.recipe(digest).chunks())
        except StoreError:
            lost = True
            continue
        live |= chunks
        lost = lost or any(store.locate(chunk) is None for chunk in chunks)
    return live, lost


def _sort_segments(
    store: Store, live: set[bytes], compact_from_bytes: int
) -> tuple[list[Path], list[Segment]]:
    """Segments without a live chunk, and segments that are worth compacting."""
    dead, sparse, small = [], [], []
    weight = 0
    for segment in store.segments.values():
        entries = _live_entries(store, segment, live)
        live_bytes = sum(entry.length for entry in entries)
        if not entries:
            dead.append(segment.path)
        elif live_bytes < COMPACT_BELOW * segment.size_bytes:
            sparse.append(segment)
            weight += segment.size_bytes - live_bytes
        elif segment.size_bytes < SMALL_BYTES:
            small.append(segment)
    if weight < compact_from_bytes:
        small += sparse
        sparse = []
    if len(small) > SMALL_SEGMENTS:
        sparse += small
    return dead, sparse


def _live_entries(store: Store, segment: Segment, live: set[bytes]) -> list[Entry]:
    """The chunks that are needed, and read from this segment."""
    return [
        entry
        for entry in segment.entries()
        if entry.digest in live and store.locate(entry.digest) == (segment, entry)
    ]


def _remove_segments(store: Store, paths: Sequence[Path]) -> int:
    freed = 0
    for path in paths:
        freed += path.stat().st_size
        durable.unlink(path)
    if paths:
        durable.fsync_directory(store.directory / SEGMENTS)
    return freed


def _compact(
    store: Store, sparse: Sequence[Segment], live: set[bytes], reader: Reader
) -> tuple[int, str | None]:
    """Move what is live into one new segment, then remove the old ones. Bytes gained."""
    writer = None
    try:
        # Asks for room only now: where the disk is full, the removals above have made some.
        writer = SegmentWriter(store.directory / SEGMENTS, store.boot_id)
        for segment in sparse:
            for entry in _live_entries(store, segment, live):
                data = reader.chunk(entry.digest)
                writer.append(entry.digest, data, aligned=entry.offset % PAGE == 0)
        new = writer.finish()
    except (OSError, StoreError) as why:
        if writer:
            writer.discard()
        return 0, f"{len(sparse)} half-empty segments were not compacted: {why}"
    store.adopt(new)
    return _remove_segments(store, [s.path for s in sparse]) - new.size_bytes, None


def shrink(
    store: Store,
    wanted_bytes: int,
    current_line: str | None,
    now: float,
    extra_keep: AbstractSet[str] = frozenset(),
) -> PruneReport:
    """Remove this notebook's oldest checkpoints until that much is free. Never a pinned one."""
    report = prune(
        store, (), extra_keep, compact_from_bytes=1
    )  # what nothing needs goes before any checkpoint
    manifests = store.manifests()
    untouchable = pinned(manifests, current_line, now)
    for m in sorted(manifests, key=lambda m: m.seq):
        if report.freed_bytes >= wanted_bytes:
            break
        if m.id not in untouchable:
            step = prune(store, {m.id}, extra_keep, compact_from_bytes=1)
            report = PruneReport(
                report.removed_manifests + step.removed_manifests,
                report.removed_segments + step.removed_segments,
                report.freed_bytes + step.freed_bytes,
                step.kept_because,
            )
    return report


def enforce_quota(
    root: Path,
    store: Store,
    limit_bytes: int | None,
    current_line: str | None,
    now: float,
    extra_keep: AbstractSet[str] = frozenset(),
) -> QuotaReport:
    """Keep all notebooks under `root` within `limit_bytes` by removing our own oldest.

    None is the default: the smaller of 20 % of the free disk and 20 GB.
    """
    used = used_bytes(root)
    limit = default_limit_bytes(root, used) if limit_bytes is None else limit_bytes
    if used <= limit:
        return QuotaReport(used, limit, (), None)
    report = shrink(store, used - limit, current_line, now, extra_keep)
    used = used_bytes(root)
    over = None
    if used > limit:
        over = (
            f"the checkpoints under {root} take {used / 1e9:.2f} GB, over the limit of "
            f"{limit / 1e9:.2f} GB, and this notebook has no older ones to remove: raise "
            "`store_limit`, or `jupyter checkpoint prune` other notebooks"
        )
    return QuotaReport(used, limit, report.removed_manifests, over)


def default_limit_bytes(root: Path, used: int) -> int:
    """The smaller of 20 % of what would be free without us and 20 GB."""
    disk = os.statvfs(root)
    return min(int(FREE_SHARE * (disk.f_bavail * disk.f_frsize + used)), MAXIMUM_LIMIT_BYTES)


def used_bytes(root: Path) -> int:
    """What a directory takes on the disk, holes not counted."""
    total = 0
    for directory, _names, files in os.walk(root):
        for name in files:
            try:
                total += os.lstat(os.path.join(directory, name)).st_blocks * 512  # noqa: PTH118
            except FileNotFoundError:
                continue  # temporary files come and go
    return total
