"""The restart plan: what comes back after which history."""

from __future__ import annotations

from typing import Any

import pytest

from checkpoint_kernel.manifest import Manifest, Unit
from checkpoint_kernel.session import Cap, ExitMarker, Plan, Session, Settings
from checkpoint_provisioner.plan import Past, line_of, plan

FRESH = Plan("clean", "first start")


def checkpoint(seq: int, session: str, line: str | None = None, **fields: Any) -> Manifest:
    size_bytes = fields.pop("size_bytes", 1000)
    unit = Unit("var:df", "data", ("df",), "pickle", "00", size_bytes)
    values: dict[str, Any] = {
        "id": f"c{seq}",
        "seq": seq,
        "line": line or session,
        "session": session,
        "parent": None,
        "time": float(seq),
        "reason": "cell",
        "execution_count": seq,
        "inside_cell": False,
        "inside_call": False,
        "cell_source": None,
        "line_number": None,
        "units": (unit,),
        "skipped": (),
    }
    return Manifest(**{**values, **fields})


def past(
    id: str, given: Plan = FRESH, line: str | None = None, cap: Cap | None = None, **ended: Any
) -> Past:
    started = Session(
        id=id,
        line=line or id,
        started=0.0,
        kernel_id="k",
        notebook=None,
        notebook_directory="",
        key_file="",
        supervisor_pid=1,
        boot_id="",
        settings=Settings(),
        plan=given,
        cap=cap,
    )
    values: dict[str, Any] = {"kind": "death", "cause": "killed", "signal": 9, "cells_started": 1}
    return Past(started, ExitMarker(session=id, time=1.0, **{**values, **ended}))


def decide(history: list[Past], manifests: list[Manifest], **settings: Any) -> Plan:
    return plan(history, manifests, Settings(**settings))


def given(checkpoint: str, leave_out: tuple[str, ...] = (), step: int = 0) -> Plan:
    return Plan("restore", "", checkpoint=checkpoint, leave_out=leave_out, step=step)


def died_restoring(id: str, was_given: Plan, unit: str | None, **ended: Any) -> Past:
    values: dict[str, Any] = {"cells_started": 0, "restoring_unit": unit, "cause": "killed"}
    return past(id, was_given, line="a", **{**values, **ended})


def test_the_first_start_is_clean_and_offers_nothing() -> None:
    chosen = decide([], [])
    assert (chosen.kind, chosen.checkpoint) == ("clean", None)


def test_a_death_restores_the_newest_checkpoint_and_continues_its_line() -> None:
    manifests = [checkpoint(1, "a"), checkpoint(2, "a")]
    chosen = decide([past("a", death="d.json")], manifests)
    assert (chosen.kind, chosen.checkpoint, chosen.step) == ("restore", "c2", 0)
    assert chosen.death == "d.json"
    assert "killed" in chosen.because
    assert line_of(chosen, manifests, "b") == "a"


@pytest.mark.parametrize("kind", ["restart", "shutdown", "quit", "hung"])
def test_an_exit_that_was_asked_for_is_clean_and_offers_the_state(kind: str) -> None:
    manifests = [checkpoint(1, "a")]
    chosen = decide([past("a", kind=kind, cause=None)], manifests)
    assert (chosen.kind, chosen.checkpoint) == ("clean", "c1")
    assert line_of(chosen, manifests, "b") == "b"


def test_always_restores_after_a_restart_too() -> None:
    chosen = decide([past("a", kind="restart")], [checkpoint(1, "a")], restore="always")
    assert (chosen.kind, chosen.checkpoint) == ("restore", "c1")


def test_never_restores_nothing_but_offers() -> None:
    chosen = decide([past("a")], [checkpoint(1, "a")], restore="never")
    assert (chosen.kind, chosen.checkpoint) == ("clean", "c1")
    assert "never" in chosen.because


def test_a_death_of_a_clean_start_that_saved_nothing_does_not_bring_back_what_was_restarted() -> (
    None
):
    history = [past("a", kind="restart"), past("b")]
    chosen = decide(history, [checkpoint(1, "a")])
    assert (chosen.kind, chosen.checkpoint) == ("clean", "c1")


def test_a_restored_session_that_saved_nothing_is_restored_from_the_same_checkpoint() -> None:
    history = [past("a"), past("b", given("c1", ("var:x",)), line="a")]
    chosen = decide(history, [checkpoint(1, "a"), checkpoint(2, "a")])
    assert (chosen.kind, chosen.checkpoint, chosen.leave_out) == ("restore", "c1", ("var:x",))


def test_cells_after_a_clean_restart_do_not_hide_the_line_before_from_a_death() -> None:
    history = [past("a", kind="restart"), past("b")]
    chosen = decide(history, [checkpoint(1, "a"), checkpoint(2, "b")])
    assert (chosen.kind, chosen.checkpoint) == ("restore", "c2")


