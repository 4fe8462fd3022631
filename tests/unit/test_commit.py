"""From units to a checkpoint: published in one step, or in two where it takes long."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import interactive
import pytest
from incremental import Incremental

from checkpoint_kernel import commit, restore

pytestmark = pytest.mark.unit

CELL = "import numpy as np\nlarge = np.arange(4_000_000.0)\nsmall = [1, 2]\ni = 5"


def test_a_first_checkpoint_that_takes_long_is_published_twice_and_the_first_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "_PENDING_AFTER_S", 0.0)
    shell, store = interactive.new_shell(), interactive.new_store(tmp_path)
    interactive.run(shell, CELL)
    whole = interactive.save(shell, store)
    assert store.manifests() == [whole]
    assert whole.pending == ()
    assert whole.seq == 2
    loaded = restore.load({}, store, whole).values
    assert loaded["small"] == [1, 2]
    assert float(loaded["large"][-1]) == 3_999_999.0


def test_a_writer_that_dies_between_the_two_leaves_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "_PENDING_AFTER_S", 0.0)
    puts: list[str] = []
    original = commit._put

    def put(draft: Any, *rest: Any) -> None:
        if "large" in draft.root:
            raise RuntimeError("killed")
        puts.append(draft.id)
        original(draft, *rest)

    monkeypatch.setattr(commit, "_put", put)
    shell, store = interactive.new_shell(), interactive.new_store(tmp_path)
    interactive.run(shell, CELL)
    with pytest.raises(RuntimeError):
        interactive.save(shell, store)
    (only,) = store.manifests()
    assert only.pending == ("large",)
    report = restore._report(only, restore.load({}, store, only), 0.0)
    missing = {entry.name: entry.reason for entry in report.not_restored}
    assert "was not written yet" in missing["large"]


def test_a_short_checkpoint_is_published_once(tmp_path: Path) -> None:
    shell, store = interactive.new_shell(), interactive.new_store(tmp_path)
    interactive.run(shell, CELL)
    interactive.save(shell, store)
    (only,) = store.manifests()
    assert only.pending == ()


class TestNothingNew:
    """A checkpoint that would hold what the one before holds is not published."""

    def test_the_one_before_stands_for_it(self, tmp_path: Path) -> None:
        kernel = Incremental(tmp_path)
        kernel.run("a = [1]; b = {'k': a}")
        first = kernel.take()
        kernel.checkpointer.changed()
        assert kernel.take().manifest == first.manifest
        assert [one.id for one in kernel.store.manifests()] == [first.manifest.id]
        assert kernel.checkpointer.settled.newest == first.manifest

    def test_what_follows_is_a_checkpoint_again(self, tmp_path: Path) -> None:
        kernel = Incremental(tmp_path)
        kernel.run("a = [1]; same = a\ndef add(): a.append(2)")
        first = kernel.take()
        kernel.take()
        kernel.shell.user_ns["add"]()  # as a thread does
        later = kernel.take()
        assert later.manifest.seq == first.manifest.seq + 1
        assert kernel.loaded(later.manifest, kernel.store)["same"] == [1, 2]

    @pytest.mark.parametrize("change", ["del a", "lock = __import__('threading').Lock()", "pass"])
    def test_a_name_that_is_gone_a_skipped_one_and_a_cell_are_something_new(
        self, tmp_path: Path, change: str
    ) -> None:
        kernel = Incremental(tmp_path)
        kernel.run("a = [1]")
        first = kernel.take()
        kernel.run(change)
        assert kernel.take().manifest.id != first.manifest.id
