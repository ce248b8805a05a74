"""Keeps a library from moving the place where signal handlers run."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _Stack(ctypes.Structure):
    """``stack_t`` of signal.h on Linux."""

    _fields_ = (("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Restore the thread's alternate signal stack after the body.

    OpenVINO's CPU plugin registers one of its own while it compiles and may free it later. Python's handlers run on
    the alternate stack, so Ctrl-C and SIGTERM would then end the process with a segmentation fault, and nothing
    would be cleaned up.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    libc, before = ctypes.CDLL(None), _Stack()
    known = libc.sigaltstack(None, ctypes.byref(before)) == 0
    try:
        yield
    finally:
        if known:
            libc.sigaltstack(ctypes.byref(before), None)
