"""Tensors come back as they were: memory, sharing, gradients, kinds. Skipped without torch."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from notebook_namespace import Notebook, names_of_units

from checkpoint_kernel import arrays, rebuild, tensors, units
from checkpoint_kernel.refusals import Unsavable

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.unit

SMALL, LARGE = 100, 100_000  # elements: in the stream, out of band


def third(cell: str) -> Any:
    """Three generations: what was restored must be saved as well as what was made."""
    notebook = Notebook()
    notebook.run(f"import torch, numpy as np\n{cell}")
    return notebook.reborn().reborn().reborn().main


def buffers_of(notebook: Notebook, name: str) -> list[memoryview]:
    [draft] = [d for d in notebook.partition().units if name in d.root]
    assert draft.pickled is not None
    return units.storages(draft.pickled)[0]


class TestSharing:
    @pytest.mark.parametrize("size", [SMALL, LARGE])
    @pytest.mark.parametrize(
        "view",
        ["a[10:20]", "a[::2]", "a.view(-1, 10).T", "a.detach()", "a[None]", "a.expand(2, -1)"],
    )
    def test_views_share_memory_with_their_base(self, size: int, view: str) -> None:
        again = third(f"a = torch.arange({size}, dtype=torch.float64); v = {view}")
        assert again["v"].stride() == third(f"a = torch.ones({size}); v = {view}")["v"].stride()
        again["a"][:] = -1
        assert (again["v"] == -1).all()

    @pytest.mark.parametrize("size", [SMALL, LARGE])
    @pytest.mark.parametrize(
        "cell",
        [
            "a = np.ones({n}); t = torch.from_numpy(a)",
            "a = np.ones({n}); t = torch.from_numpy(a[5:])",
            "a = np.ones({n}); t = torch.from_numpy(a); a = a[5:]",
            "t = torch.ones({n}, dtype=torch.float64); a = t.numpy()",
            "t = torch.ones({n}, dtype=torch.float64); a = t[5:].numpy()[::2]",
            "t = torch.ones({n}, dtype=torch.float64); a = t.numpy(); t = t[:20]",
            "p = torch.nn.Parameter(torch.ones({n})); t = p.data; a = p.detach().numpy()",
            "a = np.ones({n}); t = torch.from_numpy(a); both = [a, t]",
            "t = torch.ones({n}); a = np.from_dlpack(t)",
            "a = np.ones({n}); t = torch.from_dlpack(a)",
        ],
    )
    def test_an_array_and_a_tensor_on_one_memory_share_it(self, size: int, cell: str) -> None:
        again = third(cell.format(n=size))
        again["t"][10:] = 7
        assert 7 in again["a"]
        again["a"][1:] = 9
        assert 9 in again["t"]

    def test_a_small_tensor_on_a_large_array_shares_it(self) -> None:
        again = third(f"a = np.ones({LARGE}); t = torch.from_numpy(a[100:110])")
        again["t"][0] = 7
        assert again["a"][100] == 7

    def test_a_dataset_of_arrays_shares_them(self) -> None:
        again = third(
            "x, y = np.ones((20_000, 4)), np.zeros(200, dtype='i8')\n"
            "data = {'x': torch.from_numpy(x), 'y': torch.from_numpy(y)}"
        )
        again["x"][3, 1], again["y"][9] = 5, 6
        assert again["data"]["x"][3, 1] == 5
        assert again["data"]["y"][9] == 6

    def test_arrays_on_one_bytearray_share_it_beside_tensors_on_other_memory(self) -> None:
        again = third(
            "raw = bytearray(800); a = np.frombuffer(raw, 'u1'); b = np.frombuffer(raw, 'u1')\n"
            "other = np.ones(5); t = torch.from_numpy(other)"
        )
        again["raw"][7] = 9
        assert again["a"][7] == again["b"][7] == 9

    def test_tensors_without_common_memory_stay_apart(self) -> None:
        notebook = Notebook()
        notebook.run("import torch\na, b = torch.ones(5), torch.ones(5)")
        notebook.run("s, r = torch.eye(3).to_sparse(), torch.eye(3).to_sparse()")
        apart = {frozenset(name) for name in "absr"}
        assert apart <= names_of_units(notebook.partition())

    def test_an_array_that_a_tensor_lies_on_is_never_taken_to_be_out_of_its_reach(self) -> None:
        notebook = Notebook()
        notebook.run(
            "import torch, numpy as np\nfree = np.ones(7); a = np.ones(7); b = np.ones(100_000)\n"
            "c = torch.ones(7); hidden = [torch.from_numpy(a), torch.from_numpy(b), c.numpy()]"
        )
        hidden = notebook.main.pop("hidden")
        closed = {name: d.closed for d in notebook.partition().units for name in d.root}
        assert len(hidden) == 3
        assert (closed["free"], closed["a"], closed["b"], closed["c"]) == (
            True,
            False,
            False,
            False,
        )

    def test_tied_weights_are_one_parameter(self) -> None:
        again = third(
            "m = torch.nn.ModuleList([torch.nn.Linear(300, 300), torch.nn.Linear(300, 300)])\n"
            "m[1].weight = m[0].weight"
        )["m"]
        assert again[0].weight is again[1].weight


class TestMemory:
    def test_large_storages_are_buffers_of_the_tensors_own_memory(self) -> None:
        notebook = Notebook()
        notebook.run(f"import torch\nt = torch.ones({LARGE}); v = t[10:]")
        [buffer] = buffers_of(notebook, "t")
        address = np.frombuffer(buffer, np.uint8).ctypes.data
        assert (address, buffer.nbytes) == (notebook.main["t"].data_ptr(), 4 * LARGE)

    def test_equal_tensors_give_equal_bytes(self) -> None:
        notebook = Notebook()
        notebook.run(
            "import torch\nm = torch.nn.Linear(200, 200); o = torch.optim.Adam(m.parameters())"
        )
        first, second = ([d.pickled for d in notebook.partition().units] for _ in range(2))
        assert [p and p.stream for p in first] == [p and p.stream for p in second]

    @pytest.mark.parametrize("size", [0, 1, SMALL, LARGE])
    def test_restored_tensors_can_be_written_to_and_replaced(self, size: int) -> None:
        tensor = third(f"t = torch.zeros({size})")["t"]
        tensor += 1
        tensor.data = torch.zeros(2 * size + 1)
        assert tensor.numel() == 2 * size + 1

    def test_small_restored_tensors_can_be_enlarged(self) -> None:
        assert third("t = torch.zeros(10)")["t"].resize_(50).numel() == 50

    def test_large_restored_tensors_can_be_made_smaller_but_not_enlarged(self) -> None:
        tensor = third(f"t = torch.zeros({LARGE})")["t"]
        assert tensor.resize_(10).numel() == 10
        with pytest.raises(RuntimeError, match="not resizable"):
            tensor.resize_(2 * LARGE)

    def test_tensors_in_shared_memory_and_of_a_file_come_back_as_ordinary_ones(
        self, tmp_path: Any
    ) -> None:
        torch.save(torch.arange(LARGE), tmp_path / "t.pt")
        again = third(
            f"s = torch.ones({LARGE}).share_memory_()\n"
            f"f = torch.load({str(tmp_path / 't.pt')!r}, mmap=True)"
        )
        again["f"][0] = 5
        assert not again["s"].is_shared()
        assert again["f"].sum() == sum(range(LARGE)) + 5


class TestKinds:
    @pytest.mark.parametrize("size", [SMALL, LARGE])
    @pytest.mark.parametrize(
        "dtype",
        ["bfloat16", "float16", "float8_e4m3fn", "uint8", "uint16", "uint64", "bool", "complex64"],
    )
    def test_every_dtype_comes_back(self, size: int, dtype: str) -> None:
        cell = f"t = torch.arange({size}).to(torch.{dtype})"
        tensor = third(cell)["t"]
        assert tensor.dtype is getattr(torch, dtype)
        expected = torch.arange(size).to(tensor.dtype)
        assert torch.equal(tensor.view(torch.uint8), expected.view(torch.uint8))

    @pytest.mark.parametrize(
        "expression",
        [
            "torch.tensor(3.5)", "torch.zeros(0, 5)", "torch.arange(6).view(2, 3).T",
            "torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last)",
            "torch.view_as_complex(torch.rand(3, 2)).conj()", "torch.rand(3, requires_grad=True)",
            "torch.nn.Parameter(torch.rand(3), requires_grad=False)",
            "torch.nn.Parameter(torch.ones(4).to(torch.float8_e4m3fn), requires_grad=False)",
            "torch.eye(300).to_sparse()", "torch.eye(300).to_sparse_csr()",
            "torch.quantize_per_tensor(torch.rand(30), 0.1, 0, torch.quint8)",
            "torch.quantize_per_channel(torch.rand(2, 3), torch.tensor([.1, .2]), "
            "torch.tensor([0, 0]), 0, torch.qint8)",
            "torch.nested.nested_tensor([torch.rand(2), torch.rand(3)], layout=torch.jagged)",
        ],
    )  # fmt: skip
    @pytest.mark.filterwarnings("ignore")
    def test_values_and_layout_come_back(self, expression: str) -> None:
        notebook = Notebook()
        notebook.run(f"import torch\nt = {expression}")
        before, after = notebook.main["t"], notebook.reborn().reborn().main["t"]
        assert type(after) is type(before)
        assert (after.dtype, after.layout) == (before.dtype, before.layout)
        assert (after.requires_grad, after.is_leaf) == (before.requires_grad, before.is_leaf)
        if before.layout is torch.jagged:
            before, after = before.values(), after.values()
        elif before.layout is not torch.strided:
            before, after = before.to_dense(), after.to_dense()
        else:
            assert after.stride() == before.stride()
        if before.is_quantized:
            before, after = before.dequantize(), after.dequantize()
        assert torch.equal(after.float() if after.is_floating_point() else after,
                           before.float() if before.is_floating_point() else before)  # fmt: skip

    def test_a_tensor_that_was_computed_says_that_its_graph_is_gone(self) -> None:
        again = third("w = torch.ones(3, requires_grad=True); loss = (2 * w).sum()")
        assert again["loss"].item() == 6
        with pytest.raises(RuntimeError, match="does not require grad"):
            again["loss"].backward()

    def test_attributes_and_subclasses_come_back(self) -> None:
        again = third(
            "class Named(torch.Tensor): pass\nt = torch.ones(3).as_subclass(Named); t.tag = 'x'\n"
            "u = torch.ones(3, dtype=torch.uint16); u.note = 'y'"
        )
        assert type(again["t"]) is again["Named"]
        assert (again["t"].tag, again["u"].note, again["u"].dtype) == ("x", "y", torch.uint16)

    def test_a_storage_of_its_own_comes_back(self) -> None:
        again = third(
            "t = torch.arange(5); s = t.untyped_storage(); f = t.clone()._typed_storage()"
        )
        again["t"][0] = 9
        assert again["s"][0] == 9
        assert (again["f"].dtype, again["f"].tolist()) == (torch.int64, [0, 1, 2, 3, 4])

    def test_a_generator_goes_on_with_the_same_numbers(self) -> None:
        cell = "g = torch.Generator().manual_seed(3); torch.rand(5, generator=g)"
        assert torch.equal(
            torch.rand(3, generator=third(cell)["g"]),
            torch.rand(8, generator=torch.Generator().manual_seed(3))[5:],
        )

    @pytest.mark.filterwarnings("ignore")
    def test_a_scripted_module_is_saved_with_the_parameters_that_an_optimizer_has(self) -> None:
        notebook = Notebook()
        notebook.run("import torch\nm = torch.jit.script(torch.nn.Linear(2, 2)); good = [1]")
        notebook.run("o = torch.optim.SGD(m.parameters(), 0.1)")
        partition = notebook.partition()
        assert not partition.skipped
        assert "data:m+o" in {unit.id for unit in partition.units}


TRAINING = """
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(20, 300), torch.nn.ReLU(), torch.nn.Linear(300, 1))
opt = torch.optim.Adam(model.parameters(), lr=1e-2)
x = torch.rand(64, 20); y = x.sum(1, keepdim=True)
def step():
    opt.zero_grad()
    loss = torch.nn.functional.mse_loss(model(x), y)
    loss.backward()
    opt.step()
    return loss.item()
