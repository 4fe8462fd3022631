"""What checkpointing costs a user, measured on real kernels, side by side in one run.

    cells      each workload in each peer's kernel, cell by cell beside a stock kernel
    long_cell  ten epochs in one cell, killed inside it
    loops      what it costs code that looks up globals
    worst      the worst cell: fresh, after dense rewrites, after a restore; and growth
    page       tables, targets, machine -> results.md, rewritten after every part

Not covered: GPU memory, and more than one notebook at a time.
"""

from __future__ import annotations

import argparse
import gc
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

import page  # noqa: E402
import peer_criu  # noqa: E402
import peer_kishu  # noqa: E402
from cells import Measured, measure  # noqa: E402
from harness.environment import Environment  # noqa: E402
from long_cell import train, trainings  # noqa: E402
from loops import loop  # noqa: E402
from page import Results  # noqa: E402
from peers import Cloudpickle, Dill, Ours, OursNoDirtyPages, Peer  # noqa: E402
from side import Effort  # noqa: E402
from workloads import add_one, arrays, one_array, one_of_100, workloads  # noqa: E402
from worst import worst_cells  # noqa: E402

PEERS: dict[str, type[Peer]] = {
    "ours": Ours,
    "ours-no-dirty-pages": OursNoDirtyPages,
    "stock": Peer,
    "dill": Dill,
    "cloudpickle": Cloudpickle,
    "kishu": peer_kishu.Kishu,
    "criu": peer_criu.Criu,
}
# These are run as often as p99 needs; the second stock kernel is the noise of the method.
_OURS_ALL = ("ours", "ours-no-dirty-pages", "stock")
PARTS = (
    *("W1", "W1b", "W2", "W3", "W4", "W5", "W6", "W6a", "W6b", "W6c", "W7", "W8"),
    *("worst", "growth"),
)
# Where dirty pages can matter: large buffers.
_LARGE = ("W1b", "W2", "W3")
# The noise of the method is the same everywhere.
_NOISE = ("W1", "W7")
# Budgets are one-minute averages: where the work is hardest, our own cells go on for a minute.
_FOR_A_MINUTE = ("W3", "W4")
_OURS = Effort()
_MINUTE = Effort(cells=190, try_s=60.0)
_PEERS = Effort(cells=10, restores=1, memory_cells=2, try_s=8.0)
_QUICK = Effort(cells=4, restores=1, memory_cells=2)
_QUICK_PARTS = ("W1", "W3", "W5", "W6", "W7", "W8", "worst")
_QUICK_PEERS = ("ours", "cloudpickle", "criu")
_INTERVAL_S = 2
_INTERVAL_SPEC = "bench-interval"
_GROWTH_GB = (0.1, 1.0, 4.0)


class OursOften(Ours):
    """Checkpoints inside a cell come much more often than by default."""

    kernelspec = _INTERVAL_SPEC


