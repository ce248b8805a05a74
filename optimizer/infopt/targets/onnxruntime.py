"""ONNX Runtime on the CPU: QDQ graphs that its optimizer turns into QLinear and MatMulIntegerToFloat kernels.

Rules: onnxruntime/core/optimizer/qdq_transformer/selectors_actions in the runtime's source, and the conformance
tests that compile each row.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from infopt.cpu import Isa, cpu_name, machine_isa
from infopt.errors import RuntimeRefused
from infopt.precisions import Plans, Refusal
from infopt.target import (
    Artifact,
    CompileOptions,
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
    matrix_weight,
    not_nearest,
    runtime_bias,
    runtime_weight,
    single_number,
)
from infopt.targets.isa import adapted, foreign
from infopt.targets.ort_fuse import fuse
from infopt.targets.precision_tables import BLOCKS, WEIGHTS, runtime_table, weights_table
from infopt.targets.refusal import refusal

if TYPE_CHECKING:
    import numpy as np

    from infopt.data import Feed
    from infopt.shapes import ShapeRange

NAME = "onnxruntime"
EMULATE = {"session.disable_quant_qdq": "1"}
"""Runs Q and DQ as written: no x86 kernel stands in, so that another runtime's arithmetic can be emulated."""

WRONG = ["ReluQuantRewrite"]
"""What the runtime's optimizer gets wrong where Q/DQ is emulated: it drops a Relu in front of a Q to FP8, which has
negative numbers, too (ONNX Runtime 1.32)."""

SPOILING = ["MatMulAddFusion"]
"""What the runtime's optimizer must not do before it looks for integer kernels: a Gemm with a float bias has none. It
does it to what is float all the same when the optimized graph is loaded."""

NO_KERNEL = "ONNX Runtime has no integer kernel for it"
COMPUTED = "both operands are computed at run time: quantizing them costs what the integer product gains"

WEIGHT = Scheme("int8", symmetric=True, per_channel=True)
PRODUCT_WEIGHT = replace(WEIGHT, implicit=True)
"""A zero point per column, even of zeros only, costs MatMul up to a fifth of its time."""
GEMM_WEIGHT = replace(WEIGHT, uniform=4.0)
"""QGemm needs as many zero points as scales, with the same cost: one of each where that takes at most a bit."""

GEMM = (runtime_weight, runtime_bias, gemm_scaled)

TABLE = Table(
    activation=Scheme("uint8", symmetric=False),
    weight=WEIGHT,
    bias="int32",
    rules=(
        Rule(("Conv",), Role.COMPUTE, Output.ALWAYS, (runtime_weight, runtime_bias)),
        Rule(("Gemm",), Role.COMPUTE, Output.OFFERED, GEMM, weight=GEMM_WEIGHT, closes=True),
        Rule(("MatMul",), Role.COMPUTE, Output.WANTED, (runtime_weight, matrix_weight), weight=PRODUCT_WEIGHT),
        Rule(("MatMul",), Role.FLOAT, computed=True, why=COMPUTED),
        Rule(("Add",), Role.FOLLOW, Output.ALWAYS),
        Rule(("Mul",), Role.FOLLOW, Output.ALWAYS, unless=(single_number,)),
        Rule(("AveragePool", "GlobalAveragePool", "LeakyRelu", "Sigmoid"), Role.FOLLOW, Output.ALWAYS),
        Rule(("MaxPool",), Role.MOVE, unless=(indices_read,), since=12),
        Rule(("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice"), Role.MOVE),
        Rule(("Gather", "Split", "Expand", "Tile", "DepthToSpace", "ReduceMax"), Role.MOVE),
        Rule(("Resize",), Role.MOVE, unless=(not_nearest,)),
        Rule(("Concat",), Role.JOIN, Output.ALWAYS),
        Rule(("LSTM", "GRU"), Role.FLOAT, why="its integer kernels quantize at run time and take no Q/DQ"),
        Rule(("ConvTranspose", "Einsum", "Sub", "Div", "Max", "PRelu"), Role.FLOAT, why=NO_KERNEL),
        Rule(("HardSigmoid", "HardSwish", "Elu", "Tanh", "Erf", "Gelu", "Mish"), Role.FLOAT, why=NO_KERNEL),
        Rule(("LayerNormalization", "InstanceNormalization", "ReduceMean"), Role.FLOAT, why=NO_KERNEL),
        Rule(("GlobalMaxPool", "SpaceToDepth", "Pad"), Role.FLOAT, why=NO_KERNEL),
        Rule(("Softmax",), Role.FLOAT, why="its inputs and outputs need more than 8 bits, and it gains nothing"),
    ),
)

