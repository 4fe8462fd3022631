"""What the guard decides: limits, thresholds and how often it looks. Real kernels: tests/deaths."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from checkpoint_kernel import contract, flight_recorder
from checkpoint_kernel.flight_recorder import FlightRecorder
from checkpoint_kernel.session import Cap, Event
from checkpoint_provisioner import descendants, guard, guard_rules, guard_verbs
from checkpoint_provisioner.caps import meter
from checkpoint_provisioner.caps.meter import Level, Meter, Use
from checkpoint_provisioner.guard import Guard

MB = 1 << 20
CAP = Cap("500M", 500 * MB, 425 * MB, "none", False, "a test's")


def use(used_mb: int, limit_mb: int = 500, own: bool = True) -> Use:
    return Use(used_mb * MB, limit_mb * MB, own)


class TestDataLimit:
    def test_what_is_left_below_the_limit_is_given_out_less_three_percent(self) -> None:
        assert guard_rules.data_limit(use(100), 300 * MB) == 300 * MB + 385 * MB

    def test_what_will_be_memory_soon_is_spoken_for(self) -> None:
        assert guard_rules.data_limit(use(100), 300 * MB, 200 * MB) == 300 * MB + 185 * MB

    def test_what_the_snapshot_process_has_is_as_good_as_free(self) -> None:
        given = guard_rules.data_limit(use(400), 300 * MB, snapshot_bytes=300 * MB)
        assert given == 300 * MB + 385 * MB

    def test_at_the_limit_there_is_enough_to_say_what_happened(self) -> None:
        assert guard_rules.data_limit(use(499), 300 * MB, 0) == 300 * MB + 10 * MB
        assert guard_rules.data_limit(use(9000, 8000), 300 * MB, 0) == 300 * MB + 16 * MB


class TestPromised:
    def test_an_allocation_that_is_being_filled_counts_until_it_is(self) -> None:
        promised = guard_rules.Promised()
        assert promised.update(200 * MB, 1.0) == 0  # what the kernel began with
        assert promised.update(500 * MB, 1.1) == 300 * MB
        assert promised.update(350 * MB, 1.5) == 150 * MB  # half of it is touched
        assert promised.update(300 * MB, 1.9) == 100 * MB
        assert promised.update(200 * MB, 2.3) == 0

    def test_what_is_not_touched_while_the_kernel_works_on_is_no_promise(self) -> None:
        promised = guard_rules.Promised()
        promised.update(200 * MB, 1.0)
        assert promised.update(600 * MB, 1.0) == 400 * MB
        left = [promised.update(600 * MB, 1.0 + tick / 10) for tick in range(1, 12)]
        assert left[2] == 400 * MB
        assert left[-1] == 0

    def test_the_floor_under_many_allocations_is_settled_and_they_are_not(self) -> None:
        promised = guard_rules.Promised()
        promised.update(200 * MB, 1.0)
        for tick in range(20):  # stacks of 40 MB, and an array of 20 MB that is filled each time
            left = promised.update((240 + 20 * (tick % 2)) * MB, 1.1 + tick / 20)
        assert left == 20 * MB

    def test_a_large_allocation_is_a_promise_as_long_as_it_is_being_filled(self) -> None:
        promised = guard_rules.Promised()
        promised.update(200 * MB, 1.0)
        for tick in range(40):  # 4 GB, at a gigabyte a second
            untouched_mb = 4296 - 100 * tick
            assert promised.update(untouched_mb * MB, 1.0 + tick / 10) == (untouched_mb - 200) * MB


class TestThreshold:
    def test_a_cell_is_interrupted_at_the_soft_limit(self) -> None:
        assert guard_rules.interrupts_at(425 * MB, 500 * MB, 100 * MB) == 425 * MB

    def test_one_that_begins_above_it_may_grow_a_little_so_that_del_runs(self) -> None:
        assert guard_rules.interrupts_at(425 * MB, 500 * MB, 440 * MB) == 450 * MB


class TestTicks:
    def test_far_from_the_limit_the_guard_sleeps(self) -> None:
        assert guard_rules.next_tick_s(1 << 30, 7 << 30, busy=True) == guard_rules.LONGEST_TICK_S

    def test_it_looks_again_before_the_soft_limit_could_be_met(self) -> None:
        assert guard_rules.next_tick_s(225 * MB, 425 * MB, busy=True) == pytest.approx(
            0.105, abs=0.01
        )

    def test_near_it_the_look_is_short_in_a_cell_and_longer_between_cells(self) -> None:
        assert guard_rules.next_tick_s(424 * MB, 425 * MB, busy=True) == guard_rules.SHORTEST_TICK_S
        assert guard_rules.next_tick_s(460 * MB, 425 * MB, busy=False) == guard_rules.IDLE_TICK_S


class TestMeter:
    def test_the_level_with_the_least_room_counts(self) -> None:
        levels = [Level(500 * MB, lambda: 100 * MB, True), Level(900 * MB, lambda: 800 * MB, False)]
        assert Meter(levels).read() == use(800, 900, own=False)

    def test_what_cannot_be_read_is_left_out(self) -> None:
        assert Meter([Level(500 * MB, lambda: None, True)]).read() is None

    def test_processes_are_counted_once_where_they_share_memory(self) -> None:
        code = (
            "import os, time; x = b'x' * 100_000_000; pid = os.fork()\n"
            "if pid: print(pid, flush=True)\ntime.sleep(100)"
        )
        parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        try:
            assert parent.stdout is not None
            child = int(parent.stdout.readline())
            assert [one.pid for one in descendants.of_kernel(parent.pid)] == [child]
            alone = meter.of_processes(lambda: [parent.pid])()
            both = meter.of_processes(lambda: [parent.pid, child])()
            assert alone is not None
            assert both is not None
            assert 100_000_000 < both < 1.3 * alone
        finally:
            for pid in (child, parent.pid):
                os.kill(pid, signal.SIGKILL)
            parent.wait()
            assert parent.stdout is not None
            parent.stdout.close()


def ticks(one: Guard) -> None:
    """So many that on a busy machine too one of them sets the limit."""
    for _ in range(guard.LOOKS + 2):
        one.tick()


class TestAGuardedProcess:
    """A real process, which is no kernel, and a flight recorder that the test keeps."""

    def test_the_limit_follows_use_is_lifted_for_a_restore_and_leaves_the_users_alone(
        self, tmp_path: Path
    ) -> None:
        code = "import time; print(flush=True); time.sleep(100)"
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        used = [100 * MB]
        said: list[Event] = []
        recorder = FlightRecorder(tmp_path / contract.FLIGHT_FILE)
        try:
            one = Guard(
                child.pid, CAP, Meter([Level(500 * MB, lambda: used[0], True)]), tmp_path,
                lambda: [child.pid], said.append, str(tmp_path), is_ours=True,
            )  # fmt: skip

            def limit() -> int:
                return resource.prlimit(child.pid, resource.RLIMIT_DATA)[0]

            before = limit()
            ticks(one)
            assert limit() == before  # it is starting: nothing is limited yet
            recorder.update(state="idle")
            ticks(one)
            found = meter.data_of(child.pid)
            assert found is not None
            data = found.data_bytes
            assert limit() == data + 385 * MB
            used[0] = 200 * MB
            ticks(one)
            assert limit() == data + 285 * MB
            recorder.update(lifted=True)
            ticks(one)
            assert limit() == before
            recorder.update(lifted=False)
            recorder.update(users_data_limit=data + MB)
            ticks(one)
            assert limit() == data + MB
            assert said == []
        finally:
            child.kill()
            child.wait()
            child.stdout.close()

    def test_children_lose_the_limit_and_go_first(self, tmp_path: Path) -> None:
        code = (
            "import subprocess, sys, time\n"
            "print(flush=True); sys.stdin.readline()\n"
            "p = subprocess.Popen(['sleep', '100']); print(p.pid, flush=True); time.sleep(100)"
        )
        parent = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert parent.stdin is not None
        assert parent.stdout is not None
        child = None
        try:

            def processes() -> list[int]:
                return [parent.pid, *(one.pid for one in descendants.of_kernel(parent.pid))]

            one = Guard(
                parent.pid, CAP, Meter([Level(500 * MB, lambda: 400 * MB, True)]), tmp_path,
                processes, print, "", is_ours=False,
            )  # fmt: skip
            parent.stdout.readline()
            before = resource.prlimit(parent.pid, resource.RLIMIT_DATA)
            ticks(one)
            assert resource.prlimit(parent.pid, resource.RLIMIT_DATA)[0] != before[0]
            parent.stdin.write("\n")
            parent.stdin.flush()
            child = int(parent.stdout.readline())
            assert resource.prlimit(child, resource.RLIMIT_DATA)[0] != before[0]
            ticks(one)
            assert resource.prlimit(child, resource.RLIMIT_DATA) == before
            score = int(Path(f"/proc/{child}/oom_score_adj").read_text())
            assert score == guard.CHILD_SCORE
        finally:
            for pid in (child, parent.pid):
                if pid is not None:
                    os.kill(pid, signal.SIGKILL)
            parent.wait()
            parent.stdin.close()
            parent.stdout.close()

    def test_without_a_cgroup_the_largest_child_goes_at_the_limit_and_that_is_said(
        self, tmp_path: Path
    ) -> None:
        code = "x = b'x' * 50_000_000; import time; print(flush=True); time.sleep(100)"
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        said: list[Event] = []
        try:
            assert child.stdout is not None
            child.stdout.readline()
            one = Guard(
                os.getpid(), CAP, Meter([Level(500 * MB, lambda: 490 * MB, True)]), tmp_path,
                lambda: [os.getpid(), child.pid], said.append, "", is_ours=False,
            )  # fmt: skip
            ticks(one)
            one.off()  # it is this very process that was limited
            assert child.wait(timeout=10) == -signal.SIGKILL
            assert [event.kind for event in said] == ["child-killed-by-guard"]
            assert str(child.pid) in said[0].said
        finally:
            child.kill()
            child.wait()
            assert child.stdout is not None
            child.stdout.close()

    def test_a_process_without_a_handler_is_not_signalled(self) -> None:
        child = subprocess.Popen(["sleep", "100"])
        try:
            assert not guard_verbs.signal_if_caught(child.pid, contract.MEMORY_SIGNAL)
            time.sleep(0.05)
            assert child.poll() is None
        finally:
            child.kill()
            child.wait()


def test_a_flight_recorder_of_an_older_kernel_is_read(tmp_path: Path) -> None:
    FlightRecorder(tmp_path / "flight").update(state="busy")
    flight = flight_recorder.read(tmp_path / "flight")
    assert flight is not None
    assert (flight.lifted, flight.memory_interrupts, flight.snapshots_killed) == (False, 0, 0)
