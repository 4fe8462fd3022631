"""Names that the kernel and the supervisor must agree on: files, environment, defaults.

Standard library only. Nothing here does anything; see `session`, `manifest` and
`flight_recorder` for the contents of the files.

One directory per notebook, 0700, under the root (by default `checkpoints` in the Jupyter
data directory):

    <root>/<notebook key>/
        notebook.json            which notebook this is
        lock                     held (flock) by the supervisor of the live kernel
        writer                   held (flock) by whoever writes or prunes checkpoints
        segments/<name>.seg      immutable runs of chunks
        manifests/<seq>-<id>.json  signed; the newest one is the newest checkpoint
        sessions/<session id>/   one per start of a kernel
            session.json         what the kernel was started with, and the restart plan
            intent.jsonl         what somebody asked of the kernel (shutdown, kill, ...)
            flight               flight recorder
            faults.txt           faulthandler's file
            fault                what the last fatal signal was about
            stacks.txt           Python's stacks of the living kernel, written when asked for
            last_look.json       stacks of a kernel that did not answer, taken before its end
            events.jsonl         what happened to the kernel and its children while it lived
            environment.json     the packages that the kernel runs with
            stderr.txt           the last of what reached file descriptor 2
            restore.json         progress and result of the restore
            exit.json            exit marker, written by the supervisor
        deaths/<time>-<session id>.json   one record per death
        quarantine.json          payloads whose loading killed or hung a kernel
        environments/<session id>.json    environment.json of a pruned session that a checkpoint
                                          or a record of a death is of
"""

from __future__ import annotations

import signal
from typing import Final

# Set by the supervisor for the kernel: the session's directory. The kernel takes it out
# of os.environ, so that kernels started from a cell do not believe it is theirs.
ENV_SESSION: Final = "CHECKPOINT_KERNEL_SESSION"
# Set by the supervisor to the session's id, and left in os.environ: all that a kernel starts
# inherits it, so that a later start can tell what an unsupervised kernel has left running.
ENV_STARTED_BY: Final = "CHECKPOINT_KERNEL_STARTED_BY"
# Written into kernel.json by `jupyter checkpoint install`: the kernelspec's directory, read
# where a frontend starts argv itself and ignores provisioners (VS Code).
ENV_SPEC_DIR: Final = "CHECKPOINT_KERNEL_SPEC_DIR"
# "off": what was written is never asked of the operating system, only of digests.
ENV_DIRTY_PAGES: Final = "CHECKPOINT_KERNEL_DIRTY_PAGES"
# Seconds that a restore is at one small unit before it takes that for a hang; for slow disks.
ENV_LOAD_PATIENCE: Final = "CHECKPOINT_KERNEL_LOAD_PATIENCE"

STORE_DIRECTORY: Final = "checkpoints"  # under jupyter_data_dir()
KEY_FILE: Final = "checkpoint_key"  # under jupyter_data_dir(), 0600, outside the store

NOTEBOOK_FILE: Final = "notebook.json"
LOCK_FILE: Final = "lock"
WRITER_FILE: Final = "writer"
SEGMENTS: Final = "segments"
MANIFESTS: Final = "manifests"
SESSIONS: Final = "sessions"
DEATHS: Final = "deaths"
ENVIRONMENTS: Final = "environments"
QUARANTINE_FILE: Final = "quarantine.json"

SESSION_FILE: Final = "session.json"
INTENT_FILE: Final = "intent.jsonl"
FLIGHT_FILE: Final = "flight"
FAULTS_FILE: Final = "faults.txt"
FAULT_FILE: Final = "fault"
STACKS_FILE: Final = "stacks.txt"
LAST_LOOK_FILE: Final = "last_look.json"
EVENTS_FILE: Final = "events.jsonl"
ENVIRONMENT_FILE: Final = "environment.json"
STDERR_FILE: Final = "stderr.txt"
RESTORE_FILE: Final = "restore.json"
EXIT_FILE: Final = "exit.json"

PROVISIONER_NAME: Final = "checkpoint-provisioner"
KERNELSPEC_NAME: Final = "python3-resilient"

# Seconds that the supervisor gives a snapshot process to commit after the kernel's death.
ORPHAN_GRACE_S: Final = 2.0

# Real-time signals, which nobody's code uses by habit. Sent only to a kernel that catches them
# (SigCgt in /proc/<pid>/status): the default is to end the process.
_REAL_TIME: Final = int(getattr(signal, "SIGRTMIN", 34))  # macOS has none
MEMORY_SIGNAL: Final = _REAL_TIME + 11  # interrupt the cell: the memory limit is near
STACKS_SIGNAL: Final = _REAL_TIME + 12  # append all threads' stacks to stacks.txt

# Data may take this share of a memory limit: page tables and the like count too, and are none.
DATA_SHARE: Final = 0.97
# What the kernel writes below the stacks that it tells itself. faulthandler writes no such line.
STACKS_END: Final = "End of the stacks."
