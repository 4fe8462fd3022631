"""Recognises what was printed on stderr before an end, and says what it means. Pure.

A table of texts as libraries print them, each at the start of its line or in words that nobody
writes by accident: an explanation of ordinary output would mislead. The texts stand in the
sources of glibc (malloc.c, assert.c), libstdc++, CPython, libgomp, LLVM's OpenMP, oneMKL,
OpenBLAS, PyTorch, NumPy, joblib and Qt. What caused the death is `verdict`'s.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SHOWN = 8  # explanations of one death, the last ones
_LINE_READ = 1000  # characters of a line that are looked at
_TEXT_SHOWN = 200  # and that are shown


@dataclass(frozen=True)
class Explained:
    """A line of stderr that was recognised."""

    text: str
    meaning: str
    remedy: str | None = None  # where the line itself tells what to do
    topic: str = ""  # memory, heap, cpu, gpu, shm, threads, build: what it is about


@dataclass(frozen=True)
class _Known:
    pattern: str  # of one line; matched anywhere in it unless it begins with ^
    meaning: str
    remedy: str | None = None
    topic: str = ""


# Shells say that of a command they ran: alone on its line, or "sh: line 1: 42 Killed   ./a".
_OF_A_COMMAND = r"^(?:.*: (?:line )?\d+:\s+\d+ )?"
_DUMPED = r"(?: \(core dumped\))?(?:\s{2,}.*)?$"

_KNOWN: tuple[_Known, ...] = (
    # --- memory ---
    _Known(
        r"^(?:[\w.]+\.)?_?(?:Array)?MemoryError(?::.*)?$",
        "Python could not get the memory that it asked for: a limit or the machine refused it",
        topic="memory",
    ),
    _Known(
        _OF_A_COMMAND + r"Killed(?:\s{2,}.*)?$",
        "a shell's word for a process that SIGKILL ended, mostly for want of memory",
        topic="memory",
    ),
    _Known(
        r"\bKilled process \d+ \(.*\)|\bOut of memory: Kill(?:ed)? process \d+",
        "the system's OOM killer ended a process for want of memory",
        topic="memory",
    ),
    _Known(
        r"\bstd::bad_alloc\b",
        "an allocation in C++ failed: the memory limit or the machine refused it",
        topic="memory",
    ),
    _Known(
        r"^memory allocation of \d+ bytes failed",
        "an allocation in Rust failed: the memory limit or the machine refused it",
        topic="memory",
    ),
    _Known(
        r"\[Errno 12\]|: [Cc]annot allocate memory\b|^OSError: .*[Cc]annot allocate memory",
        "the system refused memory (ENOMEM): a limit is reached, or nothing is left",
        topic="memory",
    ),
    _Known(
        r"\bjava\.lang\.OutOfMemoryError\b|^# There is insufficient memory for the Java Runtime",
        "Java (Spark, for one) ran out of the heap that it is allowed, or of memory",
        "Give Java a heap that fits (for Spark `spark.driver.memory`), below the memory limit.",
        "memory",
    ),
    # --- heap corruption and aborts of compiled code ---
    _Known(
        r"^(?:\*\*\* Error in .*: )?(?:free\(\): )?double free (?:or corruption|detected)\b",
        "compiled code freed the same memory twice; the fault is in that code, not in yours",
        topic="heap",
    ),
    _Known(
        r"^(?:\*\*\* Error in .*: )?malloc\(\): [a-z]",
        "compiled code had overwritten the allocator's own data some time before "
        "(heap corruption); where it was noticed is rarely where it happened",
        topic="heap",
    ),
    _Known(
        r"^(?:\*\*\* Error in .*: )?(?:free|realloc|munmap_chunk)\(\): invalid ",
        "compiled code freed something that it had not allocated, or memory that was overwritten; "
        "two copies of one C library in a process do that too",
        topic="heap",
    ),
    _Known(
        r"^(?:\*\*\* Error in .*: )?(?:corrupted (?:size vs\. prev_size|double-linked list)"
        r"|(?:free|calloc|realloc|malloc_consolidate)\(\): [a-z]|break adjusted to free malloc)"
        r"|\bAttempt to free invalid pointer\b",
        "compiled code has damaged the heap some time before",
        topic="heap",
    ),
    _Known(
        r"^\*\*\* (?:stack smashing|buffer overflow) detected \*\*\*",
        "compiled code wrote past the end of a buffer, and a check noticed it",
        topic="heap",
    ),
    _Known(
        r"^terminate called without an active exception",
        "C++ gave up: a std::thread was destroyed while it ran, or `throw;` had nothing to throw",
    ),
    _Known(
        r"^(?:terminate called (?:after throwing|recursively)|libc\+\+abi: terminating)\b",
        "C++ gave up: an exception was thrown and nobody caught it; what it says stands beside it",
    ),
    _Known(r"^pure virtual method called", "C++ used an object that was already destroyed"),
    _Known(
        r"^\S+: \S+:\d+: .*Assertion [`'].*' failed\.$",
        "a check in compiled code (assert) did not hold",
    ),
    _Known(
        r"^F\d{4} \d\d:\d\d:\d\d.*Check failed: |^\d{4}-\d\d-\d\d .*: F .*Check failed: ",
        "a check in compiled code (TensorFlow, JAX, glog) did not hold, and it ended the process",
    ),
    _Known(r"^thread '.*' panicked at ", "compiled code written in Rust gave up (a panic)"),
    _Known(
        r"^Fatal Python error: (?!Segmentation fault|Aborted|Bus error|Illegal instr|Floating)",
        "the interpreter found its own state broken and gave up: mostly the work of an extension "
        "module, or of one built for another Python",
    ),
    _Known(
        _OF_A_COMMAND + r"(?:Segmentation fault|Aborted|Floating point exception)" + _DUMPED,
        "a shell's word for a process that crashed in compiled code",
    ),
    # --- the processor, and builds that do not fit ---
    _Known(
        _OF_A_COMMAND + r"[Ii]llegal instruction" + _DUMPED,
        "a binary used an instruction that this processor does not have",
        topic="cpu",
    ),
    _Known(
        r"compiled to use \w+ instructions, but these aren't available"
        r"|^(?:RuntimeError: )?NumPy was built with baseline optimizations"
        r"|^RuntimeWarning: Missing required CPU features",
        "the package was built for a newer processor than this one",
        topic="cpu",
    ),
    _Known(
        r"version [`'](?:GLIBCXX|CXXABI)_[\d.]+' not found",
        "a package was built against a newer C++ library (libstdc++) than the one loaded; "
        "mixing conda and system libraries does that",
        "Install a newer libstdc++ (`conda install -c conda-forge libstdcxx-ng`), or a build of "
        "the package for this system.",
        "build",
    ),
    _Known(
        r"version [`']GLIBC_[\d.]+' not found",
        "a package was built for a newer Linux than this one (its C library, glibc)",
        "Install a build of the package for this system, or use a newer system or image.",
        "build",
    ),
    _Known(
        r"\bundefined symbol: \w|: symbol lookup error: ",
        "two compiled packages do not fit each other: one lacks a function that the other calls",
        "Reinstall the package that is named and the one it was built against, in versions that "
        "belong together.",
        "build",
    ),
    _Known(
        r"^(?:.*: )?error while loading shared libraries: "
        r"|^ImportError: lib\S+: cannot open shared object file",
        "a library that the program needs is not installed, or not where it is looked for",
        "Install the system library that the message names.",
        "build",
    ),
    _Known(
        r"compiled using NumPy 1\.x cannot be run in|numpy\.(?:dtype|ndarray) size changed",
        "a compiled package was built for another major version of NumPy",
        "Upgrade the package that was built for another NumPy, or pin `numpy<2`.",
        "build",
    ),
    _Known(
        r"cannot allocate memory in static TLS block",
        "a library was loaded too late: the space for thread-local data of libraries is used up",
        "Import the library that is named first, at the top of the notebook.",
        "build",
    ),
    # --- threads: libgomp, OpenMP, MKL, OpenBLAS ---
    _Known(
        r"^libgomp: Thread creation failed: Resource temporarily unavailable"
        r"|^OpenBLAS blas_thread_init: pthread_create failed"
        r"|^OMP: Error #34:|^RuntimeError: can't start new thread"
        r"|^BlockingIOError: \[Errno 11\]|fork: (?:retry: )?Resource temporarily unavailable"
        r"|pthread_create\(?\)? failed",
        "no thread or process could be made: the limit of processes (pids of the container, "
        "ulimit -u) is reached",
        "Use fewer threads and workers (`OMP_NUM_THREADS=1` before the imports, a smaller "
        "`n_jobs`), or raise the limit of processes.",
        "threads",
    ),
    _Known(
        r"^libgomp: Out of memory allocating",
        "OpenMP's runtime (libgomp) was refused memory",
        topic="memory",
    ),
    _Known(
        r"^OMP: Error #15:",
        "two copies of OpenMP are loaded (from conda and pip, say), and the runtime refuses that",
        "Install the packages that bring OpenMP along (numpy, torch, scikit-learn) from one "
        "source, all by conda or all by pip.",
        "threads",
    ),
    _Known(r"^libgomp: ", "a message of OpenMP's runtime (libgomp), about parallel loops"),
    _Known(r"^OMP: Error #\d+:", "the OpenMP runtime gave up", topic="threads"),
    _Known(
        r"^(?:Intel MKL|INTEL MKL|Intel oneMKL) FATAL ERROR",
        "Intel MKL could not load its own libraries: copies from several packages are mixed",
        "Reinstall numpy and mkl together from one source (all by conda, or all by pip).",
        "build",
    ),
    _Known(
        r"^\s*(?:Intel MKL|Intel oneMKL) ERROR: Parameter \d+ was incorrect on entry to",
        "a linear-algebra routine was called with values that it cannot take (NaN, or a wrong "
        "shape)",
    ),
    # --- shared memory, disk, files ---
    _Known(
        r"insufficient shared memory \(shm\)|^.*\bUnexpected bus error encountered in worker",
        "a DataLoader's worker found no room in /dev/shm, which is 64 MB in a container unless "
        "it is given more",
        topic="shm",
    ),
    _Known(
        r"(?:/dev/shm|shm_open|shared memory (?:object|segment)).*No space left on device"
        r"|No space left on device.*/dev/shm",
        "/dev/shm, where processes share memory, is full",
        topic="shm",
    ),
    _Known(
        _OF_A_COMMAND + r"Bus error" + _DUMPED,
        "memory that is mapped was not there: /dev/shm is full (64 MB in a container unless it "
        "is given more), or a mapped file was truncated",
        topic="shm",
    ),
    _Known(
        r"\[Errno 28\]|: No space left on device\b",
        "a disk is full",
        "Free disk space where the message says, or write elsewhere.",
    ),
    _Known(
        r"\[Errno 122\]|: Disk quota exceeded\b",
        "your disk quota is used up",
        "Free disk space, or ask for a larger quota.",
    ),
    _Known(
        r"\[Errno 24\]|: Too many open files\b",
        "the limit of open files is reached",
        "Close files, or raise the limit (`ulimit -n`) of whatever starts the server.",
    ),
    # --- GPU ---
    _Known(
        r"CUDA error: device-side assert|\.cu:\d+: .*Assertion .* failed",
        "a check in code on the GPU did not hold: mostly an index or a label out of range; the "
        "GPU's context is lost",
        "Run the cell on the CPU, or with CUDA_LAUNCH_BLOCKING=1, to see the index or label that "
        "is out of range.",
        "gpu",
    ),
    _Known(
        r"CUDA out of memory|torch\.(?:cuda\.)?OutOfMemoryError|CUDA_ERROR_OUT_OF_MEMORY"
        r"|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED",
        "the memory of the GPU is used up",
        "Use a smaller batch, or free what other processes hold on the GPU (`nvidia-smi`).",
        "gpu",
    ),
    _Known(
        r"CUDA error: (?:an illegal memory access|misaligned address|unspecified launch failure)"
        r"|CUDA_ERROR_ILLEGAL_ADDRESS",
        "code on the GPU touched memory that is not its own; the GPU's context is lost",
        "Run with CUDA_LAUNCH_BLOCKING=1, which shows the call that fails.",
        "gpu",
    ),
    _Known(
        r"CUDA driver version is insufficient|CUDA error: no kernel image is available"
        r"|Failed to initialize NVML: Driver/library version mismatch",
        "the GPU's driver and the package were not made for each other",
        "Install a build of the package for this driver and GPU (`nvidia-smi` shows its CUDA "
        "version), or update the driver.",
        "gpu",
    ),
    _Known(r"^\w+: CUDA error: |\bCUDA_ERROR_\w+", "the GPU reported an error", topic="gpu"),
    # --- workers, displays ---
    _Known(
        r"^DataLoader worker \(pid\(?s?\)? [\d, ]+\) (?:is killed by signal|exited unexpectedly)"
        r"|DataLoader worker \(pid \d+\) is killed by signal",
        "a DataLoader's worker died, for want of memory or of /dev/shm in most cases",
        topic="memory",
    ),
    _Known(
        r"\bBrokenProcessPool\b|\bTerminatedWorkerError\b"
        r"|process in the process pool was terminated abruptly",
        "a worker process died (in most cases for want of memory), and the pool gave up",
        topic="memory",
    ),
    _Known(
        r"Could not load the Qt platform plugin|^qt\.qpa\.xcb: could not connect to display",
        "Qt wants to open a window and finds no display, and then ends the process",
        "Use a backend without windows (`matplotlib.use('agg')`, opencv-python-headless), or set "
        "QT_QPA_PLATFORM=offscreen.",
    ),
)


def explain(stderr_tail: str) -> tuple[Explained, ...]:
    """The lines that are known, in the order in which they were printed; each meaning once.

    Of a meaning that comes several times the last line is kept: what was said earlier was
    survived.
    """
    patterns = [(re.compile(known.pattern), known) for known in _KNOWN]
    found: dict[str, Explained] = {}
    for whole in stderr_tail.splitlines():
        line = whole[:_LINE_READ].rstrip()
        for pattern, known in patterns if line else ():
            if pattern.search(line):
                found.pop(known.meaning, None)
                found[known.meaning] = Explained(
                    line.strip()[:_TEXT_SHOWN], known.meaning, known.remedy, known.topic
                )
                break
    return tuple(found.values())[-SHOWN:]
