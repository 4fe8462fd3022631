"""Puts a supervisor above a kernel that a frontend started itself, without provisioners.

    python -m checkpoint_provisioner.self_supervise -- <kernel argv>

VS Code does that (microsoft/vscode-jupyter#14172), and so does a person in a terminal. The
process becomes the supervisor, so that its pid is the one that the frontend watches. A bad
config cannot be shown in a dialog here: it goes to stderr, and the defaults are used.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from jupyter_core.paths import jupyter_data_dir

from checkpoint_kernel import contract

from . import config, notebook
from .launch import Launch

_CONNECTION_FILE = re.compile(r"kernel-(.+)\.json")


def main() -> NoReturn:
    """Become the supervisor; never returns."""
    argv = sys.argv[sys.argv.index("--") + 1 :]
    launch = launch_for(argv, os.environ, str(Path.cwd()))
    become = launch.argv(sys.executable, argv)
    os.execv(become[0], become)


def launch_for(argv: list[str], env: Mapping[str, str], cwd: str) -> Launch:
    """What the provisioner would have decided, from the little that is known here."""
    settings = _config(env.get(contract.ENV_SPEC_DIR))
    kernel_id = kernel_id_of(argv)
    named = {notebook.SESSION_NAME: env.get(notebook.SESSION_NAME, "")}
    found = notebook.of_frontend(named, cwd, None, kernel_id)
    data = Path(jupyter_data_dir())
    root = Path(settings.store) if settings.store else data / contract.STORE_DIRECTORY
    return Launch(
        kernel_id=kernel_id,
        notebook=found.path,
        notebook_directory=str(root / found.key),
        key_file=str(data / contract.KEY_FILE),
        settings=settings.settings(),
        memory_limit=settings.memory_limit,
        soft_limit=settings.soft_limit,
        cpu_limit=settings.cpu_limit,
        pids_limit=settings.pids_limit,
        nice=settings.nice,
        # ipykernel watches its parent only where it was told to, and so do we.
        independent="JPY_PARENT_PID" not in env,
    )


def kernel_id_of(argv: list[str]) -> str:
    """From the connection file's name; without one, this process is all that tells it apart."""
    for word, after in zip(argv, [*argv[1:], ""], strict=False):
        path = after if word in ("-f", "--f") else word.partition("=")[2]
        match = _CONNECTION_FILE.fullmatch(Path(path).name)
        if match is not None:
            return match[1]
    return f"pid-{os.getpid()}"


def _config(spec_directory: str | None) -> config.Config:
    if not spec_directory:
        return config.Config()
    path = Path(spec_directory) / "kernel.json"
    try:
        spec: dict[str, Any] = json.loads(path.read_bytes())
        stanza = spec.get("metadata", {}).get("kernel_provisioner", {}).get("config", {})
        return config.parse(stanza)
    except (OSError, ValueError, AttributeError) as why:
        print(
            f"checkpoint-kernel: the defaults are used, because of {path}: {why}", file=sys.stderr
        )
        return config.Config()


if __name__ == "__main__":
    main()
