"""Reducers for xgboost, lightgbm and the devices of jax.

Models are written by code that starts parallel regions, and in a forked process such a region
waits for ever for threads that are not there: here it is told to use one.
"""

from __future__ import annotations

import contextlib
import copyreg
import ctypes
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from checkpoint_kernel import rebuild
from checkpoint_kernel.refusals import Refusal, Refused, type_name
from checkpoint_kernel.registry import named_reduction

_RUNTIMES = ("libgomp", "libomp", "libiomp")


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Parallel regions of OpenMP that begin in this thread have one thread."""
    before = [(library, library.omp_get_max_threads()) for library in _openmp()]
    for library, _ in before:
        library.omp_set_num_threads(1)
    try:
        yield
    finally:
        for library, threads in before:
            library.omp_set_num_threads(threads)


def _openmp() -> list[ctypes.CDLL]:
    with open("/proc/self/maps") as maps:
        paths = {line.split(maxsplit=5)[-1].strip() for line in maps if line.count("/")}
    runtimes = [path for path in paths if Path(path).name.startswith(_RUNTIMES)]
    return [ctypes.CDLL(path, os.RTLD_NOLOAD | os.RTLD_LAZY) for path in sorted(runtimes)]


# --- xgboost


def reduce_booster(booster: Any) -> Any:
    """As both libraries do, with one thread."""
    with one_thread(), _one_thread_of_lightgbm():
        state = booster.__getstate__()
    return (copyreg.__newobj__, (type(booster),), state)  # type: ignore[attr-defined]


_INFOS = ("label_lower_bound", "label_upper_bound", "feature_weights")


def reduce_matrix(matrix: Any) -> Any:
    """Data and everything that was said of it. xgboost has kept no more of the data than this."""
    if type(matrix).__name__ != "DMatrix":
        raise Refused(type_name(matrix), Refusal("xgboost cannot give back what it was made of"))
    with one_thread():
        data = matrix.get_data()
        given = {
            "label": matrix.get_label(),
            "weight": matrix.get_weight(),
            "base_margin": matrix.get_base_margin(),
            "feature_names": matrix.feature_names,
            "feature_types": matrix.feature_types,
        }
        infos = {name: matrix.get_float_info(name) for name in _INFOS}
        groups = matrix.get_uint_info("group_ptr")
    given = {name: value for name, value in given.items() if value is not None and len(value)}
    infos = {name: value for name, value in infos.items() if len(value)}
    return (load_matrix, (data, given, infos, groups if len(groups) else None))


def load_matrix(data: Any, given: dict[str, Any], infos: dict[str, Any], groups: Any) -> Any:
    """`xgboost.DMatrix`."""
    import numpy as np
    import xgboost

    categorical = "c" in (given.get("feature_types") or ())
    made = xgboost.DMatrix(data, **given, enable_categorical=categorical)
    for name, value in infos.items():
        made.set_float_info(name, value)
    if groups is not None:
        made.set_group(np.diff(groups))
    return made


named_reduction("xgboost.core", "Booster", reduce_booster, subclasses=True)
named_reduction("xgboost.core", "DMatrix", reduce_matrix, subclasses=True)


# --- jax


def reduce_device(device: Any) -> Any:
    """By platform and number."""
    arguments = (load_device, type_name(device), "see jax.devices()", device.platform, device.id)
    return (rebuild.or_stub, arguments)


def load_device(platform: str, number: int) -> Any:
    """One of `jax.devices`."""
    import jax

    try:
        there = jax.devices(platform)
    except RuntimeError as why:
        raise rebuild.NotThere(f"there is no {platform} here") from why
    for device in there:
        if device.id == number:
            return device
    raise rebuild.NotThere(f"there is no {platform} device {number} here")


named_reduction("jaxlib._jax", "Device", reduce_device)


# --- lightgbm


@contextlib.contextmanager
def _one_thread_of_lightgbm() -> Iterator[None]:
    """What a model's `num_threads` has set comes before what OpenMP is told."""
    library = getattr(sys.modules.get("lightgbm.basic"), "_LIB", None)
    if library is None or not hasattr(library, "LGBM_SetMaxThreads"):
        yield
        return
    before = ctypes.c_int()
    library.LGBM_GetMaxThreads(ctypes.byref(before))
    library.LGBM_SetMaxThreads(ctypes.c_int(1))
    try:
        yield
    finally:
        library.LGBM_SetMaxThreads(before)


def reduce_dataset(dataset: Any) -> Any:
    """From its data, which is binned again, or by lightgbm's own file where that is gone."""
    state = {name: value for name, value in vars(dataset).items() if name != "_handle"}
    binary = None
    if dataset._handle is not None and dataset.data is None:
        with tempfile.TemporaryDirectory() as directory, one_thread(), _one_thread_of_lightgbm():
            path = Path(directory, "dataset.bin")
            dataset.save_binary(path)
            binary = path.read_bytes()
    whole = (state, binary, dataset._handle is not None)
    return (load_dataset, (type(dataset),), whole, None, None, set_dataset)


def load_dataset(cls: Any) -> Any:
    """A dataset without anything."""
    made = cls.__new__(cls)
    made._handle = None
    return made


def set_dataset(dataset: Any, state: tuple[dict[str, Any], bytes | None, bool]) -> None:
    """Its attributes, and its bins if it had any."""
    attributes, binary, constructed = state
    vars(dataset).update(attributes)
    if not constructed or rebuild.trying:
        return
    if binary is None:
        dataset.construct()
        return
    import lightgbm

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "dataset.bin")
        path.write_bytes(binary)
        loaded = lightgbm.Dataset(path, params=dataset.params).construct()
    dataset._handle, loaded._handle = loaded._handle, None


named_reduction("lightgbm.basic", "Booster", reduce_booster, subclasses=True)
named_reduction("lightgbm.basic", "Dataset", reduce_dataset, subclasses=True)
