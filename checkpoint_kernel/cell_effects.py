"""What one cell does to the notebook's variables: binds, changes, needs. `cell_reader` finds it.

What a method or a function does to its object is guessed from its name.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

# Methods that everyday objects are only read by. All others may change what they are called on.
_READING: Final = frozenset(
    {"head", "tail", "describe", "info", "copy", "items", "keys", "values", "get", "mean", "sum",
     "min", "max", "std", "var", "count", "index", "plot", "show", "hist", "boxplot", "scatter",
     "predict", "predict_proba", "score", "transform", "evaluate", "summary", "parameters",
     "named_parameters", "state_dict", "get_params", "to_csv", "to_parquet", "to_json", "to_dict",
     "to_numpy", "to_list", "tolist", "groupby", "merge", "join", "astype", "value_counts",
     "unique", "nunique", "isna", "notna", "isnull", "sample", "query", "corr", "split", "strip",
     "format", "startswith", "endswith", "lower", "upper", "replace", "encode", "decode", "save",
     "reshape", "item", "size", "dim", "numel", "savefig", "isoformat", "strftime", "exists"}
)  # fmt: skip


@dataclass(frozen=True)
class Effects:
    """Names of the notebook, and what a cell does with them."""

    binds: frozenset[str] = frozenset()  # assigns, imports or defines, perhaps in a branch only
    certain: frozenset[str] = frozenset()  # of these: in every branch
    definitions: frozenset[str] = frozenset()  # of these: modules, functions and classes
    imports: frozenset[str] = frozenset()  # of these: what is imported
    deletes: frozenset[str] = frozenset()
    stores: frozenset[str] = frozenset()  # whose items or attributes it sets, or by `+=`
    methods: frozenset[tuple[str, str]] = frozenset()  # `rows.append(1)`: (rows, append)
    passed: frozenset[tuple[str, str]] = frozenset()  # `train(model)`: (model, train)
    in_place: frozenset[tuple[str, str]] = frozenset()  # `next(gen)`: (gen, next)
    same: frozenset[tuple[str, str]] = frozenset()  # `b = a`, `b = a.part`: (b, a)
    holds: frozenset[tuple[str, str]] = frozenset()  # `t = Trainer(model)`: (t, model)
    consumes: frozenset[str] = frozenset()  # that it iterates over
    loads: frozenset[str] = frozenset()  # needs when it runs
    deferred: frozenset[str] = frozenset()  # needed when its functions are called
    # (function that it defines, variable that a `global` statement in it lets it set)
    setters: frozenset[tuple[str, str]] = frozenset()
    harmless: frozenset[str] = frozenset()  # functions that it defines, and change no argument
    called: frozenset[str] = frozenset()  # functions called by name
    stars: tuple[str, ...] = ()  # modules of `from m import *`
    magics: tuple[str, ...] = ()  # as typed: "%run", "%%bash", "!"
    lines: tuple[tuple[str, int], ...] = ()  # where a name is bound last, from 1
    is_python: bool = True

    def change(self, name: str, harmless: Collection[str] = ()) -> str | None:
        """How it may change what a name stands for: `rows.append()`, `train(model)`.

        `harmless`: functions that do nothing to what they are given. Classes keep it only.
        """
        if name in self.stores:
            return "sets a part of it"
        methods = sorted(how for of, how in self.methods if of == name and how not in _READING)
        given = sorted(
            how
            for of, how in self.passed
            if of == name and how not in harmless and not how[:1].isupper()
        )
        given = sorted(how for of, how in self.in_place if of == name) + given
        if methods:
            return f"{name}.{methods[0]}()"
        return f"{given[0]}({name})" if given else None
