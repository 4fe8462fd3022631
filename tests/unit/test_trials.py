"""Code of the user's that runs while an object is saved: told apart, tried, kept from the rest."""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from notebook_namespace import Notebook, load, names_of_units

from checkpoint_kernel import healing, hung, own_code, shield, snapshot, trials, units
from checkpoint_kernel.trials import Verdict

pytestmark = pytest.mark.unit


def verdicts(
    *attempts: Callable[[Any], Any], patient: Sequence[int] = (), began: Any = lambda _: None
) -> list[Verdict]:
    """What becomes of attempts; one fails by returning a reason."""

    def attempt(number: int, new_stream: Any) -> tuple[str | None, str | None, bool]:
        return attempts[number](new_stream), None, False

    waited_for = [number in patient for number in range(len(attempts))]
    before = set(psutil.Process().children())
    found = trials.run(len(attempts), attempt, waited_for, began)
    assert set(psutil.Process().children()) <= before  # nobody is left
    return found


def good(_: Any) -> None:
    """An attempt that goes well."""


def spin(_: Any) -> None:
    """An attempt without end."""
    while True:
        pass


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hung, "IDLE_LIMIT_S", 1.0)
    monkeypatch.setattr(trials, "BUSY_LIMIT_S", 2.0)
    monkeypatch.setattr(trials, "_PATIENCE_S", 0.6)
    monkeypatch.setattr(trials, "_OVERTAKEN_S", 0.1)


class TestTrials:
    @pytest.mark.parametrize(
        ("end", "how"),
        [
            (lambda _: os._exit(0), "exit code 0"),
            (lambda _: os.kill(os.getpid(), signal.SIGSEGV), "SIGSEGV"),
            (lambda _: os.kill(os.getpid(), signal.SIGSTOP), "SIGSTOP"),
            (lambda _: os.killpg(0, signal.SIGTERM), "SIGTERM"),
            (lambda _: os.closerange(0, 1000), "exit code 1"),
            (lambda _: sys.exit(3), "exit code 1"),
        ],
    )
    def test_what_ends_its_process_is_to_blame_and_nothing_beside_it(
        self, end: Callable[[Any], Any], how: str
    ) -> None:
        before, bad, *after = verdicts(good, end, good, good)
        assert [before, *after] == [Verdict()] * 3
        assert bad == Verdict(f"saving it crashed the snapshot process ({how})", fatal=True)

    def test_one_that_was_killed_may_be_innocent(self) -> None:
        found, after = verdicts(lambda _: os.kill(os.getpid(), signal.SIGKILL), good)
        assert (found.fatal, found.costly, found.killed, after) == (False, True, True, Verdict())

    def test_one_that_fails_fails_alone_and_its_process_goes_on(self) -> None:
        assert verdicts(good, lambda _: "no", good) == [Verdict(), Verdict("no"), Verdict()]

    @pytest.mark.usefixtures("impatient")
    def test_those_that_hang_are_overtaken_and_left_undecided_for_the_moment(self) -> None:
        found = verdicts(*[lambda _: time.sleep(99)] * 6, good)
        assert [one.undecided for one in found] == [True] * 6 + [False]

    @pytest.mark.usefixtures("impatient")
    @pytest.mark.parametrize(
        ("work", "reason"),
        [
            (lambda _: time.sleep(99), "saving it waits for something: nothing moved for 1 s"),
            (spin, "saving it took longer than 2 s without a result"),
        ],
    )
    def test_one_that_is_waited_for_has_limits_too(
        self, work: Callable[[Any], Any], reason: str
    ) -> None:
        assert verdicts(work, patient=[0]) == [Verdict(reason, fatal=True)]

    @pytest.mark.usefixtures("impatient")
    def test_one_that_writes_all_the_time_is_not_hung(self) -> None:
        def slow(new_stream: Any) -> None:
            stream = new_stream()
            end = time.monotonic() + 3
            while time.monotonic() < end:
                stream.write(b"more")
                time.sleep(0.05)

        assert verdicts(slow, good, patient=[0]) == [Verdict(), Verdict()]

    def test_memory_without_end_is_a_memory_error_in_there(self) -> None:
        def hoard(_: Any) -> str:
            kept = []
            try:
                while True:
                    kept.append(bytes(1 << 20))
            except MemoryError:
                return "enough"

        assert verdicts(hoard, good)[0].reason == "enough"

    def test_processes_that_it_starts_end_with_it(self) -> None:
        assert verdicts(lambda _: subprocess.Popen(["sleep", "97532"]) and None) == [Verdict()]
        assert subprocess.run(["pgrep", "-f", "^sleep 97532"], check=False).returncode == 1

    def test_who_is_in_hand_is_told(self) -> None:
        told: list[list[int]] = []
        verdicts(good, good, began=told.append)
        assert [0] in told


