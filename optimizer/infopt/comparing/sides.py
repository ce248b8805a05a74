"""What is compared, opened: things that run and predictions, and the samples for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from infopt.data import InputSpec, Samples, infer_batch_axes, open_samples, parse_batch_axis
from infopt.errors import DataError, InputError
from infopt.evaluate import Recorded, Source
from infopt.locate import preprocess_beside
from infopt.metrics import Metric
from infopt.model import Model, input_specs, load
from infopt.opened import Subject, subject
from infopt.options import parsed
from infopt.predictions import SUFFIX, Predictions, check_same_inputs, match, read_predictions
from infopt.preprocess import load_preprocess
from infopt.readers.answers import Answers, open_answers
from infopt.recipe import Evaluation, Inputs
from infopt.targets.openvino import ir_interface
from infopt.targets.ort_interface import ort_interface


@dataclass(frozen=True, slots=True)
class Recording:
    """Predictions, matched to the samples.

    Attributes:
        path: Their file.
        outputs: One for each output of the model, in the order of the samples; empty where missing.
        notes: What the user should know of them.
    """

    path: Path
    outputs: tuple[np.ndarray, ...] = field(repr=False)
    notes: tuple[str, ...] = ()


Side = Subject | Recording
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


def open_sides(
    base: Path, candidates: Sequence[Path], evaluation: Evaluation, inputs: Inputs, metric: Metric | None
) -> Sides:
    """Open what is compared, and the samples; predictions that do not fit are refused before anything runs.

    Raises:
        InputError: Something cannot be used, or the models take different inputs.
    """
    opened = [_opened(path) for path in (base, *candidates)]
    check_same_inputs([side for side in opened if isinstance(side, Predictions)])
    running = [side for side in opened if isinstance(side, Subject)]
    specs: tuple[InputSpec, ...] = ()
    if isinstance(opened[0], Predictions) and not running:
        names, samples = opened[0].names, _without_inputs(opened[0], evaluation)
    else:
        specs, names = _interface(running)
        specs = with_batch_axes(specs, inputs)
        samples = open_data(evaluation, inputs, specs)
    wanted = metric.outputs if metric else None
    first, *others = (side if isinstance(side, Subject) else _matched(side, names, wanted, samples) for side in opened)
    return Sides(first, tuple(others), specs, names, samples)


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
    if isinstance(side, Recording) or side.artifact.graph.suffix != ".onnx":
        return None
    return load(side.artifact.graph)


@contextmanager
def source_of(side: Side) -> Iterator[Source]:
    """A session, or the outputs that were recorded.

    Raises:
        RuntimeRefused: The runtime cannot open it.
    """
    if isinstance(side, Recording):
        yield Recorded(side.outputs)
    else:
        with side.open() as session:
            yield session


def _opened(path: Path) -> Subject | Predictions:
    return read_predictions(path) if path.suffix == SUFFIX and not path.is_dir() else subject(path)


def _matched(found: Predictions, names: Sequence[str], wanted: tuple[int, ...] | None, samples: Samples) -> Recording:
    matched = match(found, names, wanted, samples)
    return Recording(found.path, matched.outputs, matched.notes)


def _without_inputs(first: Predictions, evaluation: Evaluation) -> Samples:
    """Labels and names for predictions alone; without data the base's own names."""
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
