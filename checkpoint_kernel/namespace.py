"""Which names are the user's, and the interactive state around them.

Covers reading names out of the shell and binding them again. Environment variables are not
saved, and names that look like secrets are left out with a reason.
"""

from __future__ import annotations

import itertools
import linecache
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from . import own_modules, secrets_rules
from .kinds import type_name
from .manifest import Skipped
from .secrets_rules import Rules
from .stub import Stub

_LAST_OUTPUTS: Final = frozenset({"_", "__", "___"})
_INPUT: Final = re.compile(r"_i{1,3}\Z|_i\d+\Z")
_NUMBERED: Final = re.compile(r"_(\d+)\Z")
# Of the module itself. A cell that begins with a string sets `__doc__`, which is the user's.
_MACHINERY: Final = frozenset(
    {"__name__", "__builtin__", "__builtins__", "__loader__", "__spec__"}
)  # fmt: skip
_MADE_BY_PYTHON: Final = frozenset({"__warningregistry__"})
_OF_A_FRONTEND: Final = "__vsc"  # VS Code says by them which notebook this is
_OUTPUT: Final = re.compile(r"Out\[(\d+)\]\Z")
_NOTHING: Final = object()


@dataclass(frozen=True)
class Selection:
    """What of a namespace is to be saved."""

    roots: dict[str, Any]  # variables, and outputs as `Out[3]`
    skipped: list[Skipped]
    rules: Rules = field(default_factory=Rules)  # the texts of what is skipped are known to them


def is_users(name: str, value: Any, hidden: dict[str, Any], outputs: dict[Any, Any]) -> bool:
    """A name that the user made: not IPython's, unless the user gave it another value.

    `hidden`: what the shell calls its own; `outputs`: `Out`.
    """
    if name in hidden and hidden[name] is value:
        return False
    if name in _LAST_OUTPUTS:
        shown = any(value is output for output in outputs.values())
        return not shown and not (type(value) is str and value == "")
    if (numbered := _NUMBERED.match(name)) is not None:
        return outputs.get(int(numbered[1]), _NOTHING) is not value
    if _INPUT.match(name):
        return type(value) is not str
    if name == "_exit_code":  # of the last `!command`
        return type(value) is not int
    if name.startswith("__") and name.endswith("__"):
        if name in _MACHINERY or name in ("__doc__", "__package__"):
            return name in hidden or (name not in _MACHINERY and value is not None)
        return name not in _MADE_BY_PYTHON and not name.startswith(_OF_A_FRONTEND)
    return True


def select(namespace: dict[str, Any], hidden: dict[str, Any], rules: Rules) -> Selection:
    """The user's variables and outputs; what config or caution leaves out is `skipped`."""
    roots: dict[str, Any] = {}
    skipped: list[Skipped] = []
    secret: dict[str, str] = {}  # texts that are left out, and of which variable
    outputs = _outputs(namespace)
    for name, value in list(namespace.items()):
        if not isinstance(name, str):
            skipped.append(Skipped(_key(name), type_name(value), "no variable can be called so"))
            continue
        if not is_users(name, value, hidden, outputs):
            continue
        if name in _MACHINERY:
            found_by = "what the notebook defines is found by it when it is loaded"
            skipped.append(Skipped(name, type_name(value), found_by, "set it again"))
            continue
        if (
            name.startswith("#") or _OUTPUT.match(name) or own_modules.is_root(name)
        ):  # ours, within a checkpoint
            skipped.append(Skipped(name, type_name(value), "no variable can be called so"))
            continue
        if type(value) is Stub and value._stub_checkpoint is not None:
            skipped.append(_still_there(name, value))
            continue
        pattern = rules.excluded(name)
        reason = None if pattern is not None else rules.secret(name, value)
        if pattern is not None:
            skipped.append(Skipped(name, type_name(value), f"excluded by the pattern {pattern!r}"))
        elif reason is not None:
            skipped.append(Skipped(name, type_name(value), reason, secrets_rules.REMEDY))
            secret[secrets_rules.text_of(value) or ""] = name
        else:
            roots[name] = value
    rules = rules.also_known(secret)
    for key, value in list(outputs.items()):
        if not isinstance(key, int):
            reason = "outputs have numbers"
            skipped.append(Skipped(f"Out[{_key(key)}]", type_name(value), reason))
            continue
        text = secrets_rules.text_of(value)
        why = rules.in_text(text) if text else None
        if text and text in secret:
            why = f"it is the text of {secret[text]}, which is left out"
        if why is None:
            roots[f"Out[{key}]"] = value
        else:
            skipped.append(Skipped(f"Out[{key}]", type_name(value), why))
    for name, value in list(roots.items()):  # set before the secret was seen
        text = secrets_rules.text_of(value)
        why = rules.in_text(text) if text and not rules.included(name) else None
        if why is not None:
            del roots[name]
            skipped.append(Skipped(name, type_name(value), why, secrets_rules.REMEDY))
    return Selection(roots, skipped, rules)


