"""Our reducers, all of them: importing this tells the registry. Imports nothing that they are for.

What comes later wins over what is registered before for the same type.
"""

from __future__ import annotations

from . import (
    libraries,
    reducers_files,
    reducers_idle,
    reducers_places,
    reducers_sqlite,
    reducers_standard,
)

__all__ = [
    "libraries", "reducers_files", "reducers_idle", "reducers_places", "reducers_sqlite",
    "reducers_standard",
]  # fmt: skip
