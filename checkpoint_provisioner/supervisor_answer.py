"""Waits for the supervisor's answer on its pipe, without holding up the server's event loop.

What it may say is `launch`'s.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from typing import Any

from .launch import NotStarted, Started, parse_answer

LIMIT_S = 20.0


async def wait_for(read_fd: int, process: subprocess.Popen[Any] | None) -> Started | NotStarted:
    """What the supervisor `process` answers; it is killed if it does not within `LIMIT_S`."""
    os.set_blocking(read_fd, False)
    deadline = time.monotonic() + LIMIT_S
    line = b""
    while not line.endswith(b"\n"):
        try:
            data = os.read(read_fd, 65536)
        except BlockingIOError:
            if time.monotonic() > deadline:
                if process is not None:
                    process.kill()
                return NotStarted(f"no kernel after {LIMIT_S:.0f} s; see the server's log")
            await asyncio.sleep(0.005)
            continue
        if not data:
            code = process.wait() if process else None
            return NotStarted(
                f"the kernel's supervisor ended with {code} before it had a kernel: see the "
                "server's log, and `jupyter checkpoint doctor`"
            )
        line += data
    return parse_answer(line)
