"""Where in an object texts are that look like secrets.

Breadth first through containers, attributes, defaults and closures; no code of an object's own is
run. Takes a bounded time, and says when that was not enough. Does not look into arrays or tables;
what is left out of a pickle, and how, is `hiding`'s.
"""

from __future__ import annotations

import collections
import enum
import functools
import gc
import itertools
import re
import time
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from .secrets_rules import (
    Rules,
    dict_of_class,
    is_marker,
    is_secret_name,
    is_token_name,
    is_wrapped,
    mro_of,
    name_of,
    text_of,
)

# CPU time, in seconds: for one variable, and for those of a checkpoint together.
LIMIT_S: Final = 0.3
ALL_LIMIT_S: Final = 3.0

# Types are looked up by id: a metaclass may have a `__hash__` of its own.
# What is told of itself by nothing but its own value. Most of what there is.
_PLAIN: Final = frozenset(
    map(id, (int, float, complex, bool, type(None), range, slice, types.BuiltinFunctionType,
             types.ModuleType))
)  # fmt: skip
_TEXTS: Final = (str, bytes, bytearray)
_PASSED_OVER: Final = frozenset(
    map(id, (list, tuple, set, frozenset))
)  # if they hold nothing but such
_LONGEST: Final = 1 << 20  # bytes that are looked at as text
_CHECKED_EVERY: Final = 256  # objects, between looks at the clock
# What these hold is told by the garbage collector, for asking them may run code of others.
_HOLDERS: Final = frozenset(
    map(id, (staticmethod, classmethod, property, types.MappingProxyType, functools.partial))
)


@dataclass(frozen=True)
class Part:
    """A text inside an object, by identity: of the value, and of the key that stands before it."""

    value: Any
    key: Any  # None: there is none
    reason: str
    held_by: int | None = None  # id of the function or class that keeps it at `position`
    position: int | str = 0  # among the positional defaults, or the attribute's name


def parts(value: Any, rules: Rules) -> list[Part]:
    """Secret texts inside a variable, as far as `LIMIT_S` goes."""
    search = Search(value, rules)
    search.go_on(LIMIT_S)
    return search.parts


def has_parts(value: Any) -> bool:
    """Whether there is anything to search in an object."""
    cls = type(value)
    if id(cls) in _PLAIN or issubclass(cls, _TEXTS):
        return False
    return id(cls) not in _PASSED_OVER or not _PLAIN.issuperset(map(id, map(type, value)))


class Search:
    """Of one object, in as many steps as it is given time for."""

    def __init__(self, root: Any, rules: Rules) -> None:
        self.parts: list[Part] = []
        self._rules = rules
        self._known = rules.pattern
        self._queue = collections.deque([root])
        self._seen = {id(root)}
        self._current: Iterator[_Item] = iter(())
        self._count = 0
        self._given_up = False
        self.done = False

    def go_on(self, limit_s: float) -> None:
        """Search for some seconds of this thread's CPU time more. `done`: to the end."""
        until = time.thread_time() + limit_s
        try:
            while not (self.done or self._given_up):
                if not self._look(until):
                    return
                if self._queue:
                    self._current = _items(self._queue.popleft())
                else:
                    # A reference left here would say that somebody else holds the object.
                    self.done, self._seen, self._current = True, set(), iter(())
        except Exception:  # changed by another thread meanwhile, or there is no memory left
            self.give_up()

    def give_up(self) -> None:
        """Go no further, and hold no object that is yet to be looked at."""
        self._given_up = not self.done
        self._queue.clear()
        self._seen, self._current = set(), iter(())

    def _look(self, until: float) -> bool:
        """Look at what the current object holds; False: the time is over."""
        known, seen, queue = self._known, self._seen, self._queue
        self._count += 1
        if self._count % _CHECKED_EVERY == 0 and time.thread_time() > until:
            return False
        for item in self._current:
            self._count += 1
            if self._count % _CHECKED_EVERY == 0 and time.thread_time() > until:
                self._current = itertools.chain([item], self._current)
                return False
            if type(item) is Part:
                self.parts.append(item)
                continue
            key, part = item  # type: ignore[misc]
            cls = type(part)
            if id(cls) in _PLAIN:
                continue
            if cls is str:
                if (
                    (type(key) is str and is_secret_name(key))
                    or "://" in part
                    or (known is not None and known.search(part))
                ):
                    self._text(key, part)
            elif issubclass(cls, _TEXTS):
                self._text(key, part)
            elif is_wrapped(cls):
                self.parts.append(Part(part, None, f"a {name_of(cls)} is a secret"))
            elif id(cls) in _PASSED_OVER and _PLAIN.issuperset(map(id, map(type, part))):
                continue  # numbers, by the million perhaps
            elif id(part) not in seen:
                seen.add(id(part))
                if isinstance(key, str) and cls in (tuple, list) and is_secret_name(key):
                    self.parts += _listed(key, part)
                queue.append(part)
        return True

    def _text(self, key: Any, part: Any) -> None:
        reason = _why(key, part, self._rules)
        if reason is not None:
            self.parts.append(Part(part, key, reason))


def _listed(key: str, parts: Any) -> Iterator[Part]:
    """Texts that stand in a list or tuple under a secret's name, but the name itself."""
    for part in parts[:16]:
        text = text_of(part)
        if text and text.lower() != key.lower() and _is_credential(key, text):
            yield Part(part, None, _under(key))


