"""What the provisioner decides before a kernel starts: notebook, config, launch, other Python."""

from __future__ import annotations

import asyncio
import dataclasses
import stat
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.kernelspec import KernelSpec
from traitlets.config import Config

from checkpoint_kernel import contract
from checkpoint_kernel.flight_recorder import Flight, FlightRecorder
from checkpoint_kernel.session import Cap, Settings
from checkpoint_provisioner import notebook, other_python, self_supervise
from checkpoint_provisioner.config import ConfigError
from checkpoint_provisioner.launch import Launch, NotStarted, Started, is_ours, parse_answer
from checkpoint_provisioner.provisioner import CheckpointProvisioner, shutdown_wait_s


def provisioner(operator: dict[str, Any] | None = None, **kernel_json: Any) -> Any:
    """As the factory makes it: kernel.json's config as keyword arguments."""
    config = Config({"CheckpointProvisioner": operator or {}})
    spec = KernelSpec(argv=["python"], language="python")
    return CheckpointProvisioner(kernel_id="k1", kernel_spec=spec, config=config, **kernel_json)


# --- config ---


def test_without_any_config_the_products_defaults_hold() -> None:
    found = provisioner().config_now()
    assert (found.memory_limit, found.checkpoint_interval, found.restore) == (None, 30.0, "crash")


def test_the_operators_traits_are_defaults_and_kernel_json_overrides_them() -> None:
    operator = {"memory_limit": "4G", "keep": 5}
    found = provisioner(operator, memory_limit="8G").config_now()
    assert (found.memory_limit, found.keep) == ("8G", 5)


def test_every_config_key_is_a_trait_with_help() -> None:
    from checkpoint_provisioner import config

    for key in config.KEYS:
        trait = CheckpointProvisioner.class_traits(config=True)[key]
        assert trait.help, key


def test_an_unknown_key_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="memorylimit: there is no such key"):
        provisioner(memorylimit="8G").config_now()


