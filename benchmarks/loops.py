"""W7: user code that looks up globals a million times, in turn in both kernels.

Two ratios: of the code's own time, which a peer slows by what it does to the namespace or
in its threads, and of the cell as its user sees it.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field

from kernels import CellFailed, CutOff, two_kernels
from peers import Peer
from side import PAUSE_S

_SETUP = "from time import perf_counter\ndef f(x):\n    return x + K\nK, s, inside = 1, 0, []"


@dataclass
class Looped:
    """Ratios, the peer's time over stock's, one per pair."""

    peer: str
    stock_s: float | None = None
    cell_ratios: list[float] = field(default_factory=list)
    inside_ratios: list[float] = field(default_factory=list)
    trouble: str | None = None


def loop(peer: Peer, scale: float, pairs: int, limit_s: float) -> Looped:
    """Run it. Never raises for what the peer does: that is in `trouble`."""
    done = Looped(peer.name)
    rounds = max(1000, int(1_000_000 * scale))
    code = (
        "began = perf_counter(); s = 0\n"
        f"for q in range({rounds}):\n    s = f(s)\n"
        "inside.append(perf_counter() - began)"
    )
    deadline = time.monotonic() + limit_s
    stock_s: list[float] = []
    try:
        with two_kernels(peer.stock(), peer.start(), deadline) as (stock, tested):
            peer.attach(tested)
            for one in (stock, tested):
                one.run(_SETUP)
                one.run(code)  # the interpreter specializes the loop
            for turn in range(pairs):
                time.sleep(PAUSE_S)
                both = [stock, tested] if turn % 2 == 0 else [tested, stock]
                took = {id(one): one.run(code).took_s for one in both}
                stock_s.append(took[id(stock)])
                done.cell_ratios.append(took[id(tested)] / took[id(stock)])
            plain, ours = (one.value("inside")[1:] for one in (stock, tested))
            done.inside_ratios = [a / b for a, b in zip(ours, plain, strict=True)]
            done.stock_s = statistics.median(stock_s)
    except CutOff:
        done.trouble = f"cut off after {limit_s:.0f} s"
    except (CellFailed, RuntimeError, OSError) as why:
        done.trouble = f"failed: {why}"
    finally:
        peer.clear()
    return done
