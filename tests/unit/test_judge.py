"""Verdicts from evidence, rule by rule."""

from __future__ import annotations

import dataclasses
import signal
from typing import Any

import pytest

from checkpoint_kernel.flight_recorder import Flight
from checkpoint_kernel.last_fault import Fault, LastFault
from checkpoint_kernel.session import Cap, Intent, Plan, Session, Settings
from checkpoint_provisioner import report
from checkpoint_provisioner.evidence import Evidence, Exit, Memory, OomKills, SignalSeen
from checkpoint_provisioner.proc import Limits
from checkpoint_provisioner.verdict import Verdict, judge

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


def test_a_childs_oom_kill_does_not_explain_a_sigkill_that_the_kernel_log_does_not_name() -> None:
    found = judge(
        evidence(signal.SIGKILL, cap=CAP, oom=OomKills(1, True, ()), kernel_log_read=True)
    )
    assert (found.cause, found.confidence) == ("killed", "likely")
    assert "child" in found.because


def test_a_shared_groups_oom_kill_was_another_process_where_the_kernel_log_is_silent() -> None:
    shared = OomKills(1, False, (), own_group=False)
    found = judge(evidence(signal.SIGKILL, oom=shared, kernel_log_read=True))
    assert (found.cause, found.confidence) == ("killed", "proof")
    assert "kernel log names no OOM kill" in found.because


def test_sigkill_without_any_counter_is_likely_only() -> None:
    found = judge(evidence(signal.SIGKILL))
    assert (found.cause, found.confidence) == ("killed", "likely")


# --- limits, and signals that the process's own doing may have caused ---


@pytest.mark.parametrize(
    ("number", "limits", "expected", "confidence"),
    [
        # The soft limit has gone up by a second when SIGXCPU comes.
        (signal.SIGXCPU, Limits(60.0, 61, None, None), "cpu-limit", "proof"),
        (signal.SIGXCPU, Limits(5.0, 61, None, None), "cpu-limit", "likely"),
        (signal.SIGXCPU, Limits(5.0, None, None, None), "cpu-limit", "likely"),
        (signal.SIGKILL, Limits(60.0, 60, 60, None), "cpu-limit", "proof"),
        (signal.SIGKILL, Limits(5.0, 60, 60, None), "killed", "likely"),
        (signal.SIGXFSZ, Limits(5.0, None, None, 2**20), "file-size-limit", "proof"),
        (signal.SIGXFSZ, Limits(5.0, None, None, None), "file-size-limit", "likely"),
    ],
)
def test_a_limit_is_proof_only_where_it_was_reached(
    number: int, limits: Limits, expected: str, confidence: str
) -> None:
    found = judge(evidence(number, limits=limits))
    assert (found.cause, found.confidence) == (expected, confidence)


def test_an_oom_kill_comes_before_the_limit_of_cpu_time() -> None:
    found = evidence(
        signal.SIGKILL, cap=CAP, oom=OomKills(1, True, ()), limits=Limits(60.0, 60, 60, None)
    )
    assert cause(found) == "oom-killed-by-cap"


@pytest.mark.parametrize("number", [signal.SIGALRM, signal.SIGPIPE, signal.SIGSYS, signal.SIGPROF])
def test_a_signal_that_its_own_doing_may_have_caused_is_likely_only(number: int) -> None:
    found = judge(evidence(number))
    assert (found.cause, found.confidence) == ("terminated", "likely")


def test_a_signal_that_the_kernel_sent_itself_is_told_as_such() -> None:
    itself = dataclasses.replace(BUSY, sent_itself="SIGALRM")
    found = judge(evidence(signal.SIGALRM, flight=itself))
    assert (found.confidence, "code in the kernel sent" in found.because) == ("proof", True)


def test_a_sender_of_long_ago_is_not_the_sender_of_the_signal_that_ended_it() -> None:
    seen = SignalSeen(signal.SIGTERM, 42, 1000, "person", 100.0)
    found = judge(evidence(signal.SIGTERM, signals=(seen,)))
    assert found.cause == "terminated"
    assert "42" not in found.because


# --- a foreign kernel behind a shell script ---


