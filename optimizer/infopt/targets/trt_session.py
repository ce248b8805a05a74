"""Runs engines on the GPU."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from infopt.errors import RuntimeRefused
from infopt.targets.cuda import Cuda
from infopt.targets.trt_build import ALSO_OUTPUT, numpy_dtype, quiet_logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infopt.data import Feed
    from infopt.target import Artifact


@contextmanager
def opened_session(trt: Any, library: Any, artifact: Artifact) -> Iterator[EngineSession]:
    """An engine ready to run; its memory is given back in the end.

    Args:
        trt: The binding.
        library: The CUDA driver.
        artifact: Brings the engine.

    Raises:
        RuntimeRefused: The runtime does not take the engine, as happens with one of another version, or the
            driver refuses.
    """
    cuda = Cuda.start(library, artifact.target)
    session = None
    try:
        runtime, engine = _loaded(trt, artifact)
        session = EngineSession(trt, cuda, runtime, engine, engine.create_execution_context())
        del runtime, engine
        if session.context is None:
            raise RuntimeRefused(artifact.target, f"{artifact.main.name} finds no memory to run in")
        yield session
    finally:
        if session is not None:
            session.close()
        cuda.stop()


def inspected(trt: Any, library: Any, artifact: Artifact) -> str:
    """What the engine inspector tells of an engine, as JSON.

    Raises:
        RuntimeRefused: As with :func:`opened_session`.
    """
    with opened_session(trt, library, artifact) as session:
        inspector = session.engine.create_engine_inspector()
        return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def _loaded(trt: Any, artifact: Artifact) -> tuple[Any, Any]:
    logger = quiet_logger(trt)
    runtime = trt.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(artifact.main.read_bytes())
    if engine is None:
        text = "\n".join(logger.lines)
        raise RuntimeRefused(artifact.target, f"{artifact.main.name} cannot be loaded", None, text)
    return runtime, engine


@dataclass(slots=True)
class EngineSession:
    """An execution context behind :class:`infopt.target.Session`.

    Attributes:
        trt: The binding.
        cuda: Where it runs.
        runtime: What the engine was loaded with.
        engine: The engine.
        context: Its execution context.
        buffers: Device memory by tensor: address and size. It only grows.
    """

    trt: Any
    cuda: Cuda
    runtime: Any
    engine: Any
    context: Any
    buffers: dict[str, tuple[int, int]] = field(default_factory=dict)

    def run(self, feed: Feed) -> list[np.ndarray]:
        """Run one batch; see :meth:`infopt.target.Session.run`."""
        self.cuda.enter()
        # The copies to the device are only queued: these arrays have to live until the wait.
        sources = {name: name if name in feed else name.removeprefix(ALSO_OUTPUT) for name in self._names("INPUT")}
        inputs = {name: np.asarray(feed[sources[name]], self._dtype(name), order="C") for name in sources}
        for name, array in inputs.items():
            if not self.context.set_input_shape(name, array.shape):
                raise self._refused(f"input {name!r} of shape {array.shape} is not what it was built for")
            self._bind(name, array, load=True)
        try:
            lacking = self.context.infer_shapes()
        except RuntimeError as error:
            raise self._refused(str(error)) from error
        if lacking:
            raise self._refused(f"the shapes of {', '.join(lacking)} are not known")
        outputs = {name: self._output(name) for name in self._names("OUTPUT")}
        if not self.context.execute_async_v3(self.cuda.stream.value or 0):
            raise self._refused("the engine failed to run")
        for name, array in outputs.items():
            if not self._on_host(name):
                self.cuda.download(array, self.buffers[name][0])
        self.cuda.wait()
        return list(outputs.values())

    def close(self) -> None:
        """Free the device memory, and the library's objects in the reverse order of their making."""
        self.cuda.enter()
        for pointer, _ in self.buffers.values():
            self.cuda.free(pointer)
        self.buffers.clear()
        self.context = None
        self.engine = None
        self.runtime = None

    def _output(self, name: str) -> np.ndarray:
        shape = tuple(self.context.get_tensor_shape(name))
        if min(shape, default=0) < 0:
            raise self._refused(f"the shape of output {name!r} depends on the data")
        array = np.empty(shape, self._dtype(name))
        self._bind(name, array, load=False)
        return array

    def _bind(self, name: str, array: np.ndarray, load: bool) -> None:
        """Tell the context where a tensor is."""
        if self._on_host(name):
            self.context.set_tensor_address(name, array.ctypes.data)
            return
        pointer, size = self.buffers.get(name, (0, -1))
        if size < array.nbytes:
            if pointer:
                self.cuda.free(self.buffers.pop(name)[0])
            pointer = self.cuda.allocate(array.nbytes)
            self.buffers[name] = pointer, array.nbytes
        if load:
            self.cuda.upload(pointer, array)
        self.context.set_tensor_address(name, pointer)

    def _names(self, mode: str) -> list[str]:
        wanted = getattr(self.trt.TensorIOMode, mode)
        names = (self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors))
        return [name for name in names if self.engine.get_tensor_mode(name) == wanted]

    def _on_host(self, name: str) -> bool:
        """Shape tensors are read and written by the processor."""
        return bool(self.engine.get_tensor_location(name) == self.trt.TensorLocation.HOST)

    def _dtype(self, name: str) -> np.dtype[Any]:
        return numpy_dtype(self.engine.get_tensor_dtype(name))

    def _refused(self, message: str) -> RuntimeRefused:
        return RuntimeRefused(self.cuda.target, message)
