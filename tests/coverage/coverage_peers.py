"""Whether dill and cloudpickle alone round-trip the rows, and pass the same checks.

Each tool dumps the names of one row together, and loads them in a fresh process which has the
row's imports; nothing more is asked of it. A crash or a hang costs the row that caused it.
"""

from __future__ import annotations

import json
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
        done = subprocess.run(
            [sys.executable, str(_PROGRAM), verb, tool, str(listed), str(directory)],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
            cwd=directory, text=True, start_new_session=True,
        )  # fmt: skip
        begun = None
        for line in done.stdout.splitlines():
            answer = json.loads(line)
            begun = answer.get("begins")
            if begun is None:
                why = f"{verb}: {answer['why']}" if answer["why"] else ""
                wrong[answer["ends"]] = why
        if begun is not None:
            how = "hangs" if done.returncode == -14 else f"kills the process ({done.returncode})"
            wrong[begun] = f"{verb}: {how}"
        elif not done.stdout:
            raise RuntimeError(f"{_PROGRAM.name} {verb} {tool} did nothing: {done.returncode}")
    return wrong
