"""The snapshot process: born quickly, alone in the world, and its end is understood."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from checkpoint_kernel import snapshot
from checkpoint_kernel.snapshot import Exit, Report

pytestmark = pytest.mark.unit


def outcome(work: Callable[[Report], None]) -> tuple[list[dict[str, Any]], Exit]:
    """Fork, wait for the end (10 s at most), and return what was reported."""
    child = snapshot.fork(work)
    reports: list[dict[str, Any]] = []
    try:
        while True:
            reports += snapshot.read_status(child, 0.05)
            ended = snapshot.reap(child)
            if ended is not None:
                return reports + snapshot.read_status(child), ended
            if time.monotonic() - child.started > 10:
                snapshot.kill(child)
                snapshot.reap(child, block=True)
                raise AssertionError(f"the snapshot process hung after {reports}")
    finally:
        snapshot.close(child)


def answer(work: Callable[[], Any]) -> Any:
    """What `work` returns in the snapshot process."""
    reports, ended = outcome(lambda report: report(answer=work()))
    assert ended.status == 0, reports
    return reports[-1]["answer"]


def test_it_says_that_it_lives_and_ends_well() -> None:
    reports, ended = outcome(lambda report: report(x=1))
    assert reports == [{"alive": True}, {"x": 1}]
    assert ended.text == "exit code 0"


def test_what_it_raises_is_reported() -> None:
    def work(_: Report) -> None:
        raise SystemExit("no\nway")

    reports, ended = outcome(work)
    assert reports[-1] == {"failed": "SystemExit: no\nway"}
    assert ended.status is not None
    assert not ended.killed


def test_it_holds_no_descriptor_of_the_kernels(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)), open(tmp_path / "mine", "w"):
        left = answer(lambda: [str(Path(fd.path).readlink()) for fd in os.scandir("/proc/self/fd")])
    assert not [target for target in left if "socket" in target]
    pipes = [target for target in left if target.startswith("pipe")]
    assert len(pipes) == 1  # the status pipe


def test_files_in_it_are_private_and_cannot_be_written(tmp_path: Path) -> None:
    def use() -> list[object]:
        place = mine.tell()
        try:
            os.write(mine.fileno(), b"x")
        except OSError as why:
            return [place, os.lseek(mine.fileno(), 1, os.SEEK_SET), why.errno]
        return ["it can be written to"]

    with open(tmp_path / "mine", "wb") as mine:
        mine.write(b"four")
        mine.flush()
        fcntl.flock(mine, fcntl.LOCK_EX)
        assert answer(use) == [4, 1, errno.EBADF]
        assert mine.tell() == 4
    assert (tmp_path / "mine").read_bytes() == b"four"


def test_descriptors_above_a_lowered_limit_are_closed_too(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open(tmp_path / "mine", "w") as file:
        high = os.dup2(file.fileno(), min(soft, 1000) - 1)
        resource.setrlimit(resource.RLIMIT_NOFILE, (500, hard))
        try:
            left = answer(lambda: [int(entry.name) for entry in os.scandir("/proc/self/fd")])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            os.close(high)
    assert high not in left


def test_a_status_pipe_with_a_high_number_is_read() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 1100:
        pytest.skip("the hard limit of descriptors is too low")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1100), hard))
    null = os.open(os.devnull, os.O_RDONLY)
    taken = [os.dup(null) for _ in range(1030)]  # select(2) ends at 1023
    try:
        assert outcome(lambda report: report(x=1))[0][-1] == {"x": 1}
    finally:
        for fd in (*taken, null):
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_it_is_in_a_session_of_its_own_and_dies_before_the_kernel() -> None:
    facts = answer(
        lambda: [os.getsid(0) == os.getpid(), Path("/proc/self/oom_score_adj").read_text().strip()]
    )
    assert facts == [True, "1000"]


def test_a_ctrl_c_and_a_hangup_do_not_reach_it() -> None:
    def work(report: Report) -> None:
        for number in (signal.SIGINT, signal.SIGHUP):
            os.kill(os.getpid(), number)
        report(x=1)

    assert outcome(work)[0][-1] == {"x": 1}


def test_what_it_prints_appears_nowhere(capfd: pytest.CaptureFixture[str]) -> None:
    def work(_: Report) -> None:
        import logging

        logging.basicConfig(force=True)
        print("noise")
        print("noise", file=sys.stderr)
        logging.getLogger().error("noise")
        os.write(1, b"noise")
        os.write(2, b"noise")

    outcome(work)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("end", "text", "timed_out", "killed"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "SIGSEGV", False, False),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "SIGKILL", False, True),
        (lambda: os.kill(os.getpid(), signal.SIGRTMIN + 1), "signal 35", False, False),
        (lambda: os._exit(3), "exit code 3", False, False),
        (lambda: (snapshot.limit(0.1), time.sleep(5)), "SIGALRM", True, False),
    ],
)
def test_its_end_is_told_apart(
    end: Callable[[], Any], text: str, timed_out: bool, killed: bool
) -> None:
    ended = outcome(lambda _: end())[1]
    assert (ended.text, ended.timed_out, ended.killed) == (text, timed_out, killed)


def test_a_child_that_the_user_has_waited_for_has_an_unknown_end() -> None:
    child = snapshot.fork(lambda _: None)
    os.waitpid(child.pid, 0)
    assert snapshot.reap(child) == Exit(None)
    assert Exit(None).text == "unknown status"
    snapshot.kill(child)  # gone: no error
    snapshot.close(child)


def test_without_end_memory_is_a_memory_error_and_not_the_machines_end() -> None:
    def work(report: Report) -> None:
        snapshot.limit_memory(64 << 20)
        hoard = []
        try:
            while True:
                hoard.append(bytes(1 << 20))
        except MemoryError:
            count = len(hoard)
            del hoard
            report(count=count)

    reports, _ = outcome(work)
    # What the allocator had free already does not count against the limit.
    assert 32 <= reports[-1]["count"] <= 1024


def test_reports_do_not_wait_for_a_kernel_that_is_busy() -> None:
    child = snapshot.fork(lambda report: [report(unit=["x" * 100]) for _ in range(3000)] and None)
    deadline = time.monotonic() + 10
    while snapshot.reap(child) is None and time.monotonic() < deadline:
        time.sleep(0.01)  # and nobody reads
    assert len(snapshot.read_status(child)) == 3001
    snapshot.close(child)


def test_it_goes_on_when_the_kernel_is_dead(tmp_path: Path) -> None:
    done = tmp_path / "done"
    program = (
        "import os, signal, time\nfrom pathlib import Path\n"
        "from checkpoint_kernel import snapshot\n"
        "def work(report):\n    time.sleep(0.3)\n    report(unit=['x'])\n"
        f"    Path({str(done)!r}).write_text('whole')\n"
        "child = snapshot.fork(work)\nsnapshot.read_status(child, 5)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", program], timeout=20)
    assert ended.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 5
    while not done.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert done.read_text() == "whole"


def test_forks_beside_threads_that_come_and_go_never_hang() -> None:
    over = threading.Event()

    def churn() -> None:
        while not over.is_set():
            thread = threading.Thread(target=lambda: None)
            thread.start()
            thread.join()

    threads = [threading.Thread(target=churn) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(50):
            reports, ended = outcome(lambda report, n=number: report(n=n))  # type: ignore[misc]
            assert (reports[-1], ended.status) == ({"n": number}, 0)
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_a_fork_leaves_no_descriptor_behind() -> None:
    outcome(lambda _: None)
    before = len(list(os.scandir("/proc/self/fd")))
    for _ in range(5):
        outcome(lambda _: None)
    assert len(list(os.scandir("/proc/self/fd"))) == before


class TestDeferredCollections:
    """In the kernel, while a snapshot process lives: no automatic full collection."""

    @pytest.fixture(autouse=True)
    def thresholds(self) -> Iterator[None]:
        before = gc.get_threshold()
        gc.set_threshold(700, 10, 10)
        yield
        gc.set_threshold(*before)

    def test_full_ones_wait_and_young_ones_do_not(self) -> None:
        deferred = snapshot.DeferredCollections()
        full = gc.get_stats()[2]["collections"]
        young = gc.get_stats()[0]["collections"]
        deferred.begin()
        kept = [[] for _ in range(200_000)]
        assert gc.get_stats()[2]["collections"] == full
        assert gc.get_stats()[0]["collections"] > young
        deferred.end()
        assert gc.get_threshold() == (700, 10, 10)
        del kept

    def test_the_users_own_collection_collects(self) -> None:
        deferred = snapshot.DeferredCollections()
        deferred.begin()
        full = gc.get_stats()[2]["collections"]
        gc.collect()
        assert gc.get_stats()[2]["collections"] == full + 1
        deferred.end()

    def test_thresholds_that_the_user_sets_meanwhile_stay(self) -> None:
        deferred = snapshot.DeferredCollections()
        deferred.begin()
        gc.set_threshold(50, 5, 5)
        deferred.end()
        assert gc.get_threshold() == (50, 5, 5)

    def test_two_snapshots_in_a_row_do_not_forget_what_was_before(self) -> None:
        deferred = snapshot.DeferredCollections()
        deferred.begin()
        deferred.begin()
        deferred.end()
        deferred.end()
        assert gc.get_threshold() == (700, 10, 10)
