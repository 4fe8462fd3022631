"""Finding one's own cgroup, and every clean refusal, from trees written by the test.

Only parsing and refusing is shown here; that a limit holds is `test_real_caps`'s.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from checkpoint_provisioner.caps import cgroup_v1, cgroup_v2, group, hierarchy, limits
from checkpoint_provisioner.caps.group import Refused
from checkpoint_provisioner.caps.hierarchy import Place

pytestmark = pytest.mark.unit


def proc(tmp_path: Path, cgroup: str, *mounts: str) -> Path:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cgroup").write_text(cgroup)
    (tmp_path / "proc/mountinfo").write_text("\n".join(mounts) + "\n")
    return tmp_path / "proc"


def v2_mount(root: str, point: Path) -> str:
    escaped = str(point).replace(" ", "\\040")
    return f"31 23 0:28 {root} {escaped} rw,relatime shared:9 - cgroup2 cgroup2 rw"


def v1_mount(root: str, point: Path, controllers: str = "memory") -> str:
    return f"35 31 0:32 {root} {point} rw,relatime - cgroup cgroup rw,{controllers}"


def v2_tree(tmp_path: Path, own: str, **files: str) -> Place:
    """A tree with the files of v2; nothing in it enforces anything."""
    mount = tmp_path / "cgroup"
    directory = mount / own
    directory.mkdir(parents=True)
    for each in hierarchy.between(directory, mount):
        (each / "cgroup.controllers").write_text("cpu memory pids\n")
        (each / "cgroup.subtree_control").write_text("\n")
        (each / "cgroup.procs").write_text("")
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(text)
    return Place(directory, mount)


def test_our_own_group_is_found_below_the_mount(tmp_path: Path) -> None:
    own = tmp_path / "cg/user.slice/a.scope"
    own.mkdir(parents=True)
    place = hierarchy.unified(
        proc(tmp_path, "0::/user.slice/a.scope\n", v2_mount("/", tmp_path / "cg"))
    )
    assert place == Place(own, tmp_path / "cg")
    assert [p.name for p in place.upwards()] == ["a.scope", "user.slice", "cg"]


def test_in_a_container_the_mount_point_is_our_own_group(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    place = hierarchy.memory_v1(
        proc(
            tmp_path,
            "5:devices:/docker/abc\n4:memory:/docker/abc\n0::/\n",
            v1_mount("/docker/abc", tmp_path / "devices", "devices"),
            v1_mount("/docker/abc", tmp_path / "memory"),
        )
    )
    assert place == Place(tmp_path / "memory", tmp_path / "memory")


def test_controllers_mounted_together_and_spaces_in_the_mount_point_are_understood(
    tmp_path: Path,
) -> None:
    (tmp_path / "c g/x").mkdir(parents=True)
    found = hierarchy.unified(proc(tmp_path, "0::/x\n", v2_mount("/", tmp_path / "c g")))
    assert found == Place(tmp_path / "c g/x", tmp_path / "c g")
    (tmp_path / "both").mkdir()
    (tmp_path / "second").mkdir()
    both = hierarchy.memory_v1(
        proc(
            tmp_path / "second",
            "4:cpu,memory:/\n",
            v1_mount("/", tmp_path / "both", "cpu,memory"),
        )
    )
    assert both == Place(tmp_path / "both", tmp_path / "both")


@pytest.mark.parametrize("path", ["/../other", "/elsewhere"])
def test_a_group_that_this_mount_does_not_show_is_not_guessed(tmp_path: Path, path: str) -> None:
    (tmp_path / "cg").mkdir()
    assert (
        hierarchy.unified(proc(tmp_path, f"0::{path}\n", v2_mount("/here", tmp_path / "cg")))
        is None
    )


def test_without_any_hierarchy_both_backends_refuse_with_a_reason() -> None:
    with pytest.raises(Refused, match="no cgroup v2 hierarchy is mounted"):
        cgroup_v2.create(None, "x")
    with pytest.raises(Refused, match="no v1 memory controller is mounted"):
        cgroup_v1.create(None, "x")


def test_v2_without_the_memory_controller_is_refused(tmp_path: Path) -> None:
    place = v2_tree(tmp_path, "a")
    (place.mount / "cgroup.controllers").write_text("cpu pids\n")
    with pytest.raises(Refused, match="has no memory controller"):
        cgroup_v2.create(place, "x")


def test_v2_without_delegation_is_refused_naming_both_places(tmp_path: Path) -> None:
    place = v2_tree(tmp_path, "a/b", cgroup__controllers="cpu\n")
    with pytest.raises(Refused) as caught:
        cgroup_v2.create(place, "x")
    assert f"not delegated to {place.directory}" in str(caught.value)
    assert f"{place.directory.parent} does not hand the memory controller down" in str(caught.value)


def test_v2_never_moves_processes_of_others_and_names_them(tmp_path: Path) -> None:
    parent = os.getppid()
    place = v2_tree(
        tmp_path, "a", cgroup__type="domain\n", cgroup__procs=f"{os.getpid()}\n{parent}\n"
    )
    with pytest.raises(Refused, match=rf"holds other processes \({parent} .*not ours to move"):
        cgroup_v2.create(place, "x")
    assert not (place.directory / cgroup_v2.SUPERVISOR_LEAF).exists()


def test_v2_does_not_leave_a_group_that_has_a_limit(tmp_path: Path) -> None:
    place = v2_tree(
        tmp_path, "a/b", cgroup__type="domain\n", cgroup__procs="1\n", memory__max="1000000\n"
    )
    (place.directory.parent / "cgroup.subtree_control").write_text("memory\n")
    with pytest.raises(Refused, match="would escape the limit of 1000000 bytes"):
        cgroup_v2.create(place, "x")


def test_v2_beside_our_own_leaf_is_used_where_the_parent_was_handed_over(tmp_path: Path) -> None:
    place = v2_tree(
        tmp_path, "a/b", cgroup__type="domain\n", cgroup__procs="1\n", memory__max="max\n"
    )
    (place.directory.parent / "cgroup.subtree_control").write_text("memory\n")
    assert cgroup_v2.create(place, "x").directory == place.directory.parent / "x"


def test_v2_takes_another_controller_into_a_leaf_of_our_own_and_asks_nobody_elses_parent(
    tmp_path: Path,
) -> None:
    place = v2_tree(tmp_path, "a")
    leaf = place.directory / "x"
    mine = cgroup_v2.Group(leaf, place.mount, moved_from=place.directory)
    mine.need("cpu")
    assert (place.directory / "cgroup.subtree_control").read_text() == "+cpu"
    with pytest.raises(Refused, match="the io controller is not delegated to"):
        mine.need("io")
    with pytest.raises(Refused, match="does not hand the pids controller down"):
        cgroup_v2.Group(leaf, place.mount).need("pids")


@pytest.mark.parametrize("limit", ["cpu__max", "pids__max"])
def test_v2_does_not_leave_a_group_with_a_limit_on_cpu_or_processes(
    tmp_path: Path, limit: str
) -> None:
    text = {"cpu__max": "50000 100000\n", "pids__max": "100\n"}[limit]
    place = v2_tree(
        tmp_path, "a/b", **{"cgroup__type": "domain\n", "cgroup__procs": "1\n", limit: text}
    )
    (place.directory.parent / "cgroup.subtree_control").write_text("memory\n")
    with pytest.raises(Refused, match=r"would escape the limit of (0\.5 cores|100 processes)"):
        cgroup_v2.create(place, "x")


def test_limits_on_cpu_and_processes_that_read_back_otherwise_are_refused(tmp_path: Path) -> None:
    for name in ("cpu.max", "pids.max", "cpu.cfs_quota_us", "cpu.cfs_period_us"):
        (tmp_path / name).symlink_to("/dev/null")  # takes every write, keeps none
    for made in (cgroup_v2.Group(tmp_path, tmp_path), cgroup_v1.Group(tmp_path, tmp_path)):
        with pytest.raises(Refused, match="reads back as"):
            made.limit_cpu(1.5)
        with pytest.raises(Refused, match="took 40 but reads back as max"):
            made.limit_pids(40)


def test_a_limit_that_reads_back_otherwise_is_refused(tmp_path: Path) -> None:
    (tmp_path / "memory.max").symlink_to("/dev/null")  # takes every write, keeps none
    with pytest.raises(Refused, match=r"took 1048576 but reads back as max"):
        cgroup_v2.Group(tmp_path, tmp_path).limit(1 << 20)
    (tmp_path / "memory.limit_in_bytes").symlink_to("/dev/null")
    with pytest.raises(Refused, match=r"took 1048576 but reads back as None"):
        cgroup_v1.Group(tmp_path, tmp_path).limit(1 << 20)


def test_a_limit_rounded_down_to_pages_stands_and_any_other_does_not() -> None:
    assert group.stands(1_000_000, 999_424)
    assert group.stands(1 << 20, 1 << 20)
    assert not group.stands(1 << 20, (1 << 20) - (1 << 17))
    assert not group.stands(1 << 20, 2 << 20)
    assert not group.stands(1 << 20, None)


def test_counters_of_v2_tell_our_oom_from_an_ancestors(tmp_path: Path) -> None:
    place = v2_tree(
        tmp_path,
        "slice/kernel",
        memory__events="low 0\nhigh 0\nmax 7\noom 1\noom_kill 2\n",
        memory__events__local="low 0\nhigh 0\nmax 7\noom 1\noom_kill 2\n",
        memory__current="5000000\n",
        memory__stat="anon 1\ninactive_file 1000000\nactive_file 500000\n",
        memory__max="8000000\n",
    )
    (place.directory.parent / "memory.events.local").write_text("oom 4\n")
    (place.directory.parent / "memory.max").write_text("9000000\n")
    counters = cgroup_v2.Group(place.directory, place.mount).counters()
    assert counters.oom_kill == 2
    assert counters.oom_local == 1
    assert counters.oom_ancestors == {str(place.directory.parent): 4}
    assert counters.outer_limits == {str(place.directory.parent): 9000000}
    assert counters.usage_bytes == 5000000
    assert counters.nonreclaimable_bytes == 3500000
    assert counters.peak_bytes is None
    assert counters.failcnt == 7
    outer = cgroup_v2.outer_counters(place)
    assert outer.oom_kill == 2
    assert outer.oom_local is None
    assert outer.oom_ancestors == {str(place.directory): 1, str(place.directory.parent): 4}


def test_v1_limits_above_a_containers_mount_are_seen(tmp_path: Path) -> None:
    (tmp_path / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    (tmp_path / "memory.stat").write_text("cache 0\nhierarchical_memory_limit 4294967296\n")
    assert cgroup_v1.enclosing_limits(Place(tmp_path, tmp_path)) == {f"above {tmp_path}": 4 << 30}


def test_a_percentage_is_resolved_against_the_whole() -> None:
    assert limits.resolve("50%", 1000) == 500
    assert limits.resolve("8G", 1000) == 8 << 30
    with pytest.raises(ValueError, match="is not a size"):
        limits.resolve("half", 1000)


def test_a_group_left_by_a_dead_supervisor_is_swept_and_others_are_not(tmp_path: Path) -> None:
    dead, young, alive, foreign = (
        tmp_path / name
        for name in (
            "checkpoint-kernel-4194305-a",  # above pid_max: nobody's
            "checkpoint-kernel-4194305-b",
            f"checkpoint-kernel-{os.getpid()}-c",
            "somebody-else",
        )
    )
    for directory in (dead, young, alive, foreign):
        directory.mkdir()
        if directory != young:
            os.utime(directory, (0, 0))
    group.sweep(tmp_path)
    assert not dead.exists()
    assert young.is_dir()
    assert alive.is_dir()
    assert foreign.is_dir()


def test_a_group_that_cannot_be_removed_is_a_stated_reason_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "group").mkdir()
    (tmp_path / "group/file").touch()  # a cgroup's own files vanish with it; this one stays
    why = group.remove(tmp_path / "group", within_s=0.05)
    assert why is not None
    assert str(tmp_path / "group") in why
    assert group.remove(tmp_path / "never-there") is None


def test_names_are_safe_and_tell_whose_they_are() -> None:
    assert group.name_for("a b/../c") == f"checkpoint-kernel-{os.getpid()}-a_b_.._c"
