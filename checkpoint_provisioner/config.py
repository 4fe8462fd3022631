"""The `config` of kernel.json: what may stand there, and what every key means.

Checks form and range only; whether a limit can be enforced is `caps.policy`'s, and what
`%` comes to is `caps.limits`'s. Standard library only: the supervisor reads it too.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from checkpoint_kernel.session import Settings

Restore = Literal["crash", "always", "never"]

_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGT]?)", re.ASCII)
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)%", re.ASCII)
_OTHER_SPELLING = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt])?(?:i?b)?\s*", re.ASCII | re.IGNORECASE)

# An ipykernel that has imported nothing needs about 60 MB: below this no cell ever runs,
# and "8", meant as gigabytes, would look like a kernel that cannot start.
SMALLEST_LIMIT_BYTES = 64 * 1024**2
# Below it a kernel is not ready within the minute that a server waits for it.
SMALLEST_CPU_CORES = 0.1
# Threads count, and an ipykernel has a dozen; a snapshot process and numpy's threads come on top.
SMALLEST_PIDS = 32
NICEST = 19  # setpriority(2)


class ConfigError(ValueError):
    """A key or a value that kernel.json may not have; the message names it and what is allowed."""


@dataclass(frozen=True)
class Config:
    """The validated config. Sizes stay as the user wrote them: messages repeat them."""

    memory_limit: str | None = None  # "8G", "700M", "50%"; None: no cap
    soft_limit: str = "85%"  # of the cap; "100%" turns the guard off
    cpu_limit: float | None = None  # cores; None: no limit
    pids_limit: int | None = None  # processes and threads; None: no limit
    nice: int | None = None  # None: as the server
    checkpoint_interval: float = 30.0  # seconds; 0 is off
    checkpoint_after_cell: bool = True
    restore: Restore = "crash"
    store: str | None = None  # absolute directory; None: under the Jupyter data directory
    keep: int = 20
    store_limit: str | None = None  # None: the smaller of 20 % of the free disk and 20 GB
    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    shutdown_wait: float = 30.0  # seconds

    def settings(self) -> Settings:
        """The part of it that the kernel is told."""
        return Settings(
            checkpoint_interval=self.checkpoint_interval,
            checkpoint_after_cell=self.checkpoint_after_cell,
            restore=self.restore,
            keep=self.keep,
            store_limit_bytes=None if self.store_limit is None else parse_size(self.store_limit),
            exclude=self.exclude,
            include=self.include,
            shutdown_wait=self.shutdown_wait,
        )


def parse(mapping: Mapping[str, object]) -> Config:
    """The config of a kernelspec, or ConfigError for the first key or value that is wrong.

    A key that is absent or null has its default.
    """
    values: dict[str, Any] = {}
    for key, value in mapping.items():
        check = _CHECKS.get(key)
        if check is None:
            raise ConfigError(_unknown_key(key))
        if value is not None:
            values[key] = check(key, value)
    config = Config(**values)
    _check_soft_against_cap(config)
    return config


def parse_size(text: str | int) -> int:
    """Bytes of `8G`, `700M`, `1.5G` or a plain number. ValueError for anything else, `%` too."""
    match = _SIZE.fullmatch(str(text)) if not isinstance(text, bool) else None
    if match is None:
        raise ValueError(
            f"{_shown(text)} is not a size: write bytes, or a number with K, M, G or T"
        )
    number, unit = match.groups()
    return int(float(number) * _UNITS[unit]) if "." in number else int(number) * _UNITS[unit]


def parse_percent(text: str) -> float | None:
    """The share that `50%` stands for (0.5), or None if `text` is not a percentage."""
    match = _PERCENT.fullmatch(text)
    return None if match is None else float(match[1]) / 100


def _shown(value: object) -> str:
    """A value as it stands in kernel.json: "30" and 30 must look different."""
    try:
        return json.dumps(value, ensure_ascii=False)
    except TypeError:
        return repr(value)


def _refuse(key: str, value: object, allowed: str, hint: str = "") -> ConfigError:
    return ConfigError(f"{key}: {_shown(value)} is not allowed; {key} is {allowed}{hint}")


def _unknown_key(key: str) -> str:
    close = difflib.get_close_matches(str(key), _CHECKS, n=1)
    meant = f"; did you mean {close[0]!r}?" if close else "."
    return f"{key}: there is no such key{meant} Known keys: {', '.join(_CHECKS)}"


# --- one check per key: (key, value) -> the value for Config ---

_SIZE_FORMS = 'a number of bytes or a string such as "512M" or "8G"'
# No percent sign: tornado doubles it in the message that frontends show.
_LIMIT_FORMS = f"{_SIZE_FORMS}, or a percentage"


def _size(key: str, value: object, allowed: str, percent: bool) -> str:
    """A size or, where allowed, a percentage, as a string in the form the user wrote."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise _refuse(key, value, allowed)
    text = str(value)
    share = parse_percent(text)
    if share is not None:
        if not percent:
            raise _refuse(key, value, allowed)
        if not 0 < share <= 1:
            raise _refuse(key, value, allowed, "; a percentage is more than 0 and at most 100")
        return text
    if _SIZE.fullmatch(text) is None:
        raise _refuse(key, value, allowed, _size_hint(text))
    if parse_size(text) <= 0:
        raise _refuse(key, value, allowed, "; more than 0")
    return text


