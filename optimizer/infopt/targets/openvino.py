"""OpenVINO on the CPU: QDQ graphs that its low-precision transformations turn into integer kernels."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from infopt.cpu import Isa, machine_isa
from infopt.errors import OptionError, RuntimeRefused, Unmeasured
from infopt.precisions import Plans, Refusal
from infopt.target import (
    Artifact,
    CompileOptions,
    Facts,
    FloatNode,
    Kernels,
    Output,
    Role,
    Rule,
    Scheme,
    Session,
    Settings,
    Table,
)
from infopt.targets.conditions import (
    gemm_scaled,
    indices_read,
    not_nearest,
    other_padding,
    runtime_weight,
    ungrouped,
    vector_weight,
)
from infopt.targets.isa import adapted, foreign
from infopt.targets.ov_session import FIRST, STATIC, OpenVINOSession, Shapes, StaticSession, own
from infopt.targets.ov_sparse import advice
from infopt.targets.precision_tables import BLOCKS, WEIGHTS, weights_table
from infopt.targets.refusal import refusal
from infopt.targets.sigstack import kept_signal_stack

if TYPE_CHECKING:
    from infopt.data import InputSpec
    from infopt.shapes import ShapeRange

NAME = "openvino"
PRECISION = "INFERENCE_PRECISION_HINT"

SIGNED = Scheme("int8", symmetric=True, unsigned=True)
"""For kernels that cannot take a zero point: 0 where the data is never negative, signed and symmetric elsewhere."""

IN_FLOAT = "OpenVINO's kernel for it computes in float, and takes the quantization behind it along"
IN_FRONT = "it runs in the kernel of the layer before it, which quantizes its result"
COMPUTED = "both operands are computed at run time: attention is one kernel, as fast in bf16 and more exact"
NO_KERNEL = "OpenVINO has no integer kernel for it"


def constant_operand(facts: Facts) -> str | None:
    """A constant that is added or multiplied runs with the layer before it or with the quantization behind it."""
    return "one operand is a constant, with which it is no layer of its own" if any(facts.constants) else None


def stacked_weight(facts: Facts) -> str | None:
    """OpenVINO 2026.4 gives garbage for a stack of matrices with a scale per channel, where the zero point is 0."""
    stack = facts.weight is not None and any(size != 1 for size in facts.weight[:-2])
    return "its weight is a stack of matrices, which OpenVINO computes wrongly as integers" if stack else None


ACTIVATIONS = ("Sigmoid", "Tanh", "HardSwish", "Elu", "Gelu", "LeakyRelu", "PRelu", "Mish")

TABLE = Table(
    activation=Scheme("uint8", symmetric=False),
    weight=Scheme("int8", symmetric=True, per_channel=True, narrow=True),
    bias="float",
    rules=(
        # Concat of signed parts loses their zero point (OpenVINO 2026.4), so its wish for a scheme comes first.
        Rule(("Concat",), Role.JOIN, shared=True, carries=True, activation=Scheme("uint8", symmetric=False)),
        Rule(("Conv",), Role.COMPUTE, Output.OFFERED, (runtime_weight,)),
        Rule(("ConvTranspose",), Role.COMPUTE, Output.OFFERED, (runtime_weight, ungrouped), activation=SIGNED),
        Rule(("Gemm",), Role.COMPUTE, Output.WANTED, (runtime_weight, gemm_scaled)),
        Rule(("MatMul",), Role.COMPUTE, Output.WANTED, (runtime_weight, vector_weight, stacked_weight)),
        Rule(("MatMul",), Role.FLOAT, computed=True, why=COMPUTED),
        # With a pair on one side only, Add fuses into the convolution of the other with dynamic shapes alone.
        Rule(("Add", "Sub"), Role.FOLLOW, Output.OFFERED, (constant_operand,), epilogue=True),
        Rule(("Mul",), Role.FOLLOW, Output.OFFERED, (constant_operand,), activation=SIGNED, spares=True, epilogue=True),
        Rule(("AveragePool", "GlobalAveragePool", "ReduceMean"), Role.FOLLOW, Output.WANTED),
        Rule(("MaxPool",), Role.MOVE, unless=(indices_read,), carries=True),
        Rule(("GlobalMaxPool", "ReduceMax"), Role.MOVE, carries=True),
        Rule(("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice"), Role.MOVE, carries=True),
        Rule(("Split", "Gather", "DepthToSpace", "Expand"), Role.MOVE, carries=True),
        Rule(("Pad",), Role.MOVE, unless=(other_padding,), carries=True, activation=SIGNED),
        Rule(("Resize",), Role.MOVE, unless=(not_nearest,), carries=True),
        Rule((*ACTIVATIONS, "Div"), Role.FLOAT, epilogue=True, why=IN_FRONT),
        Rule(("Erf",), Role.FLOAT, epilogue=True, why=IN_FLOAT),
        Rule(("LayerNormalization", "Max"), Role.FLOAT, why=IN_FLOAT),
        Rule(("InstanceNormalization",), Role.FLOAT, why="its statistics need more than 8 bits"),
        Rule(("Softmax", "HardSigmoid", "Einsum", "LSTM", "GRU", "Tile", "SpaceToDepth"), Role.FLOAT, why=NO_KERNEL),
    ),
    biased=True,
)

PLANS: Plans = {
    "int8-weights": weights_table(WEIGHTS, conv=True, opset=13),
    "int4-weights": weights_table(BLOCKS, conv=True, opset=21),
    "dynamic-int8": Refusal(
        "it computes MatMulInteger in float; with compressed weights it quantizes data at run time by itself",
        "int8-weights",
    ),
    "int16-activations": Refusal("its kernels take 8 bits, and it computes 16-bit data in float", "int8-weights"),
    "fp8": Refusal("it has no kernels for FP8 on the processor", "int8"),
}
"""A compressed weight stays so in a fully connected layer, which quantizes data in blocks as it goes; that of a
convolution is turned back when the model is loaded."""

COMPUTE_LAYERS = frozenset(
    {"Convolution", "GroupConvolution", "Deconvolution", "FullyConnected", "MatMul", "LSTMCell", "LSTMSequence"}
)
BODIES = frozenset({"If", "TensorIterator", "Loop"})
"""Layers with bodies. The bodies run in integers, which their time shows, but their layers cannot be seen."""
COMPRESSED = frozenset({"i8", "u8", "i4", "u4"})
"""Types of weights that the runtime names as a layer's precision."""
INTEGER_PRIMITIVE = re.compile(r"_[iuIU]8$")


