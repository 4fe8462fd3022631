"""What a session ran with as a file that makes it again: requirements.txt, environment.yml. Pure.

requirements.txt is for pip (its "Requirements File Format"), environment.yml for conda and its kin
(`conda env create`). What neither can get again, such as a checkout on this machine, is a comment.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from checkpoint_kernel.environment import CondaPackage, Environment

from . import environment_diff

# The channel of an environment.yml without conda: python itself has to come from somewhere.
_DEFAULT_CHANNEL = "conda-forge"
# `pip freeze` leaves it out too: whoever reads the file has one.
_NOT_LISTED = ("pip",)
_NAME = re.compile(r"[A-Z0-9]([A-Z0-9._-]*[A-Z0-9])?", re.IGNORECASE)  # PEP 508
_VERSION = re.compile(  # PEP 440, appendix B
    r"v?(\d+!)?\d+(\.\d+)*([-_.]?(a|b|c|rc|alpha|beta|pre|preview)[-_.]?\d*)?"
    r"(-\d+|[-_.]?(post|rev|r)[-_.]?\d*)?([-_.]?dev[-_.]?\d*)?(\+[a-z0-9]+([-_.][a-z0-9]+)*)?",
    re.IGNORECASE,
)
_WORDS_OF_YAML = ("y", "n", "yes", "no", "on", "off", "true", "false", "null")
_PLAIN_IN_YAML = re.compile(r"[A-Za-z][\w./@=+!-]*")  # needs no quotes, and is no number


def requirements_txt(environment: Environment) -> str:
    """For `pip install -r`: each package pinned, or at the address that it came from."""
    lines = [_comment(line) for line in _header(environment)]
    lines += [line for _, line in _requirements(environment, environment.now.packages)]
    return "\n".join([*lines, ""])


def environment_yml(environment: Environment) -> str:
    """For `conda env create -f`: conda's packages by version, the others in a section for pip."""
    now, python = environment.now, environment.python
    conda = {one.name: one.version for one in now.conda}
    version = conda.pop("python", None) or python.version
    by_conda = set(environment.by_conda)
    of_pip = [name for name in now.packages if name not in by_conda]
    conda.setdefault("pip", "")
    lines = [_comment(line) for line in _header(environment)]
    lines += [f"name: {_scalar(_name(environment))}", "channels:"]
    lines += [f"  - {_scalar(channel)}" for channel in _channels(now.conda)]
    lines += ["dependencies:"]
    lines += [f"  - {_scalar(f'python={version}' if version else 'python')}"]
    lines += [
        f"  - {_scalar(f'{name}={its_version}' if its_version else name)}"
        for name, its_version in sorted(conda.items())
    ]
    section = list(_requirements(environment, of_pip))
    if any(installable for installable, _ in section):
        lines.append("  - pip:")
    for installable, line in section:
        lines.append(f"    - {_scalar(line)}" if installable else f"    {line}")
    return "\n".join([*lines, ""])


def _header(environment: Environment) -> Iterator[str]:
    python, now = environment.python, environment.now
    yield f"What session {environment.session} ran with, as of {_utc(now.time)}."
    yield f"Notebook: {environment.notebook or 'not known'}"
    implementation = python.implementation or "Python"
    yield f"{implementation} {python.version or '(version not known)'}, {python.platform}"
    yield f"Environment: {python.prefix}"
    if now.conda_revision is not None:
        yield f"conda revision: {now.conda_revision}"
    if environment.at_start is not None:
        changed = environment_diff.changes(environment.at_start, now)
        parts = {part: changed[part] for part in ("added", "removed", "changed")}
        names = [name for part in parts.values() for name in part]
        yield f"Changed since the session began: {', '.join(sorted(names)) or 'conda only'}"
    yield from environment.notes


def _requirements(environment: Environment, names: Any) -> Iterator[tuple[bool, str]]:
    """(whether pip can install it, the line) for each package."""
    for name in sorted(names, key=str.lower):
        if name in _NOT_LISTED:
            continue
        version = environment.now.packages[name]
        origin = environment.origins.get(name)
        if not _NAME.fullmatch(name):
            yield False, _comment(f"{name} {version}: not a name that pip takes")
        elif origin is not None:
            yield _from_origin(name, version, origin)
        elif not _VERSION.fullmatch(version):
            yield False, _comment(f"{name} {version}: not a version that pip takes")
        else:
            yield True, f"{name}=={version}"


def _from_origin(name: str, version: str, origin: dict[str, Any]) -> tuple[bool, str]:
    """`name @ address` by PEP 610 and PEP 508; a comment for what lies on that machine only."""
    url = str(origin["url"])
    vcs, directory, archive = (origin.get(f"{kind}_info") for kind in ("vcs", "dir", "archive"))
    if isinstance(vcs, dict) and {"vcs", "commit_id"} <= vcs.keys():
        url = f"{vcs['vcs']}+{url}@{vcs['commit_id']}"
    elif url.startswith("file:"):
        editable = isinstance(directory, dict) and directory.get("editable")
        how = "installed for editing (pip install -e)" if editable else "installed"
        return False, _comment(f"{name} {version}: {how} from {url}")
    fragments = []
    if isinstance(archive, dict) and (digest := _digest(archive)):
        fragments.append(digest)
    if origin.get("subdirectory"):
        fragments.append(f"subdirectory={origin['subdirectory']}")
    if re.search(r"\s", url):
        return False, _comment(f"{name} {version}: from {url}")
    return True, f"{name} @ {url}" + (f"#{'&'.join(fragments)}" if fragments else "")


def _digest(archive: dict[str, Any]) -> str | None:
    hashes = archive.get("hashes")
    if isinstance(hashes, dict) and "sha256" in hashes:
        return f"sha256={hashes['sha256']}"
    return str(archive["hash"]) if archive.get("hash") else None


def _comment(said: str) -> str:
    """One line, whatever was said: a second one would be an instruction to pip."""
    return f"# {' '.join(said.split())}"


def _name(environment: Environment) -> str:
    return Path(environment.python.prefix).name.strip(".") or "notebook"


def _channels(conda: tuple[CondaPackage, ...]) -> list[str]:
    """The channels that packages came from, those with most packages first."""
    names = [_channel(one.channel) for one in conda if one.channel]
    return sorted(set(names), key=lambda one: (-names.count(one), one)) or [_DEFAULT_CHANNEL]


def _channel(channel: str) -> str:
    """As environment.yml says it: conda-forge, defaults, or an address without the platform."""
    address = re.sub(r"/(noarch|(linux|osx|win|emscripten|freebsd)-[\w]+)/?$", "", channel)
    address = address.rstrip("/")
    if re.fullmatch(r"https?://repo\.(anaconda|continuum)\.(com|io)/pkgs/\w+", address):
        return "defaults"
    if re.fullmatch(r"pkgs/\w+", address):
        return "defaults"
    return re.sub(r"^https?://conda\.anaconda\.org/", "", address)


def _scalar(text: str) -> str:
    """A string in YAML; JSON's are YAML's (YAML 1.2, section 1.3)."""
    plain = _PLAIN_IN_YAML.fullmatch(text) and text.lower() not in _WORDS_OF_YAML
    return text if plain else json.dumps(text, ensure_ascii=False)


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
