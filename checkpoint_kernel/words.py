"""How numbers are said to people, in the kernel and on the server alike. Standard library only."""

from __future__ import annotations


def size(count_bytes: float) -> str:
    """`12.3 MB`; powers of 1024, as in the config."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if count_bytes < 1024:
            return f"{count_bytes:.0f} {unit}" if unit == "bytes" else f"{count_bytes:.1f} {unit}"
        count_bytes /= 1024
    return f"{count_bytes:.1f} TB"


def age(seconds: float) -> str:
    """`0.8 s`, `12 s`, `3 min`, `2 h`, `4 days`; never negative, clocks being what they are."""
    seconds = max(seconds, 0.0)
    if seconds < 10:
        return f"{seconds:.1f} s"
    for limit, unit, length in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86_400:.0f} days"
