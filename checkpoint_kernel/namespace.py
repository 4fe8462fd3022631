"""Which names are the user's, and the interactive state around them.

Covers reading names out of the shell and binding them again. Environment variables are not
saved, and names that look like secrets are left out with a reason.
"""

from __future__ import annotations

import fnmatch
import itertools
import linecache
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

from .manifest import Skipped
from .stub import Stub
from .units import type_name

# Text and bytes under such names are not saved; a tokenizer or an array of tokens is data.
SECRET_PATTERNS: Final = (
    "*password*", "*passwd*", "*api_key*", "*apikey*", "*secret*", "*_token", "token",
    "*access_key*", "*private_key*", "*credentials*",
)  # fmt: skip

_IPYTHON_NAMES: Final = frozenset(
    {"In", "Out", "get_ipython", "exit", "quit", "open", "_", "__", "___", "_i", "_ii", "_iii",
     "_ih", "_oh", "_dh", "_exit_code"}
)  # fmt: skip
_NUMBERED: Final = re.compile(r"_i?\d+\Z")
_OUTPUT: Final = re.compile(r"Out\[(\d+)\]\Z")
_NOTHING: Final = object()


@dataclass(frozen=True)
class Selection:
    """What of a namespace is to be saved."""

    roots: dict[str, Any]  # variables, and outputs as `Out[3]`
    skipped: list[Skipped]


def is_users(name: str, value: Any, hidden: dict[str, Any]) -> bool:
    """A name that the user made: not IPython's, unless the user gave it another value."""
    if name in _IPYTHON_NAMES or _NUMBERED.match(name):
        return False
    if name.startswith("__") and name.endswith("__"):
        return False
    return not (name in hidden and hidden[name] is value)


def select(
    namespace: dict[str, Any], hidden: dict[str, Any], exclude: tuple[str, ...]
) -> Selection:
    """The user's variables and outputs; what config or caution leaves out is `skipped`."""
    roots: dict[str, Any] = {}
    skipped: list[Skipped] = []
    for name, value in list(namespace.items()):
        if not isinstance(name, str) or not is_users(name, value, hidden):
            continue
        if name.startswith("#") or _OUTPUT.match(name):  # ours, within a checkpoint
            skipped.append(Skipped(name, type_name(value), "no variable can be called so"))
            continue
        pattern = _matching(name, exclude)
        if pattern is not None:
            skipped.append(Skipped(name, type_name(value), f"excluded by the pattern {pattern!r}"))
        elif _is_secret(name, value):
            skipped.append(
                Skipped(name, type_name(value), "its name looks like a secret", "set it again")
            )
        else:
            roots[name] = value
    outputs = namespace.get("_oh")
    if isinstance(outputs, dict):
        roots.update({f"Out[{n}]": value for n, value in outputs.items() if isinstance(n, int)})
    return Selection(roots, skipped)


def _matching(name: str, patterns: tuple[str, ...]) -> str | None:
    return next((p for p in patterns if fnmatch.fnmatchcase(name, p)), None)


def _is_secret(name: str, value: Any) -> bool:
    return issubclass(type(value), str | bytes) and bool(_matching(name.lower(), SECRET_PATTERNS))


def variables(namespace: dict[str, Any], without: Collection[str]) -> dict[str, Any]:
    """All live values by the names that `select` gives them, excluded ones too."""
    outputs = namespace.get("_oh")
    shown = outputs.items() if isinstance(outputs, dict) else ()
    everything = {**namespace, **{f"Out[{number}]": value for number, value in shown}}
    return {name: value for name, value in everything.items() if name not in without}


def of_user(namespace: dict[str, Any], hidden: dict[str, Any]) -> dict[str, Any]:
    """Live values that the user made, outputs as `Out[3]`; secrets and excluded ones too."""
    return {
        name: value
        for name, value in variables(namespace, ()).items()
        if isinstance(name, str) and is_users(name, value, hidden)
    }


