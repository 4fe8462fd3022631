"""What kills or hangs whoever loads it costs itself: one restart finds all, and none is tried again
unasked. What needs a package that is gone is back once that is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.notebook import Notebook
from harness.records import sessions, wait_for_checkpoint, wait_until
from harness.server import JupyterServer

# Saved without a murmur; loading one runs its code. The length decides who is loaded first.
CELL = """\
import ctypes, os, signal, time
class Hostile:
    def __init__(self, code): self.code = code
    def __reduce__(self): return (eval, (self.code,))
# The lock is taken by the same thread twice, in compiled code that keeps the interpreter.
C = "(c := __import__('ctypes'), p := c.PyDLL(None), m := c.create_string_buffer(64))"
C += " and p.pthread_mutex_lock(m) + p.pthread_mutex_lock(m)"
sleeps = Hostile("__import__('time').sleep(999)")
stands = Hostile(C)
faults = [Hostile("__import__('ctypes').string_at(0)" + " " * 300)]
leaves = (Hostile("__import__('os')._exit(3)" + " " * 400), 1)
aborts = {1: Hostile("__import__('os').abort()" + " " * 500)}
"""
HOSTILE = ("sleeps", "stands", "faults", "leaves", "aborts")
GOOD = "\n".join(f"good_{n} = [{n}, 'x' * {n * 100}]" for n in range(20))


def impatient(server: JupyterServer, name: str, **variables: str) -> str:
    """A kernelspec whose kernels have these environment variables."""
    spec = server.environment.kernelspec(name)
    root = server.environment.prefix / "share" / "jupyter" / "kernels"
    path = root / spec / "kernel.json"
    content = json.loads(path.read_text())
    content["env"] = {**content.get("env", {}), **variables}
    path.write_text(json.dumps(content))
    return spec


def deaths(notebook: Notebook) -> list[dict[str, Any]]:
    directory = sessions(notebook)[-1][0].parent.parent / "deaths"
    return [json.loads(path.read_bytes()) for path in sorted(directory.glob("*.json"))]


def back(notebook: Notebook) -> None:
    assert notebook.eval("[globals()[f'good_{n}'][0] for n in range(20)]") == list(range(20))


def test_all_that_kills_or_hangs_a_restore_is_found_at_once_and_the_rest_is_back(
    server: JupyterServer, notebook_path: str
) -> None:
    spec = impatient(server, "resilient-impatient", CHECKPOINT_KERNEL_LOAD_PATIENCE="2")
    notebook = server.open(notebook_path, spec)
    notebook.run(CELL).ok()
    made = notebook.run(GOOD).ok()
    wait_for_checkpoint(notebook, made.execution_count)
    before = notebook.deaths_seen
    notebook.kill_kernel()
    wait_until(lambda: notebook.deaths_seen >= before + 2, "a second death", 60)
    notebook.wait_ready()
    told = notebook.run("good_3[0]").ok()
    assert told.value == "3"
    back(notebook)
    died = deaths(notebook)
    assert [d["cause"] for d in died] == ["killed", "hung"]
    assert "`stands` was being loaded for longer" in died[-1]["because"]
    for name, did in {
        "sleeps": "took longer than 2 s",
        "stands": "hung the kernel",
        "faults": "ended a process that tried it (SIGSEGV)",
        "leaves": "ended a process that tried it (exit code 3)",
        "aborts": "ended a process that tried it (SIGABRT)",
    }.items():
        line = told.prose[told.prose.index(f"not back: {name} (") :]
        assert f"loading it {did}" in line.split("not back: ")[1], told.text
        assert "NotBackError" in notebook.run(f"{name} + 1").error
    assert notebook.deaths_seen == before + 2

    # The Stubs are not saved in their place, and nothing is tried again by itself.
    made = notebook.run("later = 1").ok()
    wait_for_checkpoint(notebook, made.execution_count)
    status = notebook.run("%checkpoint").ok().prose
    assert all(f"not saved: {name} (" in status for name in HOSTILE), status
    notebook.kill_kernel()
    told = notebook.run("later").ok()
    assert told.value == "1"
    assert all(f"not back: {name} (" in told.prose for name in HOSTILE), told.text
    back(notebook)
    assert notebook.deaths_seen == before + 3
    answer = notebook.run("%checkpoint restore faults").ok().prose
    assert "tried again just now, it ended a process that tried it (SIGSEGV)" in answer
    assert "loading it killed" not in notebook.run("repr(good_3)").ok().text
    assert "SIGSEGV" in notebook.run("faults").ok().text
    assert notebook.deaths_seen == before + 3
    notebook.close()


def package(root: Path, name: str, version: str) -> None:
    directory = root / name
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "__init__.py").write_text("class Thing:\n    weight = 7\n")
    for old in root.glob(f"{name}-*.dist-info"):
        (old / "METADATA").unlink()
        old.rmdir()
    about = root / f"{name}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_what_needs_a_package_stands_there_until_that_is_installed_and_other_versions_are_named(
    server: JupyterServer, notebook_path: str, tmp_path: Path
) -> None:
    root = tmp_path / "site-packages"
    package(root, "tinylib", "1.0")
    package(root, "otherlib", "2.0")
    spec = impatient(server, "resilient-with-path", PYTHONPATH=str(root))
    notebook = server.open(notebook_path, spec)
    made = notebook.run(
        "import tinylib, otherlib\nthing = tinylib.Thing(); things = [thing, 1]\n"
        "other = otherlib.Thing(); x = 0"
    ).ok()
    wait_for_checkpoint(notebook, made.execution_count)
    store = server.environment.store
    found = "*/sessions/*/environment.json"
    wait_until(
        lambda: any("tinylib" in path.read_text() for path in store.glob(found)),
        "the packages are on record", 60,
    )  # fmt: skip
    gone = (root / "tinylib").rename(tmp_path / "away")
    (root / "tinylib-1.0.dist-info" / "METADATA").rename(tmp_path / "METADATA")
    (root / "tinylib-1.0.dist-info").rmdir()
    package(root, "otherlib", "3.1")
    notebook.kill_kernel()
    told = notebook.run("x += 1; other.weight").ok()
    assert told.value == "7"
    absent = "the package tinylib is not installed (it was saved with tinylib 1.0)"
    assert f"not back: thing, things (tinylib.Thing, list): {absent}" in told.prose or (
        told.prose.count(absent) >= 2
    ), told.text
    assert "pip install tinylib==1.0" in told.prose
    assert "saved with other versions: otherlib 2.0, here 3.1 (other, otherlib)" in told.prose
    used = notebook.run("thing.weight").error
    assert "NotBackError" in used
    assert "pip install tinylib==1.0, then %checkpoint restore thing" in used
    gone.rename(root / "tinylib")
    for _ in range(2):
        result = notebook.run("x += 1").ok()
        wait_for_checkpoint(notebook, result.execution_count)
    notebook.run("%checkpoint restore thing things").ok()
    assert notebook.run("thing.weight, things[0] is thing, x").ok().value == "(7, True, 3)"
    notebook.close()
