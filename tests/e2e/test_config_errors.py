"""A mistake in kernel.json is refused at the start, in words, in the frontend's dialog."""

from __future__ import annotations

import re

import pytest
import requests
from harness.server import JupyterServer


def refusal(server: JupyterServer, path: str, **config: object) -> str:
    """What the frontend's dialog says about a kernel with this config."""
    name = server.environment.kernelspec("resilient-mistaken", **config)
    with pytest.raises(requests.HTTPError) as refused:
        server.create_session(path, name)
    return str(refused.value)


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("memory_limit", "lots", "8G"),
        ("soft_limit", "-5", "percentage"),
        ("checkpoint_interval", "often", "0"),
        ("checkpoint_after_cell", "perhaps", "true"),
        ("restore", "sometimes", "crash"),
        ("keep", 0, "1"),
        ("exclude", 7, "pattern"),
        ("include", 7, "pattern"),
    ],
)
def test_a_bad_value_names_key_value_and_what_is_allowed(
    server: JupyterServer, notebook_path: str, key: str, value: object, allowed: str
) -> None:
    said = refusal(server, notebook_path, **{key: value})
    assert key in said
    assert str(value) in said
    assert allowed in said


def test_an_unknown_key_is_named_with_the_keys_there_are(
    server: JupyterServer, notebook_path: str
) -> None:
    said = refusal(server, notebook_path, memory_limt="8G")
    assert "memory_limt" in said
    assert re.search(r"\bmemory_limit\b", said)


def test_after_a_refusal_other_kernels_start(server: JupyterServer, notebook_path: str) -> None:
    refusal(server, notebook_path, keep="x")
    notebook = server.open(notebook_path)
    assert notebook.run("1").ok().value == "1"
    notebook.close()
