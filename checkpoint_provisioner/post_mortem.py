"""The story of a death, top to bottom: exit seen -> gather -> judge -> look around -> report
-> write.

What the next start makes of it is `plan`'s; what was observed is `evidence`'s.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from checkpoint_kernel import contract, durable, session

from . import remedies, report, verdict
from .evidence import Evidence, gather_leftovers
from .surroundings import looked_at
from .verdict import Verdict

REMEMBERED = 20  # records of a notebook in which an earlier death of the same kind is looked for


def exit_seen(directory: Path, evidence: Evidence) -> session.ExitMarker:
    """Judge the end of the session in `directory`, write its record and its exit marker.

    Raises OSError if they cannot be written; `unwritten` is the marker then.
    """
    judged = verdict.judge(evidence)
    record_name, again = None, None
    if judged.kind == "death" and evidence.exit is not None:  # nobody waits, and it was just now
        evidence = looked_at(evidence)
    if judged.cause is not None:
        record = report.build(evidence, judged, _earlier(_deaths(directory)))
        record_name = _write(directory, evidence, record)
        again = record["repeated"]
    marker = _marker(evidence, judged, record_name, again)
    session.save(directory, marker)
    return marker


def server_and_supervisor_gone(directory: Path, started: session.Session) -> session.ExitMarker:
    """The same for a session that nobody saw the end of, from what it left behind."""
    return exit_seen(directory, gather_leftovers(directory, started))


def survived(directory: Path, evidence: Evidence, event: session.Event) -> str:
    """Write the record of a cell that was ended before the memory limit was; its file name.

    It stands among the deaths, because it would have been one. Raises OSError.
    """
    if evidence.flight is not None:  # which may be in the next cell by now
        said = event.extra
        flight = replace(
            evidence.flight,
            state="busy",
            execution_count=said["cell"],
            cell_source=said["cell_source"],
            line=said["line"],
        )
        evidence = replace(evidence, flight=flight, time=event.time)
    # What an allocation was refused for, its error does not tell for sure.
    judged = Verdict(
        "survived",
        "memory-cap-interrupt",
        event.said,
        "likely" if event.extra["refused"] else "proof",
    )
    return write_record(directory, evidence, judged)


def unwritten(evidence: Evidence) -> session.ExitMarker:
    """The marker of an exit whose records could not be written (a full disk)."""
    return _marker(evidence, verdict.judge(evidence), None, None)


def write_record(directory: Path, evidence: Evidence, judged: Verdict) -> str:
    """Write deaths/<time>-<session>.json; its file name. The machine is not looked at."""
    return _write(directory, evidence, report.build(evidence, judged, _earlier(_deaths(directory))))


def _write(directory: Path, evidence: Evidence, record: dict[str, Any]) -> str:
    stamp = datetime.fromtimestamp(evidence.time, UTC)
    name = f"{stamp:%Y%m%d-%H%M%S}-{evidence.session.id}.json"
    if record["survived"]:  # of which a session may have several
        name = f"{stamp:%Y%m%d-%H%M%S.%f}-{evidence.session.id}.json"
    durable.publish(_deaths(directory) / name, json.dumps(record, indent=1).encode())
    return name


def _deaths(directory: Path) -> Path:
    """Where the records of this session's notebook are."""
    return directory.parent.parent / contract.DEATHS


def _earlier(deaths: Path) -> list[dict[str, Any]]:
    """The newest records of this notebook, oldest first; what cannot be read is none of them."""
    records = []
    for path in sorted(deaths.glob("*.json"))[-REMEMBERED:]:
        try:
            record = json.loads(path.read_bytes())
        except (OSError, ValueError):  # `jupyter checkpoint deaths` names it
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


def add_native_stack(
    directory: Path, marker: session.ExitMarker, text: str | None, why_not: str | None
) -> None:
    """Add what a core file tells to a record that is written: reading one takes seconds.

    OSError or ValueError if the record cannot be read or written.
    """
    if marker.death is None:
        return
    path = _deaths(directory) / marker.death
    record = json.loads(path.read_bytes())
    if text is not None:
        record["native_stack"] = text[: report.RECORD_STACKS]
        record["remedy"] = remedies.with_native_stack(record, text) or record["remedy"]
    if why_not is not None:
        record["evidence"]["notes"].append(f"no native stack from the core file: {why_not}")
    durable.publish(path, json.dumps(record, indent=1).encode())


def _marker(
    evidence: Evidence, judged: Verdict, record_name: str | None, again: dict[str, Any] | None
) -> session.ExitMarker:
    flight, ended = evidence.flight, evidence.exit
    running = flight is not None and verdict.cell_running(evidence)
    return session.ExitMarker(
        session=evidence.session.id,
        time=evidence.time,
        kind=judged.kind,
        cause=judged.cause,
        death=record_name,
        exit_code=ended.code if ended else None,
        signal=ended.signal if ended else None,
        cells_started=flight.cells_started if flight else 0,
        restore_done=flight.restore_done if flight else False,
        restoring_unit=flight.restoring_unit if flight else None,
        cell_sha256=cell_digest(flight.cell_source) if flight and running else None,
        checkpoint=flight.checkpoint if flight else None,
        same_deaths=again["count"] if again else 1,
        in_common=tuple(again["in_common"]) if again else (),
    )


def cell_digest(source: str) -> str:
    """Tells whether two deaths happened in the same cell."""
    return hashlib.sha256(source.strip().encode("utf-8", "surrogatepass")).hexdigest()


def orphan_grace_s(marker: session.ExitMarker) -> float:
    """How long a snapshot process may go on after the kernel: it may be about to commit.

    Not after an OOM kill, where it competes for the memory, and not while somebody waits
    for a restart.
    """
    memory = marker.cause in ("oom-killed-by-cap", "oom-killed-by-system")
    waiting = marker.kind in ("restart", "hung")
    return 0.0 if memory or waiting else contract.ORPHAN_GRACE_S


def told(directory: Path) -> str | None:
    """The paragraph about the end of a session, None if it was asked for."""
    try:
        marker = session.load_exit(directory)
        if marker is None:
            return "its supervisor was killed; the next start judges from what it left."
        if marker.death is None:
            return None
        record = json.loads((_deaths(directory) / marker.death).read_bytes())
        return f"{record['paragraph']} {record['remedy']}"
    except (OSError, ValueError, TypeError, KeyError) as why:
        return f"the record of its end cannot be read: {why}"
