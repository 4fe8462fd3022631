"""Judges the five signals of a process that has failed: faults of the processor, and abort().

Rules in this order: its own code sent it -> somebody else sent it -> the stack ran over ->
Python gave up -> text on stderr -> where and how it failed. Pure; a part of `verdict`.
"""

from __future__ import annotations

import signal
from dataclasses import replace

from checkpoint_kernel.last_fault import Fault, LastFault

from . import clues, faults
from .evidence import Evidence
from .finding import Finding

CAUSES = {
    signal.SIGSEGV: ("segmentation-fault", "a segmentation fault"),
    signal.SIGBUS: ("bus-error", "a bus error"),
    signal.SIGILL: ("illegal-instruction", "an illegal instruction"),
    signal.SIGFPE: ("floating-point-exception", "a floating-point exception"),
    signal.SIGABRT: ("aborted", "abort()"),
}


def find(evidence: Evidence, number: signal.Signals) -> Finding:
    """What is behind an end by one of `CAUSES`."""
    first, later = evidence.last_fault.fault, evidence.last_fault.later
    if first is not None and later is not None and first.signal != number == later.signal:
        return _broke_off(evidence, signal.Signals(first.signal), number)
    fault = _fault(evidence, number)
    return (
        _sent(evidence, number, fault)
        or _stack_overflow(evidence, number, fault)
        or _python_fatal_error(evidence, number)
        or _said(evidence, number)
        or _failed(evidence, number, fault)
    )


def _broke_off(evidence: Evidence, first: signal.Signals, last: signal.Signals) -> Finding:
    """The process failed once more while faulthandler wrote about `first`, and ended by `last`."""
    finding = find(replace(evidence, last_fault=LastFault(evidence.last_fault.fault)), first)
    because = f"{finding.because}; its traceback was broken off by {last.name}, by which it exited"
    return replace(finding, because=because)


def _fault(evidence: Evidence, number: signal.Signals) -> Fault | None:
    witnessed = evidence.last_fault.fault
    if witnessed is not None and witnessed.signal == number:
        return witnessed
    return faults.logged(evidence.kernel_log, number)


def _sent(evidence: Evidence, number: signal.Signals, fault: Fault | None) -> Finding | None:
    cause, flight = CAUSES[number][0], evidence.flight
    if flight is not None and flight.sent_itself == number.name:
        return Finding(cause, f"code in the kernel sent {number.name} to its own process")
    if fault is None or fault.sender_pid is None:
        return None
    if flight is None or fault.sender_pid != flight.pid:
        name = f" ({evidence.fault_sender})" if evidence.fault_sender else ""
        # 0: a process that has no number in our pid namespace.
        who = f"process {fault.sender_pid}{name}" if fault.sender_pid else "a process outside"
        because = f"{who} of user {fault.sender_uid} sent {number.name}: nothing in it had failed"
        return Finding(cause, because)
    if number == signal.SIGABRT:  # which is how abort() works
        return None
    return Finding(cause, f"compiled code in the kernel raised {number.name} itself")


def _stack_overflow(
    evidence: Evidence, number: signal.Signals, fault: Fault | None
) -> Finding | None:
    if number != signal.SIGSEGV or faults.sent(fault):
        return None
    repeated = clues.repeats_one_frame(evidence.faults)
    also = f", and one frame stands over {clues.SAME_FRAME_LIMIT} times on the stack"
    if faults.at_stack_pointer(fault):
        because = "the address that failed lies at the stack pointer, where the stack ends"
        return Finding("stack-overflow", because + (also if repeated else ""))
    # Python's own recursion takes no room on the stack: what fails at its bottom may be anything.
    if repeated and not faults.far_from_stack(fault):
        return Finding("stack-overflow", f"it ended by {number.name}{also}", "likely")
    return None


def _python_fatal_error(evidence: Evidence, number: signal.Signals) -> Finding | None:
    if number != signal.SIGABRT:
        return None
    said = [*clues.fatal_errors(evidence.faults), *clues.fatal_errors(evidence.stderr_tail)]
    if not said:
        return None
    if any(word in said[-1].lower() for word in ("stack overflow", "recursion")):
        return Finding("stack-overflow", f"Python gave up: {said[-1]}")
    return Finding("aborted", f"Python fatal error: {said[-1]}")


def _said(evidence: Evidence, number: signal.Signals) -> Finding | None:
    detail = clues.abort_detail(evidence.stderr_tail) if number == signal.SIGABRT else None
    if detail is None:
        return None
    cause = CAUSES[number][0]
    if detail.is_last:
        return Finding(cause, f"{number.name} after {detail.said}")
    # It may have been a child's, or survived.
    return Finding(cause, f"{number.name}, some time after {detail.said}", "likely")


def _failed(evidence: Evidence, number: signal.Signals, fault: Fault | None) -> Finding:
    cause, name = CAUSES[number]
    because = f"it ended by {number.name}, {name}"
    where = faults.words(fault) if fault is not None and not faults.sent(fault) else ""
    if where:
        because += f" {where}" if where.startswith("at ") else f" ({where})"
    library = faults.library(evidence.kernel_log)
    if library:
        because += f", in {library} as the kernel log says"
    frames = clues.current_stack(evidence.faults)
    if frames:
        because += f"; faulthandler saw it in {frames[0][2]}"
    elif number == signal.SIGSEGV and evidence.is_ours and not evidence.faults:
        because += (
            "; faulthandler could write nothing, as when the stack of another thread than "
            "the main one has run over"
        )
    return Finding(cause, because)
