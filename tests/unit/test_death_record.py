"""The record of a death: it is as the schema says, and holds what was observed."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from death_cases import CAP, MIB, SCHEMA, TRACE, busy, evidence, out_of_memory, record_of

from checkpoint_kernel import contract, session
from checkpoint_kernel.session import Event, Plan
from checkpoint_provisioner import curve, enforcement, exit_codes, post_mortem, report
from checkpoint_provisioner.evidence import Evidence, Exit
from checkpoint_provisioner.proc import Processor
from checkpoint_provisioner.surroundings import (
    Gpu,
    GpuProcess,
    Gpus,
    SharedMemory,
    Surroundings,
)
from checkpoint_provisioner.verdict import Verdict

pytestmark = pytest.mark.unit

CHANGES = {
    "since": "2026-01-01T00:00:00+00:00",
    "python": None,
    "added": {"new": "1"},
    "removed": {},
    "changed": {"scipy": ["1.0", "2.0"]},
    "conda_revision": [3, 4],
}
EVERYTHING = evidence(
    signal.SIGSEGV,
    cap=CAP,
    plan=Plan("restore", "", checkpoint="c1"),
    flight=busy("a = 1\ncrash()", checkpoint="c2", checkpoint_time=998.0),
    faults=TRACE.format(line=2),
    stacks="Thread 0x1\n",
    native_stack="#0 0x1 in crash",
    stderr_tail="malloc(): corrupted top size\n",
    curve=((998.0, 10), (999.0, 30)),
    events=(Event("child-oom-killed", 990.0, "A child was killed.", {"pid": 8}),),
    environment_changes=CHANGES,
    surroundings=Surroundings(
        in_container=True,
        usable_bytes=1 << 34,
        shared_memory=SharedMemory(64 * MIB, 0),
        processor=Processor("A CPU", ("sse4_2", "avx", "fma")),
        gpus=Gpus((Gpu(0, "A GPU", 1, 2),), (GpuProcess(9, "python", None),), ("NVRM: Xid 31",)),
    ),
    notes=("something could not be read",),
)


@pytest.mark.parametrize(
    "found",
    [
        EVERYTHING,
        evidence(),
        evidence(code=3),
        evidence(code=127, flight=None),
        evidence(signal.SIGTERM, surroundings=Surroundings()),
        out_of_memory("x = bytearray(10**9)"),
    ],
    ids=["everything", "unseen", "code", "no kernel", "signal", "out of memory"],
)
def test_every_record_is_as_the_schema_says_and_has_no_key_beside_it(found: Evidence) -> None:
    record = record_of(found)
    jsonschema.Draft202012Validator(SCHEMA).validate(record)
    assert set(record) == set(SCHEMA["properties"])
    assert record["schema_version"] == 2


def test_a_record_keeps_the_last_fifty_events_without_the_source_of_their_cells() -> None:
    events = tuple(
        Event("memory-cap-interrupt", float(n), "told", {"cell_source": "x" * 9999, "line": n})
        for n in range(120)
    )
    record = record_of(evidence(signal.SIGKILL, events=events))
    assert [event["extra"] for event in record["events"]] == [{"line": n} for n in range(70, 120)]
    assert "cell_source" in events[-1].extra, "the evidence itself is untouched"
    assert len(json.dumps(record)) < 20_000


def test_the_schema_is_one_and_describes_every_key_at_every_depth() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)

    def undescribed(schema: dict[str, Any], path: str) -> list[str]:
        inside = [(f"{path}.{name}", s) for name, s in schema.get("properties", {}).items()]
        if isinstance(schema.get("items"), dict) and "properties" in schema["items"]:
            inside.append((f"{path}[]", schema["items"]))
        here = [] if len(schema.get("description", "")) > 5 else [path]
        return here + [found for name, s in inside for found in undescribed(s, name)]

    assert undescribed(SCHEMA, "record") == []


def test_what_was_around_is_in_the_record() -> None:
    record = record_of(EVERYTHING)
    assert record["restored_from"] == "c1"
    assert (record["cell_age_s"], record["uptime_s"]) == (20.0, 100.0)
    assert record["memory_curve"] == [[-2.0, 10], [-1.0, 30]]
    assert record["shared_memory"] == {"total_bytes": 64 * MIB, "free_bytes": 0}
    assert record["processor"]["missing_flags"] == ["avx2", "bmi2", "avx512f"]
    assert record["gpu"]["devices"][0]["name"] == "A GPU"
    assert record["events"][0]["said"] == "A child was killed."
    assert record["environment_changes"] == CHANGES
    assert record["explained"][0]["text"] == "malloc(): corrupted top size"
    assert record["native_stack"] == "#0 0x1 in crash"
    assert "curve" not in record["evidence"]


@pytest.mark.parametrize(
    ("ended", "code", "words"),
    [
        (Exit(None, signal.SIGKILL), 137, "SIGKILL"),
        (Exit(None, signal.SIGSEGV), 139, "segmentation fault"),
        (Exit(None, signal.SIGABRT), 134, "abort()"),
        (Exit(None, signal.SIGTERM), 143, "SIGTERM"),
        (Exit(None, signal.SIGBUS), 135, "/dev/shm"),
        (Exit(None, signal.SIGILL), 132, "instruction"),
        (Exit(None, signal.SIGFPE), 136, "division"),
        (Exit(None, signal.SIGHUP), 129, "SIGHUP"),
        (Exit(None, 40), 168, "signal 40"),
        (Exit(1, None), 1, "error"),
        (Exit(127, None), 127, "not found"),
        (Exit(0, None), 0, "well"),
        (Exit(77, None), 77, "exit(77)"),
    ],
)
def test_the_code_of_a_container_has_its_meaning(ended: Exit, code: int, words: str) -> None:
    assert exit_codes.container_code(ended) == code
    assert words in (exit_codes.meaning(code) or "")


def test_an_unseen_end_has_no_code() -> None:
    assert exit_codes.meaning(exit_codes.container_code(None)) is None


def test_a_curve_is_thinned_to_120_points_and_keeps_its_peak_and_its_end() -> None:
    readings = [(1000.0 + n, n % 50) for n in range(5000)]
    readings[2222] = (3222.0, 999)
    thin = curve.thinned(readings, until=6000.0)
    assert len(thin) == 120
    assert (-2778.0, 999) in thin
    assert thin[-1] == (-1.0, 4999 % 50)
    assert thin == sorted(thin)
    assert curve.thinned([], 1.0) == []


def test_the_level_of_enforcement_is_one_word_and_a_sentence() -> None:
    assert enforcement.level(None) == "none"
    assert "No memory_limit" in enforcement.sentence(None)
    assert enforcement.level(CAP) == "hard"
    assert "700M was enforced by cgroup v1" in enforcement.sentence(CAP)
    alone = replace(CAP, enforced=False, backend="none", detail="nothing enforces it: no cgroup")
    assert enforcement.level(alone) == "guard"
    assert "nothing enforces it" in enforcement.sentence(alone)
    assert enforcement.level(replace(alone, soft_bytes=alone.cap_bytes)) == "not-enforced"


def test_an_interrupted_cell_is_told_as_survived_and_not_as_a_death() -> None:
    found = evidence(cap=CAP, cell="x = grow()")
    record = report.build(found, Verdict("death", "memory-cap-interrupt", "595 of 700 MB"))
    assert record["survived"] is True
    assert record["paragraph"].startswith("The cell was interrupted at ")
    assert "700M. The kernel and its variables live." in record["paragraph"]
    assert "died" not in record["paragraph"]
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(json.dumps(record)))


def test_the_second_death_at_a_line_is_counted_in_record_and_exit_marker(tmp_path: Path) -> None:
    deaths = tmp_path / contract.DEATHS
    deaths.mkdir()
    (deaths / "0-torn.json").write_text("{")
    markers = []
    for name, at in (("a", 1000.0), ("b", 2000.0)):
        directory = tmp_path / contract.SESSIONS / name
        directory.mkdir(parents=True)
        found = evidence(signal.SIGSEGV, at=at, faults=TRACE.format(line=1))
        found = replace(found, session=replace(found.session, id=name))
        post_mortem.exit_seen(directory, found)
        marker = session.load_exit(directory)
        assert marker is not None
        markers.append(marker)
    assert [marker.same_deaths for marker in markers] == [1, 2]
    assert "the same cell, unchanged" in markers[1].in_common
    record = json.loads((deaths / str(markers[1].death)).read_bytes())
    assert record["repeated"]["count"] == 2
    assert record["repeated"]["first"] == "1970-01-01T00:16:40.000+00:00"
    assert record["shared_memory"]["total_bytes"] > 0
    assert record["in_container"] in (True, False)
