"""Reducers for requests, shapely and tqdm."""

from __future__ import annotations

from typing import Any

from checkpoint_kernel.refusals import Refusal, Refused, type_name
from checkpoint_kernel.registry import named, named_reduction


def reduce_response(response: Any) -> Any:
    """One whose body is still to come would read it in order to be saved."""
    if response._content_consumed or response._content is not False or response.raw is None:
        return NotImplemented
    reason = "its body is still in the connection, which ends with its process"
    raise Refused(type_name(response), Refusal(reason, "read its content before a checkpoint"))


named_reduction("requests", "Response", reduce_response, subclasses=True)


def save_prepared(prepared: Any) -> Any:
    """The geometry: it is prepared again."""
    return prepared.context


def load_prepared(geometry: Any) -> Any:
    """`shapely.prepared.prep`."""
    from shapely.prepared import prep

    return prep(geometry)


named("shapely.prepared", "PreparedGeometry", save_prepared, load_prepared)


def reduce_bar(bar: Any) -> Any:
    """Everything but the function that writes, which is made again for the same file."""
    kept = {name: value for name, value in vars(bar).items() if name not in ("sp", "fp", "_time")}
    file = getattr(bar, "fp", None)
    file = getattr(file, "_wrapped", file)
    return (load_bar, (type(bar),), (kept, file), None, None, set_bar)


def load_bar(cls: Any) -> Any:
    """A bar that shows nothing yet."""
    return object.__new__(cls)


def set_bar(bar: Any, state: tuple[dict[str, Any], Any]) -> None:
    """As far as it was; it draws itself again when it moves."""
    import time

    from tqdm.utils import DisableOnWriteError

    kept, file = state
    vars(bar).update(kept)
    bar._time = time.time
    if file is not None:
        bar.fp = DisableOnWriteError(file, tqdm_instance=bar)
    if "pos" in kept:
        bar.sp = bar.status_printer(bar.fp)
        type(bar)._instances.add(bar)


named_reduction("tqdm.std", "tqdm", reduce_bar)
named_reduction("tqdm.asyncio", "tqdm_asyncio", reduce_bar)
