"""The doctor's checks of what this machine can enforce: memory, swap, cpu, processes, the guard.

What was tried comes from `doctor_probes`. A remedy is one command or setting that would
improve it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .caps import hierarchy
from .doctor_machine import Check
from .doctor_probes import Tried

_SWAPS = Path("/proc/swaps")


def limits(tried: Tried) -> list[Check]:
    """Every limit that a kernel can have, and by what it would be enforced."""
    return [
        *_memory_cap(tried),
        _swap(tried),
        _other(tried.limits["cpu_limit"], "cpu"),
        _other(tried.limits["pids_limit"], "pids"),
        _oom_group(),
        _guard(tried.guard),
        _oom_score(tried.oom_score),
    ]


def _memory_cap(tried: Tried) -> list[Check]:
    cap, refused = tried.cap, "; ".join(tried.refused)
    remedy = _better(cap["backend"], "memory")
    if not cap["enforced"]:
        said = f"memory_limit is stated but not enforced, so the guard alone acts: {refused}"
        return [Check("memory cap", "warn", said, remedy)]
    better = f" (not better: {refused})" if refused else ""
    checks = [Check("memory cap", "ok", f"enforced by {cap['backend']}{better}", remedy)]
    if tried.left is not None:
        checks.append(Check("memory cap", "warn", tried.left, "remove it by hand"))
    return checks


def _swap(tried: Tried) -> Check:
    if len(_SWAPS.read_text("ascii", "replace").splitlines()) < 2:
        return Check("swap", "ok", "this machine has none")
    if not tried.cap["enforced"]:
        remedy = "sudo swapoff -a, or have a memory_limit enforced"
        return Check("swap", "ok", "a kernel may use it, as nothing caps its memory", remedy)
    if tried.swap_forbidden:
        return Check("swap", "ok", "forbidden under memory_limit: a kernel ends rather than crawls")
    said = "not accounted here: near its memory_limit a kernel may crawl before it ends"
    return Check("swap", "warn", said, "boot with swapaccount=1, or sudo swapoff -a")


def _other(limit: dict[str, Any], controller: str) -> Check:
    name = f"{limit['key'].partition('_')[0]} limit"
    if limit["enforced"]:
        return Check(name, "ok", f"{limit['key']} is enforced by {limit['backend']}")
    said = f"{limit['key']} is stated but not enforced: {limit['detail'].partition(': ')[2]}"
    return Check(name, "warn", said, _better(limit["backend"], controller))


def _better(backend: str, controller: str) -> str | None:
    """The one command or setting that would give a better backend, where there is one."""
    root = os.geteuid() == 0
    if backend in ("systemd scope", "cgroup v2") or (backend == "cgroup v1" and root):
        return None
    place = hierarchy.unified()
    if place is None or controller not in hierarchy.controllers(place.mount):
        if place is not None and place.mount == Path("/sys/fs/cgroup"):
            return f"boot with the {controller} controller (without cgroup_disable={controller})"
        return "boot with cgroup v2 (kernel parameter systemd.unified_cgroup_hierarchy=1)"
    if Path("/run/systemd/system").is_dir():
        manager = place.mount / f"user.slice/user-{os.geteuid()}.slice/user@{os.geteuid()}.service"
        if manager.is_dir() and controller not in hierarchy.controllers(manager):
            edit = "sudo systemctl edit user@.service"
            return f"{edit}: under [Service], Delegate=cpu memory pids; then log in again"
        return 'sudo loginctl enable-linger "$USER", and log in again'
    top = place.mount
    return (
        f"in the container's entry point: mkdir {top}/server && echo $$ > "
        f"{top}/server/cgroup.procs && echo +memory +cpu +pids > {top}/cgroup.subtree_control"
    )


def _oom_group() -> Check:
    """Containers under kubelet 1.28 and later have it set: server and kernel die together."""
    name = "memory.oom.group"
    place = hierarchy.unified()
    if place is None or "memory" not in hierarchy.controllers(place.mount):
        return Check(name, "ok", "does not exist without cgroup v2")
    for directory in place.upwards():
        try:
            grouped = (directory / name).read_text("ascii").strip() == "1"
        except OSError:  # the root has none
            continue
        if grouped:
            said = f"{directory} has it set: over its limit, server and kernel die together"
            remedy = "set memory_limit below the container's limit; the next start restores"
            return Check(name, "warn", said, remedy)
    return Check(name, "ok", "not set: a kernel can be killed without its server")


def _guard(refused: str) -> Check:
    """The guard limits a living kernel's data from outside, by prlimit(2)."""
    if not refused:
        said = "a limit set from outside (RLIMIT_DATA) makes an allocation fail and nothing die"
        return Check("memory guard", "ok", said)
    said = f"RLIMIT_DATA of a child has no effect here ({refused}): only the cap acts"
    return Check("memory guard", "warn", said, "allow prlimit64 in the container's seccomp profile")


def _oom_score(refused: str) -> Check:
    if not refused:
        return Check("oom_score_adj", "ok", "can be raised: children are killed before the kernel")
    said = f"cannot be raised ({refused}): the OOM killer may take the kernel before its children"
    return Check("oom_score_adj", "warn", said, "mount /proc writable in the container")
