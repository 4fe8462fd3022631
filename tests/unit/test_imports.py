"""Imports run one way: the kernel never imports the server's half, and each half stays light.

Each claim is checked in a fresh interpreter by what really landed in `sys.modules`, and the
direction also by reading every import statement, those inside functions included.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KERNEL_MODULES = sorted(path.stem for path in (ROOT / "checkpoint_kernel").glob("*.py"))
SERVER_HALF = ROOT / "checkpoint_provisioner"
PROVISIONER_MODULES = sorted(
    str(path.relative_to(SERVER_HALF).with_suffix("")) for path in SERVER_HALF.rglob("*.py")
)
# The one small part of the kernel's half that the server's half may know.
SHARED = {
    *("cgroup_memory", "contract", "durable", "environment", "environment_reader"),
    *("flight_recorder", "last_fault", "manifest", "missing", "process_tree", "session", "words"),
}


def imported_by(statement: str) -> set[str]:
    """The top-level packages outside the standard library that a statement brings in."""
    program = (
        f"import sys; before = set(sys.modules); {statement}; import json; "
        "print(json.dumps(sorted({m.partition('.')[0] for m in set(sys.modules) - before})))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {program}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout)) - set(sys.stdlib_module_names)


def import_statements(path: Path) -> set[str]:
    """Every module that a file imports, at any depth, as absolute dotted names."""
    package = path.parent.name
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = f"{package}.{base}" if base else package
            found.add(base)
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def test_the_provisioner_imports_no_kernel_dependency() -> None:
    heavy = {"dill", "ipykernel", "IPython", "numpy", "cloudpickle", "blake3", "pandas"}
    assert not imported_by("import checkpoint_provisioner.provisioner") & heavy


def test_the_supervisor_imports_only_the_standard_library_and_psutil() -> None:
    allowed = {"checkpoint_kernel", "checkpoint_provisioner", "psutil"}
    foreign = imported_by("import checkpoint_provisioner.supervisor") - allowed
    # Frozen helpers of an editable install's finder are pip's, not ours.
    assert {m for m in foreign if not m.startswith("_")} == set()


@pytest.mark.parametrize("module", sorted(SHARED))
def test_a_shared_module_imports_only_the_standard_library(module: str) -> None:
    assert imported_by(f"import checkpoint_kernel.{module}") == {"checkpoint_kernel"}


@pytest.mark.parametrize("module", KERNEL_MODULES)
def test_no_module_of_the_kernel_imports_the_server_half(module: str) -> None:
    imports = import_statements(ROOT / "checkpoint_kernel" / f"{module}.py")
    assert not [name for name in imports if name.partition(".")[0] == "checkpoint_provisioner"]


@pytest.mark.parametrize("module", PROVISIONER_MODULES)
def test_the_server_half_imports_only_the_shared_modules_of_the_kernel(module: str) -> None:
    # The command line also reads the store, on demand: it lists and checks checkpoints.
    allowed = SHARED | ({"store", "check", "prune"} if module.startswith("cli") else set())
    imports = import_statements(SERVER_HALF / f"{module}.py")
    of_the_kernel = {
        name.split(".")[1] for name in imports if name.startswith("checkpoint_kernel.")
    }
    assert of_the_kernel <= allowed