PLANS: Plans = {
    "int8-weights": weights_table(WEIGHTS, conv=False, opset=13, biased=True),
    "int4-weights": weights_table(BLOCKS, conv=False, opset=21, biased=True),
    "dynamic-int8": runtime_table(replace(WEIGHT, implicit=True)),
    "int16-activations": Refusal("its kernels take 8 bits, and it computes 16-bit data in float", "int8-weights"),
    "fp8": Refusal("it has no kernels for FP8 on the processor", "int8"),
}
"""Compressed weights become ``MatMulNBits``, which quantizes data in blocks as it goes; what is quantized at run time
becomes ``DynamicQuantizeMatMul``."""

INTEGER_KERNELS = frozenset(
    "QLinearConv QLinearConvTranspose ConvInteger QLinearMatMul MatMulInteger MatMulIntegerToFloat "
    "DynamicQuantizeMatMul QGemm QAttention DynamicQuantizeLSTM MatMulNBits QOrderedMatMul".split()
)
BLOCK_LENGTHS = (128, 64)
"""Lengths of blocks that are tried besides the runtime's own 32, the fastest first."""

MOST_PADDING = 1.05
"""What padding to whole blocks may make of the weights."""

FLOAT_KERNELS = frozenset("Conv FusedConv ConvTranspose Gemm FusedGemm MatMul FusedMatMul".split())


@dataclass(frozen=True, slots=True)
class OnnxRuntimeTarget:
    """The ``onnxruntime`` target; see :class:`infopt.target.Target`."""

    name: str = NAME
    runtime: str = "ONNX Runtime"
    extra: str | None = None
    table: Table = field(default=TABLE, repr=False)
    isa: Isa | None = None

    def for_isa(self, isa: Isa | Literal["auto"]) -> OnnxRuntimeTarget:
        """The target as processors with an instruction set want it; see :class:`infopt.target.ByIsa`."""
        wanted = machine_isa() if isa == "auto" else isa
        return replace(self, isa=wanted, table=adapted(self.table, wanted))

    @property
    def precisions(self) -> Plans:
        """What it runs besides static INT8; see :class:`infopt.precisions.ByPrecision`."""
        plans = {name: _for_isa(plan, self.isa) for name, plan in PLANS.items()}
        return {"int8": self.table, **plans}

    def available(self) -> str | None:
        """Always available: the core install brings it."""
        return None

    def runnable(self) -> str | None:
        """Artifacts run on every CPU that the runtime supports, but are measured on the one that they are made for."""
        return foreign(self.isa) if self.isa else None

    def version(self) -> str:
        """Version of ONNX Runtime."""
        return version("onnxruntime")

    def device(self) -> str:
        """The processor's name."""
        return cpu_name()

    def settings(self, kind: Literal["float", "int8"]) -> dict[str, Settings]:
        """One: float32 and INT8 graphs are both fastest with the runtime's defaults."""
        return {"float32" if kind == "float" else "int8": {}}

    def compile(self, model: Path, out: Path, options: CompileOptions) -> Artifact:
        """Optimize a graph offline into ``model.optimized.onnx``; layout changes for the CPU happen at load."""
        main = out / "model.optimized.onnx"
        # Elsewhere than on ARM the optimizer would turn signed activations into unsigned ones.
        signed = {"session.qdqisint8allowed": "1"} if self.isa == "arm" else {}
        write_optimized(model, main, {**options.settings, **signed, **block_setting(model)})
        fuse(main)
        data = main.with_name(main.name + ".data")
        files = (main, data) if data.exists() else (main,)
        return Artifact(self.name, main, files, model, dict(options.settings))

    @contextmanager
    def open(self, artifact: Artifact) -> Iterator[Session]:
        """Open an optimized graph on the CPU provider."""
        yield open_onnx(artifact.main, artifact.settings)

    def build_command(self, graph: Path, shapes: Sequence[ShapeRange]) -> str:
        """Infopt itself, where the runtime is installed."""
        return f"infopt compile {graph.name} --target {NAME}"

    def refusals(self, model: Path) -> list[RuntimeRefused]:
        """The nodes whose operators the runtime does not know in the model's operator sets."""
        return unknown_operators(model)

    def kernels(self, artifact: Artifact) -> Kernels:
        """Count compute nodes of the graph as the runtime has optimized it."""
        return count_kernels(artifact.main)


onnxruntime = OnnxRuntimeTarget


@dataclass(frozen=True, slots=True)
class OnnxSession:
    """An ONNX Runtime session behind :class:`infopt.target.Session`."""

    session: Any

    def run(self, feed: Feed) -> list[np.ndarray]:
        """Run one batch; see :meth:`infopt.target.Session.run`."""
        try:
            return list(self.session.run(None, feed))
        except Exception as error:  # the binding raises one class per status code
            raise refused(error) from error


def open_onnx(model: Path | bytes, settings: Settings) -> OnnxSession:
    """A CPU session of an ONNX file.

    Args:
        model: The file, or the serialized model.
        settings: Names of session options, or of configuration entries (those with a dot in the name).

    Raises:
        RuntimeRefused: The runtime cannot create a session.
    """
    import onnxruntime as ort

    source = model if isinstance(model, bytes) else os.fspath(model)
    left_out = WRONG if settings.items() >= EMULATE.items() else []
    options = session_options(settings)
    try:
        return OnnxSession(
            ort.InferenceSession(source, options, ["CPUExecutionProvider"], disabled_optimizers=left_out)
        )
    except Exception as error:
        raise refused(error, model) from error


