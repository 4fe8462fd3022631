"""Which names and texts look like secrets, and where in an object such a text is.

Pure: the environment is handed in, and no code of an object's own is run. Only text and bytes
can be secret: a tokenizer or an array of tokens is data. Does not look into arrays, tables or the
text of cells; what is left out of a pickle, and how, is `hiding`'s.
"""

from __future__ import annotations

import fnmatch
import functools
import itertools
import re
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

# Compared with names in lower case.
SECRET_PATTERNS: Final = (
    "*password*", "*passwd*", "*passphrase*", "*api_key*", "*apikey*", "*api-key*", "*secret*",
    "*access_key*", "*accesskey*", "*private_key*", "*credential*", "*auth_header*",
    "authorization", "bearer*", "*connection_string*", "*_dsn", "dsn",
)  # fmt: skip
_TOKEN_PATTERNS: Final = ("*_token", "*-token", "*authtoken*", "token")
# Tokens of language models and of grammars. `max_token` and the like are numbers anyway.
_DATA_PATTERNS: Final = (
    "[bec]os_token", "[a-z][a-z][a-z]_token", "mask_token", "additional_special_token",
    "special_token", "start_token", "end_token", "stop_token", "next_token", "last_token",
    "first_token", "image_token", "decoded_token", "word_token", "sub_token",
)  # fmt: skip

_SECRET, _TOKEN, _DATA = (
    re.compile("|".join(map(fnmatch.translate, patterns)))
    for patterns in (SECRET_PATTERNS, _TOKEN_PATTERNS, _DATA_PATTERNS)
)

# Values of secret-looking environment variables that are none.
_WORDS: Final = frozenset(
    {"password", "changeme", "disabled", "required", "optional", "undefined", "localhost",
     "development", "production", "postgres", "postgresql", "keychain", "anonymous", "internal",
     "external", "username", "administrator", "jovyan", "none", "true", "false"}
)  # fmt: skip
_SHORTEST: Final = 8
_MARKER: Final = re.compile(r"[<\[{|].*[>\]}|]|\s*")
_WITH_PASSWORD: Final = re.compile(r"[a-zA-Z][\w+.-]*://[^/\s:@]*:[^/\s@]+@\S+")
_LONGEST_URL: Final = 4096
_SEARCHED: Final = 1 << 20  # characters of a text that are searched for a known secret
_OBJECTS: Final = 5000  # looked at in one variable
_DEPTH: Final = 8

LOOKS_SO: Final = "its name looks like a secret"
REMEDY: Final = "set it again, or add it to `include` in kernel.json"


@dataclass(frozen=True)
class Part:
    """A text inside an object, by identity: of the value, and of the key that stands before it."""

    value: Any
    key: Any  # None: there is none
    reason: str


@dataclass(frozen=True)
class Rules:
    """What is left out of checkpoints by configuration and caution.

    `exclude` wins over all; `include` names what is saved though it looks like a secret. `known`:
    texts that are secret wherever they are.
    """

    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    known: frozenset[str] = frozenset()

    def excluded(self, name: str) -> str | None:
        """The pattern by which a variable is never saved."""
        return _matching(name, self.exclude)

    def included(self, name: str) -> bool:
        """A variable that is saved as it is."""
        return _matching(name, self.include) is not None

    def secret(self, name: str, value: Any) -> str | None:
        """Why a variable is left out as a whole, or None: `value` is no text, or none of note."""
        if self.included(name):
            return None
        if _is_wrapped(type(value)):
            return f"a {_name_of(type(value))} is a secret"
        text = text_of(value)
        if not text:
            return None
        if is_secret_name(name) and not (is_token_name(name) and _MARKER.fullmatch(text)):
            return LOOKS_SO
        return self.in_text(text)

    def in_text(self, text: str) -> str | None:
        """Why a text is secret whatever its name is."""
        if len(text) <= _LONGEST_URL and _WITH_PASSWORD.fullmatch(text):
            return "it is an address with a password in it"
        if self.known and any(one in text[:_SEARCHED] for one in self.known):
            return "it holds the value of a secret"
        return None

    def also_known(self, texts: Iterable[str]) -> Rules:
        """The same rules, with more texts that are secret wherever they are."""
        more = {text for text in texts if is_telling(text) and not text.isalpha()}
        return Rules(self.exclude, self.include, self.known | more)

    def found_in(self, pickled: bytes) -> bool:
        """Whether a pickle holds a known secret as text."""
        return any(one.encode("utf-8", "surrogatepass") in pickled for one in self.known)

    def parts(self, value: Any) -> list[Part]:
        """Secret texts inside a variable: in builtin containers, attributes, defaults, closures.

        At most some thousand of its objects are looked at.
        """
        return list(_inside(value, self))


