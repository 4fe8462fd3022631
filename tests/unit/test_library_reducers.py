"""Objects of the libraries that the tests have: what comes back, and what is refused and why.

All others are rows of tests/coverage.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import interactive
import numpy as np
import pandas as pd
import pytest
import requests
import traitlets

from checkpoint_kernel import pickling, rebuild, units
from checkpoint_kernel.libraries import classes, learning, same_file
from checkpoint_kernel.refusals import Refused

pytestmark = pytest.mark.unit


class _NoDefinitions:
    def definition(self, key: str) -> Any:
        raise AssertionError(key)


def again(**values: Any) -> Any:
    """Values of one unit, as they come back."""
    pickled = pickling.dump(values, {}, units.NO_DEFINITIONS, units.NO_OBSERVER)
    buffers = [memoryview(bytearray(buffer.raw())) for buffer in pickled.buffers]
    stream = bytes(pickled.stream)
    return types.SimpleNamespace(
        **pickling.load(pickled.codec, stream, buffers, {}, _NoDefinitions())
    )


@pytest.fixture
def mapped(tmp_path: Path) -> Any:
    array = np.memmap(tmp_path / "m.dat", "i4", "w+", shape=(4, 5))
    array[:] = 3
    array.flush()
    return array


def test_memmap_its_rows_and_plain_arrays_over_it_write_to_the_file_again(
    mapped: Any, tmp_path: Path
) -> None:
    back = again(whole=mapped, row=mapped[1], plain=np.asarray(mapped)[2])
    back.row[0], back.plain[0] = 7, 8
    assert (back.whole[1, 0], back.whole[2, 0]) == (7, 8)
    assert type(back.row) is np.memmap
    assert type(back.plain) is np.ndarray
    back.whole.flush()
    assert np.fromfile(tmp_path / "m.dat", "i4")[5] == 7


def test_memmap_of_another_file_by_now_is_a_copy_that_leaves_the_file_alone(
    mapped: Any, tmp_path: Path
) -> None:
    pickled = pickling.dump({"m": mapped}, {}, units.NO_DEFINITIONS, units.NO_OBSERVER)
    (tmp_path / "m.dat").rename(tmp_path / "aside")
    (tmp_path / "m.dat").write_bytes(bytes(80))
    root = pickling.load(pickled.codec, bytes(pickled.stream), [], {}, _NoDefinitions())
    root["m"][:] = 9
    assert np.fromfile(tmp_path / "m.dat", "i4").sum() == 0


def test_hard_mask_and_shared_memory_of_a_masked_array_are_kept() -> None:
    base = np.arange(4.0)
    back = again(base=base, masked=np.ma.array(base, mask=[0, 1, 0, 0], copy=False, hard_mask=True))
    back.masked[0], back.masked[1] = 9, 9
    assert back.base.tolist() == [9, 1, 2, 3]
    assert back.masked[1] is np.ma.masked


def test_masked_array_without_a_mask_comes_back_without_one() -> None:
    assert again(m=np.ma.array([1, 2])).m._mask is np.ma.nomask


def test_archive_that_was_written_to_since_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.ones(3))
    facts = same_file.facts_of(str(path))
    assert facts is not None
    assert again(z=np.load(path)).z["x"].sum() == 3
    np.savez(path, x=np.ones(4))
    with pytest.raises(rebuild.NotThere, match="written to since"):
        same_file.check(facts, unwritten=True)


def test_units_that_use_the_same_ufunc_are_not_made_one_by_it() -> None:
    roots = {"a": [np.add], "b": [np.add]}
    partition = units.partition(roots, {}, {}, lambda names: None)
    assert len(partition.units) == 2


@contextlib.contextmanager
def doubled(n: int) -> Iterator[int]:
    yield 2 * n


def test_context_comes_back_before_it_is_entered_and_is_refused_after() -> None:
    context = doubled(3)
    with again(c=context).c as got:
        assert got == 6
    with context, pytest.raises(Refused, match="entered"):
        again(c=context)


def test_response_whose_body_is_to_come_is_refused_and_not_read() -> None:
    response = requests.Response()
    response.raw = object()
    with pytest.raises(Refused, match="connection"):
        again(r=response)
    assert response._content is False  # type: ignore[comparison-overlap]


class Counter(traitlets.HasTraits):
    """Observes itself."""

    n = traitlets.Int()
    seen = traitlets.List()

    @traitlets.observe("n")
    def _note(self, change: Any) -> None:
        self.seen = [*self.seen, ("own", change.new)]


class Log:
    """Observes others."""

    def __init__(self) -> None:
        self.lines: list[int] = []

    def write(self, change: Any) -> None:
        self.lines.append(change.new)


def test_observers_that_were_added_are_called_once_and_so_are_the_class_own() -> None:
    counter, log = Counter(), Log()
    counter.observe(log.write, "n")
    back = again(counter=counter, log=log)
    back.counter.n = 5
    assert back.log.lines == [5]
    assert back.counter.seen == [("own", 5)]


def test_class_that_attrs_made_does_not_save_the_namespace_of_its_time(tmp_path: Path) -> None:
    shell = interactive.new_shell()
    interactive.run(
        shell, "import attr", "big = bytearray(3_000_000)",
        "@attr.s(auto_attribs=True)\nclass C:\n    a: int\nc = C(1)",
        "del big",
    )  # fmt: skip
    store = interactive.new_store(tmp_path)
    manifest = interactive.save(shell, store)
    saved = {unit.id: unit.size_bytes for unit in manifest.units}
    assert "class:C" in saved, manifest.skipped
    assert saved["class:C"] < 100_000


def test_accessor_of_a_notebook_class_is_registered_again() -> None:
    class Shape:
        def __init__(self, frame: Any) -> None:
            self.frame = frame

    pd.api.extensions.register_dataframe_accessor("_shape_of_test")(Shape)
    try:
        reduced = classes.with_registrations(Shape, (type, (), None, None, None, None))
        assert reduced[2][1] == [(classes.register_accessor, ("DataFrame", "_shape_of_test"))]
    finally:
        del pd.DataFrame._shape_of_test
        pd.DataFrame._accessors.discard("_shape_of_test")


def test_parallel_regions_have_one_thread_only_inside() -> None:
    before = [library.omp_get_max_threads() for library in learning._openmp()]
    with learning.one_thread():
        assert all(library.omp_get_max_threads() == 1 for library in learning._openmp())
    assert [library.omp_get_max_threads() for library in learning._openmp()] == before