def _why(key: Any, part: Any, rules: Rules) -> str | None:
    base = next(base for base in _TEXTS if issubclass(type(part), base))
    text = text_of(base.__getitem__(part, slice(_LONGEST))) or ""  # and no method of its own
    if isinstance(key, str) and is_secret_name(key) and _is_credential(key, text):
        return _under(key)
    return rules.in_text(text)


@functools.lru_cache(maxsize=256)
def _under(key: str) -> str:
    return f"text under {key!r} looks like a secret"


def _is_credential(key: str, text: str) -> bool:
    """Data sets have a column `token` too: there only what looks like a key is one."""
    if not is_token_name(key):
        return bool(text)
    return len(text) >= 16 and not re.search(r"\s", text) and not is_marker(text)


# --- what an object holds --------------------------------------------------------------

_Item = Part | tuple[Any, Any]  # or a key and a value


def _items(value: Any) -> Iterator[_Item]:
    """Keys and values that an object holds, without running code of its own."""
    cls = type(value)
    if cls is dict:
        return iter(value.items())
    if id(cls) in _PASSED_OVER:
        return _pair(value) if cls is tuple and len(value) == 2 else ((None, p) for p in value)
    return _others(value, cls)


def _others(value: Any, cls: type) -> Iterator[_Item]:
    if cls is types.FunctionType:
        yield from _of_function(value)
        return
    if cls is types.MethodType:
        yield None, value.__self__
        yield None, value.__func__
        return
    if id(cls) in _HOLDERS or issubclass(cls, functools.partial):
        yield from ((None, part) for part in gc.get_referents(value) if part is not cls)
        return
    if issubclass(cls, type):
        own = dict_of_class(value)
        if own.get("__module__") == "__main__":
            yield from _held(value, ((name, name, part) for name, part in own.items()))
        return
    if issubclass(cls, dict):
        yield from dict.items(value)
    elif issubclass(cls, list):
        yield from ((None, part) for part in list.__iter__(value))
    elif issubclass(cls, tuple):
        yield from _of_tuple(value, cls)
    elif issubclass(cls, set | frozenset):
        base: Any = set if issubclass(cls, set) else frozenset
        yield from ((None, part) for part in base.__iter__(value))
    elif issubclass(cls, collections.deque):
        yield from ((None, part) for part in collections.deque.__iter__(value))
    attributes = _attributes(value, cls)
    if attributes is not None:
        if issubclass(cls, enum.Enum):
            yield from _by_position([(attributes.get("_name_"), attributes.get("_value_"))])
        yield from attributes.items()
    if dict_of_class(cls).get("__module__") == "__main__":
        yield from _slots(value, cls)


def _pair(value: tuple[Any, Any]) -> Iterator[_Item]:
    """A key and its value, where they are no two names: `("password", "hunter2")`."""
    first, second = value
    yield None, first
    names = type(second) is str and re.fullmatch(r"[A-Za-z_ ]*", second) is not None
    yield None if names or type(first) is not str else first, second


def _of_tuple(value: Any, cls: type) -> Iterator[_Item]:
    parts = list(tuple.__iter__(value))
    names = dict_of_class(cls).get("_fields")
    if type(names) is tuple:  # a named one; pickled without the names
        yield from _by_position(zip(names, parts, strict=False))
    yield from ((None, part) for part in parts)


def _by_position(items: Iterable[tuple[Any, Any]]) -> Iterator[Part]:
    """Texts with names that do not stand before them in a pickle."""
    for name, part in items:
        text = text_of(part)
        if text and isinstance(name, str) and is_secret_name(name) and _is_credential(name, text):
            yield Part(part, None, _under(name))


def _held(holder: Any, items: Iterable[tuple[int | str, str, Any]]) -> Iterator[_Item]:
    """Positions, names and values of what a function or class keeps."""
    for position, name, part in items:
        found = list(_by_position([(name, part)]))
        yield from (Part(one.value, None, one.reason, id(holder), position) for one in found)
        if not found:
            yield None if type(part) in _TEXTS else name, part


def _of_function(function: types.FunctionType) -> Iterator[_Item]:
    code = function.__code__
    defaults = function.__defaults__ or ()
    arguments = code.co_varnames[: code.co_argcount]
    names = arguments[len(arguments) - len(defaults) :]
    named = zip(names, defaults, strict=False)
    yield from _held(function, ((at, name, part) for at, (name, part) in enumerate(named)))
    yield from (function.__kwdefaults__ or {}).items()
    yield from function.__dict__.items()
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
        try:
            found = list(_by_position([(name, cell.cell_contents)]))
            yield from found
            if not found:
                yield name, cell.cell_contents
        except ValueError:  # still empty
            continue


def _attributes(value: Any, cls: type) -> dict[str, Any] | None:
    """The instance's `__dict__`, past any property of that name."""
    for base in mro_of(cls):
        descriptor = dict_of_class(base).get("__dict__")
        if descriptor is not None:
            if type(descriptor) not in (types.GetSetDescriptorType, types.MemberDescriptorType):
                return None
            found = descriptor.__get__(value)
            return found if type(found) is dict else None
    return None


def _slots(value: Any, cls: type) -> Iterator[tuple[Any, Any]]:
    for base in mro_of(cls):
        for name, member in dict_of_class(base).items():
            if type(member) is types.MemberDescriptorType:
                try:
                    yield name, member.__get__(value)
                except AttributeError:  # never set
                    continue
