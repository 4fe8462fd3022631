"""May a process with a CUDA context be forked? A forked child must not touch the device.

Memory of torch's is copied to the host before the fork (`staging`). What other libraries have on
a device (CuPy, JAX, TensorFlow, numba) only the kernel itself can read, when it pickles. Asks
torch, and the driver, if one of them has loaded it. Loads nothing and makes no context. Untested
on a device.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any, Final

_OTHER_LIBRARIES: Final = ("cupy", "jaxlib", "tensorflow", "numba.cuda", "pycuda", "cudf", "mxnet")


def context_is_live() -> bool:
    """A context exists, made by any library; initialising the driver alone makes none."""
    if _is_torchs():
        return True
    driver = _driver()
    count = ctypes.c_int()
    # CUDA_ERROR_NOT_INITIALIZED where nobody has called cuInit.
    if driver is None or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return False
    return any(_is_active(driver, device) for device in range(count.value))


def refusal() -> str | None:
    """Why this process must not be forked for a snapshot; None if it may."""
    if not context_is_live():
        return None
    others = [name for name in _OTHER_LIBRARIES if name in sys.modules]
    if _is_torchs() and not others:
        return None
    whose = ", ".join(others) or "an unknown library"
    return f"a CUDA context is live, perhaps of {whose}, and a forked process must not touch it"


def _is_torchs() -> bool:
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    return bool(getattr(cuda, "is_initialized", bool)())


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
