"""Looks around after a death: the processor, /dev/shm, the container, the GPU. Draws no conclusion.

Beside `evidence`, the only file of the post-mortem that looks at the system. Everything is
bounded: files of /proc take microseconds, and `nvidia-smi`, asked only where it is installed, has
2 s and is left behind if it does not answer (its driver may hang). What cannot be read is a note.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from . import proc
from .evidence import Evidence

SMI_TIMEOUT_S = 2.0  # for all calls of nvidia-smi together
_MIB = 1 << 20

# Container runtimes leave these (docker, podman; the kubelet sets the variable).
_CONTAINER_FILES = (Path("/.dockerenv"), Path("/run/.containerenv"))
_CONTAINER_VARIABLES = ("KUBERNETES_SERVICE_HOST", "container")


@dataclass(frozen=True)
class SharedMemory:
    """/dev/shm after the death: what the kernel held there alone is free again."""

    total_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class GpuProcess:
    """A process that computes on a GPU after the death; not the kernel, which is gone."""

    pid: int
    name: str
    used_bytes: int | None  # None: the driver does not tell (in containers, for one)


@dataclass(frozen=True)
class Gpu:
    """One GPU, as nvidia-smi sees it."""

    index: int
    name: str
    used_bytes: int | None
    total_bytes: int | None


@dataclass(frozen=True)
class Gpus:
    """What nvidia-smi and the kernel log say about this machine's GPUs."""

    devices: tuple[Gpu, ...] = ()
    processes: tuple[GpuProcess, ...] = ()
    xids: tuple[str, ...] = ()  # the driver's error reports in the kernel log, of this session


@dataclass(frozen=True)
class Surroundings:
    """The machine around a death. None where it could not be read."""

    in_container: bool = False
    usable_bytes: int | None = None  # memory of the machine, or less where a group allows less
    shared_memory: SharedMemory | None = None
    processor: proc.Processor | None = None
    gpus: Gpus | None = None


def looked_at(evidence: Evidence) -> Evidence:
    """The evidence of an exit that was just seen, with its surroundings. Never raises."""
    notes: list[str] = []
    around = Surroundings(
        in_container=_in_container(),
        usable_bytes=_usable_bytes(notes),
        shared_memory=_shared_memory(),
        processor=proc.processor(),
        gpus=_gpus(evidence.uptime_s, notes),
    )
    return dataclasses.replace(evidence, surroundings=around, notes=(*evidence.notes, *notes))


def _in_container() -> bool:
    return any(path.exists() for path in _CONTAINER_FILES) or any(
        os.environ.get(name) for name in _CONTAINER_VARIABLES
    )


def _usable_bytes(notes: list[str]) -> int | None:
    from .caps import limits  # which imports `config`; not needed while the kernel lives

    try:
        return limits.available_bytes()
    except (OSError, ValueError) as why:
        notes.append(f"the memory of the machine could not be read: {why!r}")
        return None


def _shared_memory() -> SharedMemory | None:
    try:
        found = os.statvfs("/dev/shm")
    except OSError:  # a system without it
        return None
    return SharedMemory(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)


# --- the GPU ---


def _gpus(session_s: float, notes: list[str]) -> Gpus | None:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    questions = (
        "--query-gpu=index,name,memory.used,memory.total",
        "--query-compute-apps=pid,process_name,used_memory",
    )
    try:
        answers = _answers(
            [[tool, question, "--format=csv,noheader,nounits"] for question in questions], notes
        )
        devices, processes = (rows(answer) for answer in answers)
        return Gpus(
            devices=tuple(
                Gpu(int(row[0]), row[1], _mib(row[2]), _mib(row[3]))
                for row in devices
                if len(row) == 4 and row[0].isdecimal()
            ),
            processes=tuple(
                GpuProcess(int(row[0]), row[1], _mib(row[2]))
                for row in processes
                if len(row) == 3 and row[0].isdecimal()
            ),
            xids=proc.gpu_errors(session_s),
        )
    except (OSError, ValueError) as why:
        notes.append(f"nvidia-smi could not be asked: {why!r}")
        return None


def rows(answer: str) -> list[list[str]]:
    """The rows of nvidia-smi's CSV. A name with a comma makes one too many, and is passed over."""
    return [[part.strip() for part in line.split(",")] for line in answer.splitlines()]


def _mib(text: str) -> int | None:
    """nvidia-smi counts in MiB, and says [N/A] or [Not Supported] where it cannot."""
    return int(text) * _MIB if text.isdecimal() else None


def _answers(commands: list[list[str]], notes: list[str]) -> list[str]:
    """What each command prints; "" for one that fails or is late. All run side by side."""
    # Slow to import, and needed at the end of a kernel on a machine with a GPU only.
    import subprocess

    started = [
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
            errors="replace",
        )
        for command in commands
    ]
    deadline = time.monotonic() + SMI_TIMEOUT_S
    answers = []
    for command, process in zip(commands, started, strict=True):
        try:
            answer, _ = process.communicate(timeout=max(0.05, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            # Not waited for: in a driver that hangs, SIGKILL does not end it either.
            process.send_signal(signal.SIGKILL)
            notes.append(f"{' '.join(command[:2])} did not answer in {SMI_TIMEOUT_S} s")
            answer = ""
        else:
            if process.returncode:
                said = answer.strip()[:200] or f"status {process.returncode}"
                notes.append(f"{' '.join(command[:2])} failed: {said}")
                answer = ""
        answers.append(answer)
    return answers
