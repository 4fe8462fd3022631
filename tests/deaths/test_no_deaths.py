"""What a cell or a start may do that is no death, or that no kernel comes of."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from victim import Victim, state_of

Start = Callable[..., Victim]


def test_exit_in_a_cell_is_no_death_and_the_next_start_is_clean(start: Start) -> None:
    victim = start()
    victim.begin("exit()")
    assert victim.wait_for_death() == 0
    assert victim.marker().kind == "quit"
    assert victim.deaths() == []
    assert victim.restart(now=True).kind == "clean"


def test_argv_that_cannot_be_executed_is_a_start_error_that_names_it(start: Start) -> None:
    with pytest.raises(RuntimeError, match="/no/such/python: No such file"):
        start(argv=["/no/such/python"], ready=False)
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert not any("supervisor" in Path(f"/proc/{pid}/cmdline").read_text() for pid in children)
    assert not any(state_of(pid) == "Z" for pid in children)


def test_a_bad_config_is_a_start_error_that_names_key_and_value(start: Start) -> None:
    with pytest.raises(ValueError, match=r"memory_limit: \"lots\""):
        start(config={"memory_limit": "lots"}, ready=False)
    with pytest.raises(ValueError, match="memory_limt: there is no such key"):
        start(config={"memory_limt": "8G"}, ready=False)
