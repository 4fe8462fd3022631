"""One batch of rows in a real kernel: made, saved, killed by SIGKILL, restored, checked.

    open -> make every row -> %checkpoint save -> SIGKILL -> (the server restarts it, it restores)
         -> what is there, what is named -> check every row -> an Outcome for each

Which rows form a batch is `all_rows`'; what the outcomes should be is `test_coverage`'s.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from all_rows import Placed
from harness.environment import Environment
from harness.notebook import Notebook, Result
from harness.records import flight
from harness.server import JupyterServer

KERNEL = "resilient-coverage"
_CHECK_LIMIT_S = 10.0
_MAKE_LIMIT_S = 120.0
_SAVE_LIMIT_S = 300.0
_AHEAD = 20  # cells

# What became of a row. lost: missing and not named. broken: there, and does not work.
Kind = Literal["back", "named", "lost", "broken", "error"]


@dataclass(frozen=True)
class Outcome:
    """What became of a row; `detail` is the reason given to the user, or what went wrong."""

    kind: Kind
    detail: str = ""
    partly: str = ""  # of one that is back: what the notice says of a part that is not


def install(environment: Environment) -> None:
    """A kernelspec that takes checkpoints only when it is told to."""
    environment.kernelspec(KERNEL, checkpoint_after_cell=False, checkpoint_interval=0)


def run(server: JupyterServer, batch: Sequence[Placed]) -> dict[str, Outcome]:
    """Outcomes by title."""
    outcomes: dict[str, Outcome] = {}
    while waiting := [placed for placed in batch if placed.row.title not in outcomes]:
        outcomes |= _Batch(server, waiting).run()
    return outcomes


class _Batch:
    def __init__(self, server: JupyterServer, batch: Sequence[Placed]) -> None:
        self._server = server
        self._batch = batch
        self._outcomes: dict[str, Outcome] = {}

    def run(self) -> dict[str, Outcome]:
        """Outcomes of all, or only of one that killed the kernel while it was made."""
        notebook = self._server.open(f"coverage-{self._batch[0].prefix}.ipynb", KERNEL)
        try:
            made = self._make(notebook)
            if made is not None:
                self._save_kill_check(notebook, made)
        finally:
            notebook.close()
        return self._outcomes

    def _make(self, notebook: Notebook) -> list[Placed] | None:
        made = []
        results = _all(notebook, [placed.make for placed in self._batch], _MAKE_LIMIT_S)
        for placed, result in zip(self._batch, results, strict=False):
            if isinstance(result, str):
                self._outcomes = {placed.row.title: Outcome("error", f"making it {result}")}
                return None
            if result.status != "ok":
                self._end(placed, Outcome("error", f"making it raised {result.error}"))
            else:
                made.append(placed)
        return made

    def _save_kill_check(self, notebook: Notebook, made: list[Placed]) -> None:
        before = _kinds(notebook)
        saved = notebook.run("%checkpoint save", _SAVE_LIMIT_S)
        if saved.status != "ok":
            for placed in made:
                self._end(placed, Outcome("error", f"%checkpoint save: {saved.text}"))
            return
        status = _Named.of(notebook.run("%checkpoint").ok().text)
        notebook.kill_kernel()
        notice = _Named.of(notebook.run("pass").ok().text)
        after = _kinds(notebook)
        there = []
        for placed in made:
            bound = [name for name in before if _belongs(name, placed.prefix)]
            gone = {name for name in bound if after.get(name) != "value"}
            silent = sorted(n for n in gone if n not in status.missing or n not in notice.missing)
            if placed.prefix not in before:
                self._end(placed, Outcome("error", "making it did not bind NAME"))
            elif silent:
                self._end(placed, Outcome("lost", f"{_where(silent, status, notice)}"))
            elif placed.prefix in gone:
                self._end(placed, Outcome("named", notice.missing[placed.prefix]))
            else:
                there.append(placed)
        results = _all(notebook, [placed.check for placed in there], _CHECK_LIMIT_S)
        for placed, result in zip(there, results, strict=True):
            self._checked(placed, result, notice)

    def _checked(self, placed: Placed, result: Result | str, notice: _Named) -> None:
        if isinstance(result, str):
            self._end(placed, Outcome("broken", f"its check {result}"))
        elif result.status != "ok":
            self._end(placed, Outcome("broken", f"{result.error}\n{result.text[-1500:]}"))
        else:
            partly = [why for name, why in notice.partly.items() if _belongs(name, placed.prefix)]
            self._end(placed, Outcome("back", partly="; ".join(dict.fromkeys(partly))))

    def _end(self, placed: Placed, outcome: Outcome) -> None:
        self._outcomes[placed.row.title] = outcome


def _where(silent: list[str], status: _Named, notice: _Named) -> str:
    words = []
    for name in silent:
        places = [
            where
            for where, named in (("status", status), ("notice", notice))
            if name not in named.missing
        ]
        words.append(f"{name} is missing, and not named in the {' and the '.join(places)}")
    return "; ".join(words)


def _all(notebook: Notebook, codes: Sequence[str], limit_s: float) -> Iterator[Result | str]:
    """Run cells, as if one after the other, and send some ahead: to wait for each costs more."""
    waiting = list(codes)
    while waiting:
        deaths = notebook.deaths_seen
        ahead = [notebook.start(code, stop_on_error=False) for code in waiting[:_AHEAD]]
        for cell in ahead:
            waiting.pop(0)
            yield _ended(notebook, cell, deaths, limit_s)
            if notebook.deaths_seen > deaths:  # the others are lost with the kernel
                break


def _ended(notebook: Notebook, cell: str, deaths: int, limit_s: float) -> Result | str:
    """Wait for a cell; in words what it did instead of ending. The kernel answers after it."""
    try:
        result = notebook.finish(cell, limit_s)
    except AssertionError:
        notebook.interrupt()
        try:
            notebook.finish(cell, 3)
        except AssertionError:
            notebook.kill_kernel(flight(notebook).pid)  # it does not answer
            notebook.run("pass")
        return f"did not end within {limit_s:g} s"
    if result.status != "died":
        return result
    notebook.wait_autorestart(deaths)
    notebook.run("pass")
    return f"killed the kernel\n{result.text[-500:]}"


_KINDS = """{n: "stub" if type(v) is __import__("checkpoint_kernel.stub").stub.Stub else "value" \
for n, v in list(globals().items()) if n[:1] == "c" and n[1:4].isdigit()}"""


def _kinds(notebook: Notebook) -> dict[str, str]:
    """Variables of rows that are bound now: to a stub or to a value."""
    found = notebook.eval(f"repr({_KINDS})")
    return dict(ast.literal_eval(found))


def _belongs(name: str, prefix: str) -> bool:
    return re.match(rf"{prefix}(?!\d)", name) is not None


@dataclass(frozen=True)
class _Named:
    """Variables that a status or a notice names, each with type and reason."""

    missing: dict[str, str]
    partly: dict[str, str]

    @staticmethod
    def of(text: str) -> _Named:
        found = _Named({}, {})
        for line in _unwrapped(text):
            if said := _SENTENCE.fullmatch(line):
                for name in _names_in(said):
                    found.missing.setdefault(name, f"{said['type']}: {said['reason']}")
            elif said := _PARTLY.fullmatch(line):
                for name in said["names"].split(", "):
                    found.partly.setdefault(name, said["reason"])
        return found


def _names_in(said: re.Match[str]) -> list[str]:
    if not re.fullmatch(r"\d+ names", said["names"]):
        return said["names"].split(", ")
    return [name for names in _BY_CELL.findall(said["reason"]) for name in names.split(", ")]


def _unwrapped(text: str) -> list[str]:
    """Lines as they were before the notice was wrapped: it indents what goes on."""
    lines = [""]
    for line in text.splitlines():
        if line.startswith("  ") and not re.match(_HOW, line.strip()):
            lines[-1] += f" {line.strip()}"
        else:
            lines.append(line.strip())
    return lines


# `not back: a, b (lock): it belongs to threads of the process that died; run the cell again`
_HOW = r"(?:not saved|not back|partly back|partly saved)"
_SENTENCE = re.compile(rf"{_HOW}: (?P<names>[^():]+) \((?P<type>.*?)\): (?P<reason>\S.*)")
# `not back: 2 names (lock): it belongs ... made in In[3] (a), In[4] (b) - %checkpoint rebuild NAME`
_BY_CELL = re.compile(r"In\[\d+\] \((.+?)\)(?=, In\[| - )")
# `partly back: a, b: their part of type lock is not back: ...`
_PARTLY = re.compile(r"partly (back|saved): (?P<names>[^():]+): (?P<reason>\S.*)")
