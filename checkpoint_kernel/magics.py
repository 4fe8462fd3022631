"""`%checkpoint`: what the user can ask of the kernel; the answers are text. `HELP` lists them."""

from __future__ import annotations

import json
import shlex
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class

from . import left_behind, notice, rebuild_command, restore
from .contract import DEATHS
from .loader import CannotLoad
from .manifest import Manifest
from .missing import not_back
from .safe_point import IDLE
from .store import StoreError
from .touched import Touched
from .words import size

if TYPE_CHECKING:
    from .kernel import CheckpointKernel

HELP = """\
%checkpoint                          what is saved, what is not and why, and what it costs
%checkpoint save                     take a checkpoint now and wait for it
%checkpoint list                     the checkpoints of this notebook
%checkpoint restore [ID] [NAME ...]  bring variables back: all, or those named
%checkpoint rebuild NAME [NAME ...]  show the cells that made what could not be saved, and run them
                                     again if you say so
%checkpoint locals [ID]              locals of the functions that were running then
%checkpoint why                      what the last death was, and what to do; in a subshell, while
                                     a cell runs, first what that is doing
%checkpoint memory [--plot]          who has the memory, and which cells took it
%checkpoint off, %checkpoint on      stop taking checkpoints, and go on"""
SAVE_LIMIT_S = 600.0
STATUS_WAIT_S = 1.0