@pytest.mark.parametrize("key", ["log", "session_directory", "_settled"])
def test_a_key_that_is_an_attribute_by_chance_is_refused_too(key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        provisioner(**{key: "x"}).config_now()


def test_a_bad_trait_of_the_operators_is_refused_like_a_bad_key() -> None:
    with pytest.raises(ConfigError, match="restore"):
        provisioner({"restore": "sometimes"}).config_now()


# --- which notebook ---


NOW = 1_000_000.0


@pytest.mark.parametrize(
    ("flight", "seconds"),
    [
        (Flight(sampled=NOW, rss_bytes=100_000_000), 7.0),
        (Flight(sampled=NOW, rss_bytes=100_000_000, snapshot_pid=7), 9.0),
        (Flight(sampled=NOW, rss_bytes=100_000_000_000), 30.0),
        (Flight(sampled=NOW - 60, rss_bytes=100_000_000_000), 5.0),
    ],
    ids=["small", "snapshot under way", "large", "stuck"],
)
def test_a_kernel_is_given_the_time_that_its_last_checkpoint_may_take(
    flight: Flight, seconds: float
) -> None:
    assert shutdown_wait_s(flight, NOW, 5.0, 30.0) == seconds


def running_kernel(tmp_path: Path, **kernel_json: Any) -> Any:
    one = provisioner(**kernel_json)
    one.session_directory = tmp_path
    one._shutdown_wait_s = one.config_now().shutdown_wait
    FlightRecorder(tmp_path / contract.FLIGHT_FILE).update(sampled=time.time(), rss_bytes=10**12)
    return one


def test_the_time_to_go_is_never_shorter_than_jupyters_own(tmp_path: Path) -> None:
    assert provisioner().get_shutdown_wait_time(5.0) == 5.0  # nothing was started
    assert running_kernel(tmp_path).get_shutdown_wait_time(5.0) == 30.0
    assert running_kernel(tmp_path).get_shutdown_wait_time(60.0) == 60.0
    assert running_kernel(tmp_path, shutdown_wait=0).get_shutdown_wait_time(5.0) == 5.0


def test_a_restart_gets_no_more_time_than_jupyters_own(tmp_path: Path) -> None:
    one = running_kernel(tmp_path)
    asyncio.run(one.shutdown_requested(restart=True))
    assert one.get_shutdown_wait_time(5.0) == 5.0
    asyncio.run(one.shutdown_requested(restart=False))
    assert one.get_shutdown_wait_time(5.0) == 30.0


def of(name: str | None, root: Path | None = None, cwd: Path | None = None) -> notebook.Notebook:
    env = None if name is None else {"JPY_SESSION_NAME": name}
    return notebook.of_frontend(env, str(cwd) if cwd else None, str(root) if root else None, "k1")


def test_the_key_tells_the_notebook_and_differs_by_directory(tmp_path: Path) -> None:
    one, two = of(f"{tmp_path}/a/My work.ipynb"), of(f"{tmp_path}/b/My work.ipynb")
    assert one.key.startswith("My-work-")
    assert one.key != two.key
    assert one.path == str(tmp_path.resolve() / "a" / "My work.ipynb")


def test_a_link_and_its_target_are_one_notebook(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert of(f"{tmp_path}/link/n.ipynb") == of(f"{tmp_path}/real/n.ipynb")


def test_a_name_of_any_script_makes_a_safe_key(tmp_path: Path) -> None:
    for name in ("数据.ipynb", "..ipynb", "a b/c?.ipynb", "x" * 300 + ".ipynb"):
        key = of(f"{tmp_path}/{name}").key
        assert "/" not in key
        assert not key.startswith(".")
        assert len(key) < 80


@pytest.mark.parametrize("form", ["{stem}-jvsc-{id}.ipynb", "{stem}.ipynb-jvsc-{id}"])
def test_vs_codes_suffix_does_not_make_another_notebook(tmp_path: Path, form: str) -> None:
    for identity in (str(uuid.uuid4()), uuid.uuid4().hex):
        name = form.format(stem=f"{tmp_path}/work", id=identity)
        assert of(name) == of(f"{tmp_path}/work.ipynb")


def test_without_an_env_of_the_frontends_only_the_kernel_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", "/outer.ipynb")
    assert of(None) == notebook.Notebook(None, "kernel-k1")


def test_a_session_name_that_is_a_directory_names_no_notebook(tmp_path: Path) -> None:
    assert of(str(tmp_path)).path is None
    assert of(f"{tmp_path}/").path is None


def test_a_relative_name_is_below_the_servers_root(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "n.ipynb").touch()
    expected = str(tmp_path.resolve() / "sub" / "n.ipynb")
    assert of("sub/n.ipynb", root=tmp_path).path == expected
    assert of("sub/n.ipynb", cwd=tmp_path / "sub").path == expected


# --- one kernel_id, one directory ---


def settle(one: Any, path: Path, root: Path) -> tuple[notebook.Notebook, Path]:
    one._passed_env = {"JPY_SESSION_NAME": str(path)}
    found: tuple[notebook.Notebook, Path] = one._settle_notebook(root, {})
    return found


def test_the_store_moves_along_when_the_notebook_is_renamed(tmp_path: Path) -> None:
    one, root = provisioner(), tmp_path / "store"
    old, new = tmp_path / "old.ipynb", tmp_path / "new.ipynb"
    old.touch()
    _, directory = settle(one, old, root)
    directory.mkdir(parents=True)
    (directory / "mark").touch()
    old.rename(new)
    found, moved = settle(one, new, root)
    assert found.path == str(new.resolve())
    assert (moved / "mark").exists()
    assert not directory.exists()


def test_save_as_leaves_the_kernel_with_the_notebook_that_it_was_started_for(
    tmp_path: Path,
) -> None:
    one, root = provisioner(), tmp_path / "store"
    old, copy = tmp_path / "old.ipynb", tmp_path / "copy.ipynb"
    old.touch()
    before = settle(one, old, root)
    before[1].mkdir(parents=True)
    copy.touch()
    assert settle(one, copy, root) == before


# --- the other half ---


def test_a_python_without_the_kernel_is_refused_with_its_remedy(tmp_path: Path) -> None:
    python = tmp_path / "python"
    # Isolated and without site-packages: a Python that has only its standard library.
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    python.chmod(0o755)
    with pytest.raises(RuntimeError, match=f"{python} -m pip install checkpoint-kernel"):
        asyncio.run(other_python.check_importable(str(python), None))


def test_a_python_with_the_kernel_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(other_python.check_importable(sys.executable, None))
    monkeypatch.setattr(other_python, "LIMIT_S", 0.0)  # another question would fail
    asyncio.run(other_python.check_importable(sys.executable, None))


def test_a_python_that_is_not_there_is_named() -> None:
    with pytest.raises(RuntimeError, match="/no/such/python cannot be run"):
        asyncio.run(other_python.check_importable("/no/such/python", None))


# --- launch ---


def test_a_launch_and_its_answers_survive_the_way_there_and_back() -> None:
    launch = Launch("k", None, "/d", "/key", Settings(exclude=("a*",)), "8G", "85%", 3, True, "/f")
    assert Launch.from_json(launch.to_json()) == launch
    started = Started(1, 1, "/s", Cap("8G", 8, 7, "cgroup v1", True, "", "/c"))
    assert parse_answer(started.to_line()) == started
    assert parse_answer(NotStarted("why").to_line()) == NotStarted("why")


def test_only_our_kernel_is_given_our_pipes() -> None:
    assert is_ours(["python", "-m", "checkpoint_kernel", "-f", "x"])
    assert not is_ours(["python", "-m", "ipykernel_launcher", "-f", "x"])


def test_a_kernel_that_nobody_supervises_takes_its_config_from_the_kernelspec(
    tmp_path: Path,
) -> None:
    (tmp_path / "kernel.json").write_text(
        '{"metadata": {"kernel_provisioner": {"config": {"memory_limit": "8G", "keep": 3}}}}'
    )
    argv = ["python", "-m", "checkpoint_kernel", "-f", "/run/kernel-v31a2b.json"]
    env = {contract.ENV_SPEC_DIR: str(tmp_path), "JPY_PARENT_PID": "1"}
    launch = self_supervise.launch_for(argv, env, str(tmp_path))
    assert (launch.memory_limit, launch.settings.keep) == ("8G", 3)
    assert (launch.kernel_id, launch.independent, launch.status_fd) == ("v31a2b", False, None)
    assert Path(launch.notebook_directory).name == "kernel-v31a2b"


def test_a_bad_config_there_is_said_and_the_defaults_are_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kernel.json").write_text(
        '{"metadata": {"kernel_provisioner": {"config": {"keep": "many"}}}}'
    )
    launch = self_supervise.launch_for([], {contract.ENV_SPEC_DIR: str(tmp_path)}, str(tmp_path))
    assert launch.settings == Settings()
    assert "keep" in capsys.readouterr().err
    assert dataclasses.replace(launch, independent=True) == launch


def test_the_notebook_that_a_frontend_names_by_itself_is_used(tmp_path: Path) -> None:
    env = {"JPY_SESSION_NAME": str(tmp_path / "n.ipynb")}
    assert self_supervise.launch_for([], env, "/").notebook == str(tmp_path.resolve() / "n.ipynb")
    assert stat.S_ISDIR(tmp_path.stat().st_mode)
