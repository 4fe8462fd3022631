"""Run by `coverage_peers`: makes rows and dumps them with one tool, or loads and checks them.

    python peer_program.py (make | check) (dill | cloudpickle) ROWS.json DIRECTORY

Prints one JSON line when a row begins and one when it ends. A row that hangs is ended by
SIGALRM, and this process with it: whoever started it goes on with the next row.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import signal
import sys
import types
from pathlib import Path

LIMIT_S = 10


def main() -> None:
    verb, tool_name, rows_file, directory = sys.argv[1:]
    sys.argv = [""]
    # Rows see a __main__ of their own; dill looks for it when it is imported.
    sys.modules["__main__"] = types.ModuleType("__main__")
    namespace = vars(sys.modules["__main__"])
    tool = importlib.import_module(tool_name)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what rows print is of no interest
    for row in json.loads(Path(rows_file).read_text()):
        path = Path(directory) / f"{row['prefix']}.pkl"
        if verb == "check" and not path.exists():
            continue
        print(json.dumps({"begins": row["title"]}), file=answers, flush=True)
        signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
        try:
            if verb == "make":
                make(tool, row, path, namespace)
            else:
                check(tool, row, path, namespace)
            why = ""
        except BaseException as failed:
            why = f"{type(failed).__name__}: {str(failed)[:200]}"
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps({"ends": row["title"], "why": why}), file=answers, flush=True)
    answers.flush()
    os._exit(0)  # threads and pools of rows need not end


def make(tool: types.ModuleType, row: dict[str, str], path: Path, namespace: dict) -> None:
    exec(compile(row["make"], "<make>", "exec"), namespace)
    names = [name for name in namespace if name.startswith(row["prefix"])]
    path.write_bytes(tool.dumps({name: namespace[name] for name in names}))


def check(tool: types.ModuleType, row: dict[str, str], path: Path, namespace: dict) -> None:
    tree = ast.parse(row["make"])
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    exec(compile(ast.Module(imports, []), "<imports>", "exec"), namespace)
    namespace.update(tool.loads(path.read_bytes()))
    exec(compile(row["check"], "<check>", "exec"), namespace)


if __name__ == "__main__":
    main()
