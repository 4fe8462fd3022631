"""One namespace full of objects that do harm while they are saved: each costs itself."""

from __future__ import annotations

import os
import re
import subprocess
import textwrap
import time
from collections.abc import Set

from harness.notebook import Notebook
from harness.records import checkpoints, flight, wait_until

from checkpoint_kernel import trials
from checkpoint_kernel.manifest import Manifest

SLEEPS_S = 1_000_000 + os.getpid()  # nobody else's
IMPORTS = (
    "import copyreg, ctypes, gc, importlib, itertools, os, pickle, signal, subprocess, sys\n"
    "import threading, time\n"
    "import numpy as np\nimport pandas as pd"
)

# name -> (what `__reduce__` does, a part of the reason why it is not saved)
ENDS = {
    "raises_interrupt": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "raises_exit": ("sys.exit(3)", "SystemExit"),
    "raises_generator_exit": ("raise GeneratorExit", "GeneratorExit"),
    "raises_memory_error": ("raise MemoryError", "more memory than there is"),
    "recurses": ("return self.__reduce__()", "nested too deeply"),
    "recurses_in_c": ("return (Same, (Endless(),))", "nested too deeply"),
    "overflows": ("sys.setrecursionlimit(10**9); return Endless.deeper()", "."),
    "segfaults": ("ctypes.string_at(8)", "SIGSEGV"),
    "aborts": ("os.abort()", "SIGABRT"),
    "exits": ("os._exit(3)", "exit code 3"),
    "exits_well": ("os._exit(0)", "exit code 0"),
    "kills": ("os.kill(os.getpid(), signal.SIGKILL)", "was killed"),
    "terminates": ("os.kill(os.getpid(), signal.SIGTERM)", "SIGTERM"),
    "stops": ("os.kill(os.getpid(), signal.SIGSTOP)", "SIGSTOP"),
    "alarms": ("signal.alarm(1); time.sleep(60)", "SIGALRM"),
    "spins": ("signal.setitimer(signal.ITIMER_REAL, 0)\nwhile True: pass", "longer than"),
    "waits_for_a_lock": ("held.acquire()", "waits"),
    "waits_for_a_thread": ("threading.Event().wait()", "waits"),
    "waits_in_c": ("ctypes.CDLL(None).pause()", "waits"),
    "hoards": ("hoard = []\nwhile True: hoard.append('x' * (64 << 20))", "more memory"),
    "allocates_at_once": ("bytearray(1 << 46)", "more memory"),
    "closes_all": ("os.closerange(0, 1000)", "crash"),
    "returns_number": ("return 3", "__reduce__ must return a string or tuple"),
    "returns_long": ("return (list, (), None, None, None, None, None, None)", "tuple"),
    "returns_lambda_missing": ("return 'no_such_name'", "no_such_name"),
    "returns_not_callable": ("return (3, ())", "callable"),
    "never_ends": ("return (list, (), None, itertools.repeat(1 << 70))", "more memory|longer"),
    "overwrites": ("array[20:-20] = 0", "SIGSEGV"),
    "breaks_pickle": ("pickle.Pickler.dump = None", "."),
}  # fmt: skip

# These do harm on the way, and are saved.
PASSES = {
    "prints": "print('NOISE'); print('NOISE', file=sys.stderr); os.write(1, b'NOISE')",
    "deletes": "globals().pop('numbers', None); globals().pop('zoo', None)",
    "clears_all": "globals().clear()",
    "clears": "frame.drop(columns='a', inplace=True); nested['deep'].clear(); small[:] = 0",
    "moves": "os.chdir('/'); gc.enable(); sys.setrecursionlimit(60)",
    "forgets_modules": "[sys.modules.pop(n) for n in ('json', 'pickle', 'dill', 'numpy')]",
    "imports": "import colorsys, wave",
    "starts_thread": "threading.Thread(target=time.sleep, args=(99,)).start()",
    "starts_process": f"subprocess.Popen(['sleep', '{SLEEPS_S}'])",
    "differs": "return (dict, ([('at', time.time())],))",
    "handles": "signal.signal(signal.SIGALRM, lambda *_: None); signal.alarm(1)",
}

