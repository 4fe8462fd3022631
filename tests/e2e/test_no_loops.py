"""Deaths that repeat: a killing restore must not loop, a killing cell must not cost the restore."""

from __future__ import annotations

from harness.notebook import Notebook
from harness.records import flight, wait_for_checkpoint, wait_until

# Saved without a murmur; kills the process that loads it.
BOMB = """\
import os, signal
class Bomb:
    def __reduce__(self):
        return (eval, ("__import__('os').kill(__import__('os').getpid(), 9)",))
"""
UNDEFINED = "NameError: name '{}' is not defined"


def kill_and_settle(notebook: Notebook, deaths: int) -> None:
    """Kill the kernel, then wait until it has died `deaths` times in all and answers again."""
    before = notebook.deaths_seen
    notebook.kill_kernel()
    wait_until(lambda: notebook.deaths_seen >= before + deaths, f"{deaths} deaths", 60)
    notebook.wait_ready()


def test_a_variable_that_kills_the_restore_is_left_out_and_named_and_the_rest_is_back(
    notebook: Notebook,
) -> None:
    notebook.run(BOMB).ok()
    result = notebook.run("x = 41\nbomb = Bomb()\ny = [1, 2]").ok()
    wait_for_checkpoint(notebook, result.execution_count)
    kill_and_settle(notebook, deaths=2)
    first = notebook.run("print(x, y)").ok()
    assert first.text.endswith("41 [1, 2]\n")
    assert [line for line in first.text.splitlines() if "bomb" in line], first.text
    assert notebook.run("bomb.x").error.startswith("NotBackError: this was a Bomb: the kernel died")


def test_what_kills_the_kernel_and_no_process_that_tries_it_costs_what_runs_code_when_loaded(
    notebook: Notebook,
) -> None:
    # Nothing but a kernel keeps its badness for the kernel's OOM killer.
    code = "int(open('/proc/self/oom_score_adj').read()) == 1000 or __import__('os').abort()"
    notebook.run(f"class Bomb:\n    def __reduce__(self): return eval, ({code!r},)").ok()
    result = notebook.run(
        "x = ['plain', {1}]\nbombs = [Bomb()]\nmore = (Bomb(), 1)\nthird = {1: Bomb()}\n"
        "def f(): return x\nclass C: pass\nc = C()"
    ).ok()
    wait_for_checkpoint(notebook, result.execution_count)
    kill_and_settle(notebook, deaths=3)
    first = notebook.run("print(f())").ok()
    assert first.text.endswith("['plain', {1}]\n")
    assert "only what runs no code when it is loaded" in first.prose
    for name in ("bombs", "c", "more", "third"):
        assert f"{name}" in first.text
    notebook.run("%checkpoint restore c").ok()
    assert notebook.eval("type(c) is C")


def test_when_every_checkpoint_kills_the_kernel_starts_clean_and_says_so(
    notebook: Notebook,
) -> None:
    later = BOMB.replace(
        "__import__('os').kill(", "__import__('threading').Timer(1, __import__('os').kill, ("
    )
    later = later.replace('9)"', '9)).start()"')
    notebook.run(f"{later}\nbomb = [Bomb()]").ok()
    for number in range(3):
        result = notebook.run(f"x = {number}").ok()
        wait_for_checkpoint(notebook, result.execution_count)
    kill_and_settle(notebook, deaths=4)
    first = notebook.run("x")
    assert first.error == UNDEFINED.format("x")
    assert "restored and before a cell ran" in first.prose


def test_deaths_before_the_first_cell_fall_back_to_a_clean_start_that_offers_the_state(
    notebook: Notebook,
) -> None:
    for number in range(3):
        result = notebook.run(f"x = {number}").ok()
        wait_for_checkpoint(notebook, result.execution_count)
    for _ in range(4):  # no cell is run in between
        notebook.kill_kernel()
    first = notebook.run("x")
    assert first.error == UNDEFINED.format("x")
    assert "%checkpoint restore" in first.prose
    notebook.run("%checkpoint restore").ok()
    assert notebook.run("x").ok().value == "2"


def test_a_cell_that_kills_three_times_does_not_cost_the_variables(notebook: Notebook) -> None:
    result = notebook.run("x = 41").ok()
    wait_for_checkpoint(notebook, result.execution_count)
    notices = []
    for _ in range(3):
        notebook.run_to_death("import ctypes\nctypes.string_at(0)")
        first = notebook.run("x").ok()
        assert first.value == "41"
        notices.append(first.prose)
    assert notices[1].count("twice") == 1, notices[1]
    assert "of the same cause at the same line" in notices[1]
    assert "In common:" in notices[1]
    assert "3 times" in notices[2] or "three times" in notices[2], notices[2]
    assert "died 3 times of this cause at this line" in notebook.run("%checkpoint why").ok().text


def test_running_the_killing_cell_again_at_once_does_not_cost_the_variables(
    notebook: Notebook,
) -> None:
    # As people do: the very first cell after the restart is the one that killed.
    result = notebook.run("x = 41").ok()
    wait_for_checkpoint(notebook, result.execution_count)
    for _ in range(3):
        notebook.run_to_death("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    assert notebook.run("x").ok().value == "41"
    assert flight(notebook).restore_done
