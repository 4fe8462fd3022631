"""Decides what the next start does about earlier state: restore what, leave out what, or
begin clean. Pure; reading the past is `history`'s.

A restart that somebody asked for is clean and offers the state. A death restores the newest
checkpoint. A restore that kills leads one step down the ladder. Where a unit was being loaded, that
is left out, and everything else that may do the same is loaded in another process first; the next
time, only what runs no code when it is loaded. Where none was: the checkpoint before. In the end,
clean. A cell that kills leads nowhere down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from checkpoint_kernel.manifest import Manifest
from checkpoint_kernel.session import Cap, ExitMarker, Plan, Session, Settings

from . import repeated
from .report import STOOD_STILL, headline

# What an interpreter with IPython weighs before the first variable.
BARE_KERNEL_BYTES = 80 * 1024**2
STEPS = 3  # failed restores after which a start is clean
# How a restore is done after so many failed ones, and what the user is told of it.
_CARE: dict[int, tuple[Literal["trial", "plain"], str]] = {
    1: ("trial", "what else may end it is loaded in another process first"),
    2: ("plain", "only what runs no code when it is loaded is brought back"),
}

# Deaths from outside, which say nothing about what was restored or run.
_FROM_OUTSIDE = ("server-gone", "terminated", "hung-up")


@dataclass(frozen=True)
class Past:
    """An earlier session and its end."""

    session: Session
    exit: ExitMarker


@dataclass(frozen=True)
class _State:
    """A state to go back to."""

    checkpoint: Manifest
    leave_out: tuple[str, ...] = ()


def plan(
    history: Sequence[Past],
    manifests: Sequence[Manifest],
    settings: Settings,
    soft_bytes: int | None = None,
    warnings: tuple[str, ...] = (),
) -> Plan:
    """The plan of the next start.

    `history`: all ended sessions, oldest first. `manifests`: those that verify, by `seq`;
    `warnings` names the others. `soft_bytes`: where the cap would interrupt, if there is one.
    """
    offered = _offer(history, manifests)
    offer = offered.id if offered else None
    if not history:
        return Plan("clean", "This is the first start of this notebook.", warnings=warnings)
    last = history[-1]
    ended = last.exit
    if again := _again(history):
        warnings = (*warnings, again)
    if settings.restore == "never":
        because = f"{_told(last)} `restore` is set to never in kernel.json."
        return Plan("clean", because, offer, death=ended.death, warnings=warnings)
    if ended.kind != "death":
        if settings.restore == "always" and offered is not None:
            because = f"{_told(last)} `restore` is set to always in kernel.json."
            chosen = _state_of(last, manifests) or _State(offered)
            return _restore(chosen, because, last, manifests, warnings)
        return Plan("clean", _told(last), offer, death=ended.death, warnings=warnings)
    if last.session.plan.kind == "restore" and _counts_against_restore(ended):
        return _ladder(history, manifests, offer, warnings)
    state = _state_of(last, manifests)
    if state is None and settings.restore == "always" and offered and ended.cells_started:
        state = _State(offered)
    if state is None:
        nothing = "Nothing had been saved since that start, so this one is clean."
        because = f"{_told(last)} {nothing}"
        return Plan("clean", because, offer, death=ended.death, warnings=warnings)
    because = _told(last)
    before = _before_cell(state.checkpoint, manifests)
    if ended.cause == "oom-killed-by-cap" and before is not None and soft_bytes is not None:
        loaded_bytes = state.checkpoint.size_bytes + BARE_KERNEL_BYTES
        if loaded_bytes > soft_bytes:
            because += (
                " The newest checkpoint would come back above the soft limit, so the one from "
                "before that cell was taken."
            )
            state = _State(before)
    return _restore(state, because, last, manifests, warnings)


def line_of(chosen: Plan, manifests: Sequence[Manifest], session_id: str) -> str:
    """A restore continues the restored checkpoint's line; a clean start begins one."""
    if chosen.kind == "restore":
        for manifest in manifests:
            if manifest.id == chosen.checkpoint:
                return manifest.line
    return session_id


def _restore(
    state: _State,
    because: str,
    last: Past,
    manifests: Sequence[Manifest],
    warnings: tuple[str, ...],
    step: int = 0,
) -> Plan:
    before = _before_cell(state.checkpoint, manifests)
    return Plan(
        "restore",
        because,
        checkpoint=state.checkpoint.id,
        leave_out=state.leave_out,
        step=step,
        death=last.exit.death,
        before_cell=before.id if before else None,
        warnings=warnings,
    )


# --- the ladder ---


def _counts_against_restore(ended: ExitMarker) -> bool:
    """A death while restoring, or before the first cell. Not one that came from outside,
    and not one before the restore had begun."""
    if ended.cells_started or ended.cause == "start-failed":
        return False
    return ended.cause not in _FROM_OUTSIDE


