"""What a restore could not load can be had later, whatever has been run since."""

from __future__ import annotations

import re
from pathlib import Path

from harness.records import checkpoints, wait_for_checkpoint
from harness.server import JupyterServer


def test_a_variable_whose_package_was_missing_comes_back_once_it_is_there(
    server: JupyterServer, notebook_path: str, tmp_path: Path
) -> None:
    library = tmp_path / "shortlived.py"
    library.write_text("class Thing:\n    weight = 7\n")
    spec = server.environment.kernelspec("resilient-keep-two", keep=2)
    notebook = server.open(notebook_path, spec)
    path = f"import sys; sys.dont_write_bytecode = True; sys.path.append({str(tmp_path)!r})"
    made = notebook.run(f"{path}\nimport shortlived\nthing = shortlived.Thing(); x = 0").ok()
    wait_for_checkpoint(notebook, made.execution_count)
    hidden = library.rename(tmp_path / "away")
    notebook.kill_kernel()
    told = notebook.run("x += 1").ok().prose
    assert "not back: shortlived (module): the package shortlived is not installed" in told
    command = re.search(r"%checkpoint restore \S+ shortlived thing", told)
    assert command is not None, told

    for _ in range(2):  # more cells than are kept, and another death
        for _ in range(3):
            result = notebook.run("x += 1").ok()
            wait_for_checkpoint(notebook, result.execution_count)
        notebook.kill_kernel()
    notebook.run("x").ok()
    hidden.rename(library)
    notebook.run(f"{path}\n%checkpoint restore thing").ok()
    assert notebook.run("thing.weight, x").ok().value == "(7, 7)"

    notebook.run(command[0]).ok()
    for _ in range(4):
        result = notebook.run("x += 1").ok()
        wait_for_checkpoint(notebook, result.execution_count)
    assert len(checkpoints(notebook)) == 2  # nothing is left behind any more
    notebook.close()
