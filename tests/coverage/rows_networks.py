"""More rows of torch: the usual layers, losses, optimizers and data sets, and of matplotlib."""

from __future__ import annotations

from library import Library
from row import Row

_torch = Library("torch", "import copy, torch\nfrom torch import nn")
_matplotlib = Library(
    "matplotlib", "import matplotlib\nmatplotlib.use('Agg')\nfrom matplotlib import pyplot as plt"
)


def _layer(made: str, given: str) -> Row:
    """It gives the same, and a gradient."""
    name = made.partition("(")[0]
    run = f"out = NAME({given})\nout = out[0] if isinstance(out, tuple) else out\n"
    return _torch(
        f"nn.{name}",
        f"torch.manual_seed(0)\nNAME = nn.{made}.eval()\n{run}NAME_was = out.detach()\ndel out",
        f"{run}assert torch.equal(out, NAME_was)\nout.sum().backward()\n"
        "assert all(p.grad is not None for p in NAME.parameters())",
    )


_LAYERS = (
    _layer("Conv2d(1, 2, 3, padding=1)", "torch.ones(1, 1, 4, 4)"),
    _layer("BatchNorm1d(3)", "torch.ones(2, 3)"),
    _layer("LayerNorm(4)", "torch.arange(4.)"),
    _layer("Embedding(5, 3, padding_idx=0)", "torch.tensor([1, 4])"),
    _layer("GRU(2, 3)", "torch.ones(4, 1, 2)"),
    _layer("MultiheadAttention(4, 2)", "*[torch.ones(2, 1, 4)] * 3"),
    _layer("Bilinear(2, 3, 1)", "torch.ones(1, 2), torch.ones(1, 3)"),
    _layer("PReLU()", "torch.tensor([-1., 2.])"),
)


def _optimizer(made: str) -> Row:
    """Two steps before, one after: as three in one go."""
    name = made.partition("(")[0]
    step = "{0}.zero_grad()\n({1} ** 2).sum().backward()\n{0}.step()\n"
    return _torch(
        f"optim.{name}, going on",
        "NAME_p = nn.Parameter(torch.tensor([1., 2.]))\nNAME_q = copy.deepcopy(NAME_p)\n"
        f"NAME = torch.optim.{made.replace('PARAMETERS', '[NAME_p]')}\n"
        f"NAME_o = torch.optim.{made.replace('PARAMETERS', '[NAME_q]')}\n"
        + step.format("NAME", "NAME_p") * 2 + step.format("NAME_o", "NAME_q") * 3
        + "NAME_was = NAME_q.detach().clone()",
        step.format("NAME", "NAME_p") + "assert torch.equal(NAME_p.detach(), NAME_was)",
    )  # fmt: skip


_OPTIMIZERS = (
    _optimizer("AdamW(PARAMETERS, 0.1)"),
    _optimizer("RMSprop(PARAMETERS, 0.1, momentum=0.5)"),
    _optimizer("Adagrad(PARAMETERS, 0.1)"),
    _optimizer("NAdam(PARAMETERS, 0.1)"),
)

