"""Whether anything has run with no cell around it, by real threads."""

from __future__ import annotations

import threading
import time

import pytest

from checkpoint_kernel.others import OURS, Others

pytestmark = pytest.mark.unit


def work(seconds: float = 0.05) -> None:
    """Use that much processor time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def in_a_thread(name: str | None = None) -> None:
    thread = threading.Thread(target=work, name=name)
    thread.start()
    thread.join()


@pytest.fixture
def others() -> Others:
    return Others()


def take(others: Others) -> None:
    """A checkpoint, which sees everything."""
    others.look()
    others.looked()


def test_nothing_has_run(others: Others) -> None:
    take(others)
    time.sleep(0.05)
    assert not others.have_run()


def test_a_thread_that_has_ended_counts(others: Others) -> None:
    take(others)
    in_a_thread()
    assert others.have_run()


def test_little_counts_too(others: Others) -> None:
    held: dict[str, list[int]] = {}
    thread = threading.Thread(target=lambda: held.update(a=list(range(10_000))))
    take(others)
    thread.start()
    while "a" not in held:  # not joined: that would be work of the main thread's
        time.sleep(0.01)
    assert others._worked().others_ns - others._seen.others_ns > 50_000
    assert others.have_run()
    thread.join()


def test_one_that_only_waits_does_not(others: Others) -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    take(others)
    time.sleep(0.05)
    assert not others.have_run()
    done.set()
    thread.join()


def test_the_kernels_own_threads_do_not() -> None:
    stop, go = threading.Event(), threading.Event()

    def loop() -> None:
        go.wait()
        work()
        stop.wait()

    before = threading.Thread(target=loop)
    before.start()
    others = Others()  # that thread is there when the kernel starts
    ours = threading.Thread(target=loop, name=f"{OURS} something")
    ours.start()
    take(others)
    go.set()
    time.sleep(0.5)
    assert not others.have_run()
    stop.set()
    before.join()
    ours.join()


def test_the_main_thread_counts_but_not_while_it_takes_a_checkpoint(others: Others) -> None:
    others.look()
    work()
    others.looked()
    assert not others.have_run()
    work()
    assert others.have_run()


def test_what_others_did_while_a_checkpoint_was_taken_counts(others: Others) -> None:
    others.look()
    in_a_thread()
    others.looked()
    assert others.have_run()


def test_it_stays_true_until_a_checkpoint_has_seen_it(others: Others) -> None:
    take(others)
    in_a_thread()
    assert others.have_run()
    assert others.have_run()
    take(others)
    assert not others.have_run()
