"""Which package to pin after a crash in compiled code, from what changed before it. Pure."""

from __future__ import annotations

import re
from typing import Any

FEW = 3  # changes that are few enough to name them all
# A package of conda that has the same version, built differently.
_BUILD = re.compile(r"(?P<version>\S+) \(build (?P<build>\S+)\)")
# Distributions that are imported under another name.
_IMPORTED_AS = {
    "attrs": "attr",
    "beautifulsoup4": "bs4",
    "faiss_cpu": "faiss",
    "faiss_gpu": "faiss",
    "opencv_contrib_python": "cv2",
    "opencv_python": "cv2",
    "opencv_python_headless": "cv2",
    "pillow": "PIL",
    "pytorch": "torch",
    "pyyaml": "yaml",
    "pyzmq": "zmq",
    "scikit_image": "skimage",
    "scikit_learn": "sklearn",
    "tensorflow_cpu": "tensorflow",
}


def advice(changes: dict[str, Any] | None, stack: str, source: str) -> str | None:
    """What to pin: a package on the stack first, then one that the cell names, then the few.

    `changes`: as `environment_changes` in the record. `stack`: Python's and native ones.
    `source`: of the cell. None where nothing changed that could be the cause.
    """
    if not isinstance(changes, dict):
        return None
    found = on_stack(changes, stack)
    if found is not None:
        return found
    before, revision = _versions_before(changes), _conda_revision_before(changes)
    named = [name for name in before if _is_named(source, name)]
    if named:
        return _pin(named, changes, "and is used in the cell")
    if before and len(before) <= FEW:
        return _pin(list(before), changes, "")
    if revision is not None:
        return (
            "Go back to the packages of the last healthy session: "
            f"`conda install --revision {revision}`."
        )
    versions = changes.get("python")
    if isinstance(versions, list) and len(versions) == 2:
        return (
            f"Reinstall the compiled packages for Python {versions[1]}, or go back to "
            f"{versions[0]}, with which the last healthy session ran."
        )
    return None


def on_stack(changes: dict[str, Any] | None, stack: str) -> str | None:
    """What to pin of that which changed and stands on this stack; None where nothing does."""
    if not isinstance(changes, dict):
        return None
    names = [name for name in _versions_before(changes) if _is_on(stack, name)]
    return _pin(names, changes, "and stands on the stack") if names else None


def _conda_revision_before(changes: dict[str, Any]) -> int | None:
    """Set where conda changed the environment: what changed is then its to change back."""
    revisions = changes.get("conda_revision")
    found = revisions[0] if isinstance(revisions, list) and revisions else None
    return found if isinstance(found, int) else None


def _versions_before(changes: dict[str, Any]) -> dict[str, str]:
    """Packages that have another version now, or are gone, with the version that worked."""
    changed, removed = changes.get("changed"), changes.get("removed")
    before: dict[str, str] = {}
    if isinstance(changed, dict):
        before |= {n: str(v[0]) for n, v in changed.items() if isinstance(v, list) and len(v) == 2}
    if isinstance(removed, dict):
        before |= {name: str(version) for name, version in removed.items()}
    return before


def _pin(names: list[str], changes: dict[str, Any], where: str) -> str:
    before = _versions_before(changes)
    shown = {name: _BUILD.fullmatch(before[name]) for name in names[:FEW]}
    by_conda = _conda_revision_before(changes) is not None
    pins = " ".join(
        _spec(name, before[name], match, by_conda or match is not None)
        for name, match in shown.items()
    )
    tool = "conda install" if by_conda or any(shown.values()) else "pip install"
    what = "the package that has" if len(names) == 1 else "the packages that have"
    where = f" {where}" if where and len(names) == 1 else ""
    return f"Pin {what} changed since the last healthy session{where}: `{tool} {pins}`."


def _spec(name: str, version: str, built: re.Match[str] | None, by_conda: bool) -> str:
    if built is not None:
        return f"{name}={built['version']}={built['build']}"
    return f"{name}={version}" if by_conda else f"{name}=={version}"


def _imported_as(name: str) -> str:
    plain = re.sub(r"[-_.]+", "_", name).lower()
    return _IMPORTED_AS.get(plain, plain)


def _is_on(stack: str, name: str) -> bool:
    """As a directory or a module of it: .../site-packages/numpy/core/x.py, numpy.libs/x.so."""
    found = re.escape(_imported_as(name))
    return bool(re.search(rf"[/\\]{found}(?:[/\\]|\.(?:libs|py|abi3|cpython))", stack, re.I))


def _is_named(source: str, name: str) -> bool:
    return bool(re.search(rf"\b{re.escape(_imported_as(name))}\b", source))
