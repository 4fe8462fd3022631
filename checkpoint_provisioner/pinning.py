"""Which package to pin after a crash in compiled code, from what changed before it. Pure."""

from __future__ import annotations

import re
from typing import Any

FEW = 3  # changes that are few enough to name them all
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
    before = _versions_before(changes)
    on_stack = [name for name in before if _is_on(stack, name)]
    if on_stack:
        return _pin(on_stack, before, "and stands on the stack")
    named = [name for name in before if _is_named(source, name)]
    if named:
        return _pin(named, before, "and is used in the cell")
    if before and len(before) <= FEW:
        return _pin(list(before), before, "")
    revisions = changes.get("conda_revision")
    if isinstance(revisions, list) and len(revisions) == 2 and isinstance(revisions[0], int):
        return (
            "Go back to the packages of the last healthy session: "
            f"`conda install --revision {revisions[0]}`."
        )
    return None


def _versions_before(changes: dict[str, Any]) -> dict[str, str]:
    """Packages that have another version now, or are gone, with the version that worked."""
    changed, removed = changes.get("changed"), changes.get("removed")
    before: dict[str, str] = {}
    if isinstance(changed, dict):
        before |= {n: str(v[0]) for n, v in changed.items() if isinstance(v, list) and len(v) == 2}
    if isinstance(removed, dict):
        before |= {name: str(version) for name, version in removed.items()}
    return before


def _pin(names: list[str], before: dict[str, str], where: str) -> str:
    pins = " ".join(f"{name}=={before[name]}" for name in names[:FEW])
    what = "the package that has" if len(names) == 1 else "the packages that have"
    where = f" {where}" if where and len(names) == 1 else ""
    return f"Pin {what} changed since the last healthy session{where}: `pip install {pins}`."


def _imported_as(name: str) -> str:
    plain = re.sub(r"[-_.]+", "_", name).lower()
    return _IMPORTED_AS.get(plain, plain)


def _is_on(stack: str, name: str) -> bool:
    """As a directory or a module of it: .../site-packages/numpy/core/x.py, numpy.libs/x.so."""
    found = re.escape(_imported_as(name))
    return bool(re.search(rf"[/\\]{found}(?:[/\\]|\.(?:libs|py|abi3|cpython))", stack, re.I))


def _is_named(source: str, name: str) -> bool:
    return bool(re.search(rf"\b{re.escape(_imported_as(name))}\b", source))
