"""What checkpointing costs a user, measured on real kernels, side by side in one run.

Each peer's kernel runs the same cells in turn with a stock `python3` kernel, so that a noisy
machine hits both; what is reported is the difference per cell, as the user sees it: from the
execute request to the reply and the idle status. Then the kernel gets SIGKILL, is started
again, and its variables are compared with those before. Not covered yet: background CPU,
peak memory, GPU memory, kishu and CRIU (see /work/shared/bench/peers.md for those).
"""

from __future__ import annotations

import argparse
import os
import platform
import queue
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from harness.environment import KERNEL_NAME, Environment  # noqa: E402
from jupyter_client.blocking.client import BlockingKernelClient  # noqa: E402
from jupyter_client.manager import KernelManager  # noqa: E402
from tabulate import tabulate  # noqa: E402
from workloads import HOOKS, OURS, PEERS, Workload, workloads  # noqa: E402

PAUSE_BETWEEN_CELLS_S = 0.3  # a fast typist; background work may overlap the next cell


@dataclass(frozen=True)
class Row:
    """The figures of one peer on one workload. Times in seconds, sizes in bytes."""

    workload: str
    peer: str
    stock_s: float
    added_s: tuple[float, ...]  # per cell
    stored_per_cell: float
    restore_s: float | None
    back: str


class Kernel:
    """A real kernel over jupyter_client."""

    def __init__(self, environment: Environment, name: str) -> None:
        self.manager = KernelManager(kernel_name=name)
        self._environment = environment
        self.manager.start_kernel(env=environment.variables, stderr=subprocess.DEVNULL)
        self.client = self._connect()

    def _connect(self) -> BlockingKernelClient:
        client: BlockingKernelClient = self.manager.blocking_client()
        client.start_channels()
        client.wait_for_ready(timeout=120)
        return client

    def run(self, code: str, timeout: float = 900) -> float:
        """Run a cell; seconds until the user may go on. A failing cell ends the benchmark."""
        began = time.perf_counter()
        request = self.client.execute(code)
        reply, idle = None, False
        while reply is None or not idle:
            if time.perf_counter() - began > timeout:
                raise TimeoutError(f"the cell {code!r} took over {timeout} s")
            if reply is None:
                reply = self._shell_reply(request)
            if not idle:
                idle = self._is_idle(request)
        took = time.perf_counter() - began
        if reply["status"] != "ok":
            raise RuntimeError(f"the cell {code!r} failed: {reply.get('evalue')}")
        return took

    def _shell_reply(self, request: str) -> dict[str, str] | None:
        try:
            message = self.client.get_shell_msg(timeout=1)
        except queue.Empty:
            return None
        return message["content"] if message["parent_header"].get("msg_id") == request else None

    def _is_idle(self, request: str) -> bool:
        try:
            message = self.client.get_iopub_msg(timeout=1)
        except queue.Empty:
            return False
        return bool(
            message["parent_header"].get("msg_id") == request
            and message["msg_type"] == "status"
            and message["content"]["execution_state"] == "idle"
        )

    def value(self, expression: str) -> str:
        """`repr` of an expression, or the error's name."""
        reply = self.client.execute(
            "", silent=True, user_expressions={"it": f"repr({expression})"}, reply=True, timeout=300
        )
        answer = reply["content"]["user_expressions"]["it"]
        return str(answer["data"]["text/plain"] if answer["status"] == "ok" else answer["ename"])

    def kill_and_restart(self) -> float:
        """SIGKILL, then a new process; seconds from its start until it answers."""
        pid = int(self.value("__import__('os').getpid()").strip("'"))
        self.client.stop_channels()
        os.kill(pid, signal.SIGKILL)
        while self.manager.is_alive():
            time.sleep(0.05)
        began = time.perf_counter()
        self.manager.restart_kernel(now=True)
        self.client = self._connect()
        return time.perf_counter() - began

    def close(self) -> None:
        """Shut down at once."""
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@contextmanager
def kernel(environment: Environment, name: str) -> Iterator[Kernel]:
    """A kernel for the length of a `with` block."""
    one = Kernel(environment, name)
    try:
        yield one
    finally:
        one.close()


def measure(environment: Environment, workload: Workload, peer: str) -> Row:
    """Run one workload on one peer and on a stock kernel, cell by cell in turn."""
    ours = peer == OURS
    path = environment.root / f"{workload.name}-{peer}.pkl"

    def stored() -> int:
        # What has been written in all: the hooks overwrite one file, the store only adds.
        return _size(environment.store) if ours else (path.stat().st_size if path.exists() else 0)

    name = KERNEL_NAME if ours else "python3"
    with kernel(environment, "python3") as stock, kernel(environment, name) as tested:
        if not ours:
            tested.run(HOOKS[peer][0].replace("PATH", repr(str(path))))
        for code in workload.setup:
            stock.run(code)
            tested.run(code)
        _settle(stored)
        before = stored()
        stock_s, added = [], []
        for code in workload.cells:
            plain = stock.run(code)
            time.sleep(PAUSE_BETWEEN_CELLS_S)
            stock_s.append(plain)
            added.append(tested.run(code) - plain)
            time.sleep(PAUSE_BETWEEN_CELLS_S)
        _settle(stored)
        grown = stored() - before if ours else stored() * len(workload.cells)
        expected = tested.value(workload.check)

        bare = stock.kill_and_restart() + stock.run(_imports(workload))
        took = tested.kill_and_restart()
        if not ours:
            try:
                took += tested.run(HOOKS[peer][1].replace("PATH", repr(str(path))))
            except RuntimeError:
                return _row(workload, peer, stock_s, added, grown, None, "no: it does not load")
        took += tested.run(_imports(workload))
        got = tested.value(workload.check)
        back = "all" if got == expected else "no" if got.endswith("Error") else "stale"
    path.unlink(missing_ok=True)
    return _row(workload, peer, stock_s, added, grown, took - bare, back)


