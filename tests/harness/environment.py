"""A Jupyter installation of its own: every directory Jupyter reads or writes lies under one root.

Covers the environment variables and kernelspecs. Virtual environments are the caller's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KERNEL_NAME = "python3-resilient"

# What an outer Jupyter, an IDE or a user's shell may have set, and what would lead a test astray.
_FOREIGN = ("JPY_SESSION_NAME", "JPY_PARENT_PID", "JPY_API_TOKEN", "JUPYTER_TOKEN", "PYTHONSTARTUP")


@dataclass(frozen=True)
class Environment:
    """Where Jupyter's files are; `variables` is what a process needs to find them."""

    root: Path
    python: str = sys.executable
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        """Jupyter's data directory: the store and the signing key live here."""
        return self.root / "data"

    @property
    def store(self) -> Path:
        """The default root of the checkpoints."""
        return self.data / "checkpoints"

    @property
    def prefix(self) -> Path:
        """Where kernelspecs are installed (`--prefix`)."""
        return self.root / "prefix"

    @property
    def variables(self) -> dict[str, str]:
        """The environment of every process that is started here."""
        inherited = {k: v for k, v in os.environ.items() if k not in _FOREIGN}
        return {**inherited, **jupyter_directories(self.root), **self.extra}

    def command(self, *arguments: str) -> list[str]:
        """`jupyter-checkpoint` of this environment, found beside its Python."""
        return [str(Path(self.python).parent / "jupyter-checkpoint"), *arguments]

    def checkpoint(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `jupyter checkpoint ...` and return what it printed; fail loudly if it fails."""
        done = subprocess.run(
            self.command(*arguments), env=self.variables, capture_output=True, text=True, timeout=60
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"jupyter checkpoint {' '.join(arguments)} ended with {done.returncode}:\n"
                f"{done.stdout}{done.stderr}"
            )
        return done

    def checkpoint_json(self, *arguments: str) -> Any:
        """What `jupyter checkpoint ... --json` says."""
        return json.loads(self.checkpoint(*arguments, "--json").stdout)

    def install(self, *arguments: str) -> None:
        """Install the kernelspec under `prefix`."""
        self.checkpoint("install", "--prefix", str(self.prefix), *arguments)

    def kernelspec(self, name: str, **config: Any) -> str:
        """Another kernelspec beside the installed one, its config edited as a user would."""
        self.install("--name", name, "--display-name", f"Python (resilient, {name})")
        self.configure(name, **config)
        return name

    def configure(self, name: str, **config: Any) -> None:
        """Edit the config in an installed kernelspec's kernel.json."""
        path = self.prefix / "share" / "jupyter" / "kernels" / name / "kernel.json"
        spec = json.loads(path.read_text())
        spec["metadata"]["kernel_provisioner"].setdefault("config", {}).update(config)
        path.write_text(json.dumps(spec, indent=1))


def jupyter_directories(root: Path) -> dict[str, str]:
    """Environment variables that keep Jupyter and IPython out of the user's HOME."""
    return {
        "JUPYTER_DATA_DIR": str(root / "data"),
        "JUPYTER_CONFIG_DIR": str(root / "config"),
        "JUPYTER_RUNTIME_DIR": str(root / "runtime"),
        "JUPYTER_PATH": str(root / "prefix" / "share" / "jupyter"),
        "JUPYTER_PLATFORM_DIRS": "1",
        "IPYTHONDIR": str(root / "ipython"),
        "MPLCONFIGDIR": str(root / "matplotlib"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def processes_of(environment: Environment) -> dict[int, str]:
    """Live processes that were started with this environment's variables: pid -> command."""
    mark = f"JUPYTER_DATA_DIR={environment.data}".encode()
    found = {}
    for directory in Path("/proc").glob("[0-9]*"):
        pid = int(directory.name)
        try:
            if pid != os.getpid() and mark in (directory / "environ").read_bytes().split(b"\0"):
                command = (directory / "cmdline").read_bytes()
                if b"multiprocessing.resource_tracker" in command and _parent(pid) == os.getpid():
                    continue  # our own: Python starts it with the first shared memory of a test
                found[pid] = command.replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:  # gone meanwhile, or of another user
            continue
    return found


def _parent(pid: int) -> int:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[1])
