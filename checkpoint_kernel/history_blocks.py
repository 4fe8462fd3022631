"""History and sources of cells as blocks of bytes: a checkpoint writes what the last cell added.

A block once made stays as it is while cells are added, so that the store has it already: each
is a buffer beside the session unit's stream, a chunk of its own and 65 bytes in the recipe.
A text is stored once where history and sources hold it several times. What the state is, and
how it is put back, is `namespace`'s.
"""

from __future__ import annotations

import itertools
import json
import pickle
from collections.abc import Iterable, Iterator
from typing import Any, Final

# So many blocks of one size become one of the next: each entry is written once per size, and
# the number of blocks, and with it the recipe, grows with the logarithm of the history.
_GROWTH: Final = 8
# Entries in the smallest blocks: what a block costs should not be more than what is in it.
_HISTORY_FROM, _SOURCES_FROM, _NUMBERS_FROM = 1, 8, 64
_ENCODING: Final = "utf-8", "surrogatepass"


def pack(state: dict[str, Any]) -> dict[str, list[pickle.PickleBuffer]]:
    """`namespace.interactive_state` as buffers, which a pickler puts beside its stream."""
    parsed, raw = _texts(state["parsed"]), _texts(state["raw"])
    history = [
        [one] if one == other else [one, other] for one, other in itertools.zip_longest(parsed, raw)
    ]
    # The first cell with a text: one that is run again must not change an old block.
    cells = {text: number for number, text in reversed(list(enumerate(parsed)))}
    sources, numbers = state["sources"], state["filename_map"]
    names = dict.fromkeys([*sources, *numbers])
    return {
        "history": list(_blocks(history, _HISTORY_FROM)),
        "sources": list(
            _blocks([_source(name, sources.get(name), cells) for name in names], _SOURCES_FROM)
        ),
        # Apart: one that is run again has another number.
        "numbers": list(_blocks([numbers.get(name) for name in names], _NUMBERS_FROM)),
    }


def unpack(packed: dict[str, Any]) -> dict[str, Any]:
    """The state that was packed. One that was saved before there were blocks is as it was."""
    if "history" not in packed:
        return packed
    history = _entries(packed["history"])
    parsed = [entry[0] for entry in history if entry[0] is not None]
    sources = {name: _lines(name, held, parsed) for name, *held in _entries(packed["sources"])}
    return {
        "parsed": parsed,
        "raw": [entry[-1] for entry in history if entry[-1] is not None],
        "sources": {name: entry for name, entry in sources.items() if entry is not None},
        "filename_map": {
            name: number
            for name, number in zip(sources, _entries(packed["numbers"]), strict=True)
            if number is not None
        },
    }


def _texts(inputs: Iterable[Any]) -> list[str]:
    """`In` is a list that users can write to: what they put there is no text of a cell."""
    return [text if type(text) is str else "" for text in inputs]


def _source(name: str, entry: Any, cells: dict[str, int]) -> list[Any]:
    """An entry of linecache: its name, and the number of a cell and how its text ends, if that
    is all there is to it, else all of it. Nothing, if only the name is known."""
    if not _is_sound(entry):
        return [name]
    text = "".join(entry[2])
    cell = text.rstrip("\n")
    if cell in cells and tuple(entry) == _linecache_entry(name, text):
        return [name, cells[cell], text[len(cell) :]]
    return [name, entry]


def _is_sound(entry: Any) -> bool:
    """Size, time of change, lines, full name, as linecache says: anybody can write to it."""
    match entry:
        case (int(), int() | float() | None, [*lines], str()):
            return all(type(line) is str for line in lines)
    return False


def _lines(name: str, held: list[Any], parsed: list[str]) -> Any:
    match held:
        case [int(cell), str(end)]:
            return _linecache_entry(name, parsed[cell] + end)
        case [entry]:
            return tuple(entry)
    return None


def _linecache_entry(name: str, text: str) -> tuple[int, None, list[str], str]:
    """As IPython's compiler makes it of a cell's text."""
    return len(text), None, [line + "\n" for line in text.splitlines()], name


def _blocks(entries: list[Any], smallest: int) -> Iterator[pickle.PickleBuffer]:
    """The largest blocks first, so that those of older entries stay when some are added."""
    size = smallest
    while size * _GROWTH <= len(entries):
        size *= _GROWTH
    start = 0
    while start < len(entries):
        while size > max(smallest, len(entries) - start):
            size //= _GROWTH
        # JSON: equal entries give equal bytes, whichever of their texts are one object.
        text = json.dumps(entries[start : start + size], ensure_ascii=False, separators=(",", ":"))
        yield pickle.PickleBuffer(text.encode(*_ENCODING))
        start += size


def _entries(blocks: Iterable[Any]) -> list[Any]:
    return [entry for block in blocks for entry in json.loads(str(block, *_ENCODING))]
