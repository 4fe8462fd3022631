"""What is not back goes on being named, until its name is bound again or the user deletes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import interactive
import pytest

from checkpoint_kernel import manifest, restore, trials
from checkpoint_kernel.session import NotRestored
from checkpoint_kernel.still_missing import StillMissing
from checkpoint_kernel.stub import Stub

pytestmark = pytest.mark.unit

GEN = NotRestored("gen", "generator", "it runs", "make it", 3, "gen = f()")
OTHERS = (
    NotRestored("db", "Connection", "it ends"),
    NotRestored("Out[4]", "generator", "it runs"),
    NotRestored("0:train", "locals", "it hangs"),
    NotRestored("random seeds", "?", "it is another version"),
)


@pytest.fixture
def live() -> dict[str, Any]:
    return {"db": Stub("Connection", "it ends"), "_oh": {}}


@pytest.fixture
def still(live: dict[str, Any]) -> StillMissing:
    made = StillMissing()
    made.restored((GEN, *OTHERS), live)
    return made


def names(still: StillMissing, live: dict[str, Any]) -> list[str]:
    return [one.name for one in still.now(live)]


def test_what_is_not_bound_is_missing_and_a_running_function_is_no_name(
    still: StillMissing, live: dict[str, Any]
) -> None:
    assert names(still, live) == ["gen", "db", "Out[4]", "random seeds"]
    told = still.not_saved(live)
    assert [one.name for one in told] == ["gen", "Out[4]"]  # the stub is seen by itself
    assert vars(told[0]).items() >= vars(GEN).items()


def test_what_is_bound_is_missing_no_more_also_when_it_goes_again(
    still: StillMissing, live: dict[str, Any]
) -> None:
    live["gen"] = 1
    assert "gen" not in names(still, live)
    still.cell_ended(live, "gen = 1")
    del live["gen"]
    assert "gen" not in names(still, live)


@pytest.mark.parametrize(
    ("cell", "missed"),
    [
        ("gen = f()\ndel gen", False),
        ("del x, (gen, y)", False),
        ("del gen[0], gen.a", True),
        ("def f():\n    del gen", True),
        ("del gen(", True),
        ("print('del gen')", True),
    ],
)
def test_what_a_cell_deletes_is_not_missing(
    still: StillMissing, live: dict[str, Any], cell: str, missed: bool
) -> None:
    still.cell_ended(live, cell)
    assert ("gen" in names(still, live)) is missed


def test_a_stub_that_is_deleted_is_not_missing(still: StillMissing, live: dict[str, Any]) -> None:
    del live["db"]
    assert "db" not in names(still, live)
    still.cell_ended(live, "")
    assert "db" not in [one.name for one in still.not_saved(live)]


def test_after_a_restore_by_hand_variables_are_named_without_cells_of_before(
    live: dict[str, Any],
) -> None:
    still = StillMissing()
    still.restored_by_hand((GEN, *OTHERS), live)
    assert names(still, live) == ["gen", "db"]
    (one,) = still.not_saved(live)
    assert (one.name, one.reason, one.made_in, one.made_by) == ("gen", "it runs", None, None)


def test_a_checkpoint_names_what_is_missing_with_its_reason(tmp_path: Path) -> None:
    shell, store = interactive.new_shell(), interactive.new_store(tmp_path)
    interactive.run(shell, "x = 1; h = (i for i in range(3)); next(h)")
    lost = [
        manifest.Skipped("gen", "generator", "it runs", "make it", made_in=3, made_by="gen = f()"),
        manifest.Skipped("h", "lost", "long ago"),
    ]
    saved = interactive.save(shell, store, missing=lost)
    assert [one.name for one in saved.skipped] == ["gen", "h"]
    assert saved.skipped[0] == lost[0]
    assert saved.skipped[1].type == "generator"


def test_after_a_death_nothing_is_going_to_be_tried_again() -> None:
    assert "it is tried again" in trials.UNDECIDED
    assert restore._in_hindsight(trials.UNDECIDED) == (
        "it took too long to be saved before the kernel ended"
    )
    assert restore._in_hindsight("it runs") == "it runs"
