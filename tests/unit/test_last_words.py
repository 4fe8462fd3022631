"""What Python code that ends its own process leaves on record, in real processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.unit

PRELUDE = """
import json, os, signal, sys
from checkpoint_kernel import last_words
def note(**fields):
    with open({path!r}, "a") as file:
        file.write(json.dumps([os.getpid(), fields]) + "\\n")
os.setsid() if os.getpid() != os.getsid(0) else None
last_words.install(note)
"""


def run(tmp_path: Path, code: str) -> tuple[int, list[dict[str, Any]]]:
    """The status of a process that runs `code`, and its words."""
    path = tmp_path / "words"
    program = PRELUDE.format(path=str(path)) + code
    done = subprocess.run([sys.executable, "-c", program], timeout=20, capture_output=True)
    lines = path.read_text().splitlines() if path.exists() else []
    return done.returncode, [json.loads(line)[1] for line in lines]


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        ("os._exit(3)", 3, {"exiting": "os._exit(3)"}),
        ("os._exit(status=4)", 4, {"exiting": "os._exit(4)"}),
        ("os.abort()", -6, {"sent_itself": "SIGABRT"}),
        ("os.kill(os.getpid(), signal.SIGKILL)", -9, {"sent_itself": "SIGKILL"}),
        ("os.kill(os.getpid(), 15)", -15, {"sent_itself": "SIGTERM"}),
        ("os.kill(0, signal.SIGKILL)", -9, {"sent_itself": "SIGKILL"}),
        ("os.kill(-os.getpgid(0), signal.SIGKILL)", -9, {"sent_itself": "SIGKILL"}),
        ("os.killpg(os.getpgid(0), signal.SIGTERM)", -15, {"sent_itself": "SIGTERM"}),
        ("signal.raise_signal(signal.SIGSEGV)", -11, {"sent_itself": "SIGSEGV"}),
        ("os.kill(os.getpid(), 40)", -40, {"sent_itself": "signal 40"}),
    ],
)
def test_the_last_word_is_on_record_and_the_end_is_the_same(
    tmp_path: Path, code: str, status: int, words: dict[str, str]
) -> None:
    assert run(tmp_path, code) == (status, [words])


@pytest.mark.parametrize(
    "code",
    [
        "os.kill(os.getpid(), 0)",
        "os.kill(os.getpid(), signal.SIGCHLD)",
        "signal.signal(signal.SIGTERM, lambda *_: None); os.kill(os.getpid(), signal.SIGTERM)",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); os.kill(os.getpid(), signal.SIGTERM)",
        "child = os.fork()\nif child == 0: os._exit(5)\nos.waitpid(child, 0)",
        "child = os.fork()\nif child == 0: os.kill(os.getpid(), 9)\nos.waitpid(child, 0)",
        "import time\nchild = os.fork()\nif child == 0: time.sleep(9)\n"
        "os.kill(child, 9); os.waitpid(child, 0)",
        "last_words.quiet_exit(0)",
    ],
)
def test_what_ends_no_kernel_leaves_no_word(tmp_path: Path, code: str) -> None:
    assert run(tmp_path, code) == (0, [])


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("os.kill()", "TypeError"),
        ("os.kill('self', 9)", "TypeError"),
        ("os.kill(os.getpid(), 1000)", "OSError"),
        ("os._exit('x')", "TypeError"),
        ("signal.raise_signal(-1)", "(ValueError, OSError)"),
    ],
)
def test_wrong_arguments_raise_what_they_always_raised(
    tmp_path: Path, call: str, error: str
) -> None:
    code = f"try: {call}\nexcept {error}: sys.exit(7)"
    assert run(tmp_path, code)[0] == 7


def test_the_functions_pickle_by_the_names_that_users_import(tmp_path: Path) -> None:
    code = (
        "import pickle\n"
        "for f in (os._exit, os.abort, os.kill, os.killpg, signal.raise_signal):\n"
        "    assert pickle.loads(pickle.dumps(f)) is f, f\n"
    )
    assert run(tmp_path, code) == (0, [])


def test_a_handler_that_raises_is_not_called_twice(tmp_path: Path) -> None:
    code = (
        "calls = []\n"
        "def handler(*_):\n    calls.append(1)\n    raise KeyError\n"
        "signal.signal(signal.SIGUSR1, handler)\n"
        "try: os.kill(os.getpid(), signal.SIGUSR1)\nexcept KeyError: pass\n"
        "sys.exit(len(calls))"
    )
    assert run(tmp_path, code) == (1, [])


def test_sigkill_has_the_number_that_the_tables_above_say() -> None:
    assert (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT) == (9, 15, 11, 6)
