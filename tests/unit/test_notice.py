"""What the user is told, word for word where it matters. Pure text."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from store_cases import make_manifest

from checkpoint_kernel import notice
from checkpoint_kernel.checkpoint import Settled
from checkpoint_kernel.contract import DEATHS
from checkpoint_kernel.manifest import Manifest, Skipped, Unit
from checkpoint_kernel.session import Cap, NotRestored, Plan, RestoreReport, Session, Settings
from checkpoint_kernel.verification import Damage

pytestmark = pytest.mark.unit

DIED = 1_700_000_000.0
DEATH: dict[str, Any] = {
    "time": datetime.fromtimestamp(DIED, UTC).isoformat(),
    "paragraph": "The kernel was killed (SIGKILL) in In[3], line 2.",
    "remedy": "Ask who sent it.",
}


def a_unit(*names: str, kind: str = "data") -> Unit:
    return Unit(f"{kind}:{'+'.join(names)}", kind, names, "pickle", "00" * 32, 1000)


def a_checkpoint(age_s: float = 3.0, **fields: Any) -> Manifest:
    made = make_manifest(3, (a_unit("df", "view"), a_unit("Out[2]")), time=DIED - age_s)
    return replace(made, **fields)


def a_session(plan: Plan, **fields: Any) -> Session:
    return Session(
        id="s", line="s", started=0.0, kernel_id="k", notebook=None, notebook_directory="/nowhere",
        key_file="", supervisor_pid=1, boot_id="", settings=Settings(), plan=plan, **fields,
    )  # fmt: skip


def done(**fields: Any) -> RestoreReport:
    return RestoreReport("checkpoint-0003", "done", DIED, 0.1, ("Out[2]", "df", "view"), **fields)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KB"), (3 << 20, "3.0 MB"),
     (5000 << 30, "4.9 TB")],
)  # fmt: skip
def test_sizes_are_powers_of_1024(count: int, text: str) -> None:
    assert notice.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0.0 s"), (0.84, "0.8 s"), (59, "59 s"), (240, "4 min"), (10_800, "3 h"),
     (200_000, "2 days")],
)  # fmt: skip
def test_ages_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert notice.age(seconds) == text


def test_one_line_stands_without_a_frame_and_more_stand_in_one() -> None:
    assert notice.boxed(["restored"]) == "[checkpoint-kernel] restored"
    framed = notice.boxed(["one", "two"]).splitlines()
    assert framed[1:3] == ["one", "two"]
    assert len(framed[0]) == len(framed[3]) == 88


class TestAtStart:
    def test_a_restore_says_why_what_is_back_how_old_and_what_is_not(self) -> None:
        report = done(not_restored=(NotRestored("lock", "lock", "it is one", "make it again"),))
        plan = Plan("restore", "The kernel died.", checkpoint="checkpoint-0003", death="d.json")
        lines = notice.at_start(a_session(plan), report, a_checkpoint(), DEATH)
        assert lines[0] == DEATH["paragraph"]
        assert "restored: 2 variables and 1 output as of 3.0 s before the death" in lines
        assert "  df, view, Out[2]" in lines
        assert "not back: lock (lock): it is one; make it again" in lines
        assert "What to do: Ask who sent it." in lines

    def test_what_could_not_be_loaded_comes_with_the_command_for_later(self) -> None:
        missing = (NotRestored("df", "DataFrame", "no pandas"), NotRestored("lock", "lock", "one"))
        report = done(not_restored=missing)
        later = "To try again: %checkpoint restore checkpoint-0003 df"
        plan = Plan("restore", "The kernel died.", checkpoint="checkpoint-0003")
        assert later in notice.at_start(a_session(plan), report, a_checkpoint(), DEATH)
        assert later in notice.after_request(report, a_checkpoint()).splitlines()

    def test_a_checkpoint_inside_a_cell_says_that_the_cell_did_not_finish(self) -> None:
        inside = a_checkpoint(execution_count=7, inside_cell=True, line_number=4)
        plan = Plan("restore", "It died.", checkpoint="c", before_cell="20200101-000000-abc")
        lines = notice.at_start(a_session(plan), done(), inside, DEATH)
        told = "\n".join(lines)
        assert "3.0 s before the death, inside In[7] at line 4, which did not finish" in told
        assert "The state from before that cell: %checkpoint restore 20200101-000000-abc" in lines

    def test_saved_locals_are_offered(self) -> None:
        held = a_checkpoint(units=(a_unit("df"), a_unit("0:train", kind="locals")))
        lines = notice.at_start(a_session(Plan("restore", "")), done(), held, DEATH)
        assert any("%checkpoint locals" in line for line in lines)

    def test_older_versions_are_named(self) -> None:
        report = done(older=("rows (as of 20200101)",))
        lines = notice.at_start(a_session(Plan("restore", "")), report, a_checkpoint(), DEATH)
        assert any("rows (as of 20200101)" in line for line in lines)

    def test_tensors_that_lost_their_device_are_named(self) -> None:
        report = done(on_cpu=("model: cuda:0 (there is none)",))
        lines = notice.at_start(a_session(Plan("restore", "")), report, a_checkpoint(), DEATH)
        assert "on the CPU, for want of a device: model: cuda:0 (there is none)" in lines

    def test_a_restore_that_failed_says_why_and_what_else_there_is(self) -> None:
        failed = RestoreReport("c", "failed", DIED, error="the segment is gone")
        lines = notice.at_start(a_session(Plan("restore", "It died.")), failed, None, None)
        assert lines[:2] == [
            "It died.",
            "Nothing could be restored from checkpoint c: the segment is gone",
        ]
        assert not any("restored:" in line for line in lines)

    def test_a_clean_start_offers_the_state_in_one_line(self) -> None:
        plan = Plan("clean", "You restarted the kernel.", checkpoint="checkpoint-0003")
        lines = notice.at_start(a_session(plan), None, a_checkpoint(), None)
        assert len(lines) == 1
        assert lines[0].startswith("You restarted the kernel. Bring 2 variables and 1 output as of")
        assert lines[0].endswith("back with: %checkpoint restore")

    def test_an_offer_of_nothing_is_not_made(self) -> None:
        plan = Plan("clean", "You restarted the kernel.", checkpoint="checkpoint-0003")
        assert notice.at_start(a_session(plan), None, a_checkpoint(units=()), None) == []

    def test_a_first_start_is_silent(self) -> None:
        assert notice.at_start(a_session(Plan("clean", "")), None, None, None) == []

    def test_warnings_are_said_whatever_happened(self) -> None:
        plan = Plan("clean", "x", warnings=("this cell has now killed the kernel twice",))
        session = a_session(plan, warnings=("the store is shared",))
        lines = notice.at_start(session, None, None, None)
        assert "this cell has now killed the kernel twice" in lines
        assert "the store is shared" in lines


def test_an_answer_to_a_request_counts_and_names() -> None:
    report = done(not_restored=(NotRestored("gen", "generator", "it runs"),))
    text = notice.after_request(report, a_checkpoint())
    assert text.startswith("restored: 2 variables and 1 output from checkpoint checkpoint-0003")
    assert "not back: gen (generator): it runs" in text


class TestStatus:
    def of(self, settled: Settled, **how: Any) -> str:
        given = {"running": False, "stale": False, "off": None, **how}
        record = given.pop("record", a_session(Plan("clean", "")))
        return notice.status(settled, record=record, **given)

    def test_before_the_first_checkpoint_it_says_so(self) -> None:
        assert self.of(Settled()) == "No checkpoint in this session yet."

    def test_what_is_saved_and_what_is_not_and_why(self) -> None:
        newest = a_checkpoint(skipped=(Skipped("lock", "lock", "it is one", "make it again"),))
        text = self.of(Settled(newest=newest, pauses_s=[0.002, 0.004, 0.001], new_bytes=2048))
        assert "  saved: df, view, Out[2]" in text
        assert "  not saved: lock (lock): it is one; make it again" in text
        assert "you waited 2.0 ms (median), 4.0 ms (worst) in 3 checkpoints" in text
        assert "the newest added 2.0 KB on disk" in text

    @pytest.mark.parametrize(
        ("how", "text"),
        [
            ({"running": True}, "A checkpoint is being written right now."),
            ({"stale": True}, "What changed since will be in the next checkpoint."),
            ({"off": "you switched it off"}, "Checkpointing is off: you switched it off"),
        ],
    )
    def test_what_is_going_on(self, how: dict[str, Any], text: str) -> None:
        assert text in self.of(Settled(), **how)

    def test_a_failure_is_told(self) -> None:
        assert "The last attempt failed: disk full" in self.of(Settled(trouble="disk full"))

    def test_a_limit_that_is_not_enforced_says_so(self) -> None:
        cap = Cap("8G", 8 << 30, 7 << 30, "none", False, "No cgroup can be made.")
        text = self.of(Settled(), record=a_session(Plan("clean", ""), cap=cap))
        assert "Memory limit 8G: NOT enforced (none). No cgroup can be made." in text


def test_the_list_is_newest_first_and_tells_this_session_from_those_before() -> None:
    old, new = make_manifest(1, line="a"), make_manifest(2, line="b", inside_cell=True)
    rows = notice.checkpoints([old, new], "b").splitlines()[2:]
    assert [row.split()[0] for row in rows] == ["checkpoint-0002", "checkpoint-0001"]
    assert [row.split()[-1] for row in rows] == ["this", "before"]
    assert "In[2] (inside)" in rows[0]
    assert notice.checkpoints([], "b") == "There are no checkpoints of this notebook yet."


def test_a_death_record_that_cannot_be_read_costs_only_its_words(tmp_path: Path) -> None:
    (tmp_path / DEATHS).mkdir()
    (tmp_path / DEATHS / "good.json").write_text(json.dumps(DEATH))
    (tmp_path / DEATHS / "torn.json").write_text('{"time": ')
    assert notice.read_death(tmp_path, "good.json") == DEATH
    assert notice.read_death(tmp_path, "torn.json") is None
    assert notice.read_death(tmp_path, "gone.json") is None
    assert notice.read_death(tmp_path, None) is None


def test_why_shows_cause_and_last_words_and_nothing_twice() -> None:
    record = {
        **DEATH,
        "cause": "segmentation-fault",
        "confidence": "proof",
        "because": "faulthandler's header",
        "cell": 3,
        "line": 2,
        "source": "ctypes.string_at(8)",
        "stderr_tail": "[App] Kernel is running over TCP without encryption.\nFatal Python error",
    }
    text = notice.why(record)
    for words in ("segmentation-fault (proof)", "Fatal Python error"):
        assert words in text
    assert "TCP" not in text
    assert text.count("In[3], line 2") == 1


def test_why_shows_what_a_record_of_version_2_holds_and_only_what_is_there() -> None:
    record = {
        **DEATH,
        "cause": "oom-killed-by-cap",
        "confidence": "proof",
        "container_code": 137,
        "container_code_meaning": "128 + 9, SIGKILL: a kill that cannot be refused",
        "explained": [{"text": "MemoryError", "meaning": "memory was refused"}],
        "cap": {"configured": "700M", "cap_bytes": 700 << 20},
        "enforcement": {"level": "hard", "said": "The memory limit of 700M was enforced."},
        "memory_curve": [[-60.0, 100 << 20], [-30.0, 350 << 20], [0.0, 700 << 20]],
        "events": [{"said": "A worker was killed.", "kind": "x", "time": 1.0, "extra": {}}],
        "gpu": {
            "devices": [{"index": 0, "name": "T4", "used_bytes": 1 << 30, "total_bytes": 4 << 30}],
            "processes": [{"pid": 4, "name": "python", "used_bytes": None}],
            "xids": ["NVRM: Xid 31"],
        },
        "environment_changes": {
            "python": None, "added": {}, "removed": {"old": "1"}, "changed": {"numpy": ["1", "2"]},
            "conda_revision": [3, 4], "since": "2026-01-01",
        },
        "repeated": {"said": "The kernel has now died twice of this cause at this line."},
        "native_stack": "#0 crash",
        "evidence": {"notes": ["nvidia-smi --query-gpu did not answer in 2.0 s"]},
        "stacks": "\n".join(f"line {n}" for n in range(99)),
    }  # fmt: skip
    lines = notice.why(record).splitlines()
    assert lines[1].endswith("; a container shows 137 (128 + 9, SIGKILL: a kill that cannot be "
                             "refused)")  # fmt: skip
    for line in (
        "The kernel has now died twice of this cause at this line.",
        "`MemoryError` on stderr: memory was refused",
        "The memory limit of 700M was enforced.",
        "Memory over the last 60 s: ▂▅█ 700.0 MB at the end, 700.0 MB at most of 700M",
        "GPU 0 after the death: T4, 1.0 GB of 4.0 GB in use",
        "  process 4 (python)",
        "  the driver reported: NVRM: Xid 31",
        "Changed since the last healthy session: numpy 1 -> 2, old 1 removed, "
        "conda revision 3 -> 4",
        "Before: A worker was killed.",
        "Not to be had: nvidia-smi --query-gpu did not answer in 2.0 s",
        "Stack of the compiled code:",
        "line 39",
    ):
        assert line in lines, line
    assert "line 40" not in lines
    assert len(notice.why(DEATH).splitlines()) == 3


def test_why_names_the_last_death_below_an_interrupt_that_was_survived() -> None:
    interrupt = {**DEATH, "paragraph": "The cell was interrupted.", "survived": True}
    died = {
        **DEATH, "cause": "segmentation-fault", "cell": 3, "line": 2, "cell_running": True,
        "survived": False,
    }  # fmt: skip
    at = f"{datetime.fromtimestamp(DIED):%Y-%m-%d %H:%M:%S}"
    shown = notice.why(interrupt, [interrupt, died, {**died, "cause": "killed"}]).splitlines()
    assert shown[0] == "The cell was interrupted."
    assert shown[-1] == f"The last death: segmentation-fault in In[3], line 2; {at}"
    assert shown[:-1] == notice.why(interrupt, [interrupt]).splitlines()
    of_version_1 = {"cause": None, "cell": 3, "cell_running": False, "time": "long ago"}
    assert notice.why(interrupt, [of_version_1]).endswith("\nThe last death: unknown")
    assert notice.why(died, [died]) == notice.why(died), "it is one itself"


def test_why_passes_over_parts_that_it_cannot_read() -> None:
    odd = {**DEATH, "memory_curve": [1, 2], "gpu": "yes", "repeated": 3, "events": {"a": 1}}
    assert notice.why(odd) == notice.why(DEATH)


class TestWhatIsNotInIt:
    def missed(self, cell: int, running: bool, **fields: Any) -> list[str]:
        death = {**DEATH, "cell": cell, "cell_running": running}
        record = a_session(Plan("restore", "It died.", checkpoint="checkpoint-0003"))
        lines = notice.at_start(record, done(), a_checkpoint(**fields), death)
        return [line for line in lines if line.startswith("not in it:")]

    def test_cells_that_finished_after_the_checkpoint_are_named(self) -> None:
        (line,) = self.missed(5, True, execution_count=2)
        assert line.startswith("not in it: In[3], In[4], which finished later")

    def test_the_fatal_cell_itself_is_not_among_them(self) -> None:
        assert self.missed(3, True, execution_count=2) == []

    def test_a_cell_that_ended_before_an_idle_death_is(self) -> None:
        (line,) = self.missed(3, False, execution_count=2)
        assert "In[3]" in line

    def test_a_checkpoint_inside_a_cell_lacks_the_rest_of_it(self) -> None:
        (line,) = self.missed(3, True, execution_count=2, inside_cell=True)
        assert "In[2]" in line


def test_one_reason_is_told_once_with_all_its_names() -> None:
    missing = tuple(NotRestored(f"gen_{n}", "generator", "it runs") for n in (10, 9))
    record = a_session(Plan("restore", "It died.", checkpoint="checkpoint-0003"))
    lines = notice.at_start(record, done(not_restored=missing), a_checkpoint(), DEATH)
    assert "not back: gen_9, gen_10 (generator): it runs" in lines


def test_wrapping_breaks_no_word_and_no_command() -> None:
    command = "%checkpoint restore 20261123-104330-8c3830"
    text = notice.boxed(["x", f"{'word ' * 14}The state from before that cell: {command}"])
    assert command in text
    assert max(map(len, text.splitlines())) <= 88


def test_damage_found_after_a_restore_names_bytes_reason_and_the_way_back() -> None:
    found = Damage("checkpoint-0003", ("df", "view"), 1 << 20, frozenset(), "the bytes in a.seg")
    lines = notice.damaged([(found, a_checkpoint())])
    assert lines[0].startswith("df, view: 1.0 MB of what was restored is damaged in the store (the")
    assert lines[1].endswith(": %checkpoint restore checkpoint-0003 df view")


def test_damage_that_no_checkpoint_can_mend_says_so() -> None:
    found = Damage("checkpoint-0003", (), 5000, frozenset(), "a.seg cannot be read")
    lines = notice.damaged([(found, None)])
    assert lines[0].startswith("an object without a name: 4.9 KB")
    assert lines[1] == "  No earlier checkpoint holds it whole: make it again."
