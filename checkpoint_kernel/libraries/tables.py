"""Reducers for polars, pyarrow and readers of pandas: what their own pickling refuses."""

from __future__ import annotations

import io
import sys
from typing import Any, Final

from checkpoint_kernel import open_files, rebuild, used_up
from checkpoint_kernel.refusals import Refusal, Refused, type_name
from checkpoint_kernel.registry import named, named_reduction

from . import same_file


def reduce_series(series: Any) -> Any:
    """Of Python objects: as a list. polars saves all others itself."""
    if series.dtype != sys.modules["polars"].Object:
        return NotImplemented
    return (load_series, (series.name, series.to_list()))


def load_series(name: str, values: list[Any]) -> Any:
    """A series of Python objects."""
    import polars

    return polars.Series(name, values, dtype=polars.Object)


def reduce_frame(frame: Any) -> Any:
    """One with columns of Python objects: column by column."""
    if sys.modules["polars"].Object not in frame.dtypes:
        return NotImplemented
    return (load_frame, (frame.get_columns(),))


def load_frame(columns: list[Any]) -> Any:
    """A frame of series."""
    import polars

    return polars.DataFrame(columns)


def save_sql(context: Any) -> tuple[dict[str, Any], bool]:
    """Its tables, as lazy frames."""
    tables = {
        name: context.execute(f'SELECT * FROM "{name}"', eager=False) for name in context.tables()
    }
    return (tables, context._eager_execution)


def load_sql(state: tuple[dict[str, Any], bool]) -> Any:
    """`polars.SQLContext`."""
    import polars

    return polars.SQLContext(state[0], eager=state[1])


named_reduction("polars", "Series", reduce_series)
named_reduction("polars", "DataFrame", reduce_frame)
named("polars", "SQLContext", save_sql, load_sql)


def reduce_file(file: Any) -> Any:
    """A file that is read: opened again, at its position."""
    if file.closed or file.mode != "rb":
        raise Refused(
            type_name(file), Refusal("an open file ends with its process", "open it again")
        )
    try:
        place = open_files.place_of(file.fileno())
    except OSError as why:
        reason = f"its file cannot be found: {why}"
        raise Refused(type_name(file), Refusal(reason, "open it again")) from why
    facts = None if place.path is None else same_file.facts_of(place.path)
    if facts is None:
        raise Refused(type_name(file), Refusal("its file has no name any more"))
    # One that is mapped has a position of its own; of the other the descriptor has it.
    mapped = type(file).__name__ == "MemoryMappedFile"
    offset = file.tell() if mapped else place.offset
    arguments = (load_file, type_name(file), "open it again", facts, mapped, offset)
    return (rebuild.or_stub, arguments)


def load_file(facts: dict[str, Any], mapped: bool, offset: int) -> Any:
    """`pyarrow.memory_map` or `pyarrow.OSFile`, for reading."""
    import pyarrow

    path = same_file.check(facts, unwritten=False)
    made = pyarrow.memory_map(path) if mapped else pyarrow.OSFile(path)
    made.seek(offset)
    return made


named_reduction("pyarrow.lib", "MemoryMappedFile", reduce_file)
named_reduction("pyarrow.lib", "OSFile", reduce_file)


# What is in no file is saved up to this.
_STREAM_BYTES: Final = 64 << 20


def reduce_buffer_stream(stream: Any) -> Any:
    """A stream into memory: with what was written to it; to look at that closes it."""
    return (load_buffer_stream, (used_up.once(stream, lambda: _written(stream)),))


def _written(stream: Any) -> bytes:
    if stream.closed or not open_files.in_snapshot() or stream.tell() > _STREAM_BYTES:
        reason = "what was written to it cannot be looked at"
        raise Refused(type_name(stream), Refusal(reason, "keep its getvalue()"))
    content: bytes = stream.getvalue().to_pybytes()
    return content


def load_buffer_stream(content: bytes) -> Any:
    """`pyarrow.BufferOutputStream`, to be written on."""
    import pyarrow

    made = pyarrow.BufferOutputStream()
    made.write(content)
    return made


named_reduction("pyarrow.lib", "BufferOutputStream", reduce_buffer_stream)


def save_tensor(tensor: Any) -> tuple[Any, Any]:
    """Its memory as an array."""
    return (tensor.to_numpy(), tensor.dim_names)


def load_tensor(state: tuple[Any, Any]) -> Any:
    """`pyarrow.Tensor`."""
    import pyarrow

    return pyarrow.Tensor.from_numpy(state[0], dim_names=state[1] or None)


def save_options(options: Any) -> bytes:
    """pyarrow's own format of them."""
    data: bytes = options.serialize().to_pybytes()
    return data


def load_options(data: bytes) -> Any:
    """Options of a compute function."""
    import pyarrow
    import pyarrow.compute

    return pyarrow.compute.FunctionOptions.deserialize(pyarrow.py_buffer(data))


named("pyarrow.lib", "Tensor", save_tensor, load_tensor)
named("pyarrow._compute", "FunctionOptions", save_options, load_options, subclasses=True)


def reduce_csv_reader(reader: Any) -> Any:
    """pandas' reader of a CSV file in chunks, where pandas has opened the file: begun again."""
    again = "read again, with skiprows"
    handle = _opened_by(reader)
    if handle is None:
        raise Refused(type_name(reader), Refusal("it is closed, or reads no file itself", again))
    place = open_files.place_of(handle.fileno())
    facts = None if place.path is None else same_file.facts_of(place.path)
    if facts is None or facts["inode"] != place.inode:
        raise Refused(type_name(reader), Refusal("its file has no name any more", again))
    state = (reader.orig_options, reader.engine, reader._engine_specified, reader._currow)
    return (rebuild.or_stub, (load_csv_reader, type_name(reader), again, facts, *state))


def _opened_by(reader: Any) -> Any:
    handles = reader.handles
    if handles is None or handles.is_wrapped or handles.compression["method"] is not None:
        return None
    for handle in handles.created_handles:
        if type(handle) in (io.BufferedReader, io.TextIOWrapper) and not handle.closed:
            return handle
    return None


def load_csv_reader(
    facts: dict[str, Any], options: dict[str, Any], engine: str, specified: bool, rows: int
) -> Any:
    """`pandas.read_csv` with a chunk size, which has read so many rows: they are read again."""
    from pandas.io.parsers.readers import TextFileReader

    path = same_file.check(facts, unwritten=True)
    # An engine that pandas chose by itself may have been a second choice.
    made = TextFileReader(path, engine if specified else None, **options)
    if rows and not rebuild.trying:
        made.read(rows)
    return made


named_reduction("pandas.io.parsers.readers", "TextFileReader", reduce_csv_reader)
