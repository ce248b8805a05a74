"""The ``tensorrt`` and ``tensorrt-rtx`` targets: one implementation, given the binding.

TensorRT builds for the GPU that it runs on. TensorRT-RTX builds portable engines without one, which the
machine that runs them finishes for its GPU; so a refusal of a model is known wherever infopt runs.
"""

from __future__ import annotations

import importlib
import importlib.util
import shlex
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from infopt.errors import Unmeasured
from infopt.precisions import Plans
from infopt.shapes import complete, joined
from infopt.target import Artifact, CompileOptions, Kernels, Session, Settings, Table
from infopt.targets.cuda import driver, gpu_name, no_gpu
from infopt.targets.trt_table import PLANS, TABLE, TENSORRT_TABLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from infopt.errors import RuntimeRefused
    from infopt.shapes import ShapeRange
    from infopt.targets.trt_build import Layer

ENGINE = "model.engine"


@dataclass(frozen=True, slots=True)
class TensorRTTarget:
    """A target of the TensorRT family; see :class:`infopt.target.Target`.

    Attributes:
        module: The binding's module.
        tool: The command that builds an engine where the library is installed.
        offline: Whether it builds without a GPU.
        sparsity: The flag of the command that lets it try sparse kernels.
    """

    name: str
    runtime: str
    extra: str
    module: str
    tool: str
    offline: bool
    table: Table = field(default=TABLE, repr=False)
    sparsity: str = ""

    @property
    def precisions(self) -> Plans:
        """What it runs besides static INT8; see :class:`infopt.precisions.ByPrecision`."""
        return {"int8": self.table, **PLANS}

    def available(self) -> str | None:
        """Whether the library is there, and the GPU if it takes one to build."""
        return self._missing() or (None if self.offline else no_gpu())

    def runnable(self) -> str | None:
        """Whether there is a GPU besides the library."""
        return self._missing() or no_gpu()

    def version(self) -> str:
        """Version of the library."""
        return str(self._library().__version__)

    def device(self) -> str:
        """The first GPU's name, or that there is none."""
        return no_gpu() or gpu_name()

    def settings(self, kind: Literal["float", "int8"]) -> dict[str, Settings]:
        """One: the graph's own types decide, and the runtime chooses among kernels itself."""
        return {"default": {}}

    def compile(self, model: Path, out: Path, options: CompileOptions) -> Artifact:
        """Build ``model.engine``; settings: see :mod:`infopt.targets.trt_build`."""
        from infopt.targets.trt_build import build_engine

        main = out / ENGINE
        build_engine(self._library(), self.name, model, main, options)
        return Artifact(self.name, main, (main,), model, dict(options.settings))

    @contextmanager
    def open(self, artifact: Artifact) -> Iterator[Session]:
        """Load an engine on the first GPU.

        Raises:
            Unmeasured: There is no GPU.
        """
        from infopt.targets.trt_session import opened_session

        reason = self.runnable()
        if reason:
            raise Unmeasured(reason)
        with opened_session(self._library(), driver(), artifact) as session:
            yield session

    def build_command(self, graph: Path, shapes: Sequence[ShapeRange]) -> str:
        """The library's own tool, with a range for every dynamic input; it is run in the graph's folder."""
        from infopt.sparsity import two_of_four

        ranges = _completed(graph, shapes)
        flags = [f"--onnx={graph.name}", f"--saveEngine={ENGINE}", "--skipInference"]
        if self.sparsity and graph.is_file() and two_of_four(graph):
            flags.append(self.sparsity)
        for flag, part in (("min", "low"), ("opt", "opt"), ("max", "high")):
            listed = [f"{_quoted(one.name)}:{joined(getattr(one, part))}" for one in ranges]
            flags += [f"--{flag}Shapes={','.join(listed)}"] if listed else []
        return " ".join([self.tool, *map(shlex.quote, flags)])

    def kernels(self, artifact: Artifact) -> Kernels:
        """Count compute layers by the types that the engine inspector tells."""
        from infopt.targets.trt_kernels import inspected_kernels
        from infopt.targets.trt_session import inspected

        reason = self.runnable()
        if reason:
            raise Unmeasured(f"{reason}: an engine can only be inspected where it runs")
        return inspected_kernels(inspected(self._library(), driver(), artifact))

    def parsed_layers(self, graph: Path) -> list[Layer]:
        """The layers that the parser makes of a graph.

        Raises:
            RuntimeRefused: The parser refuses the graph.
        """
        from infopt.targets.trt_build import network_layers

        return network_layers(self._library(), self.name, graph)

    def refusals(self, model: Path) -> list[RuntimeRefused]:
        """Every node that the parser objects to; empty when the model parses."""
        from infopt.targets.trt_build import parser_refusals

        return parser_refusals(self._library(), self.name, model)

    def planned(self, artifact: Artifact) -> Kernels:
        """As :meth:`kernels`, read from the engine's program without a GPU; TensorRT-RTX engines alone carry one.

        Raises:
            Unmeasured: The engine carries no program.
        """
        from infopt.targets.trt_kernels import planned_kernels

        return planned_kernels(artifact.main)

    def _library(self) -> Any:
        return importlib.import_module(self.module)

    def _missing(self) -> str | None:
        hint = f'pip install "infopt[{self.extra}]"'
        if importlib.util.find_spec(self.module) is None:
            return f"{self.runtime} is not installed: {hint}"
        try:
            self._library()
        except Exception as error:  # a half-installed library raises whatever its loader does
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            return f"{self.runtime} cannot be loaded ({reason[:160]}): {hint}"
        return None


def tensorrt() -> TensorRTTarget:
    """The ``tensorrt`` target, TensorRT 10 and 11."""
    tool = "trtexec --stronglyTyped"
    name, flag = "tensorrt", "--sparsity=enable"
    return TensorRTTarget(name, "TensorRT", name, name, tool, offline=False, table=TENSORRT_TABLE, sparsity=flag)


def tensorrt_rtx() -> TensorRTTarget:
    """The ``tensorrt-rtx`` target."""
    name, module = "tensorrt-rtx", "tensorrt_rtx"
    return TensorRTTarget(name, "TensorRT-RTX", name, module, module, offline=True)


def _completed(graph: Path, shapes: Sequence[ShapeRange]) -> Sequence[ShapeRange]:
    if not graph.is_file():
        return shapes
    from infopt.data import infer_batch_axes
    from infopt.model import input_specs, load

    return complete(infer_batch_axes(input_specs(load(graph).graph), {}), shapes)


def _quoted(name: str) -> str:
    """An input's name as the tools read it: one with a colon stands in quotes of its own."""
    return f"'{name}'" if ":" in name else name