@dataclass(frozen=True, slots=True)
class OpenVINOTarget:
    """The ``openvino`` target; see :class:`infopt.target.Target`."""

    name: str = NAME
    runtime: str = "OpenVINO"
    extra: str | None = "openvino"
    table: Table = field(default=TABLE, repr=False)
    isa: Isa | None = None

    def for_isa(self, isa: Isa | Literal["auto"]) -> OpenVINOTarget:
        """The target as processors with an instruction set want it; see :class:`infopt.target.ByIsa`."""
        wanted = machine_isa() if isa == "auto" else isa
        if isa == "arm":
            raise OptionError("target 'openvino' has no table for arm", "its table is about x86: avx2, vnni, amx")
        return replace(self, isa=wanted, table=self.table if wanted == "arm" else adapted(self.table, wanted))

    @property
    def precisions(self) -> Plans:
        """What it runs besides static INT8; see :class:`infopt.precisions.ByPrecision`."""
        return {"int8": self.table, **PLANS}

    def available(self) -> str | None:
        """Whether the package is installed."""
        if importlib.util.find_spec("openvino") is None:
            return 'OpenVINO is not installed: pip install "infopt[openvino]"'
        return None

    def runnable(self) -> str | None:
        """An artifact runs wherever it can be compiled, but is measured on the processor that it is made for."""
        return self.available() or (foreign(self.isa) if self.isa else None)

    def version(self) -> str:
        """Version of OpenVINO."""
        return version("openvino")

    def device(self) -> str:
        """The processor's name in OpenVINO's words."""
        return str(_core().get_property("CPU", "FULL_DEVICE_NAME"))

    def settings(self, kind: Literal["float", "int8"]) -> dict[str, Settings]:
        """Two per float precision of this processor, for any shapes and for a static one.

        An INT8 graph runs its float remainder in one of the precisions too.
        """
        capable = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        hints = ["f32"] + [name for flag, name in (("BF16", "bf16"), ("FP16", "f16")) if flag in capable]
        prefix = "" if kind == "float" else "int8+"
        anyhow: dict[str, Settings] = {
            prefix + hint: {PRECISION: hint, "PERFORMANCE_HINT": "LATENCY"} for hint in hints
        }
        return anyhow | {f"{name} static": {**settings, STATIC: FIRST} for name, settings in anyhow.items()}

    def compile(self, model: Path, out: Path, options: CompileOptions) -> Artifact:
        """Convert a graph to OpenVINO IR (``model.xml``, ``model.bin``) and compile it once, so that it is known to.

        Sizes that the ranges hold fixed are fixed in the IR, which is faster than to leave them open.
        """
        import openvino as ov

        from infopt.shapes import narrowed

        main = out / "model.xml"
        try:
            graph = _core().read_model(os.fspath(model))
            fixed = narrowed(_specs(graph), options.shapes) if options.shapes else ()
            graph.reshape({spec.name: [-1 if dim is None else dim for dim in spec.shape] for spec in fixed})
            ov.save_model(graph, os.fspath(main), compress_to_fp16=False)
            with kept_signal_stack():
                _core().compile_model(graph, "CPU", own(options.settings))
        except Exception as error:  # the binding raises RuntimeError and its own classes alike
            raise refused(error, model) from error
        return Artifact(self.name, main, (main, main.with_suffix(".bin")), model, dict(options.settings))

    @contextmanager
    def open(self, artifact: Artifact) -> Iterator[Session]:
        """Compile the IR on the CPU with the artifact's settings."""
        opened = partial(_opened, artifact)
        yield StaticSession(opened) if STATIC in artifact.settings else opened(None)

    def build_command(self, graph: Path, shapes: Sequence[ShapeRange]) -> str:
        """Infopt itself, where the runtime is installed."""
        return f"infopt compile {graph.name} --target {NAME}"

    def advice(self, graph: Path) -> str | None:
        """About sparse weights, which it can keep packed; see :class:`infopt.advising.Advising`."""
        return advice(graph)

    def refusals(self, model: Path) -> list[RuntimeRefused]:
        """What the ONNX frontend objects to: a refusal for each node of an operator that it does not know."""
        try:
            _core().read_model(os.fspath(model))
        except Exception as error:
            return every_refused(error, model)
        return []

    def kernels(self, artifact: Artifact) -> Kernels:
        """Count compute layers of the runtime model by the primitive that the plugin picked for each.

        Raises:
            Unmeasured: The model has bodies, which the runtime model leaves out.
        """
        layers = [_layer(op) for op in _compiled(artifact).get_runtime_model().get_ops()]
        around = next((node for node, _ in layers if node.op in BODIES), None)
        if around is not None:
            raise Unmeasured(f"OpenVINO does not tell which kernels it picked for the body of {around.name!r}")
        compute = [(node, read) for node, read in layers if node.op in COMPUTE_LAYERS]
        floats = [(node, read) for node, read in compute if not INTEGER_PRIMITIVE.search(read.primitive)]
        left = tuple(node for node, read in floats if read.precision not in COMPRESSED)
        return Kernels(len(compute) - len(floats), len(compute), left, len(floats) - len(left))