def value_of(namespace: dict[str, Any], name: str) -> Any:
    """The live value of a name as `select` gives it; KeyError where there is none."""
    number = output_number(name)
    return namespace[name] if number is None else namespace["_oh"][number]


def is_there(namespace: dict[str, Any], name: str) -> bool:
    """Whether a name stands for a value, and for no stub of one."""
    try:
        return not isinstance(value_of(namespace, name), Stub)
    except KeyError:
        return False


def output_number(name: str) -> int | None:
    """3 for `Out[3]`, None for a variable."""
    output = _OUTPUT.match(name) if name.startswith("Out[") else None
    return None if output is None else int(output[1])


def identity(namespace: dict[str, Any], name: str) -> int | None:
    """`id` of the live value, or None where there is none."""
    try:
        return id(value_of(namespace, name))
    except KeyError:
        return None


def identities(
    namespace: dict[str, Any], names: Iterable[str], outputs: Iterable[int]
) -> list[int]:
    """`id` of the live values of variables, then of outputs; where there is none, no value's.

    No Python code runs for each.
    """
    shown = namespace.get("_oh")
    shown = shown if isinstance(shown, dict) else {}
    nothing = itertools.repeat(_NOTHING)
    variables = map(namespace.get, names, nothing)
    return list(map(id, itertools.chain(variables, map(shown.get, outputs, nothing))))


def bind(namespace: dict[str, Any], name: str, value: Any) -> None:
    """Give a restored variable its name; `Out[3]` goes to the outputs, and to `_3`."""
    number = output_number(name)
    if number is None:
        namespace[name] = value
        return
    namespace.setdefault("_oh", {})[number] = value
    namespace[f"_{number}"] = value


def interactive_state(shell: Any) -> dict[str, Any]:
    """History, prompt number and the sources of cells, as plain data."""
    history = shell.history_manager
    files = getattr(shell.compile, "_filename_map", {})
    sources = {
        name: entry
        for name, entry in list(linecache.cache.items())
        if len(entry) == 4 and (name in files or "ipykernel_" in name or "<ipython-input" in name)
    }
    return {
        "parsed": list(history.input_hist_parsed),
        "raw": list(history.input_hist_raw),
        "sources": sources,
        "filename_map": dict(files),
    }


def restore_interactive_state(shell: Any, state: dict[str, Any]) -> None:
    """Put the state back: `In[n]` goes on, `inspect.getsource` and tracebacks find sources."""
    history = shell.history_manager
    namespace = shell.user_ns
    history.input_hist_parsed[:] = state["parsed"]
    history.input_hist_raw[:] = state["raw"]
    raw = state["raw"]
    for number, source in enumerate(raw):
        if number:
            namespace[f"_i{number}"] = source
    # The next cell moves each of them one on: `_i` is then the last cell of before.
    for position, name in enumerate(("_i00", "_i", "_ii", "_iii"), start=1):
        setattr(history, name, raw[-position] if len(raw) > position else "")
        if name != "_i00":
            namespace[name] = getattr(history, name)
    restore_sources(shell, state)
    shell.execution_count = len(state["parsed"])


def restore_sources(shell: Any, state: dict[str, Any]) -> None:
    """The text of the cells that restored functions come from."""
    linecache.cache.update(state["sources"])
    known = getattr(shell.compile, "_filename_map", None)
    if known is not None:
        known.update(state["filename_map"])


def restore_last_outputs(shell: Any) -> None:
    """`_`, `__` and `___` are the last three outputs again."""
    outputs = shell.user_ns.get("_oh", {})
    numbers = sorted((n for n in outputs if isinstance(n, int)), reverse=True)
    last = [outputs[number] for number in numbers[:3]]
    for name, value in zip(("_", "__", "___"), last, strict=False):
        shell.user_ns[name] = value
        setattr(shell.displayhook, name, value)
