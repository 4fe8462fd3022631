"""Events of a session: written by two processes at once, read also where a line is damaged."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from checkpoint_kernel import memory_report, session
from checkpoint_kernel.children_news import ChildrenNews
from checkpoint_kernel.contract import EVENTS_FILE
from checkpoint_kernel.session import UNREADABLE, Event
from checkpoint_provisioner import evidence

pytestmark = pytest.mark.unit

KILLED = Event("child-oom-killed", 990.0, "a child was killed", {"pid": 8})
STOPPED = Event("snapshot-stopped-by-guard", 991.0, "a snapshot was stopped", {})


def test_events_come_back_in_order_and_are_the_owners_alone(tmp_path: Path) -> None:
    assert session.read_events(tmp_path) == []
    session.append_event(tmp_path, KILLED)
    session.append_event(tmp_path, STOPPED)
    assert session.read_events(tmp_path) == [KILLED, STOPPED]
    assert (tmp_path / EVENTS_FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "damage",
    [b'{"kind": "child-oom', b"\xff\xfe\0", b"[1, 2]", b'{"kind": 1, "time": 1, "said": "x"}',
     b'{"kind": "x", "time": "noon", "said": "x"}', b'{"time": 1}', b"[" * 100_000],
)  # fmt: skip
def test_a_damaged_line_hides_no_other_not_even_the_one_after_it(
    tmp_path: Path, damage: bytes
) -> None:
    session.append_event(tmp_path, KILLED)
    with open(tmp_path / EVENTS_FILE, "ab") as file:
        file.write(damage)  # as a full disk leaves it: without an end
    session.append_event(tmp_path, STOPPED)
    first, torn, last = session.read_events(tmp_path)
    assert (first, torn.kind, last) == (KILLED, UNREADABLE, STOPPED)
    assert torn.said.startswith("an event that was on record cannot be read (")


def test_what_a_later_version_adds_to_an_event_is_passed_over(tmp_path: Path) -> None:
    line = {"kind": "x", "time": 1.0, "said": "y", "extra": {}, "new": [1]}
    (tmp_path / EVENTS_FILE).write_text(json.dumps(line) + "\n")
    assert session.read_events(tmp_path) == [Event("x", 1.0, "y", {})]


WRITE = """\
import sys
from pathlib import Path
from checkpoint_kernel.session import Event, append_event
for number in range(40):
    append_event(Path(sys.argv[1]), Event(sys.argv[2], 1.0, "x" * 100_000, {"number": number}))"""


def test_long_events_of_two_processes_do_not_run_into_each_other(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITE, str(tmp_path), kind]) for kind in "ab"
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    found = session.read_events(tmp_path)
    assert len(found) == 80
    for kind in "ab":
        assert [e.extra["number"] for e in found if e.kind == kind] == list(range(40))


def test_an_event_that_a_full_disk_cuts_off_is_an_error_of_the_writer(tmp_path: Path) -> None:
    (tmp_path / EVENTS_FILE).symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        session.append_event(tmp_path, KILLED)


def test_a_post_mortem_keeps_the_readable_events_and_notes_the_rest_once(tmp_path: Path) -> None:
    session.append_event(tmp_path, KILLED)
    (tmp_path / EVENTS_FILE).write_bytes((tmp_path / EVENTS_FILE).read_bytes() + b"torn\ntorn\n")
    notes: list[str] = ["another"]
    for _ in range(2):
        assert evidence._events(tmp_path, notes) == (KILLED,)
    assert len(notes) == 2
    assert "cannot be read" in notes[1]


def test_news_of_children_go_on_after_a_damaged_line(tmp_path: Path) -> None:
    told = io.StringIO()
    news = ChildrenNews(tmp_path, told)

    def tell() -> int:
        news._again = 0.0
        news.tell()
        return told.getvalue().count("a child was killed")

    assert tell() == 0
    session.append_event(tmp_path, KILLED)
    assert (tell(), tell()) == (1, 1)
    whole = json.dumps(KILLED.__dict__).encode()
    with open(tmp_path / EVENTS_FILE, "ab", buffering=0) as file:
        file.write(whole[:20])
        assert tell() == 1
        file.write(whole[20:] + b"\n")
        assert tell() == 2, "it was on its way"
        file.write(b"torn\n")
        assert tell() == 2
    session.append_event(tmp_path, KILLED)
    assert (tell(), tell()) == (3, 3)


def test_the_memory_command_says_that_one_could_not_be_read(tmp_path: Path) -> None:
    (tmp_path / EVENTS_FILE).write_bytes(b"torn\n")
    _, line = memory_report._events(session.read_events(tmp_path))
    assert line.startswith("  an event that was on record cannot be read")
