"""Makes a store by this Python, for others to read: functions of all kinds, and what holds them.

    python3.12 tests/golden/make_other_python.py DIRECTORY

Committed for two versions; a test loads both under its own. Needs an IPython beside the
dependencies.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import interactive  # noqa: E402 (its directory has to be known first)

CELLS = (
    "from __future__ import annotations\nimport functools\nrate = 2",
    "def plain(x, *more, scale=3, **named):\n    return x * scale * rate + len(more)\n\n"
    "square, cube = (lambda x: x ** 2), \\\n    (lambda x: x ** 3)",
    "def outer(n):\n    def inner(x: int) -> int:\n        return [n + i for i in range(x)]\n"
    "    return inner\ninner = outer(10)",
    "def counted(f):\n    @functools.wraps(f)\n    def again(*a):\n        again.calls += 1\n"
    "        return f(*a)\n    again.calls = 0\n    return again\n"
    "@counted\ndef decorated(x):\n    return {k: v for k, v in [(x, x)]}",
    "def numbers(n):\n    for i in range(n):\n        try:\n            yield i\n"
    "        finally:\n            pass\nasync def waits():\n    return 5",
    "class Base:\n    def __init__(self, x): self.x = x\n    def double(self): return 2 * self.x\n"
    "class Child(Base):\n    def double(self):\n        return super().double() + 1\n"
    "    @property\n    def twice(self): return self.x * 2\n"
    "    @staticmethod\n    def one(): return 1\nchild = Child(4)",
    "twins = [lambda x: x + 1, lambda x: x + 2]",
    "exec('def sourceless(x): return x')",
    "data = {'a': [1, 2.5, 'text', (3, None)], 'b': {4}}\nholder = [plain, data]",
    "code = compile('1 + 1', 'nowhere', 'eval')",
)


def make(directory: Path) -> None:
    """A store with one checkpoint."""
    with tempfile.TemporaryDirectory() as scratch:
        store = interactive.new_store(Path(scratch))
        shell = interactive.new_shell()
        interactive.run(shell, *CELLS)
        interactive.save(shell, store)
        for name in ("manifests", "segments"):
            shutil.copytree(store.directory / name, directory / name)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
