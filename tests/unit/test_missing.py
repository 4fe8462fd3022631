"""Every name that is not saved, or not back, is told: in the status, the notice and `show`."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from store_cases import make_manifest

from checkpoint_kernel import notice
from checkpoint_kernel.checkpoint import Settled
from checkpoint_kernel.manifest import Manifest, Skipped, Unit
from checkpoint_kernel.missing import AGAIN, not_back
from checkpoint_kernel.session import NotRestored, Plan, RestoreReport, Session, Settings
from checkpoint_provisioner import cli_show
from checkpoint_provisioner.listing import Notebook, Shelf

pytestmark = pytest.mark.unit

REASONS = (
    ("generator", "its position is inside running code", AGAIN),
    ("_thread.lock", "it belongs to threads of the process that died", None),
    ("Model", "saving it failed: TypeError: it holds a handle", "open it again"),
)
MANY = tuple(
    Skipped(
        *(f"Out[{n}]" if n % 50 == 0 else f"name_{n}", *REASONS[n % 3]),
        made_in=n // 10 + 1 if n % 7 else None,
        made_by="x = f()" if n % 7 else None,
    )
    for n in range(300)
) + (Skipped("a" * 120, "int", "its name looks like a secret", "set it again", 3),)
RECORD = Session(
    id="s", line="s", started=0.0, kernel_id="k", notebook=None, notebook_directory="/nowhere",
    key_file="", supervisor_pid=1, boot_id="", settings=Settings(),
    plan=Plan("restore", "The kernel died."),
)  # fmt: skip


def the_manifest() -> Manifest:
    units = (
        Unit("data:x", "data", ("x",), "pickle", "00" * 32, 1),
        Unit("locals", "locals", ("0:train", "1:step"), "pickle", "00" * 32, 1),
    )
    return replace(make_manifest(3, units), skipped=MANY)


def told(text: str) -> set[str]:
    """Names in a text; none that is broken by its end of line."""
    return set(re.findall(r"Out\[\d+\]|name_\d+|a{120}", text))


def readable(text: str) -> bool:
    """Grouped: a reason is told once or twice, and not for each name."""
    return all(text.count(reason) <= 2 for _, reason, _ in REASONS)


NAMES = {one.name for one in MANY}


def test_the_status_names_all_of_300_and_the_frames() -> None:
    text = notice.status(Settled(newest=the_manifest()), False, False, None, RECORD)
    assert told(text) == NAMES
    assert readable(text)
    assert "  saved too: locals of 0:train, 1:step" in text


def test_the_notice_names_all_of_300() -> None:
    report = RestoreReport(
        "c", "done", 0.0, restored=("x",),
        not_restored=tuple(
            NotRestored(s.name, s.type, s.reason, s.remedy, s.made_in, s.made_by) for s in MANY
        ),
    )  # fmt: skip
    text = notice.boxed(notice.at_start(RECORD, report, the_manifest(), None))
    assert told(text) == NAMES
    assert readable(text)
    assert told(notice.after_request(report, the_manifest())) == NAMES


def test_show_names_all_of_300(tmp_path: Path) -> None:
    shelf = Shelf(Notebook(tmp_path, "/n.ipynb", "k"), (the_manifest(),), (), 0, 0, False)
    text = cli_show.checkpoint_text(shelf, the_manifest())
    assert told(text) == NAMES
    assert readable(text)
    shown = cli_show.checkpoint_json(shelf, the_manifest())
    assert {entry["name"] for entry in shown["skipped"]} == NAMES


def test_one_name_comes_with_the_line_that_made_it_and_the_command() -> None:
    one = Skipped(
        "gen", "generator", "it runs", AGAIN, made_in=7, made_by="gen = (x for x in rows)"
    )
    assert not_back([one]) == [
        "not back: gen (generator): it runs; made in In[7]: gen = (x for x in rows) - "
        "%checkpoint rebuild gen"
    ]


def test_several_names_come_with_their_cells() -> None:
    some = [Skipped(f"g{n}", "t", "it runs", "open it", made_in=n % 2 + 3) for n in (10, 9, 8)]
    assert not_back(some, "not saved") == [
        "not saved: 3 names (t): it runs; open it",
        "  made in In[3] (g8, g10), In[4] (g9) - %checkpoint rebuild NAME",
    ]


def test_names_that_one_cell_made_are_told_once() -> None:
    some = [Skipped(f"g{n}", "t", "it runs", AGAIN, made_in=1) for n in range(3)]
    assert not_back(some) == [
        "not back: g0, g1, g2 (t): it runs; made in In[1] - %checkpoint rebuild NAME"
    ]
    assert not_back([*some, Skipped("h", "t", "it runs", AGAIN)]) == [
        f"not back: h (t): it runs; {AGAIN}",
        "not back: g0, g1, g2 (t): it runs; made in In[1] - %checkpoint rebuild NAME",
    ]


def test_no_name_is_told_twice() -> None:
    words = re.findall(r"Out\[\d+\]|name_\d+|a{120}", "\n".join(not_back(MANY)))
    assert len(words) == len(set(words))


def test_where_no_cell_is_known_the_remedy_stays() -> None:
    assert not_back([Skipped("g", "t", "it runs", AGAIN)]) == [f"not back: g (t): it runs; {AGAIN}"]


def test_outputs_that_a_restore_by_hand_leaves_are_named() -> None:
    text = notice.after_request(
        RestoreReport("c", "done", 0.0), the_manifest(), (), ("Out[10]", "Out[9]")
    )
    assert "outputs keep their numbers: Out[9], Out[10] - %checkpoint restore" in text
