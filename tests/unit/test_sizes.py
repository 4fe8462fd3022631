"""How much memory variables take: near enough, in time, and without running anybody's code."""

from __future__ import annotations

import collections
import mmap
import subprocess
import sys
import time
import tracemalloc
from multiprocessing import shared_memory
from typing import Any

import numpy
import pandas
import pytest

from checkpoint_kernel import sizes

pytestmark = pytest.mark.unit

MB = 1 << 20


def size_mb(value: Any, limit_s: float = 5.0) -> float:
    return sizes.of(value, time.monotonic() + limit_s) / MB


def by_name(**namespace: Any) -> dict[str, float]:
    """In MB, of a namespace."""
    return {one.name: one.size_bytes / MB for one in sizes.largest(namespace, 99, 5.0)}


class TestKinds:
    def test_texts_bytes_and_arrays_by_their_length(self) -> None:
        for value in (b"x" * MB, "x" * MB, bytearray(MB), numpy.ones(MB, numpy.uint8)):
            assert size_mb(value) == pytest.approx(1, rel=0.01)

    @pytest.mark.parametrize("dtype", ["int64", "object", "category"])
    def test_data_frames_are_near_what_pandas_reckons(self, dtype: str) -> None:
        distinct = 50 if dtype == "category" else 100_000
        texts = [f"text number {n % distinct}" for n in range(100_000)]
        values = list(range(100_000)) if dtype == "int64" else texts
        frame = pandas.DataFrame({"a": pandas.Series(values).astype(dtype), "b": 1.5})
        reckoned_mb = frame.memory_usage(deep=True).sum() / MB
        assert size_mb(frame) == pytest.approx(reckoned_mb, rel=0.15)
        assert size_mb(frame["a"]) > 0.1

    def test_a_list_of_ten_million_is_sampled_in_time(self) -> None:
        value = list(range(10_000_000))
        assert size_mb(value, 0.05) == pytest.approx(10 * 36 * 1e6 / MB, rel=0.05)

    def test_records_of_several_levels_are_reckoned_from_some(self) -> None:
        rows = [{"id": n, "tags": [str(n), str(n + 1)]} for n in range(50_000)]
        tracemalloc.start()
        try:
            twin = [{"id": n, "tags": [str(n), str(n + 1)]} for n in range(50_000)]
            made_mb = tracemalloc.get_traced_memory()[0] / MB
        finally:
            tracemalloc.stop()
        assert len(twin) == len(rows)
        assert size_mb(rows) == pytest.approx(made_mb, rel=0.15)

    def test_instances_slots_and_nested_containers_are_entered(self) -> None:
        class Slotted:
            __slots__ = ("held",)

            def __init__(self) -> None:
                self.held = {"deep": collections.deque([(numpy.ones(MB, numpy.uint8),)])}

        class Plain:
            def __init__(self) -> None:
                self.held = Slotted()

        assert size_mb(Plain()) == pytest.approx(1, rel=0.01)
        assert size_mb([Plain() for _ in range(4)]) == pytest.approx(4, rel=0.01)

    def test_a_subclass_of_a_container_counts_elements_and_attributes(self) -> None:
        class Named(dict):  # type: ignore[type-arg]
            pass

        value = Named(a=b"x" * MB)
        value.also = b"y" * MB
        assert size_mb(value) == pytest.approx(2, rel=0.01)

    def test_closures_and_classes_of_the_notebook_hold_what_they_hold(self) -> None:
        data = b"x" * MB
        cls = type("Cache", (), {"__module__": "__main__", "data": data})
        assert size_mb(lambda: data) == pytest.approx(1, rel=0.01)
        assert size_mb(cls) == pytest.approx(1, rel=0.01)
        assert size_mb(pytest) == 0

    def test_an_array_counts_as_far_as_it_is_in_memory(self) -> None:
        untouched = numpy.zeros(64 * MB, numpy.uint8)
        assert size_mb(untouched) < 4
        untouched[: 32 * MB] = 1
        assert size_mb(untouched) == pytest.approx(32, abs=2.5)  # huge pages at both ends

    def test_a_file_that_is_mapped_takes_no_memory_and_shared_memory_does(
        self, tmp_path: Any
    ) -> None:
        path = tmp_path / "mapped"
        path.write_bytes(bytes(32 * MB))
        with open(path, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        assert size_mb(mapped) < 1
        mapped.close()
        assert size_mb(mapped) < 1, "a closed one is no error"
        shared = shared_memory.SharedMemory(create=True, size=32 * MB)
        try:
            assert size_mb(shared) == pytest.approx(32, rel=0.1)
        finally:
            shared.close()
            shared.unlink()

    def test_libraries_that_keep_memory_in_c_are_asked_by_their_own_classes(self) -> None:
        sparse = pytest.importorskip("scipy.sparse")
        matrix = sparse.random(2000, 2000, 0.1, format="csr")
        held = matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes
        assert size_mb(matrix) == pytest.approx(held / MB, rel=0.01)
        trees = pytest.importorskip("sklearn.tree")
        points = numpy.random.default_rng(0).random((20_000, 2))
        tree = trees.DecisionTreeRegressor().fit(points, points[:, 0] + points[:, 1])
        assert size_mb([tree]) == pytest.approx(tree.tree_.node_count * 72 / MB, rel=0.1)

    @pytest.mark.parametrize("library", ["pyarrow", "polars"])
    def test_tables_of_other_libraries_too(self, library: str) -> None:
        module = pytest.importorskip(library)
        data = {"a": list(range(MB // 8))}
        table = module.table(data) if library == "pyarrow" else module.DataFrame(data)
        assert size_mb({"held": table}) == pytest.approx(1, rel=0.01)
        assert size_mb(table["a"]) == pytest.approx(1, rel=0.01)

    def test_torch_models_and_optimizers_count_each_storage_once(self) -> None:
        torch = pytest.importorskip("torch")
        model = torch.nn.Sequential(*[torch.nn.Linear(500, 500) for _ in range(10)])
        optimizer = torch.optim.Adam(model.parameters())
        model(torch.ones(1, 500)).sum().backward()
        optimizer.step()
        one_mb = sum(p.nbytes for p in model.parameters()) / MB
        assert size_mb(model) == pytest.approx(2 * one_mb, rel=0.05)  # with gradients
        assert size_mb(optimizer) == pytest.approx(4 * one_mb, rel=0.05)
        found = by_name(model=model, optimizer=optimizer)
        assert sum(found.values()) == pytest.approx(4 * one_mb, rel=0.05)
        tensor = torch.ones(MB)
        shared = by_name(tensor=tensor, array=tensor.numpy(), part=tensor[5:])
        assert sum(shared.values()) == pytest.approx(4, rel=0.01)


class TestShared:
    def test_views_count_once_and_for_the_array_they_were_cut_from(self) -> None:
        whole = numpy.ones(MB, numpy.uint8)
        found = by_name(view=whole[::2], copy=whole.copy(), held=[whole], whole=whole)
        assert found["whole"] == pytest.approx(1, rel=0.01)
        assert found["copy"] == pytest.approx(1, rel=0.01)
        assert found["view"] < 0.01
        assert found["held"] < 0.01

    def test_a_view_whose_array_has_no_name_keeps_all_of_it(self) -> None:
        assert size_mb(numpy.ones(MB, numpy.uint8)[:10]) == pytest.approx(1, rel=0.01)

    def test_names_of_one_object_stand_together(self) -> None:
        data = bytes(MB)
        assert list(by_name(a=data, b=data)) == ["a, b"]

    def test_one_large_object_in_every_row_counts_once(self) -> None:
        shared = numpy.ones(8 * MB, numpy.uint8)
        assert size_mb([shared] * 100_000) < 10
        assert size_mb([{"row": n, "all": shared} for n in range(10_000)]) < 13
        assert size_mb([(n, [shared[n:]]) for n in range(10_000)]) < 13

    def test_a_ring_ends(self) -> None:
        ring: list[Any] = [b"x" * MB]
        ring.append(ring)
        assert size_mb(ring) == pytest.approx(1, rel=0.01)

    def test_a_chain_too_long_to_follow_ends(self) -> None:
        chain: list[Any] = []
        for _ in range(100_000):
            chain = [chain]
        assert 0 < size_mb(chain) < 100_000 * 72 / MB
        while chain:  # freed one by one: Python 3.11 overflows its stack else
            chain = chain[0]

    def test_the_namespace_itself_is_not_entered(self) -> None:
        namespace: dict[str, Any] = {"data": bytes(MB)}
        namespace["everything"] = [namespace]
        found = {one.name: one.size_bytes for one in sizes.largest(namespace, 9, 1.0)}
        assert found["everything"] < 1000


class Hostile(type):
    """A metaclass that answers nothing."""

    def __getattribute__(cls, name: str) -> Any:
        raise AssertionError(f"asked the class for {name}")

    def __hash__(cls) -> int:
        raise AssertionError("hashed the class")

    def __eq__(cls, _other: object) -> bool:
        raise AssertionError("compared the class")

    def __instancecheck__(cls, _other: object) -> bool:
        raise AssertionError("asked the class for an instance")


ASKING = ("__getattribute__", "__getattr__", "__sizeof__", "__len__", "__iter__", "__getitem__",
          "__hash__", "__eq__", "__bool__", "__repr__", "__reduce_ex__", "items", "keys",
          "values", "__reversed__", "__array_interface__")  # fmt: skip


class TestNobodysCodeRuns:
    @pytest.mark.parametrize(
        "base", [object, list, dict, tuple, set, collections.deque, str, numpy.ndarray]
    )
    def test_of_an_object_that_must_not_be_asked(self, base: type) -> None:
        # A failure would be caught as all are: so it is noted, too.
        notes: list[str] = []

        def note(name: str) -> Any:
            def method(self: Any, *_arguments: Any) -> Any:
                notes.append(name)
                raise AssertionError(name)

            return method

        asking = {name: note(name) for name in ASKING if name != "__hash__" or base is object}
        asking |= {name: property(note(name)) for name in ("nbytes", "__class__", "base", "size")}
        cls = type("Mean", (base,), asking)
        given = ((MB,), numpy.uint8) if base is numpy.ndarray else ()
        value = base.__new__(cls, *given)
        found = sizes.largest({"mean": value, "held": [value] * 1000}, 5, 1.0)
        assert notes == []
        assert {one.name for one in found} == {"mean", "held"}

    def test_of_a_metaclass_neither(self) -> None:
        cls = Hostile("Cls", (), {"__module__": "__main__"})
        value = object.__new__(cls)
        found = sizes.largest({"value": value, "cls": cls, "many": [value] * 10}, 5, 1.0)
        assert {one.type for one in found} == {"Cls", "test_sizes.Hostile", "list"}
        assert all(one.size_bytes > 0 for one in found)


class TestBounds:
    def test_many_variables_and_deep_ones_end_in_time(self) -> None:
        namespace: dict[str, Any] = {f"v{n}": [[n] * 100 for n in range(100)] for n in range(300)}
        namespace["large"] = bytes(50 * MB)
        began = time.monotonic()
        found = sizes.largest(namespace, 3, 0.05)
        assert time.monotonic() - began < 1.0  # on a busy machine
        assert found[0].name == "large"

    def test_no_time_at_all_is_no_error(self) -> None:
        assert sizes.largest({"a": [1]}, 5, 0.0) in ([], [sizes.Sized("a", 64, "list")])
        assert sizes.of([[1]], 0.0) >= 0

    def test_little_memory_is_taken(self) -> None:
        value = [{"n": n, "s": str(n), "l": [n]} for n in range(100_000)]
        tracemalloc.start()
        try:
            sizes.largest({f"v{n}": value for n in range(5)}, 5, 0.5)
            taken_mb = tracemalloc.get_traced_memory()[1] / MB
        finally:
            tracemalloc.stop()
        assert taken_mb < 4

    def test_it_never_raises_when_there_is_no_memory_at_all(self) -> None:
        done = subprocess.run(
            [sys.executable, "-c", NO_MEMORY_LEFT], capture_output=True, text=True, check=False
        )
        assert done.stdout.strip() == "told", done.stderr


NO_MEMORY_LEFT = """
import resource
from checkpoint_kernel import sizes
namespace = {"rows": [{"a": n, "b": str(n)} for n in range(100_000)], "small": 3}
sizes.largest(namespace, 5, 1.0)
for line in open("/proc/self/status"):
    if line.startswith("VmData"):
        limit = int(line.split()[1]) * 1024 + (5 << 20)
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
namespace["hoard"] = hoard = []
size = 1 << 20
while size:
    try:
        hoard.append(bytearray(size))
    except MemoryError:
        size //= 2
told = sizes.largest(namespace, 5, 0.05)
assert sizes.of(namespace["rows"], 1e9) >= 0
del hoard[:]
assert isinstance(told, list)
print("told")
"""
