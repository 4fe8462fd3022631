"""What somebody asked for is no death; what nobody asked for is one, whoever comes after."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from victim import Victim, alive, until

from checkpoint_kernel import contract, session
from checkpoint_provisioner.launch import Launch

Start = Callable[..., Victim]


def test_a_restart_is_clean_no_death_and_quick(start: Start) -> None:
    victim = start()
    victim.run("x = 1")
    before = victim.directory
    assert victim.restart().kind == "clean"
    ended = session.load_exit(before)
    assert ended is not None
    assert ended.kind == "restart"
    assert victim.deaths() == []


def test_a_shutdown_is_no_death(start: Start) -> None:
    victim = start()
    directory = victim.directory
    victim.manager.shutdown_kernel()
    ended = session.load_exit(directory)
    assert ended is not None
    assert (ended.kind, ended.cause) == ("shutdown", None)


def test_an_immediate_restart_is_no_death(start: Start) -> None:
    victim = start()
    before = victim.directory
    assert victim.restart(now=True).kind == "clean"
    ended = session.load_exit(before)
    assert ended is not None
    assert (ended.kind, ended.death) == ("restart", None)


def test_restart_pressed_on_a_dead_kernel_does_not_hide_its_death(start: Start) -> None:
    victim = start()
    before = victim.directory
    os.kill(victim.kernel_pid, signal.SIGKILL)
    until((before / contract.EXIT_FILE).exists, "the exit marker")
    victim.restart()
    ended = session.load_exit(before)
    assert ended is not None
    assert (ended.kind, ended.cause) == ("death", "killed")


def test_interrupting_is_not_asking_for_the_end(start: Start) -> None:
    victim = start()
    victim.begin("import time\ntime.sleep(0.5)")
    victim.manager.interrupt_kernel()
    os.kill(victim.kernel_pid, signal.SIGKILL)
    victim.wait_for_death()
    assert victim.marker().kind == "death"


def test_leftovers_in_the_kernels_group_do_not_survive_its_death(start: Start) -> None:
    victim = start()
    pid_file = victim.directory / "child"
    victim.run(
        "import subprocess\nfrom pathlib import Path\n"
        "p = subprocess.Popen(['sleep', '1000'])\n"
        f"Path({str(pid_file)!r}).write_text(str(p.pid))"
    )
    child = int(pid_file.read_text())
    os.kill(victim.kernel_pid, signal.SIGKILL)
    victim.wait_for_death()
    until(lambda: not alive(child), "the end of the kernel's child", 5)


def test_a_supervisor_that_hangs_does_not_keep_a_kernel_from_being_killed(start: Start) -> None:
    victim = start()
    pid, supervisor, before = victim.kernel_pid, victim.supervisor_pid, victim.directory
    os.kill(supervisor, signal.SIGSTOP)
    assert victim.restart(now=True).kind == "clean"
    assert not alive(pid)
    assert not alive(supervisor)
    ended = session.load_exit(before)
    assert ended is not None
    assert (ended.kind, ended.death) == ("restart", None)


def test_a_kernel_whose_start_nobody_waits_for_any_more_is_ended(tmp_path: Path) -> None:
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    launch = Launch(
        kernel_id="k",
        notebook=None,
        notebook_directory=str(tmp_path / "store" / "kernel-k"),
        key_file=str(tmp_path / "key"),
        settings=session.Settings(),
        status_fd=write_fd,
    )
    # A "kernel" without Jupyter, which would sit there for ever.
    argv = launch.argv(sys.executable, ["sleep", "1000"])
    supervisor = subprocess.Popen(argv, pass_fds=(write_fd,), stderr=subprocess.PIPE, text=True)
    os.close(write_fd)
    _, said = supervisor.communicate(timeout=20)
    assert "nobody took the answer" in said
    assert supervisor.returncode == -signal.SIGTERM


def test_two_kernels_of_one_notebook_keep_apart(start: Start, tmp_path: Path) -> None:
    notebook = {"JPY_SESSION_NAME": str(tmp_path / "work.ipynb")}
    first, second = start(env=notebook), start(env=notebook)
    assert second.directory.parent != first.directory.parent
    assert "Another kernel" in second.session().warnings[0]
    first.manager.shutdown_kernel()
    apart = second.directory.parent
    second.restart()
    assert second.directory.parent == apart  # its history is there


def test_the_exit_is_reported_without_delay_after_an_asked_shutdown(start: Start) -> None:
    victim = start()
    pid, process = victim.kernel_pid, victim.provisioner.process
    victim.manager.request_shutdown()
    until(lambda: not alive(pid), "the kernel's end")
    ended = time.monotonic()
    until(lambda: process.poll() is not None, "the supervisor's end")
    assert time.monotonic() - ended < 0.5


def test_a_store_that_cannot_be_made_does_not_keep_the_kernel_from_starting(
    start: Start, tmp_path: Path
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a directory")
    victim = start(config={"store": str(in_the_way / "store")})
    began = victim.session()
    assert began.notebook_directory == ""
    assert any("Checkpointing is off" in line for line in began.warnings)
    assert victim.run("1 + 1")["content"]["status"] == "ok"
    os.kill(victim.kernel_pid, signal.SIGKILL)
    victim.wait_for_death()
    assert victim.death()["cause"] == "killed"
    plan = victim.restart(now=True)
    assert "killed" in plan.because  # the private directory is kept by this kernel


def test_a_start_that_fails_without_a_store_leaves_no_directory_behind(
    start: Start, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(RuntimeError, match="could not be started"):
        start(argv=["/no/such/kernel"], config={"store": str(tmp_path / "file" / "store")})
    assert list(tmp_path.glob("checkpoint-kernel-*")) == []  # TMPDIR, see conftest


def test_an_open_store_is_tightened_and_said(start: Start, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    store.chmod(0o775)
    victim = start(config={"store": str(store)})
    assert store.stat().st_mode & 0o777 == 0o700
    assert any("775" in line for line in victim.session().warnings)


def test_the_supervisor_is_small_and_imports_no_half_of_jupyter(start: Start) -> None:
    victim = start()
    status = Path(f"/proc/{victim.supervisor_pid}/status").read_text()
    anonymous = next(line for line in status.splitlines() if line.startswith("RssAnon:"))
    private_kb = int(anonymous.split()[1])
    assert private_kb < 14_000
    maps = Path(f"/proc/{victim.supervisor_pid}/maps").read_text()
    for foreign in ("zmq", "numpy", "blake3"):
        assert foreign not in maps


@pytest.mark.parametrize("passed", [None, {"JPY_SESSION_NAME": ""}])
def test_without_a_notebook_the_kernel_has_a_directory_of_its_own(
    start: Start, passed: dict[str, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", "/outer/kernel.ipynb")
    victim = start(env=passed)
    began = victim.session()
    assert began.notebook is None
    assert victim.directory.parent.parent.name == f"kernel-{began.kernel_id}"
