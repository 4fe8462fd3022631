"""How exceptions and tracebacks are saved: pickle keeps neither cause nor context nor traceback,
and calls `__init__` with other arguments than many take. The frames' variables are not saved.
"""

from __future__ import annotations

import pickle
import types
from typing import Any

from . import rebuild_builtin as rebuild


def exception(error: BaseException) -> Any:
    """With what it was raised from, and its traceback; and without running its `__init__`, which
    may take other arguments than those that it keeps."""
    cls = type(error)
    reduced = error.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    if not isinstance(reduced, tuple) or len(reduced) > 3:
        return NotImplemented
    make, arguments, *state = reduced
    chain = (
        error.__cause__, error.__context__, error.__suppress_context__, error.__traceback__
    )  # fmt: skip
    own = isinstance(cls.__init__, types.FunctionType) or isinstance(
        cls.__new__, types.FunctionType
    )
    if make is cls and own and not isinstance(cls.__reduce__, types.FunctionType):
        make, arguments = rebuild.new_exception, (cls, *arguments)
    elif not any(chain):
        return NotImplemented
    whole = (state[0] if state else None, *chain)
    return (make, arguments, whole, None, None, rebuild.set_exception)


def traceback(first: types.TracebackType) -> Any:
    """Files, lines and names; not the frames' variables."""
    places = []
    entry: types.TracebackType | None = first
    while entry is not None:
        frame = entry.tb_frame
        module = frame.f_globals.get("__name__")
        code = frame.f_code
        named = module if isinstance(module, str) else None
        places.append((code.co_filename, entry.tb_lineno, code.co_name, code.co_qualname, named))
        entry = entry.tb_next
    return (rebuild.traceback_of, (places,))
