"""What killed or hung a restore is remembered by its payload, and forgotten with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from checkpoint_kernel import quarantine
from checkpoint_kernel.contract import QUARANTINE_FILE
from checkpoint_kernel.manifest import Unit
from checkpoint_kernel.quarantine import Entry

pytestmark = pytest.mark.unit

ONE = Entry("aa", ("x",), 1_700_000_000.0, "killed the kernel (segmentation fault)")
TWO = Entry("bb", ("y", "z"), 1_700_000_000.0, "took longer than 20 s, and was stopped")


def test_entries_stay_until_they_are_released_or_their_payload_is_gone(tmp_path: Path) -> None:
    assert quarantine.read(tmp_path) == {}
    quarantine.put(tmp_path, [ONE, TWO], ["aa", "bb", "cc"])
    assert quarantine.read(tmp_path) == {"aa": ONE, "bb": TWO}
    quarantine.release(tmp_path, ["bb"])
    assert quarantine.read(tmp_path) == {"aa": ONE}
    quarantine.put(tmp_path, [TWO], ["bb"])
    assert quarantine.read(tmp_path) == {"bb": TWO}


def test_the_first_finding_stands(tmp_path: Path) -> None:
    quarantine.put(tmp_path, [ONE], ["aa"])
    quarantine.put(tmp_path, [Entry("aa", ("x",), 2e9, "something else")], ["aa"])
    assert quarantine.read(tmp_path) == {"aa": ONE}


@pytest.mark.parametrize("content", [b"", b"[]", b'{"entries": [{"payload": 1}]}', b"\xff"])
def test_a_file_that_cannot_be_read_holds_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / QUARANTINE_FILE).write_bytes(content)
    assert quarantine.read(tmp_path) == {}


def test_a_reason_says_what_it_did_and_when() -> None:
    assert ONE.reason.startswith("loading it killed the kernel (segmentation fault) on 2023-11-1")


@pytest.mark.parametrize(
    ("cause", "did"),
    [
        ("segmentation-fault", ["killed the kernel (segmentation fault)"]),
        ("hung", ["hung the kernel"]),
        (None, ["killed the kernel"]),
        ("oom-killed-by-cap", []),  # with a larger limit it is back
        ("killed", []),  # somebody sent a SIGKILL
    ],
)
def test_a_death_is_put_down_to_the_unit_that_was_being_loaded(
    cause: str | None, did: list[str]
) -> None:
    unit = Unit("data:x", "data", ("x",), "pickle", "aa", 10)
    found = quarantine.of_death([unit], cause, 5.0)
    assert [entry.did for entry in found] == did
    assert all((entry.payload, entry.names, entry.time) == ("aa", ("x",), 5.0) for entry in found)
