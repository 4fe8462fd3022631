"""Cells that outgrow a memory limit of 500 MB: the rows of the survival matrix."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass


@dataclass(frozen=True)
class Workload:
    """`line` is where the cell stands when its memory is nearly used up."""

    name: str
    code: str
    lines: tuple[int, ...]
    frees: str  # what a user would do then
    needs: str | None = None  # a library
    survives: bool = True  # with the guard


WORKLOADS = (
    Workload("1 GB in one call", "import numpy as np\nbig = np.ones(1 << 27)", (2,), "big = None"),
    Workload(
        "growing by 20 MB",
        "import numpy as np\nhoard = []\nwhile True:\n    hoard.append(np.ones(2_500_000))",
        (4,),
        "del hoard",
    ),
    Workload(
        "pandas concat",
        "import numpy as np, pandas as pd\n"
        "df = pd.DataFrame(np.ones((1_000_000, 5)))\n"
        "while True:\n"
        "    df = pd.concat([df, df], ignore_index=True)",
        (4,),
        "del df",
        "pandas",
    ),
    Workload("torch.ones", "import torch\nbig = torch.ones(1 << 28)", (2,), "big = None", "torch"),
    Workload(
        "millions of small objects",
        "rows = []\nfor i in range(100_000_000):\n    rows.append({'a': i, 'b': str(i)})",
        (3,),
        "del rows",
    ),
    Workload(
        "a dict of strings",
        "d = {}\ni = 0\nwhile True:\n    d[str(i) * 3] = str(i) * 5\n    i += 1",
        (3, 4, 5),
        "del d",
    ),
    Workload(
        "in a function",
        "def load():\n"
        "    hoard = []\n"
        "    while True:\n"
        "        hoard.append(b'x' * 5_000_000)\n"
        "load()",
        (5,),
        "",  # the locals of the function are gone with it
    ),
    Workload(
        "workers that eat the memory",
        "import multiprocessing, time\n"
        "def eat(_):\n"
        "    hoard = []\n"
        "    while True:\n"
        "        hoard.append(b'x' * 5_000_000); time.sleep(0.01)\n"
        "with multiprocessing.get_context('fork').Pool(2) as pool:\n"
        "    pool.map(eat, range(2))",
        (7,),
        "",
    ),
    Workload(
        "joblib workers",
        "import time\n"
        "from joblib import Parallel, delayed\n"
        "def eat(_):\n"
        "    hoard = []\n"
        "    while True:\n"
        "        hoard.append(b'x' * 5_000_000); time.sleep(0.01)\n"
        "Parallel(n_jobs=2)(delayed(eat)(i) for i in range(2))",
        (7,),
        "",
        "joblib",
    ),
    Workload(
        "a subprocess",
        "import subprocess, sys\n"
        "code = 'import time; hoard = []\\nwhile True:'\n"
        "code += ' hoard.append(\"x\" * 5_000_000); time.sleep(0.01)'\n"
        "subprocess.run([sys.executable, '-c', code])",
        (4,),
        "",
    ),
    Workload(
        "/dev/shm",
        "import os, tempfile\n"
        "file = tempfile.TemporaryFile(dir='/dev/shm')\n"
        "while True:\n"
        "    file.write(b'x' * (1 << 20))",
        (4,),
        "file.close()",
    ),
    Workload(
        "shared mmap, from Python",
        "import mmap\n"
        "m = mmap.mmap(-1, 2_000_000_000)\n"
        "for i in range(0, 2_000_000_000, 1 << 20):\n"
        "    m[i:i + (1 << 20)] = b'x' * (1 << 20)",
        (3, 4),
        "m.close()",
    ),
    Workload(
        "shared mmap, filled by one C call",
        "import ctypes, mmap\n"
        "m = mmap.mmap(-1, 2_000_000_000)\n"
        "start = ctypes.addressof(ctypes.c_char.from_buffer(m))\n"
        "ctypes.memset(start, 1, 2_000_000_000)",
        (4,),
        "",
        survives=False,
    ),
)


def missing(workload: Workload) -> str | None:
    """Why it cannot be run here."""
    if workload.needs and importlib.util.find_spec(workload.needs) is None:
        return f"{workload.needs} is not installed"
    return None
