"""Open files: saved in place and by a real snapshot process, back at their position."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import interactive
import pytest

from checkpoint_kernel import restore, snapshot
from checkpoint_kernel.session import RestoreReport
from checkpoint_kernel.stub import NotBackError, Stub

pytestmark = pytest.mark.unit

ROWS = "".join(f"row {n}\n" for n in range(5000))


class Reborn:
    """Runs cells, saves them, and restores them into a new shell."""

    def __init__(self, directory: Path, forks: bool) -> None:
        self.before = interactive.new_shell()
        self._store = interactive.new_store(directory)
        self._forks = forks
        self.report: RestoreReport

    def run(self, *cells: str) -> None:
        interactive.run(self.before, "import io, os, sys, tempfile", *cells)

    def saved(self) -> Any:
        if not self._forks:
            return interactive.save(self.before, self._store)
        child = snapshot.fork(lambda report: interactive.save(self.before, self._store) and None)
        ended = snapshot.reap(child, block=True)
        reports = snapshot.read_status(child)
        snapshot.close(child)
        assert ended is not None
        assert ended.status == 0, reports
        return self._store.manifests()[-1]

    def restored(self, saved: Any) -> dict[str, Any]:
        self._store.refresh()
        shell = interactive.new_shell()
        self.report = restore.on_request(shell, self._store, saved)
        found: dict[str, Any] = shell.user_ns
        return found

    def again(self, *cells: str) -> dict[str, Any]:
        self.run(*cells)
        saved = self.saved()
        assert saved.skipped == ()
        return self.restored(saved)


@pytest.fixture(params=["in place", "forked"])
def reborn(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Reborn:
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.txt").write_text(ROWS)
    return Reborn(tmp_path / "store", request.param == "forked")


def test_a_text_file_goes_on_where_it_was_read_to(reborn: Reborn) -> None:
    back = reborn.again("f = open('rows.txt'); seen = [f.readline() for _ in range(3)]")
    f = back["f"]
    assert (f.readline(), f.name, f.mode) == ("row 3\n", "rows.txt", "r")
    assert f.read() == "".join(f"row {n}\n" for n in range(4, 5000))


def test_a_binary_file_goes_on_where_it_was_read_to(reborn: Reborn) -> None:
    back = reborn.again(
        "f = open('rows.txt', 'rb'); f.read(7)\n"
        "raw = open('rows.txt', 'rb', buffering=0); raw.read(2)\nsame = f"
    )
    assert back["f"].readline() == b"ow 1\n"
    assert back["same"] is back["f"]
    assert back["raw"].read(3) == b"w 0"
    assert back["f"].mode == "rb"


def test_a_file_that_is_written_goes_on_and_is_not_truncated(reborn: Reborn) -> None:
    back = reborn.again("f = open('out.txt', 'w'); f.write('one\\n')")
    assert back["f"].mode == "w"
    back["f"].write("two\n")
    back["f"].close()
    assert Path("out.txt").read_text() == "one\ntwo\n"


def test_what_was_not_flushed_is_not_lost_and_not_written_twice(reborn: Reborn) -> None:
    reborn.run("f = open('out.bin', 'ab'); f.write(b'one'); f.flush(); f.write(b'two')")
    saved = reborn.saved()
    assert saved.skipped == ()
    for _ in range(2):
        back = reborn.restored(saved)
        back["f"].flush()
        assert Path("out.bin").read_bytes() == b"onetwo"


def test_a_file_that_is_read_and_written_keeps_both(reborn: Reborn) -> None:
    back = reborn.again(
        "f = open('rows.txt', 'r+b'); f.read(4); f.write(b'X'); g = open('new.txt', 'w+')\n"
        "g.write('abc'); g.seek(1)"
    )
    assert back["f"].read(2) == b"\nr"
    back["f"].close()
    assert Path("rows.txt").read_bytes()[:6] == b"row X\n"
    assert back["g"].read() == "bc"


def test_a_closed_file_is_closed(reborn: Reborn) -> None:
    back = reborn.again("with open('rows.txt') as f: pass\nos.remove('rows.txt')")
    assert (back["f"].closed, back["f"].name) == (True, "rows.txt")


def test_text_over_memory_keeps_its_position(reborn: Reborn) -> None:
    back = reborn.again(
        "b = io.BytesIO(b'one\\ntwo\\n'); t = io.TextIOWrapper(b, 'ascii'); t.readline()"
    )
    assert back["t"].readline() == "two\n"
    assert back["t"].buffer is back["b"]


def test_files_without_a_name_keep_their_content(reborn: Reborn) -> None:
    back = reborn.again(
        "f = tempfile.TemporaryFile(); f.write(b'one\\n'); f.write(b'two\\n'); f.seek(4)\n"
        "s = tempfile.SpooledTemporaryFile(); s.write(b'spooled'); s.seek(0)"
    )
    assert back["f"].read() == b"two\n"
    back["f"].seek(0)
    assert back["f"].read() == b"one\ntwo\n"
    assert back["s"].read() == b"spooled"


def test_a_named_temporary_file_is_back_and_still_there(reborn: Reborn) -> None:
    back = reborn.again("f = tempfile.NamedTemporaryFile('w+'); f.write('one'); f.flush()")
    back["f"].seek(0)
    assert back["f"].read() == "one"
    assert Path(back["f"].name).exists()
    reborn.before.user_ns["f"]._closer.delete = False  # as in a process that died


def test_dev_null_and_compressed_files_and_archives_are_back(reborn: Reborn) -> None:
    back = reborn.again(
        "import bz2, gzip, tarfile, zipfile\n"
        "null = open(os.devnull, 'w')\n"
        "with gzip.open('a.gz', 'wt') as out: out.write('one\\ntwo\\n')\n"
        "g = gzip.open('a.gz', 'rb'); g.readline(); gt = gzip.open('a.gz', 'rt'); del out\n"
        "with zipfile.ZipFile('a.zip', 'w') as z: z.writestr('m', 'member')\n"
        "z = zipfile.ZipFile('a.zip')\n"
        "with tarfile.open('a.tar', 'w') as t: t.add('rows.txt')\n"
        "t = tarfile.open('a.tar')"
    )
    assert back["null"].write("x") == 1
    assert back["g"].read() == b"two\n"
    assert back["gt"].read() == "one\ntwo\n"
    assert back["z"].read("m") == b"member"
    assert back["t"].extractfile("rows.txt").read() == ROWS.encode()


def test_maps_of_files_and_of_memory_are_back(reborn: Reborn) -> None:
    back = reborn.again(
        "import mmap\n"
        "with open('rows.txt', 'r+b') as file: m = mmap.mmap(file.fileno(), 0)\n"
        "m.seek(4); n = mmap.mmap(-1, 100); n[:3] = b'abc'; del file"
    )
    assert back["m"].read(4) == b"0\nro"
    back["m"][:3] = b"ROW"
    back["m"].flush()
    assert Path("rows.txt").read_bytes()[:5] == b"ROW 0"
    assert (back["n"][:4], len(back["n"])) == (b"abc\0", 100)


def test_the_streams_of_the_kernel_are_those_of_the_new_one(reborn: Reborn) -> None:
    back = reborn.again("out = [sys.__stdout__, sys.__stderr__]")
    assert back["out"] == [sys.__stdout__, sys.__stderr__]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda: Path("rows.txt").unlink(), "cannot be opened: No such file"),
        (lambda: os.truncate("rows.txt", 3), "is shorter now"),
        (
            lambda: (Path("b.txt").write_text(ROWS), os.replace("b.txt", "rows.txt")),
            "another file is at",
        ),
    ],
)
def test_a_file_that_is_gone_is_named_and_what_holds_it_is_back(
    reborn: Reborn, change: Callable[[], object], reason: str
) -> None:
    reborn.run("f = open('rows.txt'); f.read(10); log = {'file': open('rows.txt', 'rb'), 'n': 1}")
    reborn.run("log['file'].read(20)")
    saved = reborn.saved()
    change()
    back = reborn.restored(saved)
    assert type(back["f"]) is Stub
    found = {one.name: one.reason for one in reborn.report.not_restored}
    assert reason in found["f"]
    assert back["log"]["n"] == 1
    assert [(one.name, one.type) for one in reborn.report.partly] == [("log", "_io.BufferedReader")]
    with pytest.raises(NotBackError, match=reason):
        back["log"]["file"].read()


class TestForked:
    """What only a copy of the object can tell."""

    @pytest.fixture
    def reborn(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reborn:
        monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
        monkeypatch.chdir(tmp_path)
        (tmp_path / "rows.txt").write_text(ROWS)
        return Reborn(tmp_path / "store", True)

    def test_a_file_in_the_middle_of_an_iteration(self, reborn: Reborn) -> None:
        back = reborn.again("f = open('rows.txt')\nfor row in f:\n    if '1234' in row: break")
        assert next(back["f"]) == "row 1235\n"

    @pytest.mark.parametrize("newline", ["", "\n", "\r", "\r\n", None])
    def test_how_ends_of_lines_are_treated(self, reborn: Reborn, newline: str | None) -> None:
        Path("ends.txt").write_bytes(b"a\rb\r\nc\nd")
        back = reborn.again(
            f"r = open('ends.txt', newline={newline!r})",
            f"w = open('w.txt', 'w', newline={newline!r})",
        )
        with open("ends.txt", newline=newline) as expected:
            assert back["r"].readlines() == expected.readlines()
        back["w"].write("x\n")
        back["w"].close()
        ending = newline if newline in ("\r", "\r\n") else "\n"
        assert Path("w.txt").read_bytes() == f"x{ending}".encode()

    def test_the_users_file_is_as_it_was(self, reborn: Reborn) -> None:
        reborn.run("f = open('rows.txt'); next(f)", "w = open('w.txt', 'w'); w.write('pending')")
        reborn.saved()
        assert Path("w.txt").read_bytes() == b""
        reborn.run("assert next(f) == 'row 1\\n'", "w.close()")
        assert Path("w.txt").read_bytes() == b"pending"
