"""What the provisioner tells the supervisor, and what the supervisor answers.

One JSON argument there, one JSON line back on a pipe. Does not start anything. Standard
library only: the supervisor reads it.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from checkpoint_kernel import session

SUPERVISOR_MODULE = "checkpoint_provisioner.supervisor"
KERNEL_MODULE = "checkpoint_kernel"


@dataclass(frozen=True)
class Launch:
    """Everything that one start of a kernel needs, decided by whoever starts it."""

    kernel_id: str
    notebook: str | None  # real path, None where nobody told us
    notebook_directory: str  # where its checkpoints, sessions and deaths are
    key_file: str
    settings: session.Settings
    memory_limit: str | None = None  # as configured: "8G", "50%"
    soft_limit: str = "85%"
    cpu_limit: float | None = None  # cores
    pids_limit: int | None = None
    nice: int | None = None
    status_fd: int | None = None  # one `Started` or an error is written here; None: stderr
    independent: bool = False  # the kernel outlives whoever started it
    # The private directory that an earlier start of this kernel used because its store could
    # not be: its last death is told from there.
    fallback_directory: str | None = None

    def to_json(self) -> str:
        """For the supervisor's argument list."""
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Launch:
        """The inverse of `to_json`. ValueError or TypeError if it is not one."""
        raw: dict[str, Any] = json.loads(text)
        settings = raw.pop("settings")
        for key in ("exclude", "include"):
            settings[key] = tuple(settings[key])
        return cls(settings=session.Settings(**settings), **raw)

    def argv(self, python: str, kernel_argv: list[str]) -> list[str]:
        """The supervisor's argument list; `python` is the interpreter that has this package."""
        return [python, "-m", SUPERVISOR_MODULE, self.to_json(), "--", *kernel_argv]


@dataclass(frozen=True)
class Started:
    """The supervisor's answer: the kernel runs."""

    kernel_pid: int
    kernel_pgid: int
    session_directory: str
    cap: session.Cap | None

    def to_line(self) -> bytes:
        """The line on the status pipe."""
        return json.dumps(dataclasses.asdict(self)).encode() + b"\n"


@dataclass(frozen=True)
class NotStarted:
    """The supervisor's answer: the kernel does not run, and why."""

    error: str

    def to_line(self) -> bytes:
        """The line on the status pipe."""
        return json.dumps(dataclasses.asdict(self)).encode() + b"\n"


def parse_answer(line: bytes) -> Started | NotStarted:
    """What `to_line` wrote."""
    raw: dict[str, Any] = json.loads(line)
    if "error" in raw:
        return NotStarted(raw["error"])
    cap = raw.pop("cap")
    return Started(cap=session.cap_of(cap) if cap else None, **raw)


def is_ours(kernel_argv: list[str]) -> bool:
    """Whether argv starts our kernel (`python -m checkpoint_kernel`), which reads the session."""
    return KERNEL_MODULE in kernel_argv