def of(
    exclude: tuple[str, ...],
    include: tuple[str, ...],
    environment: Mapping[str, str],
    is_path: Callable[[str], bool],
) -> Rules:
    """The rules of a kernel, with its environment's secrets; `is_path`: is that a file?"""
    known = {
        value
        for name, value in environment.items()
        if is_secret_name(name) and is_telling(value) and not is_path(value)
    }
    return Rules(exclude, include, frozenset(known))


@functools.lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """A variable's, an attribute's, a key's or an environment variable's.

    Not a `credential_provider`: that says where secrets are.
    """
    lower = name.lower()
    secret = _SECRET.match(lower) is not None and not lower.endswith("_provider")
    return secret or is_token_name(name)


@functools.lru_cache(maxsize=4096)
def is_token_name(name: str) -> bool:
    """`hf_token`, and no `eos_token`."""
    lower = name.lower()
    return _TOKEN.match(lower) is not None and _DATA.match(lower) is None


def is_telling(text: str) -> bool:
    """Long enough, and no trivial word or number: who finds it elsewhere has found the secret."""
    if len(text) < _SHORTEST or text.lower() in _WORDS or len(set(text)) < 4:
        return False
    return not re.fullmatch(r"[\d.,:_+-]*", text) and not text.isspace()


def text_of(value: Any) -> str | None:
    """The text of a str, bytes or bytearray, also of a subclass; None: it is something else."""
    cls = type(value)
    if issubclass(cls, str):
        return str.__str__(value)
    if issubclass(cls, bytes):
        return bytes.decode(value, "utf-8", "replace")
    if issubclass(cls, bytearray):
        return bytearray.decode(value, "utf-8", "replace")
    return None


def _matching(name: str, patterns: tuple[str, ...]) -> str | None:
    return next((pattern for pattern in patterns if fnmatch.fnmatchcase(name, pattern)), None)


_name_of: Final[Callable[[type], str]] = type.__dict__["__name__"].__get__
_mro_of: Final[Callable[[type], tuple[type, ...]]] = type.__dict__["__mro__"].__get__
_dict_of: Final[Callable[[type], Mapping[str, Any]]] = type.__dict__["__dict__"].__get__


def _is_wrapped(cls: type) -> bool:
    """pydantic's types for secrets."""
    if "pydantic" not in sys.modules:
        return False
    names = {(str(_dict_of(c).get("__module__")), _name_of(c)) for c in _mro_of(cls)[:-1]}
    return any(
        module.split(".")[0] == "pydantic" and name in ("SecretStr", "SecretBytes")
        for module, name in names
    )


# --- inside an object ------------------------------------------------------------------

# What is told of itself by nothing but its own value. Most of what there is.
_PLAIN: Final = frozenset(
    {int, float, complex, bool, type(None), range, slice, types.BuiltinFunctionType,
     types.ModuleType}
)  # fmt: skip
_TEXTS: Final = (str, bytes, bytearray)


