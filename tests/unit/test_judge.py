"""Verdicts from evidence, rule by rule."""

from __future__ import annotations

import dataclasses
import signal
from typing import Any

import pytest

from checkpoint_kernel.flight_recorder import Flight
from checkpoint_kernel.session import Cap, Intent, Plan, Session, Settings
from checkpoint_provisioner import report
from checkpoint_provisioner.evidence import Evidence, Exit, Memory, OomKills, SignalSeen
from checkpoint_provisioner.verdict import judge

CAP = Cap("700M", 700 * 2**20, 595 * 2**20, "cgroup v1", True, "")
BUSY = Flight(
    pid=7,
    state="busy",
    execution_count=3,
    cell_source="x = 1\ncrash(x)\ny = 2",
    cell_file="/tmp/ipykernel_7/1.py",
    line=1,
    cells_started=3,
    checkpoint="c9",
    checkpoint_time=998.0,
)
FAULTS = """Fatal Python error: Segmentation fault

Current thread 0x00007f (most recent call first):
  File "/usr/lib/python3.11/ctypes/__init__.py", line 519 in string_at
  File "/tmp/ipykernel_7/0.py", line 9 in crash
  File "/tmp/ipykernel_7/1.py", line 2 in <module>

Thread 0x00007e (most recent call first):
  File "/tmp/ipykernel_7/1.py", line 3 in other
"""


def evidence(number: int | None = None, code: int | None = None, **fields: Any) -> Evidence:
    started = Session(
        id="s",
        line="s",
        started=900.0,
        kernel_id="k",
        notebook="/n.ipynb",
        notebook_directory="",
        key_file="",
        supervisor_pid=1,
        boot_id="",
        settings=Settings(),
        plan=Plan("clean", ""),
        cap=fields.pop("cap", None),
    )
    ended = None if number is None and code is None else Exit(code, number)
    values: dict[str, Any] = {"session": started, "exit": ended, "time": 1000.0, "uptime_s": 100.0}
    return Evidence(**{**values, "flight": BUSY, **fields})


def intent(action: Any) -> Intent:
    return Intent(action, 999.0, 999.0)


def cause(found: Evidence) -> str | None:
    return judge(found).cause


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (signal.SIGKILL, "killed"),
        (signal.SIGTERM, "terminated"),
        (signal.SIGHUP, "hung-up"),
        (signal.SIGSEGV, "segmentation-fault"),
        (signal.SIGBUS, "bus-error"),
        (signal.SIGILL, "illegal-instruction"),
        (signal.SIGFPE, "floating-point-exception"),
        (signal.SIGABRT, "aborted"),
        (signal.SIGXCPU, "cpu-limit"),
        (signal.SIGXFSZ, "file-size-limit"),
    ],
)
def test_a_bare_signal_has_its_cause(number: int, expected: str) -> None:
    found = judge(evidence(number))
    assert (found.kind, found.cause) == ("death", expected)


def test_oom_by_our_cap_is_proof_and_repeats_the_limit_as_configured() -> None:
    found = judge(evidence(signal.SIGKILL, cap=CAP, oom=OomKills(1, True, ())))
    assert (found.cause, found.confidence) == ("oom-killed-by-cap", "proof")
    assert "700M" in found.because


def test_oom_by_an_outer_limit_names_it() -> None:
    found = judge(evidence(signal.SIGKILL, cap=CAP, oom=OomKills(1, False, ("/sys/pod",))))
    assert found.cause == "oom-killed-by-system"
    assert "/sys/pod" in found.because


def test_oom_counters_of_a_shared_group_are_likely_only() -> None:
    found = judge(evidence(signal.SIGKILL, oom=OomKills(1, False, (), own_group=False)))
    assert (found.cause, found.confidence) == ("oom-killed-by-system", "likely")


def test_somebody_elses_oom_kill_on_the_machine_does_not_explain_ours() -> None:
    found = evidence(
        signal.SIGKILL, oom=OomKills(0, False, (), own_group=False), system_oom_kills=1
    )
    assert cause(found) == "killed"


def test_an_oom_kill_of_the_machine_is_likely_where_its_memory_was_low() -> None:
    found = judge(
        evidence(
            signal.SIGKILL,
            oom=OomKills(0, False, (), own_group=False),
            system_oom_kills=1,
            memory=Memory(available_bytes=2**28, total_bytes=2**34),
        )
    )
    assert (found.cause, found.confidence) == ("oom-killed-by-system", "likely")


def test_the_kernel_log_proves_an_oom_kill() -> None:
    found = judge(evidence(signal.SIGKILL, kernel_log="Out of memory: Killed process 7 (python)"))
    assert (found.cause, found.confidence) == ("oom-killed-by-system", "proof")


