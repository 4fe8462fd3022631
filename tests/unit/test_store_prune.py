from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_cases import DAY_S, KEY, load, make_manifest, newest, save, segments

from checkpoint_kernel import manifest, prune
from checkpoint_kernel.manifest import LeftBehind, Manifest
from checkpoint_kernel.prune import choose, enforce_quota, pinned, shrink, used_bytes
from checkpoint_kernel.store import Store, StoreBusy

NOISE = random.Random(5)
NOW = 1_700_000_000.0 + DAY_S


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "root" / "notebook", KEY)


def line(name: str, *seqs: int, age_days: float = 0.0) -> list[Manifest]:
    return [make_manifest(seq, line=name, time=NOW - age_days * DAY_S) for seq in seqs]


def kept(manifests: list[Manifest], keep: int, current: str | None = None) -> list[int]:
    keep_ids, drop_ids = choose(manifests, keep, current, NOW)
    assert keep_ids | drop_ids == {m.id for m in manifests}
    assert not keep_ids & drop_ids
    return [m.seq for m in manifests if m.id in keep_ids]


def test_newest_of_the_current_line_are_kept() -> None:
    assert kept(line("a", 1, 2, 3, 4), keep=2) == [3, 4]


def test_keep_counts_per_line_for_this_line_and_the_one_before() -> None:
    assert kept(line("a", 1, 2, 3) + line("b", 4, 5, 6), keep=2, current="b") == [2, 3, 5, 6]


def test_line_that_has_no_checkpoint_yet_leaves_the_one_before_alone() -> None:
    assert kept(line("a", 1, 2, 3), keep=2, current="new") == [2, 3]


def test_older_lines_keep_their_newest_for_14_days() -> None:
    old = line("old", 1, 2, age_days=15) + line("young", 3, 4, age_days=13)
    assert kept(old + line("b", 5) + line("c", 6), keep=3, current="c") == [4, 5, 6]


def test_first_cells_after_a_clean_restart_do_not_push_out_the_days_work() -> None:
    manifests = line("day", 1, 2) + line("clean", *range(3, 50))
    assert 2 in kept(manifests, keep=1, current="clean")


@pytest.mark.parametrize(("age_days", "is_kept"), [(13, True), (15, False)])
def test_what_a_restore_left_behind_stays_for_14_days(age_days: float, is_kept: bool) -> None:
    left = (LeftBehind("checkpoint-0002", ("model",), NOW - age_days * DAY_S),)
    later = [replace(m, left_behind=left) for m in line("a", 4, 5)]
    assert kept(line("a", 1, 2, 3) + later, keep=2) == ([2, 4, 5] if is_kept else [4, 5])
    assert kept(line("a", 1, 2, 3) + later + line("b", 6), keep=1, current="b") == (
        [2, 5, 6] if is_kept else [5, 6]
    )


def test_what_has_been_restored_since_goes_like_any_other() -> None:
    left = (LeftBehind("checkpoint-0001", ("model",), NOW),)
    before = [replace(m, left_behind=left) for m in line("a", 2, 3)]
    assert kept(line("a", 1) + before + line("a", 4), keep=1) == [4]


def test_checkpoint_from_before_the_running_cell_outlives_those_inside_it() -> None:
    before = make_manifest(1)
    inside = [make_manifest(seq, inside_cell=True) for seq in range(2, 9)]
    assert kept([before, *inside], keep=3) == [1, 6, 7, 8]


def test_last_clean_checkpoint_outlives_those_inside_a_call() -> None:
    clean = make_manifest(1, inside_cell=True)
    inside = [make_manifest(seq, inside_cell=True, inside_call=True) for seq in range(2, 9)]
    assert kept([clean, *inside], keep=3) == [1, 6, 7, 8]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.floats(0, 30)), max_size=12),
    st.integers(0, 4),
    st.sampled_from(["a", "b", "new", None]),
)
def test_the_newest_checkpoint_and_pinned_ones_are_never_dropped(
    rows: list[tuple[str, bool, float]], keep: int, current: str | None
) -> None:
    manifests = [
        replace(
            make_manifest(seq, line=name, inside_cell=inside, time=NOW - days * DAY_S),
            left_behind=(LeftBehind(f"checkpoint-{seq // 2:04d}", ("x",), NOW - days * DAY_S),),
        )
        for seq, (name, inside, days) in enumerate(rows)
    ]
    keep_ids, _drop_ids = choose(manifests, keep, current, NOW)
    assert pinned(manifests, current, NOW) <= keep_ids
    assert not manifests or manifests[-1].id in keep_ids


