"""History and sources of cells as blocks: what comes back, and what one more cell costs."""

from __future__ import annotations

import linecache
import shutil
import sys
from pathlib import Path
from typing import Any

import interactive
import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpoint_kernel import history_blocks, namespace, restore
from checkpoint_kernel.store import Store

pytestmark = pytest.mark.unit

GOLDEN = Path(__file__).parents[1] / "golden" / "whole-history"

text = st.text(st.characters(codec=None), max_size=20)  # lone surrogates too


@pytest.fixture(autouse=True)
def sources_of_this_test_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linecache, "cache", {})


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    return interactive.new_shell()


def compiled(name: str, cell: str) -> Any:
    """What IPython's compiler puts into linecache."""
    return len(cell), None, [line + "\n" for line in cell.splitlines()], name


def state_of(cells: list[str], **given: Any) -> dict[str, Any]:
    """The state after these cells."""
    sources = {f"<{cell}>": compiled(f"<{cell}>", cell + "\n") for cell in cells}
    numbers = {f"<{cell}>": number for number, cell in enumerate(cells, start=1)}
    inputs = ["", *cells]
    return {"parsed": inputs, "raw": inputs, "sources": sources, "filename_map": numbers} | given


def blocks_of(state: dict[str, Any]) -> set[bytes]:
    return {bytes(block) for blocks in history_blocks.pack(state).values() for block in blocks}


@given(
    st.lists(text),
    st.lists(text),
    st.dictionaries(text, text),
    st.dictionaries(text, st.integers()),
)
def test_what_was_packed_comes_back(
    parsed: list[str], raw: list[str], sources: dict[str, str], numbers: dict[str, int]
) -> None:
    entries: dict[str, Any] = {name: compiled(name, cell) for name, cell in sources.items()}
    entries |= {f"{name}.py": (3, 1.5, ["a\n"], name) for name in sources}
    state = {"parsed": parsed, "raw": raw, "sources": entries, "filename_map": numbers}
    assert history_blocks.unpack(history_blocks.pack(state)) == state


def test_a_thousand_cells_come_back_in_their_order() -> None:
    state = state_of([f"v = {number}" for number in range(1000)])
    back = history_blocks.unpack(history_blocks.pack(state))
    assert back == state
    assert list(back["sources"]) == list(state["sources"])


def test_a_text_is_stored_once() -> None:
    together = b"".join(blocks_of(state_of(["first = 'a text of some length'"], filename_map={})))
    assert together.count(b"of some length") == 2  # the other is in the name of the source


def test_a_cell_that_is_run_again_leaves_old_blocks_as_they_are() -> None:
    cells = [f"v = {number}" for number in range(40)]
    before = state_of(cells)
    after = state_of(cells)
    after["parsed"], after["raw"] = [*after["parsed"], "v = 3"], [*after["raw"], "v = 3"]
    after["filename_map"] = {**after["filename_map"], "<v = 3>": 41}
    # The cell itself, and the block with its number.
    assert len(blocks_of(after) - blocks_of(before)) == 2


def test_equal_histories_give_equal_bytes_whichever_texts_are_one_object() -> None:
    once = "x" * 10
    apart = "".join(list(once))
    assert apart is not once
    one, other = ({"parsed": [once, cell], "raw": [once, cell]} for cell in (once, apart))
    empty = {"sources": {}, "filename_map": {}}
    assert blocks_of(one | empty) == blocks_of(other | empty)


def test_what_the_user_puts_among_the_inputs_that_is_no_text_costs_nothing_else(
    shell: Any, tmp_path: Path
) -> None:
    interactive.run(shell, "x = 1", "In[1] = (n for n in [])", "y = 2")
    saved = interactive.save(shell, interactive.new_store(tmp_path))
    assert saved.names == ["x", "y"]


def new_bytes(shell: Any, store: Store, seq: int) -> int:
    """What a checkpoint adds to the segments on disk."""
    interactive.save(shell, store, seq=seq)
    return sum(path.stat().st_size for path in (store.directory / "segments").iterdir())


def test_what_a_cell_adds_to_the_store_does_not_follow_the_length_of_the_history(
    shell: Any, tmp_path: Path
) -> None:
    store = interactive.new_store(tmp_path)
    cell = "x = {}\n" + "\n".join(f"# line {n} of a cell as people write it" for n in range(10))

    def cost_of_ten(first: int) -> int:
        before = new_bytes(shell, store, seq=2 * first + 1)
        interactive.run(shell, *(cell.format(number) for number in range(first, first + 10)))
        return new_bytes(shell, store, seq=2 * first + 2) - before

    early = cost_of_ten(0)
    interactive.run(shell, *(cell.format(number) for number in range(10, 160)))
    assert cost_of_ten(160) < early + 8192


def test_a_history_that_was_saved_as_a_whole_is_brought_back(shell: Any, tmp_path: Path) -> None:
    """A store of before there were blocks."""
    store = Store.open(Path(shutil.copytree(GOLDEN, tmp_path / "golden")), interactive.KEY)
    [checkpoint] = store.manifests()
    why_not = restore.bring_back_session(
        shell, store, checkpoint, namespace.restore_interactive_state
    )
    assert why_not is None
    raw = ["", "x = 1", "x +\\\n 1", "%config InteractiveShell.autocall", "x = 1", "!true"]
    assert shell.history_manager.input_hist_raw == raw
    assert shell.execution_count == 6
    again = interactive.new_store(tmp_path / "again")
    reborn = interactive.new_shell()
    restore.bring_back_session(
        reborn, again, interactive.save(shell, again), namespace.restore_interactive_state
    )
    states = [namespace.interactive_state(one) for one in (shell, reborn)]
    assert states[0] == states[1]
    assert linecache.getline(next(iter(states[0]["sources"])), 1) == "x = 1\n"
