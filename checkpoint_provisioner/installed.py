"""The kernelspecs that name our provisioner, as Jupyter finds them, and the stores they configure.

Reads only; writing them is `kernelspec`'s, judging them `doctor`'s. What an operator sets in
the server's config (c.CheckpointProvisioner.store) is not seen here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpecManager

from checkpoint_kernel.contract import PROVISIONER_NAME

from . import config
from .kernelspec import KERNEL_FILE


@dataclass(frozen=True)
class Spec:
    """A kernelspec that names our provisioner."""

    directory: Path
    raw: dict[str, Any]
    hidden_by: Path | None

    @property
    def config(self) -> object:
        """As it stands there, which may be wrong."""
        return self.raw["metadata"]["kernel_provisioner"].get("config") or {}

    @property
    def store(self) -> Path | None:
        """The store that it configures, if it does so in a usable way."""
        try:
            store = config.parse(self.config).store if isinstance(self.config, dict) else None
        except config.ConfigError:
            return None
        return None if store is None else Path(store)


def specs() -> list[Spec]:
    """All of them, hidden ones too, in Jupyter's order."""
    first: dict[str, Path] = {}
    found = []
    for kernels in KernelSpecManager().kernel_dirs:
        for file in sorted(Path(kernels).glob(f"*/{KERNEL_FILE}")):
            directory, name = file.parent, file.parent.name.lower()
            hidden_by = first.get(name)
            first.setdefault(name, directory)
            try:
                raw = json.loads(file.read_text("utf-8"))
                ours = raw["metadata"]["kernel_provisioner"]["provisioner_name"]
            except (OSError, ValueError, KeyError, TypeError):
                continue  # not one of ours
            if ours == PROVISIONER_NAME and (
                hidden_by is None or hidden_by.resolve() != directory.resolve()
            ):
                found.append(Spec(directory, raw, hidden_by))
    return found


def stores() -> list[Path]:
    """The stores that they configure, each once."""
    return list(dict.fromkeys(spec.store for spec in specs() if spec.store is not None))
