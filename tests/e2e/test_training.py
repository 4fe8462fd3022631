"""A model in training survives a SIGKILL: the loss goes on from where it was."""

from __future__ import annotations

import pytest
from harness.notebook import Notebook
from harness.records import wait_for_checkpoint
from harness.server import JupyterServer

pytest.importorskip("torch")

TRAINING = """\
import torch, numpy as np
torch.manual_seed(0)
x = np.random.default_rng(0).random((64, 20), dtype="f4")
inputs = torch.from_numpy(x)
targets = inputs.sum(1, keepdim=True)
model = torch.nn.Sequential(torch.nn.Linear(20, 900), torch.nn.ReLU(), torch.nn.Linear(900, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
first_weight = model[0].weight

def step():
    optimizer.zero_grad()
    loss = torch.nn.functional.mse_loss(model(inputs), targets)
    loss.backward()
    optimizer.step()
    return loss.item()
"""
# What the next steps will be, found on a copy, so that the original stays where it is.
FORECAST = """\
import copy
model_, optimizer_ = model, optimizer
model, optimizer = copy.deepcopy((model, optimizer))
forecast = [step() for _ in range(5)]
model, optimizer = model_, optimizer_
del model_, optimizer_
"""


def test_training_goes_on_from_where_it_was(notebook: Notebook) -> None:
    notebook.run(TRAINING).ok()
    notebook.run("losses = [step() for _ in range(20)]").ok()
    last = notebook.run(FORECAST).ok()
    forecast = notebook.eval("forecast")
    wait_for_checkpoint(notebook, last.execution_count)
    notebook.kill_kernel()
    notebook.run("losses += [step() for _ in range(5)]").ok()
    assert notebook.eval("losses")[20:] == pytest.approx(forecast)
    assert notebook.eval("model[0].weight is first_weight")
    assert notebook.eval("optimizer.param_groups[0]['params'][0] is first_weight")


def test_a_tensor_and_the_array_that_it_was_made_of_share_memory_after_a_kill(
    notebook: Notebook,
) -> None:
    notebook.run("import torch, numpy as np").ok()
    notebook.run("small, large = np.zeros(100), np.zeros(100_000)").ok()
    last = notebook.run("t, u = torch.from_numpy(small), torch.from_numpy(large)").ok()
    for _ in range(2):  # what was restored is saved as well as what was made
        wait_for_checkpoint(notebook, last.execution_count)
        notebook.kill_kernel()
        last = notebook.run("t += 1; u += 1").ok()
    assert notebook.eval("(int(small.sum()), int(large.sum()))") == (200, 200_000)


def test_a_long_cell_is_saved_with_parameters_and_optimizer_of_one_moment(
    server: JupyterServer, notebook_path: str
) -> None:
    name = server.environment.kernelspec("resilient-every-second", checkpoint_interval=1)
    notebook = server.open(notebook_path, name)
    notebook.run(TRAINING).ok()
    pid = notebook.kernel_pid
    cell = notebook.start("steps = 0\nwhile True:\n    step()\n    steps += 1")
    wait_for_checkpoint(notebook, 2, inside_cell=True)
    notebook.kill_kernel(pid)
    assert notebook.finish(cell).status == "died"
    updates = int(notebook.eval("optimizer.state[first_weight]['step'].item()"))
    assert updates - notebook.eval("steps") in (0, 1)  # perhaps between the two lines
    loss = "torch.nn.functional.mse_loss(model(inputs), targets).item()"
    assert notebook.eval(loss) < 0.1
    notebook.close()
