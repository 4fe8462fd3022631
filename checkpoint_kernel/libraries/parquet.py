"""How a `pyarrow.parquet.ParquetFile` is saved: by the file that it reads, and does not name."""

from __future__ import annotations

import gc
import os
from contextlib import suppress
from typing import Any, Final

from checkpoint_kernel import open_files, rebuild
from checkpoint_kernel.refusals import Refusal, Refused, type_name
from checkpoint_kernel.registry import named_reduction

from . import same_file

_AGAIN: Final = "open it again"
# The end of such a file describes all of it (Parquet's format, "File format").
_END_BYTES: Final = 64 << 10


def reduce_parquet(file: Any) -> Any:
    """One on this machine's disk, without options that change what is read."""
    path = None if file.closed else _path_of(file)
    facts = None if path is None else same_file.facts_of(path)
    if facts is None:
        raise Refused(type_name(file), Refusal("it cannot be told which file it reads", _AGAIN))
    made = (load_parquet, type_name(file), _AGAIN, facts, file.schema_arrow, file.common_metadata)
    return (rebuild.or_stub, made)


def _path_of(file: Any) -> str | None:
    """Of the open files, the one that ends alike."""
    held = gc.get_referents(file.reader)
    native = next((one for one in held if hasattr(one, "read_at") and hasattr(one, "size")), None)
    if native is None:
        return None
    size_bytes = native.size()
    start = max(0, size_bytes - _END_BYTES)
    end = native.read_at(size_bytes - start, start)
    for place in open_files.places():
        if place.path is not None and place.size_bytes == size_bytes:
            with suppress(OSError), open(place.path, "rb") as candidate:
                there = os.fstat(candidate.fileno())
                same = (there.st_dev, there.st_ino) == (place.device, place.inode)
                if same and os.pread(candidate.fileno(), len(end), start) == end:
                    return place.path
    return None


def load_parquet(facts: dict[str, Any], schema: Any, common_metadata: Any) -> Any:
    """`pyarrow.parquet.ParquetFile` of a path, if it reads the same schema."""
    from pyarrow.parquet import ParquetFile

    path = same_file.check(facts, unwritten=True)
    made = ParquetFile(path, common_metadata=common_metadata)
    if not made.schema_arrow.equals(schema, check_metadata=True):
        raise rebuild.NotThere(f"{path} was opened with options that are not known")
    return made


named_reduction("pyarrow.parquet.core", "ParquetFile", reduce_parquet)
