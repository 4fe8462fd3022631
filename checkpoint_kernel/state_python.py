"""Python's own interactive state: where modules and files are found, warnings, numbers, logging."""

from __future__ import annotations

import array
import gc
import logging
import os
import random
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from .state_item import Item, NotBack, changes, each, listed, loaded

# --- where modules and files are found -----------------------------------------------------


def merged(start: Sequence[str], now: Sequence[str], fresh: Sequence[str]) -> list[str]:
    """`sys.path` of a fresh kernel with what the user has done to that of another one.

    What the user has added stands where it stood, what was removed is gone, and what only the
    fresh one has comes behind the entry that it follows there.
    """
    result = [entry for entry in now if entry not in start or entry in fresh]
    place = 0
    for entry in fresh:
        if entry in result:
            place = result.index(entry) + 1
        elif entry not in start:
            result.insert(place, entry)
            place += 1
    return result


def _path(_shell: Any) -> tuple[str, ...]:
    return tuple(entry for entry in sys.path if isinstance(entry, str))


def _path_changed(seen: tuple[str, ...], start: tuple[str, ...]) -> Any:
    return None if seen == start else {"start": list(start), "now": list(seen)}


def _path_words(value: Any) -> str:
    start, now = set(value["start"]), set(value["now"])
    counts = [(len(now - start), "added"), (len(start - now), "removed")]
    return ", ".join(f"{n} {word}" for n, word in counts if n) or "another order"


def _put_path(_shell: Any, value: Any) -> None:
    sys.path[:] = merged(value["start"], value["now"], _path(_shell))


def _directory(shell: Any) -> Any:
    visited = shell.user_ns.get("_dh", ())  # what `%cd -` and `%dhist` know
    return {"now": str(Path.cwd()), "visited": [str(one) for one in visited]}


def _directory_changed(seen: Any, start: Any) -> Any:
    return seen if seen != start else None


def _put_directory(shell: Any, value: Any) -> None:
    try:
        os.chdir(value["now"])
    except OSError as why:
        raise NotBack(
            f"{value['now']}: {why.strerror}", f"you are in {Path.cwd()}: use %cd"
        ) from why
    if isinstance(visited := shell.user_ns.get("_dh"), list):
        visited[:] = value["visited"]


# --- the interpreter --------------------------------------------------------------------------

_SETTERS: Final[dict[str, Callable[[Any], object]]] = {
    "recursion limit": sys.setrecursionlimit,
    "digits of int": lambda digits: sys.set_int_max_str_digits(digits),
    "switch interval": sys.setswitchinterval,
    "garbage collection": lambda on: gc.enable() if on else gc.disable(),
    # The third is ours while a checkpoint is written (`snapshot.DeferredCollections`).
    "collection thresholds": lambda two: gc.set_threshold(two[0], two[1], gc.get_threshold()[2]),
    "logging.disable": logging.disable,
    "sys.argv": lambda words: sys.argv.__setitem__(slice(None), words),
}


def _interpreter(_shell: Any) -> dict[str, Any]:
    return {
        "recursion limit": sys.getrecursionlimit(),
        "digits of int": sys.get_int_max_str_digits(),
        "switch interval": sys.getswitchinterval(),
        "garbage collection": gc.isenabled(),
        "collection thresholds": list(gc.get_threshold()[:2]),
        "logging.disable": logging.root.manager.disable,
        "sys.argv": [word for word in sys.argv if isinstance(word, str)],
    }


def _put_interpreter(_shell: Any, value: dict[str, Any]) -> None:
    each(value.items(), lambda name, setting: _SETTERS[name](setting))


def _locale(_shell: Any) -> Any:
    locale = loaded("locale")
    return None if locale is None else locale.setlocale(locale.LC_ALL)


def _put_locale(_shell: Any, value: str) -> None:
    import locale

    locale.setlocale(locale.LC_ALL, value)


# --- warnings ---------------------------------------------------------------------------------


