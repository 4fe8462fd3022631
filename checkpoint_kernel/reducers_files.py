"""How open files are saved: which file, where in it, and what was not written yet.

They reopen at their position where the path still holds the same file (`rebuild_files`). How
they stood at the fork is `open_files`'.
"""

from __future__ import annotations

import codecs
import io
from pathlib import Path
from typing import Any, Final

from . import open_files, rebuild, rebuild_files, used_up
from .refusals import Refusal, Refused, type_name
from .registry import named_reduction

_AGAIN: Final = "open it again"
# A file that has no name is saved with its content, up to this.
_ANONYMOUS_BYTES: Final = 64 << 20
# Encodings in which each character has the same bytes wherever it stands.
_WITHOUT_STATE: Final = frozenset({"utf-8", "ascii", "iso8859-1", "cp1252", "utf-16-le",
                                   "utf-16-be", "utf-32-le", "utf-32-be"})  # fmt: skip
_BUFFERS: Final[dict[type, str]] = {
    io.BufferedReader: "reader",
    io.BufferedWriter: "writer",
    io.BufferedRandom: "random",
}


def refused(obj: Any, reason: str, remedy: str | None = _AGAIN) -> Refused:
    """The error that says why a file cannot be saved."""
    return Refused(type_name(obj), Refusal(reason, remedy))


def reduce_file(obj: Any) -> Any:
    """Text, buffered and raw files; text over anything that can be saved."""
    name = open_files.stream_name(obj)
    if name is not None:
        return (rebuild_files.stream, (name,))
    if type(obj) is io.TextIOWrapper:
        buffer: Any = obj.buffer
        if type(buffer) not in _BUFFERS or not isinstance(buffer.raw, io.FileIO):
            return _text_over(obj, buffer)
    try:
        return used_up.once(obj, lambda: _reduction(obj))
    except OSError as why:
        raise refused(obj, f"{why}, and ends with its process") from why


def _reduction(obj: Any) -> Any:
    if type(obj) not in (*_BUFFERS, io.TextIOWrapper, io.FileIO):
        raise refused(obj, "it leads to the frontend of a session that is over")
    buffer: Any = obj.buffer if type(obj) is io.TextIOWrapper else obj
    raw: Any = buffer if type(buffer) is io.FileIO else buffer.raw
    if type(raw) is not io.FileIO:
        raise refused(obj, f"it is over a {type_name(raw)}, which ends with its process")
    layer = _BUFFERS.get(type(obj), "text" if obj is not raw else "raw")
    facts: dict[str, Any] = {
        "layer": layer,
        "buffer": _BUFFERS.get(type(buffer)),
        "mode": raw.mode,
        "name": raw.name,
    }
    if layer == "text":
        facts |= _text_facts(obj)
    if raw.closed:
        return (rebuild_files.closed, (facts,))
    return _of_open_file(obj, raw, facts)


def _of_open_file(obj: Any, raw: io.FileIO, facts: dict[str, Any]) -> Any:
    number = raw.fileno()
    place = open_files.place_of(number)
    content = None if place.path is not None else _content(obj, raw, number, place.size_bytes)
    pending = used_up.pending(number, obj.flush) if raw.writable() else None
    size_bytes = place.size_bytes if pending else open_files.place_of(number).size_bytes
    if facts["layer"] == "text":
        facts["cookie"] = _text_position(obj, number)
        offset = place.offset  # the cookie says where
        facts["newline"] = used_up.newline_of(number, obj, raw.writable())
    else:
        offset = obj.tell()
    facts |= {
        "path": place.path, "offset": offset, "device": place.device, "inode": place.inode,
        "size_bytes": size_bytes, "pending": b"" if pending is None else pending.data,
        "pending_at": 0 if pending is None else pending.at,
    }  # fmt: skip
    if content is not None:
        return (rebuild_files.anonymous, (facts, content))
    return (rebuild.or_stub, (rebuild_files.file, type_name(obj), _AGAIN, facts))


def _content(obj: Any, raw: io.FileIO, number: int, size_bytes: int) -> bytes:
    if size_bytes > _ANONYMOUS_BYTES or not raw.readable():
        raise refused(obj, "its file has no name, and ends with the process")
    return open_files.content_of(number)


def _text_facts(file: io.TextIOWrapper) -> dict[str, Any]:
    return {
        "encoding": file.encoding,
        "errors": file.errors,
        "newline": None,
        "line_buffering": file.line_buffering,
        "write_through": file.write_through,
        "attributes": {k: v for k, v in vars(file).items() if isinstance(v, str)},
        "cookie": None,
    }


def _text_position(file: io.TextIOWrapper, number: int) -> int:
    try:
        return file.tell()
    except OSError as why:  # "telling position disabled by next() call"
        rest = used_up.rest_of(number, file)
        encoding = codecs.lookup(file.encoding).name
        seen = file.newlines
        if rest is None or encoding not in _WITHOUT_STATE or isinstance(seen, tuple):
            raise refused(file, f"its position cannot be told: {why}") from why
        if isinstance(seen, str):
            rest = rest.replace("\n", seen)
        read = open_files.place_of(number).offset
        return read - len(rest.encode(encoding, file.errors or "strict"))


def _text_over(file: io.TextIOWrapper, buffer: Any) -> Any:
    """Text over memory, an archive's member, and so on: what that is, others know."""
    facts, cookie = _text_facts(file), None
    if file.closed:
        raise refused(file, f"it was closed, over a {type_name(buffer)}", None)
    if file.seekable():
        file.flush()
        cookie = file.tell()
    arguments = (buffer, facts)
    return (rebuild_files.text, arguments, cookie, None, None, rebuild_files.seek_text)


def reduce_named_temporary(obj: Any) -> Any:
    """tempfile.NamedTemporaryFile: the process that died has not deleted its file."""
    if obj.file.closed and not Path(obj.name).exists():
        raise refused(obj, "its file is deleted", None)
    arguments = (type(obj), obj.file, obj.name, obj.delete)
    return (rebuild_files.named_temporary, arguments)


for _name in ("TextIOWrapper", "BufferedReader", "BufferedWriter", "BufferedRandom", "FileIO"):
    named_reduction("_io", _name, reduce_file)
named_reduction("ipykernel.iostream", "OutStream", reduce_file, subclasses=True)
named_reduction("tempfile", "_TemporaryFileWrapper", reduce_named_temporary)
