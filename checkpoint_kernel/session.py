"""What the supervisor tells the kernel and later starts: session, plan, intents, exit marker.

Plain dataclasses and their JSON files; deciding is `checkpoint_provisioner.plan`'s and
`checkpoint_provisioner.post_mortem`'s. Standard library only.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from . import durable
from .contract import EVENTS_FILE, EXIT_FILE, INTENT_FILE, RESTORE_FILE, SESSION_FILE

SCHEMA = 1


@dataclass(frozen=True)
class Cap:
    """The memory limit in force, as read back."""

    configured: str  # as the user wrote it: "8G"
    cap_bytes: int
    soft_bytes: int
    # "systemd scope", "cgroup v2", "cgroup v1"; "none": only the guard acts; "container": there is
    # no memory_limit, but one around the server
    backend: str
    enforced: bool  # the limit was read back and stands
    detail: str  # one sentence: what is enforced, or why nothing is
    cgroup: str | None = None  # the kernel's cgroup directory
    counted_in: str | None = None  # the cgroup directory that says what is used, also of others
    # (directory, bytes) of limits around it, which others use up too
    around: tuple[tuple[str, int], ...] = ()
    soft_share: float | None = None  # soft_limit as a share of the smallest of these limits

    @property
    def guarded(self) -> bool:
        """Whether cells are interrupted before the limit is met: soft_limit 100% turns it off."""
        return self.soft_bytes < self.cap_bytes

    def soft_within(self, limit_bytes: int) -> int:
        """The soft limit, in bytes, under this limit or a smaller one around it."""
        share = self.soft_share or self.soft_bytes / self.cap_bytes
        return min(self.soft_bytes, int(limit_bytes * share))

    @property
    def in_force(self) -> bool:
        """Something acts on it: a cgroup at the limit, or the guard before it."""
        return self.enforced or self.guarded


@dataclass(frozen=True)
class Limit:
    """A limit on something other than memory, as read back."""

    key: str  # as in kernel.json: "cpu_limit", "pids_limit", "nice"
    configured: float  # cores; processes and threads; niceness
    backend: str  # as in `Cap`, or "setpriority"
    enforced: bool
    detail: str  # one clause: what is enforced, or why nothing is
    cgroup: str | None = None


@dataclass(frozen=True)
class Settings:
    """The validated config, as far as the kernel needs it."""

    checkpoint_interval: float = 30.0  # seconds; 0 is off
    checkpoint_after_cell: bool = True
    restore: Literal["crash", "always", "never"] = "crash"
    keep: int = 20
    store_limit_bytes: int | None = None  # None: the smaller of 20 % of the free disk and 20 GB
    exclude: tuple[str, ...] = ()  # names never saved
    include: tuple[str, ...] = ()  # names saved though they look like secrets
    shutdown_wait: float = 30.0  # seconds that a last checkpoint may take


@dataclass(frozen=True)
class Plan:
    """What the next start does about earlier state."""

    kind: Literal["restore", "clean"]
    because: str  # one sentence for the user: "The kernel died: ..." / "You restarted ..."
    checkpoint: str | None = None  # restore: which; clean: which is offered, if any
    leave_out: tuple[str, ...] = ()  # units that killed an earlier restore
    step: int = 0  # restores that failed before this one
    # trial: what may kill the kernel is loaded in another process first. plain: only what cannot.
    care: Literal["", "trial", "plain"] = ""
    death: str | None = None  # file name under deaths/ of the death that led here
    before_cell: str | None = None  # restore: the newest checkpoint from before the fatal cell
    warnings: tuple[str, ...] = ()  # lines for the notice ("this cell has now killed ...")
    remedy: str | None = None


@dataclass(frozen=True)
class Session:
    """One start of a kernel."""

    id: str
    line: str  # its own id after a clean start; that of the restored line otherwise
    started: float
    kernel_id: str
    notebook: str | None  # real path, None where nobody told us
    notebook_directory: str  # the store of this notebook
    key_file: str
    supervisor_pid: int
    boot_id: str
    settings: Settings
    plan: Plan
    cap: Cap | None = None
    limits: tuple[Limit, ...] = ()  # beside memory's
    stderr_write_fd: int | None = None  # becomes the kernel's descriptor 2
    stderr_read_fd: int | None = None  # what the kernel publishes as stderr
    warnings: tuple[str, ...] = ()  # said once to the user (store shared, mode tightened, ...)
    server_pid: int | None = None  # whoever started the supervisor
    number: int = 0  # counts a notebook's starts: a clock may be set back, and ids go by it
    schema: int = SCHEMA


@dataclass(frozen=True)
class ExitMarker:
    """How a session ended, judged by the supervisor. Its absence is itself evidence."""

    session: str
    time: float
    # death: nobody asked. restart, shutdown: asked and obeyed. hung: asked, but it took a
    # SIGKILL. quit: the user called exit() in a cell.
    kind: Literal[
        "death", "restart", "shutdown", "hung", "quit", "survived"
    ]  # survived: of no exit
    cause: str | None = None  # of a death or a hang, as `deaths --json` spells it
    death: str | None = None  # file name under deaths/
    exit_code: int | None = None
    signal: int | None = None
    cells_started: int = 0
    restore_done: bool = False
    restoring_unit: str | None = None
    cell_sha256: str | None = None  # of the running cell's source
    checkpoint: str | None = None  # newest committed checkpoint when it ended
    same_deaths: int = 1  # how often it has now died of this cause at this line of this notebook
    in_common: tuple[str, ...] = ()  # clauses about what these deaths share
    schema: int = SCHEMA


@dataclass(frozen=True)
class NotRestored:
    """A variable that is not back, and why."""

    name: str
    type: str
    reason: str
    remedy: str | None = None
    made_in: int | None = None  # as in `manifest.Skipped`
    made_by: str | None = None


@dataclass(frozen=True)
class RestoreReport:
    """The result of a restore; also its progress file."""

    checkpoint: str
    state: Literal["loading", "done", "failed"]
    started: float
    seconds: float | None = None
    restored: tuple[str, ...] = ()
    not_restored: tuple[NotRestored, ...] = ()
    partly: tuple[NotRestored, ...] = ()  # back with a stub inside; type and reason are the part's
    older: tuple[str, ...] = ()  # "rows (3.1 s older)": a C call was changing the newest version
    on_cpu: tuple[str, ...] = ()  # "model: cuda:0 (there is none)": tensors that lost their device
    # "pandas 2.1.4, here 3.0.1 (df)": packages that restored variables were saved with
    other_versions: tuple[str, ...] = ()
    interactive: tuple[str, ...] = ()  # what of the interactive state was put back, in words
    error: str | None = None  # when state is "failed": why nothing is back
    schema: int = SCHEMA


def save(directory: Path, value: Session | ExitMarker | RestoreReport) -> None:
    """Publish a record in its file in the session's directory."""
    name = {Session: SESSION_FILE, ExitMarker: EXIT_FILE, RestoreReport: RESTORE_FILE}[type(value)]
    body = json.dumps(dataclasses.asdict(value), indent=1).encode()
    durable.publish(directory / name, body)


