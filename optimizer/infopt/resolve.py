"""Turns a recipe into the things it names, and finds out early what cannot work."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from infopt import registry
from infopt.budget import check_budget
from infopt.data import Batch, InputSpec, Samples, infer_batch_axes, open_samples, overlap, parse_batch_axis, subset
from infopt.errors import DataError
from infopt.evaluate import check_labels
from infopt.illustrate import check_illustrations
from infopt.locate import DataFolder, data_folder, preprocess_beside
from infopt.metrics import Metric, load_metric
from infopt.model import Model, input_specs, load
from infopt.options import parsed
from infopt.passes import CalibrationSet, ForTarget
from infopt.preprocess import Preprocess, load_preprocess
from infopt.recipe import Recipe
from infopt.shapes import ShapeRange, complete, narrowed, parse_shape
from infopt.target import ByIsa, Target

if TYPE_CHECKING:
    from infopt.passes import Pass

FEW_SAMPLES = 10
"""Ranges from fewer calibration samples than this are doubted aloud."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A recipe with everything that it names opened and checked.

    Attributes:
        recipe: The recipe, with the data that was found filled in.
        model: The model as it was given.
        inputs: Its inputs with their batch axes, and with the sizes that the user fixed.
        target: The target.
        calibration: The samples that passes may use, where a pass needs them.
        evaluation: The samples that the report is about, if there are any.
        metric: The metric that the user chose; ``None`` leaves the choice to the data.
        shapes: Ranges of dynamic shapes that the user gave.
        warnings: What the user should know.
        remarks: What was used and found, for ``-v``.
        searched: Evaluation samples that were taken out of ``evaluation`` to choose among candidates.
    """

    recipe: Recipe
    model: Model
    inputs: tuple[InputSpec, ...]
    target: Target
    calibration: CalibrationSet | None
    evaluation: Samples | None
    metric: Metric | None
    shapes: tuple[ShapeRange, ...]
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    searched: int = 0

    @property
    def synthetic(self) -> bool:
        """Whether calibration inputs are made up."""
        return made_up(self.recipe)

    def one_batch(self, size: int) -> Batch:
        """A batch to time with: real samples where there are any, else made-up ones."""
        samples = self.evaluation or (self.calibration.samples if self.calibration else None)
        if samples is None:
            from infopt.readers.synthetic import SyntheticSamples

            samples = SyntheticSamples(self.inputs, size, self.recipe.job.seed)
        return next(samples.batches(size))


@dataclass(slots=True)
class _Log:
    """What is said along the way."""

    warnings: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def resolve(recipe: Recipe, calibrated: bool) -> Resolved:
    """Open everything that a recipe names.

    Args:
        recipe: What the user wants.
        calibrated: Whether a pass needs calibration samples.

    Returns:
        The resolved recipe.

    Raises:
        InputError: Something that the recipe names does not exist or does not fit the model.
    """
    target = registry.target(recipe.job.target, recipe.job.isa)
    for step in recipe.passes:
        if isinstance(step, ForTarget):
            step.check_target(target)
    if isinstance(target, ByIsa) and target.isa:
        recipe = replace(recipe, job=replace(recipe.job, isa=target.isa))
    metric = load_metric(recipe.evaluation.metric) if recipe.evaluation.metric else None
    check_budget(recipe.budget, metric is None or metric.fraction)  # those that the data chooses are all fractions
    shapes = tuple(parsed(parse_shape, text, "--shape") for text in recipe.inputs.shape)
    axes = dict(parsed(parse_batch_axis, text, "--batch-axis") for text in recipe.inputs.batch_axis)
    model = load(recipe.job.model)
    inputs = infer_batch_axes(input_specs(model.graph), axes)
    complete(inputs, shapes)
    log = _Log()
    recipe, preprocess = _data(recipe, calibrated, log)
    free, inputs = inputs, narrowed(inputs, shapes)  # what is compiled takes those shapes only
    # Samples that calibrate may have any shape; made-up ones get one that fits.
    calibration = _calibration(recipe, inputs if made_up(recipe) else free, preprocess, log) if calibrated else None
    evaluation = _evaluation(recipe, inputs, preprocess, log)
    if evaluation:
        check_labels(metric, evaluation)
    check_illustrations(recipe.evaluation)
    if calibration and evaluation:
        _overlap(calibration, evaluation, log)
    warnings, remarks = tuple(dict.fromkeys(log.warnings)), tuple(log.remarks)
    return Resolved(recipe, model, inputs, target, calibration, evaluation, metric, shapes, warnings, remarks)


def made_up(recipe: Recipe) -> bool:
    """Whether calibration inputs are made up."""
    return recipe.calibration.synthetic and recipe.calibration.data is None


def needs_calibration(passes: tuple[Pass, ...]) -> bool:
    """Whether any of the passes looks at samples."""
    return any(step.calibrated for step in passes)


def _data(recipe: Recipe, calibrated: bool, log: _Log) -> tuple[Recipe, Preprocess | None]:
    """Fill in the default data folder where the user named no data."""
    calib, evaluation = recipe.calibration, recipe.evaluation
    wants = (calibrated and calib.data is None and not calib.synthetic) or (not evaluation.skip and not evaluation.data)
    found = data_folder(recipe.job.model) if wants else None
    if found:
        recipe = _filled(recipe, found, calibrated)
        log.remarks.append(f"data: {found.path} (default folder)")
    if calibrated and recipe.calibration.data is None and not calib.synthetic:
        raise DataError(
            "there are no calibration samples: no calibration_data/ beside the model or here",
            "give --calib PATH (images or .npz), or --synthetic to calibrate on made-up inputs without accuracy",
        )
    name = recipe.inputs.preprocess or preprocess_beside(recipe.calibration.data, recipe.evaluation.data)
    recipe = replace(recipe, inputs=replace(recipe.inputs, preprocess=name))
    return recipe, load_preprocess(name) if name else None


def _filled(recipe: Recipe, found: DataFolder, calibrated: bool) -> Recipe:
    calib, evaluation = recipe.calibration, recipe.evaluation
    if calibrated and calib.data is None and not calib.synthetic:
        calib = replace(calib, data=found.calib)
    if evaluation.data is None and not evaluation.skip and not calib.synthetic:
        evaluation = replace(evaluation, data=found.eval)
    return replace(recipe, calibration=calib, evaluation=evaluation)


def _calibration(
    recipe: Recipe, inputs: tuple[InputSpec, ...], preprocess: Preprocess | None, log: _Log
) -> CalibrationSet:
    options = recipe.calibration
    if options.data is None:
        from infopt.readers.synthetic import SyntheticSamples

        invented = SyntheticSamples(inputs, min(options.samples, 32), recipe.job.seed)
        return CalibrationSet(invented, tuple(range(len(invented))), inputs)
    samples = _opened(options.data, inputs, preprocess, "calibration", log)
    chosen = subset(samples, options.samples, recipe.job.seed)
    if len(chosen) < FEW_SAMPLES:
        few = "a single sample" if len(chosen) == 1 else f"{len(chosen)} samples"
        log.warnings.append(f"ranges come from {few} only, which is too few to trust them: 100 or more are usual")
    return CalibrationSet(samples, tuple(int(i) for i in chosen), inputs)


def _evaluation(
    recipe: Recipe, inputs: tuple[InputSpec, ...], preprocess: Preprocess | None, log: _Log
) -> Samples | None:
    if recipe.evaluation.skip or recipe.evaluation.data is None:
        return None
    return _opened(recipe.evaluation.data, inputs, preprocess, "evaluation", log)


def _opened(path: Path, inputs: tuple[InputSpec, ...], preprocess: Preprocess | None, role: str, log: _Log) -> Samples:
    samples = open_samples(path, inputs, preprocess)
    if not len(samples):
        raise DataError(f"{path} holds no samples", f"give {role} data with at least one sample")
    log.warnings += samples.notes
    log.remarks.append(f"{role}: {path}, {len(samples)} samples; {samples.describe()}")
    return samples


def _overlap(calibration: CalibrationSet, evaluation: Samples, log: _Log) -> None:
    shared = overlap(calibration.samples, evaluation)
    if shared:
        log.warnings.append(
            f"{shared} of {len(evaluation)} evaluation samples are calibration samples too: accuracy may look too good"
        )
