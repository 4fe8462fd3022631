"""From pickled units to a committed checkpoint: payloads into the store, then the manifest.

A first checkpoint that takes long is published in two steps: at first without the large units,
which it names as `pending`, then whole. On a full disk our own oldest checkpoints make room.
Runs in the snapshot process. What the units are is `units`', how bytes become durable `store`'s.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from . import intervals, manifest, prune, units
from .carry_over import Clean
from .inherited_pages import inherited
from .manifest import Manifest, ManifestError, Skipped, Unit
from .store import Proof, Snapshot, Store, StoreError
from .unchanged import Known, Range

# After so long, what is there is published without waiting for the rest.
_PENDING_AFTER_S: Final = 2.0
_LARGE_BYTES: Final = 16 << 20
# The reason of a checkpoint that is made in place because a snapshot process has no room.
NEAR_CAP: Final = "memory"
_BYTES_PER_S: Final = 500e6  # hashed and written, on a slow disk


@dataclass(frozen=True)
class State:
    """What is to be committed."""

    template: Manifest  # all but the units
    drafts: list[units.Draft]
    carried: list[Unit]  # of the checkpoint before, as they are
    partition: units.Partition
    clean: Clean
    carried_memory: list[Range]  # of what is carried over: it is not here


@dataclass
class Committed:
    """What was committed, and what it is good to know for the next one."""

    id: str
    new_bytes: int = 0
    units: list[Unit] = field(default_factory=list)
    known: list[Known] = field(default_factory=list)
    staged: list[tuple[str, str, int]] = field(default_factory=list)  # as in `Staging.settle`


# Is told the number and the id of a checkpoint that is published without its large units.
Partial = Callable[[tuple[int, str]], None]


def carried_over(
    everything: Iterable[Known], partition: units.Partition
) -> tuple[list[Unit], list[Skipped]]:
    """Units of the newest checkpoint that form part of this one as they are.

    One whose class could not be saved this time cannot be loaded any more: it is skipped.
    """
    where = partition.definition_units
    kept: list[Unit] = []
    lost: list[Skipped] = []
    for known in everything:
        missing = sorted(key for key in known.needs if key not in where)
        if missing:
            reason = f"it needs {', '.join(missing)}, which could not be saved"
            lost += [Skipped(n, known.unit.types.get(n, "?"), reason) for n in known.unit.names]
        else:
            kept.append(replace(known.unit, needs=tuple(sorted({where[k] for k in known.needs}))))
    return kept, lost


def commit(state: State, store: Store, partial: Partial) -> Committed:
    """Write what is new, and publish. Raises OSError with a text for users."""
    try:
        return _commit(state, store, partial)
    except OSError as why:
        if why.errno != errno.ENOSPC:
            raise _unwritable(store, why) from why
        wanted = sum(units.plain_size(draft.pickled) for draft in state.drafts if draft.pickled)
        freed = prune.shrink(store, wanted, state.template.line, time.time()).freed_bytes
        if freed == 0:
            raise _unwritable(store, why) from why
    try:
        return _commit(state, store, partial)
    except OSError as why:
        raise _unwritable(store, why) from why


def _unwritable(store: Store, why: OSError) -> OSError:
    return OSError(f"the store {store.directory} cannot be written: {why.strerror or why}")


def _commit(state: State, store: Store, partial: Partial) -> Committed:
    done = state.template
    result = Committed(done.id)
    first, pending = _stages(state.drafts, done)
    for stage, following in [(first, pending), (pending, [])] if pending else [(first, [])]:
        with store.begin(near_cap=done.reason == NEAR_CAP) as writer:
            for draft in stage:
                _put(draft, writer, state, result)
            names = tuple(sorted(name for draft in following for name in draft.root))
            if not names and (same := _as_before(result, state, store)) is not None:
                result.id = same
                break
            writer.commit(replace(done, units=(*result.units, *state.carried), pending=names))
        if following:
            partial((done.seq, done.id))
            done = replace(done, id=manifest.new_id(time.time()), seq=done.seq + 1, parent=done.id)
            result.id = done.id
    return result


def _as_before(result: Committed, state: State, store: Store) -> str | None:
    """The checkpoint before, if this one would hold the same: it would only push out older ones."""
    done = state.template
    if result.new_bytes or done.parent is None or done.inside_cell:
        return None
    try:
        before = store.manifest(done.parent)
    except (StoreError, ManifestError, OSError):
        return None
    same = (
        before.session == done.session
        and before.execution_count == done.execution_count
        and not (before.inside_cell or before.pending)
        and before.skipped == done.skipped
        and before.partly == done.partly
        and before.left_behind == done.left_behind
        and {(u.id, u.payload) for u in before.units}
        == {(u.id, u.payload) for u in (*result.units, *state.carried)}
    )
    return before.id if same else None


def _stages(
    drafts: list[units.Draft], done: Manifest
) -> tuple[list[units.Draft], list[units.Draft]]:
    """What is published at once, and what follows because it takes long. Mostly all and none."""
    if done.parent is not None:
        return drafts, []  # the checkpoint before holds most of it
    sizes = {id(d): units.plain_size(d.pickled) for d in drafts if d.pickled is not None}
    large = [draft for draft in drafts if sizes[id(draft)] >= _LARGE_BYTES]
    needed_s = time.time() - done.time + sum(sizes[id(d)] for d in large) / _BYTES_PER_S
    if needed_s < _PENDING_AFTER_S:
        return drafts, []
    return [draft for draft in drafts if sizes[id(draft)] < _LARGE_BYTES], large


def _put(draft: units.Draft, writer: Snapshot, state: State, result: Committed) -> None:
    assert draft.pickled is not None
    storages, buffers = units.storages(draft.pickled)
    where = units.ranges(draft.pickled, storages)
    proofs = [_proof(one, state) for one in where]
    index = {id(buffer): number for number, buffer in enumerate(draft.pickled.buffers)}
    staged = [(buffers[index[id(b)]].storage, copy) for b, copy in draft.pickled.memory.staged]
    for number, copy in staged:
        if copy.place is not None:
            whole = (copy.address, copy.address + copy.length)
            payload, storage = copy.place
            proofs[number] = Proof(copy.address, payload, storage, [whole], is_all=True)
    written = writer.put(draft.pickled.stream, storages, buffers, proofs)
    result.staged += [
        (copy.digest.hex(), written.digest, number) for number, copy in staged if copy.digest
    ]
    result.new_bytes += written.new_bytes
    unit = _unit_of(draft, written.digest, written.size_bytes, state.partition)
    result.units.append(unit)
    if draft.kind not in ("locals", "session"):
        result.known.append(_known(draft, unit, where, state.partition))


def _proof(where: Range, state: State) -> Proof | None:
    clean = state.clean.get(where)
    if clean is None:
        return None
    payload, number, unwritten = clean
    ours = inherited(intervals.in_both(unwritten, _forked(where, state.carried_memory)))
    return Proof(where[0], payload, number, intervals.joined(ours)) if ours else None


def _forked(where: Range, left_out: list[Range]) -> list[Range]:
    """The buffer, unless it lies where the kernel has memory that was not forked."""
    start, end = where[0], where[0] + where[1]
    if any(address < end and start < address + length for address, length in left_out):
        return []
    return [(start, end)]


def _known(draft: units.Draft, unit: Unit, where: list[Range], partition: units.Partition) -> Known:
    assert draft.pickled is not None
    return Known(
        unit,
        draft.closed,
        {name: id(value) for name, value in draft.root.items()},
        {key: partition.identities[key] for key in draft.pickled.needs},
        tuple(where),
    )


def _unit_of(draft: units.Draft, digest: str, size: int, partition: units.Partition) -> Unit:
    assert draft.pickled is not None
    needed = {partition.definition_units[key] for key in draft.pickled.needs}
    names = sorted(name for name in draft.root if not name.startswith("#"))
    return Unit(
        id=draft.id,
        kind=draft.kind,
        names=tuple(names),
        codec=draft.pickled.codec,
        payload=digest,
        size_bytes=size,
        types={name: units.type_name(draft.root[name]) for name in names},
        hidden=tuple(sorted(name for name in draft.root if name.startswith("#"))),
        needs=tuple(sorted(needed - {draft.id})),
        reached_by_call=draft.reached_by_call,
    )
