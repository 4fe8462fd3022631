"""A secret of the environment reaches no byte of the store, however a notebook holds it."""

from __future__ import annotations

from harness.notebook import Notebook
from harness.records import checkpoints, flight, sessions, wait_for_checkpoint

HALVES = ("sk-9f8e7d6c", "-5b4a39281")


def test_an_environment_secret_in_variables_is_in_no_file_of_the_store_and_is_named(
    notebook: Notebook,
) -> None:
    notebook.run(
        "import os\n"
        f"os.environ['SERVICE_API_KEY'] = {HALVES[0]!r} + {HALVES[1]!r}\n"
        "class Client:\n"
        "    def __init__(self, key): self.headers = {'Authorization': 'Bearer ' + key}\n"
        "key = os.environ['SERVICE_API_KEY']; client = Client(key); good = [1]\n"
        "config = {'host': 'db', 'password': 'p'.join('ab')}; everything = dict(os.environ)"
    ).ok()
    shown = notebook.run("key").ok()
    assert shown.value is not None
    wait_for_checkpoint(notebook, shown.execution_count)
    newest = checkpoints(notebook)[-1]
    assert {"key", "Out[2]"} <= {one.name for one in newest.skipped}
    assert {"client", "config", "everything"} == {one.name for one in newest.partly}

    directory, record = sessions(notebook)[-1]
    secret = "".join(HALVES).encode()
    files = [path for path in directory.parents[1].rglob("*") if path.is_file()]
    assert len(files) > 3
    assert not [path for path in files if secret in path.read_bytes()]
    assert not [path for path in files if b"apb" in path.read_bytes()]

    notebook.kill_kernel(flight(notebook).pid)
    first = notebook.run("print(good, config['host'], client.headers)").ok()
    assert "[1] db {'Authorization': <not back: str: " in first.text
    assert "not back: key (str): it holds the value of a secret" in first.prose
    assert secret.decode() not in first.text
    assert record.settings.include == ()