openvino = OpenVINOTarget


def ir_interface(path: Path) -> tuple[tuple[InputSpec, ...], tuple[str, ...]]:
    """Inputs and output names of an OpenVINO IR; dynamic dimensions have no names there.

    Raises:
        RuntimeRefused: The runtime cannot read it.
    """
    try:
        model = _core().read_model(os.fspath(path))
    except Exception as error:
        raise refused(error) from error
    return _specs(model), tuple(port.any_name for port in model.outputs)


def _specs(model: Any) -> tuple[InputSpec, ...]:
    import numpy as np

    from infopt.data import InputSpec

    specs = []
    for port in model.inputs:
        dims = tuple(dim.get_length() if dim.is_static else None for dim in port.partial_shape)
        specs.append(InputSpec(port.any_name, np.dtype(port.element_type.to_dtype()), dims))
    return tuple(specs)


def refused(error: Exception, model: Path | None = None) -> RuntimeRefused:
    """The error of the runtime as infopt's, with the node that it objects to, where that can be told."""
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    # The last line before the summary says why; where there is none, the summary does.
    told = [
        line for line in lines if not line.startswith(("Exception from", "Check '", "Conversion is failed", "Summary"))
    ]
    named = (
        r"Operation name: (\S+)",
        r"<Node\([\w.]*\): ([^>]+)>",
        r"friendly_name '([^']+)'",
        r"[Nn]ode (?:with name )?'([^'<]+)'",
    )
    unknown_op = r"No conversion rule found for operations: ([\w.]+)"
    return refusal(NAME, error, (told or lines)[-1], (named, unknown_op), model)


