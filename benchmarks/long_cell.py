"""W5: ten epochs in one cell. What checkpoints inside it cost, and what a SIGKILL leaves.

The same cell runs in turn in a stock kernel and in the peer's; then once more in the
peer's, which is killed in the eighth epoch and started again.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import textwrap
import time
from dataclasses import dataclass, field
from pathlib import Path

from engine import engine, since
from kernels import CellFailed, CutOff, Kernel, two_kernels
from peers import Peer

EPOCHS = 10
_KILL_AFTER = 7
_INTO_THE_EPOCH_S = 0.2
# The checkpoint after the cell is not the next cell's to wait for.
_AFTERWARDS_S = 1.5


@dataclass(frozen=True)
class Training:
    """One kind of training: `cell` trains for EPOCHS and notes the time in `stamp`."""

    name: str
    title: str
    imports: str
    setup: str
    cell: str
    usable: str  # true if what came back works together
    parameters: str  # bytes


@dataclass
class Trained:
    """What became of one peer. Times in seconds."""

    workload: str
    peer: str
    interval_s: float | None
    ratios: list[float] = field(default_factory=list)  # stock's time / the peer's: throughput
    stock_s: float | None = None
    checkpoints: float | None = None  # inside the cell
    new_bytes: float | None = None  # per checkpoint
    parameters_bytes: float | None = None
    done_epochs: int | None = None  # at the kill
    back_epochs: int | None = None
    age_s: float | None = None  # of the state that came back, at the kill
    usable: bool = False
    trouble: str | None = None


def trainings(scale: float, log: Path) -> list[Training | str]:
    """The trainings; in the place of one that cannot be run here, why."""
    rows = max(2000, int(100_000 * scale))
    data = (
        "rng = np.random.default_rng(0)\n"
        f"X = rng.standard_normal(({rows}, 64)).astype('float32')\n"
        "y = (X[:, :8].sum(1) > 0).astype('int64'); done = []; stamp = 0.0\n"
    )
    # No variable holds the file: some peers cannot save one.
    note = f"    done.append(epoch)\n    open({str(log)!r}, 'a').write('e\\n')\n"
    forest = Training(
        "W5 sklearn",
        "a forest that grows by some trees per epoch",
        "import time, numpy as np; from sklearn.ensemble import RandomForestClassifier",
        data + "model = RandomForestClassifier(0, max_depth=12, warm_start=True, n_jobs=2, "
        "random_state=0)\n",
        f"for epoch in range({EPOCHS}):\n"
        "    model.n_estimators += 4\n"
        f"    model.fit(X[:{rows // 4}], y[:{rows // 4}])\n"
        "    stamp = time.time()\n" + note,
        # A checkpoint inside fit() holds a forest with fewer trees than it is to have.
        "len(model.estimators_) >= 4 * len(done) and len(model.predict(X[:10])) == 10",
        "len(__import__('pickle').dumps(model, 5))",
    )
    if importlib.util.find_spec("torch") is None:
        return [forest, "W5 torch is left out: torch is not installed"]
    network = Training(
        "W5 torch",
        "a perceptron trained by Adam",
        "import time, numpy as np, torch",
        data
        + textwrap.dedent("""
            torch.manual_seed(0); torch.set_num_threads(2)
            Xt, yt = torch.from_numpy(X), torch.from_numpy(y)
            model = torch.nn.Sequential(
                torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 256),
                torch.nn.ReLU(), torch.nn.Linear(256, 2))
            adam = torch.optim.Adam(model.parameters(), 1e-3)
            # The first step is slower than all others, in every kernel.
            torch.nn.functional.cross_entropy(model(Xt[:2048]), yt[:2048]).backward()
            adam.step()"""),
        textwrap.dedent(f"""
            for epoch in range({EPOCHS}):
                for _pass in range(2):
                    for k in range(0, len(Xt), 2048):
                        adam.zero_grad()
                        loss = torch.nn.functional.cross_entropy(
                            model(Xt[k:k+2048]), yt[k:k+2048])
                        loss.backward(); adam.step()
                        stamp = time.time()
            """)
        + note,
        "adam.param_groups[0]['params'][0] is next(model.parameters())"
        " and bool(np.shares_memory(Xt.numpy(), X))",
        "3 * sum(p.nbytes for p in model.parameters())",
    )
    return [forest, network]


def train(training: Training, peer: Peer, interval_s: float | None, pairs: int, log: Path,
          limit_s: float) -> Trained:  # fmt: skip
    """All of it. Never raises for what the peer does: that is in `trouble`."""
    done = Trained(training.name, peer.name, interval_s)
    os.sync()
    deadline = time.monotonic() + limit_s
    try:
        with two_kernels(peer.stock(), peer.start(), deadline) as (stock, tested):
            peer.attach(tested)
            for code in (training.imports, training.setup):
                stock.run(code)
                tested.run(code)
            _throughput(training, peer, stock, tested, pairs, done)
            if peer.saves:
                _die(training, peer, tested, log, done)
    except CutOff:
        done.trouble = f"cut off after {limit_s:.0f} s"
    except (CellFailed, RuntimeError, OSError) as why:
        done.trouble = f"failed: {why}"
    finally:
        peer.clear()
    return done


def _throughput(
    training: Training, peer: Peer, stock: Kernel, tested: Kernel, pairs: int, done: Trained
) -> None:
    stock_s, ours_s, written, checkpoints = [], [], [], []
    for turn in range(pairs):
        for mine in (turn % 2 == 0, turn % 2 == 1):
            if not mine:
                stock_s.append(stock.run(training.cell).took_s)
                continue
            bytes_before, before = peer.written(), engine(peer, tested)
            cell = tested.run(training.cell)
            peer.after_cell(tested)
            ours_s.append(time.monotonic() - cell.began)
            time.sleep(_AFTERWARDS_S)
            written.append(peer.written() - bytes_before)
            made = since(before, engine(peer, tested))
            checkpoints.append(made.checkpoints if made else 1)
    done.ratios = [plain / ours for plain, ours in zip(stock_s, ours_s, strict=True)]
    done.stock_s = statistics.median(stock_s)
    done.checkpoints = statistics.median(checkpoints)
    done.new_bytes = sum(written) / max(1, sum(checkpoints))
    done.parameters_bytes = float(stock.value(training.parameters))


def _die(training: Training, peer: Peer, tested: Kernel, log: Path, done: Trained) -> None:
    before = int(tested.value("len(done)"))
    log.write_text("")
    tested.send(training.cell)
    while _epochs(log) < _KILL_AFTER:
        if time.monotonic() > tested.deadline:
            raise CutOff
        time.sleep(0.02)
    time.sleep(_INTO_THE_EPOCH_S)
    killed = tested.kill()
    done.done_epochs = _epochs(log)
    try:
        peer.start_again(tested)
        peer.bring_back(tested)
        tested.run(training.imports)
        if (again := _epochs(log) - done.done_epochs) > 0:
            done.back_epochs = 0
            done.trouble = f"trained {again} epochs again to restore"
            return
        done.back_epochs = int(tested.value("len(done)")) - before
        stamp = float(tested.value("stamp"))
        done.age_s = killed - stamp if stamp else None
        done.usable = bool(tested.value(training.usable))
    except CellFailed as why:
        done.trouble = f"failed: {why}"


def _epochs(log: Path) -> int:
    return len(log.read_text().splitlines())