_DATA = (
    _torch("losses", "NAME = [nn.CrossEntropyLoss(torch.tensor([1., 3])), nn.MSELoss(),"
        " nn.BCEWithLogitsLoss(pos_weight=torch.tensor(2.)), nn.HuberLoss()]",
        "assert NAME[0](torch.tensor([[0., 0]]), torch.tensor([1])).item() > 0.6\n"
        "assert NAME[1](torch.ones(2), torch.zeros(2)) == 1 and NAME[2].pos_weight == 2"),
    _torch("TensorDataset, ConcatDataset and samplers",
        "from torch.utils import data\nNAME_t = torch.arange(4.)\nNAME = data.TensorDataset(NAME_t)\n"
        "NAME_c = data.ConcatDataset([NAME, NAME])\n"
        "NAME_s = [data.WeightedRandomSampler([0., 1.], 3), data.BatchSampler(range(5), 2, False)]",
        "NAME_t[1] = 9\nassert NAME[1][0] == 9 == NAME_c[5][0] and list(NAME_s[0]) == [1, 1, 1]\n"
        "assert list(NAME_s[1])[-1] == [4]"),
    _torch("tensors of many dtypes", "NAME = [torch.tensor(v, dtype=getattr(torch, d)) for v, d in"
        " ((True, 'bool'), (1.5, 'bfloat16'), (1j, 'complex64'), (7, 'uint8'), (1.5, 'float16'))]",
        "assert [str(t.dtype) for t in NAME] == ['torch.bool', 'torch.bfloat16', 'torch.complex64',"
        " 'torch.uint8', 'torch.float16'] and NAME[1].item() == 1.5 and NAME[2].item() == 1j"),
    _torch("tensor with a gradient that was computed", "NAME = torch.ones(2, requires_grad=True)\n"
        "(NAME * 3).sum().backward()",
        "assert NAME.grad.tolist() == [3, 3]\n(NAME * 2).sum().backward()\n"
        "assert NAME.grad.tolist() == [5, 5] and NAME.is_leaf"),
    _torch("tensor and the array over its memory", "import numpy as np\nNAME_a = np.arange(3.)\n"
        "NAME = torch.from_numpy(NAME_a)",
        "NAME_a[0] = 7\nassert NAME[0] == 7", "numpy"),
    _torch("Dropout, Flatten, Sequential with hooks", "NAME_seen = []\n"
        "NAME = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.Dropout(0.5))\n"
        "NAME[1].register_forward_hook(lambda m, i, o: NAME_seen.append(o.shape))",
        "NAME.train()\nNAME(torch.ones(1, 2, 2))\nassert NAME_seen == [(1, 2)] and NAME.training"),
)  # fmt: skip

_MATPLOTLIB = (
    _matplotlib("histogram, box plot and violins", "NAME, axes = plt.subplots(3)\n"
        "axes[0].hist([1, 2, 2], bins=2)\nNAME_b = axes[1].boxplot([[1, 2, 9]])\n"
        "axes[2].violinplot([1, 2, 3])\nplt.close(NAME)",
        "NAME.canvas.draw()\nassert [p.get_height() for p in NAME.axes[0].patches] == [1, 2]\n"
        "assert NAME_b['medians'][0].axes is NAME.axes[1]"),
    _matplotlib("contours and quiver", "NAME, axes = plt.subplots()\n"
        "NAME_c = axes.contourf([[0, 1], [1, 2]])\naxes.quiver([0], [0], [1], [1])\nplt.close(NAME)",
        "NAME.canvas.draw()\nassert NAME_c.axes is NAME.axes[0] and len(NAME_c.levels) > 2"),
    _matplotlib("error bars, fills and a log scale", "NAME, axes = plt.subplots()\n"
        "NAME_e = axes.errorbar([1, 2], [3, 4], yerr=0.5)\naxes.fill_between([1, 2], [1, 2])\n"
        "axes.set_yscale('log')\nplt.close(NAME)",
        "NAME.canvas.draw()\nassert NAME.axes[0].get_yscale() == 'log' and NAME_e.has_yerr"),
    _matplotlib("legend, annotation, table and text", "NAME, axes = plt.subplots()\n"
        "axes.plot([1, 2], label='x')\nNAME_l = axes.legend()\n"
        "NAME_a = axes.annotate('hi', (0, 1), (0.5, 1.5), arrowprops={'arrowstyle': '->'})\n"
        "axes.table([['1']])\nplt.close(NAME)",
        "NAME.canvas.draw()\nassert NAME_l.get_texts()[0].get_text() == 'x' and NAME_a.figure is NAME"),
    _matplotlib("dates on an axis", "import datetime\nimport matplotlib.dates as dates\n"
        "NAME, axes = plt.subplots()\naxes.plot([datetime.date(2024, 1, d) for d in (1, 9)], [1, 2])\n"
        "axes.xaxis.set_major_formatter(dates.DateFormatter('%d'))\nplt.close(NAME)",
        "NAME.canvas.draw()\nassert NAME.axes[0].get_xticklabels()[0].get_text().isdigit()"),
    _matplotlib("norms, ListedColormap and ScalarMappable", "from matplotlib import cm, colors\n"
        "NAME = cm.ScalarMappable(colors.LogNorm(1, 100), colors.ListedColormap(['r', 'b']))",
        "assert NAME.to_rgba(99) == (0, 0, 1, 1) and NAME.norm(10) == 0.5"),
)  # fmt: skip

ROWS = (*_LAYERS, *_OPTIMIZERS, *_DATA, *_MATPLOTLIB)
