from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpoint_kernel import flight_recorder
from checkpoint_kernel.flight_recorder import SOURCE_LIMIT, FlightRecorder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flight"


def test_last_word_is_read_back(path: Path) -> None:
    recorder = FlightRecorder(path)
    recorder.update(state="busy", line=7, cell_source="train()", checkpoint="c41")
    recorder.update(line=8)
    flight = flight_recorder.read(path)
    assert flight == recorder.flight
    assert flight is not None
    assert (flight.pid, flight.state, flight.line) == (os.getpid(), "busy", 8)


def test_file_is_the_owners_alone_and_of_constant_size(path: Path) -> None:
    recorder = FlightRecorder(path)
    size = path.stat().st_size
    recorder.update(cell_source="x" * 100_000)
    assert path.stat().st_size == size
    assert path.stat().st_mode & 0o777 == 0o600


def test_no_file_and_an_empty_one_give_no_record(path: Path) -> None:
    assert flight_recorder.read(path) is None
    path.write_bytes(b"")
    assert flight_recorder.read(path) is None


@pytest.mark.parametrize("source", ["x" * 50_000, "ü" * 50_000, "\U0001f600" * 50_000, "\0" * 9000])
def test_long_source_is_cut_and_the_record_stays_whole(path: Path, source: str) -> None:
    FlightRecorder(path).update(cell_source=source, line=3)
    flight = flight_recorder.read(path)
    assert flight is not None
    assert flight.line == 3
    assert source.startswith(flight.cell_source)
    assert SOURCE_LIMIT // 6 <= len(flight.cell_source) <= SOURCE_LIMIT


@given(st.integers(0, 2000), st.integers(1, 255))
def test_damage_to_the_newest_record_gives_the_one_before(
    tmp_path_factory: pytest.TempPathFactory, position: int, change: int
) -> None:
    path = tmp_path_factory.mktemp("session") / "flight"
    recorder = FlightRecorder(path)
    recorder.update(line=1)
    recorder.update(line=2)
    data = bytearray(path.read_bytes())
    newest = 1 if recorder._sequence % 2 else 0
    slot = newest * (len(data) // 2)
    length = int.from_bytes(data[slot + 8 : slot + 12], "little")
    data[slot + 8 + position % (8 + length)] ^= change
    path.write_bytes(data)
    flight = flight_recorder.read(path)
    assert flight is not None
    assert flight.line == 1


def test_threads_that_update_at_once_lose_no_field(path: Path) -> None:
    recorder = FlightRecorder(path)

    def update(name: str) -> None:
        for value in range(300):
            recorder.update(**{name: value})

    names = ["line", "rss_bytes", "cells_started", "execution_count"]
    threads = [threading.Thread(target=update, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    flight = flight_recorder.read(path)
    assert flight is not None
    assert [getattr(flight, name) for name in names] == [299] * 4


def test_fields_of_a_later_version_are_passed_over(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = FlightRecorder(path)
    real = flight_recorder.dataclasses.asdict
    monkeypatch.setattr(
        flight_recorder.dataclasses, "asdict", lambda flight: {**real(flight), "mood": "sunny"}
    )
    recorder.update(line=5)
    flight = flight_recorder.read(path)
    assert flight is not None
    assert flight.line == 5


def test_writer_killed_at_any_moment_leaves_a_whole_record(path: Path) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from checkpoint_kernel.flight_recorder import FlightRecorder\n"
        "recorder = FlightRecorder(Path(sys.argv[1]))\n"
        "n = 0\n"
        "while True:\n"
        "    n += 1\n"
        "    recorder.update(line=n, rss_bytes=n, cell_source='x' * (n % 3000))\n"
    )
    for pause_s in (0.0, 0.001, 0.004, 0.01):
        path.unlink(missing_ok=True)
        with subprocess.Popen([sys.executable, "-c", program, str(path)]) as writer:
            while True:
                before = flight_recorder.read(path)
                if before is not None and before.line:
                    break
                time.sleep(0.001)
            time.sleep(pause_s)
            writer.send_signal(signal.SIGKILL)
        flight = flight_recorder.read(path)
        assert flight is not None
        assert flight.line is not None
        assert flight.line == flight.rss_bytes >= (before.line or 0)
        assert len(flight.cell_source) == flight.line % 3000
