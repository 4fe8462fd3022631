"""Whether another Python has the kernel's half: asked before a kernel is started with it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from .launch import KERNEL_MODULE

LIMIT_S = 10.0
_found: set[tuple[str, int]] = set()  # pythons that have it, and their mtime in ns


async def check_importable(python: str, env: dict[str, str] | None, cwd: str | None = None) -> None:
    """RuntimeError naming `python` and the remedy if it lacks `checkpoint_kernel`.

    A python that has it is not asked again until it changes.
    """
    try:
        known = (python, Path(python).stat().st_mtime_ns)
    except OSError:
        known = None  # a name on PATH: ask it
    if known in _found:
        return
    code = (
        f"import importlib.util, sys; sys.exit(importlib.util.find_spec({KERNEL_MODULE!r}) is None)"
    )
    remedy = f"{python} -m pip install checkpoint-kernel"
    try:
        asked = await asyncio.create_subprocess_exec(
            python,
            "-c",
            code,
            env=env,
            cwd=cwd,  # `-m` and `-c` look there first
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as why:
        raise RuntimeError(f"the kernel's Python {python} cannot be run: {why.strerror}") from why
    try:
        status = await asyncio.wait_for(asked.wait(), LIMIT_S)
    except TimeoutError:
        asked.kill()
        await asked.wait()
        raise RuntimeError(
            f"the kernel's Python {python} did not answer in {LIMIT_S:.0f} s"
        ) from None
    if status != 0:
        raise RuntimeError(
            f"the kernel's Python {python} has no {KERNEL_MODULE}; install it there: {remedy}"
        )
    if known is not None:
        _found.add(known)
