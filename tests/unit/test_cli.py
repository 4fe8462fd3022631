"""The reading commands on a store written with the real writers.

In this process, because that is fast; `tests/cli` runs the command as users do.
"""

from __future__ import annotations

import fcntl
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from checkpoint_kernel import contract, durable, environment, manifest
from checkpoint_kernel.environment import Environment, Python, State
from checkpoint_kernel.manifest import Manifest, Skipped, Unit
from checkpoint_provisioner import cli

pytestmark = pytest.mark.unit

DEATH = {
    "schema_version": 1,
    "time": "2026-11-23T08:00:00.000+00:00",
    "cause": "segmentation-fault",
    "because": "faulthandler: Segmentation fault",
    "notebook": "/work/train.ipynb",
    "signal": "SIGSEGV",
    "exit_code": None,
    "cell": 7,
    "line": 2,
    "source": "ctypes.string_at(0)",
    "paragraph": "The kernel died at 09:00:00 in In[7], line 2.",
    "remedy": "Report it to the authors of the extension.",
}


@dataclass(frozen=True)
class Done:
    """What a command left: its status and its output."""

    returncode: int
    stdout: str
    stderr: str


class Jupyter:
    """A Jupyter data directory with a store, and the command line on it."""

    def __init__(self, data: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.data = data
        self.capture = capture
        self.root = data / contract.STORE_DIRECTORY
        self.key = manifest.load_key(data / contract.KEY_FILE)
        self.root.mkdir(mode=0o700)

    def run(self, *words: str) -> Done:
        self.capture.readouterr()
        try:
            returncode = cli.main(words)
        except SystemExit as usage:  # argparse's
            returncode = int(str(usage.code))
        return Done(returncode, *self.capture.readouterr())

    def json(self, *words: str, status: int = 0) -> Any:
        done = self.run(*words, "--json")
        assert done.returncode == status, done.stderr
        return json.loads(done.stdout)

    def notebook(self, key: str, path: str | None) -> Path:
        directory = self.root / key
        for inside in (contract.MANIFESTS, contract.SEGMENTS, contract.DEATHS):
            (directory / inside).mkdir(parents=True, mode=0o700)
        about = {"notebook": path, "kernel_id": f"id-of-{key}"}
        durable.publish(directory / contract.NOTEBOOK_FILE, json.dumps(about).encode())
        return directory

    def checkpoint(self, directory: Path, seq: int, **changes: Any) -> Manifest:
        m = replace(
            Manifest(
                id=manifest.new_id(),
                seq=seq,
                line="line",
                session="session",
                parent=None,
                time=time.time() - 60,
                reason="cell",
                execution_count=seq,
                inside_cell=False,
                inside_call=False,
                cell_source="x = 1",
                line_number=None,
                units=(
                    Unit("var:a", "data", ("a", "b"), "pickle", "0" * 64, 2048, {"a": "list"}),
                    Unit("def:f", "function", ("f",), "dill", "1" * 64, 100, {"f": "function"}),
                    Unit("session", "session", ("In", "Out"), "pickle", "2" * 64, 10),
                    Unit("locals", "locals", ("train.epoch",), "pickle", "3" * 64, 10),
                ),
                skipped=(Skipped("lock", "lock", "locks cannot be saved", "make it again"),),
                partly=(Skipped("a", "generator", "it was running"),),
            ),
            **changes,
        )
        durable.publish(manifest.path_of(directory, m), manifest.encode(m, self.key))
        return m

    def death(self, directory: Path, name: str, **changes: Any) -> None:
        durable.publish(
            directory / contract.DEATHS / f"{name}.json", json.dumps({**DEATH, **changes}).encode()
        )


@pytest.fixture
def jupyter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Jupyter:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path))
    # The commands look into the stores of installed kernels too, and other tests install some.
    monkeypatch.delenv("JUPYTER_PATH", raising=False)
    return Jupyter(tmp_path, capsys)


def test_an_empty_store_is_said_and_is_fine(jupyter: Jupyter) -> None:
    done = jupyter.run("list")
    assert done.returncode == 0
    assert "No checkpoints yet" in done.stdout
    assert jupyter.json("list") == []
    assert jupyter.json("deaths") == []


