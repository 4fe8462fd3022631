"""When a death is one of several of its kind, and what these share."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from death_cases import CAP, TRACE, evidence, out_of_memory, record_of

from checkpoint_kernel.session import Plan
from checkpoint_provisioner.repeated import in_common, repeated

pytestmark = pytest.mark.unit

OLD = {"schema_version": 1, "cause": "segmentation-fault", "source": "crash()", "time": "t"}


def segfault(**fields: Any) -> dict[str, Any]:
    return record_of(evidence(signal.SIGSEGV, faults=TRACE.format(line=1), **fields))


def test_the_first_death_is_not_repeated() -> None:
    assert segfault()["repeated"] is None


def test_the_second_of_a_cause_at_a_line_is_said_with_what_they_share() -> None:
    first = segfault(at=1000.0, plan=Plan("restore", "", checkpoint="c1"))
    second = record_of(
        evidence(
            signal.SIGSEGV,
            faults=TRACE.format(line=1),
            plan=Plan("restore", "", checkpoint="c1"),
        ),
        [first],
    )["repeated"]
    assert (second["count"], second["first"]) == (2, first["time"])
    assert second["said"].startswith("The kernel has now died twice of this cause at this line.")
    for clause in (
        "about 20 s after the cell began",
        "the same cell, unchanged",
        "the innermost call was solve of linalg/basic.py",
        "the kernel had been restored from checkpoint c1",
    ):
        assert clause in second["in_common"]
        assert clause in second["said"]


@pytest.mark.parametrize(
    "other",
    [
        {**OLD, "cause": "aborted"},
        {**OLD, "source": "other()"},
        {**OLD, "survived": True},
        {**OLD, "cause": "memory-cap-interrupt"},
        {},
    ],
)
def test_another_cause_or_line_or_a_survived_one_does_not_count(other: dict[str, Any]) -> None:
    assert repeated(segfault(), [other]) is None


def test_deaths_without_a_known_line_do_not_count() -> None:
    idle = record_of(evidence(signal.SIGKILL, flight=None))
    assert idle["source"] is None
    assert repeated(idle, [idle]) is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_ends_from_outside_do_not_count(number: int) -> None:
    one = record_of(evidence(number))
    assert repeated(one, [one, one]) is None


def test_records_of_version_1_count_and_share_what_they_have() -> None:
    found = repeated(segfault(), [OLD])
    assert found is not None
    assert (found["count"], found["in_common"]) == (2, [])
    assert found["said"].endswith("at this line.")


def test_interrupts_of_the_same_line_are_mentioned_and_not_counted() -> None:
    cell = "x = grow()"
    record = record_of(out_of_memory(cell))
    interrupt = {"cause": "memory-cap-interrupt", "survived": True, "source": cell}
    found = repeated(record, [interrupt, record, interrupt])
    assert found is not None
    assert (found["count"], found["interrupts"]) == (2, 2)
    assert "also interrupted twice near the memory limit" in found["said"]
    assert "memory was at the limit (a peak of 100% of it or more)" in found["in_common"]
    assert any(clause.startswith("the kernel held about 691.0 MB") for clause in found["in_common"])


def test_changed_packages_and_last_words_are_shared() -> None:
    changes = {"changed": {"scipy": ["1", "2"]}, "added": {"a": "1"}}
    said = "free(): invalid pointer\n"
    one = segfault(environment_changes=changes, stderr_tail=said, cap=CAP)
    words = in_common([one, one])
    assert "these packages had changed before: scipy, a" in words
    assert any("last words" in clause for clause in words)


def test_odd_records_share_nothing_and_break_nothing() -> None:
    odd = {"memory": 3, "stack": 5, "explained": "x", "cell_age_s": "y", "environment_changes": []}
    assert in_common([odd, odd]) == []
