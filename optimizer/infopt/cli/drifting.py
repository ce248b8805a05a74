"""The command drift."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from infopt.cli.common import OUTPUT, present, say, terminal
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
    present(report, "drift", output)
    if report.recalibrated:
        say(f"\nwritten to {report.recalibrated}", output)
    raise typer.Exit(3 if report.drifted else 0)


COMMANDS = (drift,)
