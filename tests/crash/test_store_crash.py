"""A checkpoint interrupted at each of its durable operations."""

from __future__ import annotations

import errno
import itertools
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from durable_faults import dies_at, failing_at, loses_power_at, operations_of
from store_cases import KEY, load, newest, save, segments, temporaries

from checkpoint_kernel.check import check
from checkpoint_kernel.prune import prune
from checkpoint_kernel.store import Store

NOISE = random.Random(4)
SHARED = NOISE.randbytes(300_000)
OLD = {"a": b"a1", "big": SHARED, "only_old": NOISE.randbytes(700_000)}
NEW = {"a": b"a2", "big": SHARED, "more": NOISE.randbytes(600_000)}

LOST = [frozenset(), frozenset({"manifests"}), frozenset({"segments"})]
LOST.append(LOST[1] | LOST[2])


def with_old(directory: Path) -> Store:
    store = Store.open(directory, KEY)
    save(store, 1, OLD)
    return store


def is_whole(directory: Path, allowed: tuple[dict[str, bytes], ...]) -> dict[str, bytes]:
    """The newest state; it is one of these, and all other damage is left-over temporaries."""
    state = newest(directory)
    assert state in allowed, "neither the state before nor the one after"
    assert {f.kind for f in check(Store.open(directory, KEY))} <= {"leftover-temporary"}
    return state


def goes_on(directory: Path) -> None:
    """The next checkpoint succeeds, and nothing of the interrupted one is in its way."""
    again = Store.open(directory, KEY)
    manifest = save(again, 9, {**NEW, "after": b"9"})
    assert load(Store.open(directory, KEY), manifest) == {**NEW, "after": b"9"}
    assert temporaries(directory) == []


def checkpoint_of(directory: Path) -> Callable[[], object]:
    return lambda: save(Store.open(directory, KEY), 2, NEW)


def test_checkpoint_has_the_durable_operations_that_we_think(tmp_path: Path) -> None:
    with_old(tmp_path)
    segment = ["create", "write_all", "write_all", "fsync", "rename", "fsync"]
    publish = ["create", "write_all", "fsync", "rename", "fsync"]
    operations = operations_of(checkpoint_of(tmp_path))
    # The chunks of 256 KiB are written each on its own; the order is what counts.
    assert [name for name, _same in itertools.groupby(operations)] == [
        name for name, _same in itertools.groupby(segment + publish)
    ]
    assert operations.count("write_all") >= 4


@pytest.mark.parametrize("halfway", [False, True], ids=["before", "halfway"])
def test_death_at_any_durable_operation_leaves_the_old_or_the_new_checkpoint(
    tmp_path: Path, halfway: bool
) -> None:
    outcomes = []
    for number in itertools.count():
        directory = tmp_path / str(number)
        with_old(directory)
        died = dies_at(number, checkpoint_of(directory), halfway)
        outcomes.append(is_whole(directory, (OLD, NEW)) == NEW)
        goes_on(directory)
        if not died:
            break
    assert outcomes == sorted(outcomes), "once committed it stays committed"
    assert outcomes[0] is False
    # Only the last fsync comes after the commit.
    assert outcomes[-3:] == [False, True, True]


