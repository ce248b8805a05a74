"""Commands that run a recipe: quantize, prune, compile, run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from infopt.cli.common import OUTPUT, finish, say, show, terminal
from infopt.cli.signature import command
from infopt.flags import recipe_flags
from infopt.verbs import PASSES, recipe_of

MODEL = {"model": Annotated[Path, typer.Argument(help="The ONNX model.", metavar="MODEL")]}
RECIPE = {"recipe": Annotated[Path, typer.Argument(help="The recipe.", metavar="RECIPE.toml")]}


@command(MODEL, recipe_flags(PASSES["quantize"]), OUTPUT)
def quantize(**values: Any) -> None:
    """Quantize a model to INT8 for a target, compile it, and report accuracy and latency."""
    _recipe("quantize", "model", values)


@command(MODEL, recipe_flags(PASSES["prune"]), OUTPUT)
def prune(**values: Any) -> None:
    """Remove the channels, heads and neurons that matter least, compile, and report accuracy and latency."""
    _recipe("prune", "model", values)


@command(MODEL, recipe_flags(PASSES["compile"]), OUTPUT)
def compile_(**values: Any) -> None:
    """Compile a model for a target in its fastest float setting."""
    _recipe("compile", "model", values)


@command(RECIPE, recipe_flags(), OUTPUT)
def run(**values: Any) -> None:
    """Run the pipeline that a recipe file declares."""
    _recipe("run", "recipe", values)


COMMANDS = (quantize, prune, compile_, run)


def _recipe(verb: str, subject: str, values: dict[str, Any]) -> None:
    output = {name: values.pop(name) for name in OUTPUT}
    recipe = recipe_of(verb, values.pop(subject), values)
    from infopt.pipeline import execute, output_directory

    with terminal(**output) as listener:
        report = execute(recipe, verb, listener)
    show(report, output)
    say(f"\nwritten to {output_directory(recipe)}", output)
    finish(report, recipe.budget.given)
