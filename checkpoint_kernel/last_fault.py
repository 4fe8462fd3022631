"""What a process leaves about the signal or the exit() that ended it: one small mapped file.

The layout that `fault_witness` writes in the kernel and the supervisor reads; neither acts
here. Standard library only. Meanings: sigaction(2), "The siginfo_t argument to a SA_SIGINFO
handler".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

SIZE = 4096
# si_signo, si_errno, si_code, padding, then si_addr (or si_pid, si_uid), stack and
# instruction pointer.
_FAULT = struct.Struct("=iii4x8sQQ")
EXIT_OFFSET = 64
LATER_OFFSET = 128  # a second fault, in the same layout
_EXIT = struct.Struct("=ii")  # 1 if exit() has run, its status

_SI_KERNEL = 0x80  # sent by the kernel without more details: the address is not known


@dataclass(frozen=True)
class Fault:
    """A fatal signal as its handler saw it."""

    signal: int
    code: int  # si_code: what kind of fault, or who sent it
    address: int | None  # the address that could not be accessed or executed
    sender_pid: int | None  # of a signal that a process sent, itself included
    sender_uid: int | None
    stack_pointer: int
    instruction_pointer: int


@dataclass(frozen=True)
class LastFault:
    """The whole file."""

    fault: Fault | None = None
    exit_status: int | None = None  # C's exit() was called with it
    later: Fault | None = None  # the last of those that came while `fault` was being handled
    absent: str | None = None  # why nothing could be witnessed


def read(path: Path) -> LastFault:
    """What is there; an empty record where nothing happened or there is no file. OSError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return LastFault()
    if len(data) != SIZE:
        return LastFault(absent=data.decode("utf-8", "replace"))
    exited, status = _EXIT.unpack_from(data, EXIT_OFFSET)
    return LastFault(_fault(data, 0), status if exited else None, later=_fault(data, LATER_OFFSET))


def _fault(data: bytes, offset: int) -> Fault | None:
    number, _, code, either, stack, instruction = _FAULT.unpack_from(data, offset)
    if number == 0:
        return None
    pid, uid = struct.unpack("=iI", either)
    (address,) = struct.unpack("=Q", either)
    sent = code <= 0
    return Fault(
        signal=number,
        code=code,
        address=None if sent or code == _SI_KERNEL else address,
        sender_pid=pid if sent else None,
        sender_uid=uid if sent else None,
        stack_pointer=stack,
        instruction_pointer=instruction,
    )
