"""`make coverage`: all rows in real kernels, the same rows by the peers, and docs/coverage.md.

With `--group GROUP` (may be repeated) only those groups, printed instead of written.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import all_rows  # noqa: E402
import coverage_page  # noqa: E402
import coverage_peers  # noqa: E402
import coverage_run  # noqa: E402
from all_rows import Placed  # noqa: E402
from coverage_run import Outcome  # noqa: E402
from harness.environment import Environment, jupyter_directories  # noqa: E402
from harness.server import running  # noqa: E402

PAGE = HERE.parent.parent / "docs" / "coverage.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--group", action="append", help="only this one, and only print it")
    groups = parser.parse_args().group
    rows = [p for p in all_rows.everything() if groups is None or p.row.group in groups]
    runnable = [placed for placed in rows if not all_rows.missing(placed.row)]
    outcomes = _ours(runnable)
    print("The peers ...", file=sys.stderr, flush=True)
    with ThreadPoolExecutor() as pool:
        answers = pool.map(lambda tool: coverage_peers.run(tool, runnable), coverage_peers.TOOLS)
        peers = dict(zip(coverage_peers.TOOLS, answers, strict=True))
    text = coverage_page.text(rows, outcomes, peers)
    if groups is None:
        PAGE.write_text(text)
        print(f"{PAGE}: {coverage_page.totals(rows, outcomes)}")
    else:
        print(text)
    unlike = [placed.row.title for placed in runnable if not _right(placed, outcomes)]
    if unlike:
        sys.exit(f"not as the rows say: {', '.join(unlike)}")


def _right(placed: Placed, outcomes: dict[str, Outcome]) -> bool:
    return outcomes[placed.row.title].kind == placed.row.expect


def _ours(rows: list[Placed]) -> dict[str, Outcome]:
    outcomes: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory(prefix="checkpoint-kernel-coverage-") as root:
        os.environ.update(jupyter_directories(Path(root)))
        environment = Environment(Path(root))
        environment.install()
        coverage_run.install(environment)
        with running(environment, Path(root) / "notebooks") as server:
            for batch in all_rows.batches(rows):
                print(
                    f"{batch[0].row.group}: {len(batch)} rows, from {batch[0].row.title!r}",
                    file=sys.stderr, flush=True,
                )  # fmt: skip
                try:
                    outcomes |= coverage_run.run(server, batch)
                except AssertionError as why:  # a kernel that did not come back
                    failed = Outcome("error", f"the kernel of its batch: {str(why)[:300]}")
                    outcomes |= {placed.row.title: failed for placed in batch}
    return outcomes


if __name__ == "__main__":
    main()