def test_a_worker_that_was_oom_killed_does_not_explain_a_segfault() -> None:
    found = evidence(signal.SIGSEGV, cap=CAP, oom=OomKills(1, True, ()))
    assert cause(found) == "segmentation-fault"


def test_sigkill_while_no_counter_moved_came_from_somebody() -> None:
    found = judge(evidence(signal.SIGKILL, cap=CAP, oom=OomKills(0, False, ())))
    assert (found.cause, found.confidence) == ("killed", "proof")


def test_sigkill_while_memory_was_low_points_to_a_userspace_oom_daemon() -> None:
    found = judge(evidence(signal.SIGKILL, memory=Memory(available_bytes=2**28, total_bytes=2**34)))
    assert (found.cause, found.confidence) == ("killed", "likely")
    assert "OOM daemon" in found.because


def test_the_sender_of_sigterm_is_named() -> None:
    seen = SignalSeen(signal.SIGTERM, 42, 1000, "slurmstepd", 999.0)
    assert "42 (slurmstepd)" in judge(evidence(signal.SIGTERM, signals=(seen,))).because


def test_sigterm_that_the_kernel_handled_before_it_left_by_itself_is_terminated() -> None:
    leaving = Flight(state="exiting", exiting="SIGTERM", cells_started=1)
    assert cause(evidence(code=143, flight=leaving)) == "terminated"


@pytest.mark.parametrize(
    ("said", "detail"),
    [
        ("free(): double free detected in tcache 2", "double free"),
        ("double free or corruption (fasttop)", "double free"),
        ("malloc(): corrupted top size", "heap corruption"),
        ("munmap_chunk(): invalid pointer", "heap corruption"),
        ("a.out: a.c:3: main: Assertion `x > 0' failed.", "assertion"),
        (
            "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  "
            "std::bad_alloc",
            "bad_alloc",
        ),
        ("Fatal Python error: deletion of interned string failed", "Python fatal error"),
    ],
)
def test_abort_is_detailed_by_the_text_on_stderr(said: str, detail: str) -> None:
    found = judge(evidence(signal.SIGABRT, stderr_tail=f"old noise\n{said}\n"))
    assert found.cause == "aborted"
    assert detail in found.because


def test_an_abort_without_text_is_aborted_all_the_same() -> None:
    header = "Fatal Python error: Aborted\n"
    assert judge(evidence(signal.SIGABRT, faults=header)).because.startswith("it ended by SIGABRT")


def test_a_python_fatal_error_about_recursion_is_a_stack_overflow() -> None:
    said = "Fatal Python error: _Py_CheckRecursiveCall: Cannot recover from stack overflow.\n"
    assert cause(evidence(signal.SIGABRT, stderr_tail=said)) == "stack-overflow"


def test_one_frame_over_sixty_times_is_a_stack_overflow() -> None:
    frames = '  File "/tmp/ipykernel_7/1.py", line 2 in f\n' * 99
    faults = f"Fatal Python error: Segmentation fault\n\nCurrent thread 0x1:\n{frames}"
    assert cause(evidence(signal.SIGSEGV, faults=faults)) == "stack-overflow"


def test_the_line_is_the_cells_frame_in_the_thread_that_failed() -> None:
    place = report.where(evidence(signal.SIGSEGV, faults=FAULTS))
    assert (place.cell, place.line, place.source) == (3, 2, "crash(x)")


def test_without_a_trace_the_line_is_the_one_sampled_last() -> None:
    assert report.where(evidence(signal.SIGKILL)).line == 1


def test_os_exit_in_a_cell_is_exited_with_its_code() -> None:
    found = judge(evidence(code=3))
    assert found.cause == "exited"
    assert "code 3" in found.because


def test_status_zero_that_nobody_asked_for_is_a_death() -> None:
    assert (judge(evidence(code=0)).kind, cause(evidence(code=0))) == ("death", "exited")


def test_exit_in_a_cell_is_no_death() -> None:
    leaving = Flight(state="exiting", exiting="exit()", cells_started=1)
    found = judge(evidence(code=0, flight=leaving))
    assert (found.kind, found.cause) == ("quit", None)


def test_leaving_before_it_was_ready_is_start_failed_and_repeats_the_last_words() -> None:
    starting = Flight(state="starting")
    said = "Traceback ...\nModuleNotFoundError: No module named 'zmq'\n"
    found = judge(evidence(code=1, flight=starting, stderr_tail=said))
    assert found.cause == "start-failed"
    assert "No module named 'zmq'" in found.because


