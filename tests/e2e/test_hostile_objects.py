"""Objects that kill, hang or poison whoever saves them cost themselves and nothing else."""

from __future__ import annotations

import pytest
from harness.notebook import Notebook
from harness.records import checkpoints, flight, wait_until
from harness.server import JupyterServer

IMPORTS = "import ctypes, os, signal, sys, time\n"

# What a library's `__reduce__` does, and what `%checkpoint` says about it. Such an object is not
# tried in a process of its own first (test_hostile_matrix): it ends its snapshot process.
DEADLY = {
    "segfaults": ("ctypes.string_at(8)", "saving it crashed the snapshot process (SIGSEGV)"),
    "waits": ("ctypes.CDLL(None).pause()", "saving it waits for something: nothing moved for 3 s"),
    "spins": ("while True: pass", "saving it took longer than 6 s"),
    "kills": (
        "os.kill(os.getpid(), signal.SIGKILL)",
        "the snapshot process was killed twice while saving it",
    ),
}


@pytest.fixture
def resolute(notebook: Notebook) -> Notebook:
    """A notebook that gives an object some seconds, and not minutes, to be saved."""
    notebook.run(
        "from checkpoint_kernel import snapshot as s, hung as h\n"
        "s.UNIT_LIMIT_S, h.IDLE_LIMIT_S = 6, 3; del s, h"
    ).ok()
    return notebook


def wait_until_saved(notebook: Notebook, name: str, seconds: float = 40) -> None:
    """Wait until the newest checkpoint holds a variable."""

    def there() -> bool:
        found = checkpoints(notebook)
        return bool(found) and name in found[-1].names

    wait_until(there, f"a checkpoint with {name}", seconds)


def test_objects_that_end_their_snapshot_process_cost_only_themselves(resolute: Notebook) -> None:
    pid = flight(resolute).pid
    library = IMPORTS + "".join(
        f"class {name}:\n    def __reduce__(self):\n        {behaviour}\n"
        for name, (behaviour, _) in DEADLY.items()
    )
    made = ";".join(f"{name} = library.{name}()" for name in DEADLY)
    resolute.run(
        "import sys, types; library = sys.modules['library'] = types.ModuleType('library')\n"
        f"exec({library!r}, vars(library)); del library\n"
        "library = sys.modules['library']; good = [1, 2]\n" + made
    ).ok()
    wait_until_saved(resolute, "good", 90)
    status = resolute.run("%checkpoint").ok().text
    for name, (_, reason) in DEADLY.items():
        assert f"not saved: {name} (library.{name}): {reason}" in status
    after = resolute.run("good.append(3); later = 'saved too'").ok()
    assert "Traceback" not in after.text
    wait_until_saved(resolute, "later")
    assert flight(resolute).pid == pid
    resolute.kill_kernel(pid)
    first = resolute.run("print(good, later, 'segfaults' in globals())").ok()
    assert first.text.endswith("[1, 2, 3] saved too False\n")
    for name in DEADLY:
        assert f"not back: {name} (library.{name})" in first.prose


def test_a_hostile_output_costs_only_itself(resolute: Notebook) -> None:
    resolute.run(
        f"{IMPORTS}class Hostile:\n    def __reduce__(self): ctypes.string_at(8)\ngood = [1]"
    ).ok()
    result = resolute.run("Hostile()").ok()
    resolute.run("later = 1").ok()
    wait_until_saved(resolute, "later")
    status = resolute.run("%checkpoint").ok().text
    name = f"Out[{result.execution_count}]"
    assert f"not saved: {name} (Hostile): saving it crashed the snapshot process" in status


def test_a_variable_that_was_blamed_is_saved_once_it_has_another_value(resolute: Notebook) -> None:
    resolute.run(
        f"{IMPORTS}class Hostile:\n    def __reduce__(self): ctypes.string_at(8)\n"
        "x = Hostile(); good = 1"
    ).ok()
    wait_until_saved(resolute, "good")
    resolute.run("x = 'harmless'").ok()
    wait_until_saved(resolute, "x")


def test_an_object_that_deletes_other_variables_while_it_is_saved_deletes_none(
    resolute: Notebook,
) -> None:
    resolute.run(
        "class Hostile:\n    def __reduce__(self):\n"
        "        for name in ('good', 'zoo'): globals().pop(name, None)\n"
        "        return (list, ())\n"
        "good = [1]; hostile = Hostile(); zoo = [2]"
    ).ok()
    wait_until_saved(resolute, "zoo")
    assert resolute.run("print(good, zoo)").ok().stdout == "[1] [2]\n"
    resolute.kill_kernel(flight(resolute).pid)
    assert resolute.run("print(good, zoo)").ok().text.endswith("[1] [2]\n")


def test_a_hostile_local_costs_the_locals_and_not_the_checkpoint(
    server: JupyterServer, notebook_path: str
) -> None:
    name = server.environment.kernelspec("resilient-hostile-local", checkpoint_interval=1)
    notebook = server.open(notebook_path, name)
    try:
        notebook.run(
            f"{IMPORTS}class Hostile:\n    def __reduce__(self): ctypes.string_at(8)\n"
            "steps = []\n"
            "def train():\n    hostile = Hostile()\n    for i in range(100_000):\n"
            "        steps.append(i)\n        time.sleep(0.005)"
        ).ok()
        cell = notebook.start("train()")
        wait_until(
            lambda: any(c.inside_cell and "steps" in c.names for c in checkpoints(notebook)),
            "a checkpoint inside the cell",
        )
        newest = [c for c in checkpoints(notebook) if c.inside_cell][-1]
        reasons = {s.name: s.reason for s in newest.skipped}
        assert reasons["0:train"] == "saving it crashed the snapshot process (SIGSEGV)"
        notebook.interrupt()
        assert notebook.finish(cell).error.startswith("KeyboardInterrupt")
    finally:
        notebook.close()


def test_a_class_that_cannot_be_looked_at_costs_only_itself(notebook: Notebook) -> None:
    notebook.run(
        "class Meta(type):\n    def __getattribute__(cls, name): raise RuntimeError(name)\n"
        "class Wild(metaclass=Meta): pass\n"
        "class Odd: __module__ = 5\n"
        "odd = Odd(); wild = Wild(); good = [1]"
    ).ok()
    wait_until_saved(notebook, "good")
    assert notebook.run("%checkpoint").ok().text.count("Traceback") == 0


def test_names_that_are_no_identifiers_come_back(notebook: Notebook) -> None:
    notebook.run(
        "for name in ('', 'a b', 'a\\nb', 'a+b', 'größe', 'class', '0:train'):\n"
        "    globals()[name] = [name]\n"
        "a, b = ['a'], ['b']; b.append(a); done = 1"
    ).ok()
    wait_until_saved(notebook, "done")
    notebook.kill_kernel(flight(notebook).pid)
    first = notebook.run(
        "print(all(globals()[n] == [n] for n in "
        "('', 'a b', 'a\\nb', 'a+b', 'größe', 'class', '0:train')), b[1] is a)"
    ).ok()
    assert first.text.endswith("True True\n")
