"""Pickles a unit without the secrets in it: a Stub stands for each, and the variable is named.

Where a secret stands is told by `secrets_rules`; texts that are known to be secret are also
looked for in the finished pickle, wherever an object keeps them. Covers the pickle stream, not
the memory of arrays.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import Any, Final

from . import arrays, kinds, pickling, secrets_rules
from .manifest import Skipped
from .pickling import Definitions, Observer, Pickled
from .refusals import Refusal, Unsavable
from .secrets_rules import Part, Rules

_TWICE: Final = Refusal("the value of a secret", "take it out of there")


def dump(
    root: dict[str, Any],
    main: dict[str, Any],
    definitions: Definitions,
    observer: Observer,
    rules: Rules,
    in_band_bytes: int = arrays.IN_BAND_BYTES,
    new_stream: Callable[[], io.BytesIO] = io.BytesIO,
    variables: Iterable[Any] | None = None,
) -> tuple[Pickled, list[Skipped]]:
    """As `pickling.dump`, and which variables are saved without a part of them.

    Raises Unsavable also where a secret cannot be taken out.
    """
    given = root, main, definitions, observer, in_band_bytes, new_stream, variables
    watched = {name: value for name, value in root.items() if not rules.included(name)}
    parts = {name: found for name, value in watched.items() if (found := rules.parts(value))}
    if not parts:
        pickled = pickling.dump(*given)
        if len(watched) < len(root) or not rules.found_in(bytes_of(pickled)):
            return pickled, []
        observer.forget()
    hide = _Hide([part for found in parts.values() for part in found], rules)
    pickled = pickling.dump(*given, hide)
    if len(watched) == len(root) and rules.found_in(bytes_of(pickled)):
        observer.forget()
        raise Unsavable("text", _TWICE)
    partly = [
        _named(name, part.value, part.reason)
        for name, found in parts.items()
        for part in found
        if id(part.value) in hide.hit  # and not in what is saved by its name
    ]
    partly += [_named(name, obj, why) for name in watched for obj, why in hide.met]
    return pickled, list(dict.fromkeys(partly))


def bytes_of(pickled: Pickled) -> bytes:
    """The stream, which nobody has put on disk yet."""
    stream = pickled.stream
    return stream if isinstance(stream, bytes) else bytes(stream)


def _named(name: str, part: Any, reason: str) -> Skipped:
    shown = name.strip("#").rsplit("-", 1)[0] if name.startswith("#") else name
    return Skipped(shown, kinds.type_name(part), reason, secrets_rules.REMEDY)


class _Hide:
    """Says of each object that a pickler meets, one after the other, what to write instead."""

    def __init__(self, parts: list[Part], rules: Rules) -> None:
        self._parts = parts  # keeps ids unique
        self._anywhere = {id(part.value): part for part in parts if part.key is None}
        # Equal texts of a cell are one object: only the one that follows its key is meant.
        self._after = {(id(p.key), id(p.value)): p for p in parts if p.key is not None}
        self._rules = rules
        self._before = 0
        self.hit: set[int] = set()  # ids of parts that were there
        self.met: list[tuple[Any, str]] = []  # secrets that are no `parts`

    def __call__(self, obj: Any) -> tuple[str, str, str] | None:
        before, self._before = self._before, id(obj)
        part = self._anywhere.get(id(obj)) or self._after.get((before, id(obj)))
        if part is not None:
            self.hit.add(id(obj))
            return (kinds.type_name(obj), part.reason, secrets_rules.REMEDY)
        text = secrets_rules.text_of(obj)
        reason = self._rules.in_text(text) if text else None
        if reason is None:
            return None
        self.met.append((obj, reason))
        return (kinds.type_name(obj), reason, secrets_rules.REMEDY)
