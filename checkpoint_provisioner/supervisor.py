"""Stands between whoever starts a kernel and the kernel, and is the first to see it end.

    python -m checkpoint_provisioner.supervisor <launch JSON> -- <kernel argv>

    open the notebook's directory -> judge what an earlier start left -> cap -> plan
      -> start the kernel -> watch it (`watch`): exit, signals, stderr, the server
      -> exit seen: evidence, record -> the snapshot process -> leftovers -> cgroup
      -> die with the kernel's status

Imports the standard library and psutil only; costs about 12 MB. What is decided about a
restore stands in `plan`, about a death in `post_mortem`.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

from checkpoint_kernel import contract, manifest, session

from . import history, home, leftovers, plan, proc, process
from .caps import policy
from .launch import Launch, NotStarted, Started, is_ours
from .stderr_relay import StderrRelay
from .watch import Kernel, Watch


class CannotExecute(Exception):
    """The kernel's argv cannot be executed."""


def main() -> NoReturn:
    """Run one kernel; never returns."""
    mask = process.block(process.WATCHED)
    launch = Launch.from_json(sys.argv[1])
    kernel_argv = sys.argv[sys.argv.index("--", 2) + 1 :]
    if launch.status_fd is not None:
        os.set_inheritable(launch.status_fd, False)
    server_pid = os.getppid()
    process.adopt_orphans()
    try:
        kernel = start(launch, kernel_argv, mask, server_pid)
    except Exception as why:
        _answer(launch, NotStarted(_words(why, kernel_argv)))
        if launch.status_fd is None and not isinstance(why, CannotExecute):
            _start_alone(kernel_argv, mask)
        os._exit(1)
    started = Started(kernel.pid, kernel.pid, str(kernel.directory), kernel.session.cap)
    if not _answer(launch, started):
        server_pid = -1  # it ended before we looked, or it gave up: `Watch` ends the kernel
    if kernel.home.saving:
        for said in leftovers.clear(kernel.home.directory.parent):
            print(f"checkpoint-kernel: {said}", file=sys.stderr)
    ended = Watch(kernel, server_pid, launch.independent).until_exit()
    process.die_as(ended.code, ended.signal)


def _start_alone(argv: list[str], mask: set[signal.Signals]) -> NoReturn:
    """Nobody can be told why there is no supervision: a kernel without it is better than none."""
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    os.execvpe(argv[0], argv, {**os.environ, contract.ENV_SESSION: ""})


def _answer(launch: Launch, answer: Started | NotStarted) -> bool:
    """False if whoever started us does not wait for it any more."""
    if launch.status_fd is None:
        if isinstance(answer, NotStarted):
            print(answer.error, file=sys.stderr)
        return True
    try:
        os.write(launch.status_fd, answer.to_line())
    except OSError as why:
        print(f"checkpoint-kernel: nobody took the answer: {why}", file=sys.stderr)
        return False
    finally:
        os.close(launch.status_fd)
    return True


def _words(why: Exception, kernel_argv: list[str]) -> str:
    if isinstance(why, CannotExecute):
        return str(why)
    if isinstance(why, OSError):
        return f"the kernel could not be started: {why.strerror or why} ({' '.join(kernel_argv)})"
    return f"the kernel could not be started: {why!r}"


# --- before the kernel ---


def start(launch: Launch, argv: list[str], mask: set[signal.Signals], server_pid: int) -> Kernel:
    """Prepare everything and start the kernel. OSError if it cannot be executed."""
    try:
        place, past, warnings = _open(launch, server_pid)
    except OSError as why:  # a disk that lists nothing, or takes nothing
        place, past, warnings = _apart(why, None)
    cap = policy.prepare(
        launch.memory_limit,
        launch.soft_limit,
        launch.kernel_id[:8],
        launch.cpu_limit,
        launch.pids_limit,
        launch.nice,
    )
    try:
        try:
            began, directory, relay = _begin(launch, argv, place, past, cap, warnings, server_pid)
        except OSError as why:
            place, past, warnings = _apart(why, place)
            began, directory, relay = _begin(launch, argv, place, past, cap, warnings, server_pid)
        try:
            pid = _spawn(launch, argv, mask, cap, directory, relay)
        except BaseException:
            # No kernel, so no session; and nobody would ever know of a private directory.
            known = place.lock_fd is not None or str(place.directory) == launch.fallback_directory
            shutil.rmtree(directory if known else place.directory, ignore_errors=True)
            raise
    except BaseException:
        cap.close()
        raise
    if relay is not None:
        relay.kernel_has_its_ends()
    return Kernel(pid, argv, began, directory, place, cap, relay)


