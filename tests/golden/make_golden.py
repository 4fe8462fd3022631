"""Makes the golden store of the current format: what old versions wrote and we must read.

    python tests/golden/make_golden.py DIRECTORY

Run once per format version, by the version that introduces it, and commit the result; a
golden store is never made again. Boot id and clock are fixed, so its segments are the
same bytes wherever they are made.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1]))

from store_cases import KEY, make_manifest

from checkpoint_kernel.manifest import Unit
from checkpoint_kernel.store import BufferRef, Store

BOOT_ID = b"golden boot id.."
# Over 64 KiB, so that it lies on a page of its own; compresses well in git.
BIG = b"".join(b"%07d\n" % n for n in range(12_000))


def checkpoints() -> list[dict[str, tuple[bytes, list[bytes], list[BufferRef]]]]:
    """Two checkpoints of three variables; the big one is shared, views of it overlap."""
    views = [
        BufferRef(0, 0, len(BIG), readonly=False),
        BufferRef(0, 800, 1600, readonly=False),
        BufferRef(1, 0, 5, readonly=True),
    ]
    return [
        {"big": (b"stream of big", [BIG, b"small"], views), "n": (b"one", [], [])},
        {"big": (b"stream of big", [BIG, b"small"], views), "n": (b"two", [b""], [])},
    ]


def make(directory: Path) -> None:
    store = Store.open(directory, KEY)
    store.boot_id = BOOT_ID
    for seq, variables in enumerate(checkpoints(), start=1):
        with store.begin() as snapshot, mock.patch.object(time, "time_ns", lambda seq=seq: seq):
            units = []
            for name, (stream, storages, buffers) in variables.items():
                views = [memoryview(storage) for storage in storages]
                written = snapshot.put(stream, views, buffers)
                units.append(
                    Unit(
                        id=f"var:{name}",
                        kind="data",
                        names=(name,),
                        codec="pickle",
                        payload=written.digest,
                        size_bytes=written.size_bytes,
                        types={name: "bytes"},
                    )
                )
            snapshot.commit(make_manifest(seq, tuple(units)))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
