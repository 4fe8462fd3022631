"""State of the user's own modules: what a notebook has changed in them, and an import would lose.

A module of the user's is a Python file outside site-packages and the standard library. What has
changed in it since its import is a root beside the variables, `mylib.cache` or, of a class,
`mylib.Thing.count`: a unit, or part of one with the variables that it shares objects with.

    look       snapshot process: which of these roots there are
    Tracker    the kernel: what they were at first sight, from one checkpoint to the next

How they are set again is `own_modules_back`'s.

Not seen: what was changed in the very cell that imported the module, if its source gives no
literal for it; changes inside an object that cannot be pickled; modules without a source.
"""

from __future__ import annotations

import inspect
import pickle
import site
import sys
import sysconfig
import time
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from blake3 import blake3

from . import kinds, own_baselines, units
from .manifest import Skipped
from .own_baselines import Defined, Empty, Imported, Literal, Source

# What a look may take; where the user waits for it, much less.
LIMIT_S: Final = 2.0
WAITING_LIMIT_S: Final = 0.05
# A value is compared by its pickle, up to so much; memory of arrays counts apart.
_STREAM_LIMIT_BYTES: Final = 16 << 20
_ARRAYS_LIMIT_BYTES: Final = 256 << 20

_TOO_LARGE: Final = "it is too large to be watched for changes"
_NO_TIME: Final = "there was no time to look for changes in it"
# In place of a digest: it is another module's.
_FROM: Final = "from "
_IMPORT_GIVES: Final = "what its import gives is back"


@dataclass(frozen=True)
class Baseline:
    """What a module's names were at first sight: digests, by `counter` and `Thing.count`."""

    spec: int  # id of the module's spec: a reload makes another
    digests: dict[str, str]


@dataclass(frozen=True)
class Known:
    """What a snapshot process is told."""

    loaded_before: frozenset[str] = frozenset()  # modules that are none of the notebook's
    baselines: Mapping[str, Baseline] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()  # roots that have changed once


class Tracker:
    """What is known of the user's modules, in the kernel."""

    def __init__(self, loaded_before: frozenset[str] = frozenset()) -> None:
        self._known = Known(loaded_before)

    def known(self) -> Known:
        """For the next look."""
        return self._known

    def settle(self, report: list[Any]) -> None:
        """A checkpoint was committed: `Found.report` of its look."""
        baselines, kept = report
        seen = {name: Baseline(spec, digests) for name, (spec, digests) in baselines.items()}
        self._known = Known(
            self._known.loaded_before, {**self._known.baselines, **seen}, frozenset(kept)
        )

    def restored(self, names: Iterable[str]) -> None:
        """What a restore has set is no import's, and stays so."""
        kept = self._known.kept | {name for name in names if is_root(name)}
        self._known = Known(self._known.loaded_before, self._known.baselines, kept)


def is_root(name: str) -> bool:
    """A name of a module's; no variable is called so."""
    return "." in name


# --- look: the snapshot process -----------------------------------------------------------------


@dataclass
class Found:
    """What one look has found."""

    roots: dict[str, Any] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    baselines: dict[str, Baseline] = field(default_factory=dict)  # of modules seen first
    held: set[int] = field(default_factory=set)  # ids of what variables stand for

    @property
    def report(self) -> list[Any]:
        """For `Tracker.settle`, as JSON."""
        seen = {name: (one.spec, one.digests) for name, one in self.baselines.items()}
        return [seen, sorted(self.roots)]


def look(
    known: Known | None,
    variables: Mapping[str, Any],
    known_bad: Container[str],
    progress: Callable[[list[str]], None],
    limit_s: float = LIMIT_S,
) -> Found:
    """What has changed in the user's modules, or is an object of `variables` too.

    `progress` is told what is about to be pickled; `known_bad` is not pickled here.
    """
    found = Found(held={id(value) for value in variables.values() if not kinds.is_leaf(value)})
    if known is None:
        return found
    deadline = time.monotonic() + limit_s
    for module in modules(known.loaded_before):
        if time.monotonic() > deadline:
            reason = f"{_NO_TIME}: {_IMPORT_GIVES}"
            found.skipped.append(Skipped(module.__name__, "module", reason))
            continue
        try:
            _look_at(module, known, found, known_bad, progress)
        except (
            Exception,
            SystemExit,
            GeneratorExit,
        ) as why:  # a module may have put anything into its namespace
            reason = f"its changes cannot be told: {units.one_line(why)}"
            found.skipped.append(Skipped(module.__name__, "module", reason))
    return found


def modules(loaded_before: frozenset[str] = frozenset()) -> Iterator[types.ModuleType]:
    """The user's, as they are loaded now."""
    others = _directories_of_others()
    for name, module in list(sys.modules.items()):
        if type(module) is not types.ModuleType or name in loaded_before or name[:2] == "__":
            continue
        file = module.__dict__.get("__file__")
        if type(file) is not str or not file.endswith(".py") or file.startswith(others):
            continue
        spec = module.__dict__.get("__spec__")
        if spec is None or getattr(spec, "_initializing", False) or "-packages/" in file:
            continue
        if module.__dict__.get("__name__") == name:  # not one with two names
            yield module


