"""The time that a restore may be at one unit: a hang in Python code is interrupted, no load is."""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from checkpoint_kernel import load_limit
from checkpoint_kernel.contract import ENV_LOAD_PATIENCE
from checkpoint_kernel.load_limit import LoadingHangs, LoadLimit, patience_s
from checkpoint_kernel.manifest import Unit

pytestmark = pytest.mark.unit

UNIT = Unit("data:x", "data", ("x",), "pickle", "aa", 10)


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> LoadLimit:
    monkeypatch.setenv(ENV_LOAD_PATIENCE, "0.2")
    return LoadLimit(lambda unit, until: None)


def test_patience_grows_with_the_size_and_shrinks_with_each_that_hung() -> None:
    assert patience_s(0) == 20
    assert patience_s(200_000_000) == 30
    assert [patience_s(0, hung) for hung in range(5)] == [20, 10, 5, 3, 3]
    assert sum(patience_s(0, hung) for hung in range(6)) < 60


def test_a_bad_value_in_the_environment_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENV_LOAD_PATIENCE, "soon")
    assert patience_s(0) == 20


@pytest.mark.parametrize(
    "wait",
    [lambda: time.sleep(60), lambda: threading.Lock().acquire() and _held().acquire()],
    ids=["sleep", "lock"],
)
def test_a_wait_in_python_code_is_interrupted(limit: LoadLimit, wait: object) -> None:
    before = signal.getsignal(signal.SIGALRM)
    with limit.kept():
        limit.begin(UNIT)
        with pytest.raises(LoadingHangs, match="loading it took longer than"):
            wait()  # type: ignore[operator]
    assert limit.hung == 1
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def _held() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


def test_code_that_swallows_it_is_interrupted_again(
    limit: LoadLimit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_limit, "_AGAIN_S", 0.1)

    def stubborn() -> None:
        try:
            time.sleep(60)
        except BaseException:
            time.sleep(60)

    with limit.kept():
        limit.begin(UNIT)
        with pytest.raises(LoadingHangs):
            stubborn()
    assert limit.hung == 1


def test_the_next_unit_has_its_own_time_and_after_the_last_nothing_rings(limit: LoadLimit) -> None:
    with limit.kept():
        for _ in range(3):
            limit.begin(UNIT)
            time.sleep(0.1)
        limit.end()
        time.sleep(0.3)
    assert limit.hung == 0


def test_an_import_has_more_time(
    limit: LoadLimit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "takes_long.py").write_text("import time; time.sleep(0.5)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    noted: list[float] = []
    limit = LoadLimit(lambda unit, until: noted.append(until))
    with limit.kept():
        limit.begin(UNIT)
        import takes_long  # type: ignore[import-not-found]  # noqa: F401
    assert limit.hung == 0
    assert noted[-1] - noted[0] > 30  # the supervisor waits too
    del sys.modules["takes_long"]
