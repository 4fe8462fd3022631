"""What `%checkpoint memory` says, and its plot."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from checkpoint_kernel import memory_plot, memory_report
from checkpoint_kernel.memory_gauge import Process, Split
from checkpoint_kernel.memory_report import Facts, Machine
from checkpoint_kernel.memory_use import CellUse, Sample
from checkpoint_kernel.session import Cap, Event
from checkpoint_kernel.sizes import Sized

pytestmark = pytest.mark.unit

MB = 1 << 20
CAP = Cap("700M", 700 * MB, 595 * MB, "cgroup v1", True, "All of it.")
CELLS = [
    CellUse(n, 1000.0 + 10 * n, 1005.0 + 10 * n, 50 * n * MB, (50 * n + grown) * MB, 400 * MB)
    for n, grown in enumerate([0, 3, 152, -20])
]
FACTS = Facts(
    cap=CAP,
    machine=Machine(8192 * MB, 4096 * MB),
    split=Split(
        520 * MB, 420 * MB, (Process(12, "python -c " + "x" * 200, 50 * MB),), 30 * MB
    ),
    variables=[
        Sized("df, Out[3]", 200 * MB, "pandas.DataFrame"),
        Sized("a_name_that_is_much_longer_than_the_column_for_it", 50 * MB, "numpy.ndarray"),
        Sized("Out[4]", 20 * MB, "list"),
        *[Sized(f"v{n}", 900, "int") for n in range(7)],
    ],
    set_in={"df": 1123, "v3": 2},
    left_by_error=[Sized("of f, line 3", 70 * MB, "dict")],
    cells=CELLS,
    events=[Event("child-oom-killed", 1010.0, "A child process was killed.")],
    figures=2,
)  # fmt: skip


class TestReport:
    def test_the_whole_fits_into_88_columns(self) -> None:
        text = memory_report.text(FACTS)
        assert max(map(len, text.splitlines())) <= 88
        assert len(text.splitlines()) < 50

    def test_use_is_told_against_the_limit_and_the_soft_limit(self) -> None:
        text = memory_report.text(FACTS)
        assert "520.0 MB of 700M used (74 %); enforced (cgroup v1)." in text
        assert "75.0 MB below the soft limit of 595.0 MB" in text
        over = replace(FACTS, split=replace(FACTS.split, used_bytes=600 * MB))
        assert "5.0 MB above the soft limit" in memory_report.text(over)

    def test_a_limit_that_nothing_enforces_is_told_as_such(self) -> None:
        cap = replace(CAP, enforced=False, backend="none", detail="No cgroup can be written.")
        text = memory_report.text(replace(FACTS, cap=cap))
        assert "NOT enforced" in text
        assert "No cgroup can be written." in text

    def test_without_a_limit_the_machine_is_told(self) -> None:
        text = memory_report.text(replace(FACTS, cap=None))
        assert "There is no memory limit; the machine has 8.0 GB" in text
        assert "of all used" in text

    def test_kernel_children_shared_memory_and_the_rest_come_to_what_is_used(self) -> None:
        text = memory_report.text(FACTS)
        for part in ("420.0 MB", "pid 12: python -c xxx", "30.0 MB   /dev/shm", "20.0 MB   page"):
            assert part in text

    def test_variables_are_told_by_size_and_small_ones_together(self) -> None:
        text = memory_report.text(FACTS)
        (line,) = [line for line in text.splitlines() if line.startswith("df, Out[3]")]
        assert line.split()[-4:] == ["MB", "29", "%", "In[1123]"]
        assert "7 other variables: 6.2 KB." in text
        assert "Of no variable: about 80.0 MB" in text

    def test_the_cell_that_grew_most_is_marked(self) -> None:
        (marked,) = [x for x in memory_report.text(FACTS).splitlines() if x.endswith("<- most")]
        assert marked.startswith("In[2] ")
        assert "+152.0 MB" in marked
        assert "-20.0 MB" in memory_report.text(FACTS)

    def test_what_would_free_memory_is_told_largest_first(self) -> None:
        lines = memory_report.text(FACTS).splitlines()
        freeing = lines[lines.index("To free memory:") + 1 :]
        assert "`del df` and `%reset -f out`" in freeing[0]
        assert "`%checkpoint memory --forget-error` (locals of f, line 3" in freeing[1]
        assert "`del a_name" in freeing[2]
        assert "`%reset -f out`" in freeing[-2]
        assert "plt.close('all')" in freeing[-1]

    def test_events_of_the_session_are_told(self) -> None:
        assert "A child process was killed." in memory_report.text(FACTS)

    def test_an_empty_kernel_has_little_to_say(self) -> None:
        empty = Facts(None, Machine(1, 1), Split(MB, MB, (), 0), [], {}, [], [], [], 0)
        assert len(memory_report.text(empty).splitlines()) < 8


SAMPLES = [Sample(1000.0 + n, n * MB) for n in range(600)]


class TestPlot:
    def test_the_text_has_88_columns_and_marks_cells_and_limits(self) -> None:
        lines = memory_plot.as_text(SAMPLES, CELLS, CAP).splitlines()
        assert max(map(len, lines)) <= 88
        assert len(lines) == memory_plot.HEIGHT + 3
        assert lines[0].startswith(" 700.0 MB┤")
        assert any(line.startswith("     soft┤---") for line in lines)
        assert lines[-3].count("┬") == 4
        assert "In[0]" in lines[-2]
        assert lines[-4].endswith("█"), "it grows"
        assert not lines[0].endswith("█")

    def test_it_works_with_nothing_one_sample_and_no_limit(self) -> None:
        assert memory_plot.as_text([], [], CAP)
        assert memory_plot.as_text(SAMPLES[:1], [], None)
        assert "600" not in memory_plot.as_text(SAMPLES, [], None).splitlines()[5]

    def test_the_figure_has_lines_and_names_and_leaves_pyplot_alone(self) -> None:
        pytest.importorskip("matplotlib")
        figure = memory_plot.figure(SAMPLES, CELLS, CAP)
        (axes,) = figure.axes
        assert [text.get_text() for text in axes.get_legend().get_texts()] == [
            "limit 700M",
            "soft limit 595.0 MB",
        ]
        assert "In[0]" in [text.get_text() for text in axes.texts]
        assert memory_plot.as_png(SAMPLES, CELLS, None).startswith(b"\x89PNG")
        assert memory_plot.as_png([], [], None).startswith(b"\x89PNG")
        pyplot = sys.modules.get("matplotlib.pyplot")
        assert pyplot is None or not pyplot.get_fignums()