def test_list_shows_every_notebook_with_its_checkpoints(jupyter: Jupyter) -> None:
    train = jupyter.notebook("train-1", "/work/train.ipynb")
    first = jupyter.checkpoint(train, 1)
    second = jupyter.checkpoint(train, 2, inside_cell=True, reason="mid-cell")
    jupyter.notebook("kernel-2", None)
    listed = {entry["directory"]: entry for entry in jupyter.json("list")}
    assert len(listed) == 2
    entry = listed[str(train)]
    assert entry["notebook"] == "/work/train.ipynb"
    assert entry["in_use"] is False
    assert [c["id"] for c in entry["checkpoints"]] == [first.id, second.id]
    newest = entry["checkpoints"][1]
    assert newest["inside_cell"] is True
    assert newest["variables"] == 3
    assert newest["skipped"] == 1
    assert newest["cell"] == 2
    assert newest["size_bytes"] == 2168
    assert 60 <= newest["age_s"] < 120
    text = jupyter.run("list").stdout
    assert "/work/train.ipynb" in text
    assert text.index(second.id) < text.index(first.id)
    assert "In[2], inside" in text
    assert "no notebook known, kernel id-of-kernel-2" in text


@pytest.mark.parametrize("wanted", ["/work/train.ipynb", "train.ipynb", "train-1"])
def test_list_finds_a_notebook_by_path_name_or_key(jupyter: Jupyter, wanted: str) -> None:
    jupyter.notebook("train-1", "/work/train.ipynb")
    jupyter.notebook("other-2", "/work/other.ipynb")
    assert [e["notebook"] for e in jupyter.json("list", wanted)] == ["/work/train.ipynb"]


def test_an_unknown_notebook_is_an_error_that_names_the_known_ones(jupyter: Jupyter) -> None:
    jupyter.notebook("train-1", "/work/train.ipynb")
    done = jupyter.run("list", "nothing.ipynb")
    assert done.returncode == 1
    assert "/work/train.ipynb" in done.stderr


