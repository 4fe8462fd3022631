"""Cells that kill their kernel, each for real. Lines are counted from 1, as in a notebook."""

from __future__ import annotations

# --- memory; with a cap of 250 MB ---

ONE_CALL = "import time\ntime.sleep(1); x = b'x' * 400_000_000"
GROWTH = "rows = []\nwhile True:\n    rows.append({'id': len(rows), 'text': 'x' * 500})"
# A child that is the first to be killed, and is.
CHILD_OVER_THE_CAP = (
    "import subprocess, sys, time\n"
    'big = \'open("/proc/self/oom_score_adj", "w").write("1000"); x = b"x" * 400_000_000\'\n'
    "status = subprocess.call([sys.executable, '-c', big])\n"
    "assert status == -9, status"
)

# --- faults of the processor ---

NULL_READ = "import ctypes\nctypes.string_at(0)"
NULL_WRITE = (
    "import ctypes\nstruct = ctypes.c_void_p(None).value or 0\nctypes.memset(struct + 8, 0, 64)"
)
IN_A_FUNCTION = "def boom():\n    import ctypes\n    ctypes.string_at(0)\n\nboom()"
IN_A_THREAD = (
    "import ctypes, threading\n"
    "worker = threading.Thread(target=lambda: ctypes.string_at(0))\n"
    "worker.start()\n"
    "worker.join()"
)
# A thread of C's, which Python knows nothing of, jumps to an address where there is no code.
WITHOUT_PYTHON = (
    "import ctypes, time\n"
    "thread = ctypes.c_ulong()\n"
    "start = ctypes.CDLL(None).pthread_create\n"
    "start(ctypes.byref(thread), None, ctypes.c_void_p(0xbad0), None); time.sleep(60)"
)
AT_THE_BOTTOM_OF_A_RECURSION = (
    "import ctypes\n"
    "def down(levels):\n"
    "    return down(levels - 1) if levels else ctypes.string_at(0)\n"
    "down(200)"
)
TRUNCATED_MAP = (
    "import mmap, tempfile\n"
    "file = tempfile.TemporaryFile()\n"
    "file.truncate(1 << 20)\n"
    "data = mmap.mmap(file.fileno(), 0)\n"
    "file.truncate(0)\n"
    "data[500_000]"
)
# A file system of 1 MB that only this process sees, as a small /dev/shm.
FULL_FILE_SYSTEM = (
    "import ctypes, mmap, tempfile\n"
    "libc = ctypes.CDLL(None)\n"
    "place = tempfile.mkdtemp()\n"
    "assert libc.unshare(0x20000) == 0  # CLONE_NEWNS\n"
    "libc.mount(b'none', b'/', None, ctypes.c_ulong(0x44000), None)  # MS_REC | MS_PRIVATE\n"
    "assert libc.mount(b'none', place.encode(), b'tmpfs', ctypes.c_ulong(0), b'size=1m') == 0\n"
    "file = open(place + '/shared', 'w+b')\n"
    "file.truncate(8 << 20)\n"
    "data = mmap.mmap(file.fileno(), 0)\n"
    "data[:] = bytes(8 << 20)"
)


def machine_code(code: str, in_a_thread: bool = False) -> str:
    """A cell that runs x86-64 instructions, given in hexadecimal; line 5 dies."""
    thread = "import threading, time; t = threading.Thread(target=run)"
    call = f"{thread}; time.sleep(1); t.start(); t.join()"
    return (
        "import ctypes, mmap\n"
        "page = mmap.mmap(-1, 4096, prot=7)\n"
        f"page.write(bytes.fromhex({code!r}))\n"
        "run = ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(page)))\n"
        f"{call if in_a_thread else 'run()'}"
    )


UD2 = "0f0b"
DIVIDE_BY_ZERO = "31d2 31c0 31c9 f7f1"  # xor edx, edx; xor eax, eax; xor ecx, ecx; div ecx
CALL_ITSELF = "e8fbffffff"

REPR_OF_ITSELF = (
    "import sys\n"
    "sys.setrecursionlimit(10**9)\n"
    "class Deep:\n"
    "    def __repr__(self):\n"
    "        return repr(self)\n"
    "repr(Deep())"
)

# --- abort() ---

