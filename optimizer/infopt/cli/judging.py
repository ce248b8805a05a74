"""Commands that read what others left: gate, diff."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from infopt.cli.common import OUTPUT, printed_alone, show
from infopt.cli.signature import command
from infopt.diffing.options import DiffOptions
from infopt.files import write_text
from infopt.flags import option_flags
from infopt.gating.options import GateOptions

REPORT = {
    "report": Annotated[Path, typer.Argument(help="A report.json or an infopt output directory.", metavar="REPORT")]
}
DIRECTORIES = {
    "a": Annotated[Path, typer.Argument(help="An output directory of infopt.", metavar="A")],
    "b": Annotated[Path, typer.Argument(help="Another.", metavar="B")],
}


@command(REPORT, option_flags(GateOptions), OUTPUT)
def gate(**values: Any) -> None:
    """Judge a report against a budget, or against that of an earlier commit; exit code 3 when it fails."""
    output = {name: values.pop(name) for name in OUTPUT}
    given = {name: value for name, value in values.items() if value is not None}
    import infopt

    github, alone = given.get("github", False), printed_alone(output["json"], given.get("markdown"))
    judged = infopt.gate(given.pop("report"), **given)
    undecided = given.get("undecided", "warn")
    from infopt.gating.answer import gate_exit_code
    from infopt.views.gate import gate_markdown, workflow_commands

    if alone:
        typer.echo(gate_markdown(judged, undecided), nl=False)
    else:
        show(judged, output)
    if github:  # GitHub reads them on both streams; stdout may be a file of its own
        typer.echo(workflow_commands(judged, undecided), nl=False, err=alone or output["json"])
    raise typer.Exit(gate_exit_code(judged.verdict, undecided))


@command(DIRECTORIES, option_flags(DiffOptions), OUTPUT)
def diff(**values: Any) -> None:
    """Show what two output directories differ in: graph, scales, options, versions, accuracy, latency."""
    file, alone = values["markdown"], printed_alone(values["json"], values["markdown"])
    import infopt

    found = infopt.diff(values["a"], values["b"])
    from infopt.views.diff import diff_markdown, headline, render

    if file is not None and not alone:
        write_text(file, diff_markdown(found), "--markdown", (values["a"], values["b"]))
    if values["json"]:
        typer.echo(found.text(), nl=False)
    elif alone:
        typer.echo(diff_markdown(found), nl=False)
    elif values["quiet"]:
        typer.echo(headline(found))
    else:
        from rich.console import Console

        render(found, Console(), details=values["verbose"])
    raise typer.Exit(3 if values["exit_code"] and not found.same else 0)


COMMANDS = (gate, diff)