def _load(path: Path) -> dict[str, Any] | None:
    try:
        raw: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    return raw


def _known(cls: type, raw: dict[str, Any]) -> dict[str, Any]:
    """Only the fields that this version knows, lists as tuples: later versions may add some."""
    names = {f.name for f in dataclasses.fields(cls)}
    return {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items() if k in names}


def cap_of(raw: dict[str, Any]) -> Cap:
    """From JSON, which has no tuples."""
    around = tuple((str(path), int(limit)) for path, limit in raw.get("around") or ())
    return Cap(**{**_known(Cap, raw), "around": around})


def load_session(directory: Path) -> Session | None:
    """The session's start record, or None where there is none. ValueError if malformed."""
    raw = _load(directory / SESSION_FILE)
    if raw is None:
        return None
    raw["settings"] = Settings(**_known(Settings, raw["settings"]))
    raw["plan"] = Plan(**_known(Plan, raw["plan"]))
    raw["cap"] = cap_of(raw["cap"]) if raw["cap"] else None
    raw["limits"] = [Limit(**_known(Limit, one)) for one in raw.get("limits", ())]
    return Session(**_known(Session, raw))


def load_exit(directory: Path) -> ExitMarker | None:
    """The exit marker, or None where there is none. ValueError if malformed."""
    raw = _load(directory / EXIT_FILE)
    return None if raw is None else ExitMarker(**_known(ExitMarker, raw))


