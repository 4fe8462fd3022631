"""`jupyter checkpoint doctor`: what is in the way of the kernel, and what to do about it.

The platform, the two halves and the kernelspecs; the store is `doctor_machine`'s, the limits
`doctor_limits`', and what a death leaves `doctor_evidence`'s. Looks and tries, and leaves
nothing behind. Each check returns values.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from checkpoint_kernel.contract import PROVISIONER_NAME

from . import (
    config,
    doctor_evidence,
    doctor_limits,
    doctor_machine,
    doctor_probes,
    installed,
    pythons,
)
from .doctor_machine import Check, Level
from .installed import Spec
from .kernelspec import KERNEL_FILE

_FORK_GLIBC = (2, 34)


def examine(roots: Sequence[Path]) -> dict[str, list[Check]]:
    """Every check, under the headings of a kernel's life: start, store, limits, death."""
    stores = sorted({*roots, *installed.stores()})
    try:
        tried = doctor_probes.run()
        limits, attaching_refused = doctor_limits.limits(tried), tried.ptrace
    except doctor_probes.NotTried as why:
        said = f"what can be enforced here could not be tried: {why}"
        limits, attaching_refused = [Check("memory cap", "fail", said, "report this")], ""
    return {
        "Installation": [*_platform(), *_server_halves(), *_kernelspecs(installed.specs())],
        "Checkpoints": [
            *(check for store in stores for check in doctor_machine.store(store)),
            doctor_machine.key(),
        ],
        "Limits": limits,
        "Evidence of a death": doctor_evidence.evidence(attaching_refused),
    }


def as_text(found: dict[str, list[Check]]) -> str:
    """For people."""
    every = [check for checks in found.values() for check in checks]
    width = max(len(check.name) for check in every)
    parts = []
    for heading, checks in found.items():
        rows = []
        for check in checks:
            lines = _wrapped(check.said)
            if check.remedy:
                lines += _wrapped(f"-> {check.remedy}")
            rows.append([check.level.ljust(4), check.name.ljust(width), "\n".join(lines)])
        with_spaces = tabulate(
            rows, tablefmt="plain", disable_numparse=True, preserve_whitespace=True
        )
        parts.append(f"{heading}\n{with_spaces}")
    bad = {level: sum(check.level == level for check in every) for level in ("fail", "warn")}
    parts.append(f"{len(every)} checks: {bad['fail']} failed, {bad['warn']} to know about")
    return "\n\n".join(parts)


def _wrapped(text: str) -> list[str]:
    """Paths and commands stay whole, to be copied."""
    return textwrap.wrap(text, 88, break_long_words=False, break_on_hyphens=False)


# --- platform ---


def _platform() -> list[Check]:
    system = f"{platform.system()} {platform.release()}, {platform.machine()}"
    if sys.platform != "linux":
        remedy = "use Linux; WSL and containers count"
        return [Check("platform", "fail", f"{system}: only Linux is supported", remedy)]
    python = Check("python", "ok", f"{platform.python_version()} at {pythons.own()}")
    return [Check("platform", "ok", system), _glibc(), python]


def _glibc() -> Check:
    try:
        version = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):  # musl does not know the name
        version = ""
    found = re.fullmatch(r"glibc (\d+)\.(\d+).*", version)
    if found and (int(found[1]), int(found[2])) >= _FORK_GLIBC:
        return Check("glibc", "ok", f"{version}: checkpoints are written by a forked process")
    return Check(
        "glibc",
        "warn",
        f"{version or 'not glibc'}: without _Fork (glibc 2.34) a checkpoint is written while the "
        "cell waits",
        "use a system from 2022 or later, such as Debian 12, Ubuntu 22.04 or RHEL 9",
    )


# --- the two halves ---


def _server_halves() -> list[Check]:
    servers = pythons.of_servers()
    asked = {**servers}
    asked[pythons.own()] = ["this command", *servers.get(pythons.own(), [])]
    # The first on PATH is the one that `jupyter lab` starts; others may be of other projects.
    ours = (pythons.own(), next(iter(servers), pythons.own()))
    checks = [
        _server_half(python, commands, "fail" if python in ours else "warn")
        for python, commands in asked.items()
    ]
    if not servers:
        said = "no Jupyter server was found on PATH, so none was looked into"
        checks.append(Check("server half", "warn", said, "run this where you start the server"))
    return checks


def _server_half(python: str, commands: list[str], level_without: Level) -> Check:
    name = "server half"
    try:
        found = pythons.ask(python)
    except pythons.NoAnswer as why:
        return Check(name, "warn", f"{commands[0]}: {why}", "repair that environment")
    if found.has_server_half:
        return Check(name, "ok", f"{found.prefix} has it ({', '.join(commands)})")
    said = (
        f"{found.prefix} ({', '.join(commands)}) does not know {PROVISIONER_NAME}: "
        "its frontends hide the kernel"
    )
    return Check(name, level_without, said, found.pip_command)


def _kernelspecs(specs: list[Spec]) -> list[Check]:
    if not specs:
        said = "none uses the provisioner: no frontend offers the kernel"
        return [Check("kernelspec", "warn", said, "jupyter checkpoint install")]
    return [_kernelspec(spec) for spec in specs]


def _kernelspec(spec: Spec) -> Check:
    where = str(spec.directory)
    if spec.hidden_by is not None:
        said = f"{where} is hidden by {spec.hidden_by}, which comes first"
        return Check("kernelspec", "warn", said, f"remove one of them: rm -r {where}")
    try:
        if not isinstance(spec.config, dict):
            raise config.ConfigError('config: it must be an object, such as {"memory_limit": "8G"}')
        config.parse(spec.config)
        python = str(spec.raw["argv"][0])
    except config.ConfigError as why:
        return Check("kernelspec", "fail", f"{where}: {why}", f"edit {where}/{KERNEL_FILE}")
    except (KeyError, IndexError, TypeError):
        remedy = "jupyter checkpoint install"
        return Check("kernelspec", "fail", f"{where}: it has no usable argv", remedy)
    try:
        # jupyter_client reads a bare "python" as the server's own.
        path = pythons.own() if pythons.is_own(python) else pythons.absolute(python)
        found = pythons.ask(path)
    except pythons.NoAnswer as why:
        remedy = "jupyter checkpoint install --python PATH"
        return Check("kernelspec", "fail", f"{where}: {why}", remedy)
    if found.missing:
        said = f"{where}: {found.path} lacks {', '.join(found.missing)} of the kernel's half"
        return Check("kernelspec", "fail", said, found.pip_command)
    return Check("kernelspec", "ok", f"{where} starts {found.path}")
