"""Kernels that are busy or hang: they tell their stacks and go on, or are killed with evidence."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from victim import FOREIGN, SLOW, Victim, until

from checkpoint_kernel import contract, flight_recorder, session
from checkpoint_provisioner import ask_stacks, cli

Start = Callable[..., Victim]
Stacks = Callable[..., dict[str, Any]]

DEBUGGERS = [name for name in ("eu-stack", "gdb") if shutil.which(name)]


@pytest.fixture
def stacks(capsys: pytest.CaptureFixture[str]) -> Stacks:
    """The only running kernel, as `jupyter checkpoint stacks --json` tells it."""

    def one(*arguments: str) -> dict[str, Any]:
        capsys.readouterr()
        cli.main(["stacks", "--json", *arguments])
        [found] = json.loads(capsys.readouterr().out)
        return dict(found)

    return one


def value_of(victim: Victim, expression: str) -> str:
    reply = victim.client.execute_interactive(
        "", user_expressions={"it": expression}, timeout=30, output_hook=lambda _: None
    )
    return str(reply["content"]["user_expressions"]["it"]["data"]["text/plain"])


def record_of(before: Path) -> dict[str, Any]:
    """Of a session that was ended because it hung."""
    ended = session.load_exit(before)
    assert ended is not None
    assert (ended.kind, ended.cause) == ("hung", "hung")
    path = before.parent.parent / contract.DEATHS / str(ended.death)
    return dict(json.loads(path.read_bytes()))


def test_a_busy_kernel_tells_its_stacks_and_goes_on_unharmed(
    start: Start, stacks: Stacks, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    victim = start(env={"JPY_SESSION_NAME": str(tmp_path / "work.ipynb")})
    victim.run(
        "import ctypes, time\nimport numpy as np\nfrom pathlib import Path\n"
        "def waits(sign):\n    Path(sign).touch()\n    return time.sleep(1.5)\n"
        "def works(sign):\n"
        "    a = np.ones((500, 500)); Path(sign).touch(); end = time.monotonic() + 1.5\n"
        "    while time.monotonic() < end:\n        b = a @ a\n"
        "def keeps_the_lock(sign):\n"
        "    Path(sign).touch()\n    return ctypes.PyDLL(None).sleep(5)"
    )
    for name in ("waits", "works", "keeps_the_lock"):
        sign = tmp_path / name
        victim.begin_and_wait(f"began = time.monotonic()\ngot = {name}({str(sign)!r})", sign)
        keeps = name == "keeps_the_lock"
        one = stacks("work.ipynb", *(["--native"] if keeps and DEBUGGERS else []))
        assert (one["state"], one["line"], one["without_lock"]) == ("busy", 2, keeps)
        assert one["source"].startswith(f"got = {name}(")
        [main] = [thread for thread in one["threads"] if thread["role"] == "main"]
        ran = [frame["function"] for frame in main["frames"] if frame and frame["cell"]]
        assert ran == ["<module>", name]
        if keeps and DEBUGGERS:
            native = one["native"]
            assert "sleep" in native["text"] if native["text"] else "longer" in native["why_not"]
        assert victim.client.get_shell_msg(timeout=30)["content"]["status"] == "ok"
    # C's sleep returns what was left of it when a signal's handler cuts it short.
    assert value_of(victim, "got, time.monotonic() - began > 4.9") == "(0, True)"
    cli.main(["stacks"])
    assert "idle" in capsys.readouterr().out


def test_asking_again_and_again_harms_nobody_and_fills_no_disk(start: Start) -> None:
    """Threads that call and return all the time, while they are looked at from two sides."""
    victim = start()
    victim.run(
        "import os, signal, threading\nchild = os.fork()\nif child == 0:\n"
        f"    os.kill(os.getpid(), {int(contract.STACKS_SIGNAL)}); os._exit(0)\n"
        "_, status = os.waitpid(child, 0)\n"
        "stop = False\ncounts = [0] * 4\n"
        "def deep(n):\n    return n and deep(n - 1)\n"
        "def spin(i):\n    while not stop:\n        deep(30); counts[i] += 1\n"
        "threads = [threading.Thread(target=spin, args=(i,)) for i in range(4)]"
    )
    directory, pid = victim.directory, victim.kernel_pid
    file = directory / contract.STACKS_FILE
    assert value_of(victim, "os.WTERMSIG(status)") == str(int(contract.STACKS_SIGNAL))
    assert file.stat().st_size == 0  # a forked child does not write into the kernel's file
    victim.run("for t in threads: t.start()")
    flight = flight_recorder.read(directory / contract.FLIGHT_FILE)
    answers: list[ask_stacks.Answer] = []

    def ask() -> None:
        for _ in range(15):
            answers.append(ask_stacks.ask(pid, directory, flight, 20))

    both = [threading.Thread(target=ask) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert [answer.why_not for answer in answers] == [None] * 30
    assert all(answer.text.count(" in spin\n") == 4 for answer in answers)
    assert file.stat().st_size < 100_000
    victim.run("stop = True\nfor t in threads: t.join()")
    assert value_of(victim, "min(counts) > 0") == "True"


def test_a_kernel_that_is_not_ours_is_asked_by_another_tool_or_says_which(
    start: Start, stacks: Stacks, capsys: pytest.CaptureFixture[str]
) -> None:
    victim = start(argv=FOREIGN)
    one = stacks()
    assert one["pid"] == victim.kernel_pid
    assert one["text"] or "py-spy" in one["no_stacks_because"]
    victim.close()
    assert cli.main(["stacks"]) == 1
    assert "No kernel is running" in capsys.readouterr().out


HANGS = """
import ctypes, signal
from pathlib import Path
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
def step():
    Path({sign!r}).touch()
    ctypes.PyDLL(None).sleep(1000)  # holds the GIL: no thread of the kernel can answer
