"""The kernel's record of its memory: bounded, with the growth of each cell; of real processes."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from checkpoint_kernel import usage_reply
from checkpoint_kernel.memory_gauge import Gauge
from checkpoint_kernel.memory_use import Curve, MemoryUse, Sample
from checkpoint_kernel.session import Cap, Limit

pytestmark = pytest.mark.unit

MB = 1 << 20


def cap(directory: Path, used_mb: int, cache_mb: int = 0, usage: str = "memory.current") -> Cap:
    """A cap of 500 MB, of which so much is used."""
    (directory / usage).write_text(f"{used_mb * MB}\n")
    whole = "" if usage == "memory.current" else "total_"
    (directory / "memory.stat").write_text(
        f"anon 1\n{whole}shmem {7 * MB}\n{whole}inactive_file {cache_mb * MB}\n"
        f"{whole}active_file {MB}\n"
    )
    (directory / "cgroup.procs").write_text(f"{os.getpid()}\n")
    return Cap("500M", 500 * MB, 425 * MB, "cgroup v2", True, "", str(directory))


@pytest.mark.parametrize("usage", ["memory.current", "memory.usage_in_bytes"])
def test_page_cache_does_not_count_with_either_version_of_cgroups(
    tmp_path: Path, usage: str
) -> None:
    gauge = Gauge(cap(tmp_path, 300, 99, usage))
    assert gauge.used_bytes() == 200 * MB
    split = gauge.split()
    assert (split.used_bytes, split.shared_bytes, split.children) == (200 * MB, 7 * MB, ())


def test_a_cgroup_that_cannot_be_read_leaves_the_processes_themselves(tmp_path: Path) -> None:
    gauge = Gauge(cap(tmp_path, 300))
    (tmp_path / "memory.current").write_text("gone")
    assert 0 < gauge.used_bytes() != 300 * MB
    assert Gauge(Cap("1G", 1, 1, "none", False, "", "/nowhere")).used_bytes() > 0


def test_without_a_cgroup_kernel_children_and_shared_memory_are_added_up() -> None:
    gauge = Gauge(None)
    before = gauge.used_bytes()
    own = bytearray(os.urandom(MB)) * 20
    shared = mmap.mmap(-1, 10 * MB)
    shared.write(bytes(own[: 10 * MB]))
    program = "x = bytearray(30 << 20); print(flush=True); input()"
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.readline()
    try:
        split = Gauge(None).split()
        (found,) = [one for one in split.children if one.pid == child.pid]
        assert 30 * MB < found.private_bytes < 60 * MB
        assert "-c x = bytearray(30 << 20)" in found.name
        assert split.shared_bytes >= 10 * MB
        assert Gauge(None).used_bytes() - before > 55 * MB
    finally:
        child.communicate(b"\n")
    assert child.pid not in Gauge(None).pids()
    shared.close()
    assert own


def test_a_cell_is_told_with_its_growth_and_its_peak(tmp_path: Path) -> None:
    use = MemoryUse(Gauge(cap(tmp_path, 101)))
    use.cell_began(3)
    cap(tmp_path, 401)
    use.sample()
    running = use.running()
    assert running is not None
    assert (running.number, running.ended, running.growth_bytes) == (3, None, 300 * MB)
    cap(tmp_path, 151)
    use.cell_ended()
    assert use.running() is None
    (cell,) = use.cells()
    assert (cell.before_bytes, cell.after_bytes, cell.peak_bytes) == (100 * MB, 150 * MB, 400 * MB)
    assert cell.growth_bytes == 50 * MB
    assert cell.ended is not None
    assert cell.ended >= cell.began
    use.cell_ended()
    assert len(use.cells()) == 1, "the end of what did not count as a cell"
    assert max(sample.used_bytes for sample in use.samples()) == 400 * MB


def test_a_day_of_samples_is_thinned_and_keeps_its_peaks() -> None:
    curve = Curve()
    for second in range(86_400):
        curve.add(Sample(float(second), 5 if second % 7 else 10))
    samples = curve.samples()
    assert len(samples) <= 600 + 720
    assert samples[-1] == Sample(86_399.0, 5)
    times = [sample.time for sample in samples]
    assert times == sorted(times)
    assert times[-1] - times[0] > 7000, "two hours"
    assert {sample.used_bytes for sample in samples[:700]} == {10}


def test_the_answer_to_a_display_is_use_against_the_cap(tmp_path: Path) -> None:
    reply = usage_reply.content(cap(tmp_path, 300), 200 * MB, 55.0)
    assert reply["kernel_memory"] == 200 * MB
    assert reply["kernel_cpu"] == 55.0
    shown = reply["host_virtual_memory"]
    assert (shown["total"], shown["used"], shown["percent"]) == (500 * MB, 200 * MB, 40.0)
    assert shown["available"] == shown["free"] == 300 * MB
    assert reply[usage_reply.MACHINE]["total"] > 0
    assert reply["cpu_count"] == os.cpu_count()
    over = usage_reply.against(cap(tmp_path, 300), 510 * MB)
    assert (over["available"], over["percent"]) == (0, 102.0)


def test_a_limit_on_which_nothing_acts_is_not_shown(tmp_path: Path) -> None:
    enforced = cap(tmp_path, 300)
    assert enforced.in_force
    guarded = replace(enforced, enforced=False)
    assert guarded.in_force
    assert not replace(guarded, soft_bytes=guarded.cap_bytes).in_force


def test_under_a_cpu_limit_the_processors_are_those_that_it_allows(tmp_path: Path) -> None:
    half = Limit("cpu_limit", 0.5, "cgroup v1", True, "")
    assert usage_reply.enforced_cores([Limit("nice", 5, "setpriority", True, ""), half]) == 0.5
    assert usage_reply.enforced_cores([replace(half, enforced=False)]) is None
    reply = usage_reply.content(cap(tmp_path, 300), 200 * MB, 40.0, cores=0.5)
    assert (reply["cpu_count"], reply["kernel_cpu"]) == (1, 40.0)
    assert reply["host_cpu_percent"] == 80.0
    assert reply["machine_cpu_count"] == os.cpu_count()
    more = usage_reply.content(cap(tmp_path, 300), 200 * MB, 40.0, cores=(os.cpu_count() or 1) + 5)
    assert more["cpu_count"] == os.cpu_count()


def test_processes_are_kept_between_two_answers() -> None:
    first = usage_reply.processes({}, [os.getpid(), 2**22 + 1])
    assert list(first) == [os.getpid()]
    assert usage_reply.processes(first, [os.getpid()]) == first