def _inside(root: Any, rules: Rules) -> Iterator[Part]:
    """Breadth first, so that what is near the variable is looked at in any case."""
    queue: list[tuple[Any, int]] = [(root, 0)]
    seen: set[int] = set()
    for value, depth in queue:
        if id(value) in seen or depth > _DEPTH:
            continue
        seen.add(id(value))
        for key, part in _items(value):
            cls = type(part)
            if cls in _PLAIN:
                continue
            if cls in _TEXTS or issubclass(cls, _TEXTS):
                reason = _why(key, part, rules)
                if reason is not None:
                    yield Part(part, key, reason)
            elif _is_wrapped(cls):
                yield Part(part, None, f"a {_name_of(cls)} is a secret")
            elif len(queue) < _OBJECTS:
                if isinstance(key, str) and is_secret_name(key) and cls in (tuple, list):
                    yield from _listed(key, part)
                queue.append((part, depth + 1))


def _listed(key: str, parts: Any) -> Iterator[Part]:
    """Texts that stand in a list or tuple under a secret's name, but the name itself."""
    for part in parts[:16]:
        text = text_of(part)
        if text and text.lower() != key.lower() and _is_credential(key, text):
            yield Part(part, None, f"text under {key!r} looks like a secret")


def _why(key: Any, part: Any, rules: Rules) -> str | None:
    text = text_of(part) or ""
    if isinstance(key, str) and is_secret_name(key) and _is_credential(key, text):
        return f"text under {key!r} looks like a secret"
    return rules.in_text(text)


def _is_credential(key: str, text: str) -> bool:
    """Data sets have a column `token` too: there only what looks like a key is one."""
    if not is_token_name(key):
        return bool(text)
    return len(text) >= 16 and not re.search(r"\s", text) and not _MARKER.fullmatch(text)


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    """Keys and values that an object holds, without running code of its own."""
    cls = type(value)
    if issubclass(cls, dict):
        yield from _some(dict.items(value))
    if issubclass(cls, list):
        yield from ((None, part) for part in list.__getitem__(value, slice(_OBJECTS)))
    elif issubclass(cls, tuple):
        yield from ((None, part) for part in tuple.__getitem__(value, slice(_OBJECTS)))
    elif cls is set or cls is frozenset:
        yield from ((None, part) for part in itertools.islice(value, _OBJECTS))
    elif cls is types.FunctionType:
        yield from _of_function(value)
        return
    elif cls is types.MethodType:
        yield None, value.__self__
        yield None, value.__func__
        return
    elif issubclass(cls, type):
        if _dict_of(value).get("__module__") == "__main__":
            yield from _some(_dict_of(value).items())
        return
    attributes = _attributes(value, cls)
    if attributes is not None:
        yield from _some(attributes.items())
    if _dict_of(cls).get("__module__") == "__main__":
        yield from _slots(value, cls)


def _some(items: Iterable[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    return list(itertools.islice(items, _OBJECTS))


def _of_function(function: types.FunctionType) -> Iterator[tuple[Any, Any]]:
    code = function.__code__
    defaults = function.__defaults__ or ()
    arguments = code.co_varnames[: code.co_argcount]
    yield from zip(arguments[len(arguments) - len(defaults) :], defaults, strict=False)
    yield from (function.__kwdefaults__ or {}).items()
    yield from function.__dict__.items()
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield name, cell.cell_contents
        except ValueError:  # still empty
            continue


def _attributes(value: Any, cls: type) -> dict[str, Any] | None:
    """The instance's `__dict__`, past any property of that name."""
    for base in _mro_of(cls):
        descriptor = _dict_of(base).get("__dict__")
        if descriptor is not None:
            if type(descriptor) is not types.GetSetDescriptorType:
                return None
            found = descriptor.__get__(value)
            return found if type(found) is dict else None
    return None


def _slots(value: Any, cls: type) -> Iterator[tuple[Any, Any]]:
    for base in _mro_of(cls):
        for name, member in _dict_of(base).items():
            if type(member) is types.MemberDescriptorType:
                try:
                    yield name, member.__get__(value)
                except AttributeError:  # never set
                    continue
