"""The text of docs/coverage.md, from outcomes. Pure but for asking which versions are installed."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from importlib import metadata

import all_rows
import same_class
from all_rows import Placed
from coverage_run import Outcome

_HEAD = """\
# What comes back

Written by `make coverage`; do not edit. Each class below was made in a real kernel, saved, the
kernel killed by SIGKILL, and used again after the restore: "back" means that it works, not only
that it is equal. "partly" is back but for a part that is named, and whose use says why it is
gone. "named" is not back, and the status before the death and the notice after it both say so,
with the reason. Nothing may be anything else: missing in silence (LOST) and there but not working
(BROKEN) are defects.

Beside it, whether `dill` and `cloudpickle` alone bring the same class back in a fresh process
that has the same imports, so that it passes the same check. They save one object when asked to;
neither names what it cannot save. Checks of classes that end with their process (a file, a lock)
ask for what this kernel promises of them.
"""


def totals(rows: Sequence[Placed], outcomes: dict[str, Outcome]) -> str:
    """`240 of 250 classes come back and work (96.0 %), 10 are named with their reason`"""
    ran = [outcomes[p.row.title] for p in rows if p.row.title in outcomes]
    back = [outcome for outcome in ran if outcome.kind == "back"]
    named = sum(outcome.kind == "named" for outcome in ran)
    partly = sum(bool(outcome.partly) for outcome in back)
    words = [
        f"{len(back)} of {len(ran)} classes come back and work ({_percent(len(back), len(ran))})"
        + (f", {partly} of them but for a part that is named" if partly else ""),
        f"{named} are named with their reason",
    ]
    for kind in ("lost", "broken", "error"):
        if number := sum(outcome.kind == kind for outcome in ran):
            words.append(f"{number} {kind.upper()}")
    if left := len(rows) - len(ran):
        words.append(f"{left} were not run, for want of a library")
    return ", ".join(words)


def text(
    rows: Sequence[Placed], outcomes: dict[str, Outcome], peers: dict[str, dict[str, str]]
) -> str:
    """The whole page. `peers`: by tool, what went wrong with each row; empty where nothing did."""
    ran = [placed for placed in rows if placed.row.title in outcomes]
    parts = [_HEAD, f"**{totals(rows, outcomes)}.**\n", _in_other_states(outcomes)]
    summary = []
    for tool, wrong in peers.items():
        good = sum(not wrong[placed.row.title] for placed in ran)
        summary.append(f"`{tool}` alone: {good} of {len(ran)} ({_percent(good, len(ran))})")
    parts.append(f"{'; '.join(summary)}.\n")
    parts.append(_versions(ran))
    groups = dict.fromkeys(placed.row.group for placed in rows)
    parts.append(_summary(groups, ran, outcomes, peers))
    parts += [_group(group, ran, outcomes, peers) for group in groups]
    if left := [placed for placed in rows if placed not in ran]:
        needs = sorted({name for placed in left for name in all_rows.missing(placed.row)})
        parts.append(f"Not run: {len(left)} rows that need {', '.join(needs)}.\n")
    return "\n".join(part for part in parts if part)


def _in_other_states(outcomes: dict[str, Outcome]) -> str:
    states = [title for title in same_class.OTHERWISE if _comes_back_otherwise(title, outcomes)]
    back = sum(outcome.kind == "back" for outcome in outcomes.values())
    number = len(outcomes) - len(states)
    return (
        f"{len(states)} of those named are of a class that comes back in another state, which "
        f"their reason names; without these rows it is {back} of {number} "
        f"({_percent(back, number)}).\n"
    )


def _comes_back_otherwise(title: str, outcomes: dict[str, Outcome]) -> bool:
    other = same_class.OTHERWISE.get(title)
    kinds = [outcomes[one].kind for one in (title, other) if one in outcomes]
    return kinds == ["named", "back"]


def _summary(
    groups: Iterable[str],
    ran: Sequence[Placed],
    outcomes: dict[str, Outcome],
    peers: dict[str, dict[str, str]],
) -> str:
    lines = [_line("group", "classes", "back", "named", *peers), _line(*["---"] * (4 + len(peers)))]
    for group in groups:
        titles = [placed.row.title for placed in ran if placed.row.group == group]
        kinds = [outcomes[title].kind for title in titles]
        good = [sum(not wrong[title] for title in titles) for wrong in peers.values()]
        if titles:
            lines.append(
                _line(group, len(titles), kinds.count("back"), kinds.count("named"), *good)
            )
    return "\n".join(lines) + "\n"


def _group(
    group: str,
    ran: Sequence[Placed],
    outcomes: dict[str, Outcome],
    peers: dict[str, dict[str, str]],
) -> str:
    rows = [placed for placed in ran if placed.row.group == group]
    if not rows:
        return ""
    lines = [f"## {group}\n", _line("class", "outcome", *peers, "reason"),
             _line(*["---"] * (3 + len(peers)))]  # fmt: skip
    for placed in rows:
        title, outcome = placed.row.title, outcomes[placed.row.title]
        theirs = ["no" if wrong[title] else "yes" for wrong in peers.values()]
        kind = outcome.kind if outcome.kind in ("back", "named") else outcome.kind.upper()
        reason = outcome.detail.splitlines()[0] if outcome.detail else outcome.partly
        reason = reason.partition("; made in In[")[0].partition(" made in In[")[0]
        if _comes_back_otherwise(title, outcomes):
            reason += f" (back: {same_class.OTHERWISE[title]})"
        lines.append(_line(title, "partly" if outcome.partly else kind, *theirs, reason))
    return "\n".join(lines) + "\n"


def _line(*cells: object) -> str:
    words = [" ".join(str(cell).split()).replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(words)} |"


def _versions(ran: Sequence[Placed]) -> str:
    modules = sorted({name.partition(".")[0] for placed in ran for name in placed.row.needs})
    owners = metadata.packages_distributions()
    names = ["dill", "cloudpickle", *(owners[m][0] for m in modules if m in owners)]
    libraries = [f"{name} {metadata.version(name)}" for name in dict.fromkeys(names)]
    return (
        f"Python {platform.python_version()}, {platform.system()} {platform.release()}; "
        f"{', '.join(libraries)}.\n"
    )


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"
