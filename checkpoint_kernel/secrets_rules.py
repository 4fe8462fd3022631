"""Which names and texts look like secrets.

Pure: the environment is handed in, and no code of an object's own is run. Only text and bytes
can be secret: a tokenizer or an array of tokens is data. Where in an object they are is told by
`secrets_search`; what is left out of a pickle, and how, is `hiding`'s.
"""

from __future__ import annotations

import fnmatch
import functools
import re
import sys
from collections.abc import Callable, Iterable, Mapping
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
# Every secret's name has one of these in it: a search for them costs little.
_HINTS: Final = tuple(
    sorted({pattern.strip("*") for pattern in (*SECRET_PATTERNS, *_TOKEN_PATTERNS)})
)
_HINT: Final = re.compile("|".join(map(re.escape, _HINTS)))

LOOKS_SO: Final = "its name looks like a secret"
REMEDY: Final = "set it again, or add it to `include` in kernel.json"


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
        if is_wrapped(type(value)):
            return f"a {name_of(type(value))} is a secret"
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
        if more <= self.known:
            return self
        return Rules(self.exclude, self.include, self.known | more)

    def found_in(self, pickled: bytes) -> bool:
        """Whether a pickle holds a known secret as text."""
        return any(one.encode("utf-8", "surrogatepass") in pickled for one in self.known)

    @property
    def pattern(self) -> re.Pattern[str] | None:
        """Matches in a text that holds a known secret; None: there are none."""
        return re.compile("|".join(map(re.escape, sorted(self.known)))) if self.known else None


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
    if _HINT.search(lower) is None:
        return False
    secret = _SECRET.match(lower) is not None and not lower.endswith("_provider")
    return secret or is_token_name(name)


@functools.lru_cache(maxsize=4096)
def is_token_name(name: str) -> bool:
    """`hf_token`, and no `eos_token`."""
    lower = name.lower()
    return _TOKEN.match(lower) is not None and _DATA.match(lower) is None


def has_secret_name(pickled: bytes) -> bool:
    """Whether a pickle may hold a name that looks like a secret's."""
    lower = pickled.lower()
    return any(hint.encode() in lower for hint in _HINTS)


def is_marker(text: str) -> bool:
    """`<s>`, `[PAD]`."""
    return _MARKER.fullmatch(text) is not None


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


name_of: Final[Callable[[type], str]] = type.__dict__["__name__"].__get__
mro_of: Final[Callable[[type], tuple[type, ...]]] = type.__dict__["__mro__"].__get__
dict_of_class: Final[Callable[[type], Mapping[str, Any]]] = type.__dict__["__dict__"].__get__


def is_wrapped(cls: type) -> bool:
    """pydantic's types for secrets."""
    if "pydantic" not in sys.modules:
        return False
    names = {(str(dict_of_class(c).get("__module__")), name_of(c)) for c in mro_of(cls)[:-1]}
    return any(
        module.split(".")[0] == "pydantic" and name in ("SecretStr", "SecretBytes")
        for module, name in names
    )
