"""Options and seeds of libraries: what differs from how a library is when it has been imported.

No library is imported here: one that is not loaded has no state, and one that no restored
variable has loaded is named with what is not back.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any, Final

from .state_item import Item, NotBack, changes, counted, differs, each, listed, loaded

# --- numpy ------------------------------------------------------------------------------------

_NUMPY_DEFAULTS: Final = {  # numpy.set_printoptions, numpy.seterr: the manual's
    "edgeitems": 3, "threshold": 1000, "floatmode": "maxprec", "precision": 8, "suppress": False,
    "linewidth": 75, "nanstr": "nan", "infstr": "inf", "sign": "-", "formatter": None,
    "legacy": False, "override_repr": None,
    "divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn",
}  # fmt: skip
_ERRORS: Final = frozenset({"divide", "over", "under", "invalid"})


def _numpy(_shell: Any) -> Any:
    numpy = loaded("numpy")
    return None if numpy is None else {**numpy.get_printoptions(), **numpy.geterr()}


def _numpy_changed(seen: Any, _start: Any) -> Any:
    return None if seen is None else changes(seen, {**seen, **_known(_NUMPY_DEFAULTS, seen)})


def _known(defaults: dict[str, Any], seen: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in defaults.items() if name in seen}


def _put_numpy(_shell: Any, value: dict[str, Any]) -> None:
    numpy = sys.modules["numpy"]

    def put(name: str, setting: Any) -> None:
        (numpy.seterr if name in _ERRORS else numpy.set_printoptions)(**{name: setting})

    each(value.items(), put)


def _numpy_random(_shell: Any) -> Any:
    mtrand = loaded("numpy.random.mtrand")
    return None if mtrand is None else mtrand._rand.get_state(legacy=False)


def _numpy_random_changed(seen: Any, _start: Any) -> Any:
    """Its array as bytes: to load an array would import numpy."""
    if seen is None:
        return None
    state = {
        key: (value.dtype.str, value.tobytes()) if hasattr(value, "tobytes") else value
        for key, value in seen["state"].items()
    }
    return {**seen, "state": state}


def _put_numpy_random(_shell: Any, value: dict[str, Any]) -> None:
    numpy: Any = sys.modules["numpy"]
    state = {
        key: numpy.frombuffer(held[1], held[0]).copy() if isinstance(held, tuple) else held
        for key, held in value["state"].items()
    }
    numpy.random.set_state({**value, "state": state})


# --- pandas -----------------------------------------------------------------------------------


def _flat(options: dict[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in options.items():
        if type(value) is dict:
            flat.update(_flat(value, f"{above}{name}."))
        else:
            flat[above + name] = value
    return flat


def _pandas(_shell: Any) -> Any:
    config = loaded("pandas._config.config")
    ready = config is not None and loaded("pandas") is not None
    return _flat(config._global_config) if ready else None


def _pandas_changed(seen: Any, _start: Any) -> Any:
    if seen is None:
        return None
    registered = sys.modules["pandas._config.config"]._registered_options
    defaults = {name: one.defval for name, one in registered.items()}
    return changes({k: v for k, v in seen.items() if k in defaults}, defaults)


def _put_pandas(_shell: Any, value: dict[str, Any]) -> None:
    each(value.items(), sys.modules["pandas"].set_option)


# --- matplotlib -------------------------------------------------------------------------------

_INLINE: Final = ("inline", "module://matplotlib_inline.backend_inline")
_NOT_STYLE: Final = frozenset({"backend", "backend_fallback"})


def _matplotlib(shell: Any) -> Any:
    matplotlib = loaded("matplotlib")
    if matplotlib is None or not hasattr(matplotlib, "rcParams"):
        return None
    # As a dict: an RcParams resolves the backend when it is asked.
    settings = dict(dict.items(matplotlib.rcParams))
    callbacks = shell.events.callbacks.get("post_execute", ())
    flushes = any(getattr(one, "__name__", "") == "flush_figures" for one in callbacks)
    return {"settings": settings, "flushes": flushes, "pyplot": "matplotlib.pyplot" in sys.modules}


def _matplotlib_changed(seen: Any, _start: Any) -> Any:
    """What is not as this installation's files say, and the backend if figures are drawn."""
    if seen is None:
        return None
    original = dict(dict.items(sys.modules["matplotlib"].rcParamsOrig))
    settings = {
        name: value
        for name, value in seen["settings"].items()
        if name not in _NOT_STYLE and differs(value, original.get(name))
    }
    backend = seen["settings"].get("backend")
    backend = backend if isinstance(backend, str) and seen["pyplot"] else None
    if backend in _INLINE:  # as whoever imports pyplot in a kernel has it
        backend = "inline" if seen["flushes"] else None
        settings.pop("interactive", None)
    if not settings and backend in (None, "inline"):
        return None
    return {"settings": settings, "backend": backend}