def load_restore(directory: Path) -> RestoreReport | None:
    """The restore's report, or None where there is none. ValueError if malformed."""
    raw = _load(directory / RESTORE_FILE)
    if raw is None:
        return None
    raw["not_restored"] = tuple(NotRestored(**_known(NotRestored, n)) for n in raw["not_restored"])
    raw["partly"] = tuple(NotRestored(**_known(NotRestored, n)) for n in raw.get("partly", ()))
    return RestoreReport(**_known(RestoreReport, raw))


@dataclass(frozen=True)
class Intent:
    """Somebody asked something of a live kernel. `monotonic` orders it against the exit."""

    action: Literal["shutdown", "restart", "terminate", "kill"]
    time: float
    monotonic: float
    sender: str = "provisioner"
    extra: dict[str, Any] = field(default_factory=dict)


def append_intent(directory: Path, action: str, sender: str = "provisioner") -> None:
    """Write down an intent before acting on it. One O_APPEND write, not durable."""
    line = json.dumps(
        {"action": action, "time": time.time(), "monotonic": time.monotonic(), "sender": sender}
    )
    with open(directory / INTENT_FILE, "a", encoding="utf-8") as file:
        file.write(line + "\n")


def read_intents(directory: Path) -> list[Intent]:
    """All intents, oldest first."""
    try:
        text = (directory / INTENT_FILE).read_text("utf-8")
    except FileNotFoundError:
        return []
    return [Intent(**json.loads(line)) for line in text.splitlines() if line.strip()]


@dataclass(frozen=True)
class Event:
    """Something that happened to a living kernel or its children, and was no death of it."""

    # child-oom-killed, child-killed-by-guard, snapshot-oom-killed, snapshot-stopped-by-guard,
    # memory-cap-interrupt, fork-refused; UNREADABLE
    kind: str
    time: float
    said: str  # one sentence
    extra: dict[str, Any] = field(default_factory=dict)  # numbers, by name


UNREADABLE: Final = "unreadable"  # what kind of event was on record cannot be told


def append_event(directory: Path, event: Event) -> None:
    """Add to the session's events; kernel and supervisor both do. Not durable. OSError."""
    # One write(2): through a buffered file a long line would be several, with others' in between.
    # It begins a line too, because a full disk may have cut off the one before.
    record = b"\n" + json.dumps(dataclasses.asdict(event)).encode() + b"\n"
    flags = os.O_APPEND | os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC
    fd = os.open(directory / EVENTS_FILE, flags, 0o600)
    try:
        written = os.write(fd, record)
    finally:
        os.close(fd)
    if written < len(record):
        raise OSError(errno.ENOSPC, f"{written} of {len(record)} bytes of an event were written")


def read_events(directory: Path) -> list[Event]:
    """All events, oldest first; a damaged line is an event of the kind UNREADABLE. OSError."""
    try:
        lines = (directory / EVENTS_FILE).read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    return [_event(line) for line in lines if line.strip()]


def _event(line: bytes) -> Event:
    try:
        found = Event(**_known(Event, json.loads(line)))
        if isinstance(found.kind, str) and isinstance(found.said, str):
            return replace(found, time=float(found.time), extra=dict(found.extra))
        why = "it holds something else"
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        why = f"{type(error).__name__}: {error}"
    said = f"an event that was on record cannot be read ({why})"
    return Event(UNREADABLE, 0.0, said, {"line": line[:200].decode("utf-8", "replace")})
