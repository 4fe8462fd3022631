"""CRIU: the whole process, dumped after each cell and left running, as root.

Version 4 or newer for current kernels; where it does not run, `unavailable` says why.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from harness.environment import Environment
from kernels import CellFailed, Kernel, Start
from peers import STOCK, Peer


def unavailable() -> str | None:
    """Why it cannot be measured here, or None."""
    criu = shutil.which("criu")
    if criu is None:
        return "criu is not installed"
    if os.geteuid() != 0:
        return "criu needs root"
    checked = subprocess.run([criu, "check"], capture_output=True, text=True)
    if checked.returncode != 0:
        lines = (checked.stdout + checked.stderr).strip().splitlines()
        return f"`criu check` fails: {lines[-1] if lines else checked.returncode}"
    return None


class Criu(Peer):
    """`criu dump --leave-running`, `criu restore`; the newest image is kept."""

    name = "CRIU"
    saves = True

    def __init__(self, environment: Environment, directory: Path) -> None:
        super().__init__(environment, directory)
        self._criu = shutil.which("criu") or "criu"
        self._count = 0
        self._image: Path | None = None
        self._restored: subprocess.Popen[bytes] | None = None

    def variables(self) -> Mapping[str, str]:
        # A file that somebody else has written to since the dump cannot be restored: IPython's
        # history must be this kernel's alone.
        return {**super().variables(), "IPYTHONDIR": str(self.directory / "ipython")}

    def start(self) -> Start:
        # A restored process has another parent: ipykernel must not watch it.
        return Start(STOCK, self.variables(), arguments=("--IPKernelApp.parent_handle=0",))

    def after_cell(self, kernel: Kernel) -> None:
        self._count += 1
        image = self.directory / f"image-{self._count}"
        image.mkdir()
        options = ["--leave-running", "--shell-job", "--tcp-established", "--ext-unix-sk"]
        options += ["--file-locks", "--network-lock", "skip", "-o", "dump.log"]
        command = [self._criu, "dump", "-t", str(kernel.pid), "-D", str(image), *options]
        before_s = _children_s()
        dumped = subprocess.run(command, capture_output=True)
        self.own_processor_s += _children_s() - before_s
        if dumped.returncode != 0:
            raise CellFailed(f"criu dump: {_end_of(image / 'dump.log')}")
        before, self._image = self._image, image
        self.written()
        if before is not None:
            shutil.rmtree(before)

    def start_again(self, kernel: Kernel) -> None:
        image = self._image
        if image is None:
            raise CellFailed("there is no image to restore")
        options = ["--shell-job", "--tcp-close", "--ext-unix-sk", "--file-locks"]
        self._restored = subprocess.Popen(
            [self._criu, "restore", "-D", str(image), *options, "-o", "restore.log"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        process = self._restored
        # The manager started another process than the one that lives now.
        kernel.manager.is_alive = lambda: process.poll() is None
        try:
            kernel.connect()
        except RuntimeError as why:
            raise CellFailed(f"criu restore: {_end_of(image / 'restore.log')}") from why

    def clear(self) -> None:
        if self._restored is not None:
            self._restored.kill()
            self._restored.wait()

    def files(self) -> Iterable[Path]:
        return [] if self._image is None else self._image.iterdir()


def version() -> str | None:
    """Of the installed one."""
    criu = shutil.which("criu")
    if criu is None:
        return None
    said = subprocess.run([criu, "--version"], capture_output=True, text=True).stdout.split()
    return said[1] if len(said) > 1 else None


def _children_s() -> float:
    """Processor time of the processes that this one has started and reaped."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _end_of(log: Path) -> str:
    return log.read_text()[-200:] if log.exists() else "no log"
