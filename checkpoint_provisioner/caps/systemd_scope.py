"""A scope of systemd's for the supervisor and its kernel, asked for over D-Bus by busctl.

`systemd-run --scope -- supervisor` would do the same and then exec; but what cannot exec
has no kernel left to start, and there is no way back. Asked for the scope itself, systemd
moves our live process into it, or says no and leaves us where we were. Everything else
happens inside, as in any delegated cgroup: see `cgroup_v2`.

Properties: systemd.resource-control(5), systemd.scope(5), org.freedesktop.systemd1(5).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from . import cgroup_v2, hierarchy
from .group import Refused

_CALL_TIMEOUT_S = 5
_MOVE_TIMEOUT_S = 3.0
_MANAGER = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1")
_INTERFACE = "org.freedesktop.systemd1.Manager"


class NotDelegated(Refused):
    """One controller cannot be had; others may."""


def adopt(name: str, controller: str = "memory", niceness: int | None = None) -> hierarchy.Place:
    """Have systemd move this process into a delegated scope. Refused with the reason.

    The user's manager, or the system's for root. `Delegate` hands down every controller that
    the manager itself has; `controller` is the one that makes the move worthwhile. Niceness
    inside a scope says nothing to other units, so it becomes the scope's weight as well.
    Bounded: about 8 s where nothing answers.
    """
    place = hierarchy.unified()
    if place is None or controller not in hierarchy.controllers(place.mount):
        raise NotDelegated(f"systemd has no cgroup v2 with a {controller} controller here")
    if shutil.which("busctl") is None:
        raise Refused("busctl, which is part of systemd, is not installed")
    environment = _environment()
    manager = place.mount / _manager_group(environment).lstrip("/")
    _refuse_escape(place, manager)
    if controller not in hierarchy.controllers(manager):
        raise NotDelegated(f"the {controller} controller is not delegated to systemd's {manager}")
    unit = f"{name}.scope"
    _start(unit, environment, niceness)
    deadline = time.monotonic() + _MOVE_TIMEOUT_S
    while time.monotonic() < deadline:
        moved = hierarchy.unified()
        if moved is not None and moved.directory.name == unit:
            return moved
        time.sleep(0.005)
    raise Refused(f"systemd took {unit} but did not move us into it in {_MOVE_TIMEOUT_S:g} s")


def _environment() -> dict[str, str]:
    """Our environment, with the place of the user's bus where a server was started without."""
    if os.geteuid() == 0:
        if not Path("/run/systemd/private").exists():
            raise Refused("systemd does not run here")
        return dict(os.environ)
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    if not (Path(runtime) / "bus").exists():
        raise Refused(f"no systemd user manager answers: there is no {runtime}/bus")
    return {**os.environ, "XDG_RUNTIME_DIR": runtime}


def _busctl(environment: dict[str, str], *words: str) -> str:
    whose = "--system" if os.geteuid() == 0 else "--user"
    try:
        done = subprocess.run(
            ["busctl", whose, f"--timeout={_CALL_TIMEOUT_S}", *words],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_CALL_TIMEOUT_S + 1,
            check=False,
        )
    except subprocess.TimeoutExpired as why:
        raise Refused(f"systemd did not answer in {_CALL_TIMEOUT_S} s") from why
    except OSError as why:
        raise Refused(f"busctl could not be run: {why}") from why
    if done.returncode != 0:
        raise Refused(f"systemd said: {done.stderr.strip() or f'status {done.returncode}'}")
    return done.stdout


def _manager_group(environment: dict[str, str]) -> str:
    """The manager's own cgroup, such as /user.slice/user-1000.slice/user@1000.service."""
    answer = _busctl(environment, "get-property", *_MANAGER, _INTERFACE, "ControlGroup")
    return answer.strip().removeprefix("s ").strip('"')


def _refuse_escape(place: hierarchy.Place, manager: Path) -> None:
    """A limit that stands on our own group, but not on systemd's, is somebody's decision.

    Not pids.max: systemd sets it on every unit, on the scope too (DefaultTasksMax).
    """
    for directory in place.upwards():
        if directory in (manager, *manager.parents):
            continue
        for limit in (cgroup_v2.memory_limit(directory), cgroup_v2.cpu_limit(directory)):
            if limit is not None:
                raise Refused(f"a scope would escape the limit of {limit} on {directory}")


def _start(unit: str, environment: dict[str, str], niceness: int | None) -> None:
    properties = [
        ["Description", "s", "A Jupyter kernel under limits (checkpoint-kernel)"],
        ["PIDs", "au", "1", str(os.getpid())],
        # Without it a daemon-reload silently drops the cap inside.
        ["Delegate", "b", "true"],
        ["MemorySwapMax", "t", "0"],
        ["CollectMode", "s", "inactive-or-failed"],
    ]
    if niceness:
        properties.append(["CPUWeight", "t", str(max(1, round(100 / 1.25**niceness)))])
    # The default, stop, kills the whole scope when one child is OOM-killed. Versions that
    # do not know it for scopes refuse the whole call ("Cannot set property OOMPolicy, or
    # unknown property"); 252 and 257 take it.
    policy = ["OOMPolicy", "s", "continue"]
    try:
        _start_with(unit, [*properties, policy], environment)
    except Refused as why:
        if "OOMPolicy" not in str(why):
            raise
        _start_with(unit, properties, environment)


def _start_with(unit: str, properties: list[list[str]], environment: dict[str, str]) -> None:
    words = [word for one in properties for word in one]
    signature = "ssa(sv)a(sa(sv))"
    call = ["call", *_MANAGER, _INTERFACE, "StartTransientUnit", signature, unit, "fail"]
    _busctl(environment, *call, str(len(properties)), *words, "0")