def _put_matplotlib(shell: Any, value: dict[str, Any]) -> None:
    matplotlib: Any = sys.modules["matplotlib"]
    with warnings.catch_warnings():  # of names that are on their way out
        warnings.simplefilter("ignore")
        backend = value["backend"]
        if backend == "inline":
            now = _matplotlib(shell)
            if not (now["flushes"] and now["settings"].get("backend") in _INLINE):
                shell.enable_matplotlib("inline")
        elif backend is not None and matplotlib.get_backend() != backend:
            matplotlib.use(backend, force=True)
        each(value["settings"].items(), matplotlib.rcParams.__setitem__)


def _matplotlib_words(value: dict[str, Any]) -> str:
    settings = len(value["settings"])
    parts = [f"{settings} rcParams"] if settings else []
    return ", ".join(parts + ([f"backend {value['backend']}"] if value["backend"] else []))


# --- torch ------------------------------------------------------------------------------------

_PRINTED: Final = ("precision", "threshold", "edgeitems", "linewidth", "sci_mode")
_TORCH_DEFAULTS: Final = {
    "default dtype": "float32", "gradients": True, "deterministic": (False, False),
    "matmul precision": "highest", "anomaly": False, "default device": None,
    "cudnn benchmark": False, "cudnn deterministic": False,
    "print": (4, 1000, 3, 80, None),
}  # fmt: skip


def _torch(_shell: Any) -> Any:
    torch = loaded("torch")
    if torch is None:
        return None
    printed = torch._tensor_str.PRINT_OPTS
    # Not torch.get_default_device(): that makes a tensor.
    device = getattr(loaded("torch.utils._device"), "CURRENT_DEVICE", None)
    return {
        "default dtype": str(torch.get_default_dtype()).removeprefix("torch."),
        "gradients": torch.is_grad_enabled(),
        "deterministic": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        "matmul precision": torch.get_float32_matmul_precision(),
        "anomaly": torch.is_anomaly_enabled(),
        "default device": None if device is None else str(device),
        "cudnn benchmark": torch.backends.cudnn.benchmark,
        "cudnn deterministic": torch.backends.cudnn.deterministic,
        "print": tuple(getattr(printed, name) for name in _PRINTED),
        "threads": (torch.get_num_threads(), _processors()),
    }


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _torch_changed(seen: Any, _start: Any) -> Any:
    if seen is None:
        return None
    # How many threads torch takes by itself is not known: they are as they are.
    return changes(seen, _TORCH_DEFAULTS)


def _torch_words(value: dict[str, Any]) -> str | None:
    return listed(value.keys() - {"threads"}) or None


def _put_torch(_shell: Any, value: dict[str, Any]) -> None:
    torch: Any = sys.modules["torch"]

    def threads(setting: Any) -> None:
        number, processors = setting
        if processors == _processors():  # on another machine it is another number
            torch.set_num_threads(number)

    def printed(setting: Any) -> None:
        for name, one in zip(_PRINTED, setting, strict=True):
            setattr(torch._tensor_str.PRINT_OPTS, name, one)

    setters: dict[str, Callable[[Any], object]] = {
        "default dtype": lambda name: torch.set_default_dtype(getattr(torch, name)),
        "gradients": torch.set_grad_enabled,
        "deterministic": lambda two: torch.use_deterministic_algorithms(two[0], warn_only=two[1]),
        "matmul precision": torch.set_float32_matmul_precision,
        "anomaly": torch.autograd.set_detect_anomaly,
        "default device": torch.set_default_device,
        "cudnn benchmark": lambda on: setattr(torch.backends.cudnn, "benchmark", on),
        "cudnn deterministic": lambda on: setattr(torch.backends.cudnn, "deterministic", on),
        "print": printed,
        "threads": threads,
    }
    each(value.items(), lambda name, setting: setters[name](setting))


def _torch_random(_shell: Any) -> Any:
    """On a GPU only where that is in use: the state of a generator lies in the host's memory."""
    torch = loaded("torch")
    if torch is None:
        return None
    on_gpu: list[bytes] = []
    if torch.cuda.is_initialized():
        on_gpu = [bytes(one.get_state().tolist()) for one in torch.cuda.default_generators]
    return {"cpu": torch.default_generator.get_state().numpy().tobytes(), "cuda": on_gpu}


