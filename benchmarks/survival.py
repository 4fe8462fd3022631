"""Runs the survival matrix, and what the guard costs; writes docs/survival.md.

    python benchmarks/survival.py            (make survival)

Real kernels under a limit of 500 MB, one for each workload and column. Linux, and a cgroup
that we may make: elsewhere it says so and leaves.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "deaths"), str(ROOT / "tests")]

from victim import Victim  # noqa: E402
from workloads import WORKLOADS, Workload, missing  # noqa: E402

CAP = "500M"
FIXED = (
    "import resource\nhard = resource.getrlimit(resource.RLIMIT_DATA)[1]\n"
    "resource.setrlimit(resource.RLIMIT_DATA, (500 << 20, hard))"
)
COLUMNS: tuple[tuple[str, str, str], ...] = (
    # heading, soft_limit, cell that is run first
    ("cgroup alone", "100%", "keep = 41"),
    ("fixed RLIMIT_DATA + cgroup", "100%", f"keep = 41\n{FIXED}"),
    ("guard + cgroup", "85%", "keep = 41"),
)
COST_S = 20.0


def main() -> None:
    """Write the page."""
    root = Path(tempfile.mkdtemp(prefix="survival-"))
    for variable, name in (
        ("JUPYTER_DATA_DIR", "data"),
        ("JUPYTER_RUNTIME_DIR", "runtime"),
        ("IPYTHONDIR", "ipython"),
        ("TMPDIR", "."),
    ):
        os.environ[variable] = str(root / name)
    backend = _backend(root)
    rows = []
    for workload in WORKLOADS:
        cells = [_outcome(root, workload, soft, first) for _, soft, first in COLUMNS]
        rows.append(f"| {workload.name} | {' | '.join(cells)} |")
        print(rows[-1], flush=True)
    costs = _costs(root)
    page = _page(backend, rows, costs)
    (ROOT / "docs" / "survival.md").write_text(page, "utf-8")
    print(page)


def _backend(root: Path) -> str:
    victim = Victim(root, config={"memory_limit": CAP})
    cap = victim.session().cap
    victim.close()
    if cap is None or not cap.enforced:
        sys.exit(f"nothing enforces a limit here: {cap}")
    return cap.backend


def _outcome(root: Path, workload: Workload, soft_limit: str, first: str) -> str:
    why = missing(workload)
    if why:
        return f"({why})"
    victim = Victim(root, config={"memory_limit": CAP, "soft_limit": soft_limit})
    try:
        victim.run(first)
        ended = _run(victim, workload.code)
        if ended is None:
            record = victim.death()
            return f"**dead** ({record['cause']}, line {record['line']})"
        time.sleep(1)  # what comes at once after an error is aborted
        lives = _run(victim, "assert keep == 41") == "ok"
        return f"survives ({ended})" if lives else f"lives, and its namespace does not ({ended})"
    finally:
        victim.close()


def _run(victim: Victim, code: str, limit_s: float = 90.0) -> str | None:
    """How the cell ended: ok, the error's name, or "stopped" by us; None: the kernel is dead."""
    request = victim.client.execute(code)
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        try:
            reply: dict[str, Any] = victim.client.get_shell_msg(timeout=0.5)
        except Exception:  # queue.Empty, by whatever name this version has for it
            if not victim.manager.is_alive():
                victim.wait_for_death()
                return None
            continue
        if reply["parent_header"].get("msg_id") == request:
            content = reply["content"]
            return str(content.get("ename") or content["status"])
    victim.manager.interrupt_kernel()  # as a person would who has waited in vain
    try:
        victim.client.get_shell_msg(timeout=20)
    except Exception:  # queue.Empty: it does not even answer that
        return "does not end"
    return "does not end by itself"


# --- what it costs -----------------------------------------------------------------------------


def _costs(root: Path) -> list[tuple[str, float]]:
    """(what, share of one core) of the supervisor, guard off and on, over `COST_S`."""
    fill = "x = bytearray({mb} << 20)\nfor i in range(0, len(x), 4096): x[i] = 1"
    busy = "import time\nend = time.time() + 25\nwhile time.time() < end: sum(range(1000))"
    cases: tuple[tuple[str, dict[str, str], str, str], ...] = (
        ("no limit", {}, "pass", busy),
        ("limit 500M, guard off", {"memory_limit": CAP, "soft_limit": "100%"}, "pass", busy),
        ("limit 8G, far from it, a cell runs", {"memory_limit": "8G"}, "pass", busy),
        ("limit 8G, far from it, idle", {"memory_limit": "8G"}, "pass", "pass"),
        ("limit 500M, far from it, a cell runs", {"memory_limit": CAP}, "pass", busy),
        ("limit 500M, near it, a cell runs", {"memory_limit": CAP}, fill.format(mb=340), busy),
        ("limit 500M, near it, idle", {"memory_limit": CAP}, fill.format(mb=340), "pass"),
    )
    found = []
    for name, config, first, then in cases:
        victim = Victim(root, config=config)
        victim.run(first)
        victim.begin(then)
        time.sleep(2)
        found.append((name, _share(victim.supervisor_pid)))
        print(f"{name}: {found[-1][1]:.2%}", flush=True)
        victim.close()
    return found


def _share(pid: int) -> float:
    before, began = _cpu_s(pid), time.monotonic()
    time.sleep(COST_S)
    return (_cpu_s(pid) - before) / (time.monotonic() - began)


def _cpu_s(pid: int) -> float:
    words = Path(f"/proc/{pid}/schedstat").read_text().split()
    return int(words[0]) / 1e9


def _page(backend: str, rows: list[str], costs: list[tuple[str, float]]) -> str:
    heads = " | ".join(heading for heading, _, _ in COLUMNS)
    lines = [
        "# Survival",
        "",
        f"Real kernels under a memory limit of {CAP}, each cell in a kernel of its own. One that",
        "survives has its namespace. Written by `make survival`:",
        f"{backend}, Linux {platform.release()}, Python {platform.python_version()}.",
        "",
        f"| the cell | {heads} |",
        "|---|---|---|---|",
        *rows,
        "",
        "Processor time of the supervisor, all that it does, as a share of one core:",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {share:.2%} |" for name, share in costs),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