@pytest.mark.parametrize("lose_data", [False, True], ids=["data-kept", "data-lost"])
@pytest.mark.parametrize("lost", LOST, ids=lambda lost: "+".join(sorted(lost)) or "names-kept")
def test_power_loss_at_any_durable_operation_leaves_the_old_or_the_new_checkpoint(
    tmp_path: Path, lost: frozenset[str], lose_data: bool
) -> None:
    for number in itertools.count():
        directory = tmp_path / str(number)
        with_old(directory)
        died = loses_power_at(number, checkpoint_of(directory), lost, lose_data)
        state = is_whole(directory, (OLD, NEW))
        goes_on(directory)
        if not died:
            assert state == NEW, "`commit` returned, and the checkpoint was lost"
            break


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_error_at_any_durable_operation_keeps_the_old_checkpoint_and_leaves_nothing(
    tmp_path: Path, error: int
) -> None:
    directory = tmp_path / "count"
    with_old(directory)
    count = len(operations_of(checkpoint_of(directory)))
    for number in range(count):
        directory = tmp_path / str(number)
        with_old(directory)
        store = Store.open(directory, KEY)
        with pytest.raises(OSError, match=os.strerror(error)), failing_at(number, error):
            save(store, 2, NEW)
        published = number == count - 1  # only the fsync after the rename failed
        assert is_whole(directory, (NEW if published else OLD,))
        assert temporaries(directory) == []
        assert len(segments(directory)) == (2 if published else 1), "its space is given back"
        # The same process goes on too.
        assert load(store, save(store, 3, NEW)) == NEW
        goes_on(directory)


def test_first_checkpoint_interrupted_anywhere_leaves_none_or_the_whole(tmp_path: Path) -> None:
    for number in itertools.count():
        directory = tmp_path / str(number)
        died = dies_at(number, checkpoint_of(directory), halfway=True)
        assert newest(directory) in (None, NEW)
        goes_on(directory)
        if not died:
            break


STATES = [{"big": SHARED, "x": bytes([n]) * 2_000_000, "n": b"%d" % n} for n in range(4)]
# What is left of the first segment is a small part of it, so it is compacted.
STATES[0]["huge"] = NOISE.randbytes(1_500_000)


def with_four(directory: Path) -> None:
    store = Store.open(directory, KEY)
    for seq, state in enumerate(STATES):
        save(store, seq, state)


def pruning_of(directory: Path) -> Callable[[], object]:
    return lambda: prune(
        Store.open(directory, KEY), {"checkpoint-0000", "checkpoint-0001", "checkpoint-0002"}
    )


def newest_survives(directory: Path) -> None:
    assert newest(directory) == STATES[3]
    store = Store.open(directory, KEY)
    for manifest in store.manifests():
        assert load(store, manifest) == STATES[manifest.seq]
    assert {f.kind for f in check(store)} <= {"leftover-temporary"}
    prune(store, set())
    assert temporaries(directory) == []
    assert load(store, store.manifests()[-1]) == STATES[3]


@pytest.mark.parametrize("halfway", [False, True], ids=["before", "halfway"])
def test_death_at_any_durable_operation_of_a_prune_loses_no_kept_checkpoint(
    tmp_path: Path, halfway: bool
) -> None:
    for number in itertools.count():
        directory = tmp_path / str(number)
        with_four(directory)
        died = dies_at(number, pruning_of(directory), halfway)
        newest_survives(directory)
        if not died:
            break
    assert number > 12, "manifests, segments and the compaction were all reached"


@pytest.mark.parametrize("lost", LOST, ids=lambda lost: "+".join(sorted(lost)) or "names-kept")
def test_power_loss_at_any_durable_operation_of_a_prune_loses_no_kept_checkpoint(
    tmp_path: Path, lost: frozenset[str]
) -> None:
    for number in itertools.count():
        directory = tmp_path / str(number)
        with_four(directory)
        died = loses_power_at(number, pruning_of(directory), lost, lose_data=True)
        newest_survives(directory)
        if not died:
            break


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_error_at_any_durable_operation_of_a_prune_loses_no_kept_checkpoint(
    tmp_path: Path, error: int
) -> None:
    directory = tmp_path / "count"
    with_four(directory)
    for number in range(len(operations_of(pruning_of(directory)))):
        directory = tmp_path / str(number)
        with_four(directory)
        with failing_at(number, error):
            try:
                pruning_of(directory)()
            except OSError as why:
                failure = why.errno
            else:
                failure = error  # it was the compaction's, which reports it
        assert failure == error
        assert temporaries(directory) == []
        newest_survives(directory)
