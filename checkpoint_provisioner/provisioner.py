"""The provisioner: starts kernels through the supervisor, and tells it what was asked of them.

Which notebook, which config and what a start error says; the kernel's life and death are the
supervisor's. Its process is the supervisor, which ends with the kernel's status.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from jupyter_core.paths import jupyter_data_dir
from traitlets import Any as AnyTrait

from checkpoint_kernel import contract, flight_recorder, session

from . import (
    config,
    descendants,
    last_look,
    notebook,
    post_mortem,
    server_request,
    supervisor_answer,
)
from .caps import policy
from .kernel_process import KernelProcess
from .launch import Launch, NotStarted, Started, is_ours
from .other_python import check_importable

# A supervisor that is still there so long after a kernel that we killed hangs.
HUNG_SUPERVISOR_S = 3.0
# The kernel notes its memory every second.
STUCK_AFTER_S = 3.0
# A slow disk; the memory stands for what a last checkpoint has to write at most.
SAVED_BYTES_PER_S = 50e6
# What KernelProvisionerFactory gives beside the config of kernel.json.
_FROM_FACTORY = ("kernel_id", "kernel_spec", "parent", "config")


class CheckpointProvisioner(LocalProvisioner):
    """Starts a kernel that is checkpointed, capped and explained."""

    # No default here is the product's: `config.parse` has those. A trait that is set is the
    # operator's default for all kernels; kernel.json's config overrides it.
    memory_limit = AnyTrait(
        None, help="Cap for a kernel and all its children: bytes, 512M, 8G, or 50%."
    ).tag(config=True)
    soft_limit = AnyTrait(
        None,
        help="Above it a restore takes the state from before a cell that ran out of memory: as "
        "memory_limit; % is of the cap. 85%.",
    ).tag(config=True)
    cpu_limit = AnyTrait(
        None, help="Cores that a kernel and all its children may use, such as 1.5. No limit."
    ).tag(config=True)
    pids_limit = AnyTrait(
        None, help="Processes and threads that a kernel and its children may have. No limit."
    ).tag(config=True)
    nice = AnyTrait(
        None, help="Niceness of a kernel and its children, 0 to 19. As the server's."
    ).tag(config=True)
    checkpoint_interval = AnyTrait(
        None, help="Seconds between checkpoints inside a long cell; 0 is off. 30."
    ).tag(config=True)
    checkpoint_after_cell = AnyTrait(
        None, help="Whether a checkpoint is made when a cell ends. True."
    ).tag(config=True)
    restore = AnyTrait(
        None, help="When variables come back by themselves: crash, always or never. crash."
    ).tag(config=True)
    store = AnyTrait(
        None, help="Directory of the checkpoints. `checkpoints` in the Jupyter data directory."
    ).tag(config=True)
    keep = AnyTrait(None, help="Checkpoints kept per notebook. 20.").tag(config=True)
    store_limit = AnyTrait(
        None, help="Disk quota per user. The smaller of 20 % of the free disk and 20 GB."
    ).tag(config=True)
    exclude = AnyTrait(None, help="Glob patterns of names never saved. None.").tag(config=True)
    include = AnyTrait(
        None, help="Glob patterns of names that are saved though they look like secrets. None."
    ).tag(config=True)
    shutdown_wait = AnyTrait(
        None, help="Seconds that a last checkpoint may take when a kernel is asked to go. 30."
    ).tag(config=True)

    def __init__(self, **kwargs: Any) -> None:
        # kernel.json's config arrives as keyword arguments. traitlets ignores unknown ones,
        # and an error here would lose its text, so they are kept and checked at the start.
        self._kernel_json = {k: v for k, v in kwargs.items() if k not in _FROM_FACTORY}
        known = {k: v for k, v in kwargs.items() if k in (*_FROM_FACTORY, *config.KEYS)}
        super().__init__(**known)
        self.session_directory: Path | None = None  # of the kernel that runs or ran last
        # The notebook of this kernel_id, and where it keeps its records.
        self._settled: tuple[notebook.Notebook, Path] | None = None
        self._fallback: Path | None = None
        self._kernel: KernelProcess | None = None
        self._kernel_gone_since: float | None = None
        self._killing = False
        self._restarting = False  # of the last shutdown request
        self._looking = False  # the supervisor has been asked for the stacks of this kernel
        self._shutdown_wait_s = 0.0  # of the kernel that runs
        self._told = False  # the end of this kernel is logged
        self._cleared = False  # what it left under a killed supervisor is gone
        self._passed_env: dict[str, str] | None = None

    # --- starting ---

    def config_now(self) -> config.Config:
        """The config in force; ConfigError for a key or value that may not be."""
        values = {key: getattr(self, key) for key in config.KEYS}
        return config.parse({**values, **self._kernel_json})

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Refuse a bad config before anything is started; note what the frontend passed."""
        self.config_now()
        self._passed_env = await self._with_notebook(kwargs.get("env"))
        launch_kwargs: dict[str, Any] = await super().pre_launch(**kwargs)
        return launch_kwargs

    async def _with_notebook(self, env: dict[str, str] | None) -> dict[str, str] | None:
        """The frontend's `env`, its notebook filled in from the request if it is not there."""
        name = (env or {}).get(notebook.SESSION_NAME)
        if env is None or not name or not notebook.names_directory(name):
            return env
        try:
            path = await server_request.notebook_path()
        except Exception as why:  # of another server version, or of a client's odd request
            self.log.warning("the notebook of kernel %s is not known: %r", self.kernel_id, why)
            path = None
        return {**env, notebook.SESSION_NAME: path or ""}

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """Start the supervisor, and return when the kernel runs under it.

        RuntimeError with the reason if it does not: the frontend shows it.
        """
        # Not by their real paths: two virtual environments are often links to one Python.
        if is_ours(cmd) and cmd[0] != sys.executable:
            await check_importable(cmd[0], kwargs.get("env"), kwargs.get("cwd"))
        settings = self.config_now()
        read_fd, write_fd = os.pipe()
        try:
            launch = self._launch(settings, kwargs, write_fd)
            pass_fds = (*kwargs.pop("pass_fds", ()), write_fd)
            try:
                connection_info = await super().launch_kernel(
                    launch.argv(sys.executable, cmd), pass_fds=pass_fds, **kwargs
                )
            finally:
                os.close(write_fd)
            answer = await supervisor_answer.wait_for(read_fd, self.process)
        finally:
            os.close(read_fd)
        if isinstance(answer, NotStarted):
            await super().wait()  # reaps the supervisor: there is no kernel
            raise RuntimeError(answer.error)
        self._shutdown_wait_s = settings.shutdown_wait
        self._started(answer)
        return connection_info

    def _launch(self, settings: config.Config, kwargs: dict[str, Any], status_fd: int) -> Launch:
        data = Path(jupyter_data_dir())
        root = Path(settings.store) if settings.store else data / contract.STORE_DIRECTORY
        found, directory = self._settle_notebook(root, kwargs)
        return Launch(
            kernel_id=self.kernel_id or "",
            notebook=found.path,
            notebook_directory=str(directory),
            key_file=str(data / contract.KEY_FILE),
            settings=settings.settings(),
            memory_limit=settings.memory_limit,
            soft_limit=settings.soft_limit,
            cpu_limit=settings.cpu_limit,
            pids_limit=settings.pids_limit,
            nice=settings.nice,
            status_fd=status_fd,
            independent=bool(kwargs.get("independent", False)),
            fallback_directory=str(self._fallback) if self._fallback else None,
        )

    def _settle_notebook(
        self, root: Path, kwargs: dict[str, Any]
    ) -> tuple[notebook.Notebook, Path]:
        """One kernel_id stays with one directory; it moves along when the notebook does."""
        manager = getattr(self.parent, "parent", None)
        found = notebook.of_frontend(
            self._passed_env,
            kwargs.get("cwd"),
            getattr(manager, "root_dir", None),
            self.kernel_id or "unknown",
        )
        target = root / found.key
        settled = self._settled
        if settled is not None and settled[1].parent == root:
            before, directory = settled
            moved = before.path is not None and not Path(before.path).exists()
            if found.path in (None, before.path) or not moved or target.exists():
                return settled
            try:
                directory.rename(target)
            except OSError as why:
                self.log.warning("%s keeps its old name: %s", directory, why)
                return settled
        self._settled = found, target
        return self._settled

    def _started(self, answer: Started) -> None:
        self.pid, self.pgid = answer.kernel_pid, answer.kernel_pgid
        self.session_directory = Path(answer.session_directory)
        used = self.session_directory.parent.parent
        if self._settled is not None and used.parent == self._settled[1].parent:
            self._settled = self._settled[0], used  # perhaps a sibling, which stays ours
            self._fallback = None
        else:
            self._fallback = used
        self._kernel_gone_since = None
        self._killing = False
        self._restarting = False
        self._looking = False
        self._told = False
        self._cleared = False
        if self._kernel is not None:
            self._kernel.close()
        self._kernel = KernelProcess(answer.kernel_pid, answer.kernel_pgid)

    # --- living and ending ---

    async def poll(self) -> int | None:
        """None while kernel or supervisor live, then the kernel's status; 0 without a process."""
        if self.process is None:
            return 0
        self._end_hung_supervisor()
        status: int | None = self.process.poll()
        if status is None:
            return None
        if self._supervisor_was_killed(status):
            # Nobody else is left to do it: the kernel must not outlive its record.
            if self._kernel is not None and not self._kernel.gone:
                self._kernel.kill()
                return None
            self._clear_after_supervisor()
        self._tell_death()
        return status

    async def wait(self) -> int | None:
        """Wait for the end of the kernel."""
        status: int | None = await super().wait()
        if self._kernel is not None:
            self._kernel.close()
        return status

    async def send_signal(self, signum: int) -> None:
        """To the kernel's process group only; the supervisor needs none."""
        if await self.poll() is None and self._kernel is not None:
            self._kernel.signal(signum)

    async def shutdown_requested(self, restart: bool = False) -> None:
        """Write down that somebody asked, if the kernel lives."""
        self._restarting = restart
        if await self.poll() is None:
            self._intend("restart" if restart else "shutdown")
            self._set_reason("")

    def get_shutdown_wait_time(self, recommended: float = 5.0) -> float:
        """Seconds until SIGKILL, of which half pass before SIGTERM: enough for a last checkpoint.

        A kernel that is done earlier ends earlier. A restart begins clean and saves nothing.
        """
        if self._restarting or self.session_directory is None:
            return recommended
        flight = flight_recorder.read(self.session_directory / contract.FLIGHT_FILE)
        if flight is None:
            return recommended
        wait_s = shutdown_wait_s(flight, time.time(), recommended, self._shutdown_wait_s)
        return max(recommended, wait_s)

    async def terminate(self, restart: bool = False) -> None:
        """SIGTERM to the kernel's group."""
        if await self.poll() is None and self._kernel is not None:
            self._intend("terminate")
            self._kernel.signal(signal.SIGTERM)
            self._look()

    async def kill(self, restart: bool = False) -> None:
        """SIGKILL to the kernel's group; to the supervisor only if it then hangs, see `poll`."""
        if await self.poll() is None and self._kernel is not None:
            await self._looked()
            self._intend("kill")
            self._killing = True
            self._kernel.kill()

    def _look(self) -> None:
        """Have the supervisor take the stacks of a kernel that does not answer a restart.

        Not where it was told to go at once (`now=True`) or for good: nobody would read them.
        """
        if self._restarting and not self._looking and self.process is not None:
            self._looking = True
            self.process.send_signal(contract.STACKS_SIGNAL)

    async def _looked(self) -> None:
        """Wait a moment until they are on record; they were asked for when half the time was up."""
        self._look()
        if not self._looking or self.session_directory is None or self._kernel is None:
            return
        deadline = time.monotonic() + last_look.KILL_WAIT_S
        while time.monotonic() < deadline and not self._kernel.gone:
            if last_look.is_complete(self.session_directory):
                return
            await asyncio.sleep(0.02)

    async def cleanup(self, restart: bool = False) -> None:
        """Free what is ours; may come never, or twice."""
        status = await self.poll()
        if not restart and status is not None and self._fallback is not None:
            # The kernel_id ends here, and nobody else knows of its private directory.
            shutil.rmtree(self._fallback, ignore_errors=True)
            self._fallback = None
        await super().cleanup(restart=restart)

    def _intend(self, action: str) -> None:
        if self.session_directory is None:
            return
        try:
            session.append_intent(self.session_directory, action)
        except OSError as why:
            self.log.warning("the kernel's end will be taken for a death: %s", why)

    def _end_hung_supervisor(self) -> None:
        if not self._killing or self._kernel is None or not self._kernel.gone:
            return
        now = time.monotonic()
        self._kernel_gone_since = self._kernel_gone_since or now
        if now - self._kernel_gone_since > HUNG_SUPERVISOR_S:
            self.log.warning("the supervisor of kernel %s hangs: it is killed", self.kernel_id)
            _kill(self.process)

    def _supervisor_was_killed(self, status: int) -> bool:
        """It ends by SIGKILL when the kernel did, but then it has left an exit marker."""
        if self.session_directory is None or status >= 0:
            return False
        return not (self.session_directory / contract.EXIT_FILE).exists()

    def _clear_after_supervisor(self) -> None:
        """Once: what the kernel left running, and its cgroups. The next start does it again."""
        directory = self.session_directory
        if self._cleared or directory is None or descendants.is_saving(directory):
            return
        self._cleared = True
        try:
            ended = [] if self._killing else descendants.end_session(directory.name, within_s=0.5)
            began = session.load_session(directory)
            left = policy.remove_stale(began) if began else []
        except (OSError, ValueError, TypeError) as why:
            ended, left = [], [str(why)]
        for one in ended:
            self.log.warning("kernel %s left %s (%s): killed", self.kernel_id, one.pid, one.name)
        for why_left in left:
            self.log.warning("the cgroup of kernel %s is still there: %s", self.kernel_id, why_left)

    def _tell_death(self) -> None:
        """Once per kernel: what the supervisor found goes to the log and to the REST model."""
        if self._told or self.session_directory is None:
            return
        self._told = True
        text = post_mortem.told(self.session_directory)
        if text is None:
            return
        self.log.warning("Kernel %s: %s", self.kernel_id, text)
        self._set_reason(text)

    def _set_reason(self, text: str) -> None:
        """`reason` in jupyter_server's model of the kernel (REST), where it has one."""
        if self.parent is not None and hasattr(self.parent, "reason"):
            self.parent.reason = text


def shutdown_wait_s(
    flight: flight_recorder.Flight, now: float, recommended_s: float, limit_s: float
) -> float:
    """How long a kernel may take to go, saving what it has; `now` is `time.time()`."""
    if now - flight.sampled > STUCK_AFTER_S:
        return recommended_s  # one call of C code keeps all threads from running: nothing is saved
    checkpoints = 1 if flight.snapshot_pid is None else 2  # the one under way, and the last
    return min(recommended_s + checkpoints * flight.rss_bytes / SAVED_BYTES_PER_S, limit_s)


def _kill(process: subprocess.Popen[Any] | None) -> None:
    if process is not None:
        process.kill()
