"""Evidence of made-up deaths for unit tests, and the schema of their records."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

from checkpoint_kernel.flight_recorder import Flight
from checkpoint_kernel.session import Cap, Plan, Session, Settings
from checkpoint_provisioner import report
from checkpoint_provisioner.evidence import Evidence, Exit, Memory, OomKills
from checkpoint_provisioner.verdict import judge

SCHEMA: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "docs" / "death-record.schema.json").read_text("utf-8")
)
MIB = 1 << 20
GIB = 1 << 30
CAP = Cap("700M", 700 * MIB, 595 * MIB, "cgroup v1", True, "by /sys/fs/cgroup/memory/x")
OOM = OomKills(1, True, ())
# A trace of faulthandler whose innermost line is the given line of the cell.
TRACE = """Fatal Python error: Segmentation fault

Current thread 0x00007f (most recent call first):
  File "/env/lib/python3.11/site-packages/scipy/linalg/basic.py", line 9 in solve
  File "/tmp/ipykernel_7/1.py", line {line} in <module>
"""


def busy(cell: str, line: int | None = 1, **fields: Any) -> Flight:
    """A flight recorder that says that `cell` is running."""
    values: dict[str, Any] = {
        "pid": 7,
        "state": "busy",
        "execution_count": 3,
        "cell_source": cell,
        "cell_file": "/tmp/ipykernel_7/1.py",
        "cell_started": 980.0,
        "line": line,
        "cells_started": 3,
    }
    return Flight(**{**values, **fields})


def evidence(
    number: int | None = None,
    code: int | None = None,
    *,
    cell: str = "crash()",
    cap: Cap | None = None,
    plan: Plan | None = None,
    at: float = 1000.0,
    **fields: Any,
) -> Evidence:
    """Of an exit by signal `number` or with `code`, while `cell` ran; of neither: unseen."""
    started = Session(
        id="s", line="s", started=at - 100.0, kernel_id="k", notebook="/n.ipynb",
        notebook_directory="", key_file="", supervisor_pid=1, boot_id="", settings=Settings(),
        plan=plan or Plan("clean", ""), cap=cap,
    )  # fmt: skip
    ended = None if number is None and code is None else Exit(code, number)
    values: dict[str, Any] = {
        "session": started, "exit": ended, "time": at, "uptime_s": 100.0, "flight": busy(cell),
    }  # fmt: skip
    return Evidence(**{**values, **fields})


def out_of_memory(cell: str, cap: Cap = CAP, total_bytes: int = 16 * GIB, **fields: Any) -> Any:
    """Evidence of an OOM kill by the cap, in the first line of `cell`."""
    memory = Memory(
        rss_bytes=cap.cap_bytes - 9 * MIB,
        peak_bytes=cap.cap_bytes,
        limit_bytes=cap.cap_bytes,
        total_bytes=total_bytes,
    )
    given = {"cap": cap, "oom": OOM, "memory": memory, **fields}
    return evidence(signal.SIGKILL, cell=cell, **given)


def record_of(found: Evidence, earlier: Any = ()) -> dict[str, Any]:
    """As the supervisor writes it and a reader gets it back."""
    built: dict[str, Any] = json.loads(json.dumps(report.build(found, judge(found), earlier)))
    return built
