"""A victim: saves checkpoint after checkpoint, prunes now and then, until it is killed.

    python writer_program.py STORE SEED

Prints the sequence number of each checkpoint whose commit has returned.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from store_cases import KEY, save

from checkpoint_kernel.prune import choose, prune
from checkpoint_kernel.store import Store


def state_of(seq: int) -> dict[str, bytes]:
    """What checkpoint `seq` holds, known to the test as well. Parts stay as they were."""
    return {
        "counter": b"%d" % seq,
        "slow": random.Random(seq // 5).randbytes(400_000),
        "fast": random.Random(-seq).randbytes(600_000),
    }


def main(directory: Path, seed: int) -> None:
    noise = random.Random(seed)
    store = Store.open(directory, KEY)
    seq = max((m.seq for m in store.manifests()), default=0)
    while True:
        seq += 1
        save(store, seq, state_of(seq))
        print(seq, flush=True)
        if noise.random() < 0.3:
            _keep, drop = choose(store.manifests(), 3, "line-a", now=0.0)
            prune(store, drop)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
