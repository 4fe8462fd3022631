"""IPython's interactive state: extensions, aliases, magics, hooks and settings."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any, Final

from .state_item import Item, NotBack, changes, each, listed

# --- extensions -------------------------------------------------------------------------------


def _extensions(shell: Any) -> Any:
    return {name: _options(shell, name) for name in sorted(shell.extension_manager.loaded)}


def _options(shell: Any, name: str) -> Any:
    """What an extension has been told, of those that we know."""
    if name not in ("autoreload", "IPython.extensions.autoreload"):
        return None
    reloader = _reloader(shell)
    return None if reloader is None else {key: getattr(reloader, key, None) for key in _RELOADER}


def _short(value: Any) -> str:
    return listed(name.removeprefix("IPython.extensions.") for name in value)


_RELOADER: Final = ("enabled", "check_all", "autoload_obj")


def _reloader(shell: Any) -> Any:
    magic = shell.find_line_magic("autoreload")
    return getattr(getattr(magic, "__self__", None), "_reloader", None)


def _put_extensions(shell: Any, value: dict[str, Any]) -> None:
    def put(name: str, options: Any) -> None:
        if shell.extension_manager.load_extension(name) == "no load function":
            raise NotBack("it is no extension any more")
        if options is not None and (reloader := _reloader(shell)) is not None:
            for key, setting in options.items():
                setattr(reloader, key, setting)

    each(value.items(), put)


# --- aliases, magics and hooks ------------------------------------------------------------------


def _aliases(shell: Any) -> dict[str, Any]:
    return dict(shell.alias_manager.aliases)


def _put_aliases(shell: Any, value: dict[str, Any]) -> None:
    each(value.items(), shell.alias_manager.define_alias)


def _magics(shell: Any) -> dict[str, Any]:
    """Those that are functions, or methods of a class, of the notebook."""
    found = {}
    for kind, magics in shell.magics_manager.magics.items():
        for name, magic in magics.items():
            # Others are loaded when they are asked for an attribute.
            if not isinstance(magic, types.FunctionType | types.MethodType):
                continue
            made_by = type(magic.__self__) if isinstance(magic, types.MethodType) else magic
            if _is_notebooks(made_by):
                found[f"%{'%' * (kind == 'cell')}{name}"] = made_by
    return found


def _put_magics(shell: Any, value: dict[str, Any]) -> None:
    registered = set()

    def put(name: str, made_by: Any) -> None:
        kind = "cell" if name.startswith("%%") else "line"
        if not isinstance(made_by, type):
            shell.register_magic_function(made_by, kind, name.lstrip("%"))
        elif made_by not in registered:
            registered.add(made_by)
            shell.register_magics(made_by)

    each(value.items(), put)


def _hook_lists(shell: Any) -> Iterator[tuple[str, list[Any]]]:
    yield from shell.events.callbacks.items()
    for name in ("input_transformers_cleanup", "input_transformers_post", "ast_transformers"):
        if isinstance(hooks := getattr(shell, name, None), list):
            yield name, hooks


def _hooks(shell: Any) -> dict[str, Any]:
    """Functions of the notebook; a library's are registered by whoever loads it."""
    found = {
        name: [hook for hook in hooks if _is_notebooks(hook)] for name, hooks in _hook_lists(shell)
    }
    return {name: hooks for name, hooks in found.items() if hooks}


def _is_notebooks(hook: Any) -> bool:
    function = getattr(hook, "__func__", hook)
    if isinstance(function, types.FunctionType):
        return function.__globals__.get("__name__") == "__main__"
    cls = hook if isinstance(hook, type) else type(hook)
    return cls.__module__ == "__main__"


def _hooks_changed(seen: dict[str, Any], _start: Any) -> Any:
    """A method would come back with a copy of its object."""
    return seen or None


def _put_hooks(shell: Any, value: dict[str, Any]) -> None:
    lists = dict(_hook_lists(shell))

    def put(name: str, hooks: list[Any]) -> None:
        for hook in hooks:
            if not isinstance(hook, types.FunctionType):
                raise NotBack("a method, or an object, is not registered again")
            if hook not in lists[name]:
                lists[name].append(hook)

    each(value.items(), put)


# --- settings ---------------------------------------------------------------------------------

_PLAIN: Final = (str, int, float, bool, bytes, type(None))


def _settings(shell: Any) -> dict[str, Any]:
    """What `%config`, `%xmode`, `%pdb` and `%precision` set, as far as it is not the default."""
    found: dict[str, Any] = {
        "%xmode": getattr(shell.InteractiveTB, "mode", None),
        "%pdb": bool(shell.call_pdb),
    }
    for owner in _configurables(shell):
        traits = type(owner)._traits
        for name, value in owner._trait_values.items():
            trait = traits.get(name)
            if trait is None or not trait.metadata.get("config") or name.endswith("_printers"):
                continue
            if value == trait.default_value or not _is_plain(value):
                continue
            if value != owner.trait_defaults(name):
                found[f"{type(owner).__name__}.{name}"] = value
    return found


def _configurables(shell: Any) -> list[Any]:
    return [*shell.configurables, *shell.display_formatter.formatters.values()]


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple | set):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, (*value, *value.values())))
    return type(value) in _PLAIN


def _settings_changed(seen: dict[str, Any], start: dict[str, Any]) -> Any:
    return changes(seen, start)


def _put_settings(shell: Any, value: dict[str, Any]) -> None:
    owners = {type(owner).__name__: owner for owner in _configurables(shell)}

    def put(name: str, setting: Any) -> None:
        if name == "%xmode":
            shell.InteractiveTB.set_mode(mode=setting)
        elif name == "%pdb":
            shell.call_pdb = setting
        else:
            owner, _, trait = name.partition(".")
            if owner not in owners:
                raise NotBack(f"there is no {owner}")
            setattr(owners[owner], trait, setting)

    each(value.items(), put)


EXTENSIONS: Final = Item("extensions", _extensions, changes, _put_extensions, _short, first=True)
ITEMS: Final = (
    Item("aliases", _aliases, changes, _put_aliases, listed),
    Item("magics", _magics, changes, _put_magics, listed),
    Item("hooks", _hooks, _hooks_changed, _put_hooks, listed),
    Item("IPython settings", _settings, _settings_changed, _put_settings, listed),
)
