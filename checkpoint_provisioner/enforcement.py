"""How strongly the memory of a kernel was limited: one word and one sentence. Pure."""

from __future__ import annotations

from typing import Literal

from checkpoint_kernel.session import Cap

Level = Literal["none", "hard", "guard", "not-enforced"]


def level(cap: Cap | None) -> Level:
    """`hard`: the operating system kills at the limit; `guard`: only ours interrupts near it."""
    if cap is None:
        return "none"
    if cap.enforced:
        return "hard"
    return "guard" if cap.guarded else "not-enforced"


def sentence(cap: Cap | None) -> str:
    """The same for people, with the limit as configured and why it is no better."""
    if cap is None:
        return "No memory_limit was set: only what the machine or the container has was the limit."
    limit = f"The memory limit of {cap.configured}"
    words = {
        "hard": f"{limit} was enforced by {cap.backend}: {cap.detail}.",
        "guard": f"{limit} was watched by the guard alone, which interrupts cells and cannot stop "
        f"one call that takes too much: {cap.detail}.",
        "not-enforced": f"{limit} was not enforced: {cap.detail}.",
    }
    return words[level(cap)].replace("..", ".")