class TestWhoseCodeRuns:
    @pytest.mark.parametrize(
        "body",
        [
            "def __reduce__(self): ...",
            "def __getstate__(self): ...",
            "__class__ = property(lambda self: int)",
            "__dict__ = property(lambda self: {})",
            "def __getattr__(self, name): raise AttributeError",
        ],
    )
    def test_a_notebooks_class_with_a_hook_runs_code(self, body: str) -> None:
        notebook = Notebook()
        notebook.run(f"class C:\n    {body}\nclass D(C): pass")
        assert own_code.runs(notebook.main["C"])
        assert own_code.runs(notebook.main["D"])

    @pytest.mark.parametrize(
        "cell",
        [
            "class C: pass",
            "class C:\n    def __init__(self): ...\n    def __repr__(self): ...",
            "import dataclasses\n@dataclasses.dataclass\nclass C:\n    x: int = 0",
            "from collections import OrderedDict as C",
            "from pathlib import Path as C",
            "from numpy import ndarray as C",
        ],
    )
    def test_an_ordinary_class_runs_none(self, cell: str) -> None:
        notebook = Notebook()
        notebook.run(cell)
        assert not own_code.runs(notebook.main["C"])

    def test_a_metaclass_that_is_asked_about_everything_is_wild(self) -> None:
        notebook = Notebook()
        notebook.run(
            "class Meta(type):\n    def __getattribute__(cls, name): raise RuntimeError\n"
            "class C(metaclass=Meta): pass\nc = C()"
        )
        assert own_code.is_wild(notebook.main["C"])
        assert own_code.is_wild(notebook.main["c"])
        assert not own_code.is_wild(int)
        assert not own_code.is_wild(5)


