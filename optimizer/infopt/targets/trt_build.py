"""Parses ONNX files and builds engines; ``trt`` is either binding, ``tensorrt`` or ``tensorrt_rtx``.

Nothing raises while a builder lives: a traceback would keep it alive, and a process has one logger, that of
its oldest builder, so the next build would lose its messages.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from infopt.data import InputSpec, infer_batch_axes
from infopt.errors import InfoptError, OptionError, RuntimeRefused, unknown
from infopt.shapes import SEQUENCE, ShapeRange, complete, show_shape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from infopt.target import CompileOptions

CAPABILITY = "compute_capability"
"""Setting: GPUs to build for, ``portable`` or names such as ``SM86,SM89``; TensorRT-RTX alone knows it."""

ALSO_OUTPUT = "__"
"""What the parser puts in front of the name of an input that is an output too."""

PORTABLE = "portable"
RETYPED = "Defaulting to INT8 instead"
CLIPS = "its zero point is uint8, which TensorRT reads as int8: everything above 127 would be clipped"
SMALL = {"BF16": "bfloat16", "FP8": "float8_e4m3fn", "INT4": "int4", "FP4": "float4_e2m1fn"}
"""Types that numpy itself does not know, by their names in ``ml_dtypes``."""

SOURCE = r"^.*?Error Code \d+: |^Assertion failed: .*?: |^\w+ && | In \w+ at \S+?:\d+(?=\)?$)"
"""What messages tell of the library's own source."""

NO_DRIVER = "Error Code 1: Cuda Runtime"
"""Follows other errors on a machine without a GPU and says nothing about the model."""


def build_engine(trt: Any, target: str, model: Path, out: Path, options: CompileOptions) -> None:
    """Build an engine.

    Args:
        trt: The binding.
        target: Name of the target, for errors.
        model: An ONNX file; external data lies beside it.
        out: The file to write.
        options: Ranges of dynamic inputs (for a shape tensor: of its values), and :data:`CAPABILITY`.

    Raises:
        RuntimeRefused: The parser or the builder refuses the model.
        OptionError: A shape or a setting that does not fit.
    """
    _settle(trt)
    error = _attempt(trt, target, model, out, options)
    if error is not None:
        raise error


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of a parsed network.

    Attributes:
        name: The name that the parser gave it, usually the ONNX node's.
        kind: Its type, such as ``"CONVOLUTION"``.
        sources: Names of the layers that its inputs come from; those of the network come from none.
    """

    name: str
    kind: str
    sources: tuple[str, ...]


def network_layers(trt: Any, target: str, model: Path) -> list[Layer]:
    """Every layer that the parser makes of a graph.

    Raises:
        RuntimeRefused: The parser refuses the model.
    """
    found = _layers(trt, target, model)
    if isinstance(found, InfoptError):
        raise found
    return found


def parser_refusals(trt: Any, target: str, model: Path) -> list[RuntimeRefused]:
    """Every node that the parser objects to, each with its reason; empty when the model parses."""
    logger = quiet_logger(trt)
    builder = trt.Builder(logger)
    network = _new_network(trt, builder)
    parser = trt.OnnxParser(network, logger)
    error = _parse(parser, logger, target, model)
    if error is None:
        return []
    told = [parser.get_error(i) for i in range(parser.num_errors)]
    return [_parser_refusal(target, [each], error.log) for each in told] or [error]


def numpy_dtype(tensor_type: Any) -> np.dtype[Any]:
    """The numpy type of a binding's ``DataType``."""
    name = tensor_type.name
    if name in SMALL:
        import ml_dtypes

        small: np.dtype[Any] = np.dtype(getattr(ml_dtypes, SMALL[name]))
        return small
    known: np.dtype[Any] = np.dtype({"FLOAT": "float32", "HALF": "float16"}.get(name, name.lower()))
    return known


