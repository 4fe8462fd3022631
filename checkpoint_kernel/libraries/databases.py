"""Reducers for duckdb and SQLAlchemy: databases in memory are saved, others connected to again.

What a transaction had not committed is lost with the process, as in any crash.
"""

from __future__ import annotations

import inspect
import secrets
import tempfile
from pathlib import Path
from typing import Any, Final

from checkpoint_kernel import rebuild
from checkpoint_kernel.refusals import Refusal, Refused, type_name
from checkpoint_kernel.registry import named_reduction

# --- duckdb

# An empty database under such a name marks one that several connections share.
_MARK: Final = "checkpoint_kernel_"


class _InMemory:
    """One database in memory, and its content once that is asked for."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def __reduce__(self) -> tuple[Any, ...]:
        with tempfile.TemporaryDirectory() as directory:
            self._connection.execute(f"EXPORT DATABASE '{directory}' (FORMAT parquet)")
            files = {file.name: file.read_bytes() for file in sorted(Path(directory).iterdir())}
        return (load_duckdb, (directory, files))


_in_memory: dict[str, _InMemory] = {}


def reduce_duckdb(connection: Any) -> Any:
    """One to a file is opened again; of one in memory the database is saved."""
    own = connection.cursor()  # leaves alone what the user's has yet to fetch
    try:
        attached = own.execute("SELECT database_name, path, readonly FROM duckdb_databases() "
                               "WHERE NOT internal").fetchall()  # fmt: skip
        schema = connection_schema(own)
    except Exception as why:
        reason = f"it cannot be looked at: {' '.join(str(why).split())[:200]}"
        raise Refused(type_name(connection), Refusal(reason, "connect again")) from why
    marks = [name for name, _, _ in attached if name.startswith(_MARK)]
    others = [one for one in attached if not one[0].startswith(_MARK)]
    if len(others) != 1:
        raise _no_duckdb(connection, "several databases are attached to it")
    _, path, read_only = others[0]
    if path:
        return (load_duckdb_file, (path, bool(read_only)))
    left = own.execute(
        "SELECT table_name FROM duckdb_tables() WHERE temporary UNION ALL "
        "SELECT view_name FROM duckdb_views() WHERE temporary AND NOT internal"
    ).fetchall()
    if left:
        names = ", ".join(sorted(name for (name,) in left))
        raise _no_duckdb(connection, f"it has temporary tables or registered frames: {names}")
    if schema != "main":
        raise _no_duckdb(connection, f"its schema is {schema} and not main")
    if not marks:
        marks = [f"{_MARK}{secrets.token_hex(4)}"]
        own.execute(f"ATTACH ':memory:' AS {marks[0]}")
    shared = _in_memory.setdefault(marks[0], _InMemory(own))
    return (load_cursor, (shared,))


def connection_schema(connection: Any) -> str:
    """The schema in which names without one are looked up."""
    return str(connection.execute("SELECT current_schema()").fetchone()[0])


def _no_duckdb(connection: Any, reason: str) -> Refused:
    return Refused(type_name(connection), Refusal(reason, "connect and register again"))


def load_duckdb(directory: str, files: dict[str, bytes]) -> Any:
    """A database in memory with the content of an export; `directory` is where that was."""
    import duckdb

    connection = duckdb.connect()
    with tempfile.TemporaryDirectory() as place:
        for name, data in files.items():
            if name == "load.sql":
                data = data.replace(directory.encode(), place.encode())
            Path(place, name).write_bytes(data)
        connection.execute(f"IMPORT DATABASE '{place}'")
    return [connection]


def load_cursor(database: list[Any]) -> Any:
    """The first connection to a database, or one more."""
    if len(database) == 1:
        database.append(True)
        return database[0]
    return database[0].cursor()


def load_duckdb_file(path: str, read_only: bool) -> Any:
    """A connection to the file, which must be there: duckdb would make an empty one."""
    import duckdb

    if not Path(path).exists():
        raise rebuild.NotThere(f"there is no database {path} any more")
    return duckdb.connect(path, read_only=read_only)


def reduce_duckdb_type(one: Any) -> Any:
    """A data type, by its name."""
    return (load_duckdb_type, (str(one),))


def load_duckdb_type(name: str) -> Any:
    """A data type."""
    import duckdb

    return duckdb.sqltype(name)


for _module in ("duckdb", "_duckdb", "duckdb.duckdb"):
    named_reduction(_module, "DuckDBPyConnection", reduce_duckdb)
for _module in ("_duckdb._sqltypes", "_duckdb.typing", "duckdb.duckdb.typing", "duckdb.typing"):
    named_reduction(_module, "DuckDBPyType", reduce_duckdb_type)


# --- SQLAlchemy

_POOL: Final = {
    "pool_recycle": "_recycle",
    "pool_timeout": "_timeout",
    "max_overflow": "_max_overflow",
    "pool_pre_ping": "_pre_ping",
}


def reduce_engine(engine: Any) -> Any:
    """Its URL and options; the database itself where that is sqlite in memory."""
    pool = engine.pool
    heard = [
        listener
        for dispatch in (engine.dispatch, pool.dispatch)
        for name in dispatch._event_names
        for listener in getattr(dispatch, name)
        if not str(getattr(listener, "__module__", "")).startswith("sqlalchemy.")
    ]
    if heard:
        reason = "functions listen to its events, and they would not any more"
        raise Refused(type_name(engine), Refusal(reason, "make it again, with its listeners"))
    made = inspect.getclosurevars(pool._creator).nonlocals
    if "cparams" not in made or engine.dialect.is_async:
        raise Refused(type_name(engine), Refusal("it connects by a function", "make it again"))
    kind = type(pool)
    options: dict[str, Any] = {"poolclass": kind, "connect_args": dict(made["cparams"])}
    for option, attribute in _POOL.items():
        known = attribute == "_pre_ping" or option.removeprefix("pool_") in _parameters(kind)
        if known and hasattr(pool, attribute):
            options[option] = getattr(pool, attribute)
    if "pool_size" in _parameters(kind) and hasattr(pool, "size"):
        options["pool_size"] = pool.size() if callable(pool.size) else pool.size
    options |= {"echo": engine.echo, "hide_parameters": engine.hide_parameters}
    options["execution_options"] = dict(engine.get_execution_options())
    return (load_engine, (engine.url, options, _memory_of(engine)))


def _parameters(kind: type) -> set[str]:
    return {name for base in kind.__mro__ for name in _arguments(base)}


def _arguments(cls: type) -> list[str]:
    try:
        return list(inspect.signature(cls).parameters)
    except (TypeError, ValueError):
        return []


def _memory_of(engine: Any) -> bytes | None:
    """The bytes of a sqlite database that has no file."""
    if engine.dialect.name != "sqlite" or engine.url.database not in (None, "", ":memory:"):
        return None
    raw = engine.raw_connection()
    try:
        (objects,) = raw.driver_connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        data: bytes = raw.driver_connection.serialize() if objects else b""  # empty: an error
        return data
    finally:
        raw.close()


def load_engine(url: Any, options: dict[str, Any], memory: bytes | None) -> Any:
    """An engine with an empty pool; it connects when it is first used."""
    import sqlalchemy

    database = url.database if url.get_backend_name() == "sqlite" and memory is None else None
    if database and not database.startswith("file:") and not Path(database).exists():
        raise rebuild.NotThere(f"there is no database {database} any more")
    engine: Any = sqlalchemy.create_engine(url, **options)
    if memory:
        raw = engine.raw_connection()
        raw.driver_connection.deserialize(memory)
        raw.close()
    return engine


# Engines by class: before SQLAlchemy 2.1, and since.
_BINDS: Final = ("_Session__binds", "binds")


def reduce_session(session: Any) -> Any:
    """Its engine, options and objects, if its transaction has written nothing yet."""
    transaction = session.get_transaction()
    if transaction is not None and any(
        len(getattr(transaction, name, ())) for name in ("_new", "_dirty", "_deleted")
    ):
        reason = "its transaction has written what is not committed"
        raise Refused(type_name(session), Refusal(reason, "commit before the checkpoint"))
    options = {
        "autoflush": session.autoflush,
        "expire_on_commit": session.expire_on_commit,
        "info": dict(session.info),
    }
    objects = (list(session.identity_map.values()), list(session.new), list(session.deleted))
    arguments = (type(session), session.bind, options)
    binds = {name: getattr(session, name) for name in _BINDS if hasattr(session, name)}
    return (load_session, arguments, (objects, binds), None, None, set_session)


def load_session(cls: Any, bind: Any, options: dict[str, Any]) -> Any:
    """A session without objects."""
    return cls(bind, **options)


def set_session(session: Any, state: Any) -> None:
    """Its objects: those that it has read or changed, has to write, and has to delete."""
    (known, new, deleted), binds = state
    for name, by_class in binds.items():
        setattr(session, name, by_class)
    session.add_all([*known, *new])
    with session.no_autoflush:
        for one in deleted:
            session.delete(one)


def reduce_sessionmaker(maker: Any) -> Any:
    """Its class and what that is given."""
    return (load_sessionmaker, (maker.class_.__bases__[0], dict(maker.kw)))


def load_sessionmaker(cls: Any, options: dict[str, Any]) -> Any:
    """`sqlalchemy.orm.sessionmaker`."""
    from sqlalchemy import orm

    return orm.sessionmaker(class_=cls, **options)


named_reduction("sqlalchemy.engine.base", "Engine", reduce_engine)
named_reduction("sqlalchemy.orm", "Session", reduce_session, subclasses=True)
named_reduction("sqlalchemy.orm", "sessionmaker", reduce_sessionmaker)