def _row(
    workload: Workload,
    peer: str,
    stock_s: list[float],
    added: list[float],
    grown: int,
    restore_s: float | None,
    back: str,
) -> Row:
    per_cell = grown / len(workload.cells)
    return Row(
        workload.name, peer, statistics.median(stock_s), tuple(added), per_cell, restore_s, back
    )


def _imports(workload: Workload) -> str:
    lines = "\n".join(workload.setup).splitlines()
    return "\n".join(line for line in lines if line.startswith("import ")) or "pass"


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*.seg")) + sum(
        path.stat().st_size for path in directory.rglob("manifests/*.json")
    )


def _settle(stored: Callable[[], int], quiet_s: float = 1.5) -> None:
    """Wait until the store has stopped growing."""
    last, since = stored(), time.monotonic()
    while time.monotonic() - since < quiet_s:
        time.sleep(0.1)
        if (now := stored()) != last:
            last, since = now, time.monotonic()


def table(rows: list[Row]) -> str:
    """The results as a Markdown table."""

    def percentile(values: tuple[float, ...], share: float) -> float:
        return sorted(values)[min(len(values) - 1, int(share * len(values)))]

    headers = [
        *("workload", "peer", "stock cell, ms", "added: median, ms", "p99, ms", "max, ms"),
        *("stored per cell, MB", "restore, s", "back"),
    ]
    body = [
        [
            row.workload,
            row.peer,
            f"{row.stock_s * 1e3:.1f}",
            f"{statistics.median(row.added_s) * 1e3:.1f}",
            f"{percentile(row.added_s, 0.99) * 1e3:.1f}",
            f"{max(row.added_s) * 1e3:.1f}",
            f"{row.stored_per_cell / 1e6:.3f}",
            "" if row.restore_s is None else f"{row.restore_s:.2f}",
            row.back,
        ]
        for row in rows
    ]
    return tabulate(body, headers, tablefmt="github", disable_numparse=True)


def report(rows: list[Row], chosen: list[Workload], scale: float, load: float) -> str:
    """The page that is written to benchmarks/results.md."""
    packages = ("checkpoint-kernel", "ipykernel", "ipython", "dill", "cloudpickle", "numpy")
    machine = (
        f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, "
        + ", ".join(f"{package} {version(package)}" for package in packages)
    )
    lines = [
        "# Benchmark results",
        "",
        f"`make bench ARGS='--scale {scale:g}'`, {datetime.now(UTC):%Y-%m-%d}: {machine}.",
        "`added` is what a peer adds to a cell, against a stock kernel that runs the same cells",
        "in turn. `restore` is the time until the variables are usable, less a bare start that",
        "imports the same libraries. `back` compares the values after SIGKILL with those before.",
        "",
        *(f"- {workload.name}: {workload.title}" for workload in chosen),
        "",
        f"Sizes are those of the full workload times {scale:g}. Load average of the machine "
        f"before the run: {load:.1f}.",
        "",
        table(rows),
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    """Run what was asked for, print the table, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=0.1, help="1 is the full size (default 0.1)")
    parser.add_argument("--workloads", default="", help="comma-separated; default: all")
    parser.add_argument("--peers", default=",".join(PEERS), help="comma-separated")
    parser.add_argument("--out", type=Path, default=HERE / "results.md")
    arguments = parser.parse_args()
    asked = set(filter(None, arguments.workloads.split(",")))
    chosen = [w for w in workloads(arguments.scale) if not asked or w.name in asked]
    peers = arguments.peers.split(",")
    if not chosen or (unknown := set(peers) - set(PEERS)):
        parser.error(f"no such workload, or no such peer: {asked or unknown}; peers: {PEERS}")

    root = Path(tempfile.mkdtemp(prefix="checkpoint-bench-"))
    rows: list[Row] = []
    load, _, _ = os.getloadavg()
    try:
        environment = Environment(root)
        os.environ.update(environment.variables)
        environment.install()
        for workload in chosen:
            for peer in peers:
                print(f"{workload.name} {peer} ...", file=sys.stderr, flush=True)
                rows.append(measure(environment, workload, peer))
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print(table(rows))
    arguments.out.write_text(report(rows, chosen, arguments.scale, load))
    return 0


if __name__ == "__main__":
    sys.exit(main())