def _filters(_shell: Any) -> dict[str, Any]:
    return {"scope": id(warnings.filters), "now": tuple(warnings.filters)}


def _other_scope(before: Any, now: Any) -> bool:
    """catch_warnings() puts another list there, localcontext() another context."""
    return bool(before["scope"] != now["scope"])


def _filters_changed(seen: Any, start: Any) -> Any:
    return None if seen["now"] == start["now"] else [_told(entry) for entry in seen["now"]]


def _told(entry: Any) -> tuple[Any, ...]:
    """A filter without its class: to load that would import a library."""
    action, message, category, module, line = entry
    return action, _text(message), _class_name(category), _text(module), line


def _text(pattern: Any) -> Any:
    """Python's own filters are given as texts, others as patterns."""
    return (pattern.pattern, pattern.flags) if isinstance(pattern, re.Pattern) else pattern


def _class_name(category: type) -> tuple[str, str]:
    return category.__module__, category.__qualname__


def _put_filters(_shell: Any, value: Iterable[Any]) -> None:
    known, missing = [], []
    for action, message, category, module, line in value:
        found = _class_of(*category)
        if found is None:
            missing.append(f"{action} for {'.'.join(category)}")
        else:
            known.append((action, _pattern(message), found, _pattern(module), line))
    warnings.resetwarnings()  # also tells that what has been decided does not hold any more
    warnings.filters[:] = known  # type: ignore[index]
    # A library that is not loaded sets its own when it is; only what users set is missed.
    missing = [told for told in missing if told.startswith(("ignore ", "error "))]
    if missing:
        raise NotBack(f"the class is not there, for this filter: {', '.join(missing)}")


def _pattern(text: Any) -> Any:
    return re.compile(*text) if isinstance(text, tuple | list) else text


def _class_of(module: str, name: str) -> type | None:
    found = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) and issubclass(found, Warning) else None


# --- numbers ----------------------------------------------------------------------------------

_DECIMAL: Final = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp")


def _decimals(_shell: Any) -> Any:
    decimal = loaded("decimal")
    if decimal is None:
        return None
    context = decimal.getcontext()
    traps = sorted(signal.__name__ for signal, on in context.traps.items() if on)
    settings = {name: getattr(context, name) for name in _DECIMAL}
    return {"scope": id(context), "now": {**settings, "traps": traps}}


def _decimals_changed(seen: Any, start: Any) -> Any:
    return changes(seen["now"], start["now"])


def _put_decimals(_shell: Any, value: dict[str, Any]) -> None:
    import decimal

    context = decimal.getcontext()
    for name, setting in value.items():
        if name == "traps":
            for signal in context.traps:
                context.traps[signal] = signal.__name__ in setting
        else:
            setattr(context, name, setting)


def _random(_shell: Any) -> Any:
    return random.getstate()


def _random_changed(seen: Any, start: Any) -> Any:
    version, words, gauss = seen
    return None if seen == start else (version, array.array("I", words).tobytes(), gauss)


def _put_random(_shell: Any, value: Any) -> None:
    version, words, gauss = value
    random.setstate((version, tuple(array.array("I", words)), gauss))


# --- logging ----------------------------------------------------------------------------------


def _loggers() -> list[logging.Logger]:
    known = logging.root.manager.loggerDict
    named = [one for one in list(known.values()) if isinstance(one, logging.Logger)]
    return [logging.root, *named]


def _logging(_shell: Any) -> dict[str, Any]:
    return {
        f"logger {one.name}": (one.level, one.disabled, one.propagate, tuple(map(id, one.handlers)))
        for one in _loggers()
    }


def _logging_changed(seen: dict[str, Any], start: dict[str, Any]) -> Any:
    """Levels of all loggers that have one, and handlers of those that no library has made."""
    fresh = (logging.NOTSET, False, True, ())
    value: dict[str, Any] = {}
    for one in _loggers():
        now = seen.get(f"logger {one.name}")
        before = start.get(f"logger {one.name}", fresh)
        if now is None or now == before:
            continue
        changed = changes(
            dict(zip(("level", "disabled", "propagate"), now, strict=False)),
            dict(zip(("level", "disabled", "propagate"), before, strict=False)),
        )
        saved: dict[str, Any] = dict(changed or {})
        if now[3] != before[3] and one.name.partition(".")[0] not in sys.modules:
            saved["handlers"] = [_handler(handler) for handler in one.handlers]
        if saved:
            value[f"logger {one.name}"] = saved
    return value or None


