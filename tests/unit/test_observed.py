"""What is seen of cells while they run: what each has bound, and whether it failed."""

from __future__ import annotations

import sys
from typing import Any

import interactive
import pytest

from checkpoint_kernel.manifest import Skipped
from checkpoint_kernel.observed import Observed

pytestmark = pytest.mark.unit


def after(observed: Observed, live: dict[str, Any], number: int, **bound: object) -> None:
    observed.begins(live)
    live.update(bound)
    observed.ended(live, number)


def test_the_cell_that_bound_a_name_last_is_known() -> None:
    observed, live = Observed(), dict[str, Any]()
    after(observed, live, 1, a=object(), b=object())
    after(observed, live, 2, b=object())
    assert observed.bound_in == {"a": 1, "b": 2}


def test_a_name_that_is_gone_is_forgotten() -> None:
    observed, live = Observed(), {"a": object()}
    observed.adopt({"a": 7}, [3])
    observed.begins(live)
    live.clear()
    observed.ended(live, 8, failed=True)
    assert observed.bound_in == {}
    assert observed.failed == {3, 8}


def test_inside_a_cell_what_it_has_bound_so_far_is_its_own() -> None:
    observed, live = Observed(), dict[str, Any]()
    observed.begins(live)
    live["a"] = object()
    assert observed.by_now(live, 5) == {"a": 5}
    assert observed.by_now(live, None) == observed.bound_in == {}


def test_what_a_restore_binds_is_made_by_no_cell() -> None:
    observed, live = Observed(), dict[str, Any]()
    after(observed, live, 1, a=object())
    observed.begins(live)
    live["a"] = object()
    observed.passes_over(live, ["a"])
    live["b"] = object()
    observed.ended(live, 2)
    assert observed.bound_in == {"b": 2}


def test_a_checkpoint_says_which_cell_made_what_it_cannot_save(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    shell = interactive.new_shell()
    interactive.run(
        shell, "x = 1", "gen = (i for i in 'ab'); next(gen)  # once", "api_key = 'hunter2'"
    )
    saved = interactive.save(shell, interactive.new_store(tmp_path))
    made: dict[str, Skipped] = {one.name: one for one in saved.skipped}
    made_by = "gen = (i for i in 'ab'); next(gen)  # once"
    assert (made["gen"].made_in, made["gen"].made_by) == (2, made_by)
    assert (made["api_key"].made_in, made["api_key"].made_by) == (3, None), "no secret in a line"