def _attempt(trt: Any, target: str, model: Path, out: Path, options: CompileOptions) -> InfoptError | None:
    logger = quiet_logger(trt)
    builder = trt.Builder(logger)
    network = _new_network(trt, builder)
    # The network's weights belong to the parser: it stays until the engine is there.
    parser = trt.OnnxParser(network, logger)
    error = _parse(parser, logger, target, model)
    if error is not None:
        return error
    config = builder.create_builder_config()
    # Without this the engine keeps no names and types of its layers for the inspector.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    try:
        _configure(trt, config, options.settings)
        allow_sparse(trt, config, model)
        _add_profile(builder, network, config, options.shapes)
    except InfoptError as wrong:
        return wrong.with_traceback(None)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        names = {network.get_layer(i).name for i in range(network.num_layers)}
        return _build_refusal(target, logger.lines, names)
    out.write_bytes(plan)
    return None


def _settle(trt: Any) -> None:
    """Build a trivial engine and drop it.

    After TensorRT-RTX 1.7 has refused a model for SM75, the next build of the process obeys the restrictions
    of SM75, whatever it is for, and puts all convolutions in float. This one takes the fall.
    """
    logger = quiet_logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    network.mark_output(network.add_identity(network.add_input("x", trt.float32, (1,))).get_output(0))
    builder.build_serialized_network(network, builder.create_builder_config())


def _layers(trt: Any, target: str, model: Path) -> list[Layer] | InfoptError:
    logger = quiet_logger(trt)
    builder = trt.Builder(logger)
    network = _new_network(trt, builder)
    parser = trt.OnnxParser(network, logger)
    error = _parse(parser, logger, target, model)
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    makers = {layer.get_output(i).name: layer.name for layer in layers for i in range(layer.num_outputs)}
    read = [[layer.get_input(i) for i in range(layer.num_inputs)] for layer in layers]
    sources = [tuple(makers[one.name] for one in inputs if one and one.name in makers) for inputs in read]
    return error or [Layer(each.name, each.type.name, found) for each, found in zip(layers, sources, strict=True)]


def _new_network(trt: Any, builder: Any) -> Any:
    # From TensorRT 11 on, networks are always strongly typed.
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return builder.create_network(0 if typed is None else 1 << int(typed))


def _parse(parser: Any, logger: Any, target: str, model: Path) -> RuntimeRefused | None:
    """Fill the parser's network, or say why not."""
    parsed = parser.parse_from_file(os.fspath(model))
    log = "\n".join(logger.lines)
    if not parsed:
        return _parser_refusal(target, [parser.get_error(i) for i in range(parser.num_errors)], log)
    if logger.retyped is not None:
        return RuntimeRefused(target, CLIPS, logger.retyped or None, log)
    return None


def _configure(trt: Any, config: Any, settings: Mapping[str, str]) -> None:
    for key in settings:
        if key != CAPABILITY:
            raise unknown("runtime setting", key, [CAPABILITY])
    wanted = settings.get(CAPABILITY, PORTABLE)
    if wanted == PORTABLE:
        return
    if not hasattr(config, "num_compute_capabilities"):
        raise OptionError(f"{CAPABILITY} = {wanted!r}: TensorRT builds for the GPU that it finds, for no other")
    names = wanted.split(",")
    known = ["CURRENT", *(name for name in dir(trt.ComputeCapability) if name.startswith("SM"))]
    for name in names:
        if name not in known:
            raise unknown(CAPABILITY, name, [PORTABLE, *known])
    config.num_compute_capabilities = len(names)
    for index, name in enumerate(names):
        config.set_compute_capability(getattr(trt.ComputeCapability, name), index)


def allow_sparse(trt: Any, config: Any, model: Path) -> None:
    """Let the builder try sparse kernels where weights have the pattern: it takes them where they are faster."""
    from infopt.sparsity import two_of_four

    if two_of_four(model):
        config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS)


