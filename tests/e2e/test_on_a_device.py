"""A model on a device: forked for, saved, restored. On a real one where there is one.

Where there is none, large storages of the CPU stand in: the kernel then treats them as it treats
a device's, and what is copied when, forked and restored is the same.
"""

from __future__ import annotations

import pytest
from harness.notebook import Notebook
from harness.records import checkpoints, flight, wait_for_checkpoint, wait_until
from harness.server import JupyterServer

torch = pytest.importorskip("torch")

STAND_IN = """\
from checkpoint_kernel import device_memory
device_memory.is_elsewhere = lambda s: s.device.type == 'cpu' and s.nbytes() >= 1_000_000
device_memory.is_in_use = lambda torch: True
"""
MODEL = """\
import torch
torch.manual_seed(0)
model = torch.nn.Linear(1000, 1000).to(device)
optimizer = torch.optim.Adam(model.parameters())
inputs = torch.rand(64, 1000, device=device)
epochs = 0

def step():
    optimizer.zero_grad()
    loss = (model(inputs) - inputs).square().mean()
    loss.backward()
    optimizer.step()
    return loss.item()
"""
SUM = "sum(float(p.double().sum()) for p in model.parameters())"


@pytest.fixture(params=["stand-in", "cuda"])
def device(request: pytest.FixtureRequest) -> str:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    return str(request.param)


def open_device(notebook: Notebook, device: str) -> None:
    if device == "stand-in":
        notebook.run(STAND_IN).ok()
    name = "cpu" if device == "stand-in" else device
    notebook.run(f"device = {name!r}").ok()


def test_a_model_in_training_is_back_on_its_device_and_the_kernel_was_forked_for_it(
    notebook: Notebook, device: str
) -> None:
    open_device(notebook, device)
    notebook.run(MODEL).ok()
    last = notebook.run("losses = [step() for _ in range(5)]").ok()
    wait_for_checkpoint(notebook, last.execution_count)
    assert "model" not in {one.name for one in checkpoints(notebook)[-1].skipped}
    assert notebook.eval("len(get_ipython().kernel.checkpointer._staging._saved)") > 0
    forecast = notebook.eval(SUM)
    assert notebook.eval("__import__('checkpoint_kernel.snapshot').snapshot.available()") is None
    notebook.kill_kernel()
    first = notebook.run("print(model.weight.device)").ok()
    assert "not back" not in first.text
    assert notebook.eval(SUM) == pytest.approx(forecast, rel=1e-12)
    if device == "stand-in":
        notebook.run(STAND_IN).ok()
    assert notebook.run("step() < losses[0]").ok().value == "True"


def test_a_model_that_has_not_changed_costs_next_to_nothing(
    notebook: Notebook, device: str
) -> None:
    open_device(notebook, device)
    notebook.run(MODEL).ok()
    last = notebook.run("box = {'w': model.weight}; n = 0").ok()
    wait_for_checkpoint(notebook, last.execution_count)
    for number in range(1, 4):
        last = notebook.run(f"n = {number}; box").ok()
        wait_for_checkpoint(notebook, last.execution_count)
    new_bytes = notebook.eval("get_ipython().kernel.checkpointer.settled.new_bytes")
    assert new_bytes < 100_000
    assert not [one for one in checkpoints(notebook)[-1].skipped if one.name in ("model", "box")]


def test_locals_of_a_training_function_are_saved_inside_the_cell(
    server: JupyterServer, notebook_path: str, device: str
) -> None:
    name = server.environment.kernelspec("resilient-every-second-gpu", checkpoint_interval=1)
    notebook = server.open(notebook_path, name)
    open_device(notebook, device)
    cell = notebook.start(
        "import torch, time\n"
        "def train():\n"
        "    weights = torch.zeros(500_000, device=device)\n"
        "    for epoch in range(10_000):\n"
        "        weights += 1\n"
        "        time.sleep(0.01)\n"
        "train()"
    )
    last = flight(notebook).execution_count
    wait_until(lambda: flight(notebook).execution_count != last, "the cell's start")
    wait_for_checkpoint(notebook, flight(notebook).execution_count, inside_cell=True)
    notebook.kill_kernel(flight(notebook).pid)
    assert notebook.finish(cell).status == "died"
    shown = notebook.run("%checkpoint locals").ok().text
    assert "weights" in shown
    assert "epoch" in shown
    notebook.close()
