"""`memory_limit`: the kernel that outgrows it dies alone, with proof, and comes back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness.environment import Environment
from harness.notebook import Notebook
from harness.records import sessions, wait_for_checkpoint, wait_until
from harness.server import JupyterServer


@pytest.fixture
def capped(server: JupyterServer, notebook_path: str) -> Iterator[Notebook]:
    """A notebook under a cap of 400 MB; skipped, and counted, where nothing can enforce one."""
    name = server.environment.kernelspec("resilient-400m", memory_limit="400M", soft_limit="100%")
    notebook = server.open(notebook_path, name)
    _, newest = sessions(notebook)[-1]
    assert newest.cap is not None
    if not newest.cap.enforced:
        notebook.close()
        pytest.skip(f"no memory cap can be enforced here: {newest.cap.detail}")
    yield notebook
    notebook.close()


EAT = "hoard = []\nwhile True:\n    hoard.append(bytes(10_000_000).replace(b'\\0', b'1'))"


def test_outgrowing_the_cap_is_told_as_such_and_the_variables_are_back(
    capped: Notebook, notebook_path: str, jupyter_env: Environment
) -> None:
    result = capped.run("x = 41").ok()
    wait_for_checkpoint(capped, result.execution_count)
    capped.run_to_death(EAT)
    first = capped.run("x").ok()
    assert first.value == "41"
    assert "400M" in first.text
    assert "restored" in first.text

    death = jupyter_env.checkpoint_json("deaths")[-1]
    assert death["cause"] == "oom-killed-by-cap"
    assert death["notebook"].endswith(notebook_path)
    assert death["signal"] == "SIGKILL"
    assert death["cell"] == 2
    assert death["line"] in (2, 3)
    assert death["source"] in [line.strip() for line in EAT.splitlines()]
    assert death["because"]
    assert death["schema_version"] >= 1
    assert death["time"].startswith("20")


def test_a_child_that_outgrows_the_cap_does_not_take_the_kernel_for_a_verdict(
    capped: Notebook,
) -> None:
    capped.run(
        "import subprocess, sys\n"
        "done = subprocess.run([sys.executable, '-c', 'x = bytearray(600_000_000)'])"
    )
    assert capped.run("done.returncode").ok().value == "-9"


def test_the_cap_in_force_is_told_by_the_status(capped: Notebook) -> None:
    assert "400M" in capped.run("%checkpoint").ok().text


def test_a_snapshot_that_might_not_fit_is_not_begun_and_the_status_says_so(
    capped: Notebook,
) -> None:
    capped.run("x = 41").ok()
    held = "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10"
    capped.run(f"import resource; hoard = b'1' * ((385 << 20) - ({held}))").ok()
    wait_until(
        lambda: "left below the memory limit of 400M" in capped.run("%checkpoint").ok().prose,
        "the refusal in the status",
    )
    assert capped.run("x").ok().value == "41", "the kernel lives"
    result = capped.run("del hoard; x = 42").ok()
    wait_for_checkpoint(capped, result.execution_count)