def test_several_clean_starts_without_a_checkpoint_still_offer_the_days_work() -> None:
    history = [past("a", kind="restart"), past("b", kind="restart"), past("c", kind="shutdown")]
    assert decide(history, [checkpoint(1, "a")]).checkpoint == "c1"


def test_an_empty_checkpoint_takes_no_place_on_offer() -> None:
    manifests = [checkpoint(1, "a"), checkpoint(2, "b", units=())]
    chosen = decide([past("a", kind="restart"), past("b", kind="restart")], manifests)
    assert (chosen.kind, chosen.checkpoint) == ("clean", "c1")
    assert decide([past("b", kind="restart")], manifests[1:]).checkpoint is None


def test_a_checkpoint_of_a_forgotten_session_is_still_on_offer() -> None:
    assert decide([past("z", kind="restart")], [checkpoint(1, "a")]).checkpoint == "c1"


# --- the ladder ---


def test_a_death_while_restoring_leaves_out_the_unit_that_was_being_loaded() -> None:
    history = [past("a"), died_restoring("b", given("c2"), "var:df")]
    chosen = decide(history, [checkpoint(1, "a"), checkpoint(2, "a")])
    assert (chosen.kind, chosen.checkpoint) == ("restore", "c2")
    assert (chosen.leave_out, chosen.step) == (("var:df",), 1)
    assert chosen.care == "trial"
    assert "`df` is left out" in chosen.because


def test_a_death_with_no_unit_known_goes_to_the_checkpoint_before() -> None:
    history = [past("a"), died_restoring("b", given("c2"), None, restore_done=True)]
    chosen = decide(history, [checkpoint(1, "a"), checkpoint(2, "a")])
    assert (chosen.checkpoint, chosen.step) == ("c1", 1)
    assert "checkpoint before" in chosen.because


def test_after_a_failed_restore_the_death_that_it_was_for_is_told() -> None:
    manifests = [checkpoint(1, "a")]
    first = past("a", cause="segmentation-fault", signal=11)
    died = died_restoring("b", given("c1"), "var:df")
    assert "Before that it had died: " in decide([first, died], manifests).because
    stopped = past("a", kind="restart")
    assert "Before that" not in decide([stopped, died], manifests).because


def test_the_second_failed_restore_leaves_out_all_that_runs_code_when_it_is_loaded() -> None:
    history = [past("a"), died_restoring("c", given("c2", ("var:df",), 1), "var:x")]
    chosen = decide(history, [checkpoint(1, "a"), checkpoint(2, "a")])
    assert (chosen.checkpoint, chosen.leave_out, chosen.step) == ("c2", ("var:df", "var:x"), 2)
    assert chosen.care == "plain"


def test_a_second_failed_restore_that_names_no_other_unit_goes_to_the_checkpoint_before() -> None:
    history = [past("a"), died_restoring("c", given("c2", ("var:df",), 1), "var:df")]
    chosen = decide(history, [checkpoint(1, "a"), checkpoint(2, "a")])
    assert (chosen.checkpoint, chosen.leave_out, chosen.step) == ("c1", ("var:df",), 2)
    assert chosen.care == ""


def test_a_restore_that_hung_is_told_as_such() -> None:
    history = [past("a"), died_restoring("b", given("c1"), "var:df", cause="hung")]
    chosen = decide(history, [checkpoint(1, "a")])
    assert "loading one variable did not come to an end, so it was killed" in chosen.because


def test_the_third_failed_restore_is_followed_by_a_clean_start_that_says_so() -> None:
    manifests = [checkpoint(1, "a"), checkpoint(2, "a"), checkpoint(3, "a")]
    history = [past("a"), died_restoring("d", given("c2", step=2), "var:y")]
    chosen = decide(history, manifests)
    assert (chosen.kind, chosen.checkpoint, chosen.step) == ("clean", "c3", 3)
    assert "clean" in chosen.because


def test_a_restore_that_always_kills_ends_clean_after_three_starts() -> None:
    manifests = [checkpoint(seq, "a") for seq in range(1, 9)]
    history = [past("a")]
    kinds = []
    for start in "bcdefg":
        chosen = decide(history, manifests)
        kinds.append(chosen.kind)
        history.append(died_restoring(start, chosen, f"var:{start}"))
    assert kinds[:4] == ["restore", "restore", "restore", "clean"]
    assert set(kinds[4:]) == {"clean"}


def test_always_does_not_make_a_restore_that_kills_loop() -> None:
    manifests = [checkpoint(seq, "a") for seq in range(1, 9)]
    history = [past("a", kind="restart")]
    kinds = []
    for start in "bcdefg":
        chosen = decide(history, manifests, restore="always")
        kinds.append(chosen.kind)
        history.append(died_restoring(start, chosen, None))
    assert kinds == ["restore"] * 3 + ["clean"] * 3


