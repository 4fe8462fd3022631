"""One open notebook: runs cells over the kernel's WebSocket, as JupyterLab does.

Covers execution, interrupts, restarts, and deaths as the frontend sees them. It keeps a
frontend's view only: what the kernel's files say is for the tests to ask.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import websocket

if TYPE_CHECKING:
    from .server import JupyterServer


@dataclass(frozen=True)
class Result:
    """What one cell showed. `status` is "ok", "error", "aborted", or "died"."""

    status: str
    execution_count: int | None
    stdout: str = ""
    stderr: str = ""
    value: str | None = None  # text/plain of the cell's last expression
    html: tuple[str, ...] = ()  # text/html of every display
    error: str = ""  # "NameError: name 'x' is not defined"
    outputs: tuple[dict[str, Any], ...] = field(default=(), repr=False)

    @property
    def text(self) -> str:
        """All that a user could read below the cell, in order."""
        return "".join(_as_text(output) for output in self.outputs)

    @property
    def prose(self) -> str:
        """`text` without its line breaks: the notice wraps its sentences."""
        return " ".join(self.text.split())

    def ok(self) -> Result:
        """This result, after an assertion that the cell did not fail."""
        assert self.status == "ok", f"the cell ended with {self.status}:\n{self.text}"
        return self


@dataclass
class _Cell:
    """A cell on its way."""

    deaths_before: int
    outputs: list[dict[str, Any]] = field(default_factory=list)
    reply: dict[str, Any] | None = None
    idle: bool = False
    prompts: list[str] = field(default_factory=list)  # that wait for an answer


class Notebook:
    """A session of the server and the WebSocket to its kernel."""

    def __init__(self, server: JupyterServer, session: dict[str, Any]) -> None:
        self.server = server
        self.session_id: str = session["id"]
        self.kernel_id: str = session["kernel"]["id"]
        self.path: str = session["path"]
        self._client = uuid.uuid4().hex
        self._news = threading.Condition()
        self._cells: dict[str, _Cell] = {}
        self._states: list[str] = []  # execution states, as the status line shows them
        self._deaths_seen = 0
        self._socket: websocket.WebSocket | None = None
        self._reader: threading.Thread | None = None

    # -- connection ---------------------------------------------------------------------

    def connect(self, seconds: float = 60) -> None:
        """Open the WebSocket and wait until the kernel answers on it."""
        base = self.server.url.replace("http", "ws", 1)
        self._socket = websocket.create_connection(
            f"{base}/api/kernels/{self.kernel_id}/channels?session_id={self._client}",
            header=[f"Authorization: token {self.server.token}"],
            timeout=None,
            http_no_proxy=["127.0.0.1"],
            enable_multithread=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self._socket,), daemon=True)
        self._reader.start()
        self.wait_ready(seconds)

    def disconnect(self) -> None:
        """Close the browser's tab: the kernel lives on."""
        if self._socket is not None:
            with contextlib.suppress(OSError, websocket.WebSocketException):
                self._socket.close(timeout=1)
            self._socket = None

    def _read(self, connection: websocket.WebSocket) -> None:
        while True:
            try:
                data = connection.recv()
            except (OSError, websocket.WebSocketException):
                break
            if not data:
                break
            if isinstance(data, str):  # messages with binary buffers are of no interest here
                with self._news:
                    self._take(json.loads(data))
                    self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def _take(self, message: dict[str, Any]) -> None:
        kind, content = message["msg_type"], message["content"]
        cell = self._cells.get(message.get("parent_header", {}).get("msg_id", ""))
        if kind == "status":
            state = content["execution_state"]
            self._states.append(state)
            if state in ("restarting", "autorestarting", "dead"):
                self._deaths_seen += 1
            if cell is not None and state == "idle":
                cell.idle = True
        elif cell is not None and kind in ("execute_reply", "kernel_info_reply", "usage_reply"):
            cell.reply = content
        elif cell is not None and kind == "input_request":
            cell.prompts.append(content["prompt"])
        elif cell is not None and kind in ("stream", "display_data", "execute_result", "error"):
            cell.outputs.append({"output_type": kind, **content})

    def _send(self, kind: str, content: dict[str, Any], channel: str = "shell") -> str:
        assert self._socket is not None, "the notebook is not connected"
        message_id = uuid.uuid4().hex
        with self._news:
            self._cells[message_id] = _Cell(self._deaths_seen)
        header = {
            "msg_id": message_id,
            "msg_type": kind,
            "session": self._client,
            "username": "harness",
            "version": "5.3",
            "date": "",
        }
        message = {"channel": channel, "header": header, "parent_header": {}, "metadata": {}}
        try:
            self._socket.send(json.dumps({**message, "content": content, "buffers": []}))
        except (OSError, websocket.WebSocketException) as why:
            raise AssertionError(
                f"the server closed the connection of {self.path}: {why}\n{self.server.log[-4000:]}"
            ) from None
        return message_id

    def _wait(self, done: Callable[[], bool], seconds: float) -> bool:
        with self._news:
            return self._news.wait_for(done, seconds)

    def wait_ready(self, seconds: float = 60) -> None:
        """Wait until the kernel answers and its output reaches us (what clients call a nudge)."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._states[-1:] != ["dead"]:
            cell = self._cells[self._send("kernel_info_request", {})]
            if self._wait(lambda c=cell: c.idle and c.reply is not None, 1.0):  # type: ignore[misc]
                return
        raise AssertionError(
            f"the kernel of {self.path} did not answer within {seconds} s; states "
            f"{self._states[-8:]}\n{self.server.log[-4000:]}"
        )

    # -- cells --------------------------------------------------------------------------

    def run(self, code: str, seconds: float = 60, **options: Any) -> Result:
        """Run a cell to its end. A kernel that dies under it gives status "died"."""
        return self.finish(self.start(code, **options), seconds)

    def start(self, code: str, **options: Any) -> str:
        """Begin a cell and return at once; `finish` waits for it."""
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": True,
            **options,
        }
        return self._send("execute_request", content)

    def finish(self, cell_id: str, seconds: float = 60) -> Result:
        """Wait for a cell that `start` began."""
        cell = self._cells[cell_id]

        def over() -> bool:
            answered = cell.idle and cell.reply is not None
            return answered or self._deaths_seen > cell.deaths_before

        if not self._wait(over, seconds):
            raise AssertionError(
                f"the cell did not end within {seconds} s; shown so far: {self.shown(cell_id)!r}; "
                f"states {self._states[-8:]}\n{self.server.log[-4000:]}"
            )
        return _result(cell)

    def shown(self, cell_id: str) -> str:
        """What a running cell has printed so far."""
        return "".join(_as_text(output) for output in tuple(self._cells[cell_id].outputs))

    def wait_shown(self, cell_id: str, text: str, seconds: float = 60) -> None:
        """Wait until a running cell has printed `text`."""
        if not self._wait(lambda: text in self.shown(cell_id), seconds):
            raise AssertionError(
                f"the cell did not print {text!r} within {seconds} s, but {self.shown(cell_id)!r}"
            )

    def answer(self, cell_id: str, text: str, seconds: float = 60) -> str:
        """Answer a cell's `input()`, which `start(..., allow_stdin=True)` allows; its prompt."""
        prompts = self._cells[cell_id].prompts
        assert self._wait(lambda: bool(prompts), seconds), f"no question: {self.shown(cell_id)!r}"
        prompt = prompts.pop(0)
        self._send("input_reply", {"value": text}, "stdin")
        return prompt

    def send_comm(self, comm_id: str, data: dict[str, Any]) -> None:
        """A widget's message to the kernel: nothing answers it."""
        self._send("comm_msg", {"comm_id": comm_id, "data": data})

    def usage(self) -> dict[str, Any]:
        """What the display of memory and CPU asks the kernel, beside the cells."""
        cell = self._cells[self._send("usage_request", {}, "control")]
        assert self._wait(lambda: cell.reply is not None, 60), "the kernel did not answer"
        assert cell.reply is not None
        return cell.reply

    def eval(self, expression: str) -> Any:
        """The value of an expression, by `repr` and `literal_eval`, without touching history."""
        content = {"code": "", "silent": True, "store_history": False, "allow_stdin": False}
        content["user_expressions"] = {"it": f"repr({expression})"}
        cell_id = self._send("execute_request", content)
        cell = self._cells[cell_id]
        assert self._wait(lambda: cell.reply is not None, 60), "the kernel did not answer"
        assert cell.reply is not None
        answer = cell.reply["user_expressions"]["it"]
        assert answer["status"] == "ok", (
            f"{expression}: {answer.get('ename')} {answer.get('evalue')}"
        )
        return ast.literal_eval(ast.literal_eval(answer["data"]["text/plain"]))

    # -- deaths and restarts ------------------------------------------------------------

    @property
    def kernel_pid(self) -> int:
        """The process that runs the cells."""
        pid: int = self.eval("__import__('os').getpid()")
        return pid

    def kill_kernel(self, pid: int | None = None, signum: int = signal.SIGKILL) -> None:
        """Kill the kernel and wait until the server has restarted it by itself."""
        pid = self.kernel_pid if pid is None else pid
        deaths = self._deaths_seen
        os.kill(pid, signum)
        self.wait_autorestart(deaths)

    @property
    def deaths_seen(self) -> int:
        """How often the frontend was told that the kernel died or restarted."""
        return self._deaths_seen

    def wait_autorestart(self, deaths_before: int, seconds: float = 60) -> None:
        """Wait until the server says that it restarts the kernel, then until that answers."""
        if not self._wait(lambda: self._deaths_seen > deaths_before, seconds):
            raise AssertionError(f"no restart within {seconds} s\n{self.server.log[-4000:]}")
        self.wait_ready(seconds)

    def run_to_death(self, code: str, seconds: float = 60) -> Result:
        """Run a cell that kills the kernel, and wait for the server's own restart."""
        deaths = self._deaths_seen
        cell_id = self.start(code)
        result = self.finish(cell_id, seconds)
        self.wait_autorestart(deaths, seconds)
        return result

    def restart(self, seconds: float = 60) -> None:
        """The Restart button."""
        self.server.request("POST", f"/api/kernels/{quote(self.kernel_id)}/restart")
        self.wait_ready(seconds)

    def interrupt(self) -> None:
        """The Stop button."""
        self.server.request("POST", f"/api/kernels/{quote(self.kernel_id)}/interrupt")

    def close(self) -> None:
        """Shut the notebook's kernel down, as Close and Shut Down does."""
        self.server.request("DELETE", f"/api/sessions/{quote(self.session_id)}")
        self.disconnect()


def _result(cell: _Cell) -> Result:
    outputs = tuple(cell.outputs)
    reply = cell.reply

    def stream(name: str) -> str:
        return "".join(
            o["text"] for o in outputs if o["output_type"] == "stream" and o["name"] == name
        )

    values = [o["data"].get("text/plain") for o in outputs if o["output_type"] == "execute_result"]
    html = [o["data"]["text/html"] for o in outputs if "text/html" in o.get("data", {})]
    errors = [f"{o['ename']}: {o['evalue']}" for o in outputs if o["output_type"] == "error"]
    return Result(
        status="died" if reply is None else reply["status"],
        execution_count=None if reply is None else reply.get("execution_count"),
        stdout=stream("stdout"),
        stderr=stream("stderr"),
        value=values[-1] if values else None,
        html=tuple(html),
        error="\n".join(errors),
        outputs=outputs,
    )


def _as_text(output: dict[str, Any]) -> str:
    if output["output_type"] == "stream":
        return str(output["text"])
    if output["output_type"] == "error":
        return "\n".join(output["traceback"]) + "\n"
    return str(output["data"].get("text/plain", "")) + "\n"
