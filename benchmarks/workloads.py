"""The workloads of the table of targets: cells, and what must be the same after a crash.

How they are run is `cells`', `long_cell`'s and `worst`'s.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Workload:
    """One namespace, and the cells that change a little of it.

    `cell(n)` is the n-th small cell. `names` and `expressions` are compared before and after
    a crash. `others` cannot be saved or loaded: the user must be told of each by name.
    `touch` needs the restored variables, and next to no time. `yardstick` gives a number of
    bytes that the targets compare with.
    """

    name: str
    title: str
    imports: str
    setup: tuple[str, ...]
    cell: Callable[[int], str]
    names: tuple[str, ...]
    touch: str
    expressions: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    yardstick: str = "0"
    dense: str = ""  # rewrites everything
    fixed: int | None = None  # so many cells, once; None: as many as wanted
    log: Path | None = None  # where setup cells say that they run


def arrays(name: str, title: str, scale: float, cell: Callable[[int], str]) -> Workload:
    """100 arrays of 10 MB at scale 1, and an integer."""
    floats = max(1, int(1_250_000 * scale))
    fill = (
        "rng = np.random.default_rng(0); i = 0\n"
        f"for k in range(100): globals()[f'a{{k}}'] = rng.random({floats})"
    )
    return Workload(
        name,
        title,
        "import numpy as np",
        (fill,),
        cell,
        names=("i", *(f"a{k}" for k in range(100))),
        touch="a0[0], a99[-1]",
        yardstick="a0.nbytes",
        dense="for k in range(100): globals()[f'a{k}'] *= 1.0000001",
    )


def add_one(n: int) -> str:
    """W1's cell."""
    return "i += 1"


def one_of_100(n: int) -> str:
    """W1b's cell."""
    return f"a{n * 7 % 100}[{n}] = -{n + 1}.0"


def one_array(scale: float) -> Workload:
    """One array of 1 GB at scale 1; a cell writes one row of it."""
    side = max(10, int((125_000_000 * scale) ** 0.5))
    return Workload(
        "W2",
        "one row of a 1 GB array",
        "import numpy as np",
        (f"big = np.random.default_rng(0).random(({side}, {side}))",),
        lambda n: f"big[{n * 3 % side}, :] = {n}.5",
        names=("big",),
        touch="big[0, 0], big[-1, -1]",
        dense="big *= 1.0000001",
    )


def frame(scale: float) -> Workload:
    """A DataFrame with strings, and what was derived from it; a cell adds a column."""
    rows = max(100, int(2_000_000 * scale))
    make = textwrap.dedent(f"""
        rng = np.random.default_rng(0)
        words = np.array([f'w{{k:04d}}' for k in range(1000)], dtype=object)
        df = pd.DataFrame({{f'f{{k}}': rng.random({rows}) for k in range(6)}})
        df['i0'] = np.arange({rows}); df['i1'] = rng.integers(0, 9, {rows})
        df['word'] = words[rng.integers(0, 1000, {rows})]
        df['user'] = [f'user_{{k}}' for k in range({rows})]""")
    derive = "alias = df; top = df.head(1000); some = df[df['f0'] > 0.9]; both = [df, some]"
    return Workload(
        "W3",
        "DataFrame 2 M x 10 with strings and derived frames, a column added",
        "import numpy as np, pandas as pd",
        (make, derive),
        lambda n: f"df['n{n}'] = df['f0'] * {n}",
        names=("df", "alias", "top", "some"),
        touch="df['f0'].iloc[0], df['user'].iloc[-1]",
        expressions=("alias is df and both[0] is df and both[1] is some",),
        yardstick="df['f0'].nbytes",
    )


def dicts(scale: float) -> Workload:
    """A list of small dicts; a cell appends one."""
    count = max(10, int(1_000_000 * scale))
    make = f"rows = [{{'id': k, 'v': k * 0.5, 's': f'n{{k % 100}}'}} for k in range({count})]"
    return Workload(
        "W4",
        "1 M small dicts, one appended",
        "import pickle",
        (make,),
        lambda n: f"rows.append({{'id': -{n + 1}, 'v': 0.0, 's': 'new'}})",
        names=("rows",),
        touch="rows[0]['id'], rows[-1]['id']",
        yardstick="len(__import__('pickle').dumps(rows, 5))",
    )


