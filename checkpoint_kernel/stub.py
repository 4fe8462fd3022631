"""What stands where a value cannot be: a connection after a restore, a class that is gone.

Any use of a stub raises NotBackError, which says what was there, why it is not back, and what
to do. Looking at it (`repr`, display, comparison) does not. Standard library only.
"""

from __future__ import annotations

from typing import Any, Final, NoReturn


class NotBackError(RuntimeError):
    """A stub was used."""


class Stub:
    """Stands for a value of type `what` that is not back because of `reason`.

    `checkpoint` is the id of the one that still holds the value itself, if one does: such a stub
    is never saved in its place.
    """

    __slots__ = ("_stub_checkpoint", "_stub_reason", "_stub_remedy", "_stub_what")

    _stub_what: str
    _stub_reason: str
    _stub_remedy: str | None
    _stub_checkpoint: str | None

    def __init__(
        self, what: str, reason: str, remedy: str | None = None, checkpoint: str | None = None
    ) -> None:
        for name, value in zip(_FIELDS, (what, reason, remedy, checkpoint), strict=True):
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f"<not back: {said(self)}>"

    def __bool__(self) -> bool:
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        return (Stub, tuple(getattr(self, name) for name in _FIELDS))

    def __getattr__(self, name: str) -> NoReturn:
        # Displays, copy and hasattr ask for what only some classes have.
        if name.startswith("_"):
            raise AttributeError(name)
        _used(self)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        _used(self)

    def __delattr__(self, name: str) -> NoReturn:
        _used(self)


_FIELDS: Final = ("_stub_what", "_stub_reason", "_stub_remedy", "_stub_checkpoint")
# What a use looks like that is no attribute; comparing, hashing and truth are no uses.
_USES: Final = (
    "call", "iter", "next", "len", "getitem", "setitem", "delitem", "contains", "reversed",
    "enter", "exit", "aenter", "aexit", "aiter", "anext", "await",
    "int", "float", "complex", "index", "bytes", "fspath", "array",
    "add", "radd", "sub", "rsub", "mul", "rmul", "matmul", "rmatmul", "truediv", "rtruediv",
    "floordiv", "rfloordiv", "mod", "rmod", "pow", "rpow", "and", "rand", "or", "ror", "xor",
    "rxor", "lshift", "rlshift", "rshift", "rrshift", "neg", "pos", "invert", "abs",
    "lt", "le", "gt", "ge",
)  # fmt: skip


def said(stub: Stub) -> str:
    """`sqlite3.Connection: a database connection ends with its process; connect again`"""
    remedy = f"; {stub._stub_remedy}" if stub._stub_remedy else ""
    return f"{stub._stub_what}: {stub._stub_reason}{remedy}"


def _used(stub: Stub, *_: object) -> NoReturn:
    raise NotBackError(f"this was a {said(stub)}")


for _use in _USES:
    setattr(Stub, f"__{_use}__", _used)
