"""Stands in for the supervisor: caps a child, lets it do one thing, prints what it saw as JSON.

capped_program.py LIMIT WHAT     WHAT: eat MIB | reload-eat MIB | worker-eats MIB | flock |
                                       forks N | spins SECONDS | nothing

`reload-eat` has systemd read its configuration again before the child eats; `forks` ends with
the number of children that could be had. LIMITS in the environment, such as
`{"cpu_limit": 0.3}`, go beside LIMIT, which is memory's.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

from checkpoint_provisioner.caps import policy


def eat(mib: int) -> None:
    held = bytearray(mib << 20)
    held[::4096] = b"x" * len(held[::4096])


def worker_eats(mib: int) -> None:
    """A child of the kernel dies of the cap, the kernel itself lives on."""
    pid = os.fork()
    if pid == 0:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
        eat(mib)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    os._exit(17 if os.waitstatus_to_exitcode(status) == -9 else 18)


def flock() -> NoReturn:
    for _ in range(5):
        if os.fork() == 0:
            break
    while True:
        time.sleep(60)


def forks(count: int) -> NoReturn:
    had = 0
    for _ in range(count):
        try:
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)
            had += 1
        except BlockingIOError:  # EAGAIN, and no other error
            break
    time.sleep(0.1)
    os._exit(had)


def spins(seconds: float) -> NoReturn:
    """Ends with the percentage of a core that it got."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    os._exit(min(round(100 * time.process_time() / seconds), 254))


def main() -> None:
    limit, what, *more = sys.argv[1:]
    others = json.loads(os.environ.get("LIMITS", "{}"))
    memory = None if limit == "none" else limit
    handle = policy.prepare(memory, "50%", "test kernel/1", **others)
    before = handle.counters()
    if what == "reload-eat":
        whose = ["--user"] if os.geteuid() else []
        subprocess.run(["systemctl", *whose, "daemon-reload"], check=True, timeout=60)
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            os.setsid()
            handle.enter()
            code = 0
            if what.endswith("eat"):
                eat(int(more[0]))
            elif what == "worker-eats":
                worker_eats(int(more[0]))
            elif what == "flock":
                flock()
            elif what == "forks":
                forks(int(more[0]))
            elif what == "spins":
                spins(float(more[0]))
            elif what == "nothing":
                code = os.getpriority(os.PRIO_PROCESS, 0)
        finally:
            os._exit(code)
    seen: list[int] = []
    grouped = any(limit is not None and limit.cgroup for limit in (handle.cap, *handle.limits))
    if what == "flock":
        deadline = time.monotonic() + 20
        while grouped and len(seen) < 6 and time.monotonic() < deadline:
            time.sleep(0.02)
            seen = handle.pids()
        handle.kill_all()
        if not grouped:  # nothing else would end them; its flock of forks may be yet to come
            time.sleep(1)
            os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    after = handle.counters()
    handle.kill_all()
    if not grouped:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    directory = handle.cap.cgroup if handle.cap else None
    closed = handle.close()
    print(
        json.dumps(
            {
                "cap": asdict(handle.cap) if handle.cap else None,
                "limits": {limit.key: asdict(limit) for limit in handle.limits},
                "before": asdict(before),
                "after": asdict(after),
                "status": os.waitstatus_to_exitcode(status),
                "pids": seen,
                "left": handle.pids(),
                "closed": closed,
                "closed_again": handle.close(),
                "after_close": asdict(handle.counters()),
                "gone": directory is not None and not Path(directory).exists(),
                "left_groups": [
                    limit.cgroup
                    for limit in handle.limits
                    if limit.cgroup is not None and Path(limit.cgroup).exists()
                ],
                "own": Path("/proc/self/cgroup").read_text(),
            }
        )
    )


if __name__ == "__main__":
    main()