def _add_profile(builder: Any, network: Any, config: Any, given: Sequence[ShapeRange]) -> None:
    """Give every dynamic input its range of shapes, and every shape tensor its range of values."""
    tensors = {tensor.name: tensor for tensor in map(network.get_input, range(network.num_inputs))}
    given = [_as_parsed(one, tensors) for one in given]
    specs = infer_batch_axes([_spec(tensor) for tensor in tensors.values()], {})
    valued = {name for name, tensor in tensors.items() if tensor.is_shape_tensor}
    ranges = complete(specs, [one for one in given if one.name not in valued])
    profile = builder.create_optimization_profile()
    for one in ranges:
        profile.set_shape(one.name, one.low, one.opt, one.high)
    for name in valued:
        profile.set_shape_input(name, *_values(name, prod(tensors[name].shape), given))
    if ranges or valued:
        config.add_optimization_profile(profile)


def _as_parsed(given: ShapeRange, inputs: Mapping[str, Any]) -> ShapeRange:
    renamed = ALSO_OUTPUT + given.name
    return replace(given, name=renamed) if given.name not in inputs and renamed in inputs else given


def _values(name: str, count: int, given: Sequence[ShapeRange]) -> tuple[tuple[int, ...], ...]:
    """Smallest, usual and largest values of a shape tensor with so many elements."""
    one = next((one for one in given if one.name == name), None)
    if one is None:
        return tuple((value,) * count for value in SEQUENCE)
    if len(one.low) != count:
        raise OptionError(f"shape {show_shape(one)} does not fit", f"{name!r} holds {count} values: give these")
    return one.low, one.opt, one.high


def _spec(tensor: Any) -> InputSpec:
    dims = enumerate(tensor.shape)
    shape = tuple(size if size >= 0 else tensor.get_dimension_name(axis) or None for axis, size in dims)
    return InputSpec(tensor.name, numpy_dtype(tensor.dtype), shape)


def _parser_refusal(target: str, errors: Sequence[Any], log: str) -> RuntimeRefused:
    """What a parser objects to; the message tells several nodes, the error's node is the first."""
    if not errors or errors[0].node() < 0:
        return RuntimeRefused(target, _reason(errors[0].desc()) if errors else "it cannot be parsed", None, log)
    first, *others = errors
    told = [f"{first.node_operator()}: {first.code().name}: {_reason(first.desc())}"]
    told += [f"{other.node_operator()} {_node(other)!r}: {_reason(other.desc())}" for other in others[:4]]
    told += [f"{len(others) - 4} more"] if len(others) > 4 else []
    return RuntimeRefused(target, "; also ".join(told), _node(first), log)


def _node(error: Any) -> str:
    return error.node_name() or f"#{error.node()}"


def _reason(text: str) -> str:
    """The line of a message that says something."""
    lines = [line for line in text.splitlines() if line.strip() and NO_DRIVER not in line]
    telling = [line for line in lines if not line.startswith("Invalid Node")] or lines or [text.strip()]
    return re.sub(SOURCE, "", telling[0])


def _build_refusal(target: str, lines: Sequence[str], layers: set[str]) -> RuntimeRefused:
    telling = [line for line in lines if line.startswith("ERROR") and NO_DRIVER not in line]
    reason = _reason(telling[0].removeprefix("ERROR: ")) if telling else "no engine came out, and no message"
    quoted = re.findall(r"'([^']+)'|\((\S+?): |[Nn]ode:? (\S+?)[\s.:,]", " ".join(telling))
    node = next((name for names in quoted for name in names if name in layers), None)
    return RuntimeRefused(target, reason, node, "\n".join(lines))


def quiet_logger(trt: Any) -> Any:
    """A logger that keeps warnings and errors and prints nothing.

    Its ``retyped`` is the node whose uint8 zero point the parser took for int8, ``None`` without one.
    """
    kept = {trt.ILogger.INTERNAL_ERROR: "ERROR", trt.ILogger.ERROR: "ERROR", trt.ILogger.WARNING: "WARNING"}

    class Keeper(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []
            self.node = ""
            self.retyped: str | None = None

        def log(self, severity: Any, msg: str) -> None:
            if severity in kept:
                self.lines.append(f"{kept[severity]}: {msg}")
                if RETYPED in msg and self.retyped is None:
                    self.retyped = self.node
            elif msg.startswith("Parsing node: "):
                self.node = msg.removeprefix("Parsing node: ").rpartition(" [")[0]

    return Keeper()
