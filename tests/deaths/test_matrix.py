"""Kernels die of every cause, and each verdict is the right one and claims no more than is known.

The table is `cases`. Two kernels die at a time, each case once: what a death leaves is looked
at from all sides. `--matrix FILE` writes the verdicts as docs/deaths.md.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cases import CASES
from conftest import private_directories
from matrix import Case, Outcome, die, table

AT_A_TIME = 2
# What `make cgroup2` repeats: the verdicts that rest on counters, and one that does not.
IN_VM = (
    "own-cap-one-call",
    "sigkill-after-a-childs-oom-kill",
    "sigkill-by-somebody-in-a-cell",
    "null-read",
)

HEADING = """# Deaths, as measured

Written by `make deaths-matrix` ({when}, {kernel}, Python {python}): every row is a real kernel
that died in that way, and what its record says. `proof` and `likely` are the record's own
words: a verdict is proof, or says that it is not.

Not produced here, because it would endanger the machine: the system's own OOM killer, and a
userspace one. What is said about them from their evidence is tested in
`tests/unit/test_judge.py`. A hang that had to be killed is in `tests/deaths/test_hangs.py`.

"""


@pytest.fixture(scope="module")
def deaths(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Outcome]]]:
    """All cases that were selected and can be had here, under way."""
    root = tmp_path_factory.mktemp("deaths")
    names = {item.callspec.id for item in request.session.items if hasattr(item, "callspec")}
    chosen = [case for case in CASES if case.name in names]
    lacking = [(case, why) for case in chosen if (why := case.needs()) is not None]
    possible = [case for case in chosen if case not in [case for case, _ in lacking]]
    with pytest.MonkeyPatch.context() as monkeypatch, ThreadPoolExecutor(AT_A_TIME) as pool:
        private_directories(monkeypatch, root)
        monkeypatch.chdir(root)
        under_way = {case.name: pool.submit(die, case, root) for case in possible}
        yield under_way
        pool.shutdown(cancel_futures=True)
    target = request.config.getoption("--matrix", default=None)
    if target is not None:
        ended = [one for one in under_way.values() if one.done() and not one.cancelled()]
        _write(Path(target), [one.result() for one in ended if not one.exception()], lacking)


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=pytest.mark.vm) if case.name in IN_VM else case for case in CASES],
    ids=lambda case: case.name,
)
def test_the_death_is_named_with_its_evidence(
    case: Case, deaths: dict[str, Future[Outcome]]
) -> None:
    if (why := case.needs()) is not None:
        pytest.skip(why)
    outcome = deaths[case.name].result()
    record = outcome.record
    assert (record["cause"], record["confidence"]) == (case.cause, case.confidence), record
    witnessed = case.siginfo if platform.machine() == "x86_64" else ()
    for words in (*case.because, *witnessed):
        assert words in record["because"]
    if case.status is not None:
        assert outcome.status == case.status
    if case.line is not None:
        assert record["line"] == case.line
    if case.cell is not None and record["cell"] is not None:
        assert record["cell"] == len(case.first) + 1
        assert record["cell_running"]
        if case.line is not None:
            assert record["source"] == case.cell.splitlines()[case.line - 1].strip()
    if case.cell is None and case.scene is None:
        assert (record["cell_running"], record["line"]) == (False, None)


def _write(path: Path, outcomes: list[Outcome], lacking: list[tuple[Case, str]]) -> None:
    heading = HEADING.format(
        when=datetime.now(UTC).date(),
        kernel=f"Linux {platform.release()}",
        python=platform.python_version(),
    )
    path.write_text(heading + table(outcomes, lacking))