GOOD = textwrap.dedent("""
    number = 7; text = 'größe'; raw = b'raw'; numbers = [1, 2]; pair = (1, [2]); many = {1, 2}
    nested = {'deep': [1, {'er': 2}]}; twin = nested['deep']; nothing = None; big = 1 << 100
    array = np.arange(100_000); view = array[10:20]; small = np.ones(3)
    frame = pd.DataFrame({'a': range(1000), 'b': 'x'}); column = pd.Series([1.5, 2.5])
    def double(x): return 2 * x
    def counter():
        n = 0
        def up():
            nonlocal n
            n += 1
            return n
        return up
    count = counter(); count(); triple = lambda x: 3 * x
    class Point:
        def __init__(self, x): self.x = x
    class Kept:
        def __init__(self, x): self.x = x
        def __getstate__(self): return {'x': self.x}
    class Reduced:
        def __init__(self, x): self.x = x
        def __reduce__(self): return (Reduced, (self.x,))
    point = Point(1); points = [Point(2), Point(3)]; kept = Kept([4]); reduced = Reduced([5])
    reduceds = [Reduced(i) for i in range(5)]; method = point.__init__; zoo = {'a': Reduced(6)}
    path = __import__('pathlib').Path('/tmp'); when = __import__('datetime').date(2026, 1, 2)
    ratio = __import__('fractions').Fraction(1, 3); module = os; z = 'last'
""")
GOOD_NAMES = frozenset(
    {"number", "text", "raw", "numbers", "pair", "many", "nested", "twin", "nothing", "big",
     "array", "view", "small", "frame", "column", "double", "counter", "count", "triple",
     "Point", "Kept", "Reduced", "point", "points", "kept", "reduced", "reduceds", "method",
     "zoo", "path", "when", "ratio", "module", "z"}
)  # fmt: skip
CHECK = textwrap.dedent("""
    assert (number, text, raw, numbers) == (7, 'größe', b'raw', [1, 2])
    assert pair == (1, [2]) and many == {1, 2}
    assert nested == {'deep': [1, {'er': 2}]} and twin is nested['deep'] and nothing is None
    assert big == 1 << 100 and (array == np.arange(100_000)).all() and (view == array[10:20]).all()
    view[0] = -1; assert array[10] == -1 and small.sum() == 3
    assert frame.shape == (1000, 2) and column.sum() == 4.0
    assert double(2) == 4 and count() == 2 and triple(2) == 6
    assert point.x == 1 and [p.x for p in points] == [2, 3] and isinstance(points[0], Point)
    assert kept.x == [4] and reduced.x == [5] and type(reduced) is Reduced
    assert [r.x for r in reduceds] == [0, 1, 2, 3, 4] and zoo['a'].x == 6
    assert method.__self__ is point and str(path) == '/tmp' and when.year == 2026
    assert ratio.denominator == 3 and module is os and z == 'last'
    print('all right')
""")  # fmt: skip


def hostile(name: str, body: str) -> str:
    """A cell's text: a class whose `__reduce__` has that body, and one instance of it."""
    inner = textwrap.indent(body, "        ")
    default = "        return (list, ())"
    return (
        f"class {name.title()}:\n    def __reduce__(self):\n{inner}\n{default}\n"
        f"{name} = {name.title()}()"
    )


# Limits in seconds: of one that sleeps, and of one that works and has nothing to show for it.
IMPATIENT = textwrap.dedent("""
    from checkpoint_kernel import hung, trials
    hung.IDLE_LIMIT_S, trials.BUSY_LIMIT_S = 4, 6
    del hung, trials
""")
HELPERS = textwrap.dedent("""
    held = threading.Lock(); held.acquire()
    def Same(x): return x
    class Endless:
        def __reduce__(self): return (Same, (Endless(),))
        @staticmethod
        def deeper(): return Endless.deeper()
""")


def test_each_of_forty_hostile_objects_costs_itself_and_everything_else_comes_back(
    notebook: Notebook,
) -> None:
    pid = flight(notebook).pid
    notebook.run(IMPORTS).ok()
    notebook.run(f"{HELPERS}{IMPATIENT}").ok()
    everything = {name: body for name, (body, _) in ENDS.items()} | PASSES
    cells = [hostile(name, body) for name, body in everything.items()]
    made = notebook.run("\n".join([*cells, GOOD])).ok()  # the good ones come last
    assert made.text == ""
    began = time.monotonic()

    def newest() -> Manifest | None:
        return next(reversed(checkpoints(notebook)), None)

    def newest_count() -> int | None:
        found = newest()
        return None if found is None else found.execution_count

    def holds(names: Set[str]) -> bool:
        found = newest()
        return found is not None and set(found.names) >= names

    wait_until(lambda: holds(GOOD_NAMES), "all the good ones", 60)
    print(f"all the good ones in a checkpoint after {time.monotonic() - began:.1f} s")

    reasons: dict[str, str] = {}

    def decided() -> bool:
        skipped = [one for checkpoint in checkpoints(notebook) for one in checkpoint.skipped]
        reasons.update({s.name: s.reason for s in skipped if s.reason != trials.UNDECIDED})
        return reasons.keys() >= ENDS.keys()

    wait_until(lambda: decided() and holds(set(PASSES)), "all of them", 150)
    print(f"all the bad ones named after {time.monotonic() - began:.1f} s")
    wrong = {n: reasons[n] for n, (_, part) in ENDS.items() if not re.search(part, reasons[n])}
    assert not wrong
    after = notebook.run("print(1 + 1)").ok()
    assert after.stdout.endswith("2\n")
    assert "NOISE" not in after.text
    assert flight(notebook).pid == pid
    # What was killed is tried again now and then, in the checkpoint that it has to wait for.
    wait_until(lambda: newest_count() == after.execution_count, "that cell", 90)
    notebook.kill_kernel(pid)
    first = notebook.run(CHECK)
    assert "all right" in first.ok().text
    for name in ENDS:
        assert f"not back: {name} ({name.title()})" in first.text
    # The checkpoint after that cell has started one of its own.
    left = ["pgrep", "-f", f"sleep {SLEEPS_S}"]
    wait_until(lambda: subprocess.run(left, stdout=subprocess.DEVNULL).returncode == 1, "none left")
