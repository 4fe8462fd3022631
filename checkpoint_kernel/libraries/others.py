"""Reducers for requests, shapely, tqdm, sympy, functions that pydantic validates, and contexts.

A context of `contextlib.contextmanager` is what many libraries give: pandas.option_context.
"""

from __future__ import annotations

import inspect
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
    cls.get_lock()  # its constructor makes sure that there is one
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


def save_validated(wrapper: Any) -> tuple[Any, Any, bool]:
    """The function, and how its arguments are validated."""
    return (wrapper.function, wrapper.config_wrapper.config_dict, wrapper.validate_return)


def load_validated(state: tuple[Any, Any, bool]) -> Any:
    """What `pydantic.validate_call` puts around a function."""
    from pydantic._internal._validate_call import ValidateCallWrapper

    function, config, validate_return = state
    return ValidateCallWrapper(function, config, validate_return, None)


named("pydantic._internal._validate_call", "ValidateCallWrapper", save_validated, load_validated)


def reduce_context(context: Any) -> Any:
    """One that has not been entered: its function and arguments."""
    if inspect.getgeneratorstate(context.gen) != inspect.GEN_CREATED:
        raise Refused(type_name(context), Refusal("it has been entered", "make it again"))
    return (load_context, (type(context), context.func, context.args, context.kwds))


def load_context(cls: Any, function: Any, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """What a function under `contextlib.contextmanager` returns."""
    return cls(function, given, named)


named_reduction("contextlib", "_GeneratorContextManager", reduce_context, subclasses=True)


def reduce_template(template: Any) -> Any:
    """Its attributes: to make one takes the source, which jinja does not keep."""
    attributes = dict(vars(template))
    module = attributes.pop("_module", None)
    del module  # what it exports is computed again
    return (load_template, (type(template),), attributes, None, None, set_template)


def load_template(cls: Any) -> Any:
    """A template without anything."""
    return object.__new__(cls)


def set_template(template: Any, attributes: dict[str, Any]) -> None:
    """Its code and its environment."""
    vars(template).update(attributes)
    template._module = None


named_reduction("jinja2.environment", "Template", reduce_template, subclasses=True)


def reduce_group(group: Any) -> Any:
    """A permutation group of sympy: its own pickling keeps the generators and no attributes."""
    return (type(group), tuple(group.generators))


named_reduction("sympy.combinatorics.perm_groups", "PermutationGroup", reduce_group)
