"""Examining all of a store: every kind of damage gives one finding that says what it costs.

Reads every chunk. Repairs nothing and removes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from .contract import MANIFESTS, SEGMENTS
from .manifest import Manifest, ManifestError, UnknownFormat
from .prune import claimed_units
from .segment import Segment, StoreError
from .store import Finding, Reader, Store
from .store_writer import StoreBusy, temporaries, writing

__all__ = ["Finding", "check"]


@dataclass(frozen=True)
class _Need:
    """What a chunk is needed for."""

    checkpoint: str
    variables: tuple[str, ...]


def check(store: Store) -> list[Finding]:
    """All damage in the store, with the checkpoints and variables that it costs.

    Kinds: segment-truncated, index-damaged, chunk-damaged, chunks-missing,
    manifest-truncated, manifest-signature, manifest-unreadable, unknown-format,
    leftover-temporary.
    """
    store.forget()
    store.refresh()
    manifests = store.manifests()
    found = [_of_manifest(path, why) for path, why in store.damaged]
    with store.reader() as reader:
        damaged = {s.path: _damaged_chunks(s, reader) for s in store.segments.values()}
        all_damaged = frozenset().union(*damaged.values())
        needs, lost = _needs(manifests, store, reader, all_damaged)
    for path, digests in damaged.items():
        if digests:
            found.append(_costing(_of_chunks(path, digests), digests, needs))
    # Which chunks an unreadable segment held is not known, but where there is one it is
    # the reason that chunks are missing.
    if store.findings:
        found += [_costing(finding, lost, needs) for finding in store.findings]
    elif lost:
        found.append(_costing(_of_missing(store.directory, lost), lost, needs))
    return found + _leftovers(store.directory)


def _damaged_chunks(segment: Segment, reader: Reader) -> frozenset[bytes]:
    return frozenset(
        entry.digest for entry in segment.entries() if not reader.own_copy_is_whole(segment, entry)
    )


def _needs(
    manifests: Iterable[Manifest], store: Store, reader: Reader, damaged: frozenset[bytes]
) -> tuple[dict[bytes, list[_Need]], frozenset[bytes]]:
    """What each chunk is needed for, and the needed chunks that are in no readable segment."""
    needs: dict[bytes, list[_Need]] = defaultdict(list)
    for m in manifests:
        for unit in m.units:
            digest = bytes.fromhex(unit.payload)
            need = _Need(m.id, unit.names or (unit.id,))
            needs[digest].append(need)
            if digest in damaged or store.locate(digest) is None:
                continue
            try:
                chunks = set(reader.recipe(digest).chunks())
            except StoreError:
                continue
            for chunk in chunks:
                needs[chunk].append(need)
    return needs, frozenset(digest for digest in needs if store.locate(digest) is None)


def _costing(
    finding: Finding, digests: Iterable[bytes], needs: dict[bytes, list[_Need]]
) -> Finding:
    hit = [need for digest in digests for need in needs.get(digest, ())]
    return replace(
        finding,
        checkpoints=tuple(sorted({need.checkpoint for need in hit})),
        variables=tuple(sorted({name for need in hit for name in need.variables})),
    )


def _of_chunks(path: Path, digests: frozenset[bytes]) -> Finding:
    return Finding(
        "chunk-damaged",
        path,
        f"segment {path}: the bytes of {_count(digests)} are not those that were written; "
        "the other chunks are whole",
    )


def _of_missing(directory: Path, digests: frozenset[bytes]) -> Finding:
    return Finding(
        "chunks-missing",
        directory / SEGMENTS,
        f"{directory / SEGMENTS}: {_count(digests)} that checkpoints need are in no segment: "
        "a segment file has been removed",
    )


def _of_manifest(path: Path, why: ManifestError) -> Finding:
    checkpoint = path.stem.partition("-")[2]
    try:
        claimed = claimed_units(path) or ()
        ends = path.read_bytes().endswith(b"}\n")
    except OSError:
        return Finding("manifest-unreadable", path, str(why), checkpoints=(checkpoint,))
    if isinstance(why, UnknownFormat):
        kind = "unknown-format"
    else:
        kind = "manifest-signature" if ends else "manifest-truncated"
    names = tuple(sorted({name for _payload, names in claimed for name in names}))
    return Finding(kind, path, str(why), checkpoints=(checkpoint,), variables=names)


def _leftovers(directory: Path) -> list[Finding]:
    try:
        with writing(directory, wait_s=0):
            left = temporaries(directory)
    except StoreBusy:
        return []  # they are the files of a living writer
    return [
        Finding(
            "leftover-temporary",
            path,
            f"{path}: left by a writer that was killed; the next checkpoint removes it",
        )
        for path in left
        if path.parent.name in (SEGMENTS, MANIFESTS)
    ]


def _count(digests: frozenset[bytes]) -> str:
    named = ", ".join(sorted(digest.hex()[:12] for digest in digests)[:3])
    more = f" and {len(digests) - 3} more" if len(digests) > 3 else ""
    return f"chunk{'s' if len(digests) > 1 else ''} {named}{more}"
