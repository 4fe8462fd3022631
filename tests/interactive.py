"""A real IPython shell without a kernel around it, and checkpoints of it into a real store."""

from __future__ import annotations

import platform
import time
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from checkpoint_kernel import checkpoint, manifest
from checkpoint_kernel.checkpoint import Facts
from checkpoint_kernel.manifest import Manifest, Skipped
from checkpoint_kernel.safe_point import IDLE, Position
from checkpoint_kernel.store import Store

KEY = bytes(range(32))


def new_shell() -> Any:
    """A shell with a namespace of its own; its `__main__` replaces the one in sys.modules."""
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    return InteractiveShell(config=config, user_module=types.ModuleType("__main__"))


def run(shell: Any, *cells: str) -> None:
    """Run cells as a frontend does, and fail with the first that fails."""
    for cell in cells:
        shell.run_cell(cell, store_history=True).raise_error()


def save(
    shell: Any,
    store: Store,
    *,
    seq: int = 1,
    position: Position = IDLE,
    known_bad: dict[str, Skipped] | None = None,
    exclude: tuple[str, ...] = (),
    include: tuple[str, ...] = (),
    missing: Iterable[Skipped] = (),
) -> Manifest:
    """Take a checkpoint in this process, by the code that the snapshot process runs."""
    now = time.time()
    template = Manifest(
        id=manifest.new_id(now), seq=seq, line="line", session="session", parent=None, time=now,
        reason="cell", execution_count=shell.execution_count - 1, inside_cell=False,
        inside_call=not position.clean, cell_source=None, line_number=None, units=(), skipped=(),
        python=platform.python_version(),
    )  # fmt: skip
    facts = Facts(
        template=template, position=position, known_bad=known_bad or {}, bad_frames={},
        exclude=exclude, include=include, keep=20, root=store.directory.parent,
        store_limit_bytes=None, missing=list(missing),
    )  # fmt: skip
    checkpoint.write(facts, shell, store, lambda **_: None, lambda _: None)
    return store.manifests()[-1]


def new_store(directory: Path) -> Store:
    """An empty store."""
    return Store.open(directory / "notebook", KEY)