_GOOD = textwrap.dedent("""
    class Point:
        def __init__(self, x): self.x = x
    def square(x): return x * x
    for k in range(50):
        globals()[f'g{k}'] = [np.arange(k + 1.0), ['a', k], {'k': k}, f'text {k}', (1, k),
            pd.DataFrame({'c': np.arange(3) + k}), Point(k), square, 3.5 * k, {1, 2, k}][k % 10]
    i = 0""")
_BAD = {
    "W6": (
        "and a generator, a lock, a socket, a connection",
        "import threading, socket, sqlite3\n"
        "generator = (k for k in range(10)); next(generator)\n"
        "lock = threading.Lock(); listener = socket.socket()\n"
        "connection = sqlite3.connect(':memory:')",
        ("generator", "lock", "listener", "connection"),
    ),
    "W6a": (
        "and a dict with a lock in it",
        "import threading\n"
        "held = {'lock': threading.Lock(), 'rate': 0.1, 'data': list(range(1000))}",
        ("held",),
    ),
    "W6b": (
        "and an object that cannot be loaded",
        "import bench_library; stubborn = bench_library.CannotBeLoaded()",
        ("stubborn",),
    ),
    "W6c": (
        "and an object that cannot be saved",
        "import bench_library; stubborn = bench_library.CannotBeSaved()",
        ("stubborn",),
    ),
}


def mixed(name: str, log: Path) -> Workload:
    """50 good variables and ones that are not; every setup cell says in `log` that it runs."""
    title, bad, others = _BAD[name]
    # One expression: a variable that holds a closed file would be one more that is not good.
    note = f"__import__('pathlib').Path({str(log)!r}).open('a').write('ran\\n')\n"
    return Workload(
        name,
        f"50 good variables {title}",
        "import numpy as np, pandas as pd",
        (note + _GOOD, note + bad),
        lambda n: ("i += 1", "g1.append('new'); i += 1", "g0[0] += 1; i += 1")[n % 3],
        names=("i", *(f"g{k}" for k in range(50))),
        touch="i, g0[0], g1[0], g6.x",
        expressions=("isinstance(g6, Point) and square(3) == 9",),
        others=others,
        log=log,
    )


def hidden_changes(scale: float) -> Workload:
    """Changes that no cell's text shows."""
    floats = max(1000, int(4_000_000 * scale))
    make = textwrap.dedent(f"""
        x, y, z, results, box = 1, 1, 1, [], [0]
        grid = np.zeros({floats})
        def set_x():
            global x
            x = 99
        def worker():
            for k in range(50):
                results.append(k); time.sleep(0.02)
        def poker():
            view = grid[100:200]
            def poke(): view[:] = 7
            return poke
        poke = poker()
        class Counter:
            def __init__(self): self.count = 0
            def bump(self): self.count += 1
        counter = Counter(); bump = counter.bump
        def fill(into=box): into[0] += 1""")
    cells = (
        "set_x()",
        "threading.Thread(target=worker, daemon=True).start()",
        "poke()",
        "bump()",
        "fill()",
        "exec('y ' + '= 5')",
        "globals()['z'] = 5",
        "time.sleep(1.5)",
        "i = 1",
    )
    return Workload(
        "W8",
        "changes that no cell's text shows: function, thread, view, method, default, exec, globals",
        "import numpy as np, threading, time",
        (make,),
        lambda n: cells[n],
        names=("x", "results", "grid", "counter", "box", "y", "z", "i"),
        touch="x, grid[0], results[:1]",
        fixed=len(cells),
    )


def workloads(scale: float, log: Path) -> list[Workload]:
    """Those that are cells with a pause between them; `scale` 1 is their full size."""
    return [
        arrays("W1", "100 arrays of 10 MB, `i += 1`", scale, add_one),
        arrays("W1b", "one element of one of 100 arrays of 10 MB", scale, one_of_100),
        one_array(scale),
        frame(scale),
        dicts(scale),
        *(mixed(name, log) for name in _BAD),
        hidden_changes(scale),
    ]