def test_a_notebook_with_a_running_kernel_is_marked(jupyter: Jupyter) -> None:
    train = jupyter.notebook("train-1", "/work/train.ipynb")
    with open(train / contract.LOCK_FILE, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert jupyter.json("list")[0]["in_use"] is True
    assert jupyter.json("list")[0]["in_use"] is False


def test_a_damaged_manifest_is_a_finding_and_the_others_are_listed(jupyter: Jupyter) -> None:
    train = jupyter.notebook("train-1", "/work/train.ipynb")
    good = jupyter.checkpoint(train, 1)
    path = manifest.path_of(train, jupyter.checkpoint(train, 2))
    path.write_bytes(path.read_bytes().replace(b'"seq":2', b'"seq":3'))
    listed = jupyter.json("list", status=1)[0]
    assert [c["id"] for c in listed["checkpoints"]] == [good.id]
    assert listed["unusable"][0]["path"] == str(path)
    assert "signature" in listed["unusable"][0]["reason"]


def test_without_the_key_no_checkpoint_is_trusted_and_no_new_key_is_made(
    jupyter: Jupyter,
) -> None:
    jupyter.checkpoint(jupyter.notebook("train-1", "/work/train.ipynb"), 1)
    (jupyter.data / contract.KEY_FILE).unlink()
    listed = jupyter.json("list", status=1)[0]
    assert listed["checkpoints"] == []
    assert "signing key" in listed["unusable"][0]["reason"]
    assert not (jupyter.data / contract.KEY_FILE).exists()


def test_show_names_every_variable_and_every_skipped_one_with_its_reason(
    jupyter: Jupyter,
) -> None:
    m = jupyter.checkpoint(jupyter.notebook("train-1", "/work/train.ipynb"), 4)
    shown = jupyter.json("show", m.id)
    assert [v["name"] for v in shown["variables"]] == ["a", "b", "f"]
    assert shown["variables"][0]["type"] == "list"
    assert shown["variables"][0]["size_bytes"] == 2048
    assert shown["variables"][0]["together_with"] == ["b"]
    assert shown["skipped"][0]["name"] == "lock"
    assert [(e["name"], e["type"]) for e in shown["partly"]] == [("a", "generator")]
    assert shown["locals"] == ["train.epoch"]
    text = jupyter.run("show", m.id[:-3]).stdout
    assert "after In[4]" in text
    assert "2.0 KB" in text
    assert "locks cannot be saved" in text
    assert "make it again" in text
    assert "it was running" in text
    assert "train.epoch" in text


def test_show_refuses_an_unknown_or_an_ambiguous_id(jupyter: Jupyter) -> None:
    train = jupyter.notebook("train-1", "/work/train.ipynb")
    jupyter.checkpoint(train, 1, id="20261123-080000-aaaaaa")
    jupyter.checkpoint(train, 2, id="20261123-080000-bbbbbb")
    assert jupyter.run("show", "20261123-080000-a").returncode == 0
    for wanted, said in (("20261123", "beginning of 2 checkpoints"), ("zzz", "no checkpoint zzz")):
        done = jupyter.run("show", wanted)
        assert done.returncode == 1
        assert said in done.stderr


def test_deaths_prints_the_records_as_they_are_oldest_first(jupyter: Jupyter) -> None:
    train = jupyter.notebook("train-1", "/work/train.ipynb")
    other = jupyter.notebook("other-2", "/work/other.ipynb")
    jupyter.death(train, "b", time="2026-11-23T08:00:02.000+00:00", cause="aborted", new=1)
    jupyter.death(other, "a", time="2026-11-23T08:00:01.000+00:00", notebook="/work/other.ipynb")
    records = jupyter.json("deaths")
    assert [r["cause"] for r in records] == ["segmentation-fault", "aborted"]
    assert records[1]["new"] == 1
    assert [r["cause"] for r in jupyter.json("deaths", "train.ipynb")] == ["aborted"]


def test_deaths_explains_the_newest_in_words(jupyter: Jupyter) -> None:
    jupyter.death(jupyter.notebook("train-1", "/work/train.ipynb"), "a")
    text = jupyter.run("deaths").stdout
    assert "segmentation-fault" in text
    assert "ctypes.string_at(0)" in text
    assert DEATH["paragraph"] in text
    assert f"What to do: {DEATH['remedy']}" in text


def test_deaths_are_counted_by_cause_notebook_and_line_and_survived_ones_apart(
    jupyter: Jupyter,
) -> None:
    train = jupyter.notebook("train-1", "/work/train.ipynb")
    other = jupyter.notebook("other-2", "/work/other.ipynb")
    for second in (1, 3):
        jupyter.death(train, f"{second}", time=f"2026-11-23T08:00:0{second}.000+00:00", line=second)
    jupyter.death(other, "a", time="2026-11-23T08:00:02.000+00:00", notebook="/work/other.ipynb")
    jupyter.death(train, "4", time="2026-11-23T08:00:04.000+00:00", cause="aborted", source=None)
    jupyter.death(train, "5", schema_version=2, cause="memory-cap-interrupt", survived=True)
    summary = jupyter.json("deaths", "--summary")
    assert (summary["deaths"], summary["survived"]) == (4, 1)
    assert summary["causes"][0] == {"cause": "segmentation-fault", "count": 3}
    assert summary["places"][0] == {
        "cause": "segmentation-fault",
        "notebook": "/work/train.ipynb",
        "line": 3,
        "source": "ctypes.string_at(0)",
        "count": 2,
        "first": "2026-11-23T08:00:01.000+00:00",
        "last": "2026-11-23T08:00:03.000+00:00",
    }
    assert [place["cause"] for place in summary["places"][1:]] == ["aborted", "segmentation-fault"]
    assert summary["interrupts"][0]["cause"] == "memory-cap-interrupt"
    text = jupyter.run("deaths", "--summary").stdout
    assert "Deaths: 4 (segmentation-fault 3, aborted 1)" in text
    assert "Interrupted near the memory limit, and survived: 1" in text
    assert jupyter.json("deaths", "other.ipynb", "--summary")["deaths"] == 1
    assert [entry["deaths"] for entry in jupyter.json("list", "train.ipynb")] == [3]
    assert "memory-cap-interrupt (survived)" in jupyter.run("deaths").stdout


def test_a_summary_of_no_deaths_is_empty(jupyter: Jupyter) -> None:
    assert jupyter.json("deaths", "--summary")["places"] == []
    assert "No kernel has died" in jupyter.run("deaths", "--summary").stdout


def test_what_repeats_is_said_with_the_newest_death(jupyter: Jupyter) -> None:
    again = {"count": 2, "said": "The kernel has now died twice of this cause at this line."}
    jupyter.death(jupyter.notebook("train-1", "/work/train.ipynb"), "a", repeated=again)
    assert again["said"] in jupyter.run("deaths").stdout


def test_a_damaged_death_record_is_named_and_the_others_are_shown(jupyter: Jupyter) -> None:
    train = jupyter.notebook("train-1", "/work/train.ipynb")
    jupyter.death(train, "a")
    (train / contract.DEATHS / "b.json").write_text("{")
    done = jupyter.run("deaths", "--json")
    assert done.returncode == 1
    assert "b.json was passed over" in done.stderr
    assert len(json.loads(done.stdout)) == 1


def test_another_store_is_read_with_store_and_must_exist(jupyter: Jupyter, tmp_path: Path) -> None:
    assert jupyter.run("list", "--store", str(jupyter.root)).returncode == 0
    done = jupyter.run("list", "--store", str(tmp_path / "nowhere"))
    assert done.returncode == 1
    assert "no such directory" in done.stderr


def test_usage_errors_end_with_status_2(jupyter: Jupyter) -> None:
    assert jupyter.run().returncode == 2
    assert jupyter.run("frobnicate").returncode == 2
    assert jupyter.run("show").returncode == 2
    assert jupyter.run("prune", "--keep", "0").returncode == 2


# --- env ---


def environment_of(directory: Path, session: str, notebook: str | None = None) -> None:
    path = directory / contract.SESSIONS / session
    path.mkdir(parents=True)
    python = Python("3.11.7", "/envs/science", "CPython", "Linux")
    environment.save(path, Environment(session, notebook, python, State(0.0, {"numpy": "2.1.0"})))


def test_env_finds_a_session_by_its_id_its_checkpoint_or_its_notebook(jupyter: Jupyter) -> None:
    train = jupyter.notebook("train-1", "/work/train.ipynb")
    first, second = "20261123-070000-aaaaaa", "20261124-070000-bbbbbb"
    environment_of(train, first)
    environment_of(train, second)
    (train / contract.SESSIONS / "20261125-070000-cccccc").mkdir()  # its kernel left nothing
    m = jupyter.checkpoint(train, 1, id="20261123-080000-dddddd", session=first)
    for wanted, session in (
        (first, first),
        (second[:9], second),
        (m.id, first),
        ("20261123-08", first),
        ("20261123", first),  # of a session and of its checkpoint
        ("train.ipynb", second),
        ("/work/train.ipynb", second),
    ):
        assert f"session {session} ran with" in jupyter.run("env", wanted).stdout, wanted
    assert jupyter.json("env", first)["now"]["packages"] == {"numpy": "2.1.0"}
    yml = jupyter.run("env", first, "--format", "environment.yml").stdout
    assert yaml.safe_load(yml)["dependencies"][0] == "python=3.11.7"


def test_env_finds_the_environment_of_a_pruned_session(jupyter: Jupyter) -> None:
    train = jupyter.notebook("train-1", "/work/train.ipynb")
    session = "20261123-070000-aaaaaa"
    environment_of(train, session)
    (train / contract.ENVIRONMENTS).mkdir()
    directory = train / contract.SESSIONS / session
    (directory / contract.ENVIRONMENT_FILE).rename(
        train / contract.ENVIRONMENTS / f"{session}.json"
    )
    directory.rmdir()
    assert f"session {session} ran with" in jupyter.run("env", session).stdout
    assert f"session {session} ran with" in jupyter.run("env", "train.ipynb").stdout


def test_env_refuses_what_is_unknown_ambiguous_or_was_never_left(jupyter: Jupyter) -> None:
    train = jupyter.notebook("train-1", "/work/train.ipynb")
    jupyter.notebook("train-2", "/home/train.ipynb")
    environment_of(train, "20261123-070000-aaaaaa")
    environment_of(train, "20261123-070000-bbbbbb")
    (train / contract.SESSIONS / "20261125-070000-cccccc").mkdir()
    damaged = train / contract.SESSIONS / "20261126-070000-dddddd"
    damaged.mkdir()
    (damaged / contract.ENVIRONMENT_FILE).write_text("[]")
    for wanted, said in (
        ("20261123", "2 sessions"),
        ("zzz", "no session, checkpoint or notebook zzz"),
        ("train.ipynb", "2 notebooks are called train.ipynb"),
        ("train-2", "no session of /home/train.ipynb"),
        ("20261125", "has not left what it ran with"),
        ("20261126", "cannot be read"),
    ):
        done = jupyter.run("env", wanted)
        assert (done.returncode, done.stdout) == (1, "")
        assert said in done.stderr
    assert jupyter.run("env").returncode == 2
    assert jupyter.run("env", "x", "--format", "Pipfile").returncode == 2
