"""Which cell set a variable last."""

from __future__ import annotations

import pytest

from checkpoint_kernel.assignments import last_set, set_in

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("a = b = 1", {"a", "b"}),
        ("a, (b, *c) = x", {"a", "b", "c"}),
        ("a += 1", {"a"}),
        ("a[0].b = x; c.d = y", {"a", "c"}),
        ("for a in x: b.append(a)", {"a", "b"}),
        ("if (a := x): pass", {"a"}),
        ("import a.b, c as d", {"a", "d"}),
        ("def a(b=1):\n  c = 1", {"a"}),
        ("class a:\n  b = 1", {"a"}),
        ("with x as a: a.update(y)", {"a"}),
        ("print(a.head()); a == b", set()),
        ("%%bash\na=1", set()),
        ("a = '\\d'", {"a"}),
    ],
)
def test_what_a_cell_sets_or_adds_to(source: str, names: set[str]) -> None:
    assert set_in(source) == names


def test_the_newest_cell_counts() -> None:
    cells = [(5, "print(a)"), (4, "a.append(1)"), (3, "b = 1"), (2, "a = []"), (1, "import b")]
    assert last_set(["a", "b", "c"], cells, 5.0) == {"a": 4, "b": 3}
    assert last_set(["a"], cells, -1.0) == {}