@magics_class
class CheckpointMagics(Magics):  # type: ignore[misc]
    """The magic, bound to the kernel that runs it."""

    def __init__(self, shell: Any, kernel: CheckpointKernel) -> None:
        super().__init__(shell)
        self._kernel = kernel
        shell.input_transformers_post.append(self._awaited)

    def _awaited(self, lines: list[str]) -> list[str]:
        return rebuild_command.awaited(lines) if self.shell.autoawait else lines

    @line_magic  # type: ignore[untyped-decorator]
    def checkpoint(self, line: str) -> Any:
        """What is saved of this notebook; `%checkpoint help` lists the commands."""
        verb, *arguments = shlex.split(line) or ["status"]
        command = getattr(self, f"_{verb}", None) if verb in _VERBS else None
        if command is None:
            raise UsageError(f"%checkpoint {verb}: there is no such command.\n{HELP}")
        return command(arguments)

    def _help(self, _arguments: list[str]) -> None:
        print(HELP)

    def _status(self, _arguments: list[str]) -> None:
        checkpointer = self._kernel.checkpointer
        if checkpointer is not None:
            # The last cell's checkpoint is usually milliseconds away from its commit.
            deadline = time.monotonic() + STATUS_WAIT_S
            if checkpointer.finish(deadline) and self._kernel.missed_a_cell:
                checkpointer.take("status", IDLE)
                checkpointer.finish(deadline)
        print(self._kernel.status())

    def _save(self, _arguments: list[str]) -> None:
        checkpointer = self._checkpointer()
        saved = checkpointer.save("save", IDLE, SAVE_LIMIT_S)
        if saved is None:
            raise UsageError(f"not saved: {checkpointer.settled.trouble or 'it took too long'}")
        written = size(checkpointer.settled.new_bytes or 0)
        print(
            f"saved: checkpoint {saved.id}, {len(saved.names)} variables, "
            f"{size(saved.size_bytes)} ({written} new on disk)"
        )
        for line in not_back(saved.skipped, "not saved"):
            print(line)
        for line in notice.partly_back(saved.partly, "saved"):
            print(line)

    def _list(self, _arguments: list[str]) -> None:
        store = self._kernel.the_store()
        print(notice.checkpoints(store.manifests(), self._kernel.session_record.line))
        for path, reason in store.damaged:
            print(f"damaged: {path.name}: {reason}")

    def _restore(self, arguments: list[str]) -> None:
        store = self._kernel.the_store()
        everything = store.manifests()
        chosen, names = self._choose(everything, arguments)
        checkpointer = self._kernel.checkpointer
        if checkpointer is not None:
            checkpointer.carry_over.touches.add(Touched(blind="a restore by hand"))
        try:
            with self._kernel.unlimited():
                report = restore.on_request(self.shell, store, chosen, names)
        except StoreError as why:
            raise UsageError(str(why)) from why
        if checkpointer is not None:
            checkpointer.own_modules.restored(report.restored)
            checkpointer.left_behind = left_behind.after(
                checkpointer.left_behind, chosen, report, time.time()
            )
            checkpointer.observed.passes_over(self.shell.user_ns, report.restored)
            if not names:
                checkpointer.still_missing.restored_by_hand(report.not_restored, self.shell.user_ns)
        if not names:
            self._kernel.restored_by_hand()
        left = [] if names else [name for name in chosen.names if name.startswith("Out[")]
        lacking = self._lacking(report.restored, chosen)
        print(notice.after_request(report, chosen, lacking, left))

    def _lacking(self, names: Sequence[str], chosen: Manifest) -> list[tuple[str, list[str]]]:
        """Restored functions, and globals of theirs that only the checkpoint has."""
        live, found = self.shell.user_ns, []
        for name in names:
            code = getattr(live.get(name), "__code__", None)
            lacking = sorted(set(getattr(code, "co_names", ())) & set(chosen.names) - set(live))
            if lacking:
                found.append((name, lacking))
        return found

    def _choose(
        self, everything: list[Manifest], arguments: list[str]
    ) -> tuple[Manifest, list[str]]:
        """ID is optional: a first word that begins a checkpoint's id is one.

        Without it, names are looked for in the default one, else in the newest that holds them.
        """
        if arguments:
            matches = [m for m in everything if m.id.startswith(arguments[0])]
            if len(matches) == 1:
                return matches[0], arguments[1:]
            if len(matches) > 1 and arguments[0][:2].isdigit():
                raise UsageError(
                    f"{len(matches)} checkpoints begin with {arguments[0]}: "
                    + ", ".join(m.id for m in matches)
                )
            if not all(map(str.isidentifier, arguments[0].split("."))):
                raise UsageError(f"no checkpoint {arguments[0]}: see %checkpoint list")
        chosen = self._kernel.default_checkpoint(everything)
        if chosen is None:
            raise UsageError("there is no checkpoint to restore: see %checkpoint list")
        holding = [m for m in [*everything, chosen] if set(arguments) <= set(m.names)]
        return (holding or [chosen])[-1], arguments

    def _rebuild(self, arguments: list[str]) -> Any:
        return rebuild_command.run(self._kernel, arguments)

    def _locals(self, arguments: list[str]) -> dict[str, Any] | None:
        store = self._kernel.the_store()
        chosen, _ = self._choose(store.manifests(), arguments)
        try:
            frames = restore.load_locals(self.shell.user_ns, store, chosen)
        except (StoreError, CannotLoad) as why:
            raise UsageError(str(why)) from why
        if not frames:
            print(f"No function was running when checkpoint {chosen.id} was taken.")
            return None
        print(f"Locals saved in checkpoint {chosen.id}; `frames = %checkpoint locals` keeps them.")
        return frames

    def _why(self, _arguments: list[str]) -> None:
        if threading.current_thread() is not threading.main_thread():
            print(f"{self._kernel.doing_now()}\n")  # asked in a subshell
        directory = Path(self._kernel.session_record.notebook_directory)
        names = sorted(path.name for path in (directory / DEATHS).glob("*.json"))
        if not names:
            print("No death of this notebook's kernel is on record.")
            return
        found = (notice.read_death(directory, name) for name in reversed(names[:-1]))
        earlier = (record for record in found if record is not None)
        print(notice.why(json.loads((directory / DEATHS / names[-1]).read_bytes()), earlier))

    def _memory(self, arguments: list[str]) -> None:
        from . import memory_command  # psutil and more that most kernels never need

        kernel = self._kernel
        cap, directory = kernel.session_record.cap, kernel.session_directory
        memory_command.run(self.shell, kernel.memory_use, cap, directory, arguments)

    def _off(self, _arguments: list[str]) -> None:
        self._kernel.switch(False)
        print("Checkpointing is off until %checkpoint on, or until the kernel restarts.")

    def _on(self, _arguments: list[str]) -> None:
        self._kernel.switch(True)
        print("Checkpointing is on.")

    def _checkpointer(self) -> Any:
        checkpointer = self._kernel.checkpointer
        if checkpointer is None:
            raise UsageError(f"checkpointing is off: {self._kernel.off_because}")
        return checkpointer


_VERBS = frozenset(
    {"status", "help", "save", "list", "restore", "rebuild", "locals", "why", "memory", "off", "on"}
)
