"""Every class of the coverage table, over a real SIGKILL: back and working, or named with why.

Rows that need a library which is not installed are skipped and counted; `make coverage` installs
them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import all_rows
import coverage_run
import pytest
from all_rows import Placed
from coverage_run import Outcome
from harness.environment import Environment
from harness.server import JupyterServer, running

pytestmark = pytest.mark.timeout(900)  # the first row of a batch waits for all of it

_ROWS = all_rows.everything()
Outcomes = Callable[[Placed], Outcome]


@pytest.fixture(scope="module")
def coverage_server(
    jupyter_env: Environment, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[JupyterServer]:
    coverage_run.install(jupyter_env)
    with running(jupyter_env, tmp_path_factory.mktemp("coverage")) as server:
        yield server


@pytest.fixture(scope="module")
def outcome_of(request: pytest.FixtureRequest, coverage_server: JupyterServer) -> Outcomes:
    """Runs the batch of the row that is asked for, of the rows selected, unless it has run."""
    callspecs = [getattr(item, "callspec", None) for item in request.session.items]
    chosen = {spec.params["placed"] for spec in callspecs if spec and "placed" in spec.params}
    runnable = [p for p in _ROWS if p in chosen and not all_rows.missing(p.row)]
    batches = list(all_rows.batches(runnable))
    outcomes: dict[str, Outcome] = {}

    def outcome(placed: Placed) -> Outcome:
        if placed.row.title not in outcomes:
            batch = next(batch for batch in batches if placed in batch)
            outcomes.update(coverage_run.run(coverage_server, batch))
        return outcomes[placed.row.title]

    return outcome


def _skip_for_want_of(module: str) -> None:
    number = sum(module in all_rows.missing(placed.row) for placed in _ROWS)
    pytest.skip(f"{number} of {len(_ROWS)} rows need {module}: `make coverage` installs it")


@pytest.mark.parametrize("placed", _ROWS, ids=[placed.row.title for placed in _ROWS])
def test_it_comes_back_and_works_or_is_named(
    placed: Placed, request: pytest.FixtureRequest
) -> None:
    row = placed.row
    for module in all_rows.missing(row):
        _skip_for_want_of(module)
    outcome = request.getfixturevalue("outcome_of")(placed)
    as_expected = outcome.kind == row.expect and row.why_not in outcome.detail
    if not as_expected:
        wanted = f"named, because {row.why_not!r}" if row.expect == "named" else "back"
        pytest.fail(f"{outcome.kind.upper()}, not {wanted}: {outcome.detail}", pytrace=False)
