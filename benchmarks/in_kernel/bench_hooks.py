"""What the peers without a hook of their own do after each cell, and how they load it again.

A dump that fails is ignored, as such hooks do: the file then holds an older state, or none.
"""

from __future__ import annotations

import os
import pickle
import sys
import types
from collections.abc import Callable
from typing import Any


def after_each_cell(peer: str, path: str) -> None:
    """Dump the namespace to `path` whenever a cell has ended."""
    from IPython import get_ipython

    shell = get_ipython()
    dump = _DUMPS[peer]

    def hook(_result: Any) -> None:
        try:
            dump(shell, f"{path}.new")
            os.replace(f"{path}.new", path)
        except Exception:
            pass

    shell.events.register("post_run_cell", hook)


def load(peer: str, path: str) -> None:
    """Bring the variables back into `__main__`; whatever goes wrong is raised."""
    if peer == "dill":
        import dill

        dill.load_module(path)
    else:
        with open(path, "rb") as file:
            sys.modules["__main__"].__dict__.update(pickle.load(file))


def _dill(_shell: Any, path: str) -> None:
    import dill

    dill.dump_module(path)


def _cloudpickle(shell: Any, path: str) -> None:
    import cloudpickle

    hidden = {*shell.user_ns_hidden, "In", "Out", "exit", "quit", "open", "get_ipython"}
    chosen = {
        name: value
        for name, value in shell.user_ns.items()
        if name not in hidden
        and not name.startswith("_")
        and not isinstance(value, types.ModuleType)
    }
    with open(path, "wb") as file:
        cloudpickle.dump(chosen, file, protocol=5)


_DUMPS: dict[str, Callable[[Any, str], None]] = {"dill": _dill, "cloudpickle": _cloudpickle}
