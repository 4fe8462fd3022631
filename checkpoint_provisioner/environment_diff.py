"""What changed between two environments, as a death's record says it. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from checkpoint_kernel.environment import State
from checkpoint_kernel.environment_reader import canonical


def changes(
    before: State,
    after: State,
    python_before: str | None = None,
    python_after: str | None = None,
) -> dict[str, Any]:
    """`environment_changes` of a death's record; its parts are empty where nothing has changed.

    {"since": ISO time of `before`, "python": [old, new] | None,
     "added": {name: version}, "removed": {name: version}, "changed": {name: [old, new]},
     "conda_revision": [old, new] | None}

    Packages of conda that are none of Python's are among them. One that was built differently
    has its build beside the version: another BLAS may have the same version. A version of Python
    that is not known counts as unchanged.
    """
    old, new = _versions(before, after), _versions(after, before)
    known = python_before is not None and python_after is not None
    return {
        "since": datetime.fromtimestamp(before.time, UTC).isoformat(timespec="milliseconds"),
        "python": _pair(python_before, python_after) if known else None,
        "added": {new[key][0]: new[key][1] for key in sorted(new.keys() - old.keys())},
        "removed": {old[key][0]: old[key][1] for key in sorted(old.keys() - new.keys())},
        "changed": {
            new[key][0]: [old[key][1], new[key][1]]
            for key in sorted(old.keys() & new.keys())
            if old[key][1] != new[key][1]
        },
        "conda_revision": _pair(before.conda_revision, after.conda_revision),
    }


def is_empty(found: dict[str, Any]) -> bool:
    """Whether nothing has changed."""
    return not any(found[part] for part in found if part != "since")


def _versions(state: State, other: State) -> dict[str, tuple[str, str]]:
    """Canonical name -> name and version. What conda calls as Python does is there once."""
    builds = {one.name: (one.version, one.build) for one in other.conda}
    found = {}
    for one in state.conda:
        version, build = builds.get(one.name, (None, None))
        rebuilt = version == one.version and build != one.build
        said = f"{one.version} (build {one.build})" if rebuilt else one.version
        found[canonical(one.name)] = (one.name, said)
    for name, version in state.packages.items():
        in_conda = found.get(canonical(name))
        if in_conda is None or not in_conda[1].startswith(f"{version} (build "):
            found[canonical(name)] = (name, version)
    return found


def _pair(old: Any, new: Any) -> list[Any] | None:
    return None if old == new else [old, new]
