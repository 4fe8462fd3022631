"""Writes down what a fatal signal was about, a moment before faulthandler gets it.

faulthandler says where Python stood, but not which address failed, nor whether somebody sent
the signal: that stands in the siginfo that the kernel hands to a handler. No handler written in
Python can run in a process that has just crashed, so this one is a few bytes of machine code.
It copies five words into a mapped file (`last_fault`) and jumps to the handler before it. The
same for C's exit(), which runs no handler of Python's. faulthandler can crash in its turn, over
the frames of threads that run on meanwhile: the first signal and the latest have a place each.

Covers x86-64 with glibc, and thereby what the tests can show; elsewhere, and where memory may
not be made executable, the supervisor has this evidence the less. Forked children write nothing.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct
from pathlib import Path

from . import last_fault

FATAL: tuple[int, ...] = (
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGILL,
    signal.SIGFPE,
    signal.SIGABRT,
)

_SA_SIGINFO = 4
_PROT_READ, _PROT_WRITE, _PROT_EXEC = 1, 2, 4
_MAP_SHARED, _MAP_PRIVATE, _MAP_ANONYMOUS = 1, 2, 0x20
_PAGE = 4096


class _SigAction(ctypes.Structure):
    """glibc's struct sigaction on x86-64."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


def install(path: Path) -> None:
    """Witness fatal signals in `path`. Call after faulthandler.enable.

    Where that cannot be had, `path` says why. OSError if not even that can be written.
    """
    if platform.machine() != "x86_64" or struct.calcsize("P") != 8:
        path.write_text(f"fatal signals have no witness on {platform.machine()}")
        return
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        slot = _map_file(libc, path)
        _install(libc, slot)
    except (OSError, AttributeError) as why:
        path.write_text(f"fatal signals have no witness: {why}")


def _install(libc: ctypes.CDLL, slot: int) -> None:
    before: dict[int, _SigAction] = {}
    for number in FATAL:
        action = _SigAction()
        if libc.sigaction(number, None, ctypes.byref(action)) != 0:
            raise OSError(ctypes.get_errno(), "sigaction")
        if action.handler not in (None, 1):  # SIG_DFL, SIG_IGN: there is nobody to jump to
            before[number] = action
    code = b""
    starts: dict[int, int] = {}
    for number, action in before.items():
        starts[number] = len(code)
        code += _aligned(_signal_witness(slot, action.handler or 0))
    exit_start = len(code)
    code += _aligned(_exit_witness(slot + last_fault.EXIT_OFFSET))
    base = _executable(libc, code)
    for number, action in before.items():
        action.handler = base + starts[number]
        action.flags |= _SA_SIGINFO
        if libc.sigaction(number, ctypes.byref(action), None) != 0:
            raise OSError(ctypes.get_errno(), "sigaction")
    libc.on_exit(ctypes.c_void_p(base + exit_start), None)


# --- machine code, x86-64; arguments by the System V ABI ---

_ENDBR64 = b"\xf3\x0f\x1e\xfa"  # where indirect branches are tracked


def _if_this_process(then: bytes) -> bytes:
    """`then`, left out in forked children, which share the file with us."""
    getpid = b"\xb8\x27\x00\x00\x00\x0f\x05"  # mov eax, 39 (SYS_getpid); syscall
    compare = b"\x3d" + struct.pack("<i", os.getpid())  # cmp eax, our pid
    return getpid + compare + b"\x75" + bytes([len(then)]) + then  # jne past it


def _signal_witness(slot: int, next_handler: int) -> bytes:
    """handler(edi: signal, rsi: siginfo_t *, rdx: ucontext_t *)"""
    copy = (
        b"\x49\xb8" + struct.pack("<Q", slot)  # mov r8, slot
        + b"\x41\x83\x38\x00\x74\x07"  # cmp dword [r8], 0; je past the next
        + b"\x49\x81\xc0" + struct.pack("<i", last_fault.LATER_OFFSET)  # add r8, its place
        + b"\x48\x8b\x4e\x08\x49\x89\x48\x08"  # slot[8] = si_code
        + b"\x48\x8b\x4e\x10\x49\x89\x48\x10"  # slot[16] = si_addr, or si_pid and si_uid
        + b"\x48\x8b\x8a\xa0\x00\x00\x00\x49\x89\x48\x18"  # slot[24] = stack pointer
        + b"\x48\x8b\x8a\xa8\x00\x00\x00\x49\x89\x48\x20"  # slot[32] = instruction pointer
        + b"\x48\x8b\x0e\x49\x89\x08"  # slot[0] = si_signo, si_errno: last, it makes it valid
    )  # fmt: skip
    onwards = b"\x48\xb8" + struct.pack("<Q", next_handler) + b"\xff\xe0"  # jmp next_handler
    return _ENDBR64 + _if_this_process(copy) + onwards


def _exit_witness(slot: int) -> bytes:
    """function(edi: status, rsi: unused), on_exit(3)"""
    write = (
        b"\x49\xb8" + struct.pack("<Q", slot)  # mov r8, slot
        + b"\x41\x89\x78\x04"  # slot[4] = status
        + b"\x41\xc7\x00\x01\x00\x00\x00"  # slot[0] = 1
    )  # fmt: skip
    return _ENDBR64 + _if_this_process(write) + b"\xc3"  # ret


def _aligned(code: bytes) -> bytes:
    return code + b"\xcc" * (-len(code) % 16)


# --- memory that no Python object owns: it is needed when Python is already gone ---


def _map_file(libc: ctypes.CDLL, path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Not ftruncate: writing to a hole of a full disk is SIGBUS.
        os.posix_fallocate(fd, 0, last_fault.SIZE)
        return _mmap(libc, last_fault.SIZE, _MAP_SHARED, fd)
    finally:
        os.close(fd)


def _executable(libc: ctypes.CDLL, code: bytes) -> int:
    """Never writable and executable at once: hardened systems refuse that."""
    size = len(code) + -len(code) % _PAGE
    address = _mmap(libc, size, _MAP_PRIVATE | _MAP_ANONYMOUS, -1)
    ctypes.memmove(address, code, len(code))
    if libc.mprotect(ctypes.c_void_p(address), size, _PROT_READ | _PROT_EXEC) != 0:
        raise OSError(ctypes.get_errno(), "memory may not be made executable (mprotect)")
    return address


def _mmap(libc: ctypes.CDLL, size: int, flags: int, fd: int) -> int:
    mmap = libc.mmap
    mmap.restype = ctypes.c_void_p
    arguments = (None, size, _PROT_READ | _PROT_WRITE, flags, fd, ctypes.c_long(0))
    address: int = mmap(*arguments)
    if address in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), "mmap")
    return address
