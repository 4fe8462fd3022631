"""What our own kernel says about its work: the figures behind `%checkpoint`.

Empty for other peers, and where the kernel does not answer.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernels import CellFailed, Kernel
from peers import Ours, Peer

_CHECKPOINTER = "get_ipython().kernel.checkpointer"
_SETTLED = f"{_CHECKPOINTER}.settled"


@dataclass(frozen=True)
class Engine:
    """Since the kernel's start, or between two moments."""

    pauses_s: tuple[float, ...]  # of the main thread; the last 1,000
    checkpoints: int
    write_s: float | None  # of the newest: from the fork to the commit


def engine(peer: Peer, kernel: Kernel) -> Engine | None:
    """The figures now; None where there are none."""
    if not isinstance(peer, Ours):
        return None
    try:
        pauses_s, count, write_s = kernel.value(
            f"[{_SETTLED}.pauses_s, {_SETTLED}.count, {_SETTLED}.write_s]"
        )
    except CellFailed:
        return None
    return Engine(tuple(pauses_s), count, write_s)


def since(before: Engine | None, after: Engine | None) -> Engine | None:
    """What it did between two looks."""
    if before is None or after is None:
        return None
    new = len(after.pauses_s) - len(before.pauses_s)
    pauses_s = after.pauses_s[-new:] if new > 0 else ()
    return Engine(pauses_s, after.checkpoints - before.checkpoints, after.write_s)


def at_rest(peer: Peer, kernel: Kernel) -> bool:
    """No checkpoint is under way or due. True where nobody can tell."""
    if not isinstance(peer, Ours):
        return True
    try:
        running, stale = kernel.value(
            f"[{_CHECKPOINTER}.running, {_CHECKPOINTER}.stale_since is not None]"
        )
    except CellFailed:
        return True
    return not running and not stale
