"""What the siginfo of a fatal signal says: a fault or somebody's kill, where, of which kind. Pure.

From `last_fault`, which our kernel leaves, or from the kernel log's line, which names any
process that does not handle the signal. What it means for the cause is `crash`'s.
"""

from __future__ import annotations

import re
import signal

from checkpoint_kernel.last_fault import Fault

# A push or a call writes just under the stack pointer; a function that makes room for its
# locals touches them from there on, page by page.
_BELOW_BYTES = 64 * 1024
_ABOVE_BYTES = 4 * 1024
# A function with large locals may touch them anywhere.
_FRAME_BYTES = 8 * 1024**2

_UNKNOWN_CODE = 1  # of a fault that only the kernel log tells of

# si_code of sigaction(2), per signal.
_KINDS = {
    (signal.SIGSEGV, 2): "access is not allowed",
    (signal.SIGBUS, 1): "the address is not aligned",
    (signal.SIGBUS, 2): "behind the end of a mapped file, or no room left for the page",
    (signal.SIGBUS, 3): "an error of the device behind it",
    (signal.SIGBUS, 4): "this machine's memory has a hardware error there",
    (signal.SIGBUS, 5): "this machine's memory has a hardware error there",
    (signal.SIGFPE, 1): "division of an integer by zero, or out of its range",
    (signal.SIGFPE, 2): "overflow of an integer",
    (signal.SIGFPE, 3): "division of a float by zero",
    (signal.SIGFPE, 4): "overflow of a float",
    (signal.SIGFPE, 5): "underflow of a float",
    (signal.SIGFPE, 6): "a result that is not exact",
    (signal.SIGFPE, 7): "an operation without a result",
}
_NULL_BYTES = 4096  # the first page is never mapped: a null pointer, or a field behind one


def words(fault: Fault) -> str:
    """One clause about a fault; empty if there is nothing to say."""
    number = signal.Signals(fault.signal)
    kind = _KINDS.get((number, fault.code))
    if number == signal.SIGFPE:
        return kind or ""
    if fault.address is None:
        return "at an address that no program may use" if number == signal.SIGSEGV else ""
    at = f"at address {fault.address:#x}"
    if number == signal.SIGSEGV and fault.address < _NULL_BYTES:
        return f"{at}, a null pointer"
    return f"{at}: {kind}" if kind else at


def sent(fault: Fault | None) -> bool:
    """Whether a process sent the signal: nothing had failed."""
    return fault is not None and fault.sender_pid is not None


def at_stack_pointer(fault: Fault | None) -> bool:
    """Whether the stack had no room: nothing else fails so near under the stack pointer."""
    offset = _offset(fault)
    return offset is not None and -_BELOW_BYTES <= offset <= _ABOVE_BYTES


def far_from_stack(fault: Fault | None) -> bool:
    """Whether it is known to be no overflow of the stack."""
    offset = _offset(fault)
    return offset is not None and abs(offset) > _FRAME_BYTES


def _offset(fault: Fault | None) -> int | None:
    if fault is None or fault.address is None:
        return None
    return fault.address - fault.stack_pointer


# arch/x86/mm/fault.c, arch/x86/kernel/traps.c
_LOGGED = re.compile(r"(?:segfault at ([0-9a-f]+) )?ip[ :]([0-9a-f]+) sp[ :]([0-9a-f]+)")
_LIBRARY = re.compile(r" in (\S+)\[[0-9a-f,+]+\]")


def logged(line: str | None, number: int) -> Fault | None:
    """The same out of the kernel log's line about the process."""
    found = _LOGGED.search(line or "")
    if found is None:
        return None
    address, instruction, stack = (None if n is None else int(n, 16) for n in found.groups())
    return Fault(number, _UNKNOWN_CODE, address, None, None, stack or 0, instruction or 0)


def library(line: str | None) -> str | None:
    """In whose code it happened, as the kernel log says: "libc.so.6"."""
    found = _LIBRARY.search(line or "")
    return None if found is None else found[1]
