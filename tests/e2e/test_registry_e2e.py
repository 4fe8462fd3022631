"""What has a life outside of Python's references, over a real death: one kernel, killed once."""

from __future__ import annotations

from pathlib import Path

from harness.notebook import Notebook
from harness.records import checkpoints, wait_for_checkpoint

SETUP = """\
import io, os, queue, sqlite3, sys, threading, time
rows, out, db = (os.path.join({directory!r}, name) for name in ('rows.txt', 'out.txt', 'app.db'))
open(rows, 'w').write(''.join(f'row {{n}}\\n' for n in range(1000)))
"""
OBJECTS = """\
lock, jobs, begun = threading.Lock(), queue.Queue(), threading.Event()
lock.acquire(); jobs.put([1]); begun.set()
reading = open(rows)
for row in reading:
    if row == 'row 7\\n': break
writing = open(out, 'w', newline='\\r\\n'); writing.write('first\\n')
memory = sqlite3.connect(':memory:'); memory.execute('create table t (a)')
memory.execute('insert into t values (1)'); memory.commit()
disk = sqlite3.connect(db)
class Trainer: pass
trainer = Trainer(); trainer.epoch, trainer.rows, trainer.db = 3, (n for n in range(9)), disk
next(trainer.rows)
err = sys.stderr
"""
REGISTRATION = """\
import checkpoint_kernel
class Device:
    def __init__(self, port): self.port = port
    def __reduce__(self): raise TypeError('a device is not to be saved')
def save_device(device): return device.port
def load_device(port): return Device(port)
checkpoint_kernel.register(Device, save_device, load_device)
device = Device(5)
"""


def test_what_lives_outside_of_references_comes_back_or_says_how(
    notebook: Notebook, tmp_path: Path
) -> None:
    notebook.run(SETUP.format(directory=str(tmp_path))).ok()
    notebook.run(OBJECTS).ok()
    notebook.run(REGISTRATION).ok()
    # By no name of theirs, so that only looking at them tells that they have changed.
    last = notebook.run("exec(''.join(['jo', 'bs.put([2]); next(rea', 'ding)']))").ok()
    wait_for_checkpoint(notebook, last.execution_count)

    status = notebook.run("%checkpoint").ok().prose
    assert "partly saved: trainer: its part of type generator is not saved" in status
    saved = notebook.run("%checkpoint save").ok().prose
    assert "partly saved: trainer: its part of type sqlite3.Connection" in saved
    newest = checkpoints(notebook)[-1]
    assert [(one.name, one.stub) for one in newest.skipped] == [("disk", True)]
    assert {one.name for one in newest.partly} == {"trainer"}

    notebook.kill_kernel()
    back = notebook.run(
        "print(lock.acquire(timeout=1), [jobs.get(), jobs.get()], begun.wait(1))\n"
        "print(repr(reading.readline()), memory.execute('select a from t').fetchall())\n"
        "writing.write('second\\n'); writing.close()\n"
        "print(open(out, 'rb').read())\n"
        "print(trainer.epoch, err is sys.stderr, device.port)"
    ).ok()
    assert back.text.endswith(
        "True [[1], [2]] True\n'row 9\\n' [(1,)]\nb'first\\r\\nsecond\\r\\n'\n3 True 5\n"
    )
    assert "partly back: trainer: its part of type generator is not back" in back.prose
    assert "every use of it says so" in back.prose
    path = tmp_path / "app.db"
    assert "not back: disk (sqlite3.Connection): a database connection ends" in back.prose
    used = notebook.run("disk.execute('select 1')")
    assert "this was a sqlite3.Connection: a database connection ends with its" in used.error
    assert f"sqlite3.connect('{path}')" in used.error
    assert "this was a generator" in notebook.run("next(trainer.rows)").error

    # What is saved again is saved as before, by the registration that is there again.
    last = notebook.run("another = Device(6)").ok()
    wait_for_checkpoint(notebook, last.execution_count)
    newest = checkpoints(notebook)[-1]
    assert [(one.name, one.stub) for one in newest.skipped] == [("disk", True)]
    assert {one.name for one in newest.partly} == {"trainer"}
    assert {"another", "device", "memory", "reading"} <= set(newest.names)
