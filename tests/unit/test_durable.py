from __future__ import annotations

import errno
import itertools
import os
from pathlib import Path

import pytest
from durable_faults import dies_at, failing_at, loses_power_at, operations_of
from hypothesis import given
from hypothesis import strategies as st

from checkpoint_kernel import durable

OLD, NEW = b"old" * 1000, b"new" * 2000


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@given(data=st.binary(max_size=5000))
def test_published_file_holds_exactly_the_data(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    directory = tmp_path_factory.mktemp("d")
    durable.publish(directory / "f", data)
    assert files(directory) == {"f": data}
    assert (directory / "f").stat().st_mode & 0o777 == 0o600


def test_publishing_syncs_the_file_before_the_rename_and_the_directory_after(
    tmp_path: Path,
) -> None:
    names = operations_of(lambda: durable.publish(tmp_path / "f", NEW))
    assert names == ["create", "write_all", "fsync", "rename", "fsync"]


@pytest.mark.parametrize("halfway", [False, True])
def test_death_while_publishing_leaves_the_old_or_the_new_content(
    tmp_path: Path, halfway: bool
) -> None:
    for number in itertools.count():
        target = tmp_path / str(number) / "f"
        target.parent.mkdir()
        durable.publish(target, OLD)
        died = dies_at(number, lambda target=target: durable.publish(target, NEW), halfway)
        assert target.read_bytes() == (OLD if number < 4 else NEW)
        if not died:
            break


@pytest.mark.parametrize("lost", [frozenset(), frozenset({"d"})], ids=["kept", "lost"])
def test_power_loss_while_publishing_leaves_the_old_or_the_new_content(
    tmp_path: Path, lost: frozenset[str]
) -> None:
    for number in itertools.count():
        target = tmp_path / str(number) / "d" / "f"
        target.parent.mkdir(parents=True)
        durable.publish(target, OLD)
        died = loses_power_at(
            number, lambda target=target: durable.publish(target, NEW), lost, lose_data=True
        )
        assert target.read_bytes() in (OLD, NEW)
        if not died:
            assert target.read_bytes() == NEW
            break


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_error_while_publishing_is_raised_and_leaves_no_temporary(
    tmp_path: Path, error: int
) -> None:
    target = tmp_path / "f"
    for number in range(5):
        durable.publish(target, OLD)
        with pytest.raises(OSError, match=os.strerror(error)), failing_at(number, error):
            durable.publish(target, NEW)
        assert files(tmp_path) == {"f": OLD if number < 4 else NEW}


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:7]))
    durable.publish(tmp_path / "f", NEW)
    assert (tmp_path / "f").read_bytes() == NEW


def test_temporary_names_are_this_processes_own_and_never_the_same(tmp_path: Path) -> None:
    names = {durable.temporary_name(tmp_path) for _ in range(100)}
    assert len(names) == 100
    assert all(name.name.startswith(f".tmp-{os.getpid()}-") for name in names)


def test_creating_a_file_that_exists_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with pytest.raises(FileExistsError):
        durable.create(tmp_path / "f")


def test_removing_what_is_gone_is_fine(tmp_path: Path) -> None:
    durable.unlink(tmp_path / "never was")