def _apart(
    why: OSError, tried: home.Home | None
) -> tuple[home.Home, history.History, tuple[str, ...]]:
    """A private directory without a past, because the store let us down. OSError: it did too."""
    if tried is not None and tried.lock_fd is not None:
        os.close(tried.lock_fd)
    place = home.temporary_home(f"{why}.")
    return place, history.History((), (), ()), ()


def _open(launch: Launch, server_pid: int) -> tuple[home.Home, history.History, tuple[str, ...]]:
    """The notebook's directory, its past, and why checkpoints cannot be trusted, if so."""
    wanted = Path(launch.notebook_directory)
    fallback = Path(launch.fallback_directory) if launch.fallback_directory else None
    holder = home.Holder(launch.kernel_id, os.getpid(), server_pid, launch.independent)
    place = home.open_home(wanted, holder, launch.notebook, fallback)
    try:
        key = manifest.load_key(Path(launch.key_file))
    except (OSError, manifest.ManifestError) as why:
        off = f"Checkpointing is off: the signing key cannot be used: {why}."
        place = dataclasses.replace(place, saving=False)
        return place, history.read(place.directory, None), (off,) if place.saving else ()
    try:
        return place, history.read(place.directory, key if place.saving else None), ()
    except history.StillAlive as why:
        apart = home.sibling(wanted, launch.kernel_id)
        place = home.open_home(apart, holder, launch.notebook, fallback)
        return place, history.read(place.directory, key), (str(why),)


def _begin(
    launch: Launch,
    argv: list[str],
    place: home.Home,
    past: history.History,
    cap: policy.CapHandle,
    warnings: tuple[str, ...],
    server_pid: int,
) -> tuple[session.Session, Path, StderrRelay | None]:
    """Decide what is restored and write session.json; in a private directory if need be."""
    chosen = plan.plan(
        past.sessions,
        past.manifests,
        launch.settings,
        cap.cap.soft_bytes if cap.cap else None,
        past.warnings,
    )
    identity = manifest.new_id()
    if cap.cap is not None and not cap.cap.enforced:
        why = "; ".join(cap.refused)
        not_enforced = f"memory_limit {cap.cap.configured} is not enforced here ({why})."
        warnings = (*warnings, not_enforced)
    for limit in cap.limits:
        if not limit.enforced:
            stated = f"{limit.key} {limit.configured:g}"
            warnings = (*warnings, f"{stated} is not enforced here ({limit.detail}).")
    directory = place.directory / contract.SESSIONS / identity
    directory.mkdir(mode=0o700)
    relay = StderrRelay(directory / contract.STDERR_FILE) if is_ours(argv) else None
    began = session.Session(
        id=identity,
        line=plan.line_of(chosen, past.manifests, identity),
        started=time.time(),
        kernel_id=launch.kernel_id,
        notebook=launch.notebook,
        notebook_directory=str(place.directory) if place.saving else "",
        key_file=launch.key_file,
        supervisor_pid=os.getpid(),
        boot_id=proc.boot_id(),
        settings=launch.settings,
        plan=chosen,
        cap=cap.cap,
        limits=cap.limits,
        stderr_write_fd=relay.stderr_write_fd if relay else None,
        stderr_read_fd=relay.echo_read_fd if relay else None,
        warnings=(*place.warnings, *warnings),
        server_pid=server_pid,
        number=past.next_number,
    )
    session.save(directory, began)
    saved = {m.session for m in past.manifests} if place.saving else None
    history.prune(place.directory, past.sessions, identity, saved)
    return began, directory, relay


def _spawn(
    launch: Launch,
    argv: list[str],
    mask: set[signal.Signals],
    cap: policy.CapHandle,
    directory: Path,
    relay: StderrRelay | None,
) -> int:
    env = dict(os.environ)
    env[contract.ENV_SESSION] = str(directory)
    env[contract.ENV_STARTED_BY] = directory.name
    env.pop("JPY_PARENT_PID", None)
    if not launch.independent:
        env["JPY_PARENT_PID"] = str(os.getpid())
    inherit = (relay.stderr_write_fd, relay.echo_read_fd) if relay else ()
    log_fd = relay.log_write_fd if relay else None
    try:
        return process.spawn(argv, env, mask, log_fd, inherit, cap.enter)
    except OSError as why:
        raise CannotExecute(f"the kernel could not be started: {why.strerror}") from why


if __name__ == "__main__":
    main()
