"""Asks other interpreters what they have: the kernel's half, the server's half, their version.

Server and kernel may live in two environments, and neither is the one that this command
runs in. Runs a short program in each; imports nothing of theirs here.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checkpoint_kernel.contract import PROVISIONER_NAME

OLDEST = (3, 11)
DISTRIBUTION = "checkpoint-kernel"
SERVER_COMMANDS = ("jupyter-lab", "jupyter-server", "jupyter-notebook", "jupyterhub-singleuser")
_TIMEOUT_S = 60

# Runs on any Python 3, and without the directory we happen to stand in on its path, where
# a checkout would pass for an installation.
_QUESTION = """
import sys
sys.path[:] = [entry for entry in sys.path if entry]
import importlib.util, json
try:
    from importlib.metadata import entry_points
except ImportError:
    entry_points = None
group = "jupyter_client.kernel_provisioners"
names = []
if entry_points is not None:
    found = entry_points()
    some = found.select(group=group) if hasattr(found, "select") else found.get(group, [])
    names = sorted({point.name for point in some})
kernel = ("checkpoint_kernel", "ipykernel", "dill", "cloudpickle", "blake3", "psutil", "zmq")
missing = [name for name in kernel if importlib.util.find_spec(name) is None]
spec = {}
if "ipykernel" not in missing:
    from ipykernel.kernelspec import get_kernel_dict
    spec = get_kernel_dict()
print(json.dumps({
    "version": list(sys.version_info[:3]), "prefix": sys.prefix, "provisioners": names,
    "missing": missing, "ipykernel": spec,
}))
"""


class NoAnswer(Exception):
    """An interpreter that could not be asked; the message says which and why."""


@dataclass(frozen=True)
class Interpreter:
    """What an interpreter answered."""

    path: str
    version: tuple[int, int, int]
    prefix: str
    provisioners: tuple[str, ...]  # entry points that its jupyter_client would find
    missing: tuple[str, ...]  # modules of the kernel's half that cannot be imported
    ipykernel: dict[str, Any]  # its ipykernel's own kernelspec; {} without ipykernel

    @property
    def has_server_half(self) -> bool:
        """Whether a server that runs in it can use our kernelspec."""
        return PROVISIONER_NAME in self.provisioners

    @property
    def pip_command(self) -> str:
        """What makes it whole."""
        return f"{shlex.quote(self.path)} -m pip install {DISTRIBUTION}"


def absolute(python: str) -> str:
    """The absolute path of an interpreter given as a path or a command. Links stay links:
    the `python` of a virtual environment is one. NoAnswer if there is none.
    """
    found = shutil.which(os.path.expanduser(python))  # noqa: PTH111 - "~" of a plain string
    if found is None:
        raise NoAnswer(f"{python} is no executable file")
    return os.path.abspath(found)  # noqa: PTH100 - resolve() would leave the environment


def ask(python: str) -> Interpreter:
    """Ask the interpreter at `python`. NoAnswer with the reason if it does not say."""
    try:
        done = subprocess.run(
            [python, "-c", _QUESTION],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as why:
        raise NoAnswer(f"{python} could not be asked: {why}") from why
    lines = done.stdout.strip().splitlines()
    try:
        raw: dict[str, Any] = json.loads(lines[-1]) if lines else {}
        return Interpreter(
            path=python,
            version=(raw["version"][0], raw["version"][1], raw["version"][2]),
            prefix=raw["prefix"],
            provisioners=tuple(raw["provisioners"]),
            missing=tuple(raw["missing"]),
            ipykernel=raw["ipykernel"],
        )
    except (ValueError, KeyError, IndexError) as why:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise NoAnswer(
            f"{python} is no usable Python (exit status {done.returncode}): {said}"
        ) from why


def of_servers(search_path: str | None = None) -> dict[str, list[str]]:
    """The interpreters behind the Jupyter servers on PATH -> their commands, in PATH's order."""
    found: dict[str, list[str]] = {}
    for entry in (search_path or os.environ.get("PATH", os.defpath)).split(os.pathsep):
        for command in SERVER_COMMANDS:
            script = Path(entry or ".") / command
            # Not Path.is_file(): it raises where a directory on PATH may not be entered.
            python = _behind(script) if os.path.isfile(script) else None  # noqa: PTH113
            if python is not None and str(script) not in found.setdefault(python, []):
                found[python].append(str(script))
    return found


def _behind(script: Path) -> str | None:
    """The interpreter of a console script: its shebang, or pip's `exec` where that is too long."""
    try:
        with open(script, "rb") as file:
            head = file.read(4096).decode("utf-8", "replace")
    except OSError:
        return None
    first, _, rest = head.partition("\n")
    if not first.startswith("#!"):
        return None
    words = first[2:].split()
    if words and words[0].endswith("/sh"):  # "#!/bin/sh\n'''exec' "/long path/python" "$0" "$@""
        match = re.match(r"'''exec' (?:\"([^\"]+)\"|(\S+))", rest)
        return None if match is None else match[1] or match[2]
    if words and words[0].endswith("/env"):
        return shutil.which(words[-1])
    whole = first[2:].strip()  # a path may hold spaces; arguments are rare
    return whole if os.path.exists(whole) or not words else words[0]  # noqa: PTH110


def is_own(python: str) -> bool:
    """Whether a kernelspec's argv[0] means the interpreter of whoever starts it."""
    return re.fullmatch(r"python(3(\.\d+)?)?", python) is not None


def own() -> str:
    """The interpreter that runs this command."""
    return os.path.abspath(sys.executable)  # noqa: PTH100 - as in `absolute`
