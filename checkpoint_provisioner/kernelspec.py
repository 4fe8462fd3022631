"""The one writer of kernelspecs: `jupyter checkpoint install`.

The wheel ships none: it could not say the true Python version, and one in sys.prefix would
hide or be hidden by one in the user's directory. Reading them is `doctor`'s.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jupyter_client.kernelspec import KernelSpecManager

from checkpoint_kernel.contract import ENV_SPEC_DIR, KERNELSPEC_NAME

from . import config, pythons
from .pythons import Interpreter

KERNEL_FILE = "kernel.json"
Scope = Literal["user", "sys-prefix", "prefix"]
_NAME = re.compile(r"[a-z0-9._-]+")


class InstallError(Exception):
    """Nothing was written; the message names the path, the reason and the remedy."""


@dataclass(frozen=True)
class Request:
    """What the user asked for."""

    scope: Scope | None = None  # None: the environment or user
    prefix: str | None = None  # with scope "prefix"
    name: str = KERNELSPEC_NAME
    display_name: str | None = None
    memory_limit: str | None = None
    cpu_limit: float | None = None
    pids_limit: int | None = None
    nice: int | None = None
    python: str | None = None  # None: the interpreter that runs this


@dataclass(frozen=True)
class Installed:
    """What was written, and what is still missing for it to work."""

    directory: Path
    name: str
    display_name: str
    replaced: bool
    warnings: tuple[str, ...]


def install(request: Request) -> Installed:
    """Write the kernelspec; InstallError if it could not be seen or could not start."""
    name = _checked_name(request.name)
    kernels = _kernels_directory(request)
    directory = kernels / name
    python = _kernel_half(request.python or pythons.own())
    spec = _spec(request, python, directory)
    lookup = [Path(os.path.realpath(entry)) for entry in KernelSpecManager().kernel_dirs]
    _refuse_shadowed(directory, lookup)
    replaced = _write(directory, spec)
    warnings = [*_not_looked_up(kernels, lookup), *_missing_server_halves()]
    return Installed(directory, name, spec["display_name"], replaced, tuple(warnings))


def template_directory() -> Path:
    """Template and logos: beside this module in a wheel, at the root of a checkout."""
    here = Path(__file__).resolve().parent
    for candidate in (here / "kernelspecs", here.parent / "kernelspecs"):
        if (candidate / KERNEL_FILE).is_file():
            return candidate
    raise InstallError(
        f"the kernelspec's template is in neither {here} nor {here.parent}: the installation of "
        f"{pythons.DISTRIBUTION} is damaged; install it again"
    )


def in_environment() -> bool:
    """Whether this Python belongs to a virtual or conda environment."""
    return sys.prefix != sys.base_prefix or (Path(sys.prefix) / "conda-meta").is_dir()


def _checked_name(name: str) -> str:
    lowered = name.lower()  # as Jupyter looks names up
    if _NAME.fullmatch(lowered) is None:
        raise InstallError(
            f"--name {name!r}: a kernelspec's name has only letters, digits, '.', '_' and '-'"
        )
    return lowered


def _kernels_directory(request: Request) -> Path:
    scope = request.scope or ("sys-prefix" if in_environment() else "user")
    if scope == "user":
        return Path(KernelSpecManager().user_kernel_dir)
    prefix = sys.prefix if scope == "sys-prefix" else request.prefix
    if not prefix:
        raise InstallError("--prefix needs a directory")
    return Path(prefix).expanduser().absolute() / "share" / "jupyter" / "kernels"


def _kernel_half(python: str) -> Interpreter:
    """The kernel's interpreter, which must have all that the kernel imports."""
    try:
        found = pythons.ask(pythons.absolute(python))
    except pythons.NoAnswer as why:
        raise InstallError(f"--python: {why}") from why
    if found.version[:2] < pythons.OLDEST:
        raise InstallError(
            f"--python: {found.path} is Python {'.'.join(map(str, found.version))}; the kernel "
            f"needs {'.'.join(map(str, pythons.OLDEST))} or newer"
        )
    if found.missing:
        raise InstallError(
            f"--python: the kernel's half cannot be imported in {found.path}: there is no "
            f"{', '.join(found.missing)}. Install it with\n  {found.pip_command}"
        )
    return found


