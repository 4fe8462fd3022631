"""Which lines of stderr are recognised, and which must not be."""

from __future__ import annotations

import time

import pytest

from checkpoint_provisioner.explain import SHOWN, explain

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("MemoryError", "refused"),
        ("numpy.core._exceptions._ArrayMemoryError: Unable to allocate 7.45 GiB", "refused"),
        ("Killed", "SIGKILL"),
        ("/bin/sh: line 1:  4242 Killed                  python train.py", "SIGKILL"),
        ("free(): double free detected in tcache 2", "twice"),
        ("double free or corruption (fasttop)", "twice"),
        ("*** Error in `python': double free or corruption (out): 0x01 ***", "twice"),
        ("malloc(): memory corruption", "heap corruption"),
        ("malloc(): invalid size (unsorted)", "heap corruption"),
        ("malloc(): corrupted top size", "heap corruption"),
        ("free(): invalid pointer", "not allocated"),
        ("munmap_chunk(): invalid pointer", "not allocated"),
        ("corrupted size vs. prev_size", "heap"),
        ("free(): corrupted unsorted chunks", "heap"),
        ("*** stack smashing detected ***: terminated", "past the end"),
        ("Illegal instruction (core dumped)", "does not have"),
        ("illegal instruction", "does not have"),
        (
            "The TensorFlow library was compiled to use AVX instructions, but these aren't "
            "available on your machine.",
            "newer processor",
        ),
        ("RuntimeError: CUDA error: device-side assert triggered", "out of range"),
        (
            "../aten/src/ATen/native/cuda/Indexing.cu:1236: indexSelectSmallIndex: block: "
            "[0,0,0], thread: [1,0,0] Assertion `srcIndex < srcSelectDimSize` failed.",
            "out of range",
        ),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", "GPU"),
        ("RuntimeError: CUDA error: an illegal memory access was encountered", "not its own"),
        ("Bus error (core dumped)", "/dev/shm"),
        (
            "ERROR: Unexpected bus error encountered in worker. This might be caused by "
            "insufficient shared memory (shm).",
            "/dev/shm",
        ),
        (
            "RuntimeError: unable to write to file </t_1>: No space left on device: /dev/shm/a",
            "/dev/shm",
        ),
        ("OSError: [Errno 28] No space left on device", "disk"),
        ("libgomp: Thread creation failed: Resource temporarily unavailable", "limit of processes"),
        ("OpenBLAS blas_thread_init: pthread_create failed for thread 3 of 8: ...", "limit of"),
        ("RuntimeError: can't start new thread", "limit of processes"),
        ("libgomp: Invalid value for environment variable OMP_NUM_THREADS: x", "libgomp"),
        ("OMP: Error #15: Initializing libiomp5.so, but found libomp.so", "two copies"),
        ("OMP: Error #34: System unable to allocate necessary resources", "limit of processes"),
        ("Intel MKL FATAL ERROR: Cannot load libmkl_avx2.so or libmkl_def.so.", "MKL"),
        ("Intel MKL ERROR: Parameter 4 was incorrect on entry to DGELSD.", "NaN"),
        ("  what():  std::bad_alloc", "C++"),
        ("terminate called after throwing an instance of 'std::runtime_error'", "caught"),
        ("terminate called without an active exception", "std::thread"),
        ("libc++abi: terminating due to uncaught exception of type x", "caught"),
        ("pure virtual method called", "destroyed"),
        ("a.out: a.c:3: main: Assertion `x > 0' failed.", "assert"),
        ("Fatal Python error: deletion of interned string failed", "interpreter"),
        (
            "ImportError: /usr/lib/libstdc++.so.6: version `GLIBCXX_3.4.29' not found (required by",
            "libstdc++",
        ),
        ("python: /lib/libc.so.6: version `GLIBC_2.34' not found (required by x)", "newer Linux"),
        ("ImportError: a.so: undefined symbol: _ZN2at6Tensor", "do not fit"),
        ("ImportError: libGL.so.1: cannot open shared object file: No such file", "not installed"),
        ("ValueError: numpy.dtype size changed, may indicate binary incompatibility", "NumPy"),
        ("OSError: [Errno 12] Cannot allocate memory", "ENOMEM"),
        ("bash: fork: Cannot allocate memory", "ENOMEM"),
        ("memory allocation of 800000000 bytes failed", "Rust"),
        ("concurrent.futures.process.BrokenProcessPool: A process in the process pool", "worker"),
        ("joblib.externals.loky.process_executor.TerminatedWorkerError: A worker", "worker"),
        ("RuntimeError: DataLoader worker (pid 123) is killed by signal: Killed. ", "DataLoader"),
        ("thread '<unnamed>' panicked at crates/polars/src/lib.rs:3:", "panic"),
        ("F0000 00:00:1712 file.cc:12] Check failed: ret == 0 (11 vs. 0)", "check"),
        ('qt.qpa.plugin: Could not load the Qt platform plugin "xcb"', "Qt"),
        ("java.lang.OutOfMemoryError: Java heap space", "Java"),
        ("OSError: [Errno 24] Too many open files: 'a'", "open files"),
    ],
)
def test_a_known_text_is_explained(line: str, word: str) -> None:
    (found,) = explain(f"epoch 3\n{line}\n")
    assert word in found.meaning
    assert found.text == line.strip()[:200]


@pytest.mark.parametrize(
    "line",
    [
        "Killed 3 zombies in level 4",
        "the process was Killed by nobody",
        "handle MemoryError here",
        "except MemoryError:",
        "avoiding double free quantum wells",
        "double freedom",
        "we call free() often",
        "malloc() took 3 ms",
        "an illegal instruction was given to the intern",
        "CUDA is available",
        "CUDA errors: 0",
        "bus error rate: 0.1 %",
        "Bus errors are rare",
        "the GLIBCXX_3.4.29 symbol is fine",
        "no assertion failed",
        "terminate called the function",
        "Fatal Python error: Segmentation fault",
        "error: disk space left on device: 3 GB",
        "libgomp is loaded",
        "aborted by the user",
        "Aborted the download of 3 files",
        "Assertion rate 3, failed: 0",
        "using shared memory (shm) of 2 GB",
        "OMP: Info #276: omp_set_nested routine deprecated",
        "thread 'main' has panicked eyes",
        "panicked at the disco",
        "loss 12] converged",
        "F1 score: Check failed samples",
        "worker process 3 finished",
        "[NbApp] WARNING | Kernel is running over TCP without encryption.",
        "100%|##########| 12/12 [00:01<00:00, 28.00it/s]",
    ],
)
def test_ordinary_text_is_not(line: str) -> None:
    assert explain(line) == ()


def test_each_meaning_comes_once_with_its_last_line_and_only_the_last_ones_are_shown() -> None:
    tail = "OSError: [Errno 28] x\nMemoryError: first\nMemoryError: second\n"
    assert [one.text for one in explain(tail)] == ["OSError: [Errno 28] x", "MemoryError: second"]
    many = "\n".join(
        ["MemoryError", "Killed", "free(): invalid pointer", "std::bad_alloc", "Bus error",
         "Illegal instruction", "pure virtual method called", "OMP: Error #15: x", "OMP: Error #1:",
         "Segmentation fault"]
    )  # fmt: skip
    assert len(explain(many)) == SHOWN
    assert explain(many)[-1].text == "Segmentation fault"


def test_a_line_that_never_ends_is_read_in_no_time() -> None:
    begun = time.process_time()
    explain("Assertion " * 6000 + "\n" + ": line 1: " * 6000 + "\n" + "x" * 64_000)
    assert time.process_time() - begun < 5