def _logging_words(value: dict[str, Any]) -> str | None:
    """Loggers of libraries that are loaded are mostly set by these."""
    names = (name.removeprefix("logger ") for name in value)
    return listed(n for n in names if n.partition(".")[0] not in sys.modules) or None


def _handler(handler: logging.Handler) -> dict[str, Any]:
    formatter = handler.formatter
    told: dict[str, Any] = {"class": type(handler).__qualname__, "level": handler.level}
    # A filter, and a class of somebody's, may hold anything.
    if type(handler) is logging.FileHandler:
        told["path"] = handler.baseFilename
        told["encoding"] = handler.encoding
    elif type(handler) is logging.StreamHandler:
        # By name: in a snapshot process these two are others.
        stream = str(getattr(handler.stream, "name", "")).strip("<>")
        told |= {"stream": stream} if stream in ("stdout", "stderr") else {}
    if type(formatter) is logging.Formatter:
        told["format"] = (formatter._fmt, formatter.datefmt, _style(formatter))
    elif formatter is not None:
        told["formatter"] = type(formatter).__qualname__
    return told


def _style(formatter: logging.Formatter) -> str:
    styles: dict[str, Any] = logging._STYLES
    return next((key for key, (cls, _) in styles.items() if type(formatter._style) is cls), "%")


def _put_logging(_shell: Any, value: dict[str, Any]) -> None:
    def put(name: str, saved: Any) -> None:
        logger = logging.getLogger(name.removeprefix("logger "))
        if "level" in saved:
            logger.setLevel(saved["level"])
        logger.disabled = saved.get("disabled", logger.disabled)
        logger.propagate = saved.get("propagate", logger.propagate)
        if "handlers" in saved:
            made = [_made(told) for told in saved["handlers"]]  # before those that are there go
            logger.handlers[:] = made

    each(value.items(), put)


def _made(told: dict[str, Any]) -> logging.Handler:
    handler: logging.Handler
    if told["class"] == "NullHandler":
        handler = logging.NullHandler()
    elif "path" in told:
        handler = logging.FileHandler(told["path"], encoding=told["encoding"], delay=True)
    elif "stream" in told:
        handler = logging.StreamHandler(getattr(sys, told["stream"]))
    else:
        raise NotBack(f"a {told['class']} is not made again")
    if "formatter" in told:
        raise NotBack(f"a {told['formatter']} is not made again")
    handler.setLevel(told["level"])
    if "format" in told:
        text, date, style = told["format"]
        handler.setFormatter(logging.Formatter(text, date, style))
    return handler


ITEMS: Final = (
    Item("sys.path", _path, _path_changed, _put_path, _path_words, first=True),
    Item("working directory", _directory, _directory_changed, _put_directory,
         lambda value: str(value["now"]), first=True, scoped=True),
    Item("interpreter", _interpreter, changes, _put_interpreter, listed, first=True, scoped=True),
    Item("locale", _locale, lambda seen, start: seen if seen != start else None, _put_locale,
         str, first=True),
    Item("warnings filters", _filters, _filters_changed, _put_filters, scoped=True,
         in_block=_other_scope),
    Item("decimal context", _decimals, _decimals_changed, _put_decimals, listed, scoped=True,
         in_block=_other_scope, contextual=True),
    Item("logging", _logging, _logging_changed, _put_logging, _logging_words),
)  # fmt: skip

# Last of all: what is loaded or set may draw random numbers.
# Early: a forked process is given another one (`random` registers that with os).
SEED: Final = Item("seed of random", _random, _random_changed, _put_random, early=True)
