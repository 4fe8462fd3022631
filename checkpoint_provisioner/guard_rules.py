"""What the guard decides: how much data a kernel may have, when its cell ends, when to look again.

Pure; looking and acting are `guard`'s. The reasons stand in docs/adr/0012.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from checkpoint_kernel import contract

from .caps.meter import Use

# Where even less is left, so much is granted nevertheless: to say what happened, memory is needed.
FLOOR_BYTES = 16 << 20
FLOOR = 0.02
# A cell that begins above the soft limit may grow by this, so that `del x` runs at all.
GROWTH_BYTES = 8 << 20
GROWTH = 0.02
# Nobody fills memory faster: the next look is due when the soft limit could be met.
FILLED_BYTES_PER_S = 2e9
# See `Promised`: in so much processor time a hundred megabytes and more would be touched.
WHILE_S = 0.2
LEAST_SEEN = 6
CHANGE_BYTES = 4 << 20
SHORTEST_TICK_S, IDLE_TICK_S, LONGEST_TICK_S = 0.02, 0.1, 1.0


def data_limit(use: Use, data_bytes: int, promised_bytes: int = 0, snapshot_bytes: int = 0) -> int:
    """RLIMIT_DATA in bytes for a kernel that has `data_bytes` of data now.

    `promised_bytes`: of these, what will be memory soon and is not yet (`Promised`, restored maps).
    `snapshot_bytes`: what only the snapshot process has. It goes first when memory runs out, so
    no cell is refused anything for its sake.
    """
    spoken_for = use.used_bytes - snapshot_bytes + promised_bytes
    left = int(contract.DATA_SHARE * use.limit_bytes) - spoken_for
    floor = min(FLOOR_BYTES, int(FLOOR * use.limit_bytes))
    return data_bytes + max(left, floor)


@dataclass
class Promised:
    """Memory that was allocated and not yet touched, as if it were used.

    Without it an allocation that is being filled counts as data and not as use, and so would
    allow another one of its size. What stays untouched while the kernel works, as stacks of
    threads do, is settled: the floor to which `untouched` comes back, in both halves of a while.
    """

    settled_bytes: int | None = None
    seen: deque[tuple[float, int]] = field(default_factory=deque)

    def update(self, untouched_bytes: int, cpu_s: float) -> int:
        """The promised bytes; `cpu_s` is the processor time that the kernel has used so far."""
        seen = self.seen
        seen.append((cpu_s, untouched_bytes))
        while len(seen) > LEAST_SEEN and cpu_s - seen[1][0] > WHILE_S:
            seen.popleft()
        settled = untouched_bytes if self.settled_bytes is None else self.settled_bytes
        if len(seen) >= LEAST_SEEN and cpu_s - seen[0][0] > WHILE_S:
            values = [value for _, value in seen]
            middle = len(values) // 2
            older, newer = min(values[:middle]), min(values[middle:])
            if abs(older - newer) <= CHANGE_BYTES:  # while it is being filled, it falls
                settled = max(settled, min(older, newer))
        self.settled_bytes = min(settled, untouched_bytes)
        return untouched_bytes - self.settled_bytes


def interrupts_at(soft_bytes: int, limit_bytes: int, used_at_start: int) -> int:
    """The use in bytes from which a cell is interrupted that began with `used_at_start`."""
    growth = max(GROWTH_BYTES, int(GROWTH * limit_bytes))
    return max(soft_bytes, used_at_start + growth)


def next_tick_s(used_bytes: int, soft_bytes: int, busy: bool) -> float:
    """Seconds until memory is to be looked at again."""
    soon = (soft_bytes - used_bytes) / FILLED_BYTES_PER_S
    return min(max(soon, SHORTEST_TICK_S if busy else IDLE_TICK_S), LONGEST_TICK_S)
