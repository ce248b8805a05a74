"""The few calls of the CUDA driver that running an engine takes; ctypes, so that no package is needed."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infopt.errors import RuntimeRefused

if TYPE_CHECKING:
    import numpy as np


def driver() -> Any:
    """The driver library, or ``None`` where it is not installed."""
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None


def no_gpu() -> str | None:
    """Why nothing can run on a GPU here, or ``None``."""
    library = driver()
    if library is None:
        return "no GPU on this machine (no NVIDIA driver)"
    code = library.cuInit(0)
    count = ctypes.c_int(0)
    if code or library.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return f"no GPU on this machine (CUDA code {code})"
    return None


def gpu_name() -> str:
    """Name of the first GPU; there has to be one."""
    library, name = driver(), ctypes.create_string_buffer(256)
    library.cuDeviceGetName(name, len(name), 0)
    return name.value.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class Cuda:
    """The first GPU's primary context and a stream in it.

    Attributes:
        library: The driver.
        target: Name of the target, for errors.
        context: Handle of the context.
        stream: Handle of the stream.
    """

    library: Any
    target: str
    context: ctypes.c_void_p
    stream: ctypes.c_void_p

    @classmethod
    def start(cls, library: Any, target: str) -> Cuda:
        """Take the context and make a stream.

        Raises:
            RuntimeRefused: The driver refuses; so do all other methods.
        """
        cuda = cls(library, target, ctypes.c_void_p(), ctypes.c_void_p())
        cuda.call("cuInit", 0)
        cuda.call("cuDevicePrimaryCtxRetain", ctypes.byref(cuda.context), 0)
        cuda.enter()
        cuda.call("cuStreamCreate", ctypes.byref(cuda.stream), 1)
        return cuda

    def enter(self) -> None:
        """Make the context this thread's."""
        self.call("cuCtxSetCurrent", self.context)

    def allocate(self, size: int) -> int:
        """Address of new device memory of at least one byte."""
        pointer = ctypes.c_void_p()
        self.call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(max(size, 1)))
        assert pointer.value is not None
        return pointer.value

    def free(self, pointer: int) -> None:
        """Give device memory back."""
        self.call("cuMemFree_v2", ctypes.c_void_p(pointer))

    def upload(self, pointer: int, array: np.ndarray) -> None:
        """Queue a copy of a contiguous array to the device."""
        host, device = ctypes.c_void_p(array.ctypes.data), ctypes.c_void_p(pointer)
        self.call("cuMemcpyHtoDAsync_v2", device, host, ctypes.c_size_t(array.nbytes), self.stream)

    def download(self, array: np.ndarray, pointer: int) -> None:
        """Queue a copy from the device to a contiguous array."""
        host, device = ctypes.c_void_p(array.ctypes.data), ctypes.c_void_p(pointer)
        self.call("cuMemcpyDtoHAsync_v2", host, device, ctypes.c_size_t(array.nbytes), self.stream)

    def wait(self) -> None:
        """Wait for everything that was queued."""
        self.call("cuStreamSynchronize", self.stream)

    def stop(self) -> None:
        """Give stream and context back."""
        self.call("cuStreamDestroy_v2", self.stream)
        self.call("cuDevicePrimaryCtxRelease_v2", 0)

    def call(self, function: str, *args: Any) -> None:
        """Call the driver."""
        code = getattr(self.library, function)(*args)
        if code:
            raise RuntimeRefused(self.target, f"the CUDA driver's {function} failed with code {code}")