class Bench:
    """One run: what was asked for, where it works, what it has found."""

    def __init__(self, asked: argparse.Namespace, root: Path) -> None:
        self.asked, self.root = asked, root
        self.results = Results()
        # Compiled modules are kept, as they are in an installed package.
        extra = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPATH": str(HERE / "in_kernel")}
        self.environment = Environment(root, extra=extra)
        self.peers = [name for name in asked.peers.split(",") if name]
        self.parts = [part for part in asked.workloads.split(",") if part]
        self._count = 0
        self._began = time.monotonic()
        self._load = os.getloadavg()[0]

    def run(self) -> None:
        """All parts, the page written after each measurement."""
        os.environ.update(self.environment.variables)
        self.environment.install()
        self.environment.kernelspec(_INTERVAL_SPEC, checkpoint_interval=_INTERVAL_S)
        self._leave_out()
        for part in (self._cells, self._long_cells, self._loops, self._worst, self._growth):
            for what in part():
                took_s = time.monotonic() - self._began
                print(f"{took_s:6.0f} s  {what}", file=sys.stderr, flush=True)
                self._write()

    def _leave_out(self) -> None:
        """Peers that cannot be had here, with the reason."""
        for name, reason in (("kishu", peer_kishu.install), ("criu", peer_criu.unavailable)):
            if name in self.peers and (why := reason()) is not None:
                self.peers.remove(name)
                self.results.measured.append(Measured("all", name, trouble=f"left out: {why}"))

    @contextmanager
    def _peer(self, kind: type[Peer]) -> Iterator[Peer]:
        """A peer with an empty directory of its own."""
        self._count += 1
        directory = self.root / f"run-{self._count}"
        directory.mkdir()
        try:
            yield kind(self.environment, directory)
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def _effort(self, name: str, workload: str = "") -> Effort:
        effort = _PEERS
        if self.asked.quick:
            effort = _QUICK
        elif name == "ours" and workload in _FOR_A_MINUTE:
            effort = _MINUTE
        elif name in _OURS_ALL:
            effort = _OURS
        # Ours does more in a run than the peers do.
        limit_s = self.asked.limit_s * (2 if name in _OURS_ALL else 1)
        if effort is _MINUTE:
            limit_s += 2 * effort.try_s
        return replace(effort, limit_s=limit_s)

    def _is_due(self, name: str, part: str) -> bool:
        """Some pairs of peer and part would say nothing new; a quick run leaves out more."""
        if name == "ours-no-dirty-pages":
            return part in _LARGE
        if name == "stock" or (name != "ours" and self.asked.quick):
            return part in _NOISE
        return True

    # --- parts --------------------------------------------------------------------------

    def _cells(self) -> Iterator[str]:
        log = self.root / "ran.log"
        for workload in workloads(self.asked.scale, log):
            if workload.name not in self.parts:
                continue
            self.results.titles[workload.name] = workload.title
            for name in self.peers:
                if not self._is_due(name, workload.name):
                    continue
                with self._peer(PEERS[name]) as peer:
                    self.results.measured.append(
                        measure(workload, peer, self._effort(name, workload.name))
                    )
                yield f"{workload.name} {name} {self.results.measured[-1].trouble or ''}"

    def _long_cells(self) -> Iterator[str]:
        if "W5" not in self.parts:
            return
        log = self.root / "epochs.log"
        for training in trainings(self.asked.scale, log):
            if isinstance(training, str):
                self.results.remarks.append(training)
                yield training
                continue
            self.results.titles[training.name] = training.title
            for name in self.peers:
                if not self._is_due(name, "W5"):
                    continue
                ours = name == "ours"
                pairs = 5 if ours and not self.asked.quick else 1
                with self._peer(OursOften if ours else PEERS[name]) as peer:
                    done = train(
                        training,
                        peer,
                        _INTERVAL_S if ours else None,
                        pairs,
                        log,
                        self._effort(name).limit_s,
                    )
                self.results.trained.append(done)
                yield f"{training.name} {name} {done.trouble or ''}"

    def _loops(self) -> Iterator[str]:
        if "W7" not in self.parts:
            return
        self.results.titles["W7"] = "a loop of 1 M global lookups"
        pairs = 5 if self.asked.quick else 20
        for name in self.peers:
            if not self._is_due(name, "W7"):
                continue
            with self._peer(PEERS[name]) as peer:
                done = loop(peer, self.asked.scale, pairs, self._effort(name).limit_s)
            self.results.looped.append(done)
            yield f"W7 {name} {done.trouble or ''}"

    def _worst(self) -> Iterator[str]:
        if "worst" not in self.parts:
            return
        scale = self.asked.scale
        both = (one_array(scale), arrays("W1b", "", scale, one_of_100))
        for workload in both[:1] if self.asked.quick else both:
            for name in ("ours", "ours-no-dirty-pages"):
                if name not in self.peers:
                    continue
                with self._peer(PEERS[name]) as peer:
                    found, trouble = worst_cells(workload, peer, self._effort(name))
                self.results.worst += found
                if trouble is not None:
                    self.results.remarks.append(f"worst cell, {workload.name}, {name}: {trouble}")
                yield f"worst {workload.name} {name} {trouble or ''}"

    def _growth(self) -> Iterator[str]:
        if "growth" not in self.parts or "ours" not in self.peers:
            return
        for gigabytes in _GROWTH_GB[1:2] if self.asked.quick else _GROWTH_GB:
            title = f"{gigabytes * self.asked.scale:g} GB"
            workload = arrays(title, title, gigabytes * self.asked.scale, add_one)
            with self._peer(Ours) as peer:
                done = measure(workload, peer, self._effort("ours"))
            self.results.grown.append(done)
            yield f"growth {title} {done.trouble or ''}"

    # --- page ---------------------------------------------------------------------------

    def _write(self) -> None:
        elsewhere = {"kishu": peer_kishu.VERSION, "criu": peer_criu.version()}
        about = (
            page.machine(self.root),
            page.versions({n: v for n, v in elsewhere.items() if n in self.peers}),
            f"Load average of the machine before the run: {self._load:.1f}. "
            f"The run took {(time.monotonic() - self._began) / 60:.1f} minutes so far.",
        )
        self.asked.out.write_text(page.text(self.results, about, self.asked.scale))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", type=float, help="1 is the full size (default 1)")
    parser.add_argument("--workloads", help=f"comma-separated, of {','.join(PARTS)}")
    parser.add_argument("--peers", help=f"comma-separated, of {','.join(PEERS)}")
    parser.add_argument("--limit-s", type=float, default=120.0, help="per peer and workload")
    parser.add_argument("--quick", action="store_true", help="about a minute: a bit of it all")
    parser.add_argument("--out", type=Path, help="the page; default: results.md beside this file")
    asked = parser.parse_args()
    asked.scale = asked.scale or (0.02 if asked.quick else 1.0)
    asked.peers = asked.peers or ",".join(_QUICK_PEERS if asked.quick else PEERS)
    asked.workloads = asked.workloads or ",".join(_QUICK_PARTS if asked.quick else PARTS)
    # A quick run's figures are no results.
    asked.out = asked.out or (
        Path(tempfile.gettempdir(), "results-quick.md") if asked.quick else HERE / "results.md"
    )
    for given, known in ((asked.peers, PEERS), (asked.workloads, PARTS)):
        if unknown := set(filter(None, given.split(","))) - set(known):
            parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return asked


def main() -> int:
    """Run what was asked for; the page is printed and written."""
    asked = _arguments()
    root = Path(tempfile.mkdtemp(prefix="checkpoint-bench-"))
    gc.disable()  # a collection here would be a slow cell there
    try:
        Bench(asked, root).run()
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print(asked.out.read_text())
    print(f"written to {asked.out}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