def every_refused(error: Exception, model: Path) -> list[RuntimeRefused]:
    """As :func:`refused`, with every node of the operators that the frontend does not know."""
    import onnx_ir as ir

    listed = re.search(r"No conversion rule found for operations: ([^\n]+)", str(error))
    names = re.split(r",\s*", listed[1].strip()) if listed else []
    # An operator is told with its version, Blorp-13, or with its domain, made.up.Foo; built-in ones in C++ words.
    ops = {re.sub(r"-\d+$", "", name).replace("::", ".").rpartition(".")[2]: name for name in names}
    nodes = [node for node in ir.load(model).graph.all_nodes() if node.op_type in ops]
    found = [
        RuntimeRefused(NAME, f"no conversion rule for {ops[n.op_type]}", n.name or n.outputs[0].name) for n in nodes
    ]
    return found or [refused(error, model)]


def _opened(artifact: Artifact, shapes: Shapes | None) -> OpenVINOSession:
    return OpenVINOSession(_compiled(artifact, shapes).create_infer_request(), refused)


def _compiled(artifact: Artifact, shapes: Shapes | None = None) -> Any:
    """An artifact compiled with its settings, for given shapes of its inputs or for any."""
    try:
        with kept_signal_stack():
            model = _core().read_model(os.fspath(artifact.main))
            if shapes is not None:
                model.reshape({name: list(sizes) for name, sizes in shapes.items()})
            return _core().compile_model(model, "CPU", own(artifact.settings))
    except Exception as error:
        raise refused(error, artifact.graph) from error


@dataclass(frozen=True, slots=True)
class _Runs:
    """How a layer runs: the primitive, and the precision that the runtime names, that of compressed weights."""

    primitive: str
    precision: str


def _layer(op: Any) -> tuple[FloatNode, _Runs]:
    """A layer of a runtime model with its original names, and how it runs."""
    info = op.get_rt_info()
    keys = ("originalLayersNames", "layerType", "primitiveType", "runtimePrecision")
    read = {key: info[key].astype(str) for key in keys if key in info}
    names = (read.get("originalLayersNames") or op.get_friendly_name()).split(",")
    node = FloatNode(names[0].removesuffix("/WithoutBiases"), read.get("layerType", ""), tuple(names[1:]))
    return node, _Runs(read.get("primitiveType", ""), read.get("runtimePrecision", ""))


def _core() -> Any:
    import openvino as ov

    return ov.Core()
