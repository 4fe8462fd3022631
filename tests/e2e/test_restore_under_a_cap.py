"""More than the cap comes back under it: what is mapped needs no memory before it is written."""

from __future__ import annotations

import os

import pytest
from harness.records import sessions, wait_for_checkpoint
from harness.server import JupyterServer

from checkpoint_kernel import mapped_memory

MAKE = """\
import numpy as np
for k in range(6):
    globals()[f"a{k}"] = np.random.default_rng(k).random(12_500_000)
"""
SUMS = "[float(globals()[f'a{k}'].sum()) for k in range(6)]"


@pytest.mark.skipif(mapped_memory.room_for_maps() == 0, reason="nothing is mapped here")
def test_600_mb_come_back_under_a_cap_of_300_mb_and_can_be_read(
    server: JupyterServer, notebook_path: str
) -> None:
    root = os.open(server.environment.root, os.O_RDONLY | os.O_DIRECTORY)
    local = mapped_memory.is_local(root)
    os.close(root)
    if not local:
        pytest.skip("the store's filesystem is not mapped")
    roomy = server.open(notebook_path)
    wait_for_checkpoint(roomy, roomy.run(MAKE).ok().execution_count)
    expected = roomy.eval(SUMS)
    roomy.close()

    name = server.environment.kernelspec("resilient-300m", memory_limit="300M", soft_limit="100%")
    capped = server.open(notebook_path, name)
    try:
        _, newest = sessions(capped)[-1]
        assert newest.cap is not None
        if not newest.cap.enforced:
            pytest.skip(f"no memory cap can be enforced here: {newest.cap.detail}")
        before = capped.kernel_pid
        capped.run("%checkpoint restore").ok()
        assert capped.eval(SUMS) == expected
        capped.run("a0[:1000] = 1.0").ok()
        assert capped.kernel_pid == before
    finally:
        capped.close()
