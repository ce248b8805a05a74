"""Opens an output directory for blame: its graph, the float model that it came from, samples, options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from infopt.blaming.graph import quantized_layers
from infopt.errors import DataError, InputError
from infopt.manifest import NAME, Manifest, read_manifest, sha256_file, sha256_files
from infopt.model import Model, load
from infopt.output import recover
from infopt.passes import CalibrationSet, Context, run
from infopt.recipe import Recipe
from infopt.recipe import load as load_recipe
from infopt.resolve import Resolved, resolve
from infopt.selection import apart

if TYPE_CHECKING:
    from infopt.blaming.options import BlameOptions
    from infopt.passes import Pass

RECIPE = "recipe.toml"

REMEDY = "give the directory that infopt quantize wrote"


@dataclass(frozen=True, slots=True)
class Opened:
    """An output directory with what belongs to it.

    Attributes:
        path: The directory.
        manifest: What it says of itself.
        resolved: Its recipe, with everything that it names opened.
        graph: The quantized model.
        samples: What to compare on.
    """

    path: Path
    manifest: Manifest
    resolved: Resolved
    graph: Model
    samples: CalibrationSet

    @property
    def recipe(self) -> Recipe:
        """The recipe that made it."""
        return self.resolved.recipe

    @property
    def quantizer(self) -> int:
        """Position of the quantize pass in the recipe."""
        return next(i for i, step in enumerate(self.recipe.passes) if step.name == "quantize")

    @property
    def step(self) -> Pass:
        """The quantize pass."""
        return self.recipe.passes[self.quantizer]

    def context(self, workdir: Path, samples: CalibrationSet | None = None) -> Context:
        """What passes get that run again."""
        recipe = self.recipe
        return Context(
            workdir,
            self.resolved.target,
            samples or self.samples,
            seed=recipe.job.seed,
            memory=recipe.calibration.memory,
            inputs=self.resolved.inputs if self.resolved.shapes else (),
        )

    def before(self, workdir: Path) -> Model:
        """The float model as it went into quantization: names of layers that were merged are those of the graph."""
        return run(self.resolved.model, self.recipe.passes[: self.quantizer], self.context(workdir))

    def with_options(self, changes: dict[str, object]) -> Recipe:
        """The recipe with other options of its quantize pass."""
        return replace(self.recipe, passes=changed(self.recipe.passes, self.quantizer, changes))


def changed(passes: Sequence[Pass], index: int, changes: dict[str, object]) -> tuple[Pass, ...]:
    """Passes with options of one of them replaced."""
    step = replace(passes[index], **changes)  # type: ignore[type-var]
    return (*passes[:index], step, *passes[index + 1 :])


def open_output(path: Path, options: BlameOptions) -> Opened:
    """Open an output directory of ``infopt quantize``.

    Raises:
        InputError: It is none, is damaged, holds nothing that blame can look at, or what it was made from has changed
            or is gone.
    """
    if not path.is_dir():
        raise InputError(f"{path} is not a directory" if path.exists() else f"{path} does not exist", REMEDY)
    recover(path)
    if not (path / NAME).exists():
        raise InputError(f"{path} is not an output directory of infopt: it has no {NAME}", REMEDY)
    manifest = read_manifest(path)
    if not (path / RECIPE).is_file():
        raise InputError(f"{path} has no {RECIPE}", "quantize again: that writes it")
    recipe = load_recipe(path / RECIPE)
    if not any(step.name == "quantize" for step in recipe.passes):
        raise InputError(f"{path} holds a float model: its recipe has no quantize pass", REMEDY)
    resolved = _resolved(recipe, options)
    _check_same(path, manifest, resolved)
    graph = load(path / manifest.graph)
    _check_quantized(path, graph, recipe)
    assert resolved.calibration is not None
    return Opened(path, manifest, resolved, graph, resolved.calibration)


def _resolved(recipe: Recipe, options: BlameOptions) -> Resolved:
    """The recipe opened, with the samples that blame was given; labels are opened where they are, and not required."""
    if not recipe.job.model.is_file():
        raise InputError(f"{recipe.job.model} is gone: it is the float model", "put it back, or quantize again")
    calib = replace(recipe.calibration, data=options.calib or recipe.calibration.data)
    evaluation = replace(recipe.evaluation, data=options.eval or recipe.evaluation.data)
    if options.eval is not None:
        evaluation = replace(evaluation, skip=False)
    if options.eval is None and evaluation.data is not None and not evaluation.data.exists():
        evaluation = replace(evaluation, data=None, skip=True)
    if calib.data is None and not calib.synthetic:
        # Nothing was calibrated, such as weights alone: any samples show what that does.
        calib = replace(calib, data=evaluation.data)
    if calib.data is None and not calib.synthetic:
        raise DataError("there are no samples to compare the models on", "give --calib PATH")
    if calib.data is not None and not calib.data.exists():
        raise DataError(f"{calib.data} is gone: the calibration samples of the recipe", "give --calib PATH")
    return apart(resolve(replace(recipe, calibration=calib, evaluation=evaluation), calibrated=True))


def _check_same(path: Path, manifest: Manifest, resolved: Resolved) -> None:
    known = manifest.inputs.get("model")
    if known is not None and known != sha256_files(resolved.model.files):
        raise InputError(f"{resolved.model.path} has changed since {path} was made from it", "quantize again")
    graph = path / manifest.graph
    if not graph.is_file():
        raise InputError(f"{graph} is missing", "quantize again")
    digest = manifest.outputs.get(manifest.graph)
    if digest is not None and digest != sha256_file(graph):
        raise InputError(f"{graph} is not what its manifest says: somebody has changed it", "quantize again")


def _check_quantized(path: Path, graph: Model, recipe: Recipe) -> None:
    if quantized_layers(graph.graph.graph):
        return
    marks = graph.quantized_nodes()
    if not marks:
        raise InputError(f"{path} holds a float model: no layer was quantized", "there is nothing to blame")
    precision = next((getattr(step, "precision", None) for step in recipe.passes if step.name == "quantize"), None)
    raise InputError(
        f"blame needs Q/DQ pairs: with {precision or 'this precision'}, ranges are made at run time, in {marks[0]!r}",
        "compare measures such a model as a whole",
    )
