"""The kernel's half: checkpoints the user namespace and restores it after a death.

Importing this package imports nothing but the standard library, because the provisioner
(which may live in another environment) reads `contract`, `durable`, `flight_recorder`,
`manifest` and `session` from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .registry import register as register
    from .registry import unregister as unregister

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in ("register", "unregister"):
        from . import registry  # which imports what the provisioner may lack

        return getattr(registry, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
