"""A disk that lost a bit: a mapped array is back at once, and named when the bit is found."""

from __future__ import annotations

import os
import time

import pytest
from harness.notebook import Notebook
from harness.records import wait_for_checkpoint

from checkpoint_kernel import mapped_memory


@pytest.fixture
def on_this_machine(notebook: Notebook) -> None:
    fd = os.open(notebook.server.environment.root, os.O_RDONLY | os.O_DIRECTORY)
    local = mapped_memory.is_local(fd)
    os.close(fd)
    if not local or mapped_memory.room_for_maps() == 0:
        pytest.skip("the store's filesystem is not mapped")


def flip_a_bit(notebook: Notebook, content: bytes) -> None:
    for path in notebook.server.environment.store.glob("*/segments/*.seg"):
        whole = path.read_bytes()
        if content in whole:
            path.chmod(0o600)
            with path.open("r+b") as file:
                file.seek(whole.index(content))
                file.write(bytes([content[0] ^ 1]))


@pytest.mark.usefixtures("on_this_machine")
def test_damage_that_is_found_after_the_restore_is_named_before_a_cell_with_the_way_back(
    notebook: Notebook,
) -> None:
    notebook.run("import numpy as np; big = np.random.default_rng(0).random(10_000_000)").ok()
    first = notebook.run("small = 1").ok()
    wait_for_checkpoint(notebook, first.execution_count)
    second = notebook.run("big[5_000_000:5_000_100] = 2.5").ok()
    wait_for_checkpoint(notebook, second.execution_count)
    flip_a_bit(notebook, bytes.fromhex(notebook.eval("big[5_000_000:5_000_100].tobytes().hex()")))
    notebook.kill_kernel()
    back = notebook.run("print(small, big[0] < 1, (big[5_000_000:5_000_100] == 2.5).sum())").ok()
    assert "1 True 99" in back.text
    said, deadline = back.prose, time.monotonic() + 30
    while "damaged" not in said and time.monotonic() < deadline:
        time.sleep(0.1)
        said = notebook.run("pass").prose
    assert "big: 1.0 MB of what was restored is damaged in the store" in said
    way_back = said[said.index("Bring it back as of") :]
    command = way_back[way_back.index("%checkpoint restore") :].split(" big")[0]
    notebook.run(f"{command} big").ok()
    assert notebook.eval("bool(0 < big[5_000_000:5_000_100].min() < 1)")
