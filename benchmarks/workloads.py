"""What the benchmarks run: workloads, and the peers that are compared. Measuring is `bench`'s."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass


@dataclass(frozen=True)
class Workload:
    """Cells to run, and an expression whose value must be the same after a crash."""

    name: str
    title: str
    setup: tuple[str, ...]
    cells: tuple[str, ...]
    check: str


def workloads(scale: float) -> list[Workload]:
    """The workloads of peers.md; `scale` 1 is their full size."""
    floats = max(1, int(1_250_000 * scale))
    arrays = (
        "import numpy as np",
        "rng = np.random.default_rng(0); i = 0\n"
        f"for k in range(100): globals()[f'a{{k}}'] = rng.random({floats})",
    )
    all_arrays = "(i, [float(globals()[f'a{k}'].sum()) for k in range(100)])"
    side = max(10, int((125_000_000 * scale) ** 0.5))
    dicts = max(10, int(1_000_000 * scale))
    good = textwrap.dedent("""
        class Point:
            def __init__(self, x): self.x = x
        def square(x): return x * x
        for k in range(50):
            globals()[f'g{k}'] = [np.arange(k + 1.0), ['a', k], {'k': k}, f'text {k}', (1, k),
                pd.DataFrame({'c': np.arange(3) + k}), Point(k), square, 3.5 * k, {1, 2, k}][k % 10]
        i = 0""")
    cannot = textwrap.dedent("""
        import threading, socket, sqlite3
        generator = (k for k in range(10)); next(generator)
        lock = threading.Lock(); listener = socket.socket()
        connection = sqlite3.connect(':memory:')
        """)
    return [
        Workload("W1", "100 arrays of 10 MB, `i += 1`", arrays, ("i += 1",) * 20, all_arrays),
        Workload(
            "W1b",
            "one element of one of the 100 arrays",
            arrays,
            tuple(f"a{k * 7}[{k}] = -1.0" for k in range(10)),
            all_arrays,
        ),
        Workload(
            "W2",
            "one row of a 1 GB array",
            ("import numpy as np", f"big = np.random.default_rng(0).random(({side}, {side}))"),
            tuple(f"big[{k}, :] = {k}.0" for k in range(10)),
            "float(big.sum())",
        ),
        Workload(
            "W4",
            "1 M small dicts, one appended",
            (f"rows = [{{'id': k, 'v': k * 0.5, 's': f'n{{k % 100}}'}} for k in range({dicts})]",),
            tuple(f"rows.append({{'id': -{k + 1}, 'v': 0.0, 's': 'new'}})" for k in range(10)),
            "(len(rows), rows[-1], rows[0])",
        ),
        Workload(
            "W6",
            "50 good variables and four that cannot be saved",
            ("import numpy as np, pandas as pd", good, cannot),
            ("i += 1", "g1.append('new'); i += 1", "g0[0] = 99.0; i += 1") * 4,
            "(i, g1, g0.tolist(), g6.x, square(3))",
        ),
        Workload(
            "W7",
            "a loop of 1 M iterations over globals",
            ("def f(x):\n    return x + K\nK = 1\ns = 0",),
            (f"s = 0\nfor q in range({max(1000, int(1_000_000 * scale))}):\n    s = f(s)",) * 20,
            "(s, K)",
        ),
    ]


# What each peer adds to a stock kernel: a cell that hooks it in, and one that loads the file
# again. A failed dump is ignored, as a hook of this kind does: the state is then stale.
HOOK_DILL = """
def _after(_result):
    import dill
    try:
        dill.dump_module(PATH)
    except Exception:
        pass
get_ipython().events.register('post_run_cell', _after)
"""
HOOK_CLOUDPICKLE = """
def _after(_result):
    import cloudpickle, types
    shell = get_ipython()
    hidden = {*shell.user_ns_hidden, 'In', 'Out', 'exit', 'quit', 'get_ipython'}
    chosen = {k: v for k, v in shell.user_ns.items() if k not in hidden
              and not k.startswith('_') and not isinstance(v, types.ModuleType)}
    try:
        with open(PATH + '.new', 'wb') as file:
            cloudpickle.dump(chosen, file, protocol=5)
        __import__('os').replace(PATH + '.new', PATH)
    except Exception:
        pass
get_ipython().events.register('post_run_cell', _after)
"""
HOOKS = {
    "dill": (HOOK_DILL, "import dill; dill.load_module(PATH)"),
    "cloudpickle": (
        HOOK_CLOUDPICKLE,
        "import pickle; globals().update(pickle.load(open(PATH, 'rb')))",
    ),
}
OURS = "checkpoint-kernel"
PEERS = (OURS, *HOOKS)
