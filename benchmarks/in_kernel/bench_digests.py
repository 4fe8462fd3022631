"""Digests of the user's variables, taken inside the kernel: equal values give equal digests.

A module, so that nothing of it lands in the namespace that is measured. Aliasing is not
covered: a workload compares that by expressions of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from blake3 import blake3
from IPython import get_ipython


def digest(names: Sequence[str], expressions: Sequence[str]) -> dict[str, str]:
    """One digest per variable, one `repr` per expression; what is missing is left out."""
    main = get_ipython().user_ns  # kishu puts one of its own in the place of `__main__`'s
    found = {name: _digest(main[name]) for name in names if name in main}
    for expression in expressions:
        try:
            found[expression] = repr(eval(expression, main))
        except Exception as why:
            found[expression] = type(why).__name__
    return found


def _digest(value: object) -> str:
    try:
        return blake3(_bytes(value)).hexdigest(length=16)
    except Exception as why:
        return f"no digest: {type(why).__name__}: {why}"


def _bytes(value: Any) -> Any:
    """What the value is, as bytes; one of the few types that the workloads use."""
    module = type(value).__module__.partition(".")[0]
    if module == "numpy" and value.dtype != object:
        import numpy

        return numpy.ascontiguousarray(value).reshape(-1).view("uint8").data
    if module == "pandas":
        import pandas

        rows = pandas.util.hash_pandas_object(value)
        return f"{list(getattr(value, 'columns', ''))} {len(rows)} {int(rows.sum())}".encode()
    if module == "torch" and hasattr(value, "state_dict"):
        state = value.state_dict()
        return b"".join(state[key].detach().cpu().numpy().tobytes() for key in sorted(state))
    if module == "sklearn":
        return value.feature_importances_.tobytes()
    if callable(value):
        return getattr(value, "__name__", "?").encode()
    if type(value).__module__ == "__main__":
        return repr(sorted(vars(value).items())).encode()
    return repr(value).encode()