def test_our_own_wrappers_are_no_part_of_the_users_stack() -> None:
    wrapper = '  File "/x/checkpoint_kernel/last_words.py", line 9 in wrapper'
    faults = FAULTS.replace("call first):\n", f"call first):\n{wrapper}\n", 1)
    assert faults != FAULTS
    assert judge(evidence(signal.SIGABRT, faults=faults)).because == (
        judge(evidence(signal.SIGABRT, faults=FAULTS)).because
    )


def test_a_routine_log_line_is_no_reason_for_a_failed_start() -> None:
    said = "[CheckpointKernelApp] WARNING | Kernel is running over TCP without encryption.\n"
    found = judge(evidence(code=9, flight=Flight(state="starting"), stderr_tail=said))
    assert found.because == "it exited with code 9 before it was ready"


def test_dying_while_restoring_is_not_a_failed_start() -> None:
    assert cause(evidence(code=1, flight=Flight(state="restoring"))) == "exited"


def test_sigkill_that_a_cell_sent_to_its_own_kernel_is_told_as_such() -> None:
    itself = dataclasses.replace(BUSY, sent_itself="SIGKILL")
    found = evidence(signal.SIGKILL, flight=itself)
    assert cause(found) == "killed"
    assert "its own" in judge(found).because
    assert "killed by a SIGKILL that its own code sent" in report.paragraph(found, judge(found))
    assert "os.kill" in report.build(found, judge(found))["remedy"]


# --- asked for ---


def test_a_restart_that_was_obeyed_is_no_death() -> None:
    found = judge(evidence(code=0, intents=(intent("restart"),)))
    assert (found.kind, found.cause) == ("restart", None)


def test_a_restart_that_took_sigkill_is_hung() -> None:
    asked = (intent("restart"), intent("terminate"), intent("kill"))
    found = judge(evidence(signal.SIGKILL, intents=asked))
    assert (found.kind, found.cause) == ("hung", "hung")


def test_the_kernels_own_word_counts_as_intent() -> None:
    told = Flight(state="exiting", shutdown="restart")
    assert judge(evidence(code=0, flight=told)).kind == "restart"


def test_a_kill_of_a_live_kernel_is_a_restart() -> None:
    assert judge(evidence(signal.SIGKILL, intents=(intent("kill"),))).kind == "restart"


def test_a_kill_asked_for_after_a_segfault_does_not_hide_it() -> None:
    assert cause(evidence(signal.SIGSEGV, intents=(intent("kill"),))) == "segmentation-fault"


def test_what_the_supervisor_asked_because_the_server_was_gone_is_a_death() -> None:
    own = Intent("terminate", 999.0, 999.0, sender="supervisor")
    found = judge(evidence(code=0, intents=(own,), server_gone=True))
    assert (found.kind, found.cause) == ("death", "server-gone")


# --- nobody saw it ---


def test_a_session_of_an_earlier_boot_ended_with_its_machine() -> None:
    assert "machine" in judge(evidence(same_boot=False)).because


def test_an_unseen_end_is_likely_only() -> None:
    found = judge(evidence())
    assert (found.cause, found.confidence) == ("server-gone", "likely")


# --- the report ---


def test_the_paragraph_names_cell_line_cause_and_evidence_and_no_checkpoint() -> None:
    found = evidence(signal.SIGKILL, cap=CAP, oom=OomKills(1, True, ()))
    text = report.paragraph(found, judge(found))
    for part in ("killed", "In[3], line 1", "`x = 1`", "700M", "oom_kill"):
        assert part in text
    # One that is being written may be committed yet.
    assert "checkpoint" not in text


def test_the_line_is_found_although_no_thread_is_marked_as_the_current_one() -> None:
    # faulthandler does not mark a thread that fails in C code without the GIL every time.
    unmarked = FAULTS.replace("Current thread", "Thread")
    assert report.where(evidence(signal.SIGSEGV, faults=unmarked)).line is not None


def test_the_record_has_every_field_that_the_design_promises() -> None:
    found = evidence(signal.SIGSEGV, faults=FAULTS)
    record = report.build(found, judge(found))
    assert record["schema_version"] == 2
    assert record["time"] == "1970-01-01T00:16:40.000+00:00"
    assert (record["cause"], record["signal"]) == ("segmentation-fault", "SIGSEGV")
    assert (record["cell"], record["line"], record["source"]) == (3, 2, "crash(x)")
    assert (record["notebook"], record["exit_code"]) == ("/n.ipynb", None)
    assert record["checkpoint"] == {"id": "c9", "age_s": 2.0}
