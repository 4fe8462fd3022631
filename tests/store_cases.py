"""Checkpoints of plain bytes, for the tests of the store: save them, load them back, compare."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from checkpoint_kernel.manifest import Manifest, Unit
from checkpoint_kernel.store import BufferRef, Store

KEY = bytes(range(32))
DAY_S = 24 * 3600.0

State = Mapping[str, bytes]


def make_manifest(
    seq: int,
    units: tuple[Unit, ...] = (),
    *,
    line: str = "line-a",
    time: float = 1_700_000_000.0,
    inside_cell: bool = False,
    inside_call: bool = False,
) -> Manifest:
    return Manifest(
        id=f"checkpoint-{seq:04d}",
        seq=seq,
        line=line,
        session=line,
        parent=None,
        time=time,
        reason="cell",
        execution_count=seq,
        inside_cell=inside_cell,
        inside_call=inside_call,
        cell_source=None,
        line_number=None,
        units=units,
        skipped=(),
    )


def save(store: Store, seq: int, state: State, *, line: str = "line-a") -> Manifest:
    """One checkpoint: each name a unit, whose stream is the name and whose storage the value."""
    with store.begin() as snapshot:
        units = []
        for name, value in state.items():
            whole = BufferRef(0, 0, len(value), readonly=False)
            written = snapshot.put(name.encode(), [memoryview(value)], [whole])
            units.append(
                Unit(
                    id=f"var:{name}",
                    kind="data",
                    names=(name,),
                    codec="pickle",
                    payload=written.digest,
                    size_bytes=written.size_bytes,
                )
            )
        manifest = make_manifest(seq, tuple(units), line=line)
        snapshot.commit(manifest)
    return manifest


def load(store: Store, manifest: Manifest) -> dict[str, bytes]:
    """The state of a checkpoint, every byte of it read and verified."""
    state = {}
    for unit in manifest.units:
        payload = store.read_payload(unit.payload)
        assert payload.stream.decode() == unit.names[0]
        state[unit.names[0]] = bytes(payload.buffers[0])
    return state


def newest(directory: Path) -> dict[str, bytes] | None:
    """What a new process finds: the state of the newest checkpoint, or None."""
    store = Store.open(directory, KEY)
    assert store.findings == []
    assert store.damaged == []
    manifests = store.manifests()
    return load(store, manifests[-1]) if manifests else None


def temporaries(directory: Path) -> list[Path]:
    return sorted(directory.rglob(".tmp-*"))


def segments(directory: Path) -> list[Path]:
    return sorted((directory / "segments").glob("*.seg"))
