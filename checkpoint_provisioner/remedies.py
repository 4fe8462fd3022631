"""One thing to do after a death: one sentence, chosen by the cause and by what was around. Pure.

The table `_RULES` is read from the top; the first rule that fits has the word, and a cause that
none fits has its plain sentence. What happened is said by `report`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from checkpoint_kernel.session import Cap
from checkpoint_kernel.words import size

from . import pinning
from .evidence import Evidence
from .explain import Explained
from .kills import memory_was_low
from .verdict import Verdict

_MIB = 1 << 20
# Docker's default is 64 MB; below a quarter of a GB a DataLoader's workers run out of it.
SMALL_SHM_BYTES = 256 * _MIB
FULL_SHM = 0.05  # free share below which it counts as full
# A cap that is to be raised leaves this share of the machine to everything else.
MOST_OF_MACHINE = 0.9
# What common builds need: x86-64-v2 and v3, and the wheels made for AVX-512.
NEEDED_FLAGS = ("sse4_2", "avx", "avx2", "fma", "bmi2", "avx512f")

OUT_OF_MEMORY = ("oom-killed-by-cap", "oom-killed-by-system", "memory-cap-interrupt")
_COMPILED = (
    "segmentation-fault",
    "aborted",
    "illegal-instruction",
    "bus-error",
    "floating-point-exception",
    "start-failed",
)


@dataclass(frozen=True)
class Case:
    """A death, as far as a remedy depends on it."""

    evidence: Evidence
    verdict: Verdict
    source: str  # the fatal line; "" where unknown
    explained: tuple[Explained, ...] = ()

    @property
    def cause(self) -> str:
        return self.verdict.cause or "unknown"

    @property
    def is_restoring(self) -> bool:
        """It died of what a restore was loading."""
        flight = self.evidence.flight
        return flight is not None and not flight.cells_started and flight.restoring_unit is not None

    @property
    def cap(self) -> Cap | None:
        return self.evidence.session.cap

    @property
    def cell(self) -> str:
        flight = self.evidence.flight
        return flight.cell_source if flight else ""


def missing_flags(flags: tuple[str, ...]) -> tuple[str, ...]:
    """What common builds of compiled packages need and this x86 processor does not have."""
    return tuple(flag for flag in NEEDED_FLAGS if flag not in flags)


def remedy(case: Case) -> str:
    """The sentence."""
    if case.cause == "hung" and case.verdict.kind == "death":
        return "It stays in its checkpoint: `%checkpoint restore NAME` tries it again."
    for fits, sentence in _RULES:
        if fits(case):
            found = sentence(case) if callable(sentence) else sentence
            if found:
                return found
    if case.cause in _COMPILED and case.is_restoring:
        return (
            "No line of yours ran: what was being loaded stays in its checkpoint, and `%checkpoint "
            "restore NAME` tries it again, in a process of its own first."
        )
    return _PLAIN.get(case.cause, "Run `jupyter checkpoint doctor`.")


def with_native_stack(record: dict[str, Any], native_stack: str) -> str | None:
    """The remedy where a package that changed stands on a native stack that came after the record.

    None: it stays as it was.
    """
    if record.get("cause") not in _COMPILED:
        return None
    return pinning.on_stack(record.get("environment_changes"), native_stack)


# --- what fits ---

_READS = re.compile(
    r"\b(?:read_(?:csv|table|parquet|json|feather|excel|sql\w*|hdf|pickle)|scan_\w+|loadtxt"
    r"|genfromtxt|np\.load|json\.load)\b"
)
_JOINS = re.compile(r"\b(?:concat|merge|concatenate|[vh]stack)\s*\(")
_TRAINS = re.compile(r"\btorch\b|\.fit\w*\(|\w*[Ll]oader\b|\.backward\(|\bbatch_size\b|\.train\(")
_WORKERS = re.compile(r"\bn_jobs\b|\bnum_workers\b|\bParallel\(|PoolExecutor\(|\bPool\(")


def _out_of_memory(case: Case) -> bool:
    return case.cause in OUT_OF_MEMORY


def _topic(case: Case, topic: str) -> bool:
    return any(known.topic == topic for known in case.explained)


def _refused_by_the_cap(case: Case) -> bool:
    """An allocation failed in compiled code, and it is our limit that refuses allocations."""
    cap = case.cap
    if cap is None or not cap.in_force:
        return False
    return case.cause in ("aborted", "exited") and _topic(case, "memory")


def _shm_is_short(case: Case) -> bool:
    around = case.evidence.surroundings
    shm = around.shared_memory if around else None
    if case.cause != "bus-error" and not _topic(case, "shm"):
        return False
    return shm is not None and (
        shm.free_bytes < FULL_SHM * shm.total_bytes or shm.total_bytes <= SMALL_SHM_BYTES
    )


def _lacks_instructions(case: Case) -> bool:
    return case.cause == "illegal-instruction" and _flags(case) is not None


def _flags(case: Case) -> tuple[str, ...] | None:
    around = case.evidence.surroundings
    return around.processor.flags if around and around.processor else None


def _missing_module(case: Case) -> str | None:
    if case.cause != "start-failed":
        return None
    found = re.findall(
        r"^ModuleNotFoundError: No module named '([\w.]+)'", case.evidence.stderr_tail, re.M
    )
    return found[-1].partition(".")[0] if found else None


# --- what is said ---


def _limit(case: Case) -> str:
    return f"the memory limit of {case.cap.configured}" if case.cap else "the memory limit"


def _raise_or(case: Case, otherwise: str) -> str:
    """`otherwise` leads; raising the cap is named where the machine has room for it."""
    higher = higher_cap_bytes(case)
    if higher is None or case.cap is None:
        return f"{otherwise}."
    return (
        f"{otherwise}, or raise `memory_limit` in kernel.json (now {case.cap.configured}) to "
        f"{as_configured(higher)}."
    )


def higher_cap_bytes(case: Case) -> int | None:
    """Half as much again as was needed, in whole 256 MB, and less than the machine has."""
    if case.cap is None:
        return None
    around, memory = case.evidence.surroundings, case.evidence.memory
    usable = around.usable_bytes if around and around.usable_bytes else memory.total_bytes
    if not usable:
        return None
    needed = max(case.cap.cap_bytes, memory.peak_bytes or 0)
    step = 256 * _MIB if needed < 8 << 30 else 1 << 30
    wanted = -(-needed * 3 // 2 // step) * step
    most = int(usable * MOST_OF_MACHINE) // step * step
    return min(wanted, most) if min(wanted, most) > needed else None


def as_configured(count_bytes: int) -> str:
    """As it may stand in kernel.json: 12G where it is whole, else 1280M."""
    if count_bytes % (1 << 30) == 0:
        return f"{count_bytes >> 30}G"
    return f"{count_bytes >> 20}M"


def _read_in_chunks(case: Case) -> str:
    return _raise_or(
        case,
        "Read in chunks (`chunksize=` or `iter_batches`), or only the columns and rows that you "
        "need (`usecols=`, `columns=`)",
    )


def _join_less(case: Case) -> str:
    return _raise_or(
        case,
        "Do it in chunks, and drop columns and free the parts that are not needed before: a join "
        "or a concatenation holds its parts and the result at once",
    )


def _smaller_batch(case: Case) -> str:
    return _raise_or(case, "Use a smaller batch (`batch_size`) or fewer rows at a time")


def _fewer_workers(case: Case) -> str:
    return _raise_or(
        case, "Use fewer workers (`n_jobs`, `num_workers`): each holds its own copy of the data"
    )


def _raise_the_cap(case: Case) -> str:
    if higher_cap_bytes(case) is None:
        now = f" (now {case.cap.configured})" if case.cap else ""
        return (
            "Load less at a time (columns, chunks, smaller types), or use a machine with more "
            f"memory: this one leaves no room to raise `memory_limit`{now}."
        )
    return _raise_or(
        case, "Load less at a time (columns, chunks, smaller types), free what is not needed"
    )


def _cap_refused(case: Case) -> str:
    return _raise_or(case, f"Allocate less at a time: it was {_limit(case)} that refused")


def _larger_shm(case: Case) -> str:
    around = case.evidence.surroundings
    shm = around.shared_memory if around else None
    if around is None or shm is None:
        return ""
    state = f"it has {size(shm.total_bytes)}, {size(shm.free_bytes)} free now"
    if around.in_container:
        return (
            f"Give the container a larger /dev/shm, `docker run --shm-size=2g` or an emptyDir of "
            f"medium Memory in Kubernetes ({state})."
        )
    return f"Free space in /dev/shm or share less between processes ({state})."


def _instructions(case: Case) -> str:
    missing = missing_flags(_flags(case) or ())
    if missing:
        return (
            f"Install a build of the package for this processor, which lacks {', '.join(missing)} "
            "(often an older one, or from conda-forge)."
        )
    return (
        "Reinstall the package that the line calls: this processor has all that common builds "
        "need, so the binary is damaged or was built for another machine."
    )


def _pin(case: Case) -> str:
    evidence = case.evidence
    stack = "\n".join((evidence.faults, evidence.native_stack or "", evidence.stderr_tail))
    return pinning.advice(evidence.environment_changes, stack, case.cell) or ""


def _as_it_said(case: Case) -> str:
    told = [known.remedy for known in case.explained if known.remedy]
    return told[-1] if told else ""


def _install_module(case: Case) -> str:
    name = _missing_module(case)
    package = {"zmq": "pyzmq", "checkpoint_kernel": "checkpoint-kernel"}.get(name or "", name)
    return f"Install what is missing into the kernel's environment: `pip install {package}`."


def _outer_limit(case: Case) -> str:
    oom = case.evidence.oom
    above = ", ".join(oom.outer_limits_hit) if oom else ""
    return (
        f"Raise the memory of what the kernel runs in ({above}), or set a `memory_limit` in "
        "kernel.json below it, which spares the server."
    )


_Rule = tuple[Callable[[Case], bool], str | Callable[[Case], str]]

_RULES: tuple[_Rule, ...] = (
    # (when it fits, what to do); an empty sentence passes on to the next rule.
    (
        lambda c: c.cause == "killed" and _sent_itself(c),
        "Look for the call of `os.kill` in the cell or its packages.",
    ),
    (lambda c: _out_of_memory(c) and bool(_READS.search(c.source)), _read_in_chunks),
    (lambda c: _out_of_memory(c) and bool(_JOINS.search(c.source)), _join_less),
    (lambda c: _out_of_memory(c) and bool(_WORKERS.search(c.source)), _fewer_workers),
    (lambda c: _out_of_memory(c) and bool(_TRAINS.search(c.cell)), _smaller_batch),
    (lambda c: c.cause == "oom-killed-by-system" and _outer_limit_hit(c), _outer_limit),
    (lambda c: c.cause in ("oom-killed-by-cap", "memory-cap-interrupt"), _raise_the_cap),
    (
        lambda c: c.cause == "killed" and c.cap is None and memory_was_low(c.evidence),
        "Use less memory, or set a `memory_limit` in kernel.json below what the machine has: the "
        "kernel is then interrupted before a memory watcher kills it.",
    ),
    (_refused_by_the_cap, _cap_refused),
    (_shm_is_short, _larger_shm),
    (lambda c: _missing_module(c) is not None, _install_module),
    (lambda c: c.cause in _COMPILED, _pin),
    (lambda c: c.cause in ("aborted", "exited", "start-failed"), _as_it_said),
    (_lacks_instructions, _instructions),
)


def _sent_itself(case: Case) -> bool:
    flight = case.evidence.flight
    return flight is not None and flight.sent_itself == "SIGKILL"


def _outer_limit_hit(case: Case) -> bool:
    oom = case.evidence.oom
    return oom is not None and bool(oom.outer_limits_hit)


_PLAIN = {
    "oom-killed-by-system": (
        "Use less memory or a machine or container with more; a `memory_limit` in kernel.json "
        "below what there is keeps the rest of the machine safe."
    ),
    "segmentation-fault": (
        "Run the line's last call alone with small input, and update or reinstall the compiled "
        "package that it enters."
    ),
    "bus-error": (
        "Check that no memory-mapped file was truncated, and that disk and /dev/shm are not full."
    ),
    "illegal-instruction": (
        "Install a build of the package for this machine's processor (often an older one, or "
        "without AVX)."
    ),
    "floating-point-exception": (
        "Look for an integer division by zero in the compiled code that the line calls."
    ),
    "aborted": (
        "Read the message above from the compiled code; update or reinstall the package that "
        "printed it."
    ),
    "stack-overflow": "Give the recursion an end, or turn it into a loop.",
    "killed": (
        "Ask who sent it: a person, a batch system, or a memory watcher such as earlyoom; "
        "`journalctl` often knows."
    ),
    "terminated": "Ask who ended it: a batch system, a container stop, or a person.",
    "hung-up": "Start the server where no closing terminal takes it along (nohup, tmux, systemd).",
    "exited": "Look for a call of `os._exit` or C's exit() in the cell or its packages.",
    "cpu-limit": "Raise the limit of CPU time (`ulimit -t`) of whatever starts the server.",
    "file-size-limit": "Raise the limit of file sizes (`ulimit -f`), or write smaller files.",
    "hung": "Interrupt first next time; `%checkpoint restore` brings the variables back.",
    "start-failed": (
        "Run `jupyter checkpoint doctor`, or start the kernel by hand: python -m checkpoint_kernel."
    ),
    "server-gone": "Look into the server's log for why it ended.",
}
