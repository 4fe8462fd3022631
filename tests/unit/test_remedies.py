"""Which one thing is advised after which death, by what was around it."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import Any

import pytest
from death_cases import CAP, GIB, MIB, OOM, TRACE, busy, evidence, out_of_memory, record_of

from checkpoint_provisioner import pinning, remedies
from checkpoint_provisioner.evidence import Memory, OomKills
from checkpoint_provisioner.proc import Processor
from checkpoint_provisioner.surroundings import SharedMemory, Surroundings
from checkpoint_provisioner.verdict import Verdict

pytestmark = pytest.mark.unit

CHANGED: dict[str, Any] = {
    "since": "2026-01-01T00:00:00+00:00",
    "python": None,
    "added": {},
    "removed": {},
    "changed": {"scipy": ["1.0", "2.0"]},
    "conda_revision": None,
}


def advice(found: Any) -> str:
    remedy = record_of(found)["remedy"]
    assert isinstance(remedy, str)
    assert remedy.endswith(".")
    assert ". " not in remedy, "one sentence"
    return remedy


def around(**fields: Any) -> Surroundings:
    return Surroundings(**fields)


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("df = pd.read_csv('big.csv')", "Read in chunks"),
        ("df = pl.scan_parquet(p).collect()", "Read in chunks"),
        ("all = pd.concat(frames)", "in chunks"),
        ("both = left.merge(right, on='id')", "in chunks"),
        ("loss.backward()", "smaller batch"),
        ("model.fit(X, y)", "smaller batch"),
        ("for batch in loader: step(batch)", "smaller batch"),
        ("search = GridSearchCV(m, grid, n_jobs=8).fit(X)", "fewer workers"),
        ("x = bytearray(10**9)", "Load less at a time"),
        ("history.append(1)", "Load less at a time"),
    ],
)
def test_out_of_memory_is_answered_by_what_the_line_does(cell: str, words: str) -> None:
    remedy = advice(out_of_memory(cell))
    assert words in remedy
    assert "raise `memory_limit` in kernel.json (now 700M) to 1280M" in remedy


@pytest.mark.parametrize(
    ("total_bytes", "higher"),
    [(64 * GIB, "1280M"), (GIB, "768M"), (780 * MIB, None), (700 * MIB, None)],
)
def test_the_cap_is_raised_to_what_the_machine_has_and_never_above(
    total_bytes: int, higher: str | None
) -> None:
    remedy = advice(out_of_memory("x = 1", total_bytes=total_bytes))
    if higher is None:
        assert "no room to raise `memory_limit` (now 700M)" in remedy
    else:
        assert f"(now 700M) to {higher}." in remedy


def test_a_container_that_allows_less_than_the_machine_has_bounds_the_cap() -> None:
    found = out_of_memory("x = 1", total_bytes=64 * GIB, surroundings=around(usable_bytes=GIB))
    assert "to 768M." in advice(found)


def test_large_caps_are_raised_in_whole_gigabytes() -> None:
    large = replace(CAP, configured="9G", cap_bytes=9 * GIB, soft_bytes=8 * GIB)
    assert "(now 9G) to 14G." in advice(out_of_memory("x = 1", large, 64 * GIB))


def test_an_interrupted_cell_is_answered_as_an_oom_kill_is() -> None:
    found = evidence(cap=CAP, cell="df = pd.read_csv(p)", memory=Memory(total_bytes=64 * GIB))
    case = remedies.Case(
        found, Verdict("death", "memory-cap-interrupt", "x"), "df = pd.read_csv(p)"
    )
    assert "Read in chunks" in remedies.remedy(case)


def test_an_outer_limit_is_named() -> None:
    found = evidence(signal.SIGKILL, oom=OomKills(1, False, ("/sys/pod",)))
    assert "(/sys/pod)" in advice(found)


def test_a_kill_while_memory_was_low_is_answered_by_a_cap() -> None:
    low = Memory(available_bytes=MIB, total_bytes=GIB)
    assert "set a `memory_limit`" in advice(evidence(signal.SIGKILL, memory=low))
    assert "Ask who sent it" in advice(evidence(signal.SIGKILL))


def test_a_refused_allocation_under_a_cap_is_the_caps() -> None:
    said = "terminate called after throwing an instance of 'std::bad_alloc'\n"
    found = evidence(signal.SIGABRT, cap=CAP, stderr_tail=said, memory=Memory(total_bytes=64 * GIB))
    assert "it was the memory limit of 700M that refused" in advice(found)
    assert "limit" not in advice(replace(found, session=replace(found.session, cap=None)))


@pytest.mark.parametrize(
    ("in_container", "total_mb", "free_mb", "words"),
    [
        (True, 64, 64, "--shm-size"),
        (True, 8000, 0, "--shm-size"),
        (False, 8000, 0, "Free space in /dev/shm"),
        (True, 8000, 7000, "memory-mapped file"),
    ],
)
def test_a_bus_error_is_answered_by_the_state_of_dev_shm(
    in_container: bool, total_mb: int, free_mb: int, words: str
) -> None:
    shm = SharedMemory(total_mb * MIB, free_mb * MIB)
    found = around(in_container=in_container, shared_memory=shm)
    assert words in advice(evidence(signal.SIGBUS, surroundings=found))


def test_missing_instructions_are_named() -> None:
    old = around(processor=Processor("old", ("sse4_2", "avx", "avx512f")))
    new = around(processor=Processor("new", remedies.NEEDED_FLAGS))
    assert "lacks avx2, fma, bmi2" in advice(evidence(signal.SIGILL, surroundings=old))
    assert "Reinstall the package" in advice(evidence(signal.SIGILL, surroundings=new))
    assert "this machine's processor" in advice(evidence(signal.SIGILL))


def test_a_changed_package_on_the_stack_is_pinned_back() -> None:
    many = {f"other{n}": ["1", "2"] for n in range(9)} | CHANGED["changed"]
    found = evidence(
        signal.SIGSEGV,
        faults=TRACE.format(line=1),
        environment_changes={**CHANGED, "changed": many},
    )
    assert "stands on the stack: `pip install scipy==1.0`" in advice(found)
    assert "pip" not in advice(replace(found, faults=""))


def test_a_changed_package_in_the_cell_or_among_few_is_pinned_back() -> None:
    cell = "import sklearn\nsklearn.f()"
    many = {f"other{n}": ["1", "2"] for n in range(9)} | {"scikit-learn": ["1.4", "1.5"]}
    changes = {**CHANGED, "changed": many}
    found = evidence(signal.SIGABRT, cell=cell, environment_changes=changes)
    assert "used in the cell: `pip install scikit-learn==1.4`" in advice(found)
    assert "session: `pip install scipy==1.0`" in advice(
        evidence(signal.SIGSEGV, environment_changes=CHANGED)
    )
    removed = {**CHANGED, "changed": {}, "removed": {"numba": "0.6"}}
    assert "numba==0.6" in advice(evidence(code=1, flight=None, environment_changes=removed))


def test_a_changed_package_does_not_explain_an_oom_kill() -> None:
    assert "pip install" not in advice(out_of_memory("x = 1", environment_changes=CHANGED))


def test_conda_goes_back_by_its_revision_where_too_much_changed() -> None:
    many = {f"other{n}": ["1", "2"] for n in range(9)}
    changes = {**CHANGED, "changed": many, "conda_revision": [3, 4]}
    said = pinning.advice(changes, "", "")
    assert said is not None
    assert "conda install --revision 3" in said


def test_what_conda_changed_is_conda_s_to_change_back() -> None:
    by_conda = {**CHANGED, "conda_revision": [3, 4]}
    assert "`conda install scipy=1.0`" in (pinning.advice(by_conda, "", "") or "")
    rebuilt = {**CHANGED, "changed": {"libblas": ["3.9 (build mkl)", "3.9 (build openblas)"]}}
    assert "`conda install libblas=3.9=mkl`" in (pinning.advice(rebuilt, "", "") or "")


def test_another_python_is_named_where_no_package_is_to_blame() -> None:
    changes = {**CHANGED, "changed": {}, "python": ["3.11.7", "3.12.1"]}
    assert "go back to 3.11.7" in advice(evidence(signal.SIGSEGV, environment_changes=changes))


def test_a_native_stack_that_comes_later_can_change_the_advice() -> None:
    record = record_of(evidence(signal.SIGSEGV, environment_changes=CHANGED))
    native = "#0 0x7f in f () from /env/site-packages/scipy/linalg/_x.cpython-311-x86_64.so"
    assert "scipy==1.0" in (remedies.with_native_stack(record, native) or "")
    assert remedies.with_native_stack(record, "#0 in malloc () from libc.so.6") is None
    assert remedies.with_native_stack({**record, "cause": "killed"}, native) is None


@pytest.mark.parametrize("odd", [None, {}, {"changed": []}, {"changed": {"x": "1"}}, {"added": 3}])
def test_odd_changes_give_no_advice(odd: Any) -> None:
    assert pinning.advice(odd, "", "") is None


def test_a_package_is_found_by_its_files_and_not_by_a_part_of_its_name() -> None:
    changes = {**CHANGED, "changed": {f"p{n}": ["1", "2"] for n in range(4)} | {"dask": ["1", "2"]}}
    for stack in ("/x/dask/core.py", "/x/dask.libs/a.so", "/x/dask.cpython-311.so", "/x/dask.py"):
        assert "dask==1" in (pinning.advice(changes, stack, "") or ""), stack
    assert pinning.advice(changes, "/x/daskette/core.py /x/mydask/x", "daskette") is None


@pytest.mark.parametrize(
    ("number", "code", "said", "words"),
    [
        (signal.SIGABRT, None, "OMP: Error #15: Initializing libiomp5.so", "one source"),
        (None, 1, "RuntimeError: CUDA error: device-side assert triggered", "LAUNCH_BLOCKING"),
        (signal.SIGABRT, None, "libgomp: Thread creation failed: Resource temporarily unavailable",
         "fewer threads"),
        (None, 2, "Intel MKL FATAL ERROR: Cannot load libmkl_def.so.", "mkl"),
    ],
)  # fmt: skip
def test_known_last_words_bring_their_own_remedy(
    number: int | None, code: int | None, said: str, words: str
) -> None:
    assert words in advice(evidence(number, code, stderr_tail=said))


def test_a_module_that_is_missing_at_the_start_is_to_be_installed() -> None:
    said = "Traceback ...\nModuleNotFoundError: No module named 'zmq.green'\n"
    found = evidence(code=1, flight=None, stderr_tail=said)
    assert "`pip install pyzmq`" in advice(found)


def test_every_cause_has_a_sentence() -> None:
    causes = [
        "oom-killed-by-cap", "oom-killed-by-system", "memory-cap-interrupt", "segmentation-fault",
        "bus-error", "illegal-instruction", "floating-point-exception", "aborted",
        "stack-overflow", "killed", "terminated", "hung-up", "exited", "cpu-limit",
        "file-size-limit", "hung", "start-failed", "server-gone",
    ]  # fmt: skip
    for cause in causes:
        case = remedies.Case(evidence(signal.SIGKILL, oom=OOM), Verdict("death", cause, "x"), "")
        assert "doctor`." not in remedies.remedy(case), cause


def test_a_death_while_restoring_is_answered_by_no_line_of_the_users() -> None:
    flight = busy("", state="restoring", cells_started=0, restoring_unit="data:bad")
    remedy = advice(evidence(signal.SIGSEGV, flight=flight, faults=TRACE.format(line=1)))
    assert "`%checkpoint restore NAME` tries it again" in remedy
    assert "line's last call" not in remedy
