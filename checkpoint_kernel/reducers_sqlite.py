"""How sqlite3's objects are saved: databases in memory by their content, others by how to connect.

What SQLite does not tell is lost and said: functions that were registered. Rows that a cursor
still holds are not saved.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from . import open_files, rebuild_standard, used_up
from .refusals import Refusal, Refused, type_name
from .registry import Partly, named_reduction

if TYPE_CHECKING:
    import sqlite3

_ENDS: Final = "a database connection ends with its process"
_ATTRIBUTES: Final = ("row_factory", "text_factory", "isolation_level", "autocommit")


def _refused(obj: Any, reason: str, remedy: str | None = "connect again") -> Refused:
    return Refused(type_name(obj), Refusal(reason, remedy, bound=True))


def reduce_connection(obj: sqlite3.Connection) -> Any:
    """sqlite3.Connection: one to a database in memory comes back with all of it."""
    import sqlite3

    try:
        return _reduction(obj)
    except sqlite3.ProgrammingError as why:
        if "closed" in str(why):
            return (rebuild_standard.closed_database, ())
        raise _refused(obj, f"it cannot be looked at: {why}") from why


def _reduction(obj: sqlite3.Connection) -> Any:
    databases = [name for _, name, _ in _rows(obj, "PRAGMA database_list")]
    if files := _files(obj):
        raise _refused(obj, _ENDS, f"sqlite3.connect({files[0]!r})")
    if _rows(obj, "SELECT 1 FROM sqlite_temp_master LIMIT 1"):
        raise _refused(obj, "it has temporary tables, which cannot be copied", None)
    options: dict[str, Any] = {"detect_types": _detect_types(obj)}
    contents = {name: _content(obj, name) for name in databases if name != "temp"}
    state = {
        "attached": {name: content for name, content in contents.items() if name != "main"},
        "attributes": {name: getattr(obj, name) for name in _ATTRIBUTES if hasattr(obj, name)},
    }
    reduction = (
        rebuild_standard.database, (contents["main"], options), state, None, None,
        rebuild_standard.set_database,
    )  # fmt: skip
    functions = _functions(obj)
    if not functions:
        return reduction
    reason = f"{', '.join(functions)} cannot be read out of the connection"
    refusal = Refusal(reason, "register it again: create_function, create_aggregate")
    return Partly(reduction, Refused("SQL function", refusal))


def _files(connection: sqlite3.Connection) -> list[str]:
    """Databases on disk. One that was loaded from an image has the path "x"."""
    paths = [path for _, _, path in _rows(connection, "PRAGMA database_list")]
    return [path for path in paths if path and Path(path).is_absolute()]


def _content(connection: sqlite3.Connection, name: str) -> bytes:
    quoted = name.replace('"', '""')
    pages = _rows(connection, f'PRAGMA "{quoted}".page_count')[0][0]
    return connection.serialize(name=name) if pages else b""  # SQLite has no image of nothing


def _rows(connection: sqlite3.Connection, query: str) -> list[tuple[Any, ...]]:
    cursor = connection.cursor()
    cursor.row_factory = None
    return cursor.execute(query).fetchall()


def _functions(connection: sqlite3.Connection) -> list[str]:
    """Names of functions that the user has registered."""
    import sqlite3

    query = "SELECT DISTINCT name FROM pragma_function_list WHERE builtin = 0"
    fresh = sqlite3.connect(":memory:")
    try:
        usual = set(_rows(fresh, query))
        return sorted(name for (name,) in set(_rows(connection, query)) - usual)
    except sqlite3.OperationalError:  # built without the list
        return []
    finally:
        fresh.close()


def _detect_types(connection: sqlite3.Connection) -> int:
    """PARSE_COLNAMES shows in the names of columns; PARSE_DECLTYPES only in what is read."""
    import sqlite3

    cursor = connection.cursor()
    cursor.row_factory = None
    name = cursor.execute('SELECT 1 AS "x [checkpoint_kernel]"').description[0][0]
    found = sqlite3.PARSE_COLNAMES if name == "x" else 0
    for (table,) in _rows(connection, "SELECT name FROM sqlite_master WHERE type = 'table'"):
        quoted = table.replace('"', '""')
        for _, column, declared, *_ in _rows(connection, f'PRAGMA table_info("{quoted}")'):
            if _converts(cursor, quoted, column.replace('"', '""'), declared):
                return found | sqlite3.PARSE_DECLTYPES
    return found


def _converts(cursor: sqlite3.Cursor, table: str, column: str, declared: str) -> bool:
    """Whether a value of a column's declared type goes through the converter of that type."""
    import sqlite3

    words = declared.replace("(", " ").upper().split()
    if not words or words[0] not in sqlite3.converters:
        return False
    called: list[bytes] = []
    before = sqlite3.converters[words[0]]
    sqlite3.converters[words[0]] = lambda raw: called.append(raw)
    try:
        query = f'SELECT "{column}" FROM "{table}" WHERE "{column}" IS NOT NULL LIMIT 1'
        cursor.execute(query).fetchall()
    finally:
        sqlite3.converters[words[0]] = before
    return bool(called)


def reduce_cursor(obj: sqlite3.Cursor) -> Any:
    """sqlite3.Cursor: with the rows that it has yet to give, of which there are not many."""
    import sqlite3

    connection = obj.connection
    try:
        on_disk = bool(_files(connection))
    except sqlite3.ProgrammingError:
        on_disk = True
    if on_disk or (obj.description is not None and not open_files.in_snapshot()):
        raise _refused(obj, "a cursor ends with its connection", "connection.cursor()")
    if obj.description is None:
        return (rebuild_standard.cursor, (connection, obj.arraysize, obj.row_factory))
    names = [name for name, *_ in obj.description]
    factory, rows = used_up.once(obj, lambda: (obj.row_factory, _rest(obj)))
    cells = [cell for row in rows or () for cell in row]
    if rows is None or not {type(cell) for cell in cells} <= _STORED:
        raise _refused(obj, "a cursor with many rows ends with its connection", "execute it again")
    arguments = (connection, obj.arraysize, factory, names, rows)
    return (rebuild_standard.cursor_over, arguments)


# SQLite takes so many values in one statement (SQLITE_MAX_VARIABLE_NUMBER since 3.32).
_VALUES: Final = 32_000
_STORED: Final = frozenset({type(None), int, float, str, bytes})


def _rest(cursor: sqlite3.Cursor) -> list[tuple[Any, ...]] | None:
    """What the snapshot process' copy of a cursor has yet to give; None if that is too much."""
    cursor.row_factory = None
    most = _VALUES // len(cursor.description)
    rows = cursor.fetchmany(most + 1)
    return rows if len(rows) <= most else None


def reduce_row(obj: sqlite3.Row) -> Any:
    """sqlite3.Row."""
    return (rebuild_standard.row, (tuple(obj.keys()), tuple(obj)))


named_reduction("sqlite3", "Connection", reduce_connection)
named_reduction("sqlite3", "Cursor", reduce_cursor)
named_reduction("sqlite3", "Row", reduce_row)
