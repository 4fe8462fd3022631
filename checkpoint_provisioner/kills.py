"""Judges SIGKILL, and the limits whose signals can also be sent: whose doing it was.

Proof is a counter or a limit of the kernel's own. Pure; a part of `verdict`, which asks first
whether the kernel sent it to itself.
"""

from __future__ import annotations

import signal

from .evidence import Evidence
from .finding import Finding

# earlyoom and systemd-oomd act at about 10 % or below.
LOW_MEMORY = 0.10
# CPU time as proc(5) tells it, in hundredths of a second, against limits in seconds.
CPU_SLACK_S = 0.1


def out_of_memory(evidence: Evidence) -> Finding | None:
    """Who killed for memory. Proof only where the counter is the kernel's own."""
    if evidence.exit is None or evidence.exit.signal != signal.SIGKILL:
        return None
    oom, cap = evidence.oom, evidence.session.cap
    system, likely = "oom-killed-by-system", False
    if oom is not None and oom.own_group and oom.kills > 0:
        because = f"the counter oom_kill of its cgroup rose by {oom.kills}"
        if evidence.kernel_log_read and evidence.kernel_log is None:
            because += ", but the kernel log does not name the kernel: that was a child"
            return Finding("killed", f"{because}, and somebody sent SIGKILL", "likely")
        if oom.own_limit_hit:
            limit = f" of {cap.configured}" if cap else ""
            because += f" when it met the memory limit{limit}"
            return Finding("oom-killed-by-cap", because)
        if oom.outer_limits_hit:
            where = ", ".join(oom.outer_limits_hit)
            because += f", and the limit that was hit is one above it: {where}"
        else:
            because += ", and no limit of a cgroup was hit: the machine ran out of memory"
    elif evidence.kernel_log is not None:
        because = f"the kernel log says: {evidence.kernel_log}"
    elif evidence.kernel_log_read:
        return None  # it names every process that is OOM-killed, and this one it does not
    elif oom is not None and oom.kills > 0:
        because = f"the counter oom_kill of the group that it shares rose by {oom.kills}"
        likely = True
    elif (evidence.system_oom_kills or 0) > 0 and (oom is None or memory_was_low(evidence)):
        # Machine-wide: where our own group's counter stood still and memory was to be had,
        # it was somebody else's process.
        because = (
            "the machine's OOM killer acted at that moment (oom_kill in /proc/vmstat rose by "
            f"{evidence.system_oom_kills})"
        )
        likely = True
    else:
        return None
    return Finding(system, because, "likely" if likely else "proof")


def limit_reached(evidence: Evidence) -> Finding | None:
    """Limits of setrlimit(2). The signals can also be sent: proof is the limit as it stood."""
    ended, limits = evidence.exit, evidence.limits
    if ended is None or limits is None:
        return None
    used_s = limits.cpu_used_s + CPU_SLACK_S
    used = f"it had used {limits.cpu_used_s:.1f} s of CPU time, and its limit (RLIMIT_CPU) is"
    hard_s, soft_s = limits.cpu_hard_s, limits.cpu_soft_s
    if ended.signal == signal.SIGKILL and hard_s is not None and used_s >= hard_s:
        return Finding("cpu-limit", f"SIGKILL: {used} {hard_s} s")
    # The soft limit goes up by a second with each SIGXCPU.
    if ended.signal == signal.SIGXCPU and soft_s is not None and used_s >= soft_s - 1:
        return Finding("cpu-limit", f"SIGXCPU: {used} {soft_s - 1} s")
    if ended.signal == signal.SIGXFSZ and limits.file_bytes is not None:
        because = f"SIGXFSZ: a file met the limit of {limits.file_bytes} bytes (RLIMIT_FSIZE)"
        return Finding("file-size-limit", because)
    return None


def by_somebody(evidence: Evidence) -> Finding:
    """SIGKILL, which neither memory nor a limit explains."""
    if memory_was_low(evidence):
        return Finding(
            "killed",
            f"SIGKILL from outside while less than {LOW_MEMORY:.0%} of the memory was available: "
            "perhaps a userspace OOM daemon (earlyoom, systemd-oomd)",
            "likely",
        )
    if evidence.oom is not None and evidence.oom.kills == 0:
        return Finding("killed", "it was none of ours, and no OOM counter moved")
    if evidence.kernel_log_read:
        because = "it was none of ours, and the kernel log names no OOM kill of it"
        return Finding("killed", because)
    if evidence.system_oom_kills == 0:
        return Finding("killed", "it was none of ours, and the machine's OOM counter did not move")
    return Finding("killed", "it was none of ours, but no OOM counter could be read", "likely")


def memory_was_low(evidence: Evidence) -> bool:
    """Whether so little was available that a userspace OOM daemon may have acted."""
    memory = evidence.memory
    if memory.available_bytes is None or not memory.total_bytes:
        return False
    return memory.available_bytes < LOW_MEMORY * memory.total_bytes
