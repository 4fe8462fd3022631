"""`python -m checkpoint_kernel -f {connection_file}`: run the kernel under a supervisor.

Started by the supervisor, this becomes the kernel. Started by anybody else (VS Code starts
argv itself), it becomes a supervisor, which starts this again.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
from pathlib import Path

from . import fault_witness, stacks
from .contract import ENV_SESSION, FAULT_FILE, FAULTS_FILE, FLIGHT_FILE
from .flight_recorder import FlightRecorder
from .session import Session, load_session

# Set by us before we ask for a supervisor, so that failing to get one cannot loop.
_ENV_ASKED = "CHECKPOINT_KERNEL_ASKED_FOR_SUPERVISOR"


def main() -> None:
    """Become the kernel, or the supervisor of one."""
    directory = os.environ.pop(ENV_SESSION, None)
    record = load_session(Path(directory)) if directory else None
    asked = os.environ.pop(_ENV_ASKED, None)
    if record is not None and directory and record.supervisor_pid == os.getppid():
        _run(record, Path(directory))
    elif asked is None:
        _get_supervised()
    else:
        print("checkpoint-kernel: no supervisor; running without checkpoints", file=sys.stderr)
        from ipykernel.kernelapp import launch_new_instance

        launch_new_instance()


def _get_supervised() -> None:
    os.environ[_ENV_ASKED] = "1"
    again = [sys.executable, "-m", "checkpoint_kernel", *sys.argv[1:]]
    supervise = [sys.executable, "-m", "checkpoint_provisioner.self_supervise", "--", *again]
    os.execv(sys.executable, supervise)


def _run(record: Session, directory: Path) -> None:
    recorder = FlightRecorder(directory / FLIGHT_FILE)
    # Kept open for the life of the process: the handler writes to the bare descriptor.
    faults = open(directory / FAULTS_FILE, "wb", buffering=0)  # noqa: SIM115
    faulthandler.enable(file=faults, all_threads=True)
    with contextlib.suppress(
        OSError
    ):  # a full disk: the supervisor sees that the file is not there
        fault_witness.install(directory / FAULT_FILE)
    # A crash in a child that the user forks is not a crash of the kernel.
    os.register_at_fork(after_in_child=faulthandler.disable)
    stacks.tell_when_asked(directory, recorder, record.supervisor_pid)

    from .app import CheckpointKernelApp

    CheckpointKernelApp.session_record = record
    CheckpointKernelApp.session_directory = directory
    CheckpointKernelApp.recorder = recorder
    app = CheckpointKernelApp.instance()
    app.initialize()
    app.start()


if __name__ == "__main__":
    main()
