"""A package that changed between two sessions of a notebook is in the record of the death."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from victim import Victim, until

from checkpoint_kernel import contract
from checkpoint_provisioner import cli

Start = Callable[..., Victim]
INSTALL = """
from pathlib import Path
place = Path({place!r})
place.mkdir()
(place / "METADATA").write_text({metadata!r})
"""


def install(site: Path, name: str, version: str) -> str:
    """The code that installs a package as pip leaves it: no network, and no pip."""
    place = site / f"{name}-{version}.dist-info"
    return INSTALL.format(place=str(place), metadata=f"Name: {name}\nVersion: {version}\n")


def begin_healthy(start: Start, tmp_path: Path, site: Path) -> Victim:
    site.mkdir()
    exec(install(site, "suspect", "1.0"))
    notebook = str(tmp_path / "work.ipynb")
    victim = start(env={"PYTHONPATH": str(site), "JPY_SESSION_NAME": notebook})
    victim.run("x = 1")
    until((victim.directory / contract.ENVIRONMENT_FILE).exists, "what the session ran with")
    return victim


def test_packages_that_changed_before_and_in_the_session_that_died_are_named(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = tmp_path / "site"
    victim = begin_healthy(start, tmp_path, site)
    healthy = victim.directory.name
    (site / "suspect-1.0.dist-info").rename(site / "gone")
    exec(install(site, "suspect", "2.0"))
    victim.restart()
    until((victim.directory / contract.ENVIRONMENT_FILE).exists, "what the session ran with")
    victim.run(install(site, "newcomer", "0.1"))
    # At once: the kernel itself may not have noticed yet.
    found = victim.dies("import os\nos.abort()")["environment_changes"]
    assert found["changed"] == {"suspect": ["1.0", "2.0"]}
    assert found["added"] == {"newcomer": "0.1"}
    assert (found["removed"], found["python"], found["conda_revision"]) == ({}, None, None)

    assert cli.main(["env", healthy]) == 0
    requirements = capsys.readouterr().out.splitlines()
    assert "suspect==1.0" in requirements
    assert f"# Notebook: {tmp_path / 'work.ipynb'}" in requirements
    assert cli.main(["env", "work.ipynb", "--json"]) == 0
    newest = json.loads(capsys.readouterr().out)
    assert newest["session"] == victim.directory.name
    assert newest["now"]["packages"]["suspect"] == "2.0"


def test_a_package_that_keeps_the_kernel_from_starting_is_named(
    start: Start, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    victim = begin_healthy(start, tmp_path, site)
    exec(install(site, "ipython", "99.0"))
    (site / "IPython").mkdir()
    (site / "IPython" / "__init__.py").write_text("raise ImportError('built for another numpy')")
    victim.manager.restart_kernel()
    victim.wait_for_death()
    record = victim.death()
    assert record["cause"] == "start-failed"
    found = record["environment_changes"]
    assert [new for _, new in found["changed"].values()] == ["99.0"]
    assert (found["added"], found["removed"], found["python"]) == ({}, {}, None)
