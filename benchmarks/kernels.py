"""A real kernel, driven over jupyter_client as a frontend does it.

Times are what the user sees: from the execute request to the reply and the idle status.
What is run and what it means is the callers'.
"""

from __future__ import annotations

import ast
import json
import os
import queue
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager
from processes import launched_by_us, started

_START_LIMIT_S = 120.0
_TICK_S = 0.5


class CutOff(Exception):
    """The time that one peer may take on one workload is over."""


class CellFailed(Exception):
    """The user's cell raised; the message names it."""


@dataclass(frozen=True)
class Cell:
    """What became of one cell. `began` is on the monotonic clock; times in seconds."""

    began: float
    took_s: float
    text: str  # what it printed


@dataclass(frozen=True)
class Start:
    """How a kernel is started: kernelspec, environment, Python (None: the kernelspec's)."""

    name: str
    variables: Mapping[str, str]
    python: str | None = None
    arguments: tuple[str, ...] = ()


class Kernel:
    """A kernel, from launch to close. Every wait ends with CutOff at `deadline` (monotonic)."""

    def __init__(self, how: Start, deadline: float) -> None:
        self.deadline = deadline
        # Named as servers name it; kishu looks for that.
        runtime = Path(how.variables["JUPYTER_RUNTIME_DIR"])
        runtime.mkdir(parents=True, exist_ok=True)
        place = runtime / f"kernel-{uuid.uuid4()}.json"
        self.manager = KernelManager(kernel_name=how.name, connection_file=str(place))
        if how.python is not None and self.manager.kernel_spec is not None:
            self.manager.kernel_spec.argv[0] = how.python
        self.manager.start_kernel(
            env=dict(how.variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            extra_arguments=list(how.arguments),
        )
        self.client: BlockingKernelClient = self.manager.blocking_client()

    def connect(self) -> None:
        """Wait until it answers on both channels; sets `pid`, `root` and `ready_s`.

        `ready_s`: from the start of the process that the manager launched (of the
        supervisor, where there is one) until the kernel answers.
        """
        self.client = client = self.manager.blocking_client()
        client.start_channels()
        limit = min(time.monotonic() + _START_LIMIT_S, self.deadline)
        while not self._answers(client):
            if not self.manager.is_alive():
                raise RuntimeError("the kernel died while it started")
            if time.monotonic() > limit:
                raise CutOff("the kernel did not start")
        answered = time.clock_gettime(time.CLOCK_BOOTTIME)
        self.pid = int(self.value("__import__('os').getpid()"))
        self.root = launched_by_us(self.pid)
        self.ready_s = answered - started(self.root)

    def _answers(self, client: BlockingKernelClient) -> bool:
        request = client.kernel_info()
        while True:
            try:
                reply = client.get_shell_msg(timeout=2)
            except queue.Empty:
                return False
            if reply["parent_header"].get("msg_id") == request:
                break
        try:
            client.get_iopub_msg(timeout=0.1)  # the subscription has arrived
        except queue.Empty:
            return False
        return True

    # --- cells --------------------------------------------------------------------------

    def run(self, code: str) -> Cell:
        """Run a cell as the user does. CellFailed if it raises."""
        began = time.monotonic()
        content, text = self._finish(self.client.execute(code))
        took_s = time.monotonic() - began
        if content["status"] != "ok":
            raise CellFailed(f"{code[:60]!r}: {content.get('ename')}: {content.get('evalue')}")
        return Cell(began, took_s, text)

    def send(self, code: str) -> None:
        """Run a cell and do not wait for it."""
        self.client.execute(code)

    def hidden(self, code: str) -> None:
        """Run code that is no cell: no hook sees it. CellFailed if it raises."""
        content, _ = self._finish(self.client.execute(code, silent=True, store_history=False))
        if content["status"] != "ok":
            raise CellFailed(f"{code[:60]!r}: {content.get('ename')}: {content.get('evalue')}")

    def value(self, expression: str) -> Any:
        """The value of an expression, through JSON. CellFailed if it cannot be had."""
        text = f"__import__('json').dumps({expression})"
        request = self.client.execute("", silent=True, user_expressions={"it": text})
        content, _ = self._finish(request)
        answer = content.get("user_expressions", {}).get("it", content)
        if answer.get("status") != "ok" or "data" not in answer:
            raise CellFailed(f"{expression[:60]!r}: {answer.get('ename')}: {answer.get('evalue')}")
        return json.loads(ast.literal_eval(answer["data"]["text/plain"]))

    def _finish(self, request: str) -> tuple[dict[str, Any], str]:
        """Wait for reply and idle; the reply's content, and what was printed."""
        reply: dict[str, Any] | None = None
        text: list[str] = []
        idle = False
        while reply is None or not idle:
            if reply is None:
                reply = self._reply(request)
            if not idle:
                idle = self._listen(request, text)
            if time.monotonic() > self.deadline:
                raise CutOff
            if (reply is None or not idle) and not self.manager.is_alive():
                raise RuntimeError("the kernel died")
        return reply, "".join(text)

    def _reply(self, request: str) -> dict[str, Any] | None:
        try:
            message = self.client.get_shell_msg(timeout=_TICK_S)
        except queue.Empty:
            return None
        matches = message["parent_header"].get("msg_id") == request
        return dict(message["content"]) if matches else None

    def _listen(self, request: str, text: list[str]) -> bool:
        """Take one message; True when it says that the kernel is idle again."""
        try:
            message = self.client.get_iopub_msg(timeout=_TICK_S)
        except queue.Empty:
            return False
        if message["parent_header"].get("msg_id") != request:
            return False
        kind, content = message["msg_type"], message["content"]
        if kind == "stream":
            text.append(content["text"])
        return bool(kind == "status" and content["execution_state"] == "idle")

    # --- life and death -----------------------------------------------------------------

    def kill(self) -> float:
        """SIGKILL, and wait until it is seen; the moment it was sent (time.time())."""
        self.client.stop_channels()
        at = time.time()
        os.kill(self.pid, signal.SIGKILL)
        while self.manager.is_alive():
            if time.monotonic() > self.deadline:
                raise CutOff
            time.sleep(0.02)
        return at

    def start_again(self) -> None:
        """A new process for a kernel that is dead; `ready_s` says how long it took."""
        self.manager.restart_kernel(now=True)
        self.connect()

    def close(self) -> None:
        """End it at once, whatever it does."""
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@contextmanager
def two_kernels(first: Start, second: Start, deadline: float) -> Iterator[tuple[Kernel, Kernel]]:
    """Two kernels, started at the same time, for the length of a `with` block."""
    launched: list[Kernel] = []
    try:
        launched += [Kernel(first, deadline)]
        launched += [Kernel(second, deadline)]
        for one in launched:
            one.connect()
        yield launched[0], launched[1]
    finally:
        for one in launched:
            one.close()