def _directories_of_others() -> tuple[str, ...]:
    """Of the standard library, of what is installed, and of this package."""
    paths = sysconfig.get_paths()
    found = [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    found += [*site.getsitepackages(), site.getusersitepackages(), str(Path(__file__).parent)]
    real = {str(Path(path).resolve()) for path in found}
    return tuple(f"{path.rstrip('/')}/" for path in {*found, *real})


def _look_at(
    module: types.ModuleType,
    known: Known,
    found: Found,
    known_bad: Container[str],
    progress: Callable[[list[str]], None],
) -> None:
    baseline = known.baselines.get(module.__name__)
    if baseline is not None and baseline.spec != id(module.__spec__):
        baseline = None
    source = _source(module) if baseline is None else None
    digests: dict[str, str] = {}
    for name, value in _candidates(module):
        root = f"{module.__name__}.{name}"
        if root in known.kept or root in known_bad or id(value) in found.held:
            found.roots[root] = value
            continue
        initial = None if source is None else source.of(name)
        before = None if baseline is None else baseline.digests.get(name)
        if isinstance(initial, Imported):
            before = f"{_FROM}{initial.module} {initial.name}"
        if before is not None and before.startswith(_FROM) and _is_imported(value, before):
            digests[name] = before
            continue
        progress([root])
        digest = _digest(value)
        if digest is None:
            reason = f"{_TOO_LARGE}: {_IMPORT_GIVES}"
            found.skipped.append(Skipped(root, units.type_name(value), reason))
        elif source is not None:
            digests[name] = digest
            if _is_changed(value, initial):
                found.roots[root] = value
        elif before != digest:
            found.roots[root] = value
    if source is not None:
        found.baselines[module.__name__] = Baseline(id(module.__spec__), digests)


def _source(module: types.ModuleType) -> Source:
    try:
        text = inspect.getsource(module)
        return own_baselines.read(text, module.__package__ or "")
    except (OSError, TypeError, SyntaxError, ValueError, RecursionError, MemoryError):
        return Source({}, complete=False)  # then the values at first sight are the measure


def _is_changed(value: Any, initial: own_baselines.Initial | None) -> bool:
    """At first sight, by the source."""
    match initial:
        case None:
            return True
        case Literal() | Empty():
            return not own_baselines.is_initial(value, initial)
        case Imported():
            return True  # and is not what was imported
        case Defined():
            return True  # something else than a definition has its name
    return False


def _is_imported(value: Any, told: str) -> bool:
    """Whether it is still what the other module has under its name."""
    _, home, name = told.split(" ")
    return getattr(sys.modules.get(home), name, None) is value


def _candidates(module: types.ModuleType) -> Iterator[tuple[str, Any]]:
    """Names whose values could be state: data, and definitions of the notebook's."""
    for name, value in list(vars(module).items()):
        if not isinstance(name, str) or _is_special(name) or "." in name:
            continue
        if isinstance(value, type) and value.__dict__.get("__module__") == module.__name__:
            if value.__qualname__ == name and type(value).__name__ in ("type", "ABCMeta"):
                yield from _class_candidates(value)
        elif _is_data(value):
            yield name, value


def _class_candidates(cls: type) -> Iterator[tuple[str, Any]]:
    """Of classes only plain data: what else is there, metaclasses and decorators have made."""
    for name, value in list(vars(cls).items()):
        plain = type(value) in _PLAIN or (callable(value) and _is_data(value))
        if plain and not _is_special(name) and not name.startswith(("_abc_", "_is_")):
            yield f"{cls.__qualname__}.{name}", value


_PLAIN: Final = frozenset(
    {bool, int, float, complex, str, bytes, type(None), list, dict, set, tuple, frozenset,
     bytearray, deque, defaultdict, OrderedDict, Counter}
)  # fmt: skip


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _is_data(value: Any) -> bool:
    """No module, class or function; but one of the notebook's has been put there."""
    cls = type(value)
    if issubclass(cls, types.ModuleType | types.BuiltinFunctionType):
        return False
    if issubclass(cls, types.FunctionType | type):
        return getattr(value, "__module__", None) == "__main__"
    return not issubclass(cls, _DESCRIPTORS)


_DESCRIPTORS: Final = (
    staticmethod, classmethod, property, types.GetSetDescriptorType, types.MemberDescriptorType,
)  # fmt: skip


def _digest(value: Any) -> str | None:
    """Of the value, or of which object it is if that is all that can be told; None: too large."""
    arrays: list[pickle.PickleBuffer] = []
    stream = _Hashed()
    try:
        pickle.Pickler(stream, 5, buffer_callback=arrays.append).dump(value)
        raws = [buffer.raw() for buffer in arrays]
        if sum(raw.nbytes for raw in raws) > _ARRAYS_LIMIT_BYTES:
            return None
        for raw in raws:
            stream.hashed.update(raw)
    except _TooLarge:
        return None
    except (Exception, SystemExit, GeneratorExit):  # a lock, a lambda, a connection, own code
        return f"id {id(value)}"
    return str(stream.hashed.hexdigest(8))


class _TooLarge(BaseException):
    """No Exception: whatever is being pickled must not go on."""


class _Hashed:
    """A stream that keeps nothing."""

    def __init__(self) -> None:
        self.hashed = blake3()
        self._left = _STREAM_LIMIT_BYTES

    def write(self, data: Any) -> int:
        """As of a file."""
        self._left -= len(data)
        if self._left < 0:
            raise _TooLarge
        self.hashed.update(data)
        return len(data)


# --- where a root is ----------------------------------------------------------------------


def value_of(root: str) -> Any:
    """The live value; KeyError where there is none."""
    try:
        owner, name = owner_of(root, sys.modules.__getitem__)
        return vars(owner)[name]
    except (KeyError, AttributeError, TypeError) as why:
        raise KeyError(root) from why


def owner_of(root: str, module_of: Callable[[str], Any]) -> tuple[Any, str]:
    """The module or class that has the name, and that."""
    *above, name = root.split(".")
    for end in range(len(above), 0, -1):
        try:
            owner = module_of(".".join(above[:end]))
        except (KeyError, ModuleNotFoundError):
            if end == 1:
                raise
            continue
        for part in above[end:]:
            owner = getattr(owner, part)
        return owner, name
    raise KeyError(root)
