"""What restores leave behind is remembered until it is restored, or saved again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from store_cases import make_manifest

from checkpoint_kernel import left_behind
from checkpoint_kernel.manifest import LeftBehind, Manifest, Unit
from checkpoint_kernel.session import NotRestored, RestoreReport

pytestmark = pytest.mark.unit

BEFORE = (LeftBehind("old", ("a", "b"), 1.0),)


def holding(seq: int, *names: str) -> Manifest:
    return make_manifest(seq, tuple(Unit(n, "data", (n,), "pickle", "00", 1) for n in names))


def report(restored: str, failed: str = "") -> RestoreReport:
    missing = tuple(NotRestored(name, "?", "the package x is not installed") for name in failed)
    return RestoreReport("c", "done", 0.0, restored=tuple(restored), not_restored=missing)


def test_what_the_checkpoint_holds_and_was_not_restored_is_left_behind() -> None:
    one = holding(1, "a", "b", "c")
    left = left_behind.after((), one, report("a", failed="bcs"), 5.0)
    assert left == (LeftBehind(one.id, ("b", "c"), 5.0),)


def test_a_restore_that_failed_leaves_everything_behind() -> None:
    one = holding(1, "a", "b")
    failed = replace(report(""), state="failed")
    assert left_behind.after((), one, failed, 5.0) == (LeftBehind(one.id, ("a", "b"), 5.0),)


def test_what_has_been_restored_since_is_left_behind_no_more() -> None:
    one = holding(1, "a", "c")
    assert left_behind.after(BEFORE, one, report("a"), 5.0) == (LeftBehind("old", ("b",), 1.0),)
    assert left_behind.after(BEFORE, one, report("ab"), 5.0) == ()


def test_what_failed_again_is_where_it_was_tried_last() -> None:
    one = holding(1, "a")
    left = left_behind.after(BEFORE, one, report("", failed="a"), 5.0)
    assert left == (LeftBehind("old", ("b",), 1.0), LeftBehind(one.id, ("a",), 5.0))


def test_what_a_later_checkpoint_holds_is_left_behind_no_more() -> None:
    assert left_behind.still(BEFORE, holding(2, "a", "x")) == (LeftBehind("old", ("b",), 1.0),)


def test_the_checkpoint_that_was_restored_is_no_later_one() -> None:
    one = holding(1, "a")
    left = (LeftBehind(one.id, ("a",), one.time + 5),)
    assert left_behind.still(left, one) == left
    assert left_behind.still(left, None) == left
    assert left_behind.still(left, replace(holding(2, "a"), time=one.time + 1)) == left
    assert left_behind.still(left, replace(holding(3, "a"), time=one.time + 6)) == ()


def test_what_a_name_still_stands_for_is_renewed_once_a_day() -> None:
    left = (LeftBehind("old", ("a", "b"), 1.0), LeftBehind("older", ("c",), 1.0))
    standing = {"b": "old", "c": "another"}.get
    day = left_behind.RENEWED_S
    assert left_behind.renewed(left, standing, day) == left
    later = left_behind.renewed(left, standing, day + 2)
    assert later == (LeftBehind("old", ("a", "b"), day + 2), left[1])
