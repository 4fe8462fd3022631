"""What a limit such as `8G` or `50%` comes to in bytes, on this machine or in this container.

Knows MemTotal and the limits of the enclosing cgroups; enforces nothing.
"""

from __future__ import annotations

from pathlib import Path

from checkpoint_provisioner.config import parse_percent, parse_size

from . import cgroup_v1, cgroup_v2


def resolve(text: str, of_bytes: int) -> int:
    """Bytes of a size, or of a percentage of `of_bytes`. ValueError for anything else."""
    share = parse_percent(text)
    return parse_size(text) if share is None else int(of_bytes * share)


def memory_total(meminfo: Path = Path("/proc/meminfo")) -> int:
    """MemTotal in bytes."""
    for line in meminfo.read_text("ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "MemTotal":
            return int(value.split()[0]) * 1024
    raise OSError(f"{meminfo} has no MemTotal")


def available_bytes() -> int:
    """What the machine has, or less where an enclosing cgroup allows less."""
    return min([memory_total(), *enclosing().values()])


def enclosing() -> dict[str, int]:
    """Limits that stand on our own group or above: directory -> bytes."""
    return {**cgroup_v1.enclosing_limits(), **cgroup_v2.enclosing_limits()}