def _ladder(
    history: Sequence[Past],
    manifests: Sequence[Manifest],
    offer: str | None,
    warnings: tuple[str, ...],
) -> Plan:
    last = history[-1]
    tried, ended = last.session.plan, last.exit
    failed = tried.step + 1
    told = _told(last, while_restoring=True) + _died_before(history)
    attempted = _by_id(tried.checkpoint, manifests)
    unit = ended.restoring_unit
    leave_out = tried.leave_out
    if unit is not None and unit not in leave_out:
        leave_out = (*leave_out, unit)
    if failed in _CARE and attempted is not None and leave_out != tried.leave_out:
        care, words = _CARE[failed]
        because = f"{told} This time {_unit_words(unit)} is left out, and {words}."
        state = _State(attempted, leave_out)
        again = _restore(state, because, last, manifests, warnings, step=failed)
        return replace(again, care=care)
    if failed < STEPS:
        before = _checkpoint_before(tried.checkpoint, attempted, last, manifests)
        if before is not None:
            because = f"{told} This time the checkpoint before it is restored."
            return _restore(
                _State(before, leave_out), because, last, manifests, warnings, step=failed
            )
    because = f"{told} This start is clean, so that it cannot happen again."
    return Plan("clean", because, offer, step=failed, death=last.exit.death, warnings=warnings)


def _checkpoint_before(
    tried_id: str | None, tried: Manifest | None, last: Past, manifests: Sequence[Manifest]
) -> Manifest | None:
    line = tried.line if tried else last.session.line
    older = [
        m
        for m in manifests
        if m.line == line and m.id != tried_id and (tried is None or m.seq < tried.seq)
    ]
    return older[-1] if older else None


def _unit_words(unit: str | None) -> str:
    kind, _, name = (unit or "").partition(":")
    return f"`{name}`" if name and kind != "hidden" else f"the unit {unit}"


# --- which state ---


def _state_of(past: Past, manifests: Sequence[Manifest]) -> _State | None:
    """The newest state of a session: what it saved, else what it had been given."""
    saved = [m for m in manifests if m.session == past.session.id]
    if saved:
        return _State(saved[-1])
    given = past.session.plan
    if given.kind != "restore":
        return None
    manifest = _by_id(given.checkpoint, manifests)
    if manifest is not None:
        return _State(manifest, given.leave_out)
    of_line = [m for m in manifests if m.line == past.session.line]
    return _State(of_line[-1]) if of_line else None


def _offer(history: Sequence[Past], manifests: Sequence[Manifest]) -> Manifest | None:
    """The newest checkpoint of the line before a clean start.

    Clean starts that saved nothing are passed over: the day's work stays on offer.
    """
    full = [m for m in manifests if m.names]
    for past in reversed(history):
        of_line = [m for m in full if past.session.id == m.session or past.session.line == m.line]
        if of_line:
            return of_line[-1]
    # More clean starts than are remembered: a checkpoint that is still kept is still on offer.
    return full[-1] if full else None


def _before_cell(chosen: Manifest, manifests: Sequence[Manifest]) -> Manifest | None:
    """For a checkpoint inside a cell: the newest one from before that cell."""
    if not chosen.inside_cell:
        return None
    before = [
        m for m in manifests if m.line == chosen.line and m.seq < chosen.seq and not m.inside_cell
    ]
    return before[-1] if before else None


def _by_id(checkpoint: str | None, manifests: Sequence[Manifest]) -> Manifest | None:
    return next((m for m in manifests if m.id == checkpoint), None)


# --- words ---


def _told(last: Past, while_restoring: bool = False) -> str:
    """What ended the last session, as one sentence."""
    ended = last.exit
    cap: Cap | None = last.session.cap
    if ended.kind == "restart":
        return "You restarted the kernel."
    if ended.kind == "shutdown":
        return "The kernel was shut down."
    if ended.kind == "quit":
        return "You called exit()."
    if ended.kind == "hung":
        return "The kernel did not answer the restart and had to be killed."
    what = headline(ended.cause, cap, ended.signal, ended.exit_code)
    if ended.cause == "hung":  # a death: nobody had asked for a restart
        what = STOOD_STILL
    when = " while its state was being restored" if while_restoring else ""
    if while_restoring and ended.restore_done:
        when = " after its state had been restored and before a cell ran"
    return f"The kernel died{when}: {what}."


def _died_before(history: Sequence[Past]) -> str:
    """What the failed restores were for."""
    for past in reversed(history[:-1]):
        ended, was = past.exit, past.session.plan
        if ended.kind != "death":
            return ""
        if was.kind != "restore" or not _counts_against_restore(ended):
            what = headline(ended.cause, past.session.cap, ended.signal, ended.exit_code)
            return f" Before that it had died: {what}."
    return ""


def _again(history: Sequence[Past]) -> str:
    """That the last death was not the first of its kind, and what these have in common."""
    ended = history[-1].exit
    if ended.kind != "death":
        return ""
    cell, line = _deaths_in_same_cell(history), ended.same_deaths
    if cell > 1:
        row = "twice" if cell == 2 else f"{cell} times in a row"
        said = f"This cell has now killed the kernel {row}"
        if line == cell:
            said += ", of the same cause at the same line"
        elif line > 1:
            said += f", and it has died {repeated.times(line)} of this cause at this line"
    elif line > 1:
        said = f"The kernel has now died {repeated.times(line)} of this cause at this line"
    else:
        return ""
    return f"{said}. {repeated.common_words(ended.in_common)}".strip()


def _deaths_in_same_cell(history: Sequence[Past]) -> int:
    """How many deaths in a row, up to the last, happened in the same cell."""
    digest = history[-1].exit.cell_sha256
    if digest is None:
        return 0
    count = 0
    for past in reversed(history):
        ended = past.exit
        if ended.kind == "death" and not ended.cells_started:
            continue  # a failed restore in between
        if ended.kind != "death" or ended.cell_sha256 != digest:
            break
        if ended.cause not in _FROM_OUTSIDE:
            count += 1
    return count
