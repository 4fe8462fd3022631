"""Which notebook a kernel belongs to, and which directory is its own.

Pure, apart from asking the filesystem for real paths. Opening the directory is `home`'s.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SESSION_NAME = "JPY_SESSION_NAME"

# VS Code starts remote kernels under a made-up name: "work-jvsc-<uuid>.ipynb".
_VSCODE = re.compile(r"-jvsc-[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)
_NOT_IN_SLUG = re.compile(r"[^A-Za-z0-9._-]+")
_SLUG_LENGTH = 40


@dataclass(frozen=True)
class Notebook:
    """A notebook's real path, where it is known, and the name of its directory."""

    path: str | None
    key: str


def of_kernel(kernel_id: str) -> Notebook:
    """Nobody told us the notebook: what is saved belongs to this kernel only."""
    return Notebook(path=None, key=f"kernel-{kernel_id}")


def of_path(path: Path) -> Notebook:
    """The notebook at `path`; symbolic links are followed, it need not exist."""
    real = str(path.resolve())
    stem = _NOT_IN_SLUG.sub("-", Path(real).stem).strip("-.")[:_SLUG_LENGTH] or "notebook"
    digest = hashlib.sha256(real.encode("utf-8", "surrogateescape")).hexdigest()
    return Notebook(path=real, key=f"{stem}-{digest[:12]}")


def names_directory(name: str) -> bool:
    """Whether a session name lacks the notebook's: all notebooks beside it would be one."""
    try:
        return name.endswith("/") or Path(name).is_dir()
    except OSError:  # too long a name, or a directory above it that we may not enter
        return False


def of_frontend(
    env: Mapping[str, str] | None, cwd: str | None, root: str | None, kernel_id: str
) -> Notebook:
    """The notebook that the frontend named in the `env` that it passed.

    `env` is None where it passed none: what our own environment says then belongs to an
    outer kernel. jupyter_server joins the notebook's directory and its name; a client that
    sends a path only is given back that path, relative to the server's root.
    """
    name = (env or {}).get(SESSION_NAME)
    if not name or names_directory(name):
        return of_kernel(kernel_id)
    path = Path(_VSCODE.sub("", name))
    if path.is_absolute():
        return of_path(path)
    below_root = Path(root).expanduser() / path if root else None
    if below_root is not None and below_root.exists():
        return of_path(below_root)
    if cwd is not None:  # the server starts kernels in the notebook's directory
        return of_path(Path(cwd) / path.name)
    return of_path(below_root) if below_root is not None else of_kernel(kernel_id)