def test_pruned_checkpoints_take_their_segments_with_them(store: Store) -> None:
    for seq in (1, 2, 3):
        save(store, seq, {f"x{seq}": NOISE.randbytes(50_000)})
    report = prune.prune(store, {"checkpoint-0001", "checkpoint-0002"})
    assert report.removed_manifests == ("checkpoint-0001", "checkpoint-0002")
    assert len(report.removed_segments) == 2
    assert report.freed_bytes > 100_000
    assert len(segments(store.directory)) == 1
    assert [m.seq for m in store.manifests()] == [3]


def test_chunks_that_a_kept_checkpoint_shares_stay(store: Store) -> None:
    shared = NOISE.randbytes(50_000)
    save(store, 1, {"shared": shared, "x": b"1"})
    save(store, 2, {"shared": shared, "x": b"2"})
    prune.prune(store, {"checkpoint-0001"})
    assert newest(store.directory) == {"shared": shared, "x": b"2"}


def test_payloads_that_the_live_kernel_refers_to_stay(store: Store) -> None:
    first = save(store, 1, {"x": b"1"})
    save(store, 2, {"x": b"2"})
    prune.prune(store, {first.id}, extra_keep={first.units[0].payload})
    assert store.read_payload(first.units[0].payload).buffers[0] == b"1"


def test_half_empty_segment_is_compacted(store: Store) -> None:
    shared = NOISE.randbytes(600_000)
    save(store, 1, {"shared": shared, "old": NOISE.randbytes(2_000_000)})
    second = save(store, 2, {"shared": shared})
    report = prune.prune(store, {"checkpoint-0001"})
    assert report.freed_bytes > 1_900_000
    assert report.kept_because is None
    assert sum(path.stat().st_size for path in segments(store.directory)) < 700_000
    assert load(store, second) == newest(store.directory) == {"shared": shared}


def test_open_store_reads_on_after_another_process_has_compacted(store: Store) -> None:
    shared = NOISE.randbytes(600_000)
    save(store, 1, {"shared": shared, "old": NOISE.randbytes(2_000_000)})
    second = save(store, 2, {"shared": shared})
    other = Store.open(store.directory, KEY)
    prune.prune(other, {"checkpoint-0001"})
    assert load(store, second) == {"shared": shared}


def test_damaged_chunk_is_not_compacted_but_left_as_evidence(store: Store) -> None:
    shared = NOISE.randbytes(60_000)
    save(store, 1, {"shared": shared, "old": NOISE.randbytes(2_000_000)})
    save(store, 2, {"shared": shared})
    for path in segments(store.directory):
        path.chmod(0o600)
        path.write_bytes(path.read_bytes().replace(shared[:1000], bytes(1000)))
    report = prune.prune(store, {"checkpoint-0001"})
    assert report.kept_because is not None
    assert "digest differs" in report.kept_because
    assert report.removed_segments == ()
    assert len(segments(store.directory)) == 1


def test_single_live_chunk_does_not_pin_much_dead_weight(store: Store) -> None:
    for seq in range(30):
        save(store, seq, {"x": NOISE.randbytes(100_000), f"kept{seq}": b"tiny"})
    manifests = store.manifests()
    tiny = {m.units[1].payload for m in manifests}
    prune.prune(store, {m.id for m in manifests[:-1]}, extra_keep=tiny)
    assert sum(path.stat().st_size for path in segments(store.directory)) < 200_000
    assert all(store.read_payload(payload).buffers == [b"tiny"] for payload in tiny)


def test_torn_copy_of_a_chunk_that_was_written_again_is_dead_weight(store: Store) -> None:
    value = NOISE.randbytes(2_000_000)
    save(store, 1, {"x": value})
    (torn,) = segments(store.directory)
    torn.chmod(0o600)
    data = torn.read_bytes()
    at = data.index(value[:100])
    torn.write_bytes(data[:at] + bytes(len(value)) + data[at + len(value) :])
    later = Store.open(store.directory, KEY)
    later.boot_id = b"a boot after it."
    save(later, 2, {"x": value})
    report = prune.prune(later, set())
    assert (report.removed_segments, report.kept_because) == ((torn.name,), None)
    assert newest(store.directory) == {"x": value}