for _ in range(5): step()
"""


class TestTraining:
    def test_it_goes_on_from_where_it_was(self) -> None:
        notebook = Notebook()
        notebook.run(f"import torch\n{TRAINING}")
        again = notebook.reborn().reborn()
        assert [again.main["step"]() for _ in range(5)] == [
            notebook.main["step"]() for _ in range(5)
        ]

    def test_gradients_that_wait_for_their_step_are_there(self) -> None:
        notebook = Notebook()
        notebook.run(f"import torch\n{TRAINING}")
        notebook.run("opt.zero_grad(); torch.nn.functional.mse_loss(model(x), y).backward()")
        again = notebook.reborn()
        for one in (notebook, again):
            one.run("opt.step()")
        assert again.main["step"]() == notebook.main["step"]()

    def test_hooks_of_parameters_are_still_called_and_can_be_removed(self) -> None:
        again = third(
            "w = torch.ones(3, requires_grad=True); seen = []\n"
            "hook = w.register_hook(lambda g: g * 10)\n"
            "after = w.register_post_accumulate_grad_hook(lambda t: seen.append(t is w))"
        )
        again["w"].sum().backward()
        assert again["w"].grad.tolist() == [10, 10, 10]
        assert again["seen"] == [True]
        again["hook"].remove()
        again["w"].grad = None
        again["w"].sum().backward()
        assert again["w"].grad.tolist() == [1, 1, 1]


class FakeStorage:
    """What `reduce_storage` sees of a storage on a device; none is lent to these tests."""

    class device:  # noqa: N801
        type = "cuda"

        def __str__(self) -> str:
            return "cuda:1"

    def __init__(self, content: bytes, claims: int | None = None) -> None:
        self.device = FakeStorage.device()
        self._host = torch.UntypedStorage(list(content))
        self._claims = claims

    def nbytes(self) -> int:
        return self._claims or self._host.nbytes()

    def cpu(self) -> Any:
        return self._host


class FakeBackend:
    def __init__(self, count: int, fails: str | None = None) -> None:
        self._count = count
        self.fails = fails

    def is_available(self) -> bool:
        return self._count > 0

    def device_count(self) -> int:
        return self._count


class TestDevices:
    """Untested on a device: here are the seams."""

    @pytest.mark.parametrize("size", [10, 100_000])
    def test_a_storage_on_a_device_is_saved_from_the_host(self, size: int) -> None:
        place = arrays.Memory()
        function, (data, device) = tensors.reduce_storage(FakeStorage(b"x" * size), place)
        assert (function, bytes(data), device) == (rebuild.storage, b"x" * size, "cuda:1")
        assert not place.in_stream
        assert not place.borrowed

    def test_one_that_does_not_fit_into_the_host_is_refused_with_its_size(self) -> None:
        with pytest.raises(Unsavable, match=r"cuda:1.*1048576 MB do not fit"):
            tensors.reduce_storage(FakeStorage(b"x", claims=1 << 40), arrays.Memory())

    @pytest.mark.parametrize(
        ("count", "reason"), [(0, "cuda:1 (there is none)"), (1, "cuda:1 (there are 1)")]
    )
    def test_without_its_device_a_storage_stays_on_the_cpu_and_says_so(
        self, monkeypatch: pytest.MonkeyPatch, count: int, reason: str
    ) -> None:
        monkeypatch.setattr(torch, "cuda", FakeBackend(count))
        storages = [rebuild.storage(b"abc", "cuda:1") for _ in range(2)]
        assert [bytes(s.tolist()) for s in storages] == [b"abc"] * 2
        assert tensors.left_on_cpu() == [reason]
        assert tensors.left_on_cpu() == []

    def test_with_its_device_a_storage_goes_back_to_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch, "cuda", FakeBackend(2))
        asked = []
        monkeypatch.setattr(
            torch.UntypedStorage, "to", lambda self, *, device: asked.append(device) or self
        )
        rebuild.storage(b"abc", "cuda:1")
        assert asked == [torch.device("cuda", 1)]
        assert tensors.left_on_cpu() == []

    def test_a_device_that_fails_costs_the_device_and_not_the_tensor(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch, "cuda", FakeBackend(2))

        def full(self: Any, *, device: Any) -> Any:
            raise RuntimeError("CUDA out of memory.\nTried to allocate")

        monkeypatch.setattr(torch.UntypedStorage, "to", full)
        assert rebuild.storage(b"abc", "cuda:1").tolist() == list(b"abc")
        [said] = tensors.left_on_cpu()
        assert "RuntimeError: CUDA out of memory. Tried" in said


def test_torch_is_not_imported_by_who_does_not_use_it() -> None:
    program = (
        "import sys, checkpoint_kernel.tensors, checkpoint_kernel.units; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_reading_tensors_starts_no_thread() -> None:
    program = (
        "import torch, os\n"
        "from notebook_namespace import Notebook\n"
        "n = Notebook()\n"
        "n.run('import torch; m = torch.nn.Linear(2000, 2000); t = torch.eye(2000).to_sparse();'\n"
        "      'q = torch.quantize_per_tensor(torch.rand(2_000_000), 0.1, 0, torch.quint8)')\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    n.partition()\n"
        "    os._exit(len(os.listdir('/proc/self/task')))\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin"},
    )  # fmt: skip
    assert done.stdout.split()[-1] == "1"
