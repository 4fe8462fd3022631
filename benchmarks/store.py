"""What the store costs against the bare disk and the bare hash: the figures of ADR 0001.

python benchmarks/store.py [DIRECTORY]      needs 3 GB of disk and of memory for a minute
"""

from __future__ import annotations

import mmap
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from blake3 import blake3

from checkpoint_kernel import manifest, prune
from checkpoint_kernel.manifest import Manifest, Unit
from checkpoint_kernel.store import BufferRef, Snapshot, Store, Written

GB = 1 << 30
MIB = 1 << 20
KEY = bytes(32)
T = TypeVar("T")


def timed(label: str, work: Callable[[], T]) -> T:
    began = time.perf_counter()
    result = work()
    print(f"{label:48s} {1e3 * (time.perf_counter() - began):9.1f} ms", flush=True)
    return result


def noise() -> mmap.mmap:
    """1 GiB that no hash has seen, in memory that has been touched before it is timed."""
    memory = mmap.mmap(-1, GB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for start in range(0, GB, MIB):
        memory[start : start + MIB] = os.urandom(MIB)
    return memory


def commit(snapshot: Snapshot, seq: int, written: list[Written]) -> None:
    units = tuple(
        Unit(f"var:x{n}", "data", (f"x{n}",), "pickle", each.digest, each.size_bytes)
        for n, each in enumerate(written)
    )
    snapshot.commit(
        Manifest(
            id=manifest.new_id(),
            seq=seq,
            line="bench",
            session="bench",
            parent=None,
            time=time.time(),
            reason="save",
            execution_count=None,
            inside_cell=False,
            inside_call=False,
            cell_source=None,
            line_number=None,
            units=units,
            skipped=(),
        )
    )


def bare(path: Path, data: memoryview) -> None:
    with path.open("wb", buffering=0) as file:
        for start in range(0, GB, MIB):
            file.write(data[start : start + MIB])
        os.fsync(file.fileno())
    path.unlink()


def large(directory: Path) -> None:
    data = memoryview(noise())
    whole = [BufferRef(0, 0, GB, readonly=False)]
    slices = range(0, GB, MIB)
    timed("1 GiB: blake3 alone", lambda: [blake3(data[s : s + MIB]).digest() for s in slices])
    bare(directory / "bare", data)  # a virtual machine's memory is slow when first touched
    timed("1 GiB: write + fsync alone", lambda: bare(directory / "bare", data))
    for near_cap in (False, True):
        place = directory / f"near-cap-{near_cap}"
        store = Store.open(place, KEY)

        def save(store: Store = store, near_cap: bool = near_cap) -> Written:
            with store.begin(near_cap=near_cap) as snapshot:
                written = snapshot.put(b"", [data], whole)
                commit(snapshot, 1, [written])
            return written

        written = timed(f"1 GiB: put and commit, new, near_cap={near_cap}", save)
        with store.begin() as again:
            timed("1 GiB: put, unchanged", lambda s=again: s.put(b"", [data], whole))
        store.read_payload(written.digest)
        timed("1 GiB: read_payload", lambda s=store, w=written: s.read_payload(w.digest))
        shutil.rmtree(place)


def small(directory: Path) -> None:
    store = Store.open(directory / "small", KEY)
    values = [os.urandom(300) for _ in range(200)]
    spent = []
    for seq in range(500):
        values[seq % 200] = os.urandom(300)
        began = time.perf_counter()
        with store.begin() as snapshot:
            commit(snapshot, seq, [snapshot.put(value, [], []) for value in values])
        spent.append(time.perf_counter() - began)
    print(f"{'checkpoint of 200 units, one new: median':48s} {1e3 * sorted(spent)[250]:9.1f} ms")
    reopened = timed(
        "open, 500 segments and 500 manifests", lambda: Store.open(store.directory, KEY)
    )
    _keep, drop = prune.choose(reopened.manifests(), 20, "bench", time.time())
    timed("prune 480 of 500", lambda: prune.prune(reopened, drop))
    timed("open, 20 manifests", lambda: Store.open(store.directory, KEY))


def main(parent: Path | None) -> None:
    directory = Path(tempfile.mkdtemp(dir=parent))
    try:
        large(directory)
        small(directory)
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
