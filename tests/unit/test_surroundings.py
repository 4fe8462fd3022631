"""Looking around after a death: what this machine tells, and what a slow tool may cost.

There is no GPU here: programs of a few lines stand for nvidia-smi, in its documented format.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from death_cases import MIB, evidence

from checkpoint_provisioner import proc, surroundings
from checkpoint_provisioner.surroundings import Gpu, GpuProcess, looked_at

pytestmark = pytest.mark.unit

ANSWERS = """#!/bin/sh
case "$1" in
--query-gpu=*) echo "0, NVIDIA H100 80GB HBM3, 1024, 81559"; echo "1, Tesla T4, [N/A], 15360";;
*) echo "4242, /usr/bin/python3, 512"; echo "4243, [Not Found], [N/A]";;
esac
"""


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a program put here is found as nvidia-smi, before any other."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path / "nvidia-smi"


def put(program: Path, text: str) -> None:
    program.write_text(text)
    program.chmod(0o755)


def test_this_machine_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = looked_at(evidence(signal.SIGBUS)).surroundings
    assert found is not None
    assert found.usable_bytes is not None
    assert found.usable_bytes > 64 * MIB
    assert found.gpus is None, "there is no nvidia-smi on PATH"
    if Path("/dev/shm").is_dir():
        assert found.shared_memory is not None
        assert 0 <= found.shared_memory.free_bytes <= found.shared_memory.total_bytes
    if "flags" in Path("/proc/cpuinfo").read_text():
        assert found.processor is not None
        assert "sse2" in found.processor.flags


def test_gpus_and_who_computes_on_them_are_read(smi: Path) -> None:
    put(smi, ANSWERS)
    found = looked_at(evidence(signal.SIGABRT))
    assert found.notes == ()
    assert found.surroundings is not None
    assert found.surroundings.gpus is not None
    assert found.surroundings.gpus.devices == (
        Gpu(0, "NVIDIA H100 80GB HBM3", 1024 * MIB, 81559 * MIB),
        Gpu(1, "Tesla T4", None, 15360 * MIB),
    )
    assert found.surroundings.gpus.processes == (
        GpuProcess(4242, "/usr/bin/python3", 512 * MIB),
        GpuProcess(4243, "[Not Found]", None),
    )


def test_a_driver_that_fails_is_a_note(smi: Path) -> None:
    put(
        smi, "#!/bin/sh\necho 'Failed to initialize NVML: Driver/library version mismatch'\nexit 18"
    )
    found = looked_at(evidence(signal.SIGABRT))
    assert "Failed to initialize NVML" in found.notes[0]


def test_a_tool_that_cannot_be_executed_is_a_note(smi: Path) -> None:
    put(smi, "#!/no/such/interpreter\n")
    found = looked_at(evidence(signal.SIGABRT))
    assert "nvidia-smi could not be asked" in found.notes[0]


def test_a_driver_that_hangs_is_left_behind_in_time(
    smi: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert surroundings.SMI_TIMEOUT_S <= 2
    monkeypatch.setattr(surroundings, "SMI_TIMEOUT_S", 0.3)
    put(smi, "#!/bin/sh\nexec sleep 60")
    begun = time.monotonic()
    found = looked_at(evidence(signal.SIGABRT))
    assert time.monotonic() - begun < 30, "it was not waited for"
    assert len([note for note in found.notes if "did not answer" in note]) == 2


def test_the_first_processor_is_read_and_one_without_flags_is_none(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("model name\t: A CPU @ 2:3\nflags\t\t: fpu avx\n\nmodel name\t: B\n")
    assert proc.processor(info) == proc.Processor("A CPU @ 2:3", ("fpu", "avx"))
    info.write_text("processor\t: 0\nFeatures\t: fp asimd\n")
    assert proc.processor(info) is None
    assert proc.processor(tmp_path / "none") is None


def test_the_kernel_log_is_read_or_is_empty() -> None:
    log = proc.kernel_log(2**30, 1e9)
    assert log is None or log.said is None
    assert isinstance(proc.gpu_errors(1e9), tuple)
