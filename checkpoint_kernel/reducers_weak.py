"""How weak references and weak collections are saved: they share a unit with what they refer to,
and keep nothing alive after the restore. A reference to what is gone comes back dead.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Final

from . import rebuild_builtin as rebuild


def _reference(reference: Any) -> Any:
    return (rebuild.weak_reference, (reference(), reference.__callback__))


def _proxy(proxy: Any) -> Any:
    try:
        referent = proxy.__reduce_ex__.__self__  # bound to what the proxy stands for
    except ReferenceError:
        referent = None
    return (rebuild.weak_proxy, (referent,))


def _weak_method(reference: Any) -> Any:
    method = reference()
    parts: tuple[Any, Any] = (None, None)
    if method is not None:
        parts = (method.__self__, method.__func__)
    return (rebuild.weak_method, parts)


def _weak_collection(collection: Any) -> Any:
    # Filled after it is memoized: what is in it may refer to it.
    if isinstance(collection, weakref.WeakSet):
        state: list[Any] = list(collection)
    else:
        state = list(collection.items())
    return (type(collection), (), state, None, None, rebuild.fill_weakly)


def _finalizer(finalizer: Any) -> Any:
    parts: tuple[Any, ...] = finalizer.peek() or (None, None, (), {})
    return (rebuild.finalizer, (*parts, finalizer.atexit))


BY_TYPE: Final[dict[type, Callable[[Any], Any]]] = {
    weakref.ReferenceType: _reference,
    weakref.ProxyType: _proxy,
    weakref.CallableProxyType: _proxy,
    weakref.WeakMethod: _weak_method,
    weakref.WeakSet: _weak_collection,
    weakref.WeakValueDictionary: _weak_collection,
    weakref.WeakKeyDictionary: _weak_collection,
    weakref.finalize: _finalizer,
}
