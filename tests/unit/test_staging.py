"""Device memory is copied before a fork. Storages of the CPU stand in for those of a device.

What only a device can show is in tests/e2e/test_on_a_device.py.
"""

from __future__ import annotations

import collections
import sys
import time
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from incremental import Incremental  # noqa: E402

from checkpoint_kernel import checkpoint, device_memory, safe_point, snapshot, staging  # noqa: E402
from checkpoint_kernel.safe_point import IDLE  # noqa: E402
from checkpoint_kernel.staging import HostCopy, Staging  # noqa: E402

pytestmark = pytest.mark.unit

LARGE = 1_000_000  # storages of so many bytes are "on the device"


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_elsewhere(storage: Any) -> bool:
        return storage.device.type == "cpu" and storage.nbytes() >= LARGE

    monkeypatch.setattr(device_memory, "is_elsewhere", is_elsewhere)
    monkeypatch.setattr(device_memory, "is_in_use", lambda _: True)


def below(*roots: Any) -> set[int]:
    return set(device_memory.below(roots, torch))


def key(tensor: Any) -> int:
    return int(tensor.untyped_storage()._cdata)


class TestDigest:
    @pytest.mark.parametrize("length", [0, 1, 3, 4, 1000, (1 << 20) + 5, (10 << 20) + 3])
    def test_equal_bytes_have_equal_digests(self, length: int) -> None:
        one = torch.randint(0, 256, (length,), dtype=torch.uint8)
        digests = {
            device_memory.digest(each.untyped_storage(), torch) for each in (one, one.clone())
        }
        assert len(digests) == 1

    @pytest.mark.parametrize("at", [0, 1, 3, (1 << 20) - 1, 1 << 20, (9 << 20) + 1, (10 << 20) + 2])
    def test_one_byte_makes_another_digest_wherever_it_is(self, at: int) -> None:
        one = torch.zeros((10 << 20) + 3, dtype=torch.uint8)
        before = device_memory.digest(one.untyped_storage(), torch)
        one[at] = 1
        assert device_memory.digest(one.untyped_storage(), torch) != before

    @pytest.mark.parametrize(
        "change",
        [
            lambda t: t.neg_(),  # only the highest bits differ, in all of them
            lambda t: t.roll(1, 0),
            lambda t: t.flip(0),
            lambda t: t.view(2, -1).flip(0).reshape(-1),  # whole MBs change places
            lambda t: t * 2,
        ],
        ids=["signs", "one on", "backwards", "halves", "doubled"],
    )
    def test_regular_changes_make_another_digest(self, change: Any) -> None:
        one = torch.rand(1 << 20, dtype=torch.float64)
        before = device_memory.digest(one.untyped_storage(), torch)
        assert device_memory.digest(change(one).contiguous().untyped_storage(), torch) != before

    def test_the_length_counts(self) -> None:
        zeros = [torch.zeros(n, dtype=torch.uint8).untyped_storage() for n in range(5)]
        assert len({device_memory.digest(each, torch) for each in zeros}) == 5


