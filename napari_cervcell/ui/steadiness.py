"""Keeps what is loaded and thrown away from holding up the window."""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

from threadpoolctl import threadpool_limits

__all__ = ["keep_steady", "load_torch"]

_M_MMAP_THRESHOLD = -3  # of mallopt(3)
_TURN = 0.0005  # seconds until an import lets the window go on, which asks for that hundreds of times a frame
# in the order in which they need each other
_LIBRARIES = [("libtorch_global_deps.so", True), ("libtorch_cpu.so", False), ("libtorch_cuda.so", False)]

_is_ours = False  # whether the process has our window alone
_loading = threading.Lock()


def keep_steady() -> None:
    """Keep a process that has our window alone from holding it for housekeeping, and from growing.

    Python's searches for garbage go through all that was ever imported, which takes 0.2 s with napari and 0.4 s with
    torch beside it: what is there now, and later torch, is left out of them. And glibc keeps what large arrays leave,
    100 MB after a look at a million cells: from 1 MiB on it shall give that back. And numpy's OpenBLAS has
    threads, one for each core, that go on turning for some time after each product of matrices; ours are all small.
    """
    global _is_ours
    _is_ours = True
    gc.freeze()
    threadpool_limits(1, "blas")
    with suppress(OSError, AttributeError):  # elsewhere there is another library, with habits of its own
        ctypes.CDLL("libc.so.6").mallopt(_M_MMAP_THRESHOLD, 1 << 20)


def load_torch() -> None:
    """Load torch and what works with it, in a thread that nobody waits for; call before whatever may load it.

    triton, which torch loads with it where it is installed, brings a copy of LLVM of its own. Where OpenGL is done by
    Mesa's software renderer, whose LLVM is in the process already, loading it ends the process. Nothing here compiles
    models, so torch is told that there is no triton.
    """
    with _loading:
        sys.modules.setdefault("triton", None)  # type: ignore[arg-type]
        if "torch" in sys.modules:
            return
        _map_libraries()
        usual = sys.getswitchinterval()
        sys.setswitchinterval(_TURN)
        if _is_ours:
            gc.disable()
        try:
            importlib.import_module("napari_cervcell.detection")
        finally:
            sys.setswitchinterval(usual)
            if _is_ours:
                gc.freeze()
                gc.enable()


def _map_libraries() -> None:
    """Have the system load torch's libraries, half a second, without Python's lock; importing them would hold it."""
    spec = importlib.util.find_spec("torch")
    if sys.platform != "linux" or spec is None or spec.origin is None:
        return
    dlopen = ctypes.CDLL(None).dlopen  # called so it runs without the lock, unlike ctypes.CDLL itself
    dlopen.restype = ctypes.c_void_p
    for name, for_all in _LIBRARIES:
        file = os.fsencode(Path(spec.origin).with_name("lib") / name)
        dlopen(ctypes.c_char_p(file), ctypes.c_int(os.RTLD_LAZY | (os.RTLD_GLOBAL if for_all else 0)))
