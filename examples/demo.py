"""The main job, in front of your eyes: training is killed at epoch 80, and goes on.

Starts a real Jupyter server in a temporary directory, opens `training_loop.ipynb` on the
kernel "Python 3.x (resilient)", kills that kernel with SIGKILL in the middle of the long
cell, lets the server restart it, and shows what you would read below the next cell. Ends
with a status other than 0 if anything is not as promised. Touches nothing in your home.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import tempfile
import textwrap
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))  # the harness: a frontend without a browser

from harness.environment import KERNEL_NAME, Environment  # noqa: E402
from harness.ipynb import Cell, code_cells  # noqa: E402
from harness.notebook import Result  # noqa: E402
from harness.server import JupyterServer, running  # noqa: E402

KILL_AT = 80
WIDTH = 92  # a browser wraps long lines; a terminal does it in the middle of words
INTERVAL_S = 1  # the demo's cell takes seconds, not hours; the default is 30


class BrokenPromise(Exception):
    """Something that the demo says did not happen."""


def main() -> int:
    """Run the demo; 0 if every promise was kept."""
    began = time.monotonic()
    root = Path(tempfile.mkdtemp(prefix="checkpoint-demo-"))
    try:
        play(root)
    except Exception as broken:  # whatever it is, people get a sentence and not a stack trace
        kind = "" if isinstance(broken, BrokenPromise) else f"{type(broken).__name__}: "
        print(f"\nThe demo failed: {kind}{broken}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print(f"\nThat took {time.monotonic() - began:.0f} s. Try it yourself: see examples/README.md")
    return 0


def play(root: Path) -> None:
    """The story, top to bottom."""
    environment = Environment(root)
    say("Installing the kernel and starting a Jupyter server")
    environment.install()
    environment.configure(KERNEL_NAME, checkpoint_interval=INTERVAL_S)
    cells = {cell.id: cell for cell in code_cells(HERE / "training_loop.ipynb")}
    with running(environment, root / "notebooks", seconds_to_notice_death=3.0) as server:
        notebook = server.open("training_loop.ipynb")
        say(f"training_loop.ipynb is open on {display_name(server)!r}")
        for name in ("data", "model"):
            show(cells[name], notebook.run(cells[name].source).ok())

        say(f"One long cell trains for 100 epochs; a checkpoint every {INTERVAL_S} s (default 30)")
        pid = notebook.kernel_pid
        deaths = notebook.deaths_seen
        training = notebook.start(cells["training"].source)
        notebook.wait_shown(training, f"epoch {KILL_AT:3d}", 90)
        os.kill(pid, signal.SIGKILL)
        show(cells["training"], notebook.finish(training), keep_lines=4)
        say(f"kill -9 {pid}: the kernel is dead, at epoch {KILL_AT} of 100, inside the cell")

        notebook.wait_autorestart(deaths)
        say("Jupyter has restarted the kernel by itself. The next cell:")
        after = notebook.run(cells["state"].source)
        show(cells["state"], after)
        epochs = check(after)

        say("The training cell again: it goes on")
        rest = notebook.run(cells["training"].source, 90)
        show(cells["training"], rest, keep_lines=3)
        promise(
            rest.stdout.startswith(f"epoch {epochs + 1:3d}"),
            f"training should have gone on with epoch {epochs + 1}",
        )


def check(after: Result) -> int:
    """Hold what a user reads against what is promised; the number of epochs that are back."""
    shown = after.text
    promise(after.status == "ok", f"the cell after the crash failed:\n{shown}")
    promise("killed" in shown, f"the notice does not say that the kernel was killed:\n{shown}")
    promise("restored" in shown, f"the notice does not say what was restored:\n{shown}")
    found = re.search(r"^(\d+) of 100 epochs", shown, re.MULTILINE)
    promise(found is not None, f"the epochs are not back:\n{shown}")
    assert found is not None
    epochs = int(found[1])
    promise(epochs >= KILL_AT // 2, f"only {epochs} of {KILL_AT} epochs are back")
    say(f"{epochs} of the {KILL_AT} epochs are back, from inside the cell that was killed")
    return epochs


def display_name(server: JupyterServer) -> str:
    """What the launcher calls the kernel."""
    specs = server.request("GET", "/api/kernelspecs")["kernelspecs"]
    return str(specs[KERNEL_NAME]["spec"]["display_name"])


def promise(kept: bool, otherwise: str) -> None:
    """Raise BrokenPromise unless `kept`."""
    if not kept:
        raise BrokenPromise(otherwise)


def say(text: str) -> None:
    """A line of the narrator."""
    print(f"\n==> {text}", flush=True)


def show(cell: Cell, result: Result, keep_lines: int | None = None) -> None:
    """A cell and its output, as a notebook would show them."""
    number = " " if result.execution_count is None else result.execution_count
    source = cell.source.splitlines()
    if len(source) > 6:
        source = [*source[:5], "..."]
    for index, line in enumerate(source):
        print(f"  {f'In [{number}]:' if index == 0 else '':<9} {line}")
    lines = [
        part
        for line in result.text.rstrip("\n").splitlines()
        for part in textwrap.wrap(line, WIDTH, subsequent_indent="  ") or [""]
    ]
    if keep_lines is not None and len(lines) > keep_lines:
        lines = ["...", *lines[-keep_lines:]]
    if lines:
        print()
        print(textwrap.indent("\n".join(lines), "            "), flush=True)


if __name__ == "__main__":
    sys.exit(main())