def _put_torch_random(_shell: Any, value: dict[str, Any]) -> None:
    torch: Any = sys.modules["torch"]

    def state(held: bytes) -> Any:
        return torch.frombuffer(bytearray(held), dtype=torch.uint8)

    torch.default_generator.set_state(state(value["cpu"]))
    if not value["cuda"]:
        return
    if not torch.cuda.is_available():
        raise NotBack("there is no GPU for the part of it that is CUDA's", "seed again")
    torch.cuda.init()
    for generator, held in zip(torch.cuda.default_generators, value["cuda"], strict=False):
        generator.set_state(state(held))


# --- polars, scikit-learn, xarray -------------------------------------------------------------


def _polars(_shell: Any) -> Any:
    """As Config.save() tells it, which would take ten times as long."""
    config = loaded("polars.config")
    if config is None:
        return None
    known = config._POLARS_CFG_ENV_VARS
    return {
        "environment": {name: os.environ[name] for name in os.environ if name in known},
        "direct": {name: get() for name, get in config._POLARS_CFG_DIRECT_VARS.items()},
    }


_POLARS_DEFAULTS: Final = {
    "set_fmt_float": "mixed", "set_float_precision": None, "set_thousands_separator": "",
    "set_decimal_separator": ".", "set_trim_decimal_zeros": False,
}  # fmt: skip


def _polars_changed(seen: Any, _start: Any) -> Any:
    if seen is None:
        return None
    direct = changes(seen["direct"], {**seen["direct"], **_POLARS_DEFAULTS}) or {}
    value = {"environment": seen["environment"], "direct": direct}
    return value if any(value.values()) else None


def _put_polars(_shell: Any, value: dict[str, Any]) -> None:
    sys.modules["polars"].Config.load(json.dumps(value))


def _polars_words(value: dict[str, Any]) -> str:
    return listed(name.removeprefix("POLARS_") for part in value.values() for name in part)


def _sklearn(_shell: Any) -> Any:
    config = loaded("sklearn._config")
    return None if config is None else config.get_config()


def _sklearn_changed(seen: Any, _start: Any) -> Any:
    return None if seen is None else changes(seen, sys.modules["sklearn._config"]._global_config)


def _put_sklearn(_shell: Any, value: dict[str, Any]) -> None:
    sys.modules["sklearn._config"].set_config(**value)


def _xarray(_shell: Any) -> Any:
    options = loaded("xarray.core.options")
    return None if options is None else dict(options.OPTIONS)


_XARRAY_DEFAULTS: Final = {
    "display_width": 80, "display_max_rows": 12, "display_style": "html", "keep_attrs": "default",
    "arithmetic_join": "inner", "display_expand_attrs": "default",
    "display_expand_data": "default", "display_expand_coords": "default",
}  # fmt: skip


def _xarray_changed(seen: Any, _start: Any) -> Any:
    return None if seen is None else changes(_known(seen, _XARRAY_DEFAULTS), _XARRAY_DEFAULTS)


def _put_xarray(_shell: Any, value: dict[str, Any]) -> None:
    sys.modules["xarray"].set_options(**value)


OPTIONS: Final = (
    Item("numpy options", _numpy, _numpy_changed, _put_numpy, listed, scoped=True,
         contextual=True, library="numpy"),
    Item("pandas options", _pandas, _pandas_changed, _put_pandas, counted, scoped=True,
         library="pandas"),
    Item("matplotlib", _matplotlib, _matplotlib_changed, _put_matplotlib, _matplotlib_words,
         scoped=True, library="matplotlib"),
    Item("torch settings", _torch, _torch_changed, _put_torch, _torch_words, scoped=True,
         library="torch"),
    Item("polars Config", _polars, _polars_changed, _put_polars, _polars_words, scoped=True,
         library="polars"),
    Item("scikit-learn config", _sklearn, _sklearn_changed, _put_sklearn, listed, scoped=True,
         library="sklearn"),
    Item("xarray options", _xarray, _xarray_changed, _put_xarray, listed, scoped=True,
         library="xarray"),
)  # fmt: skip
SEEDS: Final = (
    Item("seed of numpy", _numpy_random, _numpy_random_changed, _put_numpy_random,
         library="numpy"),
    Item("seed of torch", _torch_random, lambda seen, _start: seen, _put_torch_random,
         early=True, library="torch"),
)  # fmt: skip