@pytest.mark.parametrize(
    ("code", "expected"),
    [(137, "killed"), (139, "segmentation-fault"), (134, "aborted"), (143, "terminated")],
)
def test_a_wrappers_code_over_128_is_its_programs_signal_and_likely(
    code: int, expected: str
) -> None:
    found = judge(evidence(code=code, is_ours=False, flight=None))
    assert (found.cause, found.confidence) == (expected, "likely")
    assert str(code) in found.because


def test_a_wrapper_whose_program_was_oom_killed_is_known_by_the_counters() -> None:
    # The kernel log names the program, whose number nobody told us.
    found = evidence(
        code=137,
        is_ours=False,
        flight=None,
        cap=CAP,
        oom=OomKills(1, True, ()),
        kernel_log_read=True,
    )
    assert cause(found) == "oom-killed-by-cap"


@pytest.mark.parametrize("code", [126, 127, 128, 129 + 64, 255])
def test_other_codes_of_a_wrapper_are_codes(code: int) -> None:
    assert cause(evidence(code=code, is_ours=False, flight=None)) == "exited"


def test_a_code_over_128_of_our_own_kernel_is_a_code() -> None:
    assert cause(evidence(code=137)) == "exited"


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


# --- crashes: what failed, and whether anything had ---

RECURSION = (
    "Fatal Python error: Segmentation fault\n\nCurrent thread 0x1:\n"
    + '  File "/tmp/ipykernel_7/1.py", line 2 in f\n' * 99
)
STACK = 0x7FFC_0000_0000


def at(address: int | None, number: int = signal.SIGSEGV, code: int = 1) -> LastFault:
    return LastFault(Fault(number, code, address, None, None, STACK, 0x4000))


def sent_by(pid: int, number: int) -> LastFault:
    return LastFault(Fault(number, 0, None, pid, 1000, STACK, 0x4000))


def test_one_frame_over_sixty_times_is_likely_a_stack_overflow() -> None:
    found = judge(evidence(signal.SIGSEGV, faults=RECURSION))
    assert (found.cause, found.confidence) == ("stack-overflow", "likely")


def test_a_fault_at_the_stack_pointer_is_proof_of_a_stack_overflow() -> None:
    found = judge(evidence(signal.SIGSEGV, last_fault=at(STACK - 8)))
    assert (found.cause, found.confidence) == ("stack-overflow", "proof")


def test_a_null_pointer_at_the_bottom_of_a_recursion_is_no_stack_overflow() -> None:
    found = judge(evidence(signal.SIGSEGV, faults=RECURSION, last_fault=at(0)))
    assert (found.cause, found.confidence) == ("segmentation-fault", "proof")
    assert "null pointer" in found.because


def test_a_fault_in_a_large_frame_of_a_recursion_is_likely_a_stack_overflow() -> None:
    found = judge(evidence(signal.SIGSEGV, faults=RECURSION, last_fault=at(STACK + 2**20)))
    assert (found.cause, found.confidence) == ("stack-overflow", "likely")


def test_a_write_that_runs_off_the_upper_end_of_the_stack_is_no_stack_overflow() -> None:
    found = evidence(signal.SIGSEGV, last_fault=at(STACK + 2**16))
    assert cause(found) == "segmentation-fault"


def test_the_first_of_two_faults_is_the_cause() -> None:
    first = at(0x4000, signal.SIGFPE, code=1).fault
    both = LastFault(first, later=at(0x1363).fault)
    found = judge(evidence(signal.SIGSEGV, last_fault=both))
    assert (found.cause, found.confidence) == ("floating-point-exception", "proof")
    assert "broken off by SIGSEGV" in found.because


def test_the_fault_in_the_kernel_log_serves_where_there_is_no_witness() -> None:
    said = f"bash[7]: segfault at {STACK - 8:x} ip 00007f35 sp {STACK:x} error 6 in bash[5,56+15]"
    found = judge(evidence(signal.SIGSEGV, kernel_log=said, is_ours=False, flight=None))
    assert (found.cause, found.confidence) == ("stack-overflow", "proof")


def test_a_segfault_that_somebody_sent_says_that_nothing_had_failed() -> None:
    seen = evidence(
        signal.SIGSEGV,
        last_fault=sent_by(42, signal.SIGSEGV),
        fault_sender="timeout",
        faults=FAULTS,
    )
    assert "process 42 (timeout) of user 1000 sent SIGSEGV: nothing in it had failed" in (
        judge(seen).because
    )


