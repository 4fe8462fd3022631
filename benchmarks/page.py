"""The page that is written to results.md: machine, versions, command, and the tables."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import tables
import targets
from cells import Measured
from long_cell import Trained
from loops import Looped
from peers import OURS
from worst import Worst

_PACKAGES = (
    *("checkpoint-kernel", "ipykernel", "ipython", "jupyter_client", "pyzmq", "numpy", "pandas"),
    *("scikit-learn", "torch", "dill", "cloudpickle"),
)


@dataclass
class Results:
    """All that one run has found so far."""

    titles: dict[str, str] = field(default_factory=dict)
    measured: list[Measured] = field(default_factory=list)
    trained: list[Trained] = field(default_factory=list)
    looped: list[Looped] = field(default_factory=list)
    worst: list[Worst] = field(default_factory=list)
    grown: list[Measured] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)  # what was left out, and why


def machine(directory: Path) -> str:
    """Hardware, system and the disk that the stores lie on."""
    memory = _first("/proc/meminfo", "MemTotal").split()
    gib = int(memory[0]) / 2**20 if memory else 0
    pages = _read("/sys/kernel/mm/transparent_hugepage/enabled")
    chosen = pages.partition("[")[2].partition("]")[0] or "unknown"
    return (
        f"{os.cpu_count()} cores ({_first('/proc/cpuinfo', 'model name')}), {gib:.0f} GiB, "
        f"{platform.system()} {platform.release()}, huge pages {chosen}, "
        f"stores on {_file_system(directory)}; Python {platform.python_version()}"
    )


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _first(path: str, key: str) -> str:
    for line in _read(path).splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def _file_system(directory: Path) -> str:
    """The type of the file system that `directory` lies on."""
    best, kind = "", "an unknown file system"
    for line in _read("/proc/self/mounts").splitlines():
        _device, place, this, *_ = line.split()
        if (directory == Path(place) or Path(place) in directory.parents) and len(place) >= len(
            best
        ):
            best, kind = place, this
    return kind


def versions(peers: Mapping[str, str | None]) -> str:
    """Of the packages that matter, and of peers that are installed elsewhere."""
    found = []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"no {package}")
    return ", ".join(found + [f"{name} {number}" for name, number in peers.items()])


def text(results: Results, about: Sequence[str], scale: float) -> str:
    """The whole page, in Markdown."""
    ours = [row for row in results.measured if row.peer == OURS]
    verdicts = targets.judge(
        ours,
        [row for row in results.trained if row.peer == OURS],
        [row for row in results.looped if row.peer == OURS],
    )
    met = sum(verdict.met for verdict in verdicts)
    asked = " ".join(["make bench", *_arguments()])
    lines = ["# Benchmark results", "", f"`{asked}`, {datetime.now(UTC):%Y-%m-%d}.", ""]
    lines += [f"- {line}" for line in about]
    if scale != 1:
        lines.append(f"- Sizes are {scale:g} of the full ones; the targets are for the full ones.")
    lines += [f"- {remark}" for remark in results.remarks]
    lines += ["", *_HOW.strip().splitlines(), ""]
    lines += [f"- {name}: {title}" for name, title in results.titles.items()]
    sections = (
        (f"Targets: {met} of {len(verdicts)} met", verdicts and targets.table(verdicts)),
        ("Side by side", results.measured and tables.side_by_side(results.measured)),
        ("W5: ten epochs in one cell", results.trained and tables.long_cells(results.trained)),
        ("W7: 1 M global lookups in a cell", results.looped and tables.loops(results.looped)),
        ("The worst cell", results.worst and tables.worst_cells(results.worst)),
        ("The same cell with more beside it", results.grown and tables.growth(results.grown)),
        ("What of the waiting is our pause", ours and tables.pauses(results.measured)),
    )
    for title, body in sections:
        if body:
            lines += ["", f"## {title}", "", body]
    return "\n".join(lines) + "\n"


def _arguments() -> list[str]:
    return [f"ARGS={shlex.quote(' '.join(sys.argv[1:]))}"] if sys.argv[1:] else []


_HOW = """
`added` is what a peer adds to a cell against a stock kernel that runs the same cells in turn,
as the user sees it: from the execute request to the reply and the idle status. `typing`: a
pause of 0.3 s before each pair of cells; `run all`: ten cells back to back in one kernel, then
in the other. The row `stock (a second one)` is the noise of the method. `processor` is what
kernel, supervisor and snapshot processes work more than the stock kernel, per cell while
typing. `extra memory` is the peak of the proportional set sizes of all of them, less the stock
kernel's peak. `restore` is the time from the start of the new processes until the variables
are usable, less a bare start that imports the same libraries: the median of several kills.
`back` compares digests of the values after SIGKILL with those before.
"""