@pytest.mark.usefixtures("device")
class TestFinding:
    def test_what_a_model_and_its_optimizer_hold(self) -> None:
        model = torch.nn.Linear(1000, 1000)
        optimizer = torch.optim.Adam(model.parameters())
        model(torch.rand(2, 1000)).sum().backward()
        optimizer.step()
        state = optimizer.state[model.weight]
        wanted = {key(t) for t in (model.weight, model.weight.grad, state["exp_avg"])}
        assert wanted | {key(state["exp_avg_sq"])} == below(optimizer)
        assert key(model.weight) in below(model)

    @pytest.mark.parametrize(
        "hide",
        [
            lambda t: [{"a": (t,)}],
            lambda t: lambda: t,
            lambda t: lambda x=t: x,
            lambda t: t[5:10],
            lambda t: t.view(torch.int32).T,
            lambda t: torch.nn.Parameter(t),
            lambda t: __import__("functools").partial(print, t),
            lambda t: __import__("types").SimpleNamespace(deep=[t]),
            lambda t: t.untyped_storage(),
            lambda t: t.storage(),
            lambda t: __import__("numpy").array([t, None], dtype=object)[:1],
        ],
    )
    def test_a_tensor_that_is_hidden_in_something(self, hide: Any) -> None:
        tensor = torch.rand(LARGE)
        assert below(hide(tensor)) == {key(tensor)}

    def test_a_sparse_tensor_has_several(self) -> None:
        sparse = _sparse()
        assert below(sparse) == {key(sparse._values()), key(sparse._indices())}

    def test_modules_and_classes_are_not_entered(self) -> None:
        module = type(sys)("a_module")
        module.tensor = torch.rand(LARGE)
        assert below(module, collections.OrderedDict, test_values_of_locals) == set()

    def test_a_class_of_the_notebook_is_entered_also_from_its_instances(self) -> None:
        config = type("Config", (), {"weights": torch.rand(LARGE), "__module__": "__main__"})
        assert below(config) == below(config()) == {key(config.weights)}

    def test_among_millions_of_objects_what_is_certain_is_found(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(device_memory, "_SEARCH_S", 0.01)
        model, rows = torch.nn.Linear(1000, 1000), [{"k": [n]} for n in range(300_000)]
        began = time.thread_time()
        with Staging().staged(dict, lambda: (model, rows), 1 << 30):
            assert set(staging._copies or ()) == {key(model.weight)}
        assert time.thread_time() - began < 1.0

    def test_cycles_end(self) -> None:
        ring: list[Any] = [torch.rand(LARGE)]
        ring.append(ring)
        assert len(below(ring)) == 1


def _sparse() -> Any:
    positions = torch.arange(LARGE).view(1, -1)
    return torch.sparse_coo_tensor(positions, torch.rand(LARGE), (LARGE,))


def test_values_of_locals() -> None:
    cell_only, plain = object(), object()

    def inner(argument: object) -> list[Any]:
        later = None if argument is None else cell_only
        del later
        return safe_point.values_of(sys._getframe())

    seen = inner(plain)
    assert any(value is plain for value in seen)
    held = [getattr(value, "cell_contents", value) for value in seen]
    assert any(value is cell_only for value in held)


def test_reading_locals_does_not_keep_them() -> None:
    class Mark:
        pass

    import weakref

    def run() -> Any:
        mark = Mark()
        safe_point.values_of(sys._getframe())
        gone = weakref.ref(mark)
        del mark
        return gone()

    assert run() is None


# --- from checkpoint to checkpoint --------------------------------------------------------


@pytest.fixture
def kernel(device: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Incremental:
    """Checkpoints are made in place, but of what is staged for a fork."""
    kernel = Incremental(tmp_path)
    monkeypatch.setattr(kernel, "copied", [], raising=False)
    in_place, copied = checkpoint.Checkpointer._in_place, device_memory.copied

    def staged_in_place(self: Any, facts: Any) -> None:
        variables = self._shell.user_ns
        with self._staging.staged(lambda: variables, lambda: (), 1 << 30):
            in_place(self, facts)

    def counted(storage: Any) -> Any:
        kernel.copied.append(storage.nbytes())  # type: ignore[attr-defined]
        return copied(storage)

    monkeypatch.setattr(checkpoint.Checkpointer, "_in_place", staged_in_place)
    monkeypatch.setattr(device_memory, "copied", counted)
    return kernel


def copied(kernel: Any) -> list[int]:
    """Sizes of what was copied from the device since the last call."""
    found, kernel.copied[:] = list(kernel.copied), []
    return found


def value(kernel: Incremental, taken: Any, name: str) -> Any:
    return kernel.loaded(taken.manifest, kernel.store)[name]


class TestFromCheckpointToCheckpoint:
    def test_a_tensor_is_copied_once_and_then_only_when_it_has_changed(
        self, kernel: Incremental
    ) -> None:
        kernel.run("import torch; t = torch.arange(300_000.0); n = 0")
        kernel.take()
        assert copied(kernel) == [1_200_000]
        kernel.run("n = 1; t")
        second = kernel.take()
        assert copied(kernel) == []
        assert torch.equal(value(kernel, second, "t"), torch.arange(300_000.0))
        kernel.run("t.data[7] = -1")  # does not count as a new version
        third = kernel.take()
        assert copied(kernel) == [1_200_000]
        assert value(kernel, third, "t")[7] == -1
        assert value(kernel, second, "t")[7] == 7

    def test_one_of_two_tensors_of_a_model_that_has_changed_is_copied(
        self, kernel: Incremental
    ) -> None:
        kernel.run("import torch\nm = torch.nn.Sequential(torch.nn.Linear(600, 600), "
                   "torch.nn.Linear(600, 700))")  # fmt: skip
        kernel.take()
        copied(kernel)
        kernel.run("with torch.no_grad(): m[1].weight.add_(1)")
        taken = kernel.take()
        assert copied(kernel) == [600 * 700 * 4]
        live = kernel.shell.user_ns["m"].state_dict()
        back = value(kernel, taken, "m").state_dict()
        assert all(torch.equal(live[name], back[name]) for name in live)

    def test_a_tensor_in_a_container_is_missed_once_named_and_saved_by_the_next(
        self, kernel: Incremental
    ) -> None:
        kernel.run("import torch; box = {'t': torch.ones(300_000)}; n = 1")
        first = kernel.take()
        [skipped] = first.manifest.skipped
        assert skipped.name == "box"
        assert "on cpu, and was not copied before the snapshot" in skipped.reason
        assert kernel.checkpointer.stale_since is not None, "the next one is due"
        second = kernel.take()
        assert not second.manifest.skipped
        assert torch.equal(value(kernel, second, "box")["t"], torch.ones(300_000))
        assert kernel.checkpointer.stale_since is None

    def test_what_can_never_be_found_is_not_tried_for_ever(
        self, kernel: Incremental, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(device_memory, "below", lambda *_: {})
        kernel.run("import torch; t = torch.ones(300_000)")
        kernel.take()
        kernel.take()
        assert kernel.checkpointer.stale_since is None

    def test_tensors_that_share_memory_share_it_again(self, kernel: Incremental) -> None:
        kernel.run("import torch; t = torch.zeros(300_000); v = t[10:20]")
        kernel.take()
        kernel.run("v[0] = 5")
        again = kernel.loaded(kernel.take().manifest, kernel.store)
        again["v"][1] = 6
        assert again["t"][10:12].tolist() == [5, 6]

    def test_an_equal_tensor_under_another_name_is_not_copied(self, kernel: Incremental) -> None:
        kernel.run("import torch; t = torch.rand(300_000)")
        kernel.take()
        copied(kernel)
        kernel.run("u = t.clone(); del t")
        taken = kernel.take()
        assert copied(kernel) == []
        assert torch.equal(value(kernel, taken, "u"), kernel.shell.user_ns["u"])

    def test_after_a_failed_snapshot_changes_are_not_lost(self, kernel: Incremental) -> None:
        from incremental import Interrupted

        kernel.run("import torch; t = torch.zeros(300_000)")
        kernel.take()
        kernel.run("t[0] = 1")
        for moment in ("begin", "commit"):
            with pytest.raises(Interrupted):
                kernel.take(fail_at=moment)
        assert value(kernel, kernel.take(), "t")[0] == 1

    def test_what_went_back_to_an_older_state_is_copied_again(self, kernel: Incremental) -> None:
        kernel.run("import torch; t = torch.zeros(300_000)")
        kernel.take()
        kernel.run("t[0] = 1")
        kernel.take()
        kernel.run("t[0] = 0")
        copied(kernel)
        assert value(kernel, kernel.take(), "t").sum() == 0
        assert copied(kernel), "the payload of before is not of the newest checkpoint"

    def test_a_payload_that_is_gone_fails_the_checkpoint_and_the_next_one_copies(
        self, kernel: Incremental
    ) -> None:
        kernel.run("import torch; t = torch.ones(300_000)")
        kernel.take()
        [digest] = kernel.checkpointer._staging._saved
        kernel.checkpointer._staging._saved[digest] = ("00" * 32, 0)
        kernel.run("t")
        with pytest.raises(AssertionError, match="is gone, or not whole"):
            kernel.take()
        kernel.checkpointer._staging.forget()
        assert torch.equal(value(kernel, kernel.take(), "t"), torch.ones(300_000))


# --- what cannot be copied ------------------------------------------------------------------


def staged(variables: dict[str, Any], room_bytes: int = 1 << 30) -> list[Any]:
    made = Staging()
    with made.staged(lambda: variables, lambda: (), room_bytes):
        return list((staging._copies or {}).values())


@pytest.mark.usefixtures("device")
class TestRefused:
    def test_what_does_not_fit_into_the_host_is_refused_with_its_size_and_the_rest_is_not(
        self,
    ) -> None:
        variables = {"a": torch.rand(LARGE), "b": torch.rand(LARGE)}
        kinds = sorted(type(copy).__name__ for copy in staged(variables, room_bytes=6_000_000))
        assert kinds == ["HostCopy", "Refusal"]

    def test_a_device_that_fails_costs_what_is_on_it_and_says_so(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(*_: Any) -> None:
            raise RuntimeError("CUDA error: device-side assert triggered")

        monkeypatch.setattr(device_memory, "synchronize", fails)
        [refused] = staged({"t": torch.rand(LARGE)})
        assert "which fails: RuntimeError: CUDA error: device-side assert" in refused.reason
        assert "%checkpoint list" in refused.remedy

    def test_a_device_without_room_for_a_digest_is_copied_from_each_time(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: Any) -> bytes:
            raise RuntimeError("CUDA out of memory")

        monkeypatch.setattr(device_memory, "digest", full)
        [copy] = staged({"t": torch.rand(LARGE)})
        assert isinstance(copy, HostCopy)
        assert (copy.digest, copy.place) == (None, None)

    def test_a_device_that_has_much_to_do_is_not_waited_for(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(device_memory, "synchronize", lambda *_: False)
        kernel = Incremental(tmp_path)
        kernel.run("import torch; t = torch.ones(300_000)")
        assert not kernel.checkpointer.take("cell", IDLE)
        assert staging._copies is None
        assert kernel.checkpointer.settled.trouble is None
        assert kernel.checkpointer.stale_since is not None, "the clock asks again"

    def test_nothing_is_taken_while_a_graph_is_captured(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        kernel = Incremental(tmp_path)
        kernel.run("n = 1")
        monkeypatch.setattr(device_memory, "is_capturing", lambda _: True)
        assert not kernel.checkpointer.take("cell", IDLE)
        assert kernel.checkpointer.settled.trouble is None
        assert kernel.checkpointer.stale_since is not None

    def test_where_no_device_is_in_use_nothing_is_asked_for(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(device_memory, "is_in_use", lambda _: False)

        def asked() -> dict[str, Any]:
            raise AssertionError("asked")

        with Staging().staged(asked, asked, 0):
            assert staging._copies == {}


@pytest.mark.usefixtures("device")
def test_a_forked_process_has_what_was_staged_and_the_kernel_lets_go_of_it() -> None:
    import os

    tensor = torch.arange(300_000.0)
    read, write = os.pipe()
    with Staging().staged(lambda: {"t": tensor}, lambda: (), 1 << 30):

        def work(_: Any) -> None:
            copy = staging.copy_of(tensor.untyped_storage())
            assert copy is not None
            os.write(write, copy.length.to_bytes(8, "little"))

        # The pipe must outlive the child's closing of all that it inherits.
        isolate, snapshot._isolate = snapshot._isolate, lambda _: None  # type: ignore[assignment]
        try:
            child = snapshot.fork(work)
        finally:
            snapshot._isolate = isolate
    assert staging._copies is None
    assert int.from_bytes(os.read(read, 8), "little") == 1_200_000
    snapshot.reap(child, block=True)
    snapshot.close(child)