while True:
    step()
"""


@pytest.mark.vm
def test_a_kernel_killed_for_a_restart_is_hung_with_its_stacks(
    start: Start, tmp_path: Path
) -> None:
    victim = start()
    sign = tmp_path / "hangs"
    victim.begin_and_wait(HANGS.format(sign=str(sign)), sign)
    before = victim.directory
    victim.manager.shutdown_wait_time = 2.0 * SLOW
    assert victim.restart().kind == "clean"
    record = record_of(before)
    if SLOW > 1:
        pytest.skip("the machine is too slow for the second that a last look may take")
    assert (record["cell"], record["line"]) == (1, 7)  # IPython does not count the empty line
    assert record["source"].startswith("ctypes.PyDLL(None).sleep")
    assert " in step\n" in record["stacks"]
    assert "ipykernel/" not in record["stack"]  # what runs the cell is left out for people
    native, notes = record["native_stack"], " ".join(record["evidence"]["notes"])
    assert "sleep" in native if native else "no native stacks" in notes
    told: list[str] = []
    victim.client.execute_interactive(
        "%checkpoint why", timeout=30,
        output_hook=lambda m: told.append(m["content"].get("text", "")),
    )  # fmt: skip
    assert "in step" in "".join(told)


def test_a_stopped_kernel_that_is_restarted_is_hung_because_it_was_stopped(
    start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    victim = start()
    before = victim.directory
    os.kill(victim.kernel_pid, signal.SIGSTOP)
    until(lambda: ask_stacks.state_of(victim.kernel_pid) == "T", "the stop")
    assert cli.main(["stacks"]) == 1
    assert "stopped (SIGSTOP" in capsys.readouterr().out
    victim.manager.shutdown_wait_time = 1.0
    victim.restart()
    record = record_of(before)
    assert "the process is stopped (SIGSTOP" in record["paragraph"]
    assert record["stacks"] is None


def test_why_in_a_subshell_says_what_the_running_cell_is_doing(
    start: Start, tmp_path: Path
) -> None:
    victim = start()
    sign = tmp_path / "sign"
    victim.begin_and_wait(
        "import time\nfrom pathlib import Path\ndef waits():\n"
        f"    Path({str(sign)!r}).touch()\n    time.sleep(6)\nwaits()",
        sign,
    )
    time.sleep(2)  # so long at one place is worth a word
    client = victim.client
    client.control_channel.send(client.session.msg("create_subshell_request", {}))
    subshell = client.get_control_msg(timeout=20)["content"]["subshell_id"]
    asked = client.session.msg(
        "execute_request",
        {"code": "%checkpoint why", "silent": False, "store_history": False, "allow_stdin": False},
    )
    asked["header"]["subshell_id"] = subshell
    client.shell_channel.send(asked)
    told = ""
    while "No death" not in told:
        message = client.get_iopub_msg(timeout=20)
        if message["parent_header"].get("msg_id") == asked["header"]["msg_id"]:
            told += message["content"].get("text", "")
    assert told.startswith("In[1] has been running for ")
    assert "it is at line 6 (`waits()`)" in told
    assert "at the same place for" in told
    assert "waits for something" in told
    assert "line 5, in waits" in told
    assert "Memory: " in told


CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")


@pytest.mark.skipif(not DEBUGGERS, reason="neither gdb nor eu-stack is installed")
@pytest.mark.skipif(
    CORE_PATTERN.read_text().startswith("|"), reason="cores go to a program on this machine"
)
def test_a_crash_that_leaves_a_core_has_its_native_stack(start: Start, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if hard == 0:
        pytest.skip("no core may be written here (RLIMIT_CORE)")
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    try:
        victim = start()
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
    record = victim.dies("import ctypes\nctypes.string_at(1)")
    assert record["cause"] == "segmentation-fault"
    native, notes = record["native_stack"], " ".join(record["evidence"]["notes"])
    assert "PyBytes_FromString" in native or "strlen" in native if native else "longer" in notes
