"""Whether dill and cloudpickle alone round-trip the rows, and pass the same checks.

Each tool dumps the names of one row together, and loads them in a fresh process which has the
row's imports; nothing more is asked of it. A crash or a hang costs the row that caused it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from all_rows import Placed, batches

TOOLS = ("dill", "cloudpickle")
_PROGRAM = Path(__file__).with_name("peer_program.py")


def run(tool: str, rows: Sequence[Placed]) -> dict[str, str]:
    """What went wrong with each row, by title; an empty text where it came back and works."""
    wrong: dict[str, str] = {}
    for batch in batches(rows):
        with tempfile.TemporaryDirectory() as directory:
            for verb in ("make", "check"):
                left = [p for p in batch if not wrong.get(p.row.title)]
                wrong |= _in_processes(verb, tool, left, Path(directory))
    return wrong


def _in_processes(verb: str, tool: str, rows: Sequence[Placed], directory: Path) -> dict[str, str]:
    wrong: dict[str, str] = {}
    while waiting := [placed for placed in rows if placed.row.title not in wrong]:
        described = [
            {"title": p.row.title, "prefix": p.prefix, "make": p.make, "check": p.check}
            for p in waiting
        ]
        listed = directory / "rows.json"
        listed.write_text(json.dumps(described))
        shown = directory / "answers"
        with open(shown, "wb") as answers:
            process = subprocess.Popen(
                [sys.executable, str(_PROGRAM), verb, tool, str(listed), str(directory)],
                stdout=answers, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
                cwd=directory, start_new_session=True,
            )  # fmt: skip
            process.wait()
        _end_group(process.pid)
        begun, lines = None, shown.read_text().splitlines()
        for line in lines:
            answer = json.loads(line)
            begun = answer.get("begins")
            if begun is None:
                why = f"{verb}: {answer['why']}" if answer["why"] else ""
                wrong[answer["ends"]] = why
        if begun is not None:
            how = (
                "hangs"
                if process.returncode == -14
                else f"kills the process ({process.returncode})"
            )
            wrong[begun] = f"{verb}: {how}"
        elif not lines:
            raise RuntimeError(f"{_PROGRAM.name} {verb} {tool} did nothing: {process.returncode}")
    return wrong


def _end_group(leader: int) -> None:
    """What rows have started: `sleep 60`, the workers of a pool."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        pass  # nothing was left