def test_a_recursion_that_somebody_ends_by_sigsegv_is_no_stack_overflow() -> None:
    seen = evidence(signal.SIGSEGV, last_fault=sent_by(42, signal.SIGSEGV), faults=RECURSION)
    assert cause(seen) == "segmentation-fault"


def test_a_fault_of_another_signal_than_the_one_that_ended_it_says_nothing() -> None:
    found = judge(evidence(signal.SIGSEGV, last_fault=at(STACK - 8, signal.SIGBUS)))
    assert found.cause == "segmentation-fault"


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (signal.SIGBUS, 2, "behind the end of a mapped file"),
        (signal.SIGBUS, 4, "hardware error"),
        (signal.SIGFPE, 1, "division of an integer by zero"),
        (signal.SIGSEGV, 2, "access is not allowed"),
    ],
)
def test_the_kind_of_fault_is_told(number: int, code: int, words: str) -> None:
    assert words in judge(evidence(number, last_fault=at(0x5000, number, code))).because


def test_a_text_on_stderr_long_before_an_abort_is_likely_only() -> None:
    # A child's, perhaps, which wrote to the same descriptor.
    said = "double free or corruption (out)\n" + "epoch 7: loss 0.1\n" * 99
    found = judge(evidence(signal.SIGABRT, stderr_tail=said))
    assert (found.cause, found.confidence) == ("aborted", "likely")


def test_os_abort_is_told_as_such_whatever_stands_on_stderr() -> None:
    itself = dataclasses.replace(BUSY, sent_itself="SIGABRT")
    found = judge(evidence(signal.SIGABRT, flight=itself, stderr_tail="double free or corruption"))
    assert "code in the kernel sent SIGABRT" in found.because


def test_the_line_is_the_cells_frame_in_the_thread_that_failed() -> None:
    place = report.where(evidence(signal.SIGSEGV, faults=FAULTS))
    assert (place.cell, place.line, place.source) == (3, 2, "crash(x)")


def test_without_a_trace_the_line_is_the_one_sampled_last() -> None:
    assert report.where(evidence(signal.SIGKILL)).line == 1


def test_os_exit_in_a_cell_is_exited_with_its_code() -> None:
    found = judge(evidence(code=3))
    assert found.cause == "exited"
    assert "code 3" in found.because


@pytest.mark.parametrize(
    ("flight", "left", "words"),
    [
        (dataclasses.replace(BUSY, exiting="os._exit(3)"), LastFault(), "by os._exit(3)"),
        (dataclasses.replace(BUSY, exiting="atexit"), LastFault(exit_status=3), "interpreter's"),
        (BUSY, LastFault(exit_status=3), "C's exit()"),
        (BUSY, LastFault(), "C's _exit()"),
        (BUSY, LastFault(absent="no witness"), "without a word"),
    ],
)
def test_the_way_out_is_told_as_far_as_it_left_witnesses(
    flight: Flight, left: LastFault, words: str
) -> None:
    because = judge(evidence(code=3, flight=flight, last_fault=left)).because
    assert words in because
    assert because.endswith("without a word") == (left.absent is not None)


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


def test_a_restore_that_the_supervisor_ended_is_hung_and_a_death() -> None:
    loading = Flight(pid=7, state="restoring", restoring_unit="data:bad")
    why = "`bad` was being loaded for longer than the limit"
    found = evidence(signal.SIGKILL, flight=loading, loading_hung=why)
    assert judge(found) == Verdict("death", "hung", why)
    assert "loading one variable did not come to an end" in report.paragraph(found, judge(found))
    assert "%checkpoint restore NAME" in report.build(found, judge(found))["remedy"]
    assert cause(evidence(signal.SIGSEGV, flight=loading, loading_hung=why)) != "hung"


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


def test_a_supervisor_that_was_killed_while_the_server_lives_leaves_the_cause_unknown() -> None:
    found = judge(evidence(server_lives=True))
    assert (found.cause, found.confidence) == ("unknown", "unknown")
    assert "supervisor" in found.because


def test_a_kernel_that_saw_its_supervisor_go_makes_a_lost_server_likely_only() -> None:
    gone = dataclasses.replace(BUSY, exiting="parent gone")
    found = judge(evidence(flight=gone))
    assert (found.cause, found.confidence) == ("server-gone", "likely")


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
