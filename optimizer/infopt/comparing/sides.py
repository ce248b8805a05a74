"""What is compared, opened: things that run and predictions, and the samples for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from infopt.data import InputSpec, Samples, infer_batch_axes, open_samples, parse_batch_axis
from infopt.errors import DataError, InputError
from infopt.evaluate import Recorded, Source
from infopt.locate import preprocess_beside
from infopt.metrics import Metric
from infopt.model import Model, input_specs, load
from infopt.opened import Subject, subject
from infopt.options import parsed
from infopt.predictions import SUFFIX, Predictions, match, read_predictions
from infopt.preprocess import load_preprocess
from infopt.readers.answers import Answers, open_answers
from infopt.recipe import Evaluation, Inputs
from infopt.targets.openvino import ir_interface
from infopt.targets.ort_interface import ort_interface

Side = Subject | Predictions
"""Something that can be compared."""

Interface = tuple[tuple[InputSpec, ...], tuple[str, ...]]
"""Inputs and output names."""


@dataclass(frozen=True, slots=True)
class Sides:
    """Everything opened.

    Attributes:
        base: What came before.
        candidates: What came after.
        inputs: What the models take; empty where there are only predictions.
        names: Names of the outputs.
        samples: The evaluation samples.
    """

    base: Side
    candidates: tuple[Side, ...]
    inputs: tuple[InputSpec, ...]
    names: tuple[str, ...]
    samples: Samples


def open_side(path: Path) -> Side:
    """Find out what a path is.

    Raises:
        InputError: It is nothing that can be compared.
    """
    return read_predictions(path) if path.suffix == SUFFIX and not path.is_dir() else subject(path)


def open_sides(base: Path, candidates: Sequence[Path], evaluation: Evaluation, inputs: Inputs) -> Sides:
    """Open what is compared, and the samples.

    Raises:
        InputError: Something cannot be used, or the models take different inputs.
    """
    sides = [open_side(path) for path in (base, *candidates)]
    running = [side for side in sides if isinstance(side, Subject)]
    if not running:
        first = sides[0]
        assert isinstance(first, Predictions)
        return Sides(first, tuple(sides[1:]), (), first.names, _without_inputs(first, evaluation))
    specs, names = _interface(running)
    specs = with_batch_axes(specs, inputs)
    return Sides(sides[0], tuple(sides[1:]), specs, names, open_data(evaluation, inputs, specs))


def with_batch_axes(specs: tuple[InputSpec, ...], inputs: Inputs) -> tuple[InputSpec, ...]:
    """Inputs with the axes that count samples.

    Raises:
        OptionError: The user names an input or axis that is not there.
    """
    return infer_batch_axes(specs, dict(parsed(parse_batch_axis, text, "--batch-axis") for text in inputs.batch_axis))


def open_data(evaluation: Evaluation, inputs: Inputs, specs: tuple[InputSpec, ...]) -> Samples:
    """Open the evaluation samples for models that take certain inputs.

    Raises:
        DataError: There are none, or they do not fit.
    """
    if evaluation.data is None:
        raise DataError("there are no samples to compare on", "give --eval PATH")
    name = inputs.preprocess or preprocess_beside(evaluation.data)
    samples = open_samples(evaluation.data, specs, load_preprocess(name) if name else None)
    if not len(samples):
        raise DataError(f"{evaluation.data} holds no samples", "give evaluation data with at least one sample")
    return samples


def interface_of(side: Subject) -> Interface:
    """Inputs and output names of something that runs; the inputs have no batch axis yet."""
    graph = graph_of(side)
    if graph:
        return input_specs(graph.graph), graph.output_names
    read = ir_interface if side.artifact.main.suffix == ".xml" else ort_interface
    return read(side.artifact.main)


def graph_of(side: Side) -> Model | None:
    """The ONNX graph behind a side, if there is one."""
    if isinstance(side, Predictions) or side.artifact.graph.suffix != ".onnx":
        return None
    return load(side.artifact.graph)


@contextmanager
def source_of(side: Side, sides: Sides, metric: Metric | None, notes: list[str]) -> Iterator[Source]:
    """A session, or the predictions in the order of the samples; ``notes`` gets what the user should know.

    Raises:
        DataError: Predictions cannot be matched to the samples.
        RuntimeRefused: The runtime cannot open it.
    """
    if isinstance(side, Subject):
        with side.open() as session:
            yield session
        return
    matched = match(side, sides.names, metric.outputs if metric else None, sides.samples)
    notes += matched.notes
    yield Recorded(matched.outputs)


def _without_inputs(first: Predictions, evaluation: Evaluation) -> Samples:
    """Labels and names for predictions alone; without data the first predictions' own names."""
    if evaluation.data is not None:
        return open_answers(evaluation.data)
    total = first.rows if first.ids is None else len(first.ids)
    return Answers(first.path, total, None, None, first.ids)


def _interface(sides: Sequence[Subject]) -> Interface:
    """Inputs and output names; an ONNX graph knows more of them than an OpenVINO IR.

    Raises:
        InputError: They take different inputs.
    """
    known = [interface_of(side) for side in sides]
    first, *others = [{spec.name: (spec.dtype, len(spec.shape)) for spec in specs} for specs, _ in known]
    for number, wants in enumerate(others, 1):
        if wants != first:
            shown = [", ".join(f"{spec.name} {spec}" for spec in known[at][0]) for at in (0, number)]
            raise InputError(
                f"{sides[0].path} and {sides[number].path} take different inputs: {shown[0]} against {shown[1]}",
                "compare models with the same inputs",
            )
    specs, names = next((found for side, found in zip(sides, known, strict=True) if graph_of(side)), known[0])
    for side in sides:
        if side.artifact.main.suffix == ".xml":  # it may take fewer shapes than the graph that it was made from
            specs = _fixed_as(specs, ir_interface(side.artifact.main)[0])
    return specs, names


def _fixed_as(specs: tuple[InputSpec, ...], others: tuple[InputSpec, ...]) -> tuple[InputSpec, ...]:
    """Inputs with the sizes fixed that are fixed in others of the same names."""
    sizes = {other.name: other.shape for other in others}
    return tuple(
        replace(
            spec,
            shape=tuple(
                dim if size is None else size
                for dim, size in zip(spec.shape, sizes.get(spec.name, spec.shape), strict=True)
            ),
        )
        for spec in specs
    )