def _outputs(namespace: dict[str, Any]) -> dict[Any, Any]:
    outputs = namespace.get("_oh")
    return outputs if isinstance(outputs, dict) else {}


def _key(key: object) -> str:
    """A key that is no name, for people; no code of the user's runs."""
    return repr(key) if type(key) in (int, float, bytes, str, bool) else f"a {type_name(key)}"


def _still_there(name: str, stub: Stub) -> Skipped:
    """What a Stub stands for is in another checkpoint."""
    return Skipped(
        name, stub._stub_what, stub._stub_reason, stub._stub_remedy,
        checkpoint=stub._stub_checkpoint,
    )  # fmt: skip


def of_modules(roots: dict[str, Any], rules: Rules) -> Selection:
    """Names of the user's modules, `mylib.cache`: the same config and caution hold for them."""
    kept: dict[str, Any] = {}
    skipped: list[Skipped] = []
    for name, value in roots.items():
        pattern = rules.excluded(name)
        reason = None if pattern is not None else rules.secret(name.rpartition(".")[2], value)
        if pattern is not None:
            skipped.append(Skipped(name, type_name(value), f"excluded by the pattern {pattern!r}"))
        elif reason is not None:
            skipped.append(Skipped(name, type_name(value), reason, secrets_rules.REMEDY))
        else:
            kept[name] = value
    return Selection(kept, skipped, rules)


def variables(namespace: dict[str, Any], without: Collection[str]) -> dict[str, Any]:
    """All live values by the names that `select` gives them, excluded ones too."""
    shown = _outputs(namespace).items()
    everything = {**namespace, **{f"Out[{number}]": value for number, value in shown}}
    return {name: value for name, value in everything.items() if name not in without}


def of_user(namespace: dict[str, Any], hidden: dict[str, Any]) -> dict[str, Any]:
    """Live values that the user made, outputs as `Out[3]`; secrets and excluded ones too."""
    return {
        name: value
        for name, value in variables(namespace, ()).items()
        if isinstance(name, str) and is_users(name, value, hidden, _outputs(namespace))
    }


def value_of(namespace: dict[str, Any], name: str) -> Any:
    """The live value of a name as `select` gives it, or of a module's; KeyError without one."""
    if own_modules.is_root(name):
        return own_modules.value_of(name)
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


def restore_last_outputs(shell: Any, but: Collection[str] = ()) -> None:
    """`_`, `__` and `___` are the last three outputs again, `but` those that are the user's."""
    outputs = shell.user_ns.get("_oh", {})
    numbers = sorted((n for n in outputs if isinstance(n, int)), reverse=True)
    last = [outputs[number] for number in numbers[:3]]
    for name, value in zip(("_", "__", "___"), last, strict=False):
        setattr(shell.displayhook, name, value)
        if name not in but:
            shell.user_ns[name] = value
