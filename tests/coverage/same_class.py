"""Rows of classes that do not come back in one state, and do in another."""

from __future__ import annotations

from typing import Final

# The title of a row that is named: that of a row of the same class that is back.
OTHERWISE: Final = {
    "generator, begun": "generator not begun",
    "asynchronous generator, begun": "asynchronous generator not begun",
    "sklearn: splits being iterated": "sklearn: splits not begun",
    "requests: Response that streams": "requests: Response",
    "threading.Thread, running": "threading.Thread, not begun",
    "asyncio event loop, running": "asyncio event loop, idle",
    "concurrent.futures.Future, undone": "concurrent.futures.Future, done",
    "concurrent.futures.ThreadPoolExecutor, at work": (
        "concurrent.futures.ThreadPoolExecutor, idle"
    ),
    "file that is gone after the death": "file open for writing",
    "sqlite3 connection to a file": "sqlite3 connection to :memory:",
    "subprocess.Popen": "subprocess.Popen, ended",
    "multiprocessing.Queue with items on their way": "multiprocessing.Queue, empty",
    "multiprocessing.Process, running": "multiprocessing.Process, not begun",
    "contextlib.contextmanager, entered": "pandas: option_context",
}
