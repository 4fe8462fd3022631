"""Which tool shows native stacks, where a core is, and that neither waits for ever."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from checkpoint_provisioner import native_stack
from checkpoint_provisioner.native_stack import Tool


def test_the_quick_tools_come_first_and_only_what_is_installed() -> None:
    every = native_stack.tools_for_process(7, ["gdb", "py-spy", "eu-stack"])
    assert [tool.name for tool in every] == ["eu-stack", "py-spy", "gdb"]
    assert all("7" in tool.argv for tool in every)
    assert [tool.name for tool in native_stack.tools_for_process(7, ["gdb"])] == ["gdb"]
    assert native_stack.tools_for_core("python", "/core", ["py-spy"]) == []


@pytest.mark.parametrize(
    ("pattern", "uses_pid", "name"),
    [
        ("core", False, "core"),
        ("core", True, "core.7"),
        ("core.%p", True, "core.7"),
        ("/var/cores/%e-%t.%p", False, "/var/cores/*-*.7"),
        ("100%%/core", False, "100%/core"),
        ("|/usr/lib/systemd/systemd-coredump %P", True, None),
        ("", False, None),
    ],
)
def test_where_a_core_is_follows_the_systems_pattern(
    pattern: str, uses_pid: bool, name: str | None
) -> None:
    assert native_stack.core_name(pattern, uses_pid, 7) == name


def test_a_core_that_is_older_than_the_kernel_is_not_its_own(tmp_path: Path) -> None:
    old, new = tmp_path / "core.1", tmp_path / "core.2"
    for path, modified in ((old, 1000.0), (new, 2000.0)):
        path.touch()
        os.utime(path, (modified, modified))
    assert native_stack._newest(tmp_path, "core.*", 1500.0) == new
    assert native_stack._newest(tmp_path, "core.*", 2500.0) is None


def test_what_a_tool_says_before_the_stacks_is_left_out() -> None:
    said = "[New LWP 8]\nwarning: no symbols\n\nThread 1 (LWP 7):\n#0  sleep ()\n"
    assert native_stack.cleaned(said) == "Thread 1 (LWP 7):\n#0  sleep ()"
    assert native_stack.cleaned("ptrace: Operation not permitted.\n") == ""


def test_a_tool_that_takes_too_long_is_ended_and_what_it_had_said_is_kept() -> None:
    program = "print('#0  sleep ()', flush=True); import time; time.sleep(60)"
    began = time.monotonic()
    found = native_stack._run(Tool("x", ("python", "-c", program)), 1.5)
    assert time.monotonic() - began < 30
    assert found.text is not None
    assert found.text.startswith("#0  sleep ()\n(it took longer")
    silent = native_stack._run(Tool("x", ("python", "-c", "import time; time.sleep(60)")), 0.2)
    assert silent.text is None
    assert silent.why_not == "it took longer than 0.2 s"


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that a user has put first on PATH, under the names of tools."""
    for name in ("gdb", "eu-stack", "mytool"):
        (tmp_path / name).write_text("#!/bin/sh\necho '#0  not to be run ()'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def test_root_runs_no_tool_from_a_users_path(
    on_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for name in ("gdb", "eu-stack"):
        assert not (native_stack.find(name) or "/").startswith(str(on_path))
    assert native_stack.find("mytool") is None
    assert native_stack._run(Tool("mytool", ("mytool",)), 30).why_not == "it is not installed"
    assert native_stack.find("sh") is not None
    python = Path(sys.executable).name
    assert native_stack.find(python) is not None, "where pip puts py-spy"


def test_a_user_runs_what_is_on_the_path(on_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert native_stack.find("gdb") == str(on_path / "gdb")
    assert native_stack._run(Tool("mytool", ("mytool",)), 30).text == "#0  not to be run ()"


def test_the_next_tool_is_tried_where_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    good = Tool("b", (sys.executable, "-c", "print('#0  here ()')"))
    bad = Tool("a", (sys.executable, "-c", "raise SystemExit('not permitted')"))
    assert native_stack._first([bad, good], 30).tool == "b"
    assert native_stack._first([bad], 30).why_not == "a: not permitted"


def test_a_process_that_a_debugger_left_stopped_goes_on() -> None:
    import signal

    from checkpoint_provisioner import ask_stacks

    with subprocess.Popen(["sleep", "30"]) as process:
        os.kill(process.pid, signal.SIGSTOP)
        native_stack._let_go_on(process.pid)
        assert ask_stacks.state_of(process.pid) != "T"
        process.kill()
