from __future__ import annotations

import dataclasses
import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_cases import KEY, make_manifest

from checkpoint_kernel import durable, manifest
from checkpoint_kernel.contract import MANIFESTS
from checkpoint_kernel.manifest import (
    DamagedManifest,
    LeftBehind,
    Manifest,
    ManifestError,
    Skipped,
    Unit,
    UnknownFormat,
)

texts = st.text(max_size=20)
units = st.builds(
    Unit,
    id=texts,
    kind=st.sampled_from(["data", "function", "locals", "session"]),
    names=st.lists(texts, max_size=3).map(tuple),
    codec=st.sampled_from(["pickle", "dill"]),
    payload=st.binary(min_size=32, max_size=32).map(bytes.hex),
    size_bytes=st.integers(0, 1 << 60),
    types=st.dictionaries(texts, texts, max_size=3),
    needs=st.lists(texts, max_size=3).map(tuple),
    reached_by_call=st.booleans(),
)
manifests = st.builds(
    lambda units, skipped, source, left: dataclasses.replace(
        make_manifest(1, tuple(units)),
        skipped=tuple(skipped),
        cell_source=source,
        left_behind=tuple(left),
    ),
    st.lists(units, max_size=4),
    st.lists(st.builds(Skipped, texts, texts, texts, st.none() | texts), max_size=3),
    st.none() | texts,
    st.lists(st.builds(LeftBehind, texts, st.tuples(texts), st.floats(0, 1e10)), max_size=2),
)


@given(manifests)
def test_manifest_comes_back_as_it_was_encoded(one: Manifest) -> None:
    assert manifest.decode(manifest.encode(one, KEY), KEY, "here") == one


@given(st.data())
def test_any_altered_byte_is_refused(data: st.DataObject) -> None:
    encoded = bytearray(manifest.encode(make_manifest(1), KEY))
    position = data.draw(st.integers(0, len(encoded) - 2))  # the last is a closing newline
    encoded[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(DamagedManifest, match="here"):
        manifest.decode(bytes(encoded), KEY, "here")


@given(st.integers(0, 200))
def test_any_truncation_is_refused(length: int) -> None:
    encoded = manifest.encode(make_manifest(1), KEY)
    with pytest.raises(DamagedManifest):
        manifest.decode(encoded[:length], KEY, "here")


def test_another_users_signature_is_refused() -> None:
    with pytest.raises(DamagedManifest, match="not written by this user"):
        manifest.decode(manifest.encode(make_manifest(1), b"theirs" * 4), KEY, "here")


def signed(raw: object) -> bytes:
    body = json.dumps(raw).encode()
    return manifest.sign(body, KEY).encode() + b"\n" + body + b"\n"


def test_newer_format_asks_for_an_update() -> None:
    with pytest.raises(UnknownFormat, match="update checkpoint-kernel"):
        manifest.decode(signed({"format": manifest.FORMAT + 1}), KEY, "here")


def test_fields_that_a_later_version_added_are_passed_over() -> None:
    one = make_manifest(1, (Unit("var:x", "data", ("x",), "pickle", "ab" * 32, 1),))
    raw = dataclasses.asdict(one)
    raw["mood"] = "sunny"
    raw["units"][0]["colour"] = "red"
    assert manifest.decode(signed(raw), KEY, "here") == one


@pytest.mark.parametrize("raw", [[], {}, {"format": "1"}, {"format": 1, "units": [1]}])
def test_malformed_content_under_a_good_signature_is_damage_not_a_crash(raw: object) -> None:
    with pytest.raises(DamagedManifest, match="malformed"):
        manifest.decode(signed(raw), KEY, "here")


def test_read_all_lists_good_and_bad_ones_in_order(tmp_path: Path) -> None:
    (tmp_path / MANIFESTS).mkdir()
    for seq in (2, 10, 1):
        one = make_manifest(seq)
        durable.publish(manifest.path_of(tmp_path, one), manifest.encode(one, KEY))
    bad = tmp_path / MANIFESTS / "00000003-bad.json"
    bad.write_bytes(b"nonsense")
    (tmp_path / MANIFESTS / "00000004-directory.json").mkdir()
    good, damaged = manifest.read_all(tmp_path, KEY)
    assert [m.seq for m in good] == [1, 2, 10]
    assert [path.name for path, _why in damaged] == ["00000003-bad.json", "00000004-directory.json"]
    assert all(str(path) in str(why) for path, why in damaged)


def test_store_without_manifests_has_none(tmp_path: Path) -> None:
    assert manifest.read_all(tmp_path, KEY) == ([], [])


def test_names_leave_out_locals_and_the_session() -> None:
    kinds = [("data", "b"), ("locals", "train:1"), ("session", "history"), ("function", "a")]
    them = tuple(Unit(n, kind, (n,), "pickle", "ab" * 32, 5) for kind, n in kinds)
    assert make_manifest(1, them).names == ["a", "b"]
    assert make_manifest(1, them).size_bytes == 20


def test_ids_sort_by_time() -> None:
    assert manifest.new_id(0.0) < manifest.new_id(1.0) < manifest.new_id(1e9)
    assert manifest.new_id(1_700_000_000.0).startswith("20231114-221320-")
    assert manifest.new_id(1.001) < manifest.new_id(1.002) < manifest.new_id(1.999)


def test_key_is_made_once_and_is_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "data" / "key"
    key = manifest.load_key(path)
    assert len(key) == 32
    assert manifest.load_key(path) == key
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["key"]


def test_processes_that_start_together_get_the_same_key(tmp_path: Path) -> None:
    keys = []
    together = threading.Barrier(8)

    def start() -> None:
        together.wait()
        keys.append(manifest.load_key(tmp_path / "key"))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8
    assert len(set(keys)) == 1


def test_key_is_made_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    assert len(manifest.load_key(tmp_path / "key")) == 32


def test_key_open_to_others_is_tightened(tmp_path: Path) -> None:
    key = manifest.load_key(tmp_path / "key")
    (tmp_path / "key").chmod(0o644)
    assert manifest.load_key(tmp_path / "key") == key
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"", b"not hex", b"abcd", b"\xff\xfe"])
def test_malformed_key_says_which_file_and_what_to_do(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(ManifestError, match=rf"{tmp_path / 'key'}.*remove it"):
        manifest.load_key(tmp_path / "key")
