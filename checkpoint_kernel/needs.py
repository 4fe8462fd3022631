"""What a unit needs that is not here: packages that are missing, or of other versions.

Compares what a checkpoint's session ran with (its environment.json) with what is installed now.
Nothing is imported. What is loaded, and when, is `restore`'s.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from . import environment
from .contract import ENVIRONMENT_FILE, ENVIRONMENTS, SESSIONS
from .environment_reader import canonical, name_and_version

# Modules whose package has another name.
_PACKAGE_OF: Final = {
    "PIL": "pillow", "bs4": "beautifulsoup4", "cv2": "opencv-python", "dateutil": "python-dateutil",
    "fitz": "PyMuPDF", "google": "protobuf", "igraph": "python-igraph", "lightning_fabric":
    "lightning", "skimage": "scikit-image", "sklearn": "scikit-learn", "yaml": "PyYAML",
    "Bio": "biopython", "osgeo": "GDAL", "faiss": "faiss-cpu", "umap": "umap-learn",
    "hydra": "hydra-core", "attr": "attrs", "zmq": "pyzmq", "serial": "pyserial",
}  # fmt: skip


class MissingName(AttributeError):
    """A module has no such name (any more); `module` is the module's."""

    def __init__(self, module: str, name: str) -> None:
        super().__init__(f"{module} has no {name} here")
        self.module = module


@dataclass(frozen=True)
class Version:
    """A package as it was when a checkpoint was made, and as it is."""

    package: str  # as it spells itself
    saved: str
    here: str | None  # None: not installed

    @property
    def said(self) -> str:
        """`pandas 2.1.4, here 3.0.1`"""
        return f"{self.package} {self.saved}, here {self.here or 'not installed'}"

    @property
    def remedy(self) -> str:
        """How to have it as it was."""
        return f"pip install {self.package}=={self.saved}"


@dataclass(frozen=True)
class SavedWith:
    """The packages that a session had: canonical name -> (name, version). Empty: not on record."""

    packages: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    _known: dict[str, Version | None] = field(default_factory=dict, compare=False)

    def version_of(self, module: str) -> Version | None:
        """The package that a module belongs to; None where none is on record for it."""
        top = module.partition(".")[0]
        if top not in self._known:
            self._known[top] = self._version_of(top)
        return self._known[top]

    def _version_of(self, top: str) -> Version | None:
        found = self.packages.get(canonical(_PACKAGE_OF.get(top, top)))
        if found is None and top in self._installed_as:
            found = self.packages.get(canonical(self._installed_as[top]))
        return None if found is None else Version(*found, installed(found[0], top, found[1]))

    def others(self, modules: Iterable[str]) -> list[Version]:
        """The packages of these modules that are of another version now, by name."""
        tops = {module.partition(".")[0] for module in modules} - sys.stdlib_module_names
        tops -= {"__main__", "checkpoint_kernel", "cloudpickle", "dill"}
        known = [top for top in tops if canonical(_PACKAGE_OF.get(top, top)) in self.packages]
        found = [version for top in sorted(known) if (version := self.version_of(top))]
        return [version for version in found if version.here != version.saved]

    def uses(self, package: str, modules: Iterable[str]) -> bool:
        """Whether one of these modules is of that package."""
        tops = {module.partition(".")[0] for module in modules}
        return any(canonical(_PACKAGE_OF.get(top, top)) == canonical(package) for top in tops)

    @cached_property
    def _installed_as(self) -> Mapping[str, str]:
        """Top-level module -> a package that brings it; looked up only where something failed."""
        from importlib import metadata

        try:
            return {top: names[0] for top, names in metadata.packages_distributions().items()}
        except Exception:  # metadata of other people's packages may hold anything
            return {}


def saved_with(notebook_directory: Path, session: str) -> SavedWith:
    """What a session had. Nothing, if that is not on record or cannot be read."""
    for path in (
        notebook_directory / SESSIONS / session / ENVIRONMENT_FILE,
        notebook_directory / ENVIRONMENTS / f"{session}.json",
    ):
        try:
            found = environment.load(path)
        except (OSError, ValueError, TypeError, KeyError):
            continue
        if found is not None:
            packages = found.now.packages.items()
            return SavedWith({canonical(name): (name, version) for name, version in packages})
    return SavedWith()


def installed(package: str, module: str = "", likely: str | None = None) -> str | None:
    """The version of a package that an import would find; None if it is not installed.

    `module`: if that is imported and says that it is of the version `likely`, this is believed.
    """
    said = getattr(sys.modules.get(module), "__version__", None)
    if isinstance(said, str) and said == likely:
        return said
    from importlib import metadata

    try:
        return name_and_version(metadata.distribution(package))[1]
    except Exception:  # not installed, or with metadata that nobody can read
        return None


def absent(why: ModuleNotFoundError, saved: SavedWith) -> tuple[str, str | None]:
    """Reason and remedy where a module cannot be imported."""
    name = why.name or "?"
    version = saved.version_of(name)
    if version is not None and version.here is not None and "." in name:
        return f"{version.package} {version.here} has no module {name}: {_was(version)}", (
            version.remedy if version.here != version.saved else None
        )
    if version is not None:
        return f"the package {name} is not installed ({_was(version)})", version.remedy
    return f"the package {name} is not installed", None


def other(why: BaseException, modules: Iterable[str], saved: SavedWith) -> tuple[str, str | None]:
    """Reason and remedy where loading failed: what was of another version may be why."""
    if isinstance(why, MissingName):
        version = saved.version_of(why.module)
        if version is None or version.here == version.saved:
            return str(why), None
        return f"{why}: {_was(version)}, here is {version.here}", version.remedy
    text = f"loading it failed: {type(why).__name__}: {why}"
    others = saved.others(modules)
    if not others:
        return text, None
    were = "; ".join(version.said for version in others)
    installs = " ".join(f"{version.package}=={version.saved}" for version in others)
    return f"{text} (it was saved with {were})", f"pip install {installs}"


def _was(version: Version) -> str:
    return f"it was saved with {version.package} {version.saved}"