def test_one_checkpoint_whose_restore_kills_before_a_unit_is_known_ends_clean_at_once() -> None:
    history = [past("a"), died_restoring("b", given("c1"), None)]
    assert decide(history, [checkpoint(1, "a")]).kind == "clean"


@pytest.mark.parametrize("cause", ["server-gone", "terminated", "start-failed"])
def test_a_death_that_says_nothing_about_the_restore_repeats_it(cause: str) -> None:
    history = [past("a"), died_restoring("b", given("c2"), None, cause=cause)]
    chosen = decide(history, [checkpoint(1, "a"), checkpoint(2, "a")])
    assert (chosen.kind, chosen.checkpoint, chosen.step) == ("restore", "c2", 0)


def test_a_restart_out_of_a_failing_restore_is_clean() -> None:
    history = [past("a"), died_restoring("b", given("c1"), None, kind="restart", cause=None)]
    assert decide(history, [checkpoint(1, "a")]).kind == "clean"


# --- cells that kill ---


def test_a_death_inside_a_cell_never_counts_against_the_restore() -> None:
    manifests = [checkpoint(1, "a")]
    history = [past("a", cell_sha256="s")]
    for start in "bcd":
        chosen = decide(history, manifests)
        assert (chosen.kind, chosen.checkpoint, chosen.step) == ("restore", "c1", 0)
        history.append(past(start, chosen, line="a", cell_sha256="s"))


def test_the_same_cell_killing_again_is_said_with_the_number() -> None:
    manifests = [checkpoint(1, "a")]
    one = past("a", cell_sha256="s")
    two = past("b", given("c1"), line="a", cell_sha256="s")
    other = past("c", given("c1"), line="a", cell_sha256="t")
    assert decide([one], manifests).warnings == ()
    assert decide([one, two], manifests).warnings == ("This cell has now killed the kernel twice.",)
    assert "3 times" in decide([one, two, two], manifests).warnings[0]
    assert decide([one, two, other], manifests).warnings == ()


def test_deaths_of_one_cause_at_one_line_are_said_once_with_what_they_share() -> None:
    manifests = [checkpoint(1, "a")]
    one = past("a", cell_sha256="s")
    two = past("b", given("c1"), line="a", cell_sha256="s", same_deaths=2, in_common=("x", "y"))
    edited = past("c", given("c1"), line="a", cell_sha256="t", same_deaths=3, in_common=("x",))
    (said,) = decide([one, two], manifests).warnings
    assert said == (
        "This cell has now killed the kernel twice, of the same cause at the same line. "
        "In common: x; y."
    )
    (said,) = decide([one, two, edited], manifests).warnings
    assert said == "The kernel has now died 3 times of this cause at this line. In common: x."
    (said,) = decide([one, one, two], manifests).warnings
    assert said.startswith("This cell has now killed the kernel 3 times in a row, and it has died ")


def test_a_repeated_death_is_said_where_nothing_is_restored_too() -> None:
    again = past("b", cell_sha256="s", same_deaths=2)
    for settings in ({"restore": "never"}, {}):
        chosen = decide([past("a", cell_sha256="s"), again], [], **settings)
        assert chosen.kind == "clean"
        assert len(chosen.warnings) == 1


def test_a_checkpoint_inside_the_unfinished_cell_is_taken_and_the_one_before_named() -> None:
    manifests = [
        checkpoint(1, "a"),
        checkpoint(2, "a", inside_cell=True, execution_count=7),
        checkpoint(3, "a", inside_cell=True, execution_count=7),
    ]
    chosen = decide([past("a")], manifests)
    assert (chosen.checkpoint, chosen.before_cell) == ("c3", "c1")


def test_after_an_oom_kill_what_would_come_back_above_the_soft_limit_is_passed_over() -> None:
    cap = Cap("1G", 2**30, 9 * 10**8, "cgroup v1", True, "")
    manifests = [checkpoint(1, "a"), checkpoint(2, "a", inside_cell=True, size_bytes=9 * 10**8)]
    history = [past("a", cap=cap, cause="oom-killed-by-cap")]
    chosen = plan(history, manifests, Settings(), soft_bytes=9 * 10**8)
    assert (chosen.checkpoint, chosen.before_cell) == ("c1", None)
    assert "soft limit" in chosen.because
    roomy = plan(history, manifests, Settings(), soft_bytes=4 * 10**9)
    assert (roomy.checkpoint, roomy.before_cell) == ("c2", "c1")


def test_warnings_about_damaged_checkpoints_reach_the_plan() -> None:
    chosen = plan([past("a")], [], Settings(), warnings=("passed over: x",))
    assert chosen.warnings == ("passed over: x",)
