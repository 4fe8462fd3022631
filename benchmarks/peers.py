"""Who is compared: how each peer's kernel starts, saves after a cell, and comes back.

The peers are driven as their own documentation does; what is measured is the same for all.
kishu and CRIU, which need an installation of their own, are `peer_kishu` and `peer_criu`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from harness.environment import KERNEL_NAME, Environment
from kernels import Kernel, Start

STOCK = "python3"
HERE = Path(__file__).resolve().parent
OURS = "checkpoint-kernel"
OURS_NO_DIRTY_PAGES = "checkpoint-kernel, dirty pages off"


class Peer:
    """Stock: nothing is saved. The other peers say where they differ."""

    name = "stock (a second one)"
    background = False  # works on when the reply is there
    saves = False
    rewrites = False  # one file, written whole each time; otherwise files only grow

    def __init__(self, environment: Environment, directory: Path) -> None:
        self.environment = environment
        self.directory = directory  # for this peer's files; empty
        self._sizes: dict[Path, tuple[int, int]] = {}
        self._written = 0
        self.own_processor_s = 0.0  # of processes that are neither the kernel nor its children

    # --- kernels ------------------------------------------------------------------------

    def variables(self) -> Mapping[str, str]:
        """The environment of its kernels."""
        return self.environment.variables

    def stock(self) -> Start:
        """The kernel that it is compared with: the same without the peer."""
        return Start(STOCK, self.environment.variables)

    def start(self) -> Start:
        """Its own kernel."""
        return Start(STOCK, self.variables())

    def attach(self, kernel: Kernel) -> None:
        """Make it save from now on, in a new kernel."""

    def after_cell(self, kernel: Kernel) -> None:
        """What somebody does after each cell, the user waiting."""

    def start_again(self, kernel: Kernel) -> None:
        """A dead kernel lives again, its variables not yet usable."""
        kernel.start_again()

    def bring_back(self, kernel: Kernel) -> None:
        """Make the variables usable; CellFailed if that fails."""

    def clear(self) -> None:
        """Remove what lies outside `directory`."""

    # --- what it writes -----------------------------------------------------------------

    def files(self) -> Iterable[Path]:
        """The files that it keeps its checkpoints in."""
        return (path for path in self.directory.rglob("*") if path.is_file())

    def written(self) -> int:
        """Bytes written so far; to be called after each cell, as files are replaced."""
        for path in self.files():
            try:
                facts = path.stat()
            except FileNotFoundError:
                continue
            size, changed = self._sizes.get(path, (0, 0))
            if self.rewrites and facts.st_mtime_ns != changed:
                self._written += facts.st_size
            elif not self.rewrites:
                self._written += max(0, facts.st_size - size)
            self._sizes[path] = (facts.st_size, facts.st_mtime_ns)
        return self._written


class Ours(Peer):
    """This product, as `jupyter checkpoint install` sets it up."""

    name = OURS
    background = True
    saves = True
    kernelspec = KERNEL_NAME

    def start(self) -> Start:
        return Start(self.kernelspec, self.variables())

    def files(self) -> Iterable[Path]:
        for path in self.environment.store.rglob("*"):
            inner = path.relative_to(self.environment.store).parts[1:]
            # The flight recorder and other records do not grow with the work.
            if inner and inner[0] in ("segments", "manifests") and not path.name.startswith("."):
                yield path

    def clear(self) -> None:
        # Best effort: the next run has a notebook of its own.
        import shutil

        shutil.rmtree(self.environment.store, ignore_errors=True)


class OursNoDirtyPages(Ours):
    """The same where the system cannot say which pages were written to."""

    name = OURS_NO_DIRTY_PAGES

    def variables(self) -> Mapping[str, str]:
        return {**super().variables(), "CHECKPOINT_KERNEL_DIRTY_PAGES": "off"}


class Dill(Peer):
    """`dill.dump_module` after each cell."""

    name = "dill"
    saves = True
    rewrites = True

    @property
    def _path(self) -> str:
        return str(self.directory / "session.pkl")

    def attach(self, kernel: Kernel) -> None:
        kernel.hidden(f"__import__('bench_hooks').after_each_cell({self.name!r}, {self._path!r})")

    def bring_back(self, kernel: Kernel) -> None:
        kernel.hidden(f"__import__('bench_hooks').load({self.name!r}, {self._path!r})")

    def files(self) -> Iterable[Path]:
        return [Path(self._path)]


class Cloudpickle(Dill):
    """`cloudpickle.dump` of the whole namespace after each cell."""

    name = "cloudpickle"
