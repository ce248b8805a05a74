"""Commands that look at models and artifacts: simplify, compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from infopt.cli.common import OUTPUT, finish, show, terminal
from infopt.cli.signature import command
from infopt.verbs import compare_flags

PAIR = {
    "base": Annotated[
        Path, typer.Argument(help="What came before: ONNX, OpenVINO .xml or infopt output.", metavar="BASE")
    ],
    "candidate": Annotated[Path, typer.Argument(help="What came after, likewise.", metavar="CANDIDATE")],
}


@command(PAIR, compare_flags(), OUTPUT)
def compare(**values: Any) -> None:
    """Compare two models or artifacts on the same samples."""
    output = {name: values.pop(name) for name in OUTPUT}
    import infopt

    given = {name: value for name, value in values.items() if value is not None}
    with terminal(**output) as listener:
        report = infopt.compare(listener=listener, **given)
    show(report, output)
    finish(report, bool(report.verdict.budgets))


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


COMMANDS = (simplify, compare, report)
