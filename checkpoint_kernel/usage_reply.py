"""The answer to `usage_request`: under a memory limit, use against that limit.

JupyterLab's displays (jupyter-resource-usage asks every 5 s) show `kernel_memory`, and
`host_virtual_memory` as the whole of which it is a part. Without a limit ipykernel's own answer
stands. Covers the content only; sending is the kernel's.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from typing import Any, Final

import psutil

from .session import Cap

# Where the machine's own figures are, for who asks for them.
MACHINE: Final = "machine_virtual_memory"


def is_in_force(cap: Cap) -> bool:
    """Something acts on it: a cgroup at the cap, or the guard at the soft limit."""
    return cap.enforced or cap.soft_bytes < cap.cap_bytes


def content(cap: Cap, used_bytes: int, kernel_cpu_percent: float) -> dict[str, Any]:
    """All fields of ipykernel's answer, and two of ours."""
    reply: dict[str, Any] = {
        "hostname": socket.gethostname(),
        "pid": os.getpid(),
        "kernel_cpu": kernel_cpu_percent,
        "kernel_memory": used_bytes,
        "cpu_count": _processors(cap),
        "host_virtual_memory": against(cap, used_bytes),
        MACHINE: dict(psutil.virtual_memory()._asdict()),
        "memory_limit": {
            "configured": cap.configured,
            "cap_bytes": cap.cap_bytes,
            "soft_bytes": cap.soft_bytes,
            "backend": cap.backend,
            "enforced": cap.enforced,
        },
    }
    machine_cpu_percent = psutil.cpu_percent()
    if machine_cpu_percent:  # its first answer is a meaningless 0.0
        reply["host_cpu_percent"] = machine_cpu_percent
    return reply


def against(cap: Cap, used_bytes: int) -> dict[str, Any]:
    """Like psutil.virtual_memory(), of a machine that has as much memory as the cap allows."""
    left_bytes = max(cap.cap_bytes - used_bytes, 0)
    return {
        "total": cap.cap_bytes,
        "available": left_bytes,
        "percent": round(100 * used_bytes / cap.cap_bytes, 1),
        "used": used_bytes,
        "free": left_bytes,
        "active": used_bytes,
        "inactive": 0,
    }


def _processors(_cap: Cap) -> int | None:
    """How many `kernel_cpu` may come to, in hundreds of percent. A `cpu_limit` belongs here."""
    return psutil.cpu_count(logical=True)


def processes(known: dict[int, psutil.Process], pids: Iterable[int]) -> dict[int, psutil.Process]:
    """Those that live, by pid; kept from one answer to the next: CPU use is reckoned in between."""
    found = {}
    for pid in pids:
        try:
            found[pid] = known.get(pid) or psutil.Process(pid)
        except psutil.NoSuchProcess:
            continue
    return found