def test_many_small_segments_are_gathered(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune, "SMALL_SEGMENTS", 5)
    state = {}
    for seq in range(8):
        state[f"x{seq}"] = NOISE.randbytes(100)
        save(store, seq, state)
    prune.prune(store, set())
    assert len(segments(store.directory)) == 1
    assert newest(store.directory) == state


def test_lost_signing_key_costs_no_chunks(store: Store) -> None:
    save(store, 1, {"x": b"precious"})
    stranger = Store.open(store.directory, b"another key" * 3)
    assert stranger.manifests() == []
    prune.prune(stranger, set())
    assert newest(store.directory) == {"x": b"precious"}


def test_manifest_of_a_newer_format_keeps_every_segment(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(store, 1, {"x": b"1"})
    body = b'{"format":2,"parts":"unknown"}'
    newer = store.directory / "manifests" / "00000009-newer.json"
    newer.write_bytes(manifest.sign(body, KEY).encode() + b"\n" + body + b"\n")
    report = prune.prune(store, {"checkpoint-0001"})
    assert report.kept_because is not None
    assert "format 2" in report.kept_because
    assert len(segments(store.directory)) == 1


def test_prune_waits_for_no_snapshot_and_says_that_the_store_is_busy(store: Store) -> None:
    with store.begin() as snapshot:
        snapshot.put(b"", [], [])
        with pytest.raises(StoreBusy):
            prune.prune(Store.open(store.directory, KEY), set(), wait_s=0)


def test_quota_removes_our_own_oldest_first_and_stops_when_there_is_room(store: Store) -> None:
    root = store.directory.parent
    other = Store.open(root / "another notebook", KEY)
    save(other, 1, {"x": NOISE.randbytes(500_000)})
    for seq in range(1, 6):
        save(store, seq, {"x": NOISE.randbytes(500_000)})
    limit = used_bytes(root) - 900_000
    report = enforce_quota(root, store, limit, "line-a", NOW)
    assert report.removed_manifests == ("checkpoint-0001", "checkpoint-0002")
    assert report.over is None
    assert report.used_bytes <= limit
    assert len(other.manifests()) == 1


def test_quota_that_cannot_be_met_keeps_the_newest_and_says_what_to_do(store: Store) -> None:
    for seq in (1, 2):
        save(store, seq, {"x": NOISE.randbytes(100_000)})
    report = enforce_quota(store.directory.parent, store, 10_000, "line-a", NOW)
    assert [m.seq for m in store.manifests()] == [2]
    assert report.over is not None
    assert "store_limit" in report.over


def test_quota_keeps_the_pinned_checkpoint_of_the_line_before(store: Store) -> None:
    save(store, 1, {"x": NOISE.randbytes(50_000)}, line="day")
    for seq in (2, 3):
        save(store, seq, {"x": NOISE.randbytes(50_000)}, line="clean")
    shrink(store, 1 << 40, "clean", NOW)
    assert [m.seq for m in store.manifests()] == [1, 3]


def test_default_quota_is_a_fifth_of_the_disk_or_20_gb(tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    free = disk.f_bavail * disk.f_frsize
    limit = prune.default_limit_bytes(tmp_path, used=0)
    assert limit <= 20 * 10**9
    assert limit == pytest.approx(min(free / 5, 20e9), rel=0.05)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.dictionaries(st.sampled_from("abc"), st.integers(0, 3), min_size=1),
            st.integers(0, 3),
        ),
        max_size=8,
    )
)
def test_any_order_of_saving_and_pruning_keeps_what_was_kept(
    tmp_path_factory: pytest.TempPathFactory, steps: list[dict[str, int] | int]
) -> None:
    """A dict is a checkpoint of these values, a number prunes to that many."""
    store = Store.open(tmp_path_factory.mktemp("notebook"), KEY)
    model: dict[int, dict[str, bytes]] = {}
    for seq, step in enumerate(steps):
        if isinstance(step, int):
            going = sorted(model)[: max(0, len(model) - step)]
            prune.prune(store, {f"checkpoint-{n:04d}" for n in going})
            for n in going:
                del model[n]
        else:
            state = {name: random.Random(v).randbytes(v * 40_000) for name, v in step.items()}
            save(store, seq, state)
            model[seq] = state
    reopened = Store.open(store.directory, KEY)
    assert {m.seq: load(reopened, m) for m in reopened.manifests()} == model
