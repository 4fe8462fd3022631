"""What did not change is neither looked at nor written; what did, is, whoever changed it."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness.notebook import Notebook
from harness.records import checkpoints, wait_for_checkpoint, wait_until

from checkpoint_kernel.manifest import Manifest, Unit

ARRAYS = (
    "import numpy as np\n"
    "for k in range(20): globals()[f'a{k}'] = np.full(300_000, float(k))\n"
    "rows = [{'k': k} for k in range(1000)]\n"
    "i = 0"
)


def saved_after(notebook: Notebook, cell: str) -> Manifest:
    result = notebook.run(cell).ok()
    return wait_for_checkpoint(notebook, result.execution_count)


def unit_of(saved: Manifest, name: str) -> Unit:
    return next(unit for unit in saved.units if name in unit.names)


def carried_over(notebook: Notebook) -> int:
    """How many units the newest checkpoint took over without looking at them."""
    return int(notebook.eval("get_ipython().kernel.checkpointer.settled.carried_units"))


def test_a_cell_that_names_one_variable_has_only_that_one_looked_at(notebook: Notebook) -> None:
    saved_after(notebook, ARRAYS)
    before = saved_after(notebook, "i += 1")
    after = saved_after(notebook, "i += 1")
    assert carried_over(notebook) >= 21
    assert unit_of(after, "a3") == unit_of(before, "a3")
    assert unit_of(after, "rows") == unit_of(before, "rows")
    assert unit_of(after, "i").payload != unit_of(before, "i").payload
    notebook.kill_kernel()
    assert notebook.run("i, float(a3[0]), rows[7]").ok().value == "(2, 3.0, {'k': 7})"


def test_what_was_carried_over_ten_times_is_back(notebook: Notebook) -> None:
    saved_after(notebook, ARRAYS)
    for _ in range(10):
        saved_after(notebook, "i += 1")
    notebook.kill_kernel()
    total = "i, sum(float(globals()[f'a{k}'].sum()) for k in range(20)), len(rows)"
    assert notebook.run(total).ok().value == "(10, 57000000.0, 1000)"


CHANGES = {
    "a function that stores a global": (
        "def bump():\n    global i\n    i += 1",
        "bump()",
        "i",
        "1",
    ),
    "a method that changes what it was given": (
        "class Keeper:\n    def __init__(self, held): self.held = held\n"
        "    def add(self): self.held.append('new')\nkeeper = Keeper(rows)",
        "keeper.add()",
        "rows[-1]",
        "'new'",
    ),
    "a thread that fills a list": (
        "import queue, threading\ntodo, done = queue.Queue(), queue.Queue()\n"
        "def work():\n    while True:\n        rows.append(todo.get()); done.put(1)\n"
        "threading.Thread(target=work, daemon=True).start()",
        "todo.put('new'); done.get()",
        "rows[-1]",
        "'new'",
    ),
    "a bound method that a library keeps": (
        "import logging\nclass Handler(logging.Handler):\n"
        "    def __init__(self, into): super().__init__(); self.into = into\n"
        "    def emit(self, record): self.into.append(record.getMessage())\n"
        "logging.getLogger('x').addHandler(Handler(rows))",
        "logging.getLogger('x').error('new')",
        "rows[-1]",
        "'new'",
    ),
    "a closure": (
        "def maker(held):\n    return lambda: held.append('new')\nadd = maker(rows)",
        "add()",
        "rows[-1]",
        "'new'",
    ),
    "a view": ("view = a3[5:]", "view[0] = -1", "float(a3[5])", "-1.0"),
    "text that is run": ("part = 'ro'", "exec(part + 'ws.append(\"new\")')", "rows[-1]", "'new'"),
    "the namespace itself": ("pass", "globals()['ro' + 'ws'].append('new')", "rows[-1]", "'new'"),
    "a generator": (
        "def stream():\n    while True: yield rows.append('new')\n"
        "it = stream(); next(it); rows.pop()",
        "next(it)",
        "rows[-1]",
        "'new'",
    ),
    "a callback of the event loop": (
        "import asyncio\nclass Later:\n    def __init__(self, held): self.held = held\n"
        "    def __call__(self): self.held.append('new')\n"
        "asyncio.get_event_loop().call_later(1.5, Later(rows));",
        "await asyncio.sleep(2)",
        "rows[-1]",
        "'new'",
    ),
}


@pytest.mark.parametrize("how", CHANGES)
def test_a_change_that_the_cell_does_not_show_is_saved(notebook: Notebook, how: str) -> None:
    setup, change, look, expected = CHANGES[how]
    saved_after(notebook, ARRAYS)
    saved_after(notebook, setup)
    saved_after(notebook, "pass")
    saved_after(notebook, change)
    notebook.kill_kernel()
    assert notebook.run(look).ok().value == expected


def test_what_an_expression_beside_a_cell_changed_is_saved(notebook: Notebook) -> None:
    saved_after(notebook, ARRAYS)
    saved_after(notebook, "pass")
    notebook.eval("rows.append('new')")
    saved_after(notebook, "pass")
    notebook.kill_kernel()
    assert notebook.run("rows[-1]").ok().value == "'new'"


def test_memory_that_a_snapshot_left_out_is_there_for_the_users_own_forks(
    notebook: Notebook,
) -> None:
    saved_after(notebook, ARRAYS)
    for _ in range(3):
        saved_after(notebook, "i += 1")
    assert carried_over(notebook) >= 20
    code = (
        "import multiprocessing\n"
        "def total(k): return float(globals()[f'a{k}'].sum())\n"
        "with multiprocessing.get_context('fork').Pool(2) as pool:\n"
        "    sums = pool.map(total, range(20))\n"
        "sum(sums)"
    )
    assert notebook.run(code).ok().value == "57000000.0"


def test_a_changed_class_is_back_with_instances_that_were_carried_over(notebook: Notebook) -> None:
    saved_after(notebook, "class P:\n    rate = 1\n    def __init__(self): self.x = [1]\np = P()")
    saved_after(notebook, "pass")
    saved_after(notebook, "type(p).rate = 2")
    notebook.kill_kernel()
    assert notebook.run("isinstance(p, P), p.rate, P.rate, p.x").ok().value == "(True, 2, 2, [1])"


def test_instances_of_a_class_that_was_defined_anew_keep_the_old_one(notebook: Notebook) -> None:
    saved_after(notebook, "class P:\n    def who(self): return 'old'\np = P()")
    saved_after(notebook, "pass")
    saved_after(notebook, "class P:\n    def who(self): return 'new'")
    notebook.kill_kernel()
    assert (
        notebook.run("p.who(), P().who(), isinstance(p, P)").ok().value == "('old', 'new', False)"
    )


def test_many_cells_at_once_leave_the_last_state_saved(notebook: Notebook) -> None:
    notebook.run(ARRAYS).ok()
    last = [notebook.run("i += 1").ok() for _ in range(40)][-1]
    wait_for_checkpoint(notebook, last.execution_count)
    # At most one snapshot process at a time, and the budget of the main thread: not one each.
    assert len(checkpoints(notebook)) < 40
    notebook.kill_kernel()
    assert notebook.run("i").ok().value == "40"


@pytest.mark.parametrize("followed", [True, False], ids=["dirty pages", "digests"])
def test_a_row_of_a_large_array_costs_a_chunk_or_two(
    notebook: Notebook, followed: bool, tmp_path: Path
) -> None:
    if not followed:
        notebook.run("get_ipython().kernel.checkpointer.carry_over._pages = None").ok()
    saved_after(notebook, "import numpy as np\nbig = np.ones((5000, 1000))")
    for k in range(4):
        saved_after(notebook, f"big[{k}, :] = {k}")
    new_bytes = notebook.eval("get_ipython().kernel.checkpointer.settled.new_bytes")
    assert new_bytes < 3 << 20
    notebook.kill_kernel()
    assert notebook.run("float(big.sum())").ok().value == str(5_000_000.0 - 1000 + 1000 + 2000)


def test_what_a_widgets_callback_changed_is_saved_without_a_cell(notebook: Notebook) -> None:
    saved = saved_after(
        notebook,
        "from ipykernel.comm import Comm\nrows = []\ncomm = Comm(target_name='x')\n"
        "comm.on_msg(lambda message: rows.append(message['content']['data']))",
    )
    notebook.send_comm(notebook.eval("comm.comm_id"), {"n": 1})
    wait_until(lambda: checkpoints(notebook)[-1].seq > saved.seq, "a checkpoint")
    notebook.kill_kernel()
    assert notebook.run("rows").ok().value == "[{'n': 1}]"


def test_after_a_restore_only_what_was_written_to_is_read_again(notebook: Notebook) -> None:
    saved_after(notebook, "import numpy as np\nbig = np.ones((9000, 1000))")
    notebook.kill_kernel()
    facts = "get_ipython().kernel.checkpointer._facts"
    saved_after(notebook, "big[3, 3] = 5")
    clean = notebook.eval(f"[sum(b - a for a, b in c[2]) for c in {facts}.proved.clean.values()]")
    if notebook.eval("__import__('checkpoint_kernel').dirty_pages.available()") is not None:
        pytest.skip("this kernel cannot tell dirty pages")
    assert clean
    assert 70_000_000 < clean[0] < 72_000_000
    notebook.kill_kernel()
    assert notebook.run("float(big.sum()), float(big[3, 3])").ok().value == "(9000004.0, 5.0)"


@pytest.mark.parametrize("line", ["%checkpoint save", "%checkpoint"])
def test_what_a_cell_does_after_it_has_asked_for_a_checkpoint_is_saved(
    notebook: Notebook, line: str
) -> None:
    notebook.run("x = 0").ok()
    notebook.run(f"{line}\nx = 1").ok()
    wait_until(lambda: not is_stale(notebook), "a checkpoint")
    notebook.kill_kernel()
    assert notebook.run("x").ok().value == "1"


def is_stale(notebook: Notebook) -> bool:
    kernel = "get_ipython().kernel.checkpointer"
    return bool(notebook.eval(f"{kernel}.stale_since is not None or {kernel}.running"))


def test_threads_that_fork_see_memory_that_snapshots_leave_out(notebook: Notebook) -> None:
    make = "import numpy as np\nfor k in range(20): globals()[f'a{k}'] = np.ones(90_000)"
    saved_after(notebook, make)
    saved_after(notebook, "i = 0")
    code = (
        "import os, threading\nbad = []\n"
        "def forks():\n"
        "    for _ in range(150):\n"
        "        pid = os.fork()\n"
        "        if pid == 0: os._exit(int(float(a7.sum()) != 90_000.0))\n"
        "        if os.waitpid(pid, 0)[1]: bad.append(pid)\n"
        "thread = threading.Thread(target=forks); thread.start()"
    )
    notebook.run(code).ok()
    for _ in range(8):
        saved_after(notebook, "i += 1")
    assert notebook.run("thread.join(); bad").ok().value == "[]"


def test_once_a_debugger_was_used_everything_is_looked_at(notebook: Notebook) -> None:
    def carried() -> int:
        for _ in range(2):  # the question itself is a text that may touch anything
            saved_after(notebook, "pass")
        return carried_over(notebook)

    saved_after(notebook, ARRAYS)
    assert carried() > 0
    assert carried() > 0
    request = {"type": "request", "seq": 1, "command": "evaluate", "arguments": {}}
    notebook._send("debug_request", request, channel="control")
    wait_until(lambda: carried() == 0, "the request's arrival")
    assert carried() == 0