def _size_hint(text: str) -> str:
    """`8GB`, `8 G` and `8g` say what is meant: say how it is written."""
    other = _OTHER_SPELLING.fullmatch(text)
    return f'; did you mean "{other[1]}{(other[2] or "").upper()}"?' if other else ""


def _memory_limit(key: str, value: object) -> str:
    allowed = f"{_LIMIT_FORMS} of what the machine or container has, or null for no limit"
    text = _size(key, value, allowed, percent=True)
    if parse_percent(text) is None and parse_size(text) < SMALLEST_LIMIT_BYTES:
        meant = f'; did you mean "{text}G"?' if text.isdigit() and int(text) < 4096 else ""
        raise _refuse(
            key, value, allowed, f", at least 64M, which a kernel needs to start at all{meant}"
        )
    return text


def _soft_limit(key: str, value: object) -> str:
    return _size(key, value, f"{_LIMIT_FORMS} of memory_limit", percent=True)


def _cpu_limit(key: str, value: object) -> float:
    allowed = "a number of cores such as 1.5, at least 0.1, or null for no limit"
    cores = _number(key, value, allowed)
    if not math.isfinite(cores) or cores < SMALLEST_CPU_CORES:
        raise _refuse(key, value, allowed)
    return cores


def _pids_limit(key: str, value: object) -> int:
    allowed = f"a whole number of processes and threads, at least {SMALLEST_PIDS}, or null"
    return _whole(key, value, allowed, SMALLEST_PIDS)


def _nice(key: str, value: object) -> int:
    return _whole(key, value, f"a whole number from 0 to {NICEST}, or null", 0, NICEST)


def _number(key: str, value: object, allowed: str) -> float:
    if isinstance(value, str):
        raise _refuse(key, value, allowed, ", without quotes")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refuse(key, value, allowed)
    return float(value)


def _whole(key: str, value: object, allowed: str, low: int, high: int | None = None) -> int:
    if isinstance(value, str):
        raise _refuse(key, value, allowed, ", without quotes")
    if isinstance(value, bool) or not isinstance(value, int):
        raise _refuse(key, value, allowed)
    if value < low or (high is not None and value > high):
        raise _refuse(key, value, allowed)
    return value


def _store_limit(key: str, value: object) -> str:
    return _size(key, value, f"{_SIZE_FORMS}, or null for the default", percent=False)


def _interval(key: str, value: object) -> float:
    allowed = "a number of seconds, 0 for off"
    seconds = _number(key, value, allowed)
    if not math.isfinite(seconds) or seconds < 0:
        raise _refuse(key, value, allowed, "; not negative and not infinite")
    return seconds


def _flag(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        quotes = ", without quotes" if isinstance(value, str) else ""
        raise _refuse(key, value, "true or false", quotes)
    return value


def _restore(key: str, value: object) -> Restore:
    if value not in get_args(Restore):
        allowed = '"crash" (after a death), "always" (at every start) or "never"'
        raise _refuse(key, value, allowed)
    return cast(Restore, value)


def _store(key: str, value: object) -> str:
    allowed = (
        'an absolute path of a directory ("~/..." too), or null for the Jupyter data directory'
    )
    if not isinstance(value, str) or not value or "\0" in value:
        raise _refuse(key, value, allowed)
    if "://" in value:
        raise _refuse(key, value, allowed, "; URLs are not supported yet")
    try:
        path = Path(value).expanduser()
    except RuntimeError as why:  # "~nobody/..."
        raise _refuse(key, value, allowed, f"; {why}") from why
    if not path.is_absolute():
        # Relative to what? The server's working directory is nobody's choice.
        raise _refuse(key, value, allowed)
    return str(path)


def _keep(key: str, value: object) -> int:
    return _whole(key, value, "a whole number of checkpoints, at least 1", 1)


def _globs(key: str, value: object) -> tuple[str, ...]:
    allowed = 'a list of glob patterns of names, such as ["tmp_*", "password"]'
    if isinstance(value, str):
        raise _refuse(key, value, allowed, f"; did you mean [{_shown(value)}]?")
    if not isinstance(value, list | tuple) or not all(isinstance(p, str) and p for p in value):
        raise _refuse(key, value, allowed)
    return tuple(value)


_CHECKS: dict[str, Callable[[str, object], object]] = {
    "memory_limit": _memory_limit,
    "soft_limit": _soft_limit,
    "cpu_limit": _cpu_limit,
    "pids_limit": _pids_limit,
    "nice": _nice,
    "checkpoint_interval": _interval,
    "checkpoint_after_cell": _flag,
    "restore": _restore,
    "store": _store,
    "keep": _keep,
    "store_limit": _store_limit,
    "exclude": _globs,
    "include": _globs,
    "shutdown_wait": _interval,
}
KEYS = tuple(_CHECKS)


def _check_soft_against_cap(config: Config) -> None:
    if config.memory_limit is None:
        return
    if parse_percent(config.soft_limit) is not None or parse_percent(config.memory_limit):
        return
    if parse_size(config.soft_limit) > parse_size(config.memory_limit):
        raise ConfigError(
            f"soft_limit: {_shown(config.soft_limit)} is not allowed; soft_limit is at most "
            f"memory_limit, which is {_shown(config.memory_limit)}"
        )
