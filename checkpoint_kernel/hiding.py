"""Pickles a unit without the secrets in it: a Stub stands for each, and the variable is named.

Where a secret stands is told by `secrets_search`; texts that are known to be secret are also
looked for in the finished pickle, wherever an object keeps them. Covers the pickle stream, not
the memory of arrays.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Container, Iterable
from typing import Any, Final

from . import arrays, kinds, pickling, secrets_rules
from .manifest import Skipped
from .pickling import Definitions, Observer, Pickled
from .refusals import Refusal, Unsavable
from .secrets_rules import Rules
from .secrets_search import ALL_LIMIT_S, LIMIT_S, Part, Search

_TWICE: Final = Refusal("the value of a secret", "take it out of there")
_USED: Final = Refusal("a secret, which loading it uses at once", "take it out of there")
_TOO_LARGE: Final = "it is too large to be searched for secrets to the end"
_PERHAPS: Final = "if it holds none, add it to `include` in kernel.json"
_LIMIT_S: Final = 3.0  # of the second look at what was too large for the first
# Texts found in objects that are looked for everywhere: each is one more search of every stream.
_MOST_KNOWN: Final = 50
_MOST_LOOKED_FOR: Final = 200
_TRIED_BYTES: Final = 32 << 20  # streams of more are not loaded on trial


class Hiding:
    """The rules, and what was found by them in variables. For one checkpoint.

    A variable is searched for `limit_s`, and for `further_s` where it may have secrets.
    """

    def __init__(
        self,
        rules: Rules,
        limit_s: float | None = None,
        further_s: float | None = None,
        all_limit_s: float = ALL_LIMIT_S,
    ) -> None:
        self.rules = rules
        self._limit_s = LIMIT_S if limit_s is None else limit_s
        self.further_s = _LIMIT_S if further_s is None else further_s
        self._left_s = all_limit_s
        self._found = 0
        self._searches: dict[int, Search] = {}

    def look_into(self, names: Iterable[str], value: Any) -> None:
        """Search a variable that lives on, before any is pickled: its texts are known then."""
        if self._left_s > 0 and not all(map(self.rules.included, names)):
            before = time.thread_time()
            self._searches[id(value)] = self.search(value)
            self._left_s -= time.thread_time() - before

    def search(self, value: Any) -> Search:
        """The search through a value."""
        search = self._searches.get(id(value))
        if search is None:
            search = Search(value, self.rules)
            self.go_on(search, self._limit_s)
        return search

    def go_on(self, search: Search, limit_s: float) -> None:
        """Search further. Some of the texts found are looked for everywhere from then on."""
        before = len(search.parts)
        search.go_on(limit_s)
        for part in search.parts[before:]:
            if self._found >= _MOST_KNOWN:
                return
            rules = self.rules.also_known([secrets_rules.text_of(part.value) or ""])
            self._found += rules is not self.rules
            self.rules = rules


def dump(
    root: dict[str, Any],
    main: dict[str, Any],
    definitions: Definitions,
    observer: Observer,
    hiding: Hiding,
    in_band_bytes: int = arrays.IN_BAND_BYTES,
    new_stream: Callable[[], io.BytesIO] = io.BytesIO,
    variables: Iterable[Any] | None = None,
) -> tuple[Pickled, list[Skipped]]:
    """As `pickling.dump`, and which variables are saved without a part of them.

    Raises Unsavable also where a secret cannot be taken out.
    """
    given = root, main, definitions, observer, in_band_bytes, new_stream, variables
    watched = {name: v for name, v in root.items() if not hiding.rules.included(name)}
    searches = {name: hiding.search(value) for name, value in watched.items()}
    hide = _hide_of(searches, hiding.rules)
    pickled = pickling.dump(*given, hide)
    unfinished = [name for name, search in searches.items() if not search.done]
    if unfinished and secrets_rules.has_secret_name(bytes_of(pickled)):
        for name in unfinished:
            hiding.go_on(searches[name], hiding.further_s)
        unfinished = [name for name in unfinished if not searches[name].done]
        more = _hide_of(searches, hiding.rules)
        if more is not None and len(more.parts) > len(hide.parts if hide is not None else ()):
            observer.forget()
            hide = more
            pickled = pickling.dump(*given, hide)
    else:
        unfinished = []
    # A known text cannot be told from that of another variable in the unit, which is included.
    search_texts = len(watched) == len(root)
    left = hide.left(bytes_of(pickled)) if hide is not None else []
    texts = search_texts and hiding.rules.found_in(bytes_of(pickled))
    if left or texts:
        observer.forget()
        hide = _Hide(hide.parts if hide is not None else [], hiding.rules, left, texts)
        pickled = pickling.dump(*given, hide)
        stream = bytes_of(pickled)
        if hide.still_in(stream) or (search_texts and hiding.rules.found_in(stream)):
            observer.forget()
            raise Unsavable("text", _TWICE)
    partly = []
    if hide is not None:
        if hide.was_blind:
            _see_that_it_loads(pickled, main, definitions, observer)
        for name, search in searches.items():
            hit = filter(hide.was_hit, search.parts)  # and not in what is saved by its name
            once = {id(part.value): part for part in reversed(list(hit))}
            partly += [_named(name, p.value, p.reason) for p in reversed(once.values())]
        partly += [_named(name, obj, why) for name in watched for obj, why in hide.met]
    for search in searches.values():  # a reference would say that somebody holds the object
        search.give_up()
    # Of no type: nothing is missing in it.
    partly += [Skipped(name, "", _TOO_LARGE, _PERHAPS) for name in unfinished]
    return pickled, list(dict.fromkeys(partly))


def bytes_of(pickled: Pickled) -> bytes:
    """The stream, which nobody has put on disk yet."""
    stream = pickled.stream
    return stream if isinstance(stream, bytes) else bytes(stream)


def _see_that_it_loads(
    pickled: Pickled, main: dict[str, Any], definitions: Definitions, observer: Observer
) -> None:
    """Unsavable, if whoever is given a stub for a secret uses it at once."""
    resolver: Any = definitions
    if not hasattr(resolver, "definition") or len(pickled.stream) > _TRIED_BYTES:
        return
    try:
        pickling.try_to_load(pickled, main, resolver)
    except Exception as why:
        observer.forget()
        raise Unsavable("text", _USED) from why


def _named(name: str, part: Any, reason: str, remedy: str | None = secrets_rules.REMEDY) -> Skipped:
    shown = name.strip("#").rsplit("-", 1)[0] if name.startswith("#") else name
    return Skipped(shown, kinds.type_name(part), reason, remedy)


def _hide_of(searches: dict[str, Search], rules: Rules) -> _Hide | None:
    parts = [part for search in searches.values() for part in search.parts]
    return _Hide(parts, rules) if parts else None


_Place = tuple[int, int | str]


def _place(part: Part) -> _Place:
    """Equal texts of a cell are one object: only the one in this place is meant."""
    if part.held_by is not None:
        return (part.held_by, part.position)
    return (id(part.key) if part.key is not None else 0, id(part.value))


class _Hide:
    """Says of the objects that a pickler meets, one after the other, what to write instead.

    `anywhere`: parts that are hidden wherever they are, `texts`: as is every known text.
    """

    def __init__(
        self, parts: list[Part], rules: Rules, anywhere: Iterable[Part] = (), texts: bool = False
    ) -> None:
        self.parts = parts  # keeps ids unique
        self.texts = texts
        self.met: list[tuple[Any, str]] = []  # secrets that are no `parts`
        self._rules = rules
        self._anywhere = {id(part.value): part for part in parts if _place(part)[0] == 0}
        self._anywhere |= {id(part.value): part for part in anywhere}
        keyed = [p for p in parts if p.key is not None and p.held_by is None]
        self._after = {_place(part): part for part in keyed}
        self._held: dict[int, dict[int | str, Part]] = {}
        for part in parts:
            if part.held_by is not None:
                self._held.setdefault(part.held_by, {})[part.position] = part
        self._keys = {id(part.key) for part in keyed}
        self.watched = self._keys | {id(p.value) for p in parts if p.held_by is None}
        self.watched |= self._anywhere.keys()
        self._before = 0  # the last of the watched objects
        self._hit: set[_Place] = set()
        self._hit_anywhere: set[int] = set()

    def instead_of(self, obj: Any) -> pickling.Instead | None:
        before, self._before = self._before, id(obj)
        part = self._after.get((before, id(obj)))
        if part is not None:
            self._hit.add((before, id(obj)))
            return _fields(obj, part.reason)
        part = self._anywhere.get(id(obj))
        if part is not None:
            self._hit_anywhere.add(id(obj))
            return _fields(obj, part.reason)
        text = secrets_rules.text_of(obj) if self.texts else None
        reason = self._rules.in_text(text) if text else None
        if reason is None:
            return None
        self.met.append((obj, reason))
        return _fields(obj, reason)

    def inside(self, holder: Any, among: Container[Any]) -> dict[int | str, pickling.Instead]:
        held = self._held.get(id(holder), {})
        hidden = {position: part for position, part in held.items() if position in among}
        self._hit |= {(id(holder), position) for position in hidden}
        return {position: _fields(p.value, p.reason) for position, p in hidden.items()}

    @property
    def was_blind(self) -> bool:
        """Whether something was hidden that may be an argument of whoever makes the object."""
        return bool(self._hit_anywhere or self.met)

    def was_hit(self, part: Part) -> bool:
        return _place(part) in self._hit or id(part.value) in self._hit_anywhere

    def left(self, stream: bytes) -> list[Part]:
        """Parts that were met in no place where they were looked for, and perhaps are in a stream.

        Those of definitions are in other units.
        """
        missed = [part for part in self.parts if not self.was_hit(part)]
        if len(missed) > _MOST_LOOKED_FOR:
            return missed
        return [part for part in missed if (text := _bytes_of(part.value)) and text in stream]

    def still_in(self, stream: bytes) -> bool:
        """Whether one is there, in a copy. A short text may be there by chance."""
        missed = [part for part in self.parts if not self.was_hit(part)]
        return any(
            secrets_rules.is_telling(secrets_rules.text_of(part.value) or "")
            and _bytes_of(part.value) in stream
            for part in missed[:_MOST_LOOKED_FOR]
        )


def _fields(obj: Any, reason: str) -> pickling.Instead:
    return (kinds.type_name(obj), reason, secrets_rules.REMEDY)


def _bytes_of(value: Any) -> bytes:
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    return (secrets_rules.text_of(value) or "").encode("utf-8", "surrogatepass")
