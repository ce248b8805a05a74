"""The command drift."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from infopt.cli.common import OUTPUT, say, terminal
from infopt.cli.signature import command
from infopt.drifting.options import DriftOptions
from infopt.flags import option_flags

ARGUMENTS = {
    "profile": Annotated[
        Path, typer.Argument(help="A profile.json, or the infopt output directory that holds it.", metavar="PROFILE")
    ],
    "data": Annotated[
        Path, typer.Argument(help="New data: as --eval takes them, or captured inputs (.npz).", metavar="DATA")
    ],
}


@command(ARGUMENTS, option_flags(DriftOptions), OUTPUT)
def drift(**values: Any) -> None:
    """Say whether data have left what calibration saw; exit code 3 when they have."""
    output = {name: values.pop(name) for name in OUTPUT}
    import infopt

    given = {name: value for name, value in values.items() if value is not None}
    with terminal(**output) as listener:
        report = infopt.drift(listener=listener, **given)
    if output["json"]:
        typer.echo(report.text(), nl=False)
    elif output["quiet"]:
        from infopt.views.drift import headline

        typer.echo(headline(report))
    else:
        from rich.console import Console

        from infopt.views.drift import render

        render(report, Console(), details=output["verbose"])
    if report.recalibrated:
        say(f"\nwritten to {report.recalibrated}", output)
    raise typer.Exit(3 if report.drifted else 0)


COMMANDS = (drift,)
