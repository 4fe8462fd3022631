"""What is installed is read as importlib.metadata says it, compared, and written out."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from checkpoint_kernel import contract, environment, environment_reader
from checkpoint_kernel.environment import CondaPackage, Environment, Python, State
from checkpoint_kernel.environment_reader import canonical, look, without_credentials
from checkpoint_provisioner import environment_diff, environment_formats

pytestmark = pytest.mark.unit

NUMPY = CondaPackage("numpy", "2.1.0", "py311_0", "https://conda.anaconda.org/conda-forge/linux-64")
BLAS = CondaPackage("libblas", "3.9.0", "26_openblas", "https://conda.anaconda.org/conda-forge/n")


def install(
    directory: Path, name: str, version: str, head: str | None = None, **files: str
) -> Path:
    """A package as an installer leaves it; `files` are further ones of its metadata."""
    place = directory / f"{name.replace('-', '_')}-{version}.dist-info"
    place.mkdir(parents=True)
    metadata_text = head or f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (place / "METADATA").write_text(f"{metadata_text}\nName: of the description\n")
    for file, text in files.items():
        (place / file.replace("_json", ".json")).write_text(text)
    return place


def conda_package(prefix: Path, package: CondaPackage, *files: str, sorted_keys: bool) -> None:
    """A record as conda writes it (keys sorted), or as others do (the channel behind the files)."""
    record = {
        "name": package.name,
        "version": package.version,
        "build": package.build,
        "files": [*files, *(f"share/{number}" for number in range(3000))],
        "channel": package.channel,
    }
    meta = prefix / "conda-meta"
    meta.mkdir(exist_ok=True)
    name = f"{package.name}-{package.version}-{package.build}.json"
    (meta / name).write_text(json.dumps(record, indent=2, sort_keys=sorted_keys))


def an_environment(now: State, **fields: Any) -> Environment:
    values: dict[str, Any] = {
        "session": "20261123-080000-aaaaaa",
        "notebook": "/work/train.ipynb",
        "python": Python("3.11.7", "/envs/science", "CPython", "Linux"),
        "now": now,
    }
    return Environment(**{**values, **fields})


# --- reading ---


def test_names_and_versions_are_those_of_importlib_metadata() -> None:
    expected: dict[str, str] = {}
    for one in metadata.distributions():
        expected.setdefault(one.metadata["Name"], one.metadata["Version"])
    assert look(None, Path(sys.prefix)).state.packages == expected
    for one in metadata.distributions():
        said = (one.metadata["Name"], one.metadata["Version"])
        assert environment_reader.name_and_version(one) == said


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("name: Odd\nVERSION:  1.0\n", ("Odd", "1.0")),
        ("Summary: x\n  Name: no\nName: yes\nName: second\nVersion: 1\n", ("yes", "1")),
        ("Name: a-b\r\nVersion: 2\r\n", ("a-b", "2")),
    ],
)
def test_an_unusual_head_is_read_as_importlib_metadata_reads_it(
    tmp_path: Path, head: str, expected: tuple[str, str]
) -> None:
    install(tmp_path, "x", "0", head)
    (one,) = metadata.distributions(path=[str(tmp_path)])
    assert environment_reader.name_and_version(one) == expected
    assert (one.metadata["Name"], one.metadata["Version"]) == expected


def test_the_first_on_the_path_counts_as_it_does_for_an_import(tmp_path: Path) -> None:
    install(tmp_path / "a", "Some.Thing", "2")
    install(tmp_path / "b", "some-thing", "1")
    found = look([str(tmp_path / "a"), str(tmp_path / "b")], tmp_path)
    assert found.state.packages == {"Some.Thing": "2"}
    assert set(found.watched) == {str(tmp_path / "a"), str(tmp_path / "b")}


def test_what_an_interrupted_pip_left_is_a_note_and_no_package(tmp_path: Path) -> None:
    install(tmp_path, "~umpy", "1.0", "Name: numpy\nVersion: 1.0\n")
    (tmp_path / "empty-1.dist-info").mkdir()
    found = look([str(tmp_path)], tmp_path)
    assert found.state.packages == {}
    assert len(found.notes) == 2
    assert "~umpy" in " ".join(found.notes)
    assert "empty-1" in " ".join(found.notes)


def test_a_new_package_shows_in_the_date_of_its_directory(tmp_path: Path) -> None:
    install(tmp_path, "one", "1")
    watched = look([str(tmp_path)], tmp_path).watched
    assert environment_reader.modified(watched) == watched
    install(tmp_path, "two", "2")
    assert environment_reader.modified(watched) != watched


def test_who_waits_can_give_up(tmp_path: Path) -> None:
    install(tmp_path, "one", "1")

    def too_late() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        look([str(tmp_path)], tmp_path, too_late)


@pytest.mark.parametrize("sorted_keys", [True, False])
def test_conda_says_what_it_installed_and_how_often(tmp_path: Path, sorted_keys: bool) -> None:
    site = tmp_path / "lib/python3.11/site-packages"
    install(site, "numpy", "2.1.0", direct_url_json='{"url": "file:///home/conda/work"}')
    install(site, "of-pip", "1")
    inside = "lib/python3.11/site-packages/numpy-2.1.0.dist-info/METADATA"
    conda_package(tmp_path, NUMPY, inside, sorted_keys=sorted_keys)
    conda_package(tmp_path, BLAS, sorted_keys=sorted_keys)
    history = "==> 2026-11-01 10:00:00 <==\n# cmd: conda create\n+defaults::numpy-2.1.0-0\n"
    (tmp_path / "conda-meta" / "history").write_text(history * 3)
    found = look([str(site)], tmp_path)
    assert found.state.conda == (BLAS, NUMPY)
    assert found.state.conda_revision == 2  # they are counted from 0
    assert found.by_conda == ("numpy",)
    assert found.origins == {}  # the directory in which conda built it is of no use to anybody
    assert set(found.watched) == {str(site), str(tmp_path / "conda-meta")}


def test_an_environment_without_conda_has_no_revision(tmp_path: Path) -> None:
    state = look([], tmp_path).state
    assert (state.conda, state.conda_revision) == ((), None)


@pytest.mark.parametrize(
    ("address", "written"),
    [
        ("https://me:secret@host/x.whl", "https://host/x.whl"),
        ("https://token@host/x.whl", "https://host/x.whl"),
        ("ssh://git@github.com/a/b.git", "ssh://git@github.com/a/b.git"),
        ("https://${USER}:${PASSWORD}@host/x", "https://${USER}:${PASSWORD}@host/x"),
        (
            "https://conda.anaconda.org/t/abc-1/us/linux-64",
            "https://conda.anaconda.org/us/linux-64",
        ),
        ("https://host/a@1.0", "https://host/a@1.0"),
    ],
)
def test_no_password_is_written_down(address: str, written: str) -> None:
    assert without_credentials(address) == written


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    before = State(1.0, {"a": "1"})
    now = State(2.0, {"a": "2"}, (NUMPY,), 3)
    written = an_environment(
        now, at_start=before, origins={"a": {"url": "u"}}, watched={"/x": 1}, notes=("n",)
    )
    environment.save(tmp_path, written)
    path = tmp_path / contract.ENVIRONMENT_FILE
    assert environment.load(path) == written
    later = {**json.loads(path.read_bytes()), "of_a_later_version": 1}
    path.write_text(json.dumps(later))
    assert environment.load(path) == written
    assert environment.load(tmp_path / "nothing.json") is None


# --- comparing ---


def test_added_removed_and_changed_packages_are_named_with_their_versions() -> None:
    before = State(0.0, {"numpy": "1.26.4", "gone": "1", "Same.Name": "3"}, conda_revision=4)
    after = State(9.0, {"numpy": "2.1.0", "new": "2", "same-name": "3"}, conda_revision=6)
    assert environment_diff.changes(before, after, "3.11.7", "3.11.9") == {
        "since": "1970-01-01T00:00:00.000+00:00",
        "python": ["3.11.7", "3.11.9"],
        "added": {"new": "2"},
        "removed": {"gone": "1"},
        "changed": {"numpy": ["1.26.4", "2.1.0"]},
        "conda_revision": [4, 6],
    }


def test_where_nothing_has_changed_all_parts_are_empty() -> None:
    state = State(5.0, {"numpy": "2.1.0"}, (NUMPY,), 4)
    found = environment_diff.changes(state, dataclasses.replace(state, time=9.0), "3.11.7", None)
    assert environment_diff.is_empty(found)
    assert found["python"] is None


def test_a_package_that_conda_and_python_know_is_named_once_and_another_build_is_a_change() -> None:
    rebuilt = dataclasses.replace(BLAS, build="26_mkl")
    newer = dataclasses.replace(NUMPY, version="2.2.0")
    before = State(0.0, {"numpy": "2.1.0"}, (BLAS, NUMPY), 1)
    after = State(1.0, {"numpy": "2.2.0"}, (rebuilt, newer), 2)
    assert environment_diff.changes(before, after)["changed"] == {
        "libblas": ["3.9.0 (build 26_openblas)", "3.9.0 (build 26_mkl)"],
        "numpy": ["2.1.0", "2.2.0"],
    }
    other_build = dataclasses.replace(NUMPY, build="py311_1")
    after = State(1.0, {"numpy": "2.1.0"}, (BLAS, other_build), 2)
    assert environment_diff.changes(before, after)["changed"] == {
        "numpy": ["2.1.0 (build py311_0)", "2.1.0 (build py311_1)"]
    }


# --- writing ---


def test_requirements_pin_every_package_or_name_where_it_came_from() -> None:
    packages = {"numpy": "2.1.0", "torch": "2.4.0+cu121", "pip": "24.0", "odd": "2004d"}
    packages |= {"git": "1.0", "wheel": "0.1", "mine": "0.2", "local": "3"}
    origins: dict[str, dict[str, Any]] = {
        "git": {
            "url": "https://github.com/a/b.git",
            "vcs_info": {"vcs": "git", "commit_id": "c0ffee"},
            "subdirectory": "python",
        },
        "wheel": {
            "url": "https://host/wheel-0.1-py3-none-any.whl",
            "archive_info": {"hash": "sha256=abc"},
        },
        "mine": {"url": "file:///work/mine", "dir_info": {"editable": True}},
        "local": {"url": "file:///tmp/local-3-py3-none-any.whl", "archive_info": {}},
    }
    text = environment_formats.requirements_txt(
        an_environment(State(0.0, packages), origins=origins, notebook="/a\n-r evil.txt")
    )
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines == [
        "git @ git+https://github.com/a/b.git@c0ffee#subdirectory=python",
        "numpy==2.1.0",
        "torch==2.4.0+cu121",
        "wheel @ https://host/wheel-0.1-py3-none-any.whl#sha256=abc",
    ]
    assert [Requirement(line).name for line in lines] == ["git", "numpy", "torch", "wheel"]
    comments = [line for line in text.splitlines() if line.startswith("#")]
    for said in (
        "3.11.7",
        "1970-01-01T00:00:00",
        "file:///work/mine",
        "file:///tmp/local",
        "2004d",
    ):
        assert said in "\n".join(comments)


def test_pip_takes_the_requirements_of_this_environment(tmp_path: Path) -> None:
    found = look(None, Path(sys.prefix))
    now = an_environment(found.state, origins=found.origins, by_conda=found.by_conda)
    file = tmp_path / "requirements.txt"
    file.write_text(environment_formats.requirements_txt(now))
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--no-index", "-r"]
        + [str(file), "--disable-pip-version-check"],
        capture_output=True,
        text=True,
        check=False,
    )
    if "No module named pip" in done.stderr:
        pytest.skip("this environment has no pip")
    assert done.returncode == 0, done.stderr
    assert "Would install" not in done.stdout  # all of it is there already


def test_environment_yml_has_condas_packages_and_a_section_for_the_rest() -> None:
    python = CondaPackage(
        "python", "3.11.7", "h1_0", "https://repo.anaconda.com/pkgs/main/linux-64"
    )
    mutex = CondaPackage("_libgcc_mutex", "0.1", "main", "defaults")
    state = State(0.0, {"numpy": "2.1.0", "of-pip": "1.0", "mine": "2"}, (mutex, NUMPY, python), 7)
    origins = {"mine": {"url": "file:///work/mine", "dir_info": {}}}
    text = environment_formats.environment_yml(
        an_environment(state, by_conda=("numpy",), origins=origins)
    )
    assert yaml.safe_load(text) == {
        "name": "science",
        "channels": ["defaults", "conda-forge"],
        "dependencies": [
            "python=3.11.7",
            "_libgcc_mutex=0.1",
            "numpy=2.1.0",
            "pip",
            {"pip": ["of-pip==1.0"]},
        ],
    }
    assert "conda revision: 7" in text
    assert "# mine 2: installed from file:///work/mine" in text


def test_environment_yml_without_conda_has_python_and_a_section_for_pip() -> None:
    state = State(0.0, {"numpy": "2.1.0"})
    python = Python("3.11.7", "/work/.venv", "CPython", "Linux")
    text = environment_formats.environment_yml(an_environment(state, python=python))
    assert yaml.safe_load(text) == {
        "name": "venv",
        "channels": ["conda-forge"],
        "dependencies": ["python=3.11.7", "pip", {"pip": ["numpy==2.1.0"]}],
    }
    empty = environment_formats.environment_yml(an_environment(State(0.0, {})))
    assert yaml.safe_load(empty)["dependencies"] == ["python=3.11.7", "pip"]


def test_what_changed_while_the_session_ran_stands_at_the_top() -> None:
    now, before = State(1.0, {"numpy": "2.1.0", "new": "1"}), State(0.0, {"numpy": "1.26.4"})
    text = environment_formats.requirements_txt(an_environment(now, at_start=before))
    assert "# Changed since the session began: new, numpy" in text


def test_one_spelling_for_all() -> None:
    assert canonical("Ruamel.YAML__clib") == "ruamel-yaml-clib"
