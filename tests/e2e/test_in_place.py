"""Where no snapshot process can be had (other systems, CUDA), the same code runs in place."""

from __future__ import annotations

from harness.notebook import Notebook
from harness.records import flight, wait_for_checkpoint


def test_without_a_snapshot_process_the_state_is_saved_and_restored_all_the_same(
    notebook: Notebook,
) -> None:
    notebook.run(
        "from checkpoint_kernel import snapshot\nsnapshot.available = lambda: 'the test says so'"
    ).ok()
    result = notebook.run(
        "import threading\nlock = threading.Lock(); f = open('/dev/null')\n"
        "g = (i for i in [1]); i = next(g); x = [1]; y = [x, g]"
    ).ok()
    assert result.text == ""
    wait_for_checkpoint(notebook, result.execution_count)
    assert flight(notebook).snapshot_pid is None
    notebook.kill_kernel(flight(notebook).pid)
    first = notebook.run("print(x is y[0], lock.acquire(timeout=1), f.read())").ok()
    assert first.text.endswith("True True \n")
    assert "not back: g" in first.text
    assert "partly back: y" in first.text