class TestItComesLast:
    def test_what_it_does_to_other_variables_comes_too_late(self) -> None:
        notebook = Notebook()
        notebook.run(
            "class H:\n    def __reduce__(self):\n        late.clear()\n"
            "        globals().pop('early', []).clear()\n        return (list, ())\n"
            "early = [1]; h = H(); late = [2]; pair = [late]; deep = {'h': [H()]}"
        )
        again = notebook.reborn().main
        assert (again["early"], again["late"], again["pair"]) == ([1], [2], [[2]])
        assert again["pair"][0] is again["late"]
        assert again["deep"] == {"h": [[]]}

    def test_what_it_shares_with_others_is_shared_afterwards(self) -> None:
        notebook = Notebook()
        notebook.run(
            "class R:\n    def __init__(self, x): self.x = x\n"
            "    def __reduce__(self): return (R, (self.x,))\n"
            "shared = [1]; a = [shared]; b = [shared]; other = [2]; r = R(other); s = R(shared)"
        )
        again = notebook.reborn().main
        assert again["s"].x is again["a"][0] is again["b"][0] is again["shared"]
        assert again["r"].x is again["other"]

    def test_one_that_fails_the_second_time_costs_nobody_it_shares_with(self) -> None:
        notebook = Notebook()
        notebook.run(
            "count = [0]\nclass Once:\n    def __init__(self, x): self.x = x\n"
            "    def __reduce__(self):\n        self.tries = getattr(self, 'tries', 0) + 1\n"
            "        if self.tries > 1: raise ValueError('again?')\n"
            "        return (Once, (self.x,))\n"
            "shared = [1]; a = [shared]; once = Once(shared)"
        )
        partition = notebook.partition()
        assert [one.name for one in partition.skipped] == ["once"]
        assert frozenset({"shared", "a"}) in names_of_units(partition)

    def test_a_part_that_is_a_stub_and_an_object_that_is_shared_come_to_an_end(self) -> None:
        notebook = Notebook()
        notebook.run(
            "import socket\nclass Client:\n    def __init__(self): self.sock = socket.socket()\n"
            "    def __getstate__(self): return dict(vars(self))\n"
            "client = Client(); registry = {'main': client}"
        )
        partition = notebook.partition()
        assert partition.skipped == []
        assert frozenset({"client", "registry"}) in names_of_units(partition)
        assert {one.name for one in partition.partly} == {"client", "registry"}

    def test_arrays_that_are_pickled_already_are_as_they_were(self) -> None:
        def work(report: snapshot.Report) -> None:
            faulthandler.disable()  # as a kernel's: pytest's has a descriptor that is another's now
            notebook = Notebook()
            notebook.run(
                "import numpy as np\narray = np.arange(100_000); view = array[1:]\n"
                "class Whole:\n    def __reduce__(self):\n        array[5000] = -1\n"
                "class Ends:\n    def __reduce__(self):\n"
                "        array[0] = array[-1] = -1\n        return (list, ())\n"
                "whole = Whole(); ends = Ends()"
            )
            variables = notebook.variables
            partition = units.partition(
                variables, notebook.main, {}, lambda _: None, trying=units.Trying()
            )
            array = load(partition).main["array"]
            report(
                same=bool((array == np.arange(100_000)).all()),
                skipped={one.name: one.reason for one in partition.skipped},
                fatal=partition.fatal,
            )

        child = snapshot.fork(work)
        ended = snapshot.reap(child, block=True)
        *_, told = snapshot.read_status(child)
        snapshot.close(child)
        assert ended is not None
        crashed = "saving it crashed the snapshot process (SIGSEGV)"
        assert told == {"same": True, "skipped": {"whole": crashed}, "fatal": {"whole": crashed}}


def test_what_it_did_to_the_process_is_put_right(tmp_path: Any) -> None:
    def work(report: snapshot.Report) -> None:
        names = {"x": 1}
        order = healing.order(names)
        import json
        import pickle

        gc.enable()
        sys.setrecursionlimit(60)
        signal.signal(signal.SIGALRM, lambda *_: None)
        os.chdir("/")
        real = json.dumps, pickle.Pickler, os.fsync
        json.dumps = pickle.Pickler = os.fsync = None  # type: ignore[assignment,misc]
        del sys.modules["json"], names["x"]
        order.restore()
        report(
            modules=[json.dumps, pickle.Pickler, os.fsync] == list(real) and "json" in sys.modules,
            names=names,
            collecting=gc.isenabled(),
            limit=sys.getrecursionlimit() > 60,
            alarm=signal.getsignal(signal.SIGALRM) == signal.SIG_DFL,
            directory=str(Path.cwd()),
        )

    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        child = snapshot.fork(work)
    finally:
        os.chdir(before)
    snapshot.reap(child, block=True)
    *_, told = snapshot.read_status(child)
    snapshot.close(child)
    assert told == {
        "modules": True, "names": {"x": 1}, "collecting": False, "limit": True, "alarm": True,
        "directory": str(tmp_path),
    }  # fmt: skip


def test_a_shield_puts_back_what_it_cannot_refuse() -> None:
    buffer = ctypes.create_string_buffer(b"x" * 100)
    over = shield.Shield([(ctypes.addressof(buffer), 100)])
    buffer[3] = b"y"
    over.put_back()
    assert buffer.raw[:100] == b"x" * 100


def test_a_process_that_sleeps_while_it_should_work_is_hung(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hung, "IDLE_LIMIT_S", 0.5)
    monkeypatch.setattr(hung, "_LOOK_S", 0.0)
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        watch = hung.Watch()
        watch.begin(False)
        time.sleep(0.6)
        assert not watch.is_hung(sleeper.pid)
        watch.begin(True)
        watch.is_hung(sleeper.pid)
        time.sleep(0.7)
        assert watch.is_hung(sleeper.pid)
        assert watch.found
        sleeper.kill()
