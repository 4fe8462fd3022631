"""Descendants of a process by /proc: real ones, while they end."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator

import pytest

from checkpoint_kernel import process_tree

pytestmark = pytest.mark.unit


@pytest.fixture
def shell() -> Iterator[subprocess.Popen[str]]:
    """A shell with one child, whose pid is the first line that it prints."""
    program = "sleep 60 & echo $!; read line; kill %1; wait"
    with subprocess.Popen(
        ["bash", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.communicate("\n")


@pytest.mark.parametrize("listed", [True, False])
def test_a_childs_child_is_a_descendant_also_where_the_kernel_lists_no_children(
    shell: subprocess.Popen[str], listed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shell.stdout is not None
    below = int(shell.stdout.readline())
    if listed and not process_tree._LISTS_CHILDREN:
        pytest.skip("this kernel is built without CONFIG_PROC_CHILDREN")
    monkeypatch.setattr(process_tree, "_LISTS_CHILDREN", listed)
    assert shell.pid in process_tree.children(os.getpid())
    assert below not in process_tree.children(os.getpid())
    assert {shell.pid, below} <= set(process_tree.descendants(os.getpid()))
    assert process_tree.descendants(shell.pid) == [below]


def test_a_child_that_another_thread_has_started_is_one_too() -> None:
    started: list[subprocess.Popen[bytes]] = []
    ready, done = threading.Event(), threading.Event()

    def start() -> None:
        started.append(subprocess.Popen(["sleep", "60"]))
        ready.set()
        done.wait(60)

    thread = threading.Thread(target=start)
    thread.start()
    assert ready.wait(60)
    assert started[0].pid in process_tree.children(os.getpid())
    done.set()
    thread.join()
    started[0].kill()
    started[0].wait()


def test_processes_that_end_while_they_are_looked_for_raise_nothing() -> None:
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            subprocess.run(["bash", "-c", "(true) & (true) & wait"], check=True)

    threads = [threading.Thread(target=churn) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(300):
            process_tree.descendants(os.getpid())
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert process_tree.descendants(2**22 + 1) == []