_LIBC = (
    "import ctypes\n"
    "libc = ctypes.CDLL(None)\n"
    "libc.malloc.restype = ctypes.c_void_p\n"
    "libc.free.argtypes = [ctypes.c_void_p]\n"
    # Larger than what the thread cache keeps, with a neighbour that stays.
    "p = libc.malloc(5000); q = libc.malloc(5000)\n"
)
DOUBLE_FREE = f"{_LIBC}libc.free(p)\nlibc.free(p)"
# Two blocks side by side; what the heap notes about the second is overwritten.
OVERRUN = (
    f"{_LIBC}blocks = [libc.malloc(100_000) for _ in range(9)]\n"
    "first = next(block for block in blocks if block + 100_016 in blocks)\n"
    "ctypes.memset(first + 100_000, 0x41, 16)\n"
    "libc.free(first)"
)
INVALID_POINTER = f"{_LIBC}libc.free(p + 8)"
STACK_SMASHED = "import ctypes\nctypes.CDLL(None).__stack_chk_fail()"
ASSERTION = "import ctypes\nctypes.CDLL(None).__assert_fail(b'x > 0', b'model.c', 3, b'fit')"
BAD_ALLOC = (
    "import ctypes\n"
    "new = ctypes.CDLL('libstdc++.so.6')._Znwm\n"
    "new.argtypes = [ctypes.c_size_t]\n"
    "new(1 << 62)"
)
C_ABORT = "import ctypes\nctypes.CDLL(None).abort()"
OS_ABORT = "import os\nos.abort()"
FATAL_ERROR = "import ctypes\nctypes.pythonapi.Py_FatalError(b'made for a test')"

# --- signals and limits ---

KILLS_ITSELF = "import os, signal, time\ntime.sleep(1); os.kill(os.getpid(), signal.SIGKILL)"
SENDS_ITSELF_SIGBUS = "import os, signal\nos.kill(os.getpid(), signal.SIGBUS)"
C_RAISES_SIGFPE = "import ctypes\nctypes.CDLL(None)['raise'](8)"
ALARM = "import signal, time\nsignal.alarm(1); time.sleep(60)"
BROKEN_PIPE = (
    "import os, signal\n"
    "signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"
    "read, write = os.pipe()\n"
    "os.close(read)\n"
    "os.write(write, b'x')"
)
_CPU_LIMIT = (
    "import resource\n"
    "used = resource.getrusage(resource.RUSAGE_SELF)\n"
    "limit = int(used.ru_utime + used.ru_stime) + 1\n"
)
SOFT_CPU_LIMIT = (
    f"{_CPU_LIMIT}resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 60))\nwhile True: pass"
)
HARD_CPU_LIMIT = (
    f"{_CPU_LIMIT}resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))\nwhile True: pass"
)
FILE_SIZE_LIMIT = (
    "import resource, signal, tempfile\n"
    "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, -1))\n"
    "file = tempfile.TemporaryFile()\n"
    "file.write(bytes(2 << 20))"
)
# A filter of seccomp(2) that forbids mkdir(2), number 83 on x86-64, and nothing else.
FORBIDDEN_CALL = (
    "import ctypes, os, struct\n"
    "rules = [(0x20, 0, 0, 0), (0x15, 0, 1, 83), (6, 0, 0, 0x80000000), (6, 0, 0, 0x7fff0000)]\n"
    "code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *r) for r in rules))\n"
    "program = struct.pack('HxxxxxxP', len(rules), ctypes.addressof(code))\n"
    "prctl = ctypes.CDLL(None).prctl\n"
    "assert prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS\n"
    "assert prctl(22, 2, program, 0, 0) == 0  # PR_SET_SECCOMP\n"
    "ctypes.CDLL(None).mkdir(b'/nowhere/at/all', 0o700)"
)

# --- exits ---

OS_EXIT = "import os, time\ntime.sleep(1); os._exit(3)"
C_EXIT = "import ctypes\nctypes.CDLL(None).exit(5)"
C_UNDERSCORE_EXIT = "import ctypes\nctypes.CDLL(None)._exit(4)"
C_UNDERSCORE_EXIT_ZERO = "import ctypes\nctypes.CDLL(None)._exit(0)"

# --- what looks like a death and is none ---

A_CHILD_IS_KILLED = (
    "import os, signal, subprocess\n"
    "child = subprocess.Popen(['sleep', '60'])\n"
    "child.kill()\n"
    "assert child.wait() == -9"
)
A_CHILD_CRASHES = (
    "import ctypes, os\n"
    "child = os.fork()\n"
    "if child == 0: ctypes.string_at(0)\n"
    "assert os.waitpid(child, 0)[1] & 0x7f == 11"
)
A_THREAD_LEAVES = (
    "import sys, threading\n"
    "leaver = threading.Thread(target=sys.exit, args=(3,))\n"
    "leaver.start()\n"
    "leaver.join()"
)
