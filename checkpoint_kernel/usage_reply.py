"""The answer to `usage_request`: under a memory limit, use against that limit.

JupyterLab's displays (jupyter-resource-usage asks every 5 s) show `kernel_memory`, and
`host_virtual_memory` as the whole of which it is a part. Without a limit ipykernel's own answer
stands. Under a `cpu_limit` too, the processors are those that it allows. Covers the content only;
sending is the kernel's.
"""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Iterable
from typing import Any, Final

import psutil

from .session import Cap, Limit

# Where the machine's own figures are, for who asks for them.
MACHINE: Final = "machine_virtual_memory"


def content(
    cap: Cap, used_bytes: int, kernel_cpu_percent: float, cores: float | None = None
) -> dict[str, Any]:
    """All fields of ipykernel's answer, and some of ours. `cores`: what cpu_limit allows."""
    reply: dict[str, Any] = {
        "hostname": socket.gethostname(),
        "pid": os.getpid(),
        "kernel_cpu": kernel_cpu_percent,
        "kernel_memory": used_bytes,
        "cpu_count": psutil.cpu_count(logical=True),
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
    if cores is not None:
        reply |= _of_cores(cores, kernel_cpu_percent, reply["cpu_count"])
        reply["machine_cpu_count"] = psutil.cpu_count(logical=True)
    return reply


def enforced_cores(limits: Iterable[Limit]) -> float | None:
    """The cpu_limit of a session, if something enforces it."""
    found = (one.configured for one in limits if one.key == "cpu_limit" and one.enforced)
    return next(found, None)


def _of_cores(cores: float, kernel_cpu_percent: float, machine: int | None) -> dict[str, Any]:
    """The machine as cpu_limit makes it: its processors, and how busy these are.

    JupyterLab shows `host_cpu_percent` "used on" `cpu_count` CPUs.
    """
    allowed = cores if machine is None else min(cores, machine)
    return {
        "cpu_count": math.ceil(allowed),
        "host_cpu_percent": round(min(kernel_cpu_percent / allowed, 100.0), 1),
    }


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


def processes(known: dict[int, psutil.Process], pids: Iterable[int]) -> dict[int, psutil.Process]:
    """Those that live, by pid; kept from one answer to the next: CPU use is reckoned in between."""
    found = {}
    for pid in pids:
        try:
            found[pid] = known.get(pid) or psutil.Process(pid)
        except psutil.NoSuchProcess:
            continue
    return found
