"""The verbs as Python functions. The command line is a thin layer over them."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infopt import recipe as recipes
from infopt.errors import OptionError
from infopt.flags import Flag, option_flags, recipe_flags, section_flags, to_recipe_table
from infopt.options import build
from infopt.recipe import SECTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infopt.blaming.report import BlameReport
    from infopt.checks.report import CheckReport
    from infopt.comparing.predict import Predicted
    from infopt.comparing.result import Comparison
    from infopt.diffing.records import Diff
    from infopt.drifting.report import DriftReport
    from infopt.recipe import Recipe
    from infopt.report import Report
    from infopt.ui import Listener

AnyPath = str | PathLike[str]

PASSES = {"quantize": ("simplify", "quantize"), "compile": ("simplify",), "prune": ("simplify", "prune")}
"""The passes of the verbs that are recipes."""

COMPARE_SECTIONS = ("evaluation", "inputs", "budget")
"""The sections of a recipe whose options ``compare`` takes."""


def compare_flags() -> dict[str, Flag]:
    """The flags of ``compare``: it has no ranges of shapes to compile for, and nothing left without an evaluation."""
    return {name: flag for name, flag in section_flags(COMPARE_SECTIONS).items() if name not in ("no_eval", "shape")}


def quantize(model: AnyPath, *, listener: Listener | None = None, **options: Any) -> Report:
    """Quantize a model to INT8 for a target, compile it, and measure what became of accuracy and latency.

    Args:
        model: The ONNX file.
        listener: Hears of the progress.
        **options: The flags of ``infopt quantize`` with underscores: ``target``, ``calib``, ``eval``, ``metric``,
            ``output``, ``max_drop`` and so on.

    Returns:
        The report, which is also in the output directory.

    Raises:
        InfoptError: See :mod:`infopt.errors`.
    """
    return _execute("quantize", model, options, listener)


def compile(model: AnyPath, *, listener: Listener | None = None, **options: Any) -> Report:
    """Simplify a model and compile it for a target in the float setting that is fastest there.

    Args:
        model: The ONNX file.
        listener: Hears of the progress.
        **options: The flags of ``infopt compile`` with underscores.

    Returns:
        The report, which is also in the output directory.

    Raises:
        InfoptError: See :mod:`infopt.errors`.
    """
    return _execute("compile", model, options, listener)


def prune(model: AnyPath, *, listener: Listener | None = None, **options: Any) -> Report:
    """Remove what matters least from a model, compile it, and measure what became of accuracy and latency.

    Args:
        model: The ONNX file.
        listener: Hears of the progress.
        **options: The flags of ``infopt prune`` with underscores: ``target``, ``flops``, ``params``, ``recover`` ...

    Returns:
        The report, which is also in the output directory.

    Raises:
        InfoptError: See :mod:`infopt.errors`.
    """
    return _execute("prune", model, options, listener)


def run(recipe: AnyPath, *, listener: Listener | None = None, **options: Any) -> Report:
    """Run a recipe file.

    Args:
        recipe: The TOML file.
        listener: Hears of the progress.
        **options: The flags of ``infopt run`` with underscores; they win over the file.

    Returns:
        The report, which is also in the output directory.

    Raises:
        InfoptError: See :mod:`infopt.errors`.
    """
    return _execute("run", recipe, options, listener)


def simplify(model: AnyPath, output: AnyPath, **options: Any) -> Any:
    """Simplify a model and prove that it still computes the same.

    Args:
        model: The ONNX file.
        output: The ONNX file to write.
        **options: ``verify`` (default true), ``force`` (replace an existing file), ``fold_limit`` and ``seed``.

    Returns:
        What changed, see :class:`infopt.simplifying.Simplified`.

    Raises:
        InfoptError: See :mod:`infopt.errors`.
    """
    from infopt.simplifying import simplify_file

    return simplify_file(Path(model), Path(output), **options)


def check(model: AnyPath, *, listener: Listener | None = None, **options: Any) -> CheckReport:
    """Say whether a model will parse, build, fuse and be right on its targets.

    Args:
        model: The ONNX file, float or quantized by any tool.
        listener: Hears of the progress.
        **options: The flags of ``infopt check`` with underscores: ``target`` (a name or several; all by default),
            ``shape``, ``no_build``, ``fix`` with ``output``, ``force``, ``sarif``.

    Returns:
        What was found; its ``errors`` is 0 when the model is fit for its targets.

    Raises:
        InfoptError: See :mod:`infopt.errors`.
    """
    from infopt.checks.options import CheckOptions
    from infopt.checks.run import check_file

    names = options.get("target") or ()
    given = {**options, "target": [names] if isinstance(names, str) else list(names)}
    return check_file(Path(model), build(CheckOptions, given, "infopt check"), listener)


def blame(directory: AnyPath, *, listener: Listener | None = None, **options: Any) -> BlameReport:
    """Say which layers of a quantized model make its error, why, and what helps.

    Args:
        directory: An output directory of ``infopt quantize``; nothing is written to it.
        listener: Hears of the progress.
        **options: The flags of ``infopt blame`` with underscores: ``calib``, ``eval``, ``samples``, ``time_limit``,
            ``no_bench``, ``apply`` with ``output``, ``force``, ``markdown``.

    Returns:
        The layers with their errors, causes and remedies.

    Raises:
        InfoptError: See :mod:`infopt.errors`.
    """
    from infopt.blaming.options import BlameOptions
    from infopt.blaming.run import blame_directory

    given = {name: Path(value) if isinstance(value, PathLike) else value for name, value in options.items()}
    return blame_directory(Path(directory), build(BlameOptions, given, "infopt blame"), listener)


def compare(
    base: AnyPath, *candidates: AnyPath, listener: Listener | None = None, **options: Any
) -> Report | Comparison:
    """Compare models, artifacts or predictions on the same samples, infopt's own or not.

    Args:
        base: An ONNX file, an ORT file, an OpenVINO IR, an output directory of infopt, or predictions (``.npz``) that
            :func:`predict` or anything else made.
        *candidates: One or more others.
        listener: Hears of the progress.
        **options: The flags of ``infopt compare`` with underscores; ``eval`` is required unless all are predictions.

    Returns:
        The report for one candidate, else all of them as a :class:`infopt.comparing.result.Comparison`.

    Raises:
        InfoptError: See :mod:`infopt.errors`.
    """
    from infopt.comparing.run import Request, compare_files

    if not candidates:
        raise OptionError("there is nothing to compare with the base", "give one candidate or more")
    sections = to_recipe_table(compare_flags(), options)
    built: dict[str, Any] = {
        name: build(SECTIONS[name], sections.get(name, {}), f"[{name}]") for name in COMPARE_SECTIONS
    }
    return compare_files(Request(Path(base), tuple(map(Path, candidates)), **built), listener)


def drift(profile: AnyPath, data: AnyPath, *, listener: Listener | None = None, **options: Any) -> DriftReport:
    """Say whether data have left what calibration saw.

    Args:
        profile: A ``profile.json`` or the output directory that holds one.
        data: New data: what ``eval`` takes, or captured inputs.
        listener: Hears of the progress.
        **options: The flags of ``infopt drift`` with underscores: ``model``, ``psi``, ``false_alarms``,
            ``prometheus``, ``recalibrate`` with ``output``, and so on.

    Returns:
        What was compared and the verdict; its ``drifted`` is true when the answer is drift.

    Raises:
        InfoptError: See :mod:`infopt.errors`.
    """
    from infopt.drifting.check import check_drift
    from infopt.drifting.options import DriftOptions

    return check_drift(Path(profile), Path(data), build(DriftOptions, options, "infopt drift"), listener)


def predict(artifact: AnyPath, *, listener: Listener | None = None, **options: Any) -> Predicted:
    """Run a model or artifact over samples, and keep its outputs in a file that :func:`compare` takes.

    Args:
        artifact: An ONNX file, an ORT file, an OpenVINO IR or an output directory of infopt.
        listener: Hears of the progress.
        **options: The flags of ``infopt predict`` with underscores; ``eval`` and ``output`` are required.

    Returns:
        What was written.

    Raises:
        InfoptError: See :mod:`infopt.errors`.
    """
    from infopt.comparing.options import PredictOptions
    from infopt.comparing.predict import predict_file

    table = to_recipe_table(option_flags(PredictOptions), options)
    return predict_file(Path(artifact), build(PredictOptions, table, "infopt predict"), listener)


def gate(report: AnyPath, budget: AnyPath | None = None, **options: Any) -> Report:
    """Judge a report against a budget file, and against the report of an earlier commit.

    Args:
        report: A ``report.json`` or the output directory that holds it.
        budget: A ``budget.toml``; needed unless there is a ``baseline``.
        **options: The flags of ``infopt gate`` with underscores: ``baseline``, ``tolerance``, ``undecided``, and the
            files to write, ``markdown`` and ``junit``.

    Returns:
        The report with the gate's verdict.

    Raises:
        InputError: One of the files cannot be used.
    """
    from infopt.gating.options import GateOptions
    from infopt.gating.run import gate_file

    given = {**options, "budget": None if budget is None else Path(budget)}
    return gate_file(Path(report), build(GateOptions, given, "infopt gate"))


def diff(a: AnyPath, b: AnyPath) -> Diff:
    """Say what two output directories of infopt differ in.

    Args:
        a: The first directory.
        b: The second one.

    Returns:
        Graph, scales, options, inputs, versions, and what was measured; its ``same`` is true when only measurements
        and the machine differ.

    Raises:
        InputError: One is no output directory of infopt, or it is damaged.
    """
    from infopt.diffing.run import diff_directories

    return diff_directories(Path(a), Path(b))


def render(report: AnyPath, output: AnyPath, *, force: bool = False) -> Path:
    """Write a report as a page or as Markdown; reports of earlier versions of infopt are as good.

    Args:
        report: A ``report.json`` or the output directory that holds it.
        output: The file to write, ``.html`` or ``.md``.
        force: Replace an existing file.

    Returns:
        The file that was written.

    Raises:
        InputError: The report cannot be read, or the file not written.
    """
    from infopt.rendering import render_file

    return render_file(Path(report), Path(output), force)


def recipe_of(verb: str, subject: AnyPath, options: Mapping[str, Any]) -> Recipe:
    """The recipe that a verb runs.

    Args:
        verb: ``"quantize"``, ``"prune"``, ``"compile"`` or ``"run"``.
        subject: The model; for ``"run"`` the recipe file.
        options: The verb's flags by name; ``None`` means not given.

    Raises:
        InputError: A name, value or file that does not fit.
    """
    if verb == "run":
        return recipes.load(Path(subject), to_recipe_table(recipe_flags(), options))
    table = to_recipe_table(recipe_flags(PASSES[verb]), options, PASSES[verb])
    return recipes.parse({"model": str(subject), **table}, f"infopt {verb}")


def _execute(verb: str, subject: AnyPath, options: dict[str, Any], listener: Listener | None) -> Report:
    from infopt.pipeline import execute

    return execute(recipe_of(verb, subject, options), verb, listener)
