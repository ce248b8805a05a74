"""The verbs as Python functions. The command line is a thin layer over them."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infopt import recipe as recipes
from infopt.flags import Flag, recipe_flags, section_flags, to_recipe_table
from infopt.options import build
from infopt.recipe import SECTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infopt.checks.report import CheckReport
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


def compare(base: AnyPath, candidate: AnyPath, *, listener: Listener | None = None, **options: Any) -> Report:
    """Compare two models or artifacts on the same samples, infopt's own or not.

    Args:
        base: An ONNX file, an OpenVINO IR or an output directory of infopt.
        candidate: Another.
        listener: Hears of the progress.
        **options: The flags of ``infopt compare`` with underscores; ``eval`` is required.

    Returns:
        The report.

    Raises:
        InfoptError: See :mod:`infopt.errors`.
    """
    from infopt.comparing import Comparison, compare_files

    sections = to_recipe_table(compare_flags(), options)
    built: dict[str, Any] = {
        name: build(SECTIONS[name], sections.get(name, {}), f"[{name}]") for name in COMPARE_SECTIONS
    }
    return compare_files(Comparison(Path(base), Path(candidate), **built), listener)


def gate(report: AnyPath, budget: AnyPath) -> Report:
    """Judge a report against a budget file.

    Args:
        report: A ``report.json`` or the output directory that holds it.
        budget: A ``budget.toml``.

    Returns:
        The report with the budget's verdict.

    Raises:
        InputError: One of the files cannot be used.
    """
    from infopt.budget import check_budget, fractional, load_budget
    from infopt.report import read_report
    from infopt.verdict import judged

    limits, found = load_budget(Path(budget)), read_report(Path(report))
    if found.accuracy:
        scores = (found.accuracy.baseline, found.accuracy.candidate)
        check_budget(limits, fractional(scores, found.accuracy.higher_is_better))
    return judged(found, limits)


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
