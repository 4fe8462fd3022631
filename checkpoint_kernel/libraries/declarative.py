"""Classes that SQLAlchemy maps: made again by SQLAlchemy, over the same tables.

Covers columns, relationships and everything that is no part of the mapping. A class with more
(synonyms, composites, column properties, inheritance) is refused.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from checkpoint_kernel.refusals import Refusal, Unsavable

_MADE: Final = frozenset(
    {"__table__", "__mapper__", "__tablename__", "__dict__", "__weakref__", "__annotations__",
     "__init__", "_sa_registry", "_sa_class_manager", "registry", "metadata", "__table_args__",
     "__mapper_args__", "__static_attributes__", "__annotations_cache__", "__annotate_func__"}
)  # fmt: skip
_KEPT: Final = ("__tablename__", "__annotations__")
_OPTIONS: Final = (
    "back_populates", "uselist", "lazy", "viewonly", "passive_deletes", "passive_updates",
    "post_update", "innerjoin", "single_parent", "enable_typechecks", "active_history",
)  # fmt: skip


def reduction_of(cls: Any) -> Any:
    """The reduction of a mapped class, or of the base of such classes; None for any other."""
    orm: Any = sys.modules.get("sqlalchemy.orm")
    if orm is None or not any("_sa_registry" in vars(base) for base in cls.__mro__):
        return None
    if vars(cls).get("__mapper__") is not None:
        return _mapped(cls, orm)
    return _base(cls, orm) if "_sa_registry" in vars(cls) else None


def _base(cls: Any, orm: Any) -> Any:
    if cls.__bases__ != (orm.DeclarativeBase,):
        raise _refused(cls, "its base was made by a function")
    names = {name: value for name, value in vars(cls).items() if name not in _MADE}
    annotations = vars(cls).get("__annotations__", {})
    types = dict(cls.registry.type_annotation_map)
    arguments = (cls.__name__, cls.__qualname__, cls.__module__, cls.metadata, types, annotations)
    return (load_base, arguments, names, None, None, set_names)


def load_base(
    name: str, qualname: str, module: str, metadata: Any, types: dict[Any, Any],
    annotations: dict[str, Any],
) -> Any:  # fmt: skip
    """A base class over the metadata that it had."""
    from sqlalchemy import orm

    registry = orm.registry(metadata=metadata, type_annotation_map=types)
    names = {
        "__module__": module, "__qualname__": qualname, "__annotations__": annotations,
        "registry": registry,
    }  # fmt: skip
    metaclass: Any = type(orm.DeclarativeBase)
    return metaclass(name, (orm.DeclarativeBase,), names)


def _mapped(cls: Any, orm: Any) -> Any:
    mapper = cls.__mapper__
    if mapper.inherits is not None or list(mapper.self_and_descendants) != [mapper]:
        raise _refused(cls, "it is part of an inheritance")
    columns = {}
    relations = {}
    for name, prop in mapper._props.items():
        if isinstance(prop, orm.RelationshipProperty):
            relations[name] = _relation(cls, prop)
        elif not isinstance(prop, orm.ColumnProperty) or len(prop.columns) != 1:
            raise _refused(cls, f"{name} is a {type(prop).__name__}")
        elif prop.columns[0].table is not cls.__table__:
            raise _refused(cls, f"{name} is no column of its table")
        else:
            columns[name] = prop.columns[0].key
    names = {}
    for name, value in vars(cls).items():
        if name in _MADE or name in columns or name in relations:
            continue
        names[name] = value
    kept = {name: vars(cls)[name] for name in _KEPT if name in vars(cls)}
    arguments = (cls.__name__, cls.__qualname__, cls.__module__, cls.__bases__, cls.__table__,
                 columns, relations, type(cls))  # fmt: skip
    return (load_mapped, arguments, {**names, **kept}, None, None, set_names)


def _relation(cls: Any, prop: Any) -> tuple[str, dict[str, Any]]:
    given = prop._init_args
    for name in ("primaryjoin", "secondaryjoin", "order_by", "remote_side"):
        value = getattr(given, name).argument
        if value is not None and value is not False and not isinstance(value, str):
            raise _refused(cls, f"{prop.key} is joined by an expression")
    if prop.backref is not None:
        raise _refused(cls, f"{prop.key} has a backref: use back_populates")
    options = {name: getattr(prop, name) for name in _OPTIONS if getattr(prop, name, None)}
    options |= {
        name: value
        for name in ("primaryjoin", "secondaryjoin", "order_by", "remote_side")
        if isinstance(value := getattr(given, name).argument, str)
    }
    options["secondary"] = given.secondary.argument
    options["cascade"] = ", ".join(sorted(prop.cascade))
    if prop.uselist is False:
        options["uselist"] = False
    target = prop.argument
    return (target if isinstance(target, str) else prop.mapper.class_.__name__, options)


def load_mapped(
    name: str, qualname: str, module: str, bases: tuple[Any, ...], table: Any,
    columns: dict[str, str], relations: dict[str, Any], metaclass: Any,
) -> Any:  # fmt: skip
    """A class mapped to its table."""
    from sqlalchemy import orm

    names: dict[str, Any] = {"__module__": module, "__qualname__": qualname, "__table__": table}
    names |= {name: table.c[key] for name, key in columns.items() if name != key}
    for attribute, (target, options) in relations.items():
        names[attribute] = orm.relationship(target, **options)
    return metaclass(name, bases, names)


def set_names(cls: Any, names: dict[str, Any]) -> None:
    """What is no part of the mapping: methods, properties, annotations."""
    for name, value in names.items():
        if name not in ("__module__", "__qualname__", "__slots__"):
            type.__setattr__(cls, name, value)


def _refused(cls: Any, reason: str) -> Unsavable:
    return Unsavable(cls.__qualname__, Refusal(f"SQLAlchemy cannot map it again: {reason}"))