def _spec(request: Request, python: Interpreter, directory: Path) -> dict[str, Any]:
    """kernel.json: the template, with what only this machine can say."""
    spec: dict[str, Any] = json.loads((template_directory() / KERNEL_FILE).read_text("utf-8"))
    spec["argv"][0] = python.path
    major, minor, _ = python.version
    spec["display_name"] = request.display_name or f"Python {major}.{minor} (resilient)"
    spec["env"] = {ENV_SPEC_DIR: str(directory)}
    # What this kernel's ipykernel says of itself, such as supported_encryption.
    spec["kernel_protocol_version"] = python.ipykernel.get(
        "kernel_protocol_version", spec["kernel_protocol_version"]
    )
    spec["metadata"] = {**python.ipykernel.get("metadata", {}), **spec["metadata"]}
    ours = spec["metadata"]["kernel_provisioner"]["config"]
    # Only what was asked for: a default written here would outrank the operator's
    # c.CheckpointProvisioner settings.
    for key in ("memory_limit", "cpu_limit", "pids_limit", "nice"):
        if getattr(request, key) is not None:
            ours[key] = getattr(request, key)
    try:
        config.parse(ours)
    except config.ConfigError as why:
        raise InstallError(f"--{str(why).replace('_', '-', 1)}") from why
    return spec


def _refuse_shadowed(directory: Path, lookup: list[Path]) -> None:
    """Another kernelspec of this name, earlier in the lookup, would be the one that starts."""
    kernels = directory.parent.resolve()
    if kernels not in lookup:
        return
    for earlier in lookup[: lookup.index(kernels)]:
        for other in _specs_named(directory.name, earlier):
            raise InstallError(
                f"{other} comes before {directory} in Jupyter's lookup and would hide it. "
                f"Install there with {_flag_for(earlier)}, take another --name, or remove it "
                f"(rm -r {other})"
            )


def _specs_named(name: str, kernels: Path) -> list[Path]:
    """Jupyter compares names in lower case."""
    try:
        entries = sorted(kernels.iterdir())
    except OSError:
        return []
    return [e for e in entries if e.name.lower() == name and (e / KERNEL_FILE).is_file()]


def _flag_for(kernels: Path) -> str:
    """The flag that writes to this directory, which is a real path."""
    if kernels == Path(KernelSpecManager().user_kernel_dir).resolve():
        return "--user"
    if kernels == Path(sys.prefix).resolve() / "share" / "jupyter" / "kernels":
        return "--sys-prefix"
    if kernels.parts[-3:] == ("share", "jupyter", "kernels"):
        return f"--prefix {kernels.parents[2]}"
    return f"JUPYTER_DATA_DIR={kernels.parent} and --user"


def _write(directory: Path, spec: dict[str, Any]) -> bool:
    """Put the new directory in place by one rename; True if one was replaced."""
    staged = directory.with_name(f".{directory.name}-{os.getpid()}-{secrets.token_hex(4)}")
    old = staged.with_name(f"{staged.name}.old")
    try:
        staged.mkdir(parents=True)
        for logo in sorted(template_directory().glob("logo-*")):
            shutil.copyfile(logo, staged / logo.name)
        text = json.dumps(spec, indent=1, ensure_ascii=False) + "\n"
        (staged / KERNEL_FILE).write_text(text, encoding="utf-8")
        replaced = os.path.lexists(directory)
        if replaced:
            os.replace(directory, old)
        os.replace(staged, directory)
    except OSError as why:
        shutil.rmtree(staged, ignore_errors=True)
        if os.path.lexists(old) and not os.path.lexists(directory):
            os.replace(old, directory)
        raise InstallError(
            f"cannot write {directory}: {why.strerror}. Choose another place: --user, "
            "--sys-prefix or --prefix P"
        ) from why
    if replaced:
        old.unlink() if old.is_symlink() else shutil.rmtree(old)
    return replaced


def _not_looked_up(kernels: Path, lookup: list[Path]) -> list[str]:
    if kernels.resolve() in lookup:
        return []
    return [
        f"{kernels} is not among the directories that Jupyter looks in from this environment. "
        f"If that of your server does not either, start it with JUPYTER_PATH={kernels.parent}"
    ]


def _missing_server_halves() -> list[str]:
    """Frontends hide a kernelspec whose provisioner their server does not know, and say nothing."""
    warnings = []
    servers = pythons.of_servers()
    for python, commands in servers.items():
        try:
            server = pythons.ask(python)
        except pythons.NoAnswer as why:
            warnings.append(f"the server {commands[0]} could not be looked into: {why}")
            continue
        if not server.has_server_half:
            warnings.append(
                f"the server {commands[0]} (environment {server.prefix}) does not know the "
                f"kernel's provisioner and will not show the kernel. Install it there with\n"
                f"  {server.pip_command}"
            )
    if not servers:
        warnings.append(
            "no Jupyter server was found on PATH. The one you use must have the server's half "
            f"too: pip install {pythons.DISTRIBUTION}, in its environment"
        )
    return warnings
