"""Is a CUDA context live in this process? A forked child must not touch it.

Asks torch, and for all other libraries (CuPy, JAX, TensorFlow, numba) the driver, if one of
them has loaded it. Loads nothing and makes no context. Untested on a device.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any


def context_is_live() -> bool:
    """A context exists, made by any library; initialising the driver alone makes none."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    is_initialized = getattr(cuda, "is_initialized", None)
    if is_initialized is not None and is_initialized():
        return True
    driver = _driver()
    count = ctypes.c_int()
    # CUDA_ERROR_NOT_INITIALIZED where nobody has called cuInit.
    if driver is None or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return False
    return any(_is_active(driver, device) for device in range(count.value))


def _driver() -> Any:
    """libcuda, if this process has it loaded."""
    try:
        return ctypes.CDLL("libcuda.so.1", mode=os.RTLD_NOLOAD | os.RTLD_NOW)
    except (OSError, AttributeError):  # not loaded; no Linux
        return None


def _is_active(driver: Any, device: int) -> bool:
    """CUDA Driver API, cuDevicePrimaryCtxGetState; an error counts as active."""
    flags, active = ctypes.c_uint(), ctypes.c_int()
    failed = driver.cuDevicePrimaryCtxGetState(device, ctypes.byref(flags), ctypes.byref(active))
    return bool(failed or active.value)
