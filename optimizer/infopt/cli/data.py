"""Commands that look at models, artifacts and reports: simplify, predict, compare, report."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infopt.cli.common import OUTPUT, finish, printed_alone, show, terminal
from infopt.cli.signature import command
from infopt.comparing.options import PredictOptions
from infopt.files import check_not_read, write_text
from infopt.flags import option_flags
from infopt.verbs import compare_flags

if TYPE_CHECKING:
    from infopt.comparing.predict import Predicted
    from infopt.comparing.result import Comparison
    from infopt.report import Report

_KINDS = "ONNX, .ort, OpenVINO .xml, infopt output or predictions (.npz)"
SIDES = {
    "base": Annotated[Path, typer.Argument(help=f"What came before: {_KINDS}.", metavar="BASE")],
    "candidates": Annotated[list[Path], typer.Argument(help="What came after, likewise.", metavar="CANDIDATE...")],
}
ARTIFACT = {
    "artifact": Annotated[
        Path, typer.Argument(help="What to run: ONNX, .ort, OpenVINO .xml or infopt output.", metavar="ARTIFACT")
    ]
}
MARKDOWN = Annotated[
    Path | None,
    typer.Option("--markdown", help="Also write it as Markdown for a comment; - prints it instead.", metavar="FILE.md"),
]


@command(SIDES, compare_flags(), {"markdown": MARKDOWN, **OUTPUT})
def compare(**values: Any) -> None:
    """Compare models, artifacts or predictions on the same samples; the exit code is that of the worst verdict."""
    output = {name: values.pop(name) for name in OUTPUT}
    base, candidates, file = (values.pop(name) for name in ("base", "candidates", "markdown"))
    alone = printed_alone(output["json"], file)
    import infopt
    from infopt.report import Report

    given = {name: value for name, value in values.items() if value is not None}
    read = _read([base, *candidates], given)
    if file is not None and not alone:
        check_not_read(file, "--markdown", read)  # before the work
    with terminal(**output) as listener:
        found = infopt.compare(base, *candidates, listener=listener, **given)
    if file is not None and not alone:
        write_text(file, _markdown(found), "--markdown", read)
    _print(_markdown(found) if alone else None, found, output)
    if isinstance(found, Report):
        finish(found, bool(found.verdict.budgets))
    else:
        raise typer.Exit(found.exit_code)


def _read(sides: list[Path], given: dict[str, Any]) -> list[Path]:
    """What a comparison may read: its sides with their weights, samples, files of options."""
    weights = [path for side in sides for path in (side.with_suffix(".bin"), side.with_name(f"{side.name}.data"))]
    return [*sides, *weights, *(Path(value) for value in given.values() if isinstance(value, (str, Path)))]


def _print(markdown: str | None, found: Report | Comparison, options: dict[str, Any]) -> None:
    from infopt.report import Report

    if markdown is not None:
        typer.echo(markdown, nl=False)
    elif isinstance(found, Report):
        show(found, options)
    elif options["json"]:
        typer.echo(found.text(), nl=False)
    else:
        from rich.console import Console

        from infopt.views.comparison import render

        render(found, Console(), details=options["verbose"], quiet=options["quiet"])


def _markdown(found: Report | Comparison) -> str:
    from infopt.report import Report
    from infopt.views.comparison import comparison_markdown
    from infopt.views.markdown import markdown

    return markdown(found) if isinstance(found, Report) else comparison_markdown(found)


@command(ARTIFACT, option_flags(PredictOptions), OUTPUT)
def predict(**values: Any) -> None:
    """Write the outputs of a model or artifact as predictions, to be compared here or on another machine."""
    output = {name: values.pop(name) for name in OUTPUT}
    import infopt

    given = {name: value for name, value in values.items() if value is not None}
    with terminal(**output) as listener:
        done = infopt.predict(listener=listener, **given)
    left = f"; {', '.join(done.left_out)} left out: not one row for each sample" if done.left_out else ""
    said = f"{done.path}: {', '.join(done.outputs)} of {done.samples} samples{left}"
    typer.echo(dumps(_facts(done)) if output["json"] else said)


def _facts(done: Predicted) -> dict[str, Any]:
    return {"path": str(done.path), "samples": done.samples, "outputs": done.outputs, "left_out": done.left_out}


def report(
    report: Annotated[Path, typer.Argument(help="A report.json or an infopt output directory.", metavar="REPORT")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.", metavar="FILE.html|FILE.md")],
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write the report of an earlier run as a page or as Markdown."""
    import infopt

    typer.echo(infopt.render(report, output, force=force))


def simplify(
    model: Annotated[Path, typer.Argument(help="The ONNX model.", metavar="MODEL")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.", metavar="FILE.onnx")],
    verify: Annotated[bool, typer.Option(help="Run both models and compare their outputs.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    fold_limit: Annotated[int | None, typer.Option(help="Largest constant, in bytes, that folding may create.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the samples of the proof.")] = 0,
) -> None:
    """Write a smaller graph that computes the same, with the proof."""
    import infopt
    from infopt.output import terminable

    with terminable():
        done = infopt.simplify(model, output, verify=verify, force=force, fold_limit=fold_limit, seed=seed)
    proof = f"not proven equal: {done.unproven}" if done.unproven else f"largest difference {done.difference:.1e}"
    typer.echo(
        f"{done.path}: {done.nodes[0]} -> {done.nodes[1]} nodes, {done.bytes[0]:,} -> {done.bytes[1]:,} bytes; {proof}"
    )


COMMANDS = (simplify, predict, compare, report)
