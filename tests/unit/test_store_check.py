"""One damage each, and exactly one finding, which says what it costs."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from store_cases import KEY, save, segments

from checkpoint_kernel import manifest
from checkpoint_kernel.check import Finding, check
from checkpoint_kernel.store import Store

NOISE = random.Random(6)
SHARED, OLD, NEW = (NOISE.randbytes(100_000) for _ in range(3))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two checkpoints: `shared` and `old` came with the first, `new` with the second."""
    store = Store.open(tmp_path / "notebook", KEY)
    save(store, 1, {"shared": SHARED, "old": OLD})
    save(store, 2, {"shared": SHARED, "new": NEW})
    return store


def segment_with(store: Store, content: bytes) -> Path:
    (path,) = [p for p in segments(store.directory) if content[:100] in p.read_bytes()]
    path.chmod(0o600)
    return path


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def only_finding(store: Store) -> Finding:
    found = check(Store.open(store.directory, KEY))
    assert len(found) == 1, found
    assert check(store) == found, "a store that has been open all the while finds it too"
    assert str(found[0].path) in found[0].message
    return found[0]


BOTH = ("checkpoint-0001", "checkpoint-0002")


def test_whole_store_has_no_findings(store: Store) -> None:
    assert check(store) == []


def test_bit_flip_in_a_chunk_names_the_variable_and_every_checkpoint_with_it(
    store: Store,
) -> None:
    path = segment_with(store, SHARED)
    flip(path, path.read_bytes().index(SHARED[:100]) + 5000)
    found = only_finding(store)
    assert (found.kind, found.path) == ("chunk-damaged", path)
    assert (found.checkpoints, found.variables) == (BOTH, ("shared",))


def test_bit_flip_in_a_chunk_that_one_checkpoint_needs_names_that_one(store: Store) -> None:
    path = segment_with(store, NEW)
    flip(path, path.read_bytes().index(NEW[:100]))
    found = only_finding(store)
    assert (found.checkpoints, found.variables) == (("checkpoint-0002",), ("new",))


def test_truncated_segment_names_all_that_was_in_it(store: Store) -> None:
    path = segment_with(store, OLD)
    os.truncate(path, path.stat().st_size // 2)
    found = only_finding(store)
    assert (found.kind, found.path) == ("segment-truncated", path)
    assert (found.checkpoints, found.variables) == (BOTH, ("old", "shared"))


def test_empty_segment_is_a_truncated_one(store: Store) -> None:
    path = segment_with(store, NEW)
    os.truncate(path, 0)
    assert only_finding(store).kind == "segment-truncated"


@pytest.mark.parametrize(
    "position",
    [lambda size: size - 64 - 20, lambda size: size - 60, lambda size: size - 30, lambda _: 20],
    ids=["index", "footer-offset", "footer-digest", "header-time"],
)
def test_damaged_index_names_all_that_was_in_the_segment(
    store: Store, position: Callable[[int], int]
) -> None:
    path = segment_with(store, NEW)
    flip(path, position(path.stat().st_size))
    found = only_finding(store)
    assert (found.kind, found.path) == ("index-damaged", path)
    assert (found.checkpoints, found.variables) == (("checkpoint-0002",), ("new",))


def test_segment_under_another_name_is_damaged(store: Store) -> None:
    path = segment_with(store, NEW)
    path.rename(path.with_name("0" * 32 + ".seg"))
    assert only_finding(store).kind == "index-damaged"


def test_missing_segment_names_all_that_was_in_it(store: Store) -> None:
    segment_with(store, OLD).unlink()
    found = only_finding(store)
    assert found.kind == "chunks-missing"
    assert (found.checkpoints, found.variables) == (BOTH, ("old", "shared"))


def test_segment_of_a_newer_format_asks_for_an_update(store: Store) -> None:
    path = segment_with(store, NEW)
    data = bytearray(path.read_bytes())
    data[8] = 9
    path.write_bytes(data)
    found = only_finding(store)
    assert found.kind == "unknown-format"
    assert "update checkpoint-kernel" in found.message
    assert (found.checkpoints, found.variables) == (("checkpoint-0002",), ("new",))


def manifest_path(store: Store, seq: int) -> Path:
    return manifest.path_of(store.directory, store.manifest(f"checkpoint-{seq:04d}"))


def test_truncated_manifest_names_its_checkpoint(store: Store) -> None:
    path = manifest_path(store, 2)
    os.truncate(path, 200)
    found = only_finding(store)
    assert (found.kind, found.path) == ("manifest-truncated", path)
    assert (found.checkpoints, found.variables) == (("checkpoint-0002",), ())


def test_bit_flip_in_a_manifest_names_its_checkpoint(store: Store) -> None:
    path = manifest_path(store, 2)
    flip(path, path.read_bytes().index(b'"session"') + 12)
    found = only_finding(store)
    assert found.kind == "manifest-signature"
    assert (found.checkpoints, found.variables) == (("checkpoint-0002",), ("new", "shared"))


def test_manifest_signed_with_another_key_names_its_checkpoint(store: Store) -> None:
    path = manifest_path(store, 1)
    path.write_bytes(manifest.encode(store.manifest("checkpoint-0001"), b"another" * 5))
    found = only_finding(store)
    assert (found.kind, found.path) == ("manifest-signature", path)
    assert (found.checkpoints, found.variables) == (("checkpoint-0001",), ("old", "shared"))


def test_manifest_of_a_newer_format_asks_for_an_update(store: Store) -> None:
    path = manifest_path(store, 1)
    body = path.read_bytes().partition(b"\n")[2].rstrip().replace(b'"format":1', b'"format":7')
    path.write_bytes(manifest.sign(body, KEY).encode() + b"\n" + body + b"\n")
    found = only_finding(store)
    assert found.kind == "unknown-format"
    assert "update checkpoint-kernel" in found.message
    assert found.checkpoints == ("checkpoint-0001",)


@pytest.mark.parametrize("place", ["segments", "manifests"])
def test_leftover_temporary_costs_nothing_and_says_so(store: Store, place: str) -> None:
    path = store.directory / place / ".tmp-123-abc"
    path.write_bytes(b"half")
    found = only_finding(store)
    assert (found.kind, found.path) == ("leftover-temporary", path)
    assert (found.checkpoints, found.variables) == ((), ())


def test_file_of_a_living_writer_is_no_leftover(store: Store) -> None:
    with store.begin() as snapshot:
        snapshot.put(b"more", [], [])
        assert check(Store.open(store.directory, KEY)) == []


def test_damaged_recipe_names_its_variable(store: Store) -> None:
    unit = store.manifest("checkpoint-0002").units[1]
    location = store.locate(bytes.fromhex(unit.payload))
    assert location is not None
    location[0].path.chmod(0o600)
    flip(location[0].path, location[1].offset + 3)
    found = only_finding(store)
    assert (found.kind, found.variables) == ("chunk-damaged", ("new",))
