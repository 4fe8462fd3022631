"""A real writer, killed by a real SIGKILL, again and again."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from store_cases import KEY, load
from writer_program import state_of

from checkpoint_kernel.check import check
from checkpoint_kernel.store import Store

SEED = 20261123
BUDGET_S = 10.0
FEWEST_KILLS = 10


def test_writer_killed_at_random_moments_never_loses_a_committed_checkpoint(
    tmp_path: Path,
) -> None:
    noise = random.Random(SEED)
    program = Path(__file__).with_name("writer_program.py")
    began = time.monotonic()
    committed = kills = in_the_middle = 0
    while time.monotonic() - began < BUDGET_S or kills < FEWEST_KILLS:
        arguments = [sys.executable, str(program), str(tmp_path), str(noise.random())[2:9]]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            first = writer.stdout.readline()  # it has begun
            time.sleep(noise.uniform(0, 0.08))
            writer.send_signal(signal.SIGKILL)
            said = [int(line) for line in [first, *writer.stdout] if line.endswith("\n")]
        kills += 1
        committed = max([committed, *said])
        store = Store.open(tmp_path, KEY)
        in_the_middle += any(tmp_path.rglob(".tmp-*"))
        newest = store.manifests()[-1]
        # The writer may die between the commit and the line that tells of it.
        assert newest.seq in (committed, committed + 1)
        for manifest in store.manifests():
            assert load(store, manifest) == state_of(manifest.seq)
        assert {f.kind for f in check(store)} <= {"leftover-temporary"}
        committed = newest.seq
    assert in_the_middle > 0, f"none of {kills} kills hit a writer in the middle of a file"