def session_options(settings: Settings) -> Any:
    """``onnxruntime.SessionOptions`` of infopt's settings, quiet."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    for key, value in settings.items():
        if "." in key:
            options.add_session_config_entry(key, value)
        elif key == "graph_optimization_level":
            options.graph_optimization_level = ort.GraphOptimizationLevel(int(value))
        else:
            setattr(options, key, int(value))
    return options


def write_optimized(model: Path, out: Path, settings: Settings) -> None:
    """Let ONNX Runtime optimize a graph at the EXTENDED level, which does not depend on the processor, and save it."""
    import onnxruntime as ort

    from infopt.model import INLINE_LIMIT

    options = session_options(settings)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = os.fspath(out)
    if sum(p.stat().st_size for p in (model, model.with_name(model.name + ".data")) if p.exists()) > INLINE_LIMIT:
        name = "session.optimized_model_external_initializers_file_name"
        options.add_session_config_entry(name, out.name + ".data")
    try:
        ort.InferenceSession(os.fspath(model), options, ["CPUExecutionProvider"], disabled_optimizers=SPOILING)
    except Exception as error:
        raise refused(error, model) from error


def block_setting(model: Path) -> Settings:
    """How long the blocks are that the runtime cuts weights with one scale per column into.

    Longer ones are faster, but pad what they do not divide.
    """
    import onnx_ir as ir

    readers = [node for node in ir.load(model).graph.all_nodes() if node.op_type in ("MatMul", "Gemm")]
    makers = [value.producer() for node in readers for value in node.inputs[1:2] if value is not None]
    scaled = [
        m for m in makers if m is not None and m.op_type == "DequantizeLinear" and "block_size" not in m.attributes
    ]
    rows = [int(v.const_value.shape.numpy()[0]) for m in scaled if (v := m.inputs[0]) is not None and v.const_value]
    for block in BLOCK_LENGTHS:
        if rows and sum(-(-count // block) * block for count in rows) <= MOST_PADDING * sum(rows):
            return {"session.qdq_matmulnbits_block_size": str(block)}
    return {}


def _for_isa(plan: Table | Refusal, isa: Isa | None) -> Table | Refusal:
    """A precision's table for an instruction set: what is quantized at run time is unsigned on each."""
    return adapted(plan, isa) if isinstance(plan, Table) and plan.data == "runtime" and isa == "avx2" else plan


def count_kernels(optimized: Path) -> Kernels:
    """Integer and float compute nodes of an optimized graph, subgraphs included."""
    import onnx_ir as ir

    nodes = list(ir.load(optimized).graph.all_nodes())
    integer = sum(node.op_type in INTEGER_KERNELS for node in nodes)
    left = tuple(FloatNode(node.name or "", node.op_type) for node in nodes if node.op_type in FLOAT_KERNELS)
    return Kernels(integer, integer + len(left), left)


def unknown_operators(model: Path) -> list[RuntimeRefused]:
    """One refusal per node of which the runtime has no schema; kernels for types are known only when it is opened."""
    import onnx_ir as ir
    from onnxruntime.capi import onnxruntime_pybind11_state as binding

    if not hasattr(binding, "get_all_operator_schema"):
        return []
    since: dict[tuple[str, str], int] = {}
    for schema in binding.get_all_operator_schema():
        key = (schema.domain, schema.name)
        since[key] = min(schema.since_version, since.get(key, schema.since_version))
    graph = ir.load(model)
    own = {(each.domain, each.name) for each in graph.functions.values()}
    found = []
    for node in graph.graph.all_nodes():
        domain, name = "" if node.domain == "ai.onnx" else node.domain, node.op_type
        opset = graph.opset_imports.get(domain, 1)
        if (domain, name) not in own and since.get((domain, name), opset + 1) > opset:
            told = f"{domain}:{name}" if domain else f"{name} of opset {opset}"
            where = node.name or node.outputs[0].name
            found.append(RuntimeRefused(NAME, f"{told} is not a registered operator", where))
    return found


def refused(error: Exception, model: Path | bytes | None = None) -> RuntimeRefused:
    """The error of the runtime as infopt's, with the node that it objects to, where that can be told."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    # The path of the file and the place in the runtime's own source come before the reason.
    line = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (?:Load model from .*? failed:)?", "", lines[0])
    line = re.sub(r"^/\S+\.(?:h|cc):\d+ .*?[&t]\) (?=\w)", "", line)
    named = (r'In Node, \("([^"]+)"', r"Node \(([^)]+)\) Op", r"Name:'([^']+)'", r"[Nn]ode:? '([^']+)'")
    return refusal(NAME, error, line, (named, r"([\w.]+:\w+)\(-?\d+\) is not a registered"), model)
