"""Random notebooks: the cells of a plan make what the whole notebook had made."""

from __future__ import annotations

import random
import types
from typing import Any

import pytest

from checkpoint_kernel import provenance, rebuild_plan

pytestmark = pytest.mark.unit

NAMES = ("a", "b", "c", "d")
FUNCTIONS = ("f", "g")


def a_cell(chance: random.Random) -> str:
    """One to three statements about a few names."""
    return "\n".join(a_statement(chance) for _ in range(chance.randint(1, 3)))


def a_statement(chance: random.Random) -> str:
    x, y, z = (chance.choice(NAMES) for _ in range(3))
    f, n = chance.choice(FUNCTIONS), chance.randint(0, 9)
    return chance.choice(
        (
            f"{x} = [{n}]",
            f"{x} = {y} + [{n}]",
            f"{x} = {f}({y}) + [{n}]",
            f"{x} = [i + {n} for i in {y}] + {z}",
            f"{x} = {y}",
            f"{x}.append({n})",
            f"{x} += {y}[:2]",
            f"{x}[:1] = [{n}]",
            f"if len({x}) > 3:\n    {y} = [{n}]",
            f"for i in {y}[:2]:\n    {x}.append(i)",
            f"try:\n    {x} = {y}[:3] + [{n} // ({n} % 2)]\nexcept ZeroDivisionError:\n"
            f"    {x} = list({z})",
            f"def {f}(v):\n    return v[:2] + {y}[-1:]",
            f"def {f}(v):\n    v.append({n})\n    return v[:2]",
            f"{f}({x})",
            f"{x}, {y} = [{n}], {z}[1:]",
            f"del {x}[1:]",
            f"print({x}, *{y})",
        )
    )


def run(cells: list[str], live: dict[str, Any]) -> set[int]:
    """Run them in order; the numbers of those that failed."""
    failed = set()
    for number, cell in enumerate(cells, start=1):
        try:
            exec(cell, live)
        except Exception:  # as people's cells do
            failed.add(number)
    return failed


@pytest.mark.parametrize("seed", range(12))
def test_the_cells_of_a_plan_make_what_was_there(
    seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    tried = 0
    for part in range(25):
        chance = random.Random(f"{seed} {part}")
        start = [f"{name} = [{n}, {n}]" for n, name in enumerate(NAMES)]
        start += ["def f(v): return v[:1]", "def g(v): return v[:2]"]
        cells = [*start, *(a_cell(chance) for _ in range(chance.randint(3, 10)))]
        was: dict[str, Any] = {}
        failed = run(cells, was)
        lost = chance.sample(NAMES, chance.randint(1, 3))
        target = lost[0]
        live = {name: was[name] for name in (*NAMES, *FUNCTIONS) if name not in lost}
        looked_up = {
            name: set(value.__code__.co_names) if name in FUNCTIONS else set()
            for name, value in live.items()
        }
        known = provenance.cells_of(["", *cells], ["", *cells], failed)
        found = rebuild_plan.plan([target], known, looked_up)
        if found.warnings or failed & {step.cell.number for step in found.steps}:
            continue
        if any(name in step.changes for step in found.steps for name in live):
            continue  # and said
        wanted = list(was[target])
        again = dict(live)
        for name in FUNCTIONS:  # they look into the namespace that they are in
            again[name] = types.FunctionType(live[name].__code__, again)
        run([step.cell.raw for step in found.steps], again)
        text = rebuild_plan.shown(found)
        assert again.get(target) == wanted, "\n# --\n".join([*cells, f"# lost {lost}", text])
        tried += 1
    assert tried > 0
    capsys.readouterr()
