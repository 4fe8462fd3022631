"""A namespace as a notebook's, its units, and a second one loaded from them."""

from __future__ import annotations

from typing import Any

from checkpoint_kernel import pickling, units


class Notebook:
    """Cells run in a plain dict that calls itself `__main__`."""

    def __init__(self) -> None:
        self.main: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__}

    def run(self, cell: str) -> None:
        exec(compile(cell, "<cell>", "exec"), self.main)

    @property
    def variables(self) -> dict[str, Any]:
        return {name: v for name, v in self.main.items() if not name.startswith("__")}

    def partition(self, in_call: tuple[Any, ...] = (), **known_bad: Any) -> units.Partition:
        return units.partition(self.variables, self.main, known_bad, lambda _: None, in_call)

    def reborn(self) -> Notebook:
        """A new notebook with the variables loaded from this one's units."""
        return load(self.partition())


def load(partition: units.Partition) -> Notebook:
    notebook = Notebook()
    loader = _Loader(partition, notebook.main)
    for draft in partition.units:
        notebook.main.update(
            {k: v for k, v in loader.unit(draft.id).items() if not k.startswith("#")}
        )
    return notebook


class _Loader:
    def __init__(self, partition: units.Partition, main: dict[str, Any]) -> None:
        self._drafts = {draft.id: draft for draft in partition.units}
        self._homes = partition.definition_units
        self._main = main
        self._loaded: dict[str, dict[str, Any]] = {}

    def definition(self, key: str) -> Any:
        return self.unit(self._homes[key])[key]

    def unit(self, unit_id: str) -> dict[str, Any]:
        if unit_id not in self._loaded:
            pickled = self._drafts[unit_id].pickled
            assert pickled is not None
            memory, refs = units.storages(pickled)
            copies = [bytearray(storage) for storage in memory]
            buffers = [
                memoryview(copies[ref.storage])[ref.offset : ref.offset + ref.length]
                for ref in refs
            ]
            self._loaded[unit_id] = pickling.load(
                pickled.codec, pickled.stream, buffers, self._main, self
            )
        return self._loaded[unit_id]


def names_of_units(partition: units.Partition) -> set[frozenset[str]]:
    return {frozenset(draft.root) for draft in partition.units}
