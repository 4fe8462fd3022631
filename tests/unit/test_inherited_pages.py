"""In a snapshot process: pages that are the kernel's, told from those it has written itself."""

from __future__ import annotations

import json
import mmap
from typing import Any

import numpy as np
import pytest

from checkpoint_kernel import arrays, snapshot, units
from checkpoint_kernel.inherited_pages import inherited

pytestmark = pytest.mark.unit

PAGE = mmap.PAGESIZE
SIZE = 64 << 20


def in_child(work: Any, unneeded: list[tuple[int, int]]) -> list[dict[str, Any]]:
    child = snapshot.fork(work, unneeded)
    snapshot.reap(child, block=True)
    reports = snapshot.read_status(child)
    snapshot.close(child)
    return [json.loads(json.dumps(report)) for report in reports if "alive" not in report]


def whole_pages(array: np.ndarray[Any, Any]) -> tuple[int, int]:
    start, end = array.ctypes.data, array.ctypes.data + array.nbytes
    return -(-start // PAGE) * PAGE, end // PAGE * PAGE


def test_memory_of_the_kernel_is_inherited_until_the_snapshot_process_writes_to_it() -> None:
    array = np.ones(SIZE // 8)
    pages = whole_pages(array)

    def work(report: snapshot.Report) -> None:
        before = sum(end - start for start, end in inherited([pages]))
        array[SIZE // 16] = 2
        after = inherited([pages])
        address = array.ctypes.data + SIZE // 2
        report(before=before, told=not any(start <= address < end for start, end in after))

    (result,) = in_child(work, [])
    assert result == {"before": pages[1] - pages[0], "told": True}


def test_memory_that_the_snapshot_process_has_made_is_not() -> None:
    def work(report: snapshot.Report) -> None:
        made = np.ones(SIZE // 8)
        report(inherited=inherited([whole_pages(made)]))

    (result,) = in_child(work, [])
    assert result == {"inherited": []}


def test_nor_where_the_kernel_has_memory_that_was_not_forked() -> None:
    gap = np.ones(SIZE // 8)

    def work(report: snapshot.Report) -> None:
        made = [np.ones(SIZE // 8) for _ in range(4)]  # one of them may lie in the gap
        report(inherited=[inherited([whole_pages(one)]) for one in made])

    (result,) = in_child(work, [(gap.ctypes.data, gap.nbytes)])
    assert result == {"inherited": [[], [], [], []]}
    assert gap[0] == gap[-1] == 1


def test_memory_that_pickling_has_made_has_no_address() -> None:
    texts = np.array([f"text {number}" for number in range(50_000)], dtype=object)
    main: dict[str, Any] = {"__name__": "__main__", "texts": texts}
    (draft,) = units.partition({"texts": texts}, main, {}, lambda _: None).units
    assert draft.pickled is not None
    storages, _ = units.storages(draft.pickled)
    assert arrays.address_of(storages[0])
    assert units.ranges(draft.pickled, storages) == [(0, storages[0].nbytes)]
